//! The decision itself, on plain facts: who asks for what, under which policy.
//!
//! Nothing here proves anything; `Policies` makes the proof (`Granted`) out of a judgement of a verified caller.

pub(super) mod inspect;
pub(super) mod push;
mod weigh;

use std::{sync::Arc, time::SystemTime};

use weigh::{beyond_role, first_act, line_for, weigh_guards, weigh_role, weigh_tier};

use super::{
    grant::Approval,
    parts::{
        act::Seen,
        guard::Guard,
        protocol::{Look, Protocol},
        role::{Role, RoleLine},
        tenant::{Agent, Covering, Grant, Integration, Tenant},
    },
    policy::Policy,
};
use crate::{
    context::{AgentId, Identity, Selection, TenantId, Tier, UserId},
    refusal::Reason,
    target::{Authority, Method, Scheme, Target},
};

/// Whether refusals are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What is refused does not leave.
    Enforce,
    /// What would be refused is written down, and leaves.
    Shadow,
}

impl Mode {
    /// As a policy writes them.
    pub(super) const WORDS: [(&str, Self); 2] = [("enforce", Self::Enforce), ("shadow", Self::Shadow)];
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// One request.
    Request,
    /// A tunnel that stays closed to egret.
    Tunnel,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'q> {
    pub(crate) tenant: &'q TenantId,
    pub(crate) agent: &'q AgentId,
    pub(crate) user: Option<&'q UserId>,
    pub(crate) ask: Ask,
    pub(crate) method: Method,
    pub(crate) target: &'q Target,
    /// What its body says.
    pub(crate) seen: &'q Seen,
    pub(crate) selection: &'q Selection,
    /// The token behind it; none where a policy is only examined.
    pub(crate) token: Option<&'q Identity>,
    /// When it is asked; now, where it does not say.
    pub(crate) at: Option<SystemTime>,
}

/// The answer, and what it rests on.
#[derive(Debug)]
pub(crate) struct Judgement<'p> {
    outcome: Result<Permit<'p>, Reason>,
    grounds: Grounds<'p>,
}

/// What a permitted request gets.
#[derive(Debug)]
pub(crate) struct Permit<'p> {
    /// The integration that serves it; none in shadow mode where none does, or where the agent has no role on it.
    pub(super) integration: Option<&'p Integration>,
    pub(super) tier: Tier,
    pub(super) upstream: (Scheme, Authority),
    /// What a human has to agree to first.
    pub(super) approval: Option<Approval>,
}

/// What has to be known about a body before a request can be judged.
pub(super) struct Inspection<'p> {
    pub(super) look: Look,
    /// The largest body for it, in bytes, where the service says.
    pub(super) limit: Option<u64>,
    pub(super) integration: Option<&'p Integration>,
}

/// What was found on the way to an answer, also to a "no".
#[derive(Debug)]
struct Grounds<'p> {
    mode: Mode,
    integration: Option<&'p Integration>,
    grant: Option<&'p Grant>,
    line: Option<&'p RoleLine>,
    guards: Vec<&'p Arc<Guard>>,
    approval: Option<Approval>,
    /// What would have been refused, had it been enforced. The first one counts.
    objection: Option<Reason>,
}

impl Grounds<'_> {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            integration: None,
            grant: None,
            line: None,
            guards: Vec::new(),
            approval: None,
            objection: None,
        }
    }

    /// Refuses, or in shadow mode writes down that it would have been refused.
    fn object(&mut self, reason: Reason) -> Result<(), Reason> {
        match self.mode {
            Mode::Enforce => Err(reason),
            Mode::Shadow => {
                self.objection.get_or_insert(reason);
                Ok(())
            }
        }
    }
}

impl<'p> Judgement<'p> {
    pub(super) fn permit(&self) -> Result<&Permit<'p>, &Reason> {
        self.outcome.as_ref()
    }

    pub(super) fn into_outcome(self) -> Result<Permit<'p>, Reason> {
        self.outcome
    }

    pub(super) fn integration(&self) -> Option<&'p Integration> {
        self.grounds.integration
    }

    pub(super) fn grant(&self) -> Option<&'p Grant> {
        self.grounds.grant
    }

    pub(super) fn line(&self) -> Option<&'p RoleLine> {
        self.grounds.line
    }

    /// The guards that hold.
    pub(super) fn guards(&self) -> &[&'p Arc<Guard>] {
        &self.grounds.guards
    }

    /// Whether refusals by rule are enforced.
    pub(super) fn enforced(&self) -> bool {
        self.grounds.mode == Mode::Enforce
    }

    /// Whose role says what lists in the answer may show; none where the service gives no lists.
    pub(super) fn lists_for(&self) -> Option<&Arc<Role>> {
        let gives_lists = matches!(self.grounds.integration?.service.protocol, Protocol::Mcp(_));
        self.grounds.grant.map(|grant| &grant.role).filter(|_| gives_lists)
    }

    /// Whether the server answers in the stream of a session.
    pub(super) fn answers_in_a_stream(&self) -> bool {
        self.grounds.integration.is_some_and(|integration| integration.service.answers_in_a_stream())
    }

    pub(super) fn objection(&self) -> Option<&Reason> {
        self.grounds.objection.as_ref()
    }
}

