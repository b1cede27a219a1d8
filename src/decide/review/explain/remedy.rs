//! The smallest change that would allow what is refused: found step by step, and each step judged again.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    asked,
    document::{self, Document, Edit, Op},
};
use crate::{
    context::{IntegrationId, Selection},
    decide::{
        catalog::{self, Catalogue},
        files::{outline::Outline, yaml},
        judge::{Ask, Judgement, Question, push},
        parts::{
            act::{self, Act, Seen},
            guard::Effect,
            host::{HostName, HostPattern, Hosts},
            pattern::{Glob, Pattern},
            protocol::Protocol,
            role::Role,
            service::Service,
            tenant::Integration,
        },
        policy::Policy,
    },
    refusal::Reason,
    target::{Host, Method, Path, Scheme},
};

/// Steps that are gone at most.
const MOST_STEPS: usize = 12;

/// What would allow a refused request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// In words.
    pub say: String,
    /// The same for machines: a JSON Patch (RFC 6902) of the policy. Empty where no change of the policy alone allows
    /// the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patch: Vec<Edit>,
}

/// One step towards it.
enum Step {
    /// A change of the policy.
    Change(Vec<Edit>, String),
    /// It is the request that has to change.
    Client(String),
    /// Nothing allows it.
    Never(String),
}

/// Finds it.
pub(super) fn find(policy: &Policy, outline: &Outline, question: &Question<'_>) -> Remedy {
    let elsewhere = |say: String| Remedy { say, patch: Vec::new() };
    // What no server's message can be is not asked of any policy.
    let read = match asked::message(question.seen) {
        Ok(read) => read,
        Err(reason) => return elsewhere(never(&reason.detail())),
    };
    let question = &Question { seen: read.as_ref().unwrap_or(question.seen), ..*question };
    let mut document = Document::of(outline);
    let (mut patch, mut said): (Vec<Edit>, Vec<String>) = (Vec::new(), Vec::new());
    let mut changed: Option<Policy> = None;
    for _ in 0..MOST_STEPS {
        let step = {
            let policy = changed.as_ref().unwrap_or(policy);
            let seen = match asked::seen(policy, question) {
                Ok(seen) => seen,
                Err(reason) => return elsewhere(never(&reason.detail())),
            };
            let asked = Question { seen: seen.as_deref().unwrap_or(question.seen), ..*question };
            let judgement = policy.judge_strictly(&asked);
            match judgement.permit() {
                Ok(_) if patch.is_empty() => return elsewhere("the policy allows it".to_owned()),
                Ok(_) => {
                    if !document.keeps_its_promises() {
                        said.push("change the line of `tests` that promises otherwise".to_owned());
                    }
                    return Remedy { say: said.join(", "), patch };
                }
                Err(reason) => {
                    Search { policy, document: &mut document, question: &asked }.step(&judgement, reason)
                }
            }
        };
        match step {
            Step::Never(say) => return elsewhere(say),
            Step::Client(say) => {
                said.push(say);
                return elsewhere(said.join(", and "));
            }
            Step::Change(edits, sentence) => {
                for edit in edits {
                    patch.push(located(edit, policy, outline, &patch));
                }
                said.push(sentence);
            }
        }
        changed = document.compile();
        if changed.is_none() {
            break;
        }
    }
    elsewhere("no small change of the policy allows it".to_owned())
}

/// With the nearest place in the files. Of guards that are taken away one after the other, later ones move up.
fn located(edit: Edit, policy: &Policy, outline: &Outline, before: &[Edit]) -> Edit {
    let keys: Vec<String> =
        edit.path.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let gone =
        before.iter().filter(|edit| edit.op == Op::Remove && edit.path.starts_with("/guards/")).count();
    let moved =
        keys.get(1).and_then(|index| index.parse::<usize>().ok()).map(|index| (index + gone).to_string());
    if let (Some("guards"), Some(moved), Some(index)) = (keys.first().copied(), &moved, keys.get_mut(1)) {
        *index = moved;
    }
    let at = document::place(outline, &keys).map(|span| policy.mark(span));
    Edit { at, ..edit }
}

