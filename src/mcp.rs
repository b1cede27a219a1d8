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
pub use message::{Ask, Body, Item, Named, Unclear};
pub use refused::Waiting;
pub use sessions::{Mailbox, Opening, Owner, Sessions};
