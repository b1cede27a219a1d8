//! The door out of `decide`.

use std::sync::Arc;

use crate::{
    context::AuthContext,
    identify::Caller,
    message::Message,
    plan::Plan,
    refusal::{Reason, Refusal},
    standing::Standing,
    target::{Authority, Scheme},
};

/// What the policy allows this caller to do with this target, and as whom.
///
/// Cannot be made outside this room: holding one proves that a rule matched (or that the policy is in shadow mode).
#[derive(Debug)]
pub struct Grant {
    context: AuthContext,
    upstream: (Scheme, Authority),
    plan: Option<Arc<Plan>>,
    standing: Standing,
    enforced: bool,
}

impl Grant {
    /// The context of the decision.
    pub fn context(&self) -> &AuthContext {
        &self.context
    }

    /// The one authority that the request may go to.
    pub fn upstream(&self) -> (Scheme, &Authority) {
        (self.upstream.0, &self.upstream.1)
    }

    /// What the policy fixed for the later rooms. None only in shadow mode, for a destination without an integration.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// Whether refusals are enforced; `false` in shadow mode.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// Asks again, for as long as the answer or tunnel is open.
    pub(crate) fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }
}

/// A request whose caller is known and whose target is allowed.
#[derive(Debug)]
pub struct Granted {
    message: Message,
    caller: Caller,
    grant: Grant,
}

impl Granted {
    /// Hands the parts to `limit`.
    pub(crate) fn into_parts(self) -> (Message, Caller, Grant) {
        (self.message, self.caller, self.grant)
    }

    /// Ends the way here.
    pub fn refuse(self, reason: Reason) -> Refusal {
        self.message.refuse(reason)
    }
}
