//! `egret explain`: why a request would be allowed or refused, step by step, without a token.

use std::{fmt, fmt::Write as _, time::SystemTime};

use serde::Serialize;

use crate::{
    context::{AgentId, IntegrationId, Selection, TenantId, Tier, UserId},
    decide::{
        files::source::Mark,
        judge::{Judgement, Question},
        parts::{
            act::{self, Act, Seen},
            credential,
            guard::Effect,
            promise::Request,
            tenant::{Integration, Tenant},
        },
        policy::Policy,
    },
    plan::LimitRule,
    refusal::Reason,
};

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
    pub change: Option<String>,
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

/// Explains what the policy decides.
///
/// # Errors
/// When a word of the inquiry is none: a message that says which.
pub fn explain(policy: &Policy, inquiry: &Inquiry<'_>) -> Result<Explanation, String> {
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
    let judgement = policy.judge(&question);
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
    let refused = judgement.permit().err().or(judgement.objection());
    Ok(Explanation {
        allowed: judgement.permit().is_ok(),
        enforced: judgement.enforced(),
        approval: judgement.permit().is_ok_and(|permit| permit.approval.is_some()),
        code: refused.map(|reason| reason.facts().code),
        detail: refused.map(Reason::detail),
        change: refused.map(|reason| change(policy, &question, &judgement, reason)),
        steps,
    })
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
        attach(policy, integration, steps);
        let (scheme, authority) = &permit.upstream;
        let found = format!("{}://{authority}", scheme.as_str());
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

/// The smallest change that would allow what is refused.
fn change(policy: &Policy, question: &Question<'_>, judgement: &Judgement<'_>, reason: &Reason) -> String {
    let (tenant, agent) = (question.tenant, question.agent);
    let integration = judgement.integration().map_or("INTEGRATION", |i| i.id.as_str());
    let service = judgement.integration().map_or("SERVICE", |i| i.service.plan.id.as_str());
    let found = policy.tenant_or_disabled(tenant);
    match reason {
        Reason::TenantUnknown if found.is_some() => format!("take `disabled` from tenants.{tenant}"),
        Reason::TenantUnknown => format!("add `{tenant}` to `tenants`"),
        Reason::AgentUnknown if found.and_then(|t: &Tenant| t.agent(agent)).is_some_and(|a| a.disabled) => {
            format!("take `disabled` from tenants.{tenant}.agents.{agent}")
        }
        Reason::AgentUnknown => {
            format!("add `{agent}: {{{integration}: ROLE}}` to tenants.{tenant}.agents")
        }
        Reason::DestinationNotAllowed { .. } if question.selection.integration.is_some() => {
            format!("name an integration of {tenant} that covers {}", question.target.authority)
        }
        Reason::DestinationNotAllowed { port: true, .. } => {
            format!("add `{}` to the service's `hosts`", question.target.authority)
        }
        Reason::DestinationNotAllowed { host, .. } => {
            format!("add an integration to tenants.{tenant} whose service has the host `{host}`")
        }
        Reason::ActionDenied { needed_role: Some(role), .. } => {
            format!("write `{integration}: {role}` in tenants.{tenant}.agents.{agent}")
        }
        Reason::ActionDenied { .. } => match judgement.guards().last() {
            Some(guard) if guard.when.is_some() => {
                format!("{} takes it away while its `when` holds, or cannot be told", guard.label)
            }
            Some(guard) => format!("{} takes it away from everybody", guard.label),
            None => format!("add `{}` to a role of services.{service}", line_for(question)),
        },
        Reason::IntegrationAmbiguous { candidates } => {
            let names: Vec<_> = candidates.iter().map(|c| format!("`{c}`")).collect();
            format!("choose one with `X-Agent-Integration`: {}", names.join(", "))
        }
        Reason::UserMissing => "use a token that names a user".to_owned(),
        other => other.detail(),
    }
}

/// The line of a role that would allow a question.
fn line_for(question: &Question<'_>) -> String {
    match question.seen {
        Seen::Mcp(body) => body.items().first().map_or_else(String::new, |item| Act::from(item).to_string()),
        Seen::GraphQl(operations) => {
            act::fields(operations).next().map_or_else(String::new, |act| act.to_string())
        }
        Seen::Nothing | Seen::Unclear(_) => {
            format!("{} {}", question.method.as_str(), question.target.path)
        }
    }
}

/// The explanation for a terminal.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.allowed, &self.code) {
            (true, None) if self.approval => "allowed, once a human agrees".to_owned(),
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
            write!(f, "  to allow it: {change}")?;
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
