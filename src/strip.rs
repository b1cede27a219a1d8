//! Room 6. Nothing of the client's own authentication remains. Total: cannot fail.

use crate::{approve::Approved, decide::Grant, message::Message};

/// A request without any authentication of the client's.
#[derive(Debug)]
pub struct Stripped {
    message: Message,
    grant: Grant,
}

impl Stripped {
    /// Hands the parts to `credential`.
    pub(crate) fn into_parts(self) -> (Message, Grant) {
        (self.message, self.grant)
    }
}

/// Takes away what the client brought.
pub fn client_credentials(approved: Approved) -> Stripped {
    let (message, grant) = approved.into_parts();
    Stripped { message, grant }
}
