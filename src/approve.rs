//! Room 5. A human's yes, where a guard asks for one.
//!
//! No guard can ask yet: the policy loader refuses `require: approval`, so every request that comes here needs none.

use crate::{decide::Grant, limit::Admitted, message::Message, refusal::Refusal};

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
    /// None yet.
    #[expect(clippy::unused_async, reason = "the room's door is asynchronous: a human takes time")]
    pub async fn wait(&self, admitted: Admitted) -> Result<Approved, Refusal> {
        let (message, grant) = admitted.into_parts();
        Ok(Approved { message, grant })
    }
}
