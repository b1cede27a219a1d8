//! `egret schema`: the grammar of a policy as JSON Schema (draft 7, which editors read), for completion, help and
//! red lines while a policy is written. It is wider than the loader: references, meanings and promises are for
//! `egret check`.

use serde_json::{Map, Value, json};

use super::shape::{POLICY, Record, Shape};

/// The schema.
pub fn schema() -> Value {
    let mut schema = record(&POLICY);
    add(&mut schema, "$schema", json!("http://json-schema.org/draft-07/schema#"));
    add(&mut schema, "title", json!("egret policy"));
    schema
}

fn add(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(members) = schema {
        members.insert(key.to_owned(), value);
    }
}

fn record(record: &Record) -> Value {
    let properties: Map<String, Value> = record
        .members
        .iter()
        .map(|member| {
            let mut value = shape(member.shape);
            add(&mut value, "description", json!(member.about));
            (member.key.to_owned(), value)
        })
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": record.about,
        "additionalProperties": false,
        "properties": properties,
    });
    let (one, several): (Vec<&[&str]>, Vec<&[&str]>) =
        record.required.iter().copied().partition(|group| group.len() == 1);
    if !one.is_empty() {
        add(&mut schema, "required", json!(one.concat()));
    }
    if !several.is_empty() {
        let groups = several.iter().map(|group| {
            json!({ "anyOf": group.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() })
        });
        add(&mut schema, "allOf", groups.collect());
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Text => json!({ "type": ["string", "number"] }),
        Shape::Number => json!({ "type": "integer", "minimum": 0 }),
        Shape::Version => json!({ "const": 1 }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Form(form) => json!({ "type": ["string", "number"], "pattern": form() }),
        Shape::List(item) => json!({ "type": "array", "minItems": 1, "items": shape(item) }),
        Shape::Map(key, value) => json!({
            "type": "object",
            "propertyNames": { "pattern": key() },
            "additionalProperties": shape(value),
        }),
        Shape::Record(fields) => record(fields),
        Shape::OneOf(fields) => {
            let mut schema = record(fields);
            add(&mut schema, "minProperties", json!(1));
            add(&mut schema, "maxProperties", json!(1));
            schema
        }
        Shape::Any(several) => json!({ "anyOf": several.iter().map(|one| shape(one)).collect::<Vec<_>>() }),
    }
}
