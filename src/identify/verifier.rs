//! The door out of `identify`.

use std::sync::Arc;

use crate::{
    context::Identity,
    listen::{Received, Selection},
    message::Message,
    refusal::{Reason, Refusal},
};

/// A verified caller. Cannot be made outside this room: holding one proves that a token was verified.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Identity>);

impl Caller {
    /// What the token says.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.0
    }
}

/// A request whose caller is known.
#[derive(Debug)]
pub struct Identified {
    message: Message,
    caller: Caller,
    selection: Selection,
}

impl Identified {
    /// Hands the parts to `decide`.
    pub(crate) fn into_parts(self) -> (Message, Caller, Selection) {
        (self.message, self.caller, self.selection)
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier {}

impl Verifier {
    /// Finds out who asks.
    ///
    /// # Errors
    /// A refusal when no token, a bad token, or no keys.
    pub async fn verify(&self, received: Received) -> Result<Identified, Refusal> {
        Err(received.refuse(Reason::IdentityMissing))
    }
}
