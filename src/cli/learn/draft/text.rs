//! The draft as text: a policy as a person would begin to write it.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Ask, Body, Draft, Service, Shape, Who,
    roles::{Lines, READER, WRITER, written},
    seen::{LeftOut, Sample, Site},
};
use crate::{
    cli::records::Place,
    context::{AgentId, TenantId},
    decide::{Policy, Probe},
    mcp,
    target::{Host, Scheme},
};

/// What the first lines tell.
pub(super) struct Heading<'d> {
    pub(super) requests: u64,
    pub(super) first: &'d str,
    pub(super) last: &'d str,
    pub(super) left_out: &'d LeftOut,
}

/// The names of integrations, by tenant and service.
type Names<'d> = BTreeMap<&'d TenantId, BTreeMap<&'d str, String>>;

/// Writes services and tenants, in the form of `egret fmt`.
pub(super) fn write_grants(
    draft: &Draft,
    services: &BTreeMap<&str, Service<'_>>,
    names: &Names<'_>,
) -> String {
    let mut text = String::new();
    write_services(services, &mut text);
    text.push_str("\ntenants:\n");
    for (number, (tenant, integrations)) in names.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}  {}:", scalar(tenant.as_str()));
        write_integrations(draft, tenant, integrations, services, &mut text);
        write_agents(tenant, integrations, services, &mut text);
    }
    text
}

/// Writes the first lines.
pub(super) fn write_heading(heading: &Heading<'_>) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Drafted by `egret policy learn` from {}, {} to {}.\n\
         # It grants what was seen, with what looks like a name or a number widened to `*`: read every line.",
        requests(heading.requests),
        heading.first,
        heading.last
    );
    let left_out = heading.left_out;
    for (count, why) in [
        (left_out.requests, "that no line can grant, or that are of too many shapes"),
        (
            left_out.nameless,
            "for a tool, a resource, a prompt, a method or a field with a name that no line can hold",
        ),
        (left_out.unread, "to an MCP server or GraphQL whose bodies the log does not tell"),
        (left_out.uncovered, "that another service of the draft would take, and none of its roles allows"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "# Left out: {} {why}.", requests(count));
        }
    }
    if left_out.partly > 0 {
        let _ = writeln!(
            text,
            "# Covered in part: {} that asked for more than the log says.",
            requests(left_out.partly)
        );
    }
    for place in &left_out.mixed {
        let _ = writeln!(text, "# Left out: closed tunnels to {place}, whose requests were seen, too.");
    }
    text.push_str(
        "version: 1\nmode: shadow # TODO: `enforce`, when `egret shadow report` has nothing more to say\n",
    );
    text
}

fn write_services(services: &BTreeMap<&str, Service<'_>>, text: &mut String) {
    let mut first = true;
    for (name, service) in services {
        if matches!(service.body, Body::Catalogue) {
            continue;
        }
        text.push_str(if first { "\nservices:\n" } else { "\n" });
        first = false;
        let _ = writeln!(text, "  {}:", scalar(name));
        match &service.body {
            Body::Mcp(endpoint, lines) => {
                for Site { place, .. } in service.sites {
                    let url = format!("{}://{place}{endpoint}", service.scheme.as_str());
                    let _ = writeln!(text, "    mcp: {}{}", scalar(&url), note(place));
                }
                write_roles(lines, text);
            }
            Body::Http(lines) => {
                write_hosts(service, text);
                if let Some(path) = lines.graphql.as_ref().filter(|path| *path != "/graphql") {
                    let _ = writeln!(text, "    graphql: {}", scalar(path));
                }
                write_roles(lines, text);
            }
            Body::Tunnel | Body::Catalogue => {
                write_hosts(service, text);
                text.push_str("    intercept: never\n    roles:\n      caller:\n        - connect\n");
            }
        }
    }
}

fn write_hosts(service: &Service<'_>, text: &mut String) {
    text.push_str("    hosts:\n");
    for Site { place, .. } in service.sites {
        let _ = writeln!(text, "      - {}{}", scalar(&place.to_string()), note(place));
    }
    if service.scheme == Scheme::Http {
        text.push_str("    scheme: http # as the log has it: a credential would go in clear\n");
    }
}

fn note(place: &Place) -> &'static str {
    match place.host {
        Host::Address(_) => " # TODO: a private address needs `allow_private_addresses`",
        Host::Name(_) => "",
    }
}

fn write_roles(lines: &Lines, text: &mut String) {
    let [reader, writer] = lines.roles();
    text.push_str("    roles:\n");
    let includes = !reader.is_empty() && !writer.is_empty();
    for (name, include, lines) in [(READER, false, reader), (WRITER, includes, writer)] {
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(text, "      {name}:");
        if include {
            let _ = writeln!(text, "        - include: {READER}");
        }
        for line in lines {
            let _ = writeln!(text, "        - {}", scalar(&line));
        }
    }
}

fn write_integrations(
    draft: &Draft,
    tenant: &TenantId,
    integrations: &BTreeMap<&str, String>,
    services: &BTreeMap<&str, Service<'_>>,
    text: &mut String,
) {
    text.push_str("    integrations:\n");
    for (service, name) in integrations {
        let Some(drafted) = services.get(service) else { continue };
        let _ = writeln!(text, "      {}:", scalar(name));
        if name != service {
            let _ = writeln!(text, "        service: {}", scalar(service));
        }
        if matches!(drafted.body, Body::Tunnel) {
            text.push_str("        credential: none\n");
            continue;
        }
        let seen = draft.known(tenant, drafted.sites).credentials;
        let seen = if seen.is_empty() {
            String::new()
        } else {
            let shown: Vec<String> = seen.iter().map(|credential| visible(credential)).collect();
            format!(" The log has: {}", shown.join(", "))
        };
        let _ = writeln!(text, "        credential: none # TODO: which credential?{seen}");
    }
}

