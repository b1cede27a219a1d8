//! A tenant: its integrations, where they reach, and who may use them as what.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use super::{
    credential::{self, Around, Credential},
    host::{HostName, HostPattern},
    provider::Providers,
    quota,
    role::Role,
    service::Service,
    shape,
};
use crate::{
    context::{AgentId, IntegrationId, TenantId},
    decide::{
        catalog,
        files::{
            problem::Findings,
            reader::{self, Fields, list, short},
            source::Span,
            yaml::{Key, Node, Value},
        },
        judge::Mode,
    },
    plan::{LimitRule, Plan},
    target::{Authority, Host},
};

/// One tenant, ready to be asked. Nothing outside it can be named from inside it.
#[derive(Debug)]
pub(in crate::decide) struct Tenant {
    pub(in crate::decide) disabled: bool,
    /// Whether its refusals are enforced; as the policy says, where it does not say.
    pub(in crate::decide) mode: Option<Mode>,
    pub(in crate::decide) integrations: Vec<Integration>,
    by_name: HashMap<String, usize>,
    exact: HashMap<Host, Vec<Reach>>,
    below: HashMap<Arc<str>, Vec<Reach>>,
    agents: HashMap<AgentId, Agent>,
    everyone: Option<Agent>,
    pub(in crate::decide) span: Span,
}

/// A tenant's connection to a service.
#[derive(Debug)]
pub(in crate::decide) struct Integration {
    pub(in crate::decide) id: IntegrationId,
    pub(in crate::decide) service: Arc<Service>,
    /// The service's own, or what its variables make for this integration: the only places that its credential
    /// goes to.
    hosts: Arc<[HostPattern]>,
    pub(in crate::decide) plan: Arc<Plan>,
    pub(in crate::decide) tier: TierKind,
    pub(in crate::decide) disabled: bool,
    pub(in crate::decide) span: Span,
}

/// Whose credential an integration uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum TierKind {
    App,
    User,
}

impl TierKind {
    pub(in crate::decide) fn as_str(self) -> &'static str {
        match self {
            Self::App => "APP",
            Self::User => "USER",
        }
    }
}

/// That an integration covers a host.
#[derive(Debug, Clone, Copy)]
struct Reach {
    integration: usize,
    port: Option<u16>,
}

/// An agent's roles, those of `*` included.
#[derive(Debug)]
pub(in crate::decide) struct Agent {
    pub(in crate::decide) disabled: bool,
    /// In the order of the integrations' numbers.
    grants: Vec<Grant>,
    pub(in crate::decide) span: Span,
}

/// An agent's role on an integration.
#[derive(Debug, Clone)]
pub(in crate::decide) struct Grant {
    integration: usize,
    pub(in crate::decide) role: Arc<Role>,
    /// `tenants.t_acme.agents.triage-bot.github-acme`.
    pub(in crate::decide) label: Arc<str>,
    pub(in crate::decide) span: Span,
}

impl Integration {
    /// The hosts that it reaches.
    pub(in crate::decide) fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }
}

impl Agent {
    /// Its roles, with the numbers of the integrations that it has them on.
    pub(in crate::decide) fn grants(&self) -> impl Iterator<Item = (usize, &Grant)> {
        self.grants.iter().map(|grant| (grant.integration, grant))
    }

    pub(in crate::decide) fn grant(&self, integration: &Covering<'_>) -> Option<&Grant> {
        let index = self.grants.binary_search_by_key(&integration.number, |grant| grant.integration).ok()?;
        self.grants.get(index)
    }
}

/// An integration that covers a destination.
#[derive(Debug, Clone, Copy)]
pub(in crate::decide) struct Covering<'t> {
    number: usize,
    pub(in crate::decide) integration: &'t Integration,
    /// The port towards the upstream.
    pub(in crate::decide) port: u16,
}