impl Policy {
    /// Judges a question. Refusals by rule are only written down in shadow mode; what egret cannot answer
    /// soundly (whose credential? for which user?) and what an operator switched off is refused in any mode.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Judgement<'_> {
        self.judge_in(self.mode_of(question.tenant), question)
    }

    /// Judges as if everything were enforced: what rules say, whatever the mode.
    pub(crate) fn judge_strictly(&self, question: &Question<'_>) -> Judgement<'_> {
        self.judge_in(Mode::Enforce, question)
    }

    fn judge_in(&self, mode: Mode, question: &Question<'_>) -> Judgement<'_> {
        let mut grounds = Grounds::new(mode);
        // A question that is made up may say what nobody would look for where it leads.
        let unseen = question.token.is_none() && question.seen.is_something() && self.looks_away(question);
        let question = &Question { seen: if unseen { Seen::NOTHING } else { question.seen }, ..*question };
        let outcome = self.weigh(question, &mut grounds);
        Judgement { outcome, grounds }
    }

    /// What has to be looked for in a request's body before it can be judged, and the largest body for it.
    pub(super) fn look_for(&self, question: &Question<'_>) -> Inspection<'_> {
        let nothing = Inspection { look: Look::Nothing, limit: None, integration: None };
        if !self.looks_into_bodies() {
            return nothing;
        }
        let chosen = || {
            let tenant = self.tenant(question.tenant)?;
            // Nobody's body is read who may do nothing there.
            let agent = tenant.agent(question.agent).filter(|agent| !agent.disabled)?;
            let chosen = choose(tenant, Some(agent), question, &mut Grounds::new(Mode::Enforce)).ok()??;
            agent.grant(&chosen).map(|_| chosen)
        };
        chosen().map_or(nothing, |Covering { integration, .. }| Inspection {
            look: integration.service.looks_for(question.method, &question.target.path),
            limit: integration.service.plan.max_body,
            integration: Some(integration),
        })
    }

    /// Whether the services at the destination are none whose bodies are looked into there.
    pub(super) fn looks_away(&self, question: &Question<'_>) -> bool {
        let Some(tenant) = self.tenant(question.tenant) else { return true };
        let mut covering = tenant.covering(&question.target.authority).peekable();
        covering.peek().is_some()
            && covering.all(|c| {
                let service = &c.integration.service;
                service.looks_for(question.method, &question.target.path) == Look::Nothing
            })
    }

    fn weigh<'p>(&'p self, question: &Question<'_>, grounds: &mut Grounds<'p>) -> Result<Permit<'p>, Reason> {
        let tenant = self.tenant(question.tenant).ok_or(Reason::TenantUnknown)?;
        let agent = tenant.agent(question.agent);
        if agent.is_some_and(|agent| agent.disabled) {
            return Err(Reason::AgentUnknown);
        }
        let nobody = |upstream| Permit { integration: None, tier: Tier::App, upstream, approval: None };
        let Some(chosen) = choose(tenant, agent, question, grounds)? else {
            return Ok(nobody(unmatched(question.target)));
        };
        let service = &*chosen.integration.service;
        let upstream = (
            service.plan.scheme,
            Authority { host: question.target.authority.host.clone(), port: chosen.port },
        );
        grounds.integration = Some(chosen.integration);
        grounds.grant = agent.and_then(|agent| agent.grant(&chosen));
        let Some(grant) = grounds.grant else {
            let reason = match agent {
                Some(_) => beyond_role(question, chosen.integration, None, &first_act(question, service)),
                None => Reason::AgentUnknown,
            };
            grounds.object(reason)?;
            return Ok(nobody(upstream));
        };
        weigh_role(question, chosen.integration, grant, grounds)?;
        weigh_guards(question, service, grant, grounds)?;
        let tier = weigh_tier(question, chosen.integration)?;
        Ok(Permit {
            integration: Some(chosen.integration),
            tier,
            upstream,
            approval: grounds.approval.take(),
        })
    }
}

/// What becomes of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is opened; each request inside is judged on its own.
    Intercept,
    /// It stays closed, where the agent's role says `connect`.
    Opaque,
}