fn never(why: &str) -> String {
    format!("no change of the policy allows it: {why}")
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::read);

/// Whether a new integration comes with a role on it: where the agent has one on another, that one would be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grants {
    Too,
    Later,
}

struct Search<'s, 'q> {
    policy: &'s Policy,
    document: &'s mut Document,
    question: &'s Question<'q>,
}

impl Search<'_, '_> {
    fn step(&mut self, judgement: &Judgement<'_>, reason: &Reason) -> Step {
        let (tenant, agent) = (self.question.tenant.as_str(), self.question.agent.as_str());
        match reason {
            Reason::TenantUnknown if self.document.has(&["tenants", tenant]) => {
                let edit = self.document.remove(&["tenants", tenant, "disabled"]);
                change(edit, format!("take `disabled` from tenants.{tenant}"))
            }
            Reason::TenantUnknown => {
                let edit = self.document.set(&["tenants", tenant], json!({}));
                change(edit, format!("add `{tenant}` to `tenants`"))
            }
            Reason::AgentUnknown if self.document.has(&["tenants", tenant, "agents", agent]) => {
                let edit = self.document.remove(&["tenants", tenant, "agents", agent, "disabled"]);
                change(edit, format!("take `disabled` from tenants.{tenant}.agents.{agent}"))
            }
            // An entry of its own, also where that of `*` is switched off.
            Reason::AgentUnknown => {
                let edit = self.document.set(&["tenants", tenant, "agents", agent], json!({}));
                change(edit, format!("add `{agent}` to tenants.{tenant}.agents"))
            }
            Reason::DestinationNotAllowed { .. } => self.reach(),
            Reason::ActionDenied { needed_role: Some(role), .. } => {
                let Some(integration) = judgement.integration() else { return unknown() };
                let id = integration.id.as_str();
                let edit = self.document.set(&["tenants", tenant, "agents", agent, id], json!(role));
                change(edit, format!("write `{id}: {role}` in tenants.{tenant}.agents.{agent}"))
            }
            Reason::ActionDenied { .. } => {
                let denies =
                    judgement.guards().last().filter(|g| !g.shadow && matches!(g.effect, Effect::Deny(_)));
                match (denies, judgement.integration()) {
                    (Some(guard), _) => self.without_guard(&guard.label, guard.when.is_some()),
                    (None, Some(integration)) => {
                        let role = judgement.grant().map(|grant| &grant.role);
                        self.line(integration, role.or_else(|| integration.service.roles.first()))
                    }
                    (None, None) => unknown(),
                }
            }
            Reason::IntegrationAmbiguous { candidates } => self.choice(candidates),
            Reason::UserMissing => Step::Client("use a token that names a user".to_owned()),
            other => Step::Never(never(&other.detail())),
        }
    }

    fn without_guard(&mut self, label: &str, conditional: bool) -> Step {
        let index = label.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_end_matches(']');
        let edit = self.document.remove(&["guards", index]);
        let why = if conditional {
            "or change its `when`: it holds while that is true, or cannot be told"
        } else {
            "it denies this to everybody"
        };
        let mark = if conditional { "," } else { ":" };
        change(edit, format!("take {label} away{mark} {why}"))
    }

    /// Of several integrations the client chooses one.
    fn choice(&self, candidates: &[IntegrationId]) -> Step {
        let allows = |candidate: &&IntegrationId| {
            let selection = Selection { integration: Some((*candidate).clone()), tier: None };
            let asked = Question { selection: &selection, ..*self.question };
            self.policy.judge_strictly(&asked).permit().is_ok()
        };
        let good: Vec<&IntegrationId> = candidates.iter().filter(allows).collect();
        let listed = |names: &[&IntegrationId]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        Step::Client(if good.is_empty() {
            let all: Vec<&IntegrationId> = candidates.iter().collect();
            format!("choose one with `X-Agent-Integration`, and ask again: {} refuse this, too", listed(&all))
        } else {
            format!("choose one with `X-Agent-Integration`: {}", listed(&good))
        })
    }