fn write_agents(
    tenant: &TenantId,
    integrations: &BTreeMap<&str, String>,
    services: &BTreeMap<&str, Service<'_>>,
    text: &mut String,
) {
    let mut agents: BTreeMap<&AgentId, Vec<(&str, &str)>> = BTreeMap::new();
    for (service, name) in integrations {
        let roles = services.get(service).into_iter().flat_map(|service| &service.roles);
        for ((_, agent), role) in roles.filter(|((of, _), _)| *of == tenant) {
            agents.entry(agent).or_default().push((name, role));
        }
    }
    text.push_str("    agents:\n");
    for (agent, grants) in agents {
        let _ = writeln!(text, "      {}:", scalar(agent.as_str()));
        for (name, role) in grants {
            let _ = writeln!(text, "        {}: {}", scalar(name), scalar(role));
        }
    }
}

/// One promise for each line that an agent needs, and how many requests the grants do not cover.
pub(super) fn write_tests(
    draft: &Draft,
    services: &BTreeMap<&str, Service<'_>>,
    grants: &str,
) -> (String, u64) {
    // Where this does not load, nothing is judged, and what is wrong is said of the whole.
    let policy = Policy::from_text("(draft)", &format!("version: 1\n{grants}")).ok();
    let mut uncovered = 0;
    let mut promises: BTreeMap<Who<'_>, BTreeMap<(&str, Ask), String>> = BTreeMap::new();
    for (name, service) in services {
        for site in service.sites {
            for (shape, sample) in draft.0.sites.get(site).into_iter().flatten() {
                let line = match &service.body {
                    Body::Mcp(_, lines) | Body::Http(lines) => lines.line(&shape.ask),
                    // Of the server's methods a test can only name those that have lines.
                    Body::Catalogue if matches!(shape.ask, Ask::Quiet(_)) => None,
                    Body::Catalogue | Body::Tunnel => Some(shape.ask.clone()),
                };
                let Some((line, request)) = line.zip(promise(site, service.scheme, shape, sample)) else {
                    continue;
                };
                let allowed = policy.as_ref().is_none_or(|policy| is_allowed(policy, shape, &request));
                if !allowed {
                    uncovered += sample.count;
                    continue;
                }
                let of_agent = promises.entry((&shape.tenant, &shape.agent)).or_default();
                of_agent.entry((name, line)).or_insert(request);
            }
        }
    }
    let mut text = String::new();
    if !promises.is_empty() {
        text.push_str("\ntests:\n");
    }
    for ((tenant, agent), lines) in promises {
        let _ = writeln!(text, "  - as: {}\n    allow:", scalar(&format!("{tenant}/{agent}")));
        for request in lines.values() {
            let _ = writeln!(text, "      - {}", scalar(request));
        }
    }
    (text, uncovered)
}

fn is_allowed(policy: &Policy, shape: &Shape, request: &str) -> bool {
    let probe = Probe::new(shape.tenant.as_str(), shape.agent.as_str(), request);
    probe.is_ok_and(|probe| probe.allowed(policy))
}

/// A request of this shape, as a test writes it; none where the log does not have a whole one.
fn promise(site: &Site, scheme: Scheme, shape: &Shape, sample: &Sample) -> Option<String> {
    let place = &site.place;
    let url = || Some(format!("{}://{place}{}", scheme.as_str(), sample.path.as_ref()?));
    match &shape.ask {
        Ask::Tunnel => Some(format!("CONNECT {}:{}", place.host, place.port.unwrap_or(443))),
        ask @ Ask::Http(..) => Some(format!("{} {}", ask.method()?.as_str(), url()?)),
        Ask::Named(mcp::Named::Resource, _) => {
            Some(format!("resource {} @ {}", sample.resource.as_ref()?, url()?))
        }
        Ask::Quiet(method) => Some(format!("method {method} @ {}", url()?)),
        ask => Some(format!("{} @ {}", written(ask)?, url()?)),
    }
}

/// A text of the log in a comment: what a reviewer would not see, or what ends a line for some reader, is `?`.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() { c } else { '?' })
        .collect()
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// A host as a name: `api.x.example:8443` is `api-x-example-8443`. An MCP server has its path and `mcp` in its name.
pub(super) fn slug(site: &Site) -> String {
    let path = site.endpoint.as_ref().map_or("", |path| path.as_str());
    let text: String = format!("{}{path}", site.place)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let mut parts: Vec<&str> = text.split('-').filter(|part| !part.is_empty()).collect();
    if site.endpoint.is_some() && parts.iter().rev().skip(1).any(|part| *part == "mcp") {
        parts.pop_if(|last| *last == "mcp");
    }
    let short: String = parts.join("-").chars().take(56).collect();
    if short.is_empty() { "host".to_owned() } else { short.trim_end_matches('-').to_owned() }
}

/// The name, or the name with a number, that nobody has yet. `disabled` is a word of agents.
pub(super) fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if wanted != "disabled" && !taken(wanted) {
        return wanted.to_owned();
    }
    let stem: String = wanted.chars().take(56).collect();
    let mut numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
    numbered.find(|name| !taken(name)).unwrap_or(stem)
}

/// A text as YAML: bare where nobody could take it for anything else, else in quotes.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    // A colon is a key's only at the end of a word.
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/*-_.~|: @".contains(&b))
        && !text.ends_with(':')
        && !text.contains(": ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if bare { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}