impl Tenant {
    /// The agent, by its own entry or by `*`.
    pub(in crate::decide) fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id).or(self.everyone.as_ref())
    }

    /// The agents that are listed, `*` last and without a name.
    pub(in crate::decide) fn agents(&self) -> impl Iterator<Item = (Option<&AgentId>, &Agent)> {
        let named = self.agents.iter().map(|(id, agent)| (Some(id), agent));
        named.chain(self.everyone.iter().map(|agent| (None, agent)))
    }

    /// All roles that agents have, with the integrations that they have them on.
    pub(in crate::decide) fn grants(&self) -> impl Iterator<Item = (&Integration, &Grant)> {
        let grants = self.agents.values().chain(&self.everyone).flat_map(|agent| &agent.grants);
        grants.filter_map(|grant| Some((self.integrations.get(grant.integration)?, grant)))
    }

    /// The integrations, also disabled ones, that cover a destination: those that name the host exactly, and
    /// only where there are none, those that cover it with `*.`.
    pub(in crate::decide) fn covering<'t>(
        &'t self,
        to: &Authority,
    ) -> impl Iterator<Item = Covering<'t>> + Clone {
        let port = to.port;
        let on_port = move |reach: &&Reach| reach.port.map_or(matches!(port, 80 | 443), |own| own == port);
        let exact = self.exact.get(&to.host).map(Vec::as_slice).unwrap_or_default();
        let reaches = if exact.iter().any(|reach| on_port(&reach)) { exact } else { self.below(&to.host) };
        reaches.iter().filter(on_port).filter_map(move |reach| {
            let integration = self.integrations.get(reach.integration)?;
            let port = reach.port.unwrap_or_else(|| integration.service.plan.scheme.default_port());
            Some(Covering { number: reach.integration, integration, port })
        })
    }

    /// Whether the host is covered on any port.
    pub(in crate::decide) fn knows(&self, host: &Host) -> bool {
        let enabled = |reach: &Reach| self.integrations.get(reach.integration).is_some_and(|i| !i.disabled);
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        exact.iter().chain(self.below(host)).any(enabled)
    }

    /// `*` stands for exactly one label, so only one parent can match.
    fn below(&self, host: &Host) -> &[Reach] {
        let parent = host.name().and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        parent.and_then(|parent| self.below.get(parent)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The integration of this name.
    pub(in crate::decide) fn integration(&self, name: &str) -> Option<&Integration> {
        self.integrations.get(*self.by_name.get(name)?)
    }

    /// Where a request to an integration goes that names no host: its first exact host.
    pub(in crate::decide) fn first_host(integration: &Integration) -> Option<Authority> {
        integration.hosts.iter().find_map(|pattern| match &pattern.name {
            HostName::Exact(host) => {
                let default = integration.service.plan.scheme.default_port();
                let port = pattern.port.unwrap_or(default);
                Some(Authority { host: host.clone(), port })
            }
            HostName::Below(_) => None,
        })
    }
}

/// What a tenant may refer to.
pub(in crate::decide) struct Known<'k> {
    pub(in crate::decide) services: &'k HashMap<String, Arc<Service>>,
    /// Services that exist but have problems of their own: a reference to them is no second problem.
    pub(in crate::decide) broken: &'k HashSet<String>,
    pub(in crate::decide) providers: &'k Providers,
    /// Where relative `file:` references start.
    pub(in crate::decide) base: &'k Path,
    /// Whether all files could be read; a name that is missing may stand in one that could not.
    pub(in crate::decide) complete: bool,
}

/// Reads a tenant.
pub(in crate::decide) fn read(
    key: &Key,
    node: &Node,
    known: &Known<'_>,
    findings: &mut Findings,
) -> Option<(TenantId, Tenant)> {
    let id = reader::identifier(key, TenantId::parse, findings);
    let fields = Fields::read(node, "a tenant", shape::TENANT.keys, findings)?;
    let mode = fields.get("mode").and_then(|n| reader::word(n, "`mode`", &Mode::WORDS, findings));
    let disabled =
        fields.get("disabled").and_then(|n| reader::flag(n, "`disabled`", findings)).unwrap_or(false);
    let limits = fields.get("limit").map(|node| quota::of_tenant(node, findings)).unwrap_or_default();
    let mut draft = Draft { tenant: &key.text, limits, ..Draft::default() };
    let entries = fields.get("integrations").and_then(|n| reader::mapping(n, "`integrations`", findings));
    for (name, node) in entries.unwrap_or_default() {
        match draft.integration(name, node, known, findings) {
            Some(integration) => {
                draft.by_name.insert(name.text.clone(), draft.integrations.len());
                draft.integrations.push(integration);
            }
            None => {
                draft.broken.insert(name.text.clone());
            }
        }
    }
    let (mut agents, mut everyone) = (HashMap::new(), None);
    let entries = fields.get("agents").and_then(|n| reader::mapping(n, "`agents`", findings));
    for (name, node) in entries.unwrap_or_default() {
        let agent = draft.agent(name, node, findings);
        if name.text == "*" {
            everyone = agent;
        } else if let (Some(id), Some(agent)) = (reader::identifier(name, AgentId::parse, findings), agent) {
            agents.insert(id, agent);
        }
    }
    for agent in agents.values_mut() {
        inherit(agent, everyone.as_ref());
    }
    for agent in agents.values_mut().chain(&mut everyone) {
        agent.grants.sort_by_key(|grant| grant.integration);
    }
    let (exact, below) = index(&draft.integrations);
    let Draft { integrations, by_name, .. } = draft;
    let tenant =
        Tenant { disabled, mode, integrations, by_name, exact, below, agents, everyone, span: key.span };
    Some((id?, tenant))
}