    /// The destination is covered by no integration that is there and switched on.
    fn reach(&mut self) -> Step {
        let question = self.question;
        let tenant = question.tenant.as_str();
        let to = &question.target.authority;
        let wanted = question.selection.integration.as_ref();
        let Some(found) = self.policy.tenant(question.tenant) else { return unknown() };
        let is_wanted = |integration: &Integration| wanted.is_none_or(|wanted| integration.id == *wanted);
        if let Some(off) = found.covering(to).find(|c| c.integration.disabled && is_wanted(c.integration)) {
            let id = off.integration.id.as_str();
            let edit = self.document.remove(&["tenants", tenant, "integrations", id, "disabled"]);
            return change(edit, format!("take `disabled` from tenants.{tenant}.integrations.{id}"));
        }
        if let Some(wanted) = wanted {
            let others: Vec<String> = found
                .covering(to)
                .filter(|c| !c.integration.disabled)
                .map(|c| format!("`{}`", c.integration.id))
                .collect();
            if !others.is_empty() {
                return Step::Client(format!(
                    "choose another one with `X-Agent-Integration`: {}",
                    others.join(", ")
                ));
            }
            if found.integration(wanted.as_str()).is_some() {
                return Step::Client(format!(
                    "choose another integration than `{wanted}`, which does not cover {to}"
                ));
            }
        }
        let names_host = |integration: &&Integration| {
            let exact =
                |pattern: &HostPattern| matches!(&pattern.name, HostName::Exact(host) if *host == to.host);
            integration.hosts().iter().any(exact)
                && !integration.disabled
                && matches!(integration.service.protocol, Protocol::Http(_))
                && !integration.service.is_opaque()
        };
        let speaks_http = !matches!(question.seen, Seen::Mcp(_)) && wanted.is_none();
        let known = found.integrations.iter().find(names_host).filter(|_| speaks_http);
        if let Some(service) = known.map(|integration| integration.service.plan.id.as_str())
            && self.document.has(&["services", service])
        {
            let edit = self.document.set(&["services", service, "hosts", "-"], json!(to.to_string()));
            return change(edit, format!("add `{to}` to services.{service}.hosts"));
        }
        self.connect(Grants::Later)
    }

    /// A new integration, with a service that is known or with one of its own.
    fn connect(&mut self, grants: Grants) -> Step {
        let question = self.question;
        let tenant = question.tenant.as_str();
        let wanted = question.selection.integration.as_ref().map(IntegrationId::as_str);
        if let Some(wanted) =
            wanted.filter(|wanted| self.document.has(&["tenants", tenant, "integrations", wanted]))
        {
            return Step::Client(format!(
                "choose another integration than `{wanted}`, which does not cover this"
            ));
        }
        let (mut edits, mut said, mut role) = (Vec::new(), String::new(), None);
        let service = if let Some(known) = self.known_service() {
            let service = self.policy.services().find(|(name, _)| *name == known);
            role = service
                .and_then(|(_, service)| service.roles.first())
                .map(|role| role.id.as_str().to_owned());
            known
        } else {
            role.replace("caller".to_owned());
            let value = match self.own_service() {
                Ok(value) => value,
                Err(why) => return Step::Never(never(why)),
            };
            let name = self.free(&["services"]);
            let host = &question.target.authority;
            said = format!("describe {host} as services.{name}, ");
            edits.push(self.document.set(&["services", &name], value));
            name
        };
        let name = wanted.map_or_else(|| self.free(&["tenants", tenant, "integrations"]), ToOwned::to_owned);
        let value = json!({ "service": service, "credential": "none" });
        edits.push(self.document.set(&["tenants", tenant, "integrations", &name], value));
        said = format!(
            "{said}add the integration `{name}` with `service: {service}` and its credential to tenants.{tenant}"
        );
        if let Some(role) = role.filter(|_| grants == Grants::Too) {
            let agent = self.question.agent.as_str();
            edits.push(self.document.set(&["tenants", tenant, "agents", agent, &name], json!(role)));
            said = format!("{said}, write `{name}: {role}` in tenants.{tenant}.agents.{agent}");
        }
        Step::Change(edits, said)
    }

