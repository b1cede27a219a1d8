//! The Model Context Protocol, as far as a policy can see it: what a JSON-RPC message asks for, which answers hold
//! lists, and the form in which a client wants to hear a "no".
//!
//! Both generations of Streamable HTTP are read: with `initialize` and sessions (2025-03-26 to 2025-11-25), and
//! without them, where `Mcp-Method` and `Mcp-Name` repeat the body (2026-07-28). The body decides.

mod lists;
mod message;
mod refused;
mod sessions;

pub use lists::{Filtered, Lists, Reading};
pub use message::{Ask, Body, Item, Named, Unclear, canonical_uri};
pub use refused::Waiting;
pub use sessions::{Mailbox, Opening, Owner, Sessions};

/// The values in a value, counted up to a bit over `most`. Long texts count as several.
pub fn weight(value: &serde_json::Value, most: usize) -> usize {
    let below = |mut values: Box<dyn Iterator<Item = &serde_json::Value> + '_>| {
        values.try_fold(1, |sum, value| {
            let sum = sum + weight(value, most);
            if sum > most { Err(sum) } else { Ok(sum) }
        })
    };
    let counted = match value {
        serde_json::Value::Array(items) => below(Box::new(items.iter())),
        serde_json::Value::Object(members) => below(Box::new(members.values())),
        serde_json::Value::String(text) => Ok(1 + text.len() / 64),
        _ => Ok(1),
    };
    counted.unwrap_or_else(|over| over)
}
