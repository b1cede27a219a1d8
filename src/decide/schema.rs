//! `egret schema`: the grammar of a policy as JSON Schema (draft 7, which editors read), for completion, help and
//! red lines while a policy is written. It is wider than the loader: references, meanings and promises are for
//! `egret check`.

use serde_json::{Map, Value, json};

use super::shape::{POLICY, Record, Shape};

/// The schema.
pub fn schema() -> Value {
    let mut schema = record(&POLICY);
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        members.insert("title".to_owned(), json!("egret policy"));
    }
    schema
}

fn record(record: &Record) -> Value {
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
    let mut schema = json!({
        "type": "object",
        "description": record.about,
        "additionalProperties": false,
        "properties": properties,
    });
    let (one, several): (Vec<&[&str]>, Vec<&[&str]>) =
        record.required.iter().copied().partition(|group| group.len() == 1);
    if !one.is_empty() {
        schema["required"] = json!(one.concat());
    }
    if !several.is_empty() {
        let groups = several.iter().map(|group| {
            json!({ "anyOf": group.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() })
        });
        schema["allOf"] = groups.collect();
    }
    schema
}

fn shape(shape_: &Shape) -> Value {
    match shape_ {
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
        Shape::Record(of) => record(of),
        Shape::OneOf(of) => {
            let mut schema = record(of);
            schema["minProperties"] = json!(1);
            schema["maxProperties"] = json!(1);
            schema
        }
        Shape::Any(shapes) => json!({ "anyOf": shapes.iter().map(|s| shape(s)).collect::<Vec<_>>() }),
    }
}
