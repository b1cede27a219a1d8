//! The door out of `decide`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    judge::{Ask, Judgement, Permit, Question},
    live::{Live, owner},
    parts::{
        act::{Act, Seen},
        role::Role,
    },
    policy::Policy,
};
use crate::{
    context::{AuthContext, CorrelationId, Identity, Selection},
    identify::Caller,
    mcp,
    message::Message,
    plan::Plan,
    refusal::{Reason, Refusal},
    standing::{Standing, Withdrawn},
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
    /// The guard that asks for a human's yes, and what for.
    approval: Option<Approval>,
    /// What lists in the answer may show; none where they are not to be narrowed.
    shown: Option<Shown>,
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

    /// What a human has to agree to first.
    pub fn approval(&self) -> Option<&Approval> {
        self.approval.as_ref()
    }

    /// What the answer has to be read for, where the service gives lists of what a role can name.
    pub fn reading(&self) -> Option<mcp::Reading> {
        let Shown { policy, role, in_a_stream } =
            self.shown.clone().filter(|_| self.asked.may_get_lists())?;
        let session = self.context.integration_id.as_ref().filter(|_| in_a_stream).map(|integration| {
            let owner = owner(&self.context.identity, integration);
            mcp::Opening::new(self.asked.live.sessions.clone(), owner, self.asked.target.path.clone())
        });
        let view = View { asked: self.asked.clone(), last: Mutex::new((policy, Sight::Role(role))) };
        let named = move |kind, name: &str| view.shows(&Act::Named { kind, name, arguments: None });
        Some(mcp::Reading { lists: mcp::Lists::new(named), session })
    }

    /// Asks again, for as long as the answer or tunnel is open.
    pub(crate) fn standing(&mut self) -> &mut Standing {
        let Self { context, upstream, asked, standing, shown, .. } = self;
        standing.get_or_insert_with(|| asked.standing(context, upstream, shown.is_some()))
    }
}

/// What of an MCP server's answer a role may see.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// By which policy.
    pub(super) policy: Weak<Policy>,
    pub(super) role: Arc<Role>,
    /// Whether the server answers in the stream of a session.
    pub(super) in_a_stream: bool,
}

/// What lists show now: a stream may stay open through many policies.
struct View {
    asked: Asked,
    /// What was found by the last policy that was asked.
    last: Mutex<(Weak<Policy>, Sight)>,
}

enum Sight {
    Everything,
    Role(Arc<Role>),
    Nothing,
}

impl View {
    fn shows(&self, act: &Act<'_>) -> bool {
        let policy = self.asked.live.current();
        // Every critical section leaves the pair whole, also when it panics.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(last.0.as_ptr(), Arc::as_ptr(&policy)) {
            *last = (Arc::downgrade(&policy), Sight::of(&policy.judge(&self.asked.question())));
        }
        match &last.1 {
            Sight::Everything => true,
            Sight::Role(role) => role.find(act).is_some(),
            Sight::Nothing => false,
        }
    }
}

impl Sight {
    fn of(judgement: &Judgement<'_>) -> Self {
        match judgement.lists_for() {
            _ if judgement.permit().is_err() => Self::Nothing,
            Some(role) if judgement.enforced() => Self::Role(role.clone()),
            _ => Self::Everything,
        }
    }
}

/// A refusal of what was granted before.
pub(super) fn withdrawn(reason: &Reason, revision: Arc<str>) -> Withdrawn {
    Withdrawn { code: reason.facts().code, detail: reason.detail(), revision }
}

/// What a human is asked.
#[derive(Debug, Clone)]
pub struct Approval {
    /// The guard that asks: `guards[2]`.
    pub guard: Arc<str>,
    /// What for: `DELETE /repos/acme/app`.
    pub action: String,
}

/// A question with everything that it takes to ask it again.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) live: Arc<Live>,
    pub(super) identity: Arc<Identity>,
    pub(super) ask: Ask,
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) seen: Arc<Seen>,
    pub(super) selection: Selection,
}

impl Asked {
    /// `narrowed` says whether lists in the answer are read already.
    fn standing(&self, context: &AuthContext, upstream: &(Scheme, Authority), narrowed: bool) -> Standing {
        let mut changes = self.live.subscribe();
        // The policy may have changed since the decision: the first look comes at once.
        changes.mark_changed();
        let asked = self.clone();
        let integration_id = context.integration_id.clone();
        let tier = context.tier.clone();
        let upstream = upstream.clone();
        let stands = move || {
            let policy = asked.live.current();
            let judgement = policy.judge(&asked.question());
            let same = |permit: &Permit<'_>| {
                permit.integration.map(|i| &i.id) == integration_id.as_ref()
                    && permit.tier == tier
                    && permit.upstream == upstream
            };
            let revision = policy.revision().clone();
            let is_shown_right =
                narrowed || !asked.may_get_lists() || !matches!(Sight::of(&judgement), Sight::Role(_));
            match judgement.permit() {
                Ok(permit) if same(permit) && is_shown_right => Ok(()),
                Ok(permit) if same(permit) => Err(Withdrawn {
                    code: "action_denied",
                    detail: "its lists show from now on what the role can name".to_owned(),
                    revision,
                }),
                Ok(_) => Err(Withdrawn {
                    code: "action_denied",
                    detail: "it goes another way, or with another credential".to_owned(),
                    revision,
                }),
                Err(reason) => Err(withdrawn(reason, revision)),
            }
        };
        Standing::new(changes, Arc::new(stands))
    }

    fn may_get_lists(&self) -> bool {
        match &*self.seen {
            Seen::Mcp(body) => body.asks_for_a_list(),
            // A stream may repeat what it gave before.
            _ => self.method == Method::Get,
        }
    }

    pub(super) fn question(&self) -> Question<'_> {
        Question {
            tenant: &self.identity.tenant_id,
            agent: &self.identity.agent_id,
            user: self.identity.user_id.as_ref(),
            ask: self.ask,
            method: self.method,
            target: &self.target,
            seen: &self.seen,
            selection: &self.selection,
            token: Some(&self.identity),
            at: None,
        }
    }
}

/// What a judgement permits.
pub(super) struct Permitted<'p> {
    pub(super) permit: Permit<'p>,
    pub(super) shown: Option<Shown>,
    pub(super) enforced: bool,
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
        (live, ask, seen): (Arc<Live>, Ask, Arc<Seen>),
        permitted: Permitted<'_>,
    ) -> Self {
        let Permitted { permit, shown, enforced } = permitted;
        let approval = permit.approval;
        let identity = caller.identity().clone();
        let context = AuthContext {
            identity: identity.clone(),
            tier: permit.tier,
            integration_id: permit.integration.map(|integration| integration.id.clone()),
            purpose: message.entry.purpose().cloned(),
            correlation_id: message.entry.correlation_id().cloned().unwrap_or_else(CorrelationId::fresh),
        };
        let target = message.target.clone();
        let asked = Asked { live, identity, ask, method: message.method, target, seen, selection };
        let plan = permit.integration.map(|integration| integration.plan.clone());
        let upstream = permit.upstream;
        let grant = Grant { context, upstream, plan, enforced, approval, shown, asked, standing: None };
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
        context::{AgentId, AgentSource, Channel, Claims, IntegrationId, TenantId, Tier},
        decide::Policies,
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
            claims: Claims::default(),
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
            seen: Arc::new(Seen::Nothing),
            selection,
        };
        asked.standing(&context, &(Scheme::Https, authority), false)
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
