//! The catalogue: services that egret knows, one file each. Only those that a policy refers to are parsed.

use std::sync::Arc;

use serde::Serialize;

use super::{
    files::{
        problem::Findings,
        reader::closest,
        source::Span,
        yaml::{self, Key},
    },
    parts::{
        act::Act,
        host::{HostName, Hosts},
        protocol::{Look, Protocol},
        provider,
        role::Role,
        service::{self, Service},
    },
};
use crate::{
    context::{RoleId, ServiceId},
    plan::Provider,
    target::{Host, Method, Path},
};

/// The number of the first of its files. A policy's own files have the numbers before.
const FIRST: u32 = 1 << 31;

macro_rules! files {
    ($($name:literal,)*) => { &[$(($name, include_str!(concat!("catalog/", $name, ".yaml"))),)*] };
}

/// Names and texts, in the order of the names.
#[rustfmt::skip]
const FILES: &[(&str, &str)] = files![
    "airtable", "anthropic", "asana", "atlassian", "aws", "aws-s3", "azure", "azure-blob", "cloudflare",
    "cohere", "confluence", "databricks", "datadog", "deepseek", "discord", "docker-hub", "dropbox",
    "elevenlabs", "exa", "figma", "fireworks", "gcp", "gemini", "github", "github-git", "github-raw",
    "gitlab", "gitlab-git", "gmail", "google-calendar", "google-docs", "google-drive", "google-sheets",
    "groq", "hubspot", "intercom", "jfrog", "jira", "linear", "linear-mcp", "mcp-generic",
    "microsoft-graph", "mistral", "netlify", "notion", "npm", "okta", "openai", "openrouter", "pagerduty", "perplexity", "postmark", "resend", "salesforce",
    "sendgrid", "sentry", "shopify", "slack", "slack-mcp", "snowflake", "stripe", "supabase", "supabase-management",
    "telegram", "together", "trello", "twilio", "vercel", "vertex", "xai", "zendesk", "zoom",
];

macro_rules! providers {
    ($($name:literal,)*) => { &[$(($name, include_str!(concat!("catalog/providers/", $name, ".yaml"))),)*] };
}

/// Names and texts of those who issue tokens.
#[rustfmt::skip]
const PROVIDERS: &[(&str, &str)] = providers![
    "airtable", "anthropic", "asana", "atlassian", "databricks", "discord", "dropbox", "figma", "github",
    "gitlab", "google", "hubspot", "intercom", "linear", "microsoft", "notion", "okta", "openai",
    "pagerduty", "salesforce", "sentry", "shopify", "slack", "slack-user", "snowflake", "stripe",
    "supabase", "zendesk", "zoom",
];

