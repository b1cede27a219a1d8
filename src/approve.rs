//! Room 5. A human's yes, where a guard asks for one.
//!
//! Nobody can give it yet: what a guard asks for is refused here. A limited request never comes this far.

use crate::{
    decide::{Approval, Grant},
    limit::Admitted,
    message::Message,
    refusal::{Reason, Refusal},
};

/// A request that no human needs to see, or that one has agreed to.
#[derive(Debug)]
pub struct Approved {
    message: Message,
    grant: Grant,
}

impl Approved {
    /// Hands the parts to `strip`.
    pub(crate) fn into_parts(self) -> (Message, Grant) {
        (self.message, self.grant)
    }
}

/// Who is asked, and for how long.
#[derive(Debug, Default)]
pub struct Approvals {}

impl Approvals {
    /// Waits for a yes where one is needed.
    ///
    /// # Errors
    /// `approval_required`, where one is.
    #[expect(clippy::unused_async, reason = "the room's door is asynchronous: a human takes time")]
    pub async fn wait(&self, admitted: Admitted) -> Result<Approved, Refusal> {
        let (message, grant) = admitted.into_parts();
        if let Some(Approval { guard, action }) = grant.approval().cloned() {
            return Err(message.refuse(Reason::ApprovalRequired { guard, action }));
        }
        Ok(Approved { message, grant })
    }
}
