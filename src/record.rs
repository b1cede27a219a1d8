//! Room 8. Written down before it leaves.

use std::sync::Arc;

use crate::{
    audit::Audit,
    credential::Outbound,
    decide::Grant,
    message::Message,
    refusal::{Reason, Refusal},
    scrub::Needles,
};

/// A request whose decision is in the log.
#[derive(Debug)]
pub struct Recorded {
    message: Message,
    grant: Grant,
    needles: Option<Arc<Needles>>,
}

impl Recorded {
    /// Hands the parts to `forward`.
    pub(crate) fn into_parts(self) -> (Message, Grant, Option<Arc<Needles>>) {
        (self.message, self.grant, self.needles)
    }
}

impl Audit {
    /// Writes the decision.
    ///
    /// # Errors
    /// `not_recorded` when records are required and this one was not written.
    pub async fn record(&self, outbound: Outbound) -> Result<Recorded, Refusal> {
        let (mut message, grant, needles) = outbound.into_parts();
        match message.entry.record().await {
            Ok(()) => Ok(Recorded { message, grant, needles }),
            Err(error) => Err(message.refuse(Reason::NotRecorded { error: error.to_string() })),
        }
    }
}
