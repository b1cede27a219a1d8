//! JSON that means one thing: no member twice at any depth, no depth without bound.
//!
//! `serde_json` lets the last of two members win when it reads into a map, so two readers of one text could see
//! two tenants, or two tools (RFC 8259 §4 and RFC 7519 §4 leave the choice to us: refuse).

use std::{cell::Cell, collections::HashSet, fmt};

use http::{HeaderMap, header};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What the values of one text may cost, where one that is no object costs 1. A small object takes as much memory as
/// many numbers.
const BUDGET: usize = 200_000;
/// What an object costs.
const OBJECT: usize = 16;

/// Reads a value with at most `depth` levels of objects and arrays. None where it is no JSON, has two meanings, or
/// would take a multiple of its size in memory; there is no error to print, `serde_json` would repeat what it read.
pub fn value(bytes: &[u8], depth: usize) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth, budget: &Cell::new(BUDGET) }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Whether a text is JSON with one meaning, with at most `depth` levels. Takes memory for one path through it only.
pub fn is_plain(bytes: &[u8], depth: usize) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Plain { depth }.deserialize(&mut reader).is_ok() && reader.end().is_ok()
}

/// Reads an object, as [`value`].
pub fn object(bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    match value(bytes, depth)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Whether an object has a member that a reader without regard for case takes for one of `names`, though it is
/// spelled differently: Go's `encoding/json` is such a reader, and would see another message than we do.
pub fn has_double(members: &Map<String, Value>, names: &[&str]) -> bool {
    let other = |key: &String| {
        let folded = folded(key);
        names.iter().any(|name| key != name && self::folded(name) == folded)
    };
    members.keys().any(other)
}

/// A name as the most lenient reader takes it. Go folds by Unicode: `K` (the Kelvin sign) is `k`, `ſ` is `s`; and to C a
/// name ends at its first zero.
pub fn folded(name: &str) -> String {
    let name = name.trim().to_lowercase().replace('ſ', "s");
    name.chars().filter(|c| !c.is_control()).collect()
}

/// Whether a message's body is declared as JSON, once, in UTF-8 (RFC 8259 §8.1).
pub fn is_declared(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
                charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            // `charset*=…` (RFC 8187) and other ways to say it.
            Some((name, _)) => !name.trim().to_ascii_lowercase().starts_with("charset"),
            None => true,
        })
}

/// Reads a value with at most `depth` levels below it.
#[derive(Clone, Copy)]
struct Strict<'b> {
    depth: usize,
    budget: &'b Cell<usize>,
}

impl Strict<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }

    fn pay<E: Error>(self, cost: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(cost).ok_or_else(|| E::custom("too many values"))?;
        self.budget.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            self.pay(1)?;
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        self.pay(OBJECT)?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.pay(1)?;
            let value = members.next_value_seed(below)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// Reads a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Plain {
    depth: usize,
}

impl Plain {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique members")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let below = self.deeper()?;
        while items.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let below = self.deeper()?;
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member occurs twice"));
            }
            members.next_value_seed(below)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEPEST: usize = 16;

    fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
        super::object(bytes, DEEPEST)
    }

    #[test]
    fn a_spelling_that_another_reader_takes_for_a_member_is_noticed() {
        for (text, double) in [
            (r#"{"method":"a","Method":"b"}"#, true),
            (r#"{"METHOD":"b"}"#, true),
            (r#"{"paramſ":{}}"#, true),
            (r#"{"method\u0000":"b"}"#, true),
            (r#"{"method ":"b"}"#, true),
            (r#"{"method":"a","methods":1}"#, false),
        ] {
            let members = object(text.as_bytes()).unwrap();
            assert_eq!(has_double(&members, &["method", "params"]), double, "{text}");
        }
    }

    #[test]
    fn a_member_occurs_once_at_every_depth() {
        for twice in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"act":{"sub":"a","sub":"a"}}"#,
            r#"{"l":[{"x":1,"x":1}]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert!(object(twice.as_bytes()).is_none(), "{twice}");
        }
        assert!(object(br#"{"sub":"a","act":{"sub":"a"}}"#).is_some());
    }

    #[test]
    fn a_text_that_swells_in_memory_is_not_read() {
        let objects = |count: usize| format!("{{\"a\":[{}0]}}", "{\"a\":1},".repeat(count));
        assert!(object(objects(10_000).as_bytes()).is_some());
        assert!(object(objects(15_000).as_bytes()).is_none());
        assert!(is_plain(objects(15_000).as_bytes(), 16));
        for bad in ["{\"a\":1,\"a\":1}", "{} {}", "[", "[[[1]]]", "\u{feff}{}"] {
            assert!(!is_plain(bad.as_bytes(), 2), "{bad}");
        }
    }

    #[test]
    fn only_one_whole_shallow_object_is_read() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in ["", "null", "[]", "\"x\"", "{} {}", "{", "{\"a\":1e999}", deep.as_str()] {
            assert!(object(bad.as_bytes()).is_none(), "{bad:.40}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
        let edge = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(edge(DEEPEST - 1).as_bytes()).is_some());
        assert!(object(edge(DEEPEST).as_bytes()).is_none());
    }
}
