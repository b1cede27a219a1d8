//! Hosts that strangers share, and hosts that two services or two integrations have.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Code, Look, is_own};
use crate::decide::{
    files::{
        outline::{items, text},
        source::Span,
    },
    parts::{
        host::{HostForm, HostName, HostPattern, Hosts},
        protocol::Protocol,
        service::Service,
        tenant::{Agent, Integration, Tenant},
    },
};

pub(super) fn look(look: &mut Look<'_>) {
    let used: HashSet<*const Service> = (look.policy.tenants())
        .flat_map(|tenant| &tenant.integrations)
        .map(|integration| std::ptr::from_ref(&*integration.service))
        .collect();
    let counts =
        |service: &Arc<Service>| is_own(service.span) || used.contains(&std::ptr::from_ref(&**service));
    let mut services: Vec<(&str, &Arc<Service>)> =
        look.policy.services().filter(|(_, service)| counts(service)).collect();
    // Those of the catalogue first: what is said, is said of the policy's own.
    services.sort_by_key(|(_, service)| (is_own(service.span), service.span.file, service.span.start));
    for (name, service) in services.iter().filter(|(_, service)| is_own(service.span)) {
        public_suffixes(name, service, look);
    }
    overlapping(&services, look);
    for tenant in look.policy.tenants().filter(|tenant| !tenant.disabled) {
        for (_, agent) in tenant.agents().filter(|(_, agent)| !agent.disabled) {
            two_integrations(tenant, agent, look);
        }
    }
}

/// Where a host of a service stands.
fn place(name: &str, host: &HostPattern, service: &Service, look: &Look<'_>) -> Span {
    let hosts = look.outline.find(&["services", name, "hosts"]).map(items).unwrap_or_default();
    let shown = host_text(host);
    let spoken = |node: &&crate::decide::files::yaml::Node| {
        text(node).is_some_and(|text| text.to_ascii_lowercase().trim_end_matches('.').starts_with(&shown))
    };
    hosts.iter().find(spoken).map_or(service.span, |node| node.span)
}

fn host_text(host: &HostPattern) -> String {
    match &host.name {
        HostName::Exact(host) => host.to_string(),
        HostName::Below(parent) => format!("*.{parent}"),
    }
}

/// The hosts of a service that no integration has to fill in.
fn fixed(service: &Service) -> Vec<&HostPattern> {
    match &service.hosts {
        Hosts::Fixed(hosts) => hosts.iter().collect(),
        Hosts::Open(forms) => forms
            .iter()
            .filter_map(|form| match form {
                HostForm::Fixed(host) => Some(host),
                HostForm::Open(_) => None,
            })
            .collect(),
    }
}

fn public_suffixes(name: &str, service: &Service, look: &mut Look<'_>) {
    for host in fixed(service) {
        let HostName::Below(parent) = &host.name else { continue };
        let suffix = psl::suffix(parent.as_bytes());
        if suffix.is_some_and(|suffix| suffix.as_bytes() == parent.as_bytes()) {
            let at = place(name, host, service, look);
            look.report(
                Code::PublicSuffix,
                at,
                format!("strangers register names below `{parent}`: `*.{parent}` covers all of them"),
            )
            .hint("name the hosts that are meant");
        }
    }
}

/// Whether two host patterns cover a destination together, and whether one names it more exactly.
fn meet(one: &HostPattern, other: &HostPattern) -> Option<bool> {
    let covers = |own: Option<u16>, port: u16| own.map_or(matches!(port, 80 | 443), |own| own == port);
    let ports = match (one.port, other.port) {
        (None, None) => true,
        (Some(port), own) | (own, Some(port)) => covers(own, port),
    };
    let below = |host: &crate::target::Host, parent: &str| {
        host.name().and_then(|name| name.split_once('.')).is_some_and(|(_, own)| own == parent)
    };
    let same = match (&one.name, &other.name) {
        (HostName::Exact(one), HostName::Exact(other)) => (one == other).then_some(true),
        (HostName::Below(one), HostName::Below(other)) => (one == other).then_some(true),
        (HostName::Exact(host), HostName::Below(parent))
        | (HostName::Below(parent), HostName::Exact(host)) => below(host, parent).then_some(false),
    };
    same.filter(|_| ports)
}

