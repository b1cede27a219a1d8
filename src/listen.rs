//! Room 1. Bytes become one message with one canonical target.

mod received;

pub use received::{Presented, Received, Selection, Tunnelled, UnverifiedToken};
