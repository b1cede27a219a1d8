//! The door out of `decide`.

use std::sync::Arc;

use super::{
    judge::{Ask, Permit, Question},
    live::Live,
};
use crate::{
    context::{AuthContext, CorrelationId, Identity},
    identify::Caller,
    listen::Selection,
    message::Message,
    plan::Plan,
    refusal::{Reason, Refusal},
    standing::Standing,
    target::{Authority, Method, Scheme, Target},
};

/// What the policy allows this caller to do with this target, and as whom.
///
/// Cannot be made outside this room: holding one proves that a rule matched (or that the policy is in shadow mode).
#[derive(Debug)]
pub struct Grant {
    context: AuthContext,
    upstream: (Scheme, Authority),
    plan: Option<Arc<Plan>>,
    enforced: bool,
    /// What was asked, to ask it again. Kept instead of a `Standing`: most requests are over before the policy
    /// changes, and never pay for one.
    asked: Asked,
    standing: Option<Standing>,
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
        let Self { context, upstream, asked, standing, .. } = self;
        standing.get_or_insert_with(|| asked.standing(context, upstream))
    }
}

/// A question with everything that it takes to ask it again.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    live: Arc<Live>,
    identity: Arc<Identity>,
    ask: Ask,
    method: Method,
    target: Target,
    selection: Selection,
}

impl Asked {
    fn standing(&self, context: &AuthContext, upstream: &(Scheme, Authority)) -> Standing {
        let mut changes = self.live.subscribe();
        // The policy may have changed since the decision: the first look comes at once.
        changes.mark_changed();
        let asked = self.clone();
        let integration_id = context.integration_id.clone();
        let tier = context.tier.clone();
        let upstream = upstream.clone();
        let stands = move || {
            let policy = asked.live.current();
            let judgement = policy.judge(&asked.question(), policy.mode());
            judgement.permit().is_ok_and(|permit| {
                permit.integration.map(|i| &i.id) == integration_id.as_ref()
                    && permit.tier == tier
                    && permit.upstream == upstream
            })
        };
        Standing::new(changes, Arc::new(stands))
    }

    fn question(&self) -> Question<'_> {
        Question {
            tenant: &self.identity.tenant_id,
            agent: &self.identity.agent_id,
            user: self.identity.user_id.as_ref(),
            ask: self.ask,
            method: self.method,
            target: &self.target,
            selection: &self.selection,
        }
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
    /// Makes the proof out of a permit.
    pub(super) fn new(
        message: Message,
        caller: Caller,
        selection: Selection,
        (live, ask): (Arc<Live>, Ask),
        permit: Permit<'_>,
        enforced: bool,
    ) -> Self {
        let identity = caller.identity().clone();
        let context = AuthContext {
            identity: identity.clone(),
            tier: permit.tier,
            integration_id: permit.integration.map(|integration| integration.id.clone()),
            purpose: message.entry.purpose().cloned(),
            correlation_id: message.entry.correlation_id().cloned().unwrap_or_else(CorrelationId::fresh),
        };
        let target = message.target.clone();
        let asked = Asked { live, identity, ask, method: message.method, target, selection };
        let plan = permit.integration.map(|integration| integration.plan.clone());
        let grant = Grant { context, upstream: permit.upstream, plan, enforced, asked, standing: None };
        Self { message, caller, grant }
    }

    /// Hands the parts to `limit`.
    pub(crate) fn into_parts(self) -> (Message, Caller, Grant) {
        (self.message, self.caller, self.grant)
    }

    /// Ends the way here.
    pub fn refuse(self, reason: Reason) -> Refusal {
        self.message.refuse(reason)
    }
}
