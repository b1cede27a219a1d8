//! Room 2. Who asks.
//!
//! A token is taken apart, its issuer chosen, its signature verified with one of the issuer's keys,
//! its claims checked, and only then turned into an identity. Everything that the cryptography library leaves
//! open by default (`crit`, `typ`, a missing `aud`, duplicate members, the lifetime, the size) is checked here,
//! by us.

use crate::settings;

mod check;
mod claims;
mod clock;
mod issuer;
mod jwks;
mod keys;
mod mint;
mod token;
mod verifier;

#[cfg(test)]
use settings::{AgentClaim, Algorithm, ClaimMap, Delegation, IssuerConfig, KeySource};

pub use mint::{DevIssuer, DevIssuerError, Mint};
pub use verifier::{Caller, Hints, Identified, Verifier};

#[cfg(test)]
mod tests;
