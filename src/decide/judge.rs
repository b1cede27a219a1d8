//! The decision itself, on plain facts: who asks for what, under which policy.
//!
//! Nothing here proves anything; `Policies` makes the proof (`Granted`) out of a judgement of a verified caller.

use std::sync::Arc;

use super::{
    guard::Guard,
    policy::Policy,
    push,
    role::RoleLine,
    service::Service,
    tenant::{Agent, Covering, Grant, Integration, Tenant, TierKind},
};
use crate::{
    context::{AgentId, Selection, TenantId, Tier, UserId},
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
    pub(crate) selection: &'q Selection,
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
}

/// What was found on the way to an answer, also to a "no".
#[derive(Debug)]
struct Grounds<'p> {
    mode: Mode,
    integration: Option<&'p Integration>,
    grant: Option<&'p Grant>,
    line: Option<&'p RoleLine>,
    guards: Vec<&'p Arc<str>>,
    /// What would have been refused, had it been enforced. The first one counts.
    objection: Option<Reason>,
}

impl Grounds<'_> {
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

    pub(super) fn guards(&self) -> &[&'p Arc<str>] {
        &self.grounds.guards
    }

    pub(super) fn objection(&self) -> Option<&Reason> {
        self.grounds.objection.as_ref()
    }
}

impl Policy {
    /// Judges a question. Refusals by rule are only written down in shadow mode; what egret cannot answer
    /// soundly (whose credential? for which user?) and what an operator switched off is refused in any mode.
    pub(crate) fn judge(&self, question: &Question<'_>, mode: Mode) -> Judgement<'_> {
        let mut grounds =
            Grounds { mode, integration: None, grant: None, line: None, guards: Vec::new(), objection: None };
        let outcome = self.weigh(question, &mut grounds);
        Judgement { outcome, grounds }
    }

    fn weigh<'p>(&'p self, question: &Question<'_>, grounds: &mut Grounds<'p>) -> Result<Permit<'p>, Reason> {
        let tenant = self.tenant(question.tenant).ok_or(Reason::TenantUnknown)?;
        let agent = tenant.agent(question.agent);
        if agent.is_some_and(|agent| agent.disabled) {
            return Err(Reason::AgentUnknown);
        }
        let Some(chosen) = choose(tenant, agent, question, grounds)? else {
            return Ok(Permit { integration: None, tier: Tier::App, upstream: unmatched(question.target) });
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
                Some(_) => beyond_role(question, chosen.integration, None),
                None => Reason::AgentUnknown,
            };
            grounds.object(reason)?;
            return Ok(Permit { integration: None, tier: Tier::App, upstream });
        };
        weigh_role(question, chosen.integration, grant, grounds)?;
        weigh_guards(question, service, grant, grounds)?;
        let tier = weigh_tier(question, chosen.integration)?;
        Ok(Permit { integration: Some(chosen.integration), tier, upstream })
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
    pub(super) fn way(&self, question: &Question<'_>, mode: Mode) -> Result<Way, Reason> {
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
            let candidates =
                [one, two].into_iter().chain(granted).map(|c| c.integration.id.clone()).collect();
            Err(Reason::IntegrationAmbiguous { candidates })
        }
        // No role on any: the first stands for them in the refusal.
        (None, _) => Ok(Some(first)),
    }
}

fn weigh_role<'p>(
    question: &Question<'_>,
    integration: &'p Integration,
    grant: &'p Grant,
    grounds: &mut Grounds<'p>,
) -> Result<(), Reason> {
    grounds.line = match question.ask {
        Ask::Request => {
            let line = grant.role.find(question.method, &question.target.path);
            match push::announced(question.target) {
                Some(push) => line.and(grant.role.find(Method::Post, &push)),
                None => line,
            }
        }
        Ask::Tunnel => grant.role.connect.as_ref(),
    };
    // A tunnel that egret opens shows its requests later, and each of them is judged.
    let judged_later = question.ask == Ask::Tunnel && !integration.service.is_opaque();
    if grounds.line.is_some() || judged_later {
        return Ok(());
    }
    grounds.object(beyond_role(question, integration, Some(grant)))
}

fn weigh_guards<'p>(
    question: &Question<'_>,
    service: &'p Service,
    grant: &Grant,
    grounds: &mut Grounds<'p>,
) -> Result<(), Reason> {
    // Guards match methods and paths; of a tunnel there are none to see.
    if question.ask == Ask::Tunnel {
        return Ok(());
    }
    let push = push::announced(question.target);
    let covers = |guard: &Guard| {
        guard.covers(question.method, &question.target.path)
            || push.as_ref().is_some_and(|push| guard.covers(Method::Post, push))
    };
    for guard in service.guards.iter().filter(|guard| covers(guard)) {
        grounds.guards.push(&guard.label);
        let reason = Reason::ActionDenied {
            detail: guard.deny.to_string(),
            needed_role: None,
            granted_role: Some(grant.role.id.shared()),
        };
        if guard.shadow {
            grounds.objection.get_or_insert(reason);
        } else {
            grounds.object(reason)?;
        }
    }
    Ok(())
}

fn weigh_tier(question: &Question<'_>, integration: &Integration) -> Result<Tier, Reason> {
    let own = integration.tier.as_str();
    if let Some(wanted) = question.selection.tier.filter(|wanted| *wanted != own) {
        return Err(Reason::ActionDenied {
            detail: format!("{} acts as {own}, the request asks for {wanted}", integration.id),
            needed_role: None,
            granted_role: None,
        });
    }
    match integration.tier {
        TierKind::App => Ok(Tier::App),
        TierKind::User => question.user.cloned().map(Tier::User).ok_or(Reason::UserMissing),
    }
}

/// The refusal of what a role does not cover, with the role that would.
fn beyond_role(question: &Question<'_>, integration: &Integration, grant: Option<&Grant>) -> Reason {
    let service = &integration.service;
    let push = push::announced(question.target);
    let (method, path) =
        push.as_ref().map_or((question.method, &question.target.path), |push| (Method::Post, push));
    let needed = match question.ask {
        Ask::Request => service.smallest_role(method, path),
        Ask::Tunnel => service.roles.iter().find(|role| role.connect.is_some()),
    };
    let has = match grant {
        Some(grant) => format!("may use {} as {}", integration.id, grant.role.id),
        None => format!("has no role on {}", integration.id),
    };
    let action = match question.ask {
        Ask::Request if question.method == Method::Other => "this method".to_owned(),
        Ask::Request => {
            let path = integration.plan.shown_path(path.as_str()).unwrap_or_else(|| path.as_str().to_owned());
            let path: String = path.chars().take(200).collect();
            format!("{} {path}", method.as_str())
        }
        Ask::Tunnel => "a tunnel".to_owned(),
    };
    let needs = match needed {
        Some(role) => format!("{action} needs {}", role.id),
        None => format!("no role of {} covers {action}", service.plan.id),
    };
    Reason::ActionDenied {
        detail: format!("{} ({}) {has}; {needs}", question.agent, question.tenant),
        needed_role: needed.map(|role| role.id.shared()),
        granted_role: grant.map(|grant| grant.role.id.shared()),
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
