//! Comparisons that give no answer where two types meet: a server may take the one for the other.
#![expect(clippy::needless_pass_by_value, reason = "CEL hands values over")]

use cel::{ExecutionError, Value, objects::Key};

pub(super) fn equals(one: Value, other: Value) -> Result<bool, ExecutionError> {
    same(&one, &other).ok_or_else(|| untold("=="))
}

pub(super) fn differs(one: Value, other: Value) -> Result<bool, ExecutionError> {
    same(&one, &other).map(|same| !same).ok_or_else(|| untold("!="))
}

pub(super) fn contains(item: Value, container: Value) -> Result<bool, ExecutionError> {
    let found = match &container {
        Value::List(items) => any(items.iter().map(|own| same(own, &item))),
        Value::Map(members) => match &item {
            Value::String(name) => {
                let named = |key: &Key| matches!(key, Key::String(key) if key == name);
                Some(members.map.keys().any(named))
            }
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(|| untold("in"))
}

/// What a macro goes over: a list, not the members of a mapping that stands where a list was meant.
pub(super) fn items(value: Value) -> Result<Value, ExecutionError> {
    if matches!(value, Value::List(_)) { Ok(value) } else { Err(untold("items")) }
}

pub(super) fn members(value: Value) -> Result<Value, ExecutionError> {
    if matches!(value, Value::Map(_)) { Ok(value) } else { Err(untold("members")) }
}

fn untold(what: &str) -> ExecutionError {
    ExecutionError::function_error(what, "two types")
}

/// Whether two values are the same, where they are of one type. All numbers are.
fn same(one: &Value, other: &Value) -> Option<bool> {
    use Value::{Bool, Bytes, Float, Int, List, Map, Null, String, UInt};
    match (one, other) {
        (Int(_) | UInt(_) | Float(_), Int(_) | UInt(_) | Float(_))
        | (String(_), String(_))
        | (Bytes(_), Bytes(_))
        | (Bool(_), Bool(_))
        | (Null, Null) => Some(one == other),
        (List(own), List(theirs)) if own.len() != theirs.len() => Some(false),
        (List(own), List(theirs)) => all(own.iter().zip(theirs.iter()).map(|(own, their)| same(own, their))),
        (Map(own), Map(theirs)) if own.map.len() != theirs.map.len() => Some(false),
        (Map(own), Map(theirs)) => all(own.map.iter().map(|(key, own)| match theirs.map.get(key) {
            Some(their) => same(own, their),
            None => Some(false),
        })),
        _ => None,
    }
}

/// False where one is false, untold where one is untold.
fn all(mut answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let told = answers.try_fold(Some(true), |all, answer| match answer {
        Some(false) => Err(()),
        answer => Ok(all.and(answer)),
    });
    told.unwrap_or(Some(false))
}

/// True where one is true, untold where one is untold.
fn any(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(answers.map(|answer| answer.map(|answer| !answer))).map(|none| !none)
}