/// A tenant while it is read.
#[derive(Default)]
struct Draft<'n> {
    tenant: &'n str,
    limits: Vec<LimitRule>,
    integrations: Vec<Integration>,
    by_name: HashMap<String, usize>,
    /// Integrations that exist but have problems of their own: a grant on them is no second problem.
    broken: HashSet<String>,
}

impl Draft<'_> {
    fn integration(
        &self,
        name: &Key,
        node: &Node,
        known: &Known<'_>,
        findings: &mut Findings,
    ) -> Option<Integration> {
        if name.text == "disabled" {
            findings.report(name.span, "an integration cannot be called `disabled`: agents use that word");
        }
        let id = reader::identifier(name, IntegrationId::parse, findings);
        let fields = Fields::read(node, "an integration", shape::INTEGRATION.keys, findings)?;
        let tiers = [("APP", TierKind::App), ("USER", TierKind::User)];
        let tier = fields.get("tier").map(|n| reader::word(n, "`tier`", &tiers, findings));
        let disabled = fields.get("disabled").and_then(|n| reader::flag(n, "`disabled`", findings));
        let mut limits: Vec<LimitRule> =
            fields.get("limit").map(|n| quota::of_integration(n, &name.text, findings)).unwrap_or_default();
        limits.extend(self.limits.iter().cloned());
        let service = match fields.get("service") {
            Some(node) => {
                let text = reader::text(node, "`service`", findings)?;
                find_service(text, node.span, known, findings)
            }
            None => find_service(&name.text, name.span, known, findings),
        };
        let around = Around {
            base: known.base,
            service: service.as_ref().map(|service| (service.plan.id.as_str(), service.attach.as_ref())),
            token_places: service.as_ref().and_then(|service| service.token_places.as_ref()),
            providers: known.providers,
            vars: fields.get("vars"),
        };
        let vars = fields.get("vars");
        let certificate = fields.get("certificate").map(|n| {
            if service.as_ref().is_some_and(|service| service.is_opaque()) {
                let problem = "egret shows no certificate in a tunnel that is not intercepted";
                findings.report(n.span, problem).hint("remove it: the client's own handshake goes through");
            }
            credential::read_certificate(n, around, findings).map(Box::new)
        });
        let hosts = service.as_ref().map(|service| service.hosts.bind(name.span, vars, findings));
        let credential = fields.get("credential").map(|n| credential::read(n, around, findings));
        let credential = match (credential, &service) {
            (Some(credential), Some(service)) => {
                if service.is_opaque() && matches!(credential, Some(Credential::Attached(_))) {
                    findings
                        .report(name.span, "nothing can be attached in a tunnel that is not intercepted")
                        .hint("write `credential: none`");
                }
                credential
            }
            (Some(credential), None) => credential,
            (None, Some(service)) if service.is_opaque() => Some(Credential::None),
            (None, _) => {
                let hint = match service.as_ref().and_then(|service| service.attach.as_ref()) {
                    Some(_) => {
                        "write `credential: REF`, such as `credential: \"env:NAME\"`, or `credential: none`"
                    }
                    None => "write `credential: none` where the service needs none",
                };
                findings
                    .report(name.span, format!("the integration `{}` has no `credential`", short(&name.text)))
                    .hint(hint);
                None
            }
        };
        let (id, service, hosts) = (id?, service?, hosts??);
        let credential = match credential? {
            Credential::None => None,
            Credential::Attached(spec) => Some(spec),
        };
        let plan = Plan {
            integration_id: id.clone(),
            service: service.plan.clone(),
            credential,
            certificate: certificate.map_or(Some(None), |certificate| certificate.map(Some))?,
            limits: limits.into(),
        };
        Some(Integration {
            id,
            service,
            hosts,
            plan: Arc::new(plan),
            tier: tier.unwrap_or(Some(TierKind::App))?,
            disabled: disabled.unwrap_or(false),
            span: name.span,
        })
    }

    fn agent(&self, name: &Key, node: &Node, findings: &mut Findings) -> Option<Agent> {
        let mut agent = Agent { disabled: false, grants: Vec::new(), span: name.span };
        for (key, value) in reader::mapping(node, "an agent", findings)? {
            if key.text == "disabled" {
                agent.disabled = reader::flag(value, "`disabled`", findings).unwrap_or(true);
                continue;
            }
            if let Some(grant) = self.grant(&name.text, key, value, findings) {
                agent.grants.push(grant);
            }
        }
        Some(agent)
    }

    fn grant(&self, agent: &str, key: &Key, value: &Node, findings: &mut Findings) -> Option<Grant> {
        let Some(number) = self.by_name.get(&key.text).copied() else {
            if !self.broken.contains(&key.text) {
                findings
                    .report(key.span, format!("integration `{}` is not in this tenant", short(&key.text)));
                let names = self.integrations.iter().map(|i| i.id.as_str());
                match findings.closest(&key.text, names.clone()) {
                    Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
                    None if names.len() == 0 => findings.hint("the tenant has no integrations"),
                    None => findings.hint(format!("this tenant has {}", list(names.take(12)))),
                };
            }
            return None;
        };
        let service = &self.integrations.get(number)?.service;
        let Value::Text(role) = &value.value else {
            reader::hide(value, findings);
            findings.report(value.span, "the name of a role is expected here");
            return None;
        };
        let Some(role) = service.role(role) else {
            findings.report(value.span, format!("`{}` has no role `{}`", service.plan.id, short(role)));
            let names = service.roles.iter().map(|role| role.id.as_str());
            match findings.closest(role, names.clone()) {
                Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
                None => findings.hint(format!("its roles are {}", list(names.take(12)))),
            };
            return None;
        };
        let label = format!("tenants.{}.agents.{agent}.{}", self.tenant, key.text).into();
        Some(Grant { integration: number, role: role.clone(), label, span: value.span })
    }
}

