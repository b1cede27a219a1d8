//! `egret schema`: the grammar of a policy as JSON Schema (draft 7, which editors read), for completion, help and
//! red lines while a policy is written. It is wider than the loader: references, meanings and promises are for
//! `egret check`.

use serde_json::{Map, Value, json};

use crate::decide::parts::shape::{self, POLICY, Record, Shape};

/// The schema.
pub fn schema() -> Value {
    let mut schema = record(&POLICY);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("egret policy"));
    schema.into()
}

fn record(record: &Record) -> Map<String, Value> {
    let properties: Map<String, Value> = record
        .members
        .iter()
        .map(|member| {
            let mut value = shape(member.shape);
            if let Value::Object(members) = &mut value {
                members.insert("description".to_owned(), json!(member.about));
            }
            (member.key.to_owned(), value)
        })
        .collect();
    let (one, several): (Vec<&[&str]>, Vec<&[&str]>) =
        record.required.iter().copied().partition(|group| group.len() == 1);
    let mut schema = Map::new();
    let mut say = |key: &str, value: Value| _ = schema.insert(key.to_owned(), value);
    say("type", json!("object"));
    say("description", json!(record.about));
    say("additionalProperties", json!(false));
    say("properties", json!(properties));
    if !one.is_empty() {
        say("required", json!(one.concat()));
    }
    if !several.is_empty() {
        let groups = several.iter().map(|group| {
            let word = if group.len() == 2 { "oneOf" } else { "anyOf" };
            json!({ word: group.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() })
        });
        say("allOf", groups.collect());
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Text => json!({ "type": ["string", "number"] }),
        Shape::Number => json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^\\+?[0-9]+$" }),
        Shape::Size => {
            json!({ "type": ["integer", "string"], "minimum": 1, "pattern": shape::size() })
        }
        // A number in quotes is a text, and the loader takes both.
        Shape::Version => json!({ "enum": [1, "1"] }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Form(form) => json!({ "type": "string", "pattern": form() }),
        Shape::FormOrNumber(form) => json!({ "type": ["string", "number"], "minimum": 0, "pattern": form() }),
        Shape::List(item) => json!({ "type": "array", "minItems": 1, "items": shape(item) }),
        Shape::Map(key, value) => map(&key(), &shape(value)).into(),
        Shape::Filled(key, value) => {
            let mut schema = map(&key(), &shape(value));
            schema.insert("minProperties".to_owned(), json!(1));
            schema.into()
        }
        Shape::Grants => {
            let mut schema = map(&shape::name(), &shape(&Shape::FormOrNumber(shape::name)));
            let disabled = json!({ "type": "boolean", "description": "`true` switches the agent off." });
            schema.insert("properties".to_owned(), json!({ "disabled": disabled }));
            schema.into()
        }
        Shape::Record(inner) => record(inner).into(),
        Shape::OneOf(inner) => {
            let mut schema = record(inner);
            schema.insert("minProperties".to_owned(), json!(1));
            schema.insert("maxProperties".to_owned(), json!(1));
            schema.into()
        }
        Shape::Anything => json!({}),
        Shape::Any(all) => json!({ "anyOf": all.iter().map(|one| shape(one)).collect::<Vec<_>>() }),
    }
}

/// A mapping with free keys.
fn map(keys: &str, values: &Value) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("propertyNames".to_owned(), json!({ "pattern": keys }));
    schema.insert("additionalProperties".to_owned(), values.clone());
    schema
}
