//! Room 4. How often.

use crate::{
    decide::{Grant, Granted},
    message::Message,
    refusal::Refusal,
};

/// A request within its quotas.
#[derive(Debug)]
pub struct Admitted {
    message: Message,
    grant: Grant,
}

impl Admitted {
    /// Hands the parts to `approve`.
    pub(crate) fn into_parts(self) -> (Message, Grant) {
        (self.message, self.grant)
    }
}

/// The quotas in use.
#[derive(Debug, Default)]
pub struct Limits {}

impl Limits {
    /// Counts the request.
    ///
    /// # Errors
    /// `rate_limited` when a quota is used up.
    pub fn admit(&self, granted: Granted) -> Result<Admitted, Refusal> {
        let (message, _caller, grant) = granted.into_parts();
        Ok(Admitted { message, grant })
    }
}
