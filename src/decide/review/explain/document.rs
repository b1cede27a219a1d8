//! A policy as one JSON document, and changes to it (JSON Patch, RFC 6902).

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::decide::{
    files::{
        outline::{Outline, items},
        source::{Mark, Span},
        yaml::{self, Node},
    },
    policy::Policy,
};

/// One change of a policy, as an operation of JSON Patch (RFC 6902) on its files taken together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// What is done.
    pub op: Op,
    /// Where (RFC 6901): `/tenants/acme/agents/bot/github`.
    pub path: String,
    /// What is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The nearest place that is in the files already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
}

/// An operation of JSON Patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Sets a key, or puts something at the end of a list (`-`).
    Add,
    /// Takes something away.
    Remove,
}

/// The services, guards, tenants and tests of a policy.
pub(super) struct Document(Value);

impl Document {
    pub(super) fn of(outline: &Outline) -> Self {
        let merged = |key: &str| -> Value {
            let all = outline.all(key).map(of_node);
            let entries = all.filter_map(|value| match value {
                Value::Object(entries) => Some(entries),
                _ => None,
            });
            entries.flatten().collect::<Map<_, _>>().into()
        };
        let listed = |key: &str| -> Vec<Value> { outline.all(key).flat_map(items).map(of_node).collect() };
        let mut document =
            json!({ "version": "1", "services": merged("services"), "tenants": merged("tenants") });
        for key in ["guards", "tests"] {
            let list = listed(key);
            if let Some(entries) = document.as_object_mut().filter(|_| !list.is_empty()) {
                entries.insert(key.to_owned(), list.into());
            }
        }
        Self(document)
    }

    pub(super) fn has(&self, keys: &[&str]) -> bool {
        self.0.pointer(&pointer(keys)).is_some()
    }

    /// Sets what stands behind the keys, with the mappings around it that are missing.
    pub(super) fn set(&mut self, keys: &[&str], value: Value) -> Edit {
        let known = (1..keys.len()).rev().find(|end| self.has(keys.get(..*end).unwrap_or_default()));
        let (outer, missing) = keys.split_at(known.map_or(0, |end| end + 1).min(keys.len()));
        let value = missing.iter().rev().fold(value, |value, key| {
            if *key == "-" {
                json!([value])
            } else {
                Value::Object(Map::from_iter([((*key).to_owned(), value)]))
            }
        });
        let edit = Edit { op: Op::Add, path: pointer(outer), value: Some(value.clone()), at: None };
        if let Some((last, around)) = outer.split_last() {
            match self.0.pointer_mut(&pointer(around)) {
                Some(Value::Object(entries)) => _ = entries.insert((*last).to_owned(), value),
                Some(Value::Array(items)) => items.push(value),
                _ => {}
            }
        }
        edit
    }

    pub(super) fn remove(&mut self, keys: &[&str]) -> Edit {
        if let Some((last, around)) = keys.split_last() {
            match self.0.pointer_mut(&pointer(around)) {
                Some(Value::Object(entries)) => _ = entries.remove(*last),
                Some(Value::Array(items)) => {
                    if let Some(index) = last.parse().ok().filter(|index: &usize| *index < items.len()) {
                        items.remove(index);
                    }
                }
                _ => {}
            }
        }
        Edit { op: Op::Remove, path: pointer(keys), value: None, at: None }
    }

    /// The policy that it is, without its promises.
    pub(super) fn compile(&mut self) -> Option<Policy> {
        let tests = self.0.as_object_mut().and_then(|entries| entries.remove("tests"));
        self.drop_empty_guards();
        let policy = Policy::from_text("(changed)", &self.0.to_string()).ok();
        if let (Some(tests), Some(entries)) = (tests, self.0.as_object_mut()) {
            entries.insert("tests".to_owned(), tests);
        }
        policy
    }

    /// Whether it loads, promises and all.
    pub(super) fn keeps_its_promises(&self) -> bool {
        Policy::from_text("(changed)", &self.0.to_string()).is_ok()
    }

    fn drop_empty_guards(&mut self) {
        if let Some(entries) = self.0.as_object_mut()
            && entries.get("guards").and_then(Value::as_array).is_some_and(Vec::is_empty)
        {
            entries.remove("guards");
        }
    }
}

/// Keys as a pointer (RFC 6901 §3).
pub(super) fn pointer(keys: &[&str]) -> String {
    keys.iter().flat_map(|key| ["/".to_owned(), key.replace('~', "~0").replace('/', "~1")]).collect()
}

/// The nearest place to the keys that is in the files.
pub(super) fn place(outline: &Outline, keys: &[&str]) -> Option<Span> {
    if let ["guards", index, ..] = keys {
        let index: usize = index.parse().ok()?;
        return outline.all("guards").flat_map(items).nth(index).map(|guard| guard.span);
    }
    let nearest = |end: usize| outline.key(keys.get(..end)?);
    (3..=keys.len()).rev().find_map(nearest).or_else(|| outline.find(keys.get(..2)?).map(|node| node.span))
}

pub(super) fn of_node(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Null => Value::Null,
        yaml::Value::Bool(value) => (*value).into(),
        yaml::Value::Text(text) => text.as_str().into(),
        yaml::Value::List(items) => items.iter().map(of_node).collect(),
        yaml::Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.text.clone(), of_node(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}
