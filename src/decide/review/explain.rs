//! `egret explain`: why a request would be allowed or refused, step by step, without a token.

mod asked;
mod document;
mod remedy;

use std::{fmt, fmt::Write as _, path::Path, time::SystemTime};

use serde::Serialize;

use crate::{
    context::{AgentId, IntegrationId, Selection, TenantId, Tier, UserId},
    decide::{
        files::{
            bundle::Verification,
            outline::Outline,
            problem::Problems,
            source::{Mark, Sources},
        },
        judge::{Judgement, Question},
        parts::{credential, guard::Effect, promise::Request, tenant::Integration},
        policy::Policy,
    },
    plan::{LimitRule, PrivateReach},
    refusal::Reason,
    target::Host,
};
pub use document::{Edit, Op};
pub use remedy::Remedy;

/// A policy with what is written where, to be asked about.
pub struct Examined {
    policy: Policy,
    outline: Outline,
}

/// Who would ask for what; the words of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The token's tenant.
    pub tenant: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// The token's user.
    pub user: Option<&'a str>,
    /// The request: `METHOD URL`, `CONNECT HOST:PORT`, `tool NAME @ URL`, `graphql mutation FIELD @ URL`.
    pub request: &'a str,
    /// When it is asked; now, where it does not say.
    pub at: Option<SystemTime>,
    /// `X-Agent-Integration`.
    pub integration: Option<&'a str>,
}

/// The answer and the way to it.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Whether the request would be sent on.
    pub allowed: bool,
    /// Whether the policy enforces its refusals.
    pub enforced: bool,
    /// Whether a human has to agree first.
    pub approval: bool,
    /// The code of the refusal, also of one that shadow mode only writes down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What the agent would read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The way, from the tenant to the upstream.
    pub steps: Vec<Step>,
    /// The smallest change that would allow a refused request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Remedy>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// `token`, `tenant`, `agent`, `integration`, `service`, `role`, `line`, `guard`, `approval`, `tier`, `limit`,
    /// `credential`, `upstream`.
    pub step: &'static str,
    /// What was found.
    pub found: String,
    /// Where the policy says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
}

impl Examined {
    /// Loads a file or a directory, verified where that is demanded.
    ///
    /// # Errors
    /// As [`Policy::load_verified`].
    pub fn load(path: &Path, verification: Option<&Verification>) -> Result<Self, Problems> {
        Self::of(&Policy::sources(path, verification)?)
    }

    /// Reads a policy from a text; `name` stands for the file.
    ///
    /// # Errors
    /// As [`Policy::from_text`].
    pub fn from_text(name: &str, text: &str) -> Result<Self, Problems> {
        Self::of(&Sources::text(name, text))
    }

    fn of(sources: &Sources) -> Result<Self, Problems> {
        let (policy, outline) = Policy::compile_with_outline(sources)?;
        Ok(Self { policy, outline })
    }

    /// Explains what the policy decides, and what the client would get.
    ///
    /// # Errors
    /// When a word of the inquiry is none: a message that says which.
    pub fn explain(&self, inquiry: &Inquiry<'_>) -> Result<Explanation, String> {
        let policy = &self.policy;
        let request = Request::read(inquiry.request)?;
        let bad = |bad: crate::context::BadIdentifier| bad.to_string();
        let tenant = TenantId::parse(inquiry.tenant).map_err(bad)?;
        let agent = AgentId::parse(inquiry.agent).map_err(bad)?;
        let user = inquiry.user.map(UserId::parse).transpose().map_err(bad)?;
        let integration = inquiry.integration.map(IntegrationId::parse).transpose().map_err(bad)?;
        let selection = Selection { integration, tier: None };
        let question = Question {
            tenant: &tenant,
            agent: &agent,
            user: user.as_ref(),
            ask: request.ask,
            method: request.method,
            target: &request.target,
            seen: &request.seen,
            selection: &selection,
            token: None,
            at: inquiry.at,
        };
        let (seen, malformed) = match asked::seen(policy, &question) {
            Ok(seen) => (seen, None),
            Err(reason) => (None, Some(reason)),
        };
        let asked = Question { seen: seen.as_deref().unwrap_or(question.seen), ..question };
        let judgement = policy.judge(&asked);
        let mut steps = vec![step("token", who(inquiry), None)];
        if let Some(found) = policy.tenant_or_disabled(&tenant) {
            let state = if found.disabled { ", disabled" } else { "" };
            let mode = if judgement.enforced() { "" } else { ", in shadow mode" };
            steps.push(step("tenant", format!("{tenant}{state}{mode}"), Some(policy.mark(found.span))));
            if let Some(entry) = found.agent(&agent) {
                let state = if entry.disabled { ", disabled" } else { "" };
                steps.push(step("agent", format!("{agent}{state}"), Some(policy.mark(entry.span))));
            }
        }
        ground(policy, &judgement, &mut steps);
        let permit = judgement.permit();
        let later = permit.ok().and_then(asked::not_yet);
        let stopped = malformed.as_ref().or(permit.err()).or(later.as_ref());
        let refused = stopped.or(judgement.objection());
        let change = match (&malformed, &later, refused) {
            (None, Some(reason), _) => Some(not_yet(reason)),
            (_, _, Some(_)) => Some(remedy::find(policy, &self.outline, &question)),
            (_, _, None) => None,
        };
        Ok(Explanation {
            allowed: stopped.is_none(),
            enforced: judgement.enforced(),
            approval: permit.is_ok_and(|permit| permit.approval.is_some()),
            code: refused.map(|reason| reason.facts().code),
            detail: refused.map(Reason::detail),
            change,
            steps,
        })
    }
}