/// The names of the providers that egret knows.
pub fn providers<'n>() -> impl Iterator<Item = &'n str> {
    PROVIDERS.iter().map(|(name, _)| -> &'n str { name })
}

/// One of the providers that egret knows. A test holds that all of them are read without findings.
pub(super) fn provider(name: &str) -> Option<Provider> {
    let (_, text) = PROVIDERS.iter().find(|(known, _)| *known == name)?;
    let key = Key { text: name.to_owned(), span: Span::start_of(FIRST) };
    provider::read(&key, &yaml::parse(text, FIRST).ok()?, &mut Findings::default())
}

/// The names of all its services.
pub(super) fn names<'n>() -> impl Iterator<Item = &'n str> {
    FILES.iter().map(|(name, _)| -> &'n str { name })
}

pub(super) fn knows(name: &str) -> bool {
    index(name).is_some()
}

/// Whether a place is in the catalogue.
pub(super) fn holds(span: Span) -> bool {
    span.file >= FIRST
}

/// Name and text of one of its files, by number.
pub(super) fn file(number: u32) -> Option<(String, &'static str)> {
    let index = usize::try_from(number.checked_sub(FIRST)?).ok()?;
    FILES.get(index).map(|(name, text)| (format!("(catalogue)/{name}.yaml"), *text))
}

/// Reads one of its services.
pub(super) fn read(name: &str, findings: &mut Findings) -> Option<Service> {
    let index = index(name)?;
    let number = FIRST + u32::try_from(index).ok()?;
    let (_, text) = FILES.get(index)?;
    match yaml::parse(text, number) {
        Ok(node) => {
            let key = Key { text: name.to_owned(), span: Span::start_of(number) };
            service::read(&key, &node, findings)
        }
        Err(bad) => {
            findings.report(bad.span, bad.message);
            None
        }
    }
}

fn index(name: &str) -> Option<usize> {
    FILES.binary_search_by(|(known, _)| (*known).cmp(name)).ok()
}

/// A service of the catalogue, as people read it.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// Its name in policies.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its hosts, with variables in braces.
    pub hosts: Vec<String>,
    /// What an integration must give a value in `vars`.
    pub variables: Vec<String>,
    /// What an integration must say where to read; empty where nothing is attached as it is.
    pub secrets: Vec<String>,
    /// Those of `secrets` that are a user's name and may stand in the policy itself.
    pub users: Vec<String>,
    /// Its roles, the smallest first.
    pub roles: Vec<ListedRole>,
    #[serde(skip)]
    text: &'static str,
    /// What the example writes for each variable.
    #[serde(skip)]
    values: Vec<&'static str>,
}

/// A role, as people read it.
#[derive(Debug, Serialize)]
pub struct ListedRole {
    /// Its name.
    pub name: String,
    /// What an OAuth token for it needs, where the service has scopes.
    pub scopes: Vec<String>,
}

/// All services of the catalogue, in the order of their names.
pub fn catalogue() -> Vec<Listing> {
    FILES.iter().filter_map(|(name, text)| Listing::read(name, text)).collect()
}

/// One service of the catalogue.
///
/// # Errors
/// When there is none of this name: a message with the nearest name.
pub fn catalogued(name: &str) -> Result<Listing, String> {
    let found = index(name).and_then(|index| FILES.get(index));
    found.and_then(|(name, text)| Listing::read(name, text)).ok_or_else(|| {
        let meant = closest(name, names());
        let hint = meant.map_or_else(
            || "`egret catalog` lists all services".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        format!("the catalogue has no service `{}`; {hint}", super::files::reader::short(name))
    })
}

impl Listing {
    fn read(name: &'static str, text: &'static str) -> Option<Self> {
        let service = read(name, &mut Findings::default())?;
        let owned = |names: Vec<&str>| names.into_iter().map(ToOwned::to_owned).collect::<Vec<String>>();
        let role = |role: &Role| ListedRole {
            name: role.id.to_string(),
            scopes: role.scopes.iter().map(ToString::to_string).collect(),
        };
        let secrets = service.attach.as_ref().map(|attach| attach.names()).unwrap_or_default();
        let is_user = |name: &str| service.attach.as_ref().is_some_and(|attach| attach.is_user(name));
        let variables = service.hosts.variables();
        let whole = |name: &&str| if service.hosts.is_whole(name) { "acme.example.com" } else { "acme" };
        Some(Self {
            name,
            about: text.lines().next().unwrap_or_default().trim_start_matches("# ").trim_end_matches('.'),
            hosts: service.hosts.shown(),
            values: variables.iter().map(whole).collect(),
            variables: owned(variables),
            users: owned(secrets.iter().copied().filter(|name| is_user(name)).collect()),
            secrets: owned(secrets),
            roles: service.roles.iter().map(|known| role(known)).collect(),
            text,
        })
    }

    /// Its file, as it would stand in a policy that wants to change it.
    pub fn yaml(&self) -> String {
        let (comments, body): (Vec<&str>, Vec<&str>) = {
            let border = self.text.lines().take_while(|line| line.starts_with('#')).count();
            (self.text.lines().take(border).collect(), self.text.lines().skip(border).collect())
        };
        let indented =
            body.iter().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
        let mut lines: Vec<String> = comments.into_iter().map(ToOwned::to_owned).collect();
        lines.extend(["services:".to_owned(), format!("  {}:", self.name)]);
        lines.extend(indented);
        lines.join("\n") + "\n"
    }

    /// A whole policy for it, to start from.
    pub fn policy(&self) -> String {
        let name = self.name;
        let named = |name: &str| self.roles.iter().find(|role| role.name == name);
        let role = named("reader").or_else(|| named("caller")).or_else(|| self.roles.first());
        let role = role.map(|role| role.name.as_str()).unwrap_or_default();
        let prefix = name.to_ascii_uppercase().replace('-', "_");
        let reference = |secret: &str| format!("\"env:{prefix}_{}\"", secret.to_ascii_uppercase());
        let credential = match self.secrets.as_slice() {
            [] => "{aws_sigv4: {access_key_id: \"env:AWS_ACCESS_KEY_ID\", secret_access_key: \"env:AWS_SECRET_ACCESS_KEY\"}}".to_owned(),
            [one] => reference(one),
            several => {
                let part = |secret: &String| {
                    let user = self.users.contains(secret);
                    let value = if user { secret.to_ascii_uppercase() } else { reference(secret) };
                    format!("{secret}: {value}")
                };
                let each: Vec<String> = several.iter().map(part).collect();
                format!("{{secrets: {{{}}}}}", each.join(", "))
            }
        };
        let pairs: Vec<String> =
            self.variables.iter().zip(&self.values).map(|(name, value)| format!("{name}: {value}")).collect();
        let vars = if pairs.is_empty() { String::new() } else { format!("vars: {{{}}}, ", pairs.join(", ")) };
        format!(
            "version: 1\ntenants:\n  acme:\n    integrations:\n      {name}: {{{vars}credential: {credential}}}\n    agents:\n      bot: {{{name}: {role}}}\n"
        )
    }
}

/// All services that egret knows, to be asked without a policy.
#[derive(Debug)]
pub struct Catalogue(Vec<Service>);

impl Catalogue {
    /// Reads all of it.
    pub fn read() -> Self {
        let mut findings = Findings::default();
        Self(names().filter_map(|name| read(name, &mut findings)).collect())
    }

    /// Whether it has a service of this name.
    pub fn has(&self, name: &str) -> bool {
        self.service(name).is_some()
    }

    /// The service behind a host, or behind the endpoint of an MCP server there. With a port that does not go without
    /// saying, none is.
    pub fn at(&self, host: &Host, port: Option<u16>, endpoint: Option<&Path>) -> Option<ServiceId> {
        let spoken_to = |service: &Service| match endpoint {
            Some(path) => service.is_at(path),
            None => matches!(service.protocol, Protocol::Http(_)),
        };
        let covers = |service: &Service| {
            let Hosts::Fixed(hosts) = &service.hosts else { return false };
            spoken_to(service)
                && hosts.iter().any(|own| own.port == port && own.name == HostName::Exact(host.clone()))
        };
        let mut found: Vec<ServiceId> =
            self.0.iter().filter(|service| covers(service)).map(|service| service.plan.id.clone()).collect();
        found.sort();
        found.into_iter().next()
    }

    /// Whether a service has its GraphQL at this path.
    pub fn has_graphql_at(&self, service: &str, path: &Path) -> bool {
        self.service(service).is_some_and(|service| service.looks_for(Method::Post, path) == Look::GraphQl)
    }

    /// The smallest of a service's roles that allows all of these acts.
    pub fn smallest_role<'r>(
        &self,
        service: &str,
        mut acts: impl Iterator<Item = Act<'r>> + Clone,
    ) -> Option<RoleId> {
        let covers = |role: &&Arc<Role>| acts.clone().all(|act| role.find(&act).is_some());
        let found = self.service(service)?.roles.iter().find(covers)?.id.clone();
        acts.next().map(|_| found)
    }

    fn service(&self, name: &str) -> Option<&Service> {
        self.0.iter().find(|service| service.plan.id.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::decide::{
        parts::{
            pattern::Segment,
            role::{Grants, RoleLine},
        },
        policy::Policy,
    };
    use crate::{graphql, mcp};

    #[test]
    fn every_file_is_in_the_table() {
        let services: Vec<&str> = names().collect();
        for (directory, table) in
            [("src/decide/catalog", services), ("src/decide/catalog/providers", providers().collect())]
        {
            let files: BTreeSet<String> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            assert!(table.is_sorted(), "the table is in the order of the names");
            assert_eq!(table, files.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_provider_is_sound() {
        for (name, text) in PROVIDERS {
            let mut findings = Findings::default();
            let key = Key { text: (*name).to_owned(), span: Span::start_of(FIRST) };
            let read = provider::read(&key, &yaml::parse(text, FIRST).unwrap(), &mut findings);
            assert!(read.is_some() && findings.count() == 0, "{name}: {findings:?}");
        }
    }

    #[test]
    fn every_service_is_sound() {
        for name in names() {
            let mut findings = Findings::default();
            let service = read(name, &mut findings);
            assert_eq!(findings.count(), 0, "{name}: {findings:?}");
            let service = service.unwrap();
            for role in &service.roles {
                let known = ["reader", "writer", "publisher", "caller", "admin"];
                assert!(known.contains(&role.id.as_str()), "{name} has a role {}", role.id);
                assert!(!role.lines.is_empty(), "{name} {} grants nothing", role.id);
                for line in &role.lines {
                    assert!(can_hold(role, line), "{name} {}: {}", role.id, line.route);
                    let covers_graphql = matches!(
                        &line.grants,
                        Grants::Http(methods, _)
                            if line.route.contains("graphql") && methods.contains(Method::Post)
                    );
                    assert!(!covers_graphql, "{name} grants every mutation: {}", line.route);
                }
            }
        }
    }

    /// Whether something that a line is meant for is granted by its role.
    fn can_hold(role: &Role, line: &RoleLine) -> bool {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(text) => text.to_string(),
            Segment::Any => "x".to_owned(),
            Segment::Glob(parts) => parts.join("x"),
        };
        let name = line.route.split(' ').next_back().unwrap_or_default().replace('*', "x");
        match &line.grants {
            Grants::Http(methods, pattern) => {
                let segments: Vec<String> = pattern.segments.iter().map(segment).collect();
                let path = Path::parse(&format!("/{}", segments.join("/"))).unwrap();
                let mut methods = Method::NAMED.into_iter().filter(|method| methods.contains(*method));
                methods.all(|method| role.find(&Act::Http(method, &path)).is_some())
            }
            Grants::Named(kind, _) => {
                role.find(&Act::Named { kind: *kind, name: &name, arguments: None }).is_some()
            }
            Grants::GraphQl(kind, _) => role.find(&Act::Field(*kind, &name)).is_some(),
            Grants::Connect => true,
        }
    }

    #[test]
    fn every_service_has_a_policy_of_seven_lines() {
        for listing in catalogue() {
            let policy = listing.policy();
            assert_eq!(policy.lines().count(), 7, "{policy}");
            if let Err(problems) = Policy::from_text("policy.yaml", &policy) {
                panic!("{policy}{}", problems.render(false));
            }
        }
        assert_eq!(catalogue().len(), FILES.len());
    }

    #[test]
    fn every_file_begins_with_what_it_is_and_where_its_documentation_is() {
        for (name, text) in FILES {
            let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
            let about = header.first().unwrap();
            assert!(about.starts_with("# ") && about.ends_with('.') && about.len() <= 100, "{name}: {about}");
            assert!(header.iter().any(|line| line.contains("https://")), "{name} names no documentation");
        }
    }

    #[test]
    fn what_is_shown_of_a_service_replaces_it() {
        for listing in catalogue() {
            let policy =
                listing.policy().replacen("version: 1\n", &format!("version: 1\n{}", listing.yaml()), 1);
            if let Err(problems) = Policy::from_text("policy.yaml", &policy) {
                panic!("{policy}{}", problems.render(false));
            }
        }
    }

    #[test]
    fn only_what_a_policy_refers_to_is_read() {
        let text = "version: 1\nguards: [{match: \"github DELETE **\", deny: no}]\nservices: {slack: {hosts: [slack.example], roles: {reader: [GET /**]}}}\ntenants: {t: {integrations: {openai: {credential: none}, mail: {service: resend, credential: none}, slack: {credential: none}}}}\n";
        let policy = format!("{:?}", Policy::from_text("policy.yaml", text).unwrap());
        for (host, read) in [
            ("api.openai.com", true),
            ("api.resend.com", true),
            ("api.github.com", true),
            ("slack.example", true),
            ("slack.com", false),
            ("api.stripe.com", false),
        ] {
            assert_eq!(policy.contains(host), read, "{host}");
        }
    }

    #[test]
    fn an_unknown_name_has_a_nearest_one() {
        assert_eq!(
            catalogued("opnai").unwrap_err(),
            "the catalogue has no service `opnai`; did you mean `openai`?"
        );
        assert!(catalogued("nothing-like-it").unwrap_err().ends_with("`egret catalog` lists all services"));
    }

    #[test]
    fn a_host_has_its_service_and_a_request_its_role() {
        let catalogue = Catalogue::read();
        let at = |host: &str, port| catalogue.at(&Host::parse(host).unwrap(), port, None);
        assert_eq!(at("api.github.com", None).unwrap().as_str(), "github");
        assert_eq!(at("api.github.com", Some(8443)), None);
        assert_eq!(at("evil.example", None), None);
        for (requests, role) in [
            (&[(Method::Get, "/user")][..], Some("reader")),
            (&[(Method::Get, "/user"), (Method::Post, "/repos/a/b/issues")], Some("writer")),
            (&[(Method::Post, "/graphql")], None),
            (&[], None),
        ] {
            let requests: Vec<(Method, Path)> =
                requests.iter().map(|(method, path)| (*method, Path::parse(path).unwrap())).collect();
            let found = catalogue.smallest_role("github", requests.iter().map(|(m, p)| Act::Http(*m, p)));
            assert_eq!(found.as_ref().map(RoleId::as_str), role, "{requests:?}");
        }
    }

    #[test]
    fn an_endpoint_has_its_server_and_a_tool_its_role() {
        let catalogue = Catalogue::read();
        let at = |host: &str, endpoint: Option<&str>| {
            let endpoint = endpoint.map(|path| Path::parse(path).unwrap());
            catalogue.at(&Host::parse(host).unwrap(), None, endpoint.as_ref())
        };
        assert_eq!(at("mcp.linear.app", Some("/mcp")).unwrap().as_str(), "linear-mcp");
        assert_eq!(at("mcp.linear.app", Some("/sse")), None);
        assert_eq!(at("mcp.linear.app", None), None);
        assert_eq!(at("api.linear.app", Some("/graphql")), None);
        let role = |service: &str, act: Act<'_>| {
            catalogue.smallest_role(service, [act].into_iter()).map(|role| role.to_string())
        };
        let tool = |name| Act::Named { kind: mcp::Named::Tool, name, arguments: None };
        assert_eq!(role("linear-mcp", tool("list_issues")).as_deref(), Some("reader"));
        assert_eq!(role("linear-mcp", tool("delete_issue")).as_deref(), Some("publisher"));
        assert_eq!(role("linear-mcp", tool("become_admin")), None);
        let field = |kind, name| Act::Field(kind, name);
        assert_eq!(role("linear", field(graphql::Kind::Mutation, "issueCreate")).as_deref(), Some("writer"));
        let path = |text: &str| Path::parse(text).unwrap();
        assert!(catalogue.has_graphql_at("linear", &path("/graphql")));
        assert!(!catalogue.has_graphql_at("linear", &path("/other")));
        assert!(!catalogue.has_graphql_at("github", &path("/graphql")));
    }
}
