//! Room 2. Who asks.

mod verifier;

pub use verifier::{Caller, Identified, Verifier};
