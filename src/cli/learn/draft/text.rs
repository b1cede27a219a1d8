//! The draft as text: a policy as a person would begin to write it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Ask, Body, Draft, Service, Tree, Who};
use crate::{
    cli::records::Place,
    context::{AgentId, TenantId},
    target::Host,
};

/// What the first lines tell.
pub(super) struct Heading<'d> {
    pub(super) requests: u64,
    pub(super) first: &'d str,
    pub(super) last: &'d str,
    pub(super) left_out: u64,
    /// Places whose closed tunnels are left out.
    pub(super) mixed: Vec<Place>,
}

/// The names of integrations, by tenant and service.
type Names<'d> = BTreeMap<&'d TenantId, BTreeMap<&'d str, String>>;

/// Writes it all, in the form of `egret fmt`.
pub(super) fn write(
    heading: &Heading<'_>,
    draft: &Draft,
    services: &BTreeMap<&str, Service<'_>>,
    names: &Names<'_>,
) -> String {
    let mut text = String::new();
    write_heading(heading, &mut text);
    write_services(services, &mut text);
    text.push_str("\ntenants:\n");
    for (number, (tenant, integrations)) in names.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}  {}:", scalar(tenant.as_str()));
        write_integrations(draft, tenant, integrations, services, &mut text);
        write_agents(tenant, integrations, services, &mut text);
    }
    write_tests(draft, services, &mut text);
    text
}

fn write_heading(heading: &Heading<'_>, text: &mut String) {
    let _ = writeln!(
        text,
        "# Drafted by `egret policy learn` from {}, {} to {}.\n\
         # It grants what was seen, with what looks like a name or a number widened to `*`: read every line.",
        requests(heading.requests),
        heading.first,
        heading.last
    );
    if heading.left_out > 0 {
        let _ = writeln!(
            text,
            "# Left out: {} that no line can grant, or that are of too many shapes.",
            requests(heading.left_out)
        );
    }
    for place in &heading.mixed {
        let _ = writeln!(text, "# Left out: closed tunnels to {place}, whose requests were seen, too.");
    }
    text.push_str(
        "version: 1\nmode: shadow # TODO: `enforce`, when `egret shadow report` has nothing more to say\n",
    );
}

fn write_services(services: &BTreeMap<&str, Service<'_>>, text: &mut String) {
    let mut first = true;
    for (name, service) in services {
        if matches!(service.body, Body::Catalogue) {
            continue;
        }
        text.push_str(if first { "\nservices:\n" } else { "\n" });
        first = false;
        let _ = writeln!(text, "  {}:\n    hosts:", scalar(name));
        for place in service.places {
            let note = match place.host {
                Host::Address(_) => " # TODO: a private address needs `allow_private_addresses`",
                Host::Name(_) => "",
            };
            let _ = writeln!(text, "      - {}{note}", scalar(&place.to_string()));
        }
        match &service.body {
            Body::Own(trees) => write_roles(trees, text),
            _ => text.push_str("    intercept: never\n    roles:\n      caller:\n        - connect\n"),
        }
    }
}

fn write_roles(trees: &BTreeMap<Ask, Tree>, text: &mut String) {
    let (mut reader, mut writer): (Lines, Lines) = Default::default();
    for (ask, tree) in trees {
        let role = if ask.only_reads() { &mut reader } else { &mut writer };
        for pattern in tree.patterns() {
            role.entry(pattern).or_default().push(ask.name());
        }
    }
    text.push_str("    roles:\n");
    if !reader.is_empty() {
        text.push_str("      reader:\n");
        write_lines(reader, text);
    }
    if !writer.is_empty() {
        text.push_str("      writer:\n");
        if trees.keys().any(|ask| ask.only_reads()) {
            text.push_str("        - include: reader\n");
        }
        write_lines(writer, text);
    }
}

type Lines = BTreeMap<String, Vec<&'static str>>;

fn write_lines(lines: Lines, text: &mut String) {
    for (pattern, mut methods) in lines {
        // `GET` says so, too.
        if methods.contains(&"GET") {
            methods.retain(|method| *method != "HEAD");
        }
        let _ = writeln!(text, "        - {}", scalar(&format!("{} {pattern}", methods.join("|"))));
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
        let seen: BTreeSet<&str> = draft
            .known(tenant, drafted.places)
            .flat_map(|known| known.credentials.iter().map(String::as_str))
            .collect();
        let seen = if seen.is_empty() {
            String::new()
        } else {
            format!(" The log has: {}", seen.into_iter().collect::<Vec<_>>().join(", "))
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

/// One promise for each line that an agent needs.
fn write_tests(draft: &Draft, services: &BTreeMap<&str, Service<'_>>, text: &mut String) {
    let mut promises: BTreeMap<Who<'_>, BTreeMap<Line<'_>, String>> = BTreeMap::new();
    for (name, service) in services {
        for place in service.places {
            for (shape, example) in draft.places.get(place).into_iter().flat_map(|seen| &seen.shapes) {
                let line = match &service.body {
                    Body::Own(trees) => {
                        trees.get(&shape.ask).and_then(|tree| tree.pattern_of(&shape.template))
                    }
                    Body::Catalogue | Body::Tunnel => Some(shape.template.clone()),
                };
                let request = match (shape.ask, example) {
                    (Ask::Tunnel, _) => format!("CONNECT {}:{}", place.host, place.port.unwrap_or(443)),
                    (ask, Some(path)) => format!("{} https://{place}{path}", ask.name()),
                    (_, None) => continue,
                };
                let Some(line) = line else { continue };
                let of_agent = promises.entry((&shape.tenant, &shape.agent)).or_default();
                of_agent.entry((name, shape.ask, line)).or_insert(request);
            }
        }
    }
    if promises.is_empty() {
        return;
    }
    text.push_str("\ntests:\n");
    for ((tenant, agent), lines) in promises {
        let _ = writeln!(text, "  - as: {}\n    allow:", scalar(&format!("{tenant}/{agent}")));
        for request in lines.values() {
            let _ = writeln!(text, "      - {}", scalar(request));
        }
    }
}

/// Service, question and pattern.
type Line<'d> = (&'d str, Ask, String);

fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// A host as a name: `api.x.example:8443` is `api-x-example-8443`.
pub(super) fn slug(place: &Place) -> String {
    let text: String =
        place.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let parts: Vec<&str> = text.split('-').filter(|part| !part.is_empty()).collect();
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
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/*-_.~|: ".contains(&b))
        && !text.ends_with(':')
        && !text.contains(": ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if bare { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}