/// What the policy allows, and is not there yet.
fn not_yet(reason: &Reason) -> Remedy {
    let say = match reason {
        Reason::CredentialMissing { what, .. } => format!("the policy allows it, but {what}"),
        _ => "the policy allows it, once a human agrees; nobody can be asked yet".to_owned(),
    };
    Remedy { say, patch: Vec::new() }
}

fn who(inquiry: &Inquiry<'_>) -> String {
    let user = inquiry.user.map_or_else(|| "no user".to_owned(), |user| format!("user {user}"));
    format!("tenant {}, agent {}, {user}", inquiry.tenant, inquiry.agent)
}

fn step(step: &'static str, found: String, at: Option<Mark>) -> Step {
    Step { step, found, at }
}

fn ground(policy: &Policy, judgement: &Judgement<'_>, steps: &mut Vec<Step>) {
    let Some(integration) = judgement.integration() else { return };
    let service = &integration.service;
    let found = format!("{}, {} to {}", integration.id, integration.tier.as_str(), service.plan.id);
    steps.push(step("integration", found, Some(policy.mark(integration.span))));
    steps.push(step("service", service.plan.id.to_string(), Some(policy.mark(service.span))));
    if let Some(grant) = judgement.grant() {
        steps.push(step("role", grant.role.id.to_string(), Some(policy.mark(grant.span))));
    }
    if let Some(line) = judgement.line() {
        steps.push(step("line", format!("{} ({})", line.route, line.rule), Some(policy.mark(line.span))));
    }
    for guard in judgement.guards() {
        let when = guard.when.as_ref().map_or_else(String::new, |when| format!(" when {}", when.text));
        let effect = match (&guard.effect, guard.shadow) {
            (_, true) => "only written down",
            (Effect::Deny(_), _) => "denied",
            (Effect::Approval, _) => "approval required",
        };
        let found = format!("{}: {}{when}: {effect}", guard.label, guard.text);
        steps.push(step("guard", found, Some(policy.mark(guard.span))));
    }
    if let Ok(permit) = judgement.permit() {
        if let Some(approval) = &permit.approval {
            let by = policy.approvals().by.as_deref().unwrap_or("an operator");
            let within = policy.approvals().within.as_secs();
            let found = format!("by {by}, for {}, good for {within} s and one request", approval.action);
            steps.push(step("approval", found, None));
        }
        steps.push(step("tier", tier(&permit.tier), Some(policy.mark(integration.span))));
        if permit.integration.is_some() {
            attach(policy, integration, steps);
        } else {
            let found = "none: what shadow mode lets out without a role carries no credential";
            steps.push(step("credential", found.to_owned(), None));
        }
        let (scheme, authority) = &permit.upstream;
        let mut found = format!("{}://{authority}", scheme.as_str());
        if matches!(authority.host, Host::Address(_)) && service.plan.private == PrivateReach::Nowhere {
            found.push_str(", which is refused where it is a private address: see `allow_private_addresses`");
        }
        steps.push(step("upstream", found, Some(policy.mark(service.span))));
    }
}

fn tier(tier: &Tier) -> String {
    match tier {
        Tier::App => "APP: the organisation's credential".to_owned(),
        Tier::User(user) => format!("USER: the credential of {user}"),
    }
}

fn attach(policy: &Policy, integration: &Integration, steps: &mut Vec<Step>) {
    for LimitRule { name, quota, .. } in integration.plan.limits.iter() {
        let found = format!("{name}: {} in {} s", quota.count, quota.window.as_secs());
        steps.push(step("limit", found, Some(policy.mark(integration.span))));
    }
    let found = credential::describe(integration.plan.credential.as_ref());
    steps.push(step("credential", found, Some(policy.mark(integration.span))));
}

/// The explanation for a terminal.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.allowed, &self.code) {
            (true, None) => "allowed".to_owned(),
            (true, Some(code)) => format!("allowed in shadow, enforcing would refuse it: {code}"),
            (false, code) => format!("refused: {}", code.unwrap_or_default()),
        };
        f.write_str(&verdict)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n  {detail}")?;
        }
        for step in &self.steps {
            write!(f, "\n  {:<12}{}", step.step, step.found)?;
            if let Some(at) = &step.at {
                write!(f, "  [{at}]")?;
            }
        }
        if let Some(change) = &self.change {
            f.write_char('\n')?;
            write!(f, "  to allow it: {}", change.say)?;
        }
        Ok(())
    }
}

/// A question that is parsed once and asked often: what `explain` asks, for benchmarks and differential tests.
#[derive(Debug, Clone)]
pub struct Probe {
    tenant: TenantId,
    agent: AgentId,
    request: Request,
    selection: Selection,
}

impl Probe {
    /// Parses the question.
    ///
    /// # Errors
    /// When a word of it is none.
    pub fn new(tenant: &str, agent: &str, request: &str) -> Result<Self, String> {
        Ok(Self {
            tenant: TenantId::parse(tenant).map_err(|bad| bad.to_string())?,
            agent: AgentId::parse(agent).map_err(|bad| bad.to_string())?,
            request: Request::read(request)?,
            selection: Selection::default(),
        })
    }

    /// Whether the policy allows it.
    pub fn allowed(&self, policy: &Policy) -> bool {
        let question = Question {
            tenant: &self.tenant,
            agent: &self.agent,
            user: None,
            ask: self.request.ask,
            method: self.request.method,
            target: &self.request.target,
            seen: &self.request.seen,
            selection: &self.selection,
            token: None,
            at: None,
        };
        policy.judge(&question).permit().is_ok()
    }
}

#[cfg(test)]
mod tests;