/// Whether requests can be told apart by the path alone.
fn apart(one: &Service, other: &Service) -> bool {
    matches!((&one.protocol, &other.protocol), (Protocol::Mcp(one), Protocol::Mcp(other)) if !one.meets(other))
}

/// Hosts with the same parent, each with the number of its service.
#[derive(Default)]
struct Family<'p> {
    all: Vec<(usize, &'p HostPattern)>,
    wide: Vec<(usize, &'p HostPattern)>,
    named: HashMap<String, Vec<(usize, &'p HostPattern)>>,
}

fn overlapping(services: &[(&str, &Arc<Service>)], look: &mut Look<'_>) {
    // Only equal names and a wildcard beside its names can meet: a policy may have thousands of hosts.
    let mut families: HashMap<String, Family<'_>> = HashMap::new();
    let mut found = Vec::new();
    for (later, (_, service)) in services.iter().enumerate() {
        for host in fixed(service) {
            let text = host_text(host);
            let parent = text.split_once('.').map_or(text.as_str(), |(_, parent)| parent);
            let family = families.entry(parent.to_owned()).or_default();
            let named = family.named.entry(text).or_default();
            let wide = matches!(host.name, HostName::Below(_));
            let others: Vec<(usize, &HostPattern)> =
                if wide { family.all.clone() } else { named.iter().chain(&family.wide).copied().collect() };
            for (earlier, other) in others.into_iter().filter(|(earlier, _)| *earlier != later) {
                found.extend(meet(host, other).map(|same| (earlier, later, host, other, same)));
            }
            named.push((later, host));
            family.all.push((later, host));
            if wide {
                family.wide.push((later, host));
            }
        }
    }
    for (earlier, later, host, other, same) in found {
        let (Some((first, one)), Some((name, service))) = (services.get(earlier), services.get(later)) else {
            continue;
        };
        if apart(one, service) || !is_own(service.span) {
            continue;
        }
        let at = place(name, host, service, look);
        let message = format!("`{}` is also a host of `{first}` (`{}`)", host_text(host), host_text(other));
        let report = look.report(Code::OverlappingService, at, message);
        if same {
            report
                .hint("where both know a request, an agent with a role on both has to name the integration");
        } else {
            report.hint("the one that names a host exactly is taken for it").only_info();
        }
    }
}

/// An agent with roles on two integrations that cover the same host.
fn two_integrations(tenant: &Tenant, agent: &Agent, look: &mut Look<'_>) {
    let mut seen: HashMap<String, Vec<(&Integration, &HostPattern, Span)>> = HashMap::new();
    for (number, grant) in agent.grants() {
        let Some(integration) = tenant.integrations.get(number).filter(|i| !i.disabled) else { continue };
        for host in integration.hosts() {
            let others = seen.entry(host_text(host)).or_default();
            let meets = |(other, theirs, _): &&(&Integration, &HostPattern, Span)| {
                other.id != integration.id
                    && meet(host, theirs) == Some(true)
                    && !apart(&integration.service, &other.service)
            };
            if let Some((other, _, span)) = others.iter().find(meets) {
                let later = |a: Span, b: Span| if (a.file, a.start) < (b.file, b.start) { b } else { a };
                look.report(
                    Code::TwoIntegrations,
                    later(grant.span, *span),
                    format!(
                        "`{}` and `{}` both reach `{}`: what both know, or neither, needs `X-Agent-Integration`",
                        other.id,
                        integration.id,
                        host_text(host)
                    ),
                )
                .hint("give the agent a role on one of them, or keep two agents apart");
            }
            others.push((integration, host, grant.span));
        }
    }
}
