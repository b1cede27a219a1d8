//! Room 8. Written down before it leaves.

use crate::{
    audit::Audit,
    credential::{Outbound, Outgoing},
    decide::Grant,
    message::Message,
    refusal::{Reason, Refusal},
};

/// A request whose decision is in the log.
#[derive(Debug)]
pub struct Recorded {
    message: Message,
    grant: Grant,
    outgoing: Outgoing,
}

impl Recorded {
    /// Hands the parts to `forward`.
    pub(crate) fn into_parts(self) -> (Message, Grant, Outgoing) {
        (self.message, self.grant, self.outgoing)
    }
}

impl Audit {
    /// Writes the decision.
    ///
    /// # Errors
    /// `not_recorded` when records are required and this one was not written.
    pub async fn record(&self, outbound: Outbound) -> Result<Recorded, Refusal> {
        let (mut message, grant, outgoing) = outbound.into_parts();
        match message.entry.record().await {
            Ok(()) => Ok(Recorded { message, grant, outgoing }),
            Err(error) => Err(message.refuse(Reason::NotRecorded { error: error.to_string() })),
        }
    }
}