impl Policy {
    /// What becomes of a tunnel, whatever the agent's role: refusals that can be answered inside are.
    ///
    /// # Errors
    /// When the tenant is unknown, or none of its integrations covers the destination.
    pub(super) fn way(&self, question: &Question<'_>) -> Result<Way, Reason> {
        let mode = self.mode_of(question.tenant);
        let tenant = self.tenant(question.tenant).ok_or(Reason::TenantUnknown)?;
        let to = &question.target.authority;
        let covering = tenant.covering(to);
        let enabled = covering.clone().filter(|c| !c.integration.disabled);
        if enabled.clone().next().is_none() {
            let switched_off = covering.count() > 0;
            if mode == Mode::Shadow && !switched_off {
                return Ok(Way::Intercept);
            }
            let port = !switched_off && tenant.knows(&to.host);
            return Err(Reason::DestinationNotAllowed { host: to.host.to_string(), port });
        }
        let agent = tenant.agent(question.agent);
        let chosen = |c: &Covering<'_>| match &question.selection.integration {
            Some(name) => c.integration.id == *name,
            None => agent.is_some_and(|agent| agent.grant(c).is_some()),
        };
        let opaque = |c: Covering<'_>| c.integration.service.is_opaque();
        let all_opaque = if enabled.clone().any(|c| chosen(&c)) {
            enabled.filter(chosen).all(opaque)
        } else {
            enabled.clone().all(opaque)
        };
        Ok(if all_opaque { Way::Opaque } else { Way::Intercept })
    }
}

/// Which of the tenant's integrations serves the destination. None only in shadow mode.
fn choose<'p>(
    tenant: &'p Tenant,
    agent: Option<&Agent>,
    question: &Question<'_>,
    grounds: &mut Grounds<'p>,
) -> Result<Option<Covering<'p>>, Reason> {
    let to = &question.target.authority;
    let covering = tenant.covering(to);
    // Several servers may stand behind one host: where one's endpoint is asked for, it is that one.
    let here =
        |c: &Covering<'_>| question.ask == Ask::Tunnel || c.integration.service.is_at(&question.target.path);
    let any_here = covering.clone().any(|c| here(&c));
    let covering = covering.filter(move |c| !any_here || here(c));
    let mut enabled = covering.clone().filter(|c| !c.integration.disabled);
    if let Some(name) = &question.selection.integration {
        // An integration that does not exist, one that is elsewhere, and one that is switched off: one answer.
        if let Some(chosen) = enabled.find(|c| c.integration.id == *name) {
            return Ok(Some(chosen));
        }
        let reason = Reason::DestinationNotAllowed { host: to.host.to_string(), port: false };
        return if tenant.integration(name.as_str()).is_some_and(|i| i.disabled) {
            Err(reason)
        } else {
            grounds.object(reason).map(|()| None)
        };
    }
    let Some(first) = enabled.next() else {
        let switched_off = covering.count() > 0;
        let port = !switched_off && tenant.knows(&to.host);
        let reason = Reason::DestinationNotAllowed { host: to.host.to_string(), port };
        // The kill switch holds in shadow mode, too.
        return if switched_off { Err(reason) } else { grounds.object(reason).map(|()| None) };
    };
    let has_role = |c: &Covering<'_>| agent.is_some_and(|agent| agent.grant(c).is_some());
    let mut granted = std::iter::once(first).chain(enabled).filter(has_role);
    match (granted.next(), granted.next()) {
        (Some(only), None) => Ok(Some(only)),
        (Some(one), Some(two)) => {
            let all: Vec<Covering<'p>> = [one, two].into_iter().chain(granted).collect();
            only_one_that_knows(&all, question).map(Some).ok_or_else(|| Reason::IntegrationAmbiguous {
                candidates: all.iter().map(|c| c.integration.id.clone()).collect(),
            })
        }
        // No role on any: the first stands for them in the refusal.
        (None, _) => Ok(Some(first)),
    }
}

/// Several services may share a host, each with paths of its own: the one whose service knows the request,
/// whatever the role that the agent has on it. Two integrations of one service stay two.
fn only_one_that_knows<'p>(all: &[Covering<'p>], question: &Question<'_>) -> Option<Covering<'p>> {
    let knows = |c: &&Covering<'p>| {
        let service = &c.integration.service;
        let look = service.looks_for(question.method, &question.target.path);
        !matches!(look, Look::Nothing | Look::McpWithoutBody)
            || service.roles.iter().any(|role| line_for(role, question, service).is_ok())
    };
    let mut knowing = all.iter().filter(knows);
    match (knowing.next(), knowing.next()) {
        (Some(only), None) if question.ask == Ask::Request => Some(*only),
        _ => None,
    }
}

/// In shadow mode, a destination without an integration is reached by TLS like any other.
fn unmatched(target: &Target) -> (Scheme, Authority) {
    let port = match target.authority.port {
        80 => Scheme::Https.default_port(),
        port => port,
    };
    (Scheme::Https, Authority { host: target.authority.host.clone(), port })
}