fn find_service(name: &str, span: Span, known: &Known<'_>, findings: &mut Findings) -> Option<Arc<Service>> {
    if let Some(service) = known.services.get(name) {
        return Some(service.clone());
    }
    if known.complete && !known.broken.contains(name) {
        findings.report(span, format!("there is no service `{}`", short(name)));
        match findings.closest(name, known.services.keys().map(String::as_str).chain(catalog::names())) {
            Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
            None => findings.hint("describe it under `services`, or name one with `service:`"),
        };
    }
    None
}

/// An agent has the roles of `*`, too, but its own role on an integration wins.
fn inherit(agent: &mut Agent, everyone: Option<&Agent>) {
    for grant in everyone.map(|everyone| everyone.grants.as_slice()).unwrap_or_default() {
        if !agent.grants.iter().any(|own| own.integration == grant.integration) {
            agent.grants.push(grant.clone());
        }
    }
}

type Hosts = (HashMap<Host, Vec<Reach>>, HashMap<Arc<str>, Vec<Reach>>);

fn index(integrations: &[Integration]) -> Hosts {
    let (mut exact, mut below): Hosts = (HashMap::new(), HashMap::new());
    for (number, integration) in integrations.iter().enumerate() {
        for pattern in integration.hosts.iter() {
            let reach = Reach { integration: number, port: pattern.port };
            match &pattern.name {
                HostName::Exact(host) => exact.entry(host.clone()).or_default().push(reach),
                HostName::Below(parent) => below.entry(parent.clone()).or_default().push(reach),
            }
        }
    }
    (exact, below)
}
