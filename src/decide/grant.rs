//! The door out of `decide`.

use std::sync::Arc;

use super::{
    judge::{Ask, Permit, Question},
    live::Live,
};
use crate::{
    context::{AuthContext, CorrelationId, Identity, Selection},
    identify::Caller,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        context::{AgentId, AgentSource, Channel, IntegrationId, TenantId, Tier},
        decide::{Policies, Policy},
        target::{Host, Path},
    };

    fn policy(agents: &str) -> Policy {
        let text = format!(
            "version: 1\ntenants: {{t: {{integrations: {{openai: {{credential: none}}}}, agents: {agents}}}}}\n"
        );
        Policy::from_text("policy.yaml", &text).unwrap()
    }

    /// A standing of `t/bot`'s request to the model, under a policy with these agents.
    fn standing(live: &Arc<Live>) -> Standing {
        let authority = Authority { host: Host::parse("api.openai.com").unwrap(), port: 443 };
        let identity = Arc::new(Identity {
            tenant_id: TenantId::parse("t").unwrap(),
            agent_id: AgentId::parse("bot").unwrap(),
            agent_source: AgentSource::Token,
            user_id: None,
            oauth_subject: None,
            scopes: Arc::new([]),
            delegation: Arc::new([]),
            issuer: "https://idp.example".into(),
            jti_hash: None,
            expires_at: u64::MAX,
            channel: Channel::ProxyBearer,
        });
        let path = Path::parse("/v1/responses").unwrap();
        let target = Target { scheme: Scheme::Https, authority: authority.clone(), path, query: None };
        let selection = Selection::default();
        let context = AuthContext {
            identity: identity.clone(),
            tier: Tier::App,
            integration_id: Some(IntegrationId::parse("openai").unwrap()),
            purpose: None,
            correlation_id: CorrelationId::fresh(),
        };
        let asked = Asked {
            live: live.clone(),
            identity,
            ask: Ask::Request,
            method: Method::Post,
            target,
            selection,
        };
        asked.standing(&context, &(Scheme::Https, authority))
    }

    fn swap(live: &Live, policy: Policy) {
        live.policy.store(Arc::new(policy));
        live.changes.send_modify(|tick| *tick += 1);
    }

    #[tokio::test]
    async fn a_grant_stands_until_a_policy_takes_it_back() {
        let policies = Policies::fixed(policy("{bot: {openai: caller}}"));
        let live = &policies.0;
        let mut standing = standing(live);
        let moment = Duration::from_millis(20);
        assert!(timeout(moment, standing.lost()).await.is_err(), "nothing changed");
        swap(live, policy("{bot: {openai: caller}, other: {}}"));
        assert!(timeout(moment, standing.lost()).await.is_err(), "nothing changed for this agent");
        swap(live, policy("{bot: {disabled: true, openai: caller}}"));
        timeout(Duration::from_secs(10), standing.lost()).await.expect("the agent was switched off");
    }

    #[tokio::test]
    async fn a_policy_that_changed_before_anyone_asked_is_noticed() {
        let policies = Policies::fixed(policy("{bot: {openai: caller}}"));
        swap(&policies.0, policy("{}"));
        let mut standing = standing(&policies.0);
        timeout(Duration::from_secs(10), standing.lost()).await.expect("the grant is gone already");
    }
}