    /// A service of the policy or of the catalogue at this place, without variables.
    fn known_service(&self) -> Option<String> {
        let question = self.question;
        let to = &question.target.authority;
        let at = |pattern: &HostPattern| {
            let port = pattern.port.map_or(matches!(to.port, 80 | 443), |port| port == to.port);
            port && matches!(&pattern.name, HostName::Exact(host) if *host == to.host)
        };
        let fits = |service: &Service| match &service.protocol {
            Protocol::Mcp(_) => service.is_at(&question.target.path),
            Protocol::Http(_) => {
                !matches!(question.seen, Seen::Mcp(_))
                    && (question.ask == Ask::Tunnel || !service.is_opaque())
            }
        };
        let own = self.policy.services().find(|(name, service)| {
            let covers = matches!(&service.hosts, Hosts::Fixed(patterns) if patterns.iter().any(at));
            covers && fits(service) && self.document.has(&["services", name])
        });
        if let Some((name, _)) = own {
            return Some(name.to_owned());
        }
        let endpoint = Some(&question.target.path).filter(|_| matches!(question.seen, Seen::Mcp(_)));
        let port = Some(to.port).filter(|port| !matches!(port, 80 | 443));
        let known = CATALOGUE.at(&to.host, port, endpoint)?;
        Some(known.as_str().to_owned()).filter(|name| !self.document.has(&["services", name]))
    }

    /// A service for this request and no other.
    fn own_service(&self) -> Result<Value, &'static str> {
        let question = self.question;
        let target = &question.target;
        let to = &target.authority;
        let host = if matches!(to.port, 80 | 443) { to.host.to_string() } else { to.to_string() };
        Ok(match question.seen {
            _ if question.ask == Ask::Tunnel => {
                json!({ "hosts": [host], "intercept": "never", "roles": { "caller": ["connect"] } })
            }
            Seen::Mcp(body) => {
                if target.path.as_str().contains('*') {
                    return Err("the path of an MCP server has no `*`");
                }
                let scheme = if to.port == 443 { Scheme::Https } else { target.scheme };
                let lines: Vec<String> =
                    body.items().iter().filter_map(|item| named(&Act::from(item))).collect();
                let url = format!("{}://{host}{}", scheme.as_str(), target.path);
                json!({ "mcp": url, "roles": { "caller": lines } })
            }
            Seen::GraphQl(fields) => {
                let lines: Vec<String> = act::fields(fields).map(|act| act.to_string()).collect();
                json!({ "hosts": [host], "graphql": pattern(&target.path), "roles": { "caller": lines } })
            }
            Seen::Nothing | Seen::Unclear(_) => {
                json!({ "hosts": [host], "roles": { "caller": [http(question.method.as_str(), &target.path)] } })
            }
        })
    }

    /// A name that nobody has yet, from the host.
    fn free(&self, around: &[&str]) -> String {
        let host = match &self.question.target.authority.host {
            Host::Name(name) => name.to_string(),
            Host::Address(_) => "host".to_owned(),
        };
        let stem: String =
            host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(56).collect();
        let stem = stem.trim_matches('-');
        let stem = if stem.is_empty() || stem == "disabled" { "host" } else { stem };
        let taken = |name: &str| self.document.has(&[around, &[name]].concat()) || catalog::knows(name);
        let numbered = (2..100).map(|number| format!("{stem}-{number}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    /// No role of the service covers it: a role has to have a line more.
    fn line(&mut self, integration: &Integration, role: Option<&std::sync::Arc<Role>>) -> Step {
        let question = self.question;
        let service = &*integration.service;
        let id = service.plan.id.as_str();
        let Some(role) = role else { return unknown() };
        if let (Protocol::Mcp(endpoint), path) = (&service.protocol, &question.target.path)
            && !endpoint.takes(question.method, path)
        {
            if service.is_at(path) {
                return Step::Never(never(
                    "at an MCP server's endpoint, a role grants messages and nothing else",
                ));
            }
            return self.connect(Grants::Too);
        }
        let (at, lines) = match lines(question, service, role) {
            Ok(found) => found,
            Err(why) => return Step::Never(never(why)),
        };
        let mut edits = Vec::new();
        let mut said = String::new();
        if !self.document.has(&["services", id]) {
            let Some(value) = catalogued(service) else { return unknown() };
            edits.push(self.document.set(&["services", id], value));
            said = format!("copy services.{id} from `egret catalog {id}`, ");
        }
        if let Some(path) = at {
            edits.push(self.document.set(&["services", id, "graphql"], json!(path)));
            said = format!("{said}write `graphql: {path}` in services.{id}, ");
        }
        let role = role.id.as_str();
        for line in &lines {
            edits.push(self.document.set(&["services", id, "roles", role, "-"], json!(line)));
        }
        let shown: Vec<String> = lines.iter().map(|line| format!("`{line}`")).collect();
        Step::Change(edits, format!("{said}add {} to services.{id}.roles.{role}", shown.join(" and ")))
    }
}

/// The lines that a role lacks, and where the service's GraphQL is, where it has to say that first.
fn lines(
    question: &Question<'_>,
    service: &Service,
    role: &Role,
) -> Result<(Option<String>, Vec<String>), &'static str> {
    let path = &question.target.path;
    let lacks = |act: &Act<'_>| role.find(act).is_none();
    let found = match (&service.protocol, question.seen) {
        _ if question.ask == Ask::Tunnel => vec!["connect".to_owned()],
        _ if service.is_opaque() => {
            return Err(
                "its tunnels pass unopened, and a role grants `CONNECT HOST:PORT` and nothing inside",
            );
        }
        (Protocol::Mcp(_), Seen::Mcp(body)) => {
            let acts = body.items().iter().map(Act::from).filter(lacks);
            acts.map(|act| named(&act).ok_or("no line can hold this name")).collect::<Result<_, _>>()?
        }
        (Protocol::Mcp(_), _) if question.method == Method::Post => return Err(asked::SAYS_NOTHING),
        (Protocol::Mcp(_), _) => vec!["method ping".to_owned()],
        (Protocol::Http(place), Seen::GraphQl(fields)) => {
            if place.is_none() || service.is_graphql(question.method, path) {
                let acts = act::fields(fields).filter(lacks).map(|act| act.to_string()).collect();
                let elsewhere = place.is_none() && path.as_str() != "/graphql";
                return Ok((elsewhere.then(|| pattern(path)), acts));
            }
            vec![http(question.method.as_str(), path)]
        }
        (Protocol::Http(_), _) => {
            let push = push::announced(question.target);
            let asked = Act::Http(question.method, path);
            let mut found = Vec::new();
            if lacks(&asked) {
                found.push(http(question.method.as_str(), path));
            }
            if let Some(push) = push.filter(|push| lacks(&Act::Http(Method::Post, push))) {
                found.push(http("POST", &push));
            }
            found
        }
    };
    Ok((None, found))
}

/// The line for something of an MCP server.
fn named(act: &Act<'_>) -> Option<String> {
    let (line, name) = match act {
        Act::Named { kind, name, .. } => (format!("{} {name}", kind.as_str()), *name),
        Act::List { method, .. } => (format!("method {method}"), *method),
        _ => return Some("method ping".to_owned()),
    };
    Glob::parse(name).ok().map(|_| line)
}

/// The line for a method and a path.
fn http(method: &str, path: &Path) -> String {
    format!("{method} {}", pattern(path))
}

/// A pattern for a path: itself, but for what would mean many paths.
fn pattern(path: &Path) -> String {
    if Pattern::parse(path.as_str()).is_ok_and(|pattern| !pattern.rest) {
        return path.to_string();
    }
    path.segments().flat_map(|segment| ["/", if segment.contains("**") { "*" } else { segment }]).collect()
}

/// A service of the catalogue as it is written.
fn catalogued(service: &Service) -> Option<Value> {
    let (_, text) = catalog::file(service.span.file)?;
    yaml::parse(text, service.span.file).ok().map(|node| document::of_node(&node))
}

fn change(edit: Edit, say: String) -> Step {
    Step::Change(vec![edit], say)
}

fn unknown() -> Step {
    Step::Never("no small change of the policy allows it".to_owned())
}
