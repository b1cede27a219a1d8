//! A service as the policy describes it: hosts, roles, and how it is reached.

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::{
    guard::Guard,
    pattern::Pattern,
    problem::Findings,
    reader::{self, Fields, short},
    role::{self, Grants, Role, Visible},
    source::Span,
    yaml::{Key, Node, Value},
};
use crate::{
    context::ServiceId,
    plan::{self, Intercept, Keep, PrivateReach, StripPlan},
    target::{Host, Method, Path, Scheme},
};

const KEYS: [&str; 14] = [
    "hosts",
    "scheme",
    "intercept",
    "allow_private_addresses",
    "strip",
    "keep",
    "max_body",
    "via",
    "response_timeout",
    "roles",
    "graphql",
    "mcp",
    "transport",
    "messages",
];

/// What exists out there, ready to be asked.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) plan: Arc<plan::Service>,
    pub(super) protocol: Protocol,
    pub(super) hosts: Vec<HostPattern>,
    /// The smallest first: the first that covers a request is the role to ask for.
    pub(super) roles: Vec<Arc<Role>>,
    /// The guards that reach it, in the policy's order.
    pub(super) guards: Vec<Arc<Guard>>,
    pub(super) span: Span,
}

impl Service {
    pub(super) fn role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.iter().find(|role| role.id.as_str() == name)
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.plan.intercept == Intercept::Never
    }

    /// Whether it is an MCP server with an endpoint at this path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        matches!(&self.protocol, Protocol::Mcp(endpoint) if endpoint.is_at(path))
    }

    /// What a request's body has to be looked at for.
    pub(super) fn looks_for(&self, method: Method, path: &Path) -> Look {
        match &self.protocol {
            Protocol::Mcp(endpoint) if method == Method::Post && endpoint.takes(method, path) => Look::Mcp,
            Protocol::Http(Some(graphql)) if graphql.guards(path) => match method {
                Method::Post => Look::GraphQl,
                Method::Get | Method::Head => Look::GraphQlInQuery,
                _ => Look::Nothing,
            },
            _ => Look::Nothing,
        }
    }
}

/// What a request's body has to be looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: method and path say it all.
    Nothing,
    /// Messages of the Model Context Protocol.
    Mcp,
    /// GraphQL operations.
    GraphQl,
    /// GraphQL operations, in the query of the URL.
    GraphQlInQuery,
}

/// How a service is spoken to.
#[derive(Debug)]
pub(super) enum Protocol {
    /// Methods and paths; and where its GraphQL is, if a role or a guard speaks of it.
    Http(Option<Pattern>),
    /// The Model Context Protocol.
    Mcp(Endpoint),
}

/// Where an MCP server is spoken to.
#[derive(Debug)]
pub(super) struct Endpoint {
    path: Path,
    /// Where messages go in the transport of 2024-11-05, whose `path` is only listened on.
    messages: Option<Path>,
}

impl Endpoint {
    fn is_at(&self, path: &Path) -> bool {
        self.path == *path || self.messages.as_ref() == Some(path)
    }

    /// Where messages are sent.
    pub(super) fn posts_to(&self) -> &Path {
        self.messages.as_ref().unwrap_or(&self.path)
    }

    /// Whether another server stands at the same path.
    pub(super) fn meets(&self, other: &Self) -> bool {
        other.is_at(&self.path) || self.messages.as_ref().is_some_and(|path| other.is_at(path))
    }

    /// Whether a request of this kind belongs to the transport.
    pub(super) fn takes(&self, method: Method, path: &Path) -> bool {
        match (method, &self.messages) {
            (Method::Get, _) | (Method::Post | Method::Delete, None) => self.path == *path,
            (Method::Post, Some(messages)) => messages == path,
            _ => false,
        }
    }
}

/// A host of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPattern {
    pub(super) name: HostName,
    /// None: the service's own port, which a client reaches as 80 or as 443.
    pub(super) port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostName {
    Exact(Host),
    /// `*.example.com`: the part after `*.`; one label goes in front.
    Below(Arc<str>),
}

/// Reads a service. None where nothing can be built from it; the reasons are in `findings`.
pub(super) fn read(key: &Key, node: &Node, findings: &mut Findings) -> Option<Service> {
    let id = reader::identifier(key, ServiceId::parse, findings);
    let fields = Fields::read(node, "a service", &KEYS, findings)?;
    let schemes = [("https", Scheme::Https), ("http", Scheme::Http)];
    let scheme = fields.get("scheme").and_then(|n| reader::word(n, "`scheme`", &schemes, findings));
    let modes = [("always", Intercept::Always), ("never", Intercept::Never)];
    let intercept = fields.get("intercept").and_then(|n| reader::word(n, "`intercept`", &modes, findings));
    let intercept = intercept.unwrap_or(Intercept::Always);
    let server = fields.get("mcp").map(|node| read_mcp(node, &fields, findings));
    let (scheme, hosts, visible) = if let Some(server) = &server {
        let scheme = server.as_ref().map_or(Scheme::Https, |server| server.scheme);
        (scheme, server.as_ref().map(|server| vec![server.host.clone()]), Visible::Mcp)
    } else {
        let scheme = scheme.unwrap_or(Scheme::Https);
        let hosts = fields.get("hosts").map(|node| read_hosts(node, scheme, findings));
        if hosts.is_none() {
            findings
                .report(key.span, format!("the service `{}` has no `hosts`", short(&key.text)))
                .hint("name its hosts, or for an MCP server its endpoint: `mcp: https://host/mcp`");
        }
        let visible = if intercept == Intercept::Never { Visible::Nothing } else { Visible::Http };
        (scheme, hosts, visible)
    };
    let roles = fields.get("roles").map(|node| role::read_all(&key.text, node, visible, findings));
    if roles.is_none() {
        findings
            .report(key.span, format!("the service `{}` has no `roles`", short(&key.text)))
            .hint("without a role nobody can be granted anything on it");
    }
    let graphql = fields.get("graphql").map(|node| read_graphql(node, findings));
    let protocol = if let Some(server) = server {
        Protocol::Mcp(server?.endpoint)
    } else {
        let mut lines = roles.iter().flatten().flat_map(|role| &role.lines);
        let speaks = lines.any(|line| matches!(line.grants, Grants::GraphQl(..)));
        let usual = || Pattern::parse("/graphql").ok().filter(|_| speaks);
        Protocol::Http(graphql.flatten().or_else(usual))
    };
    let plan = plan::Service {
        id: id?,
        scheme,
        intercept,
        private: fields
            .get("allow_private_addresses")
            .map_or(PrivateReach::Nowhere, |n| read_private(n, findings)),
        strip: fields.get("strip").map_or_else(StripPlan::default, |n| read_strip(n, findings)),
        keep: fields.get("keep").map_or_else(Keep::default, |n| read_keep(n, findings)),
        max_body: fields.get("max_body").and_then(|n| read_size(n, findings)),
        via: fields.get("via").and_then(|n| reader::flag(n, "`via`", findings)).unwrap_or(true),
        response_timeout: fields
            .get("response_timeout")
            .and_then(|n| reader::duration(n, "`response_timeout`", findings)),
    };
    let plan = Arc::new(plan);
    Some(Service { plan, protocol, hosts: hosts?, roles: roles?, guards: Vec::new(), span: key.span })
}

impl Service {
    /// A guard speaks of its GraphQL: from here on it is looked at, even if no role does.
    pub(super) fn look_at_graphql(&mut self) {
        if let Protocol::Http(graphql @ None) = &mut self.protocol {
            *graphql = Pattern::parse("/graphql").ok();
        }
    }
}

/// An MCP server as its URL says.
struct Server {
    scheme: Scheme,
    host: HostPattern,
    endpoint: Endpoint,
}

fn read_mcp(node: &Node, fields: &Fields<'_>, findings: &mut Findings) -> Option<Server> {
    for key in ["hosts", "scheme", "intercept", "graphql"] {
        if let Some((key, _)) = fields.entry(key) {
            findings
                .report(key.span, format!("an MCP service has no `{}`", key.text))
                .hint("its URL in `mcp` says where it is and how it is reached");
        }
    }
    let transports = [("http", Transport::Http), ("sse", Transport::Sse)];
    let transport = fields.get("transport").map(|n| reader::word(n, "`transport`", &transports, findings));
    let transport = transport.unwrap_or(Some(Transport::Http))?;
    let messages = match (transport, fields.entry("messages")) {
        (Transport::Http, Some((key, _))) => {
            findings
                .report(key.span, "`messages` belongs to `transport: sse`")
                .hint("in Streamable HTTP, messages go to the endpoint itself");
            return None;
        }
        (Transport::Http, None) => None,
        (Transport::Sse, None) => Path::parse("/message").ok(),
        (Transport::Sse, Some((_, node))) => Some(read_path(node, "`messages`", findings)?),
    };
    let text = reader::text(node, "`mcp`", findings)?;
    let (scheme, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (_, Some(rest)) => (Scheme::Http, rest),
        _ => {
            findings
                .report(node.span, "`mcp` is the URL of the server's endpoint")
                .hint("for example `mcp: https://mcp.example.com/mcp`");
            return None;
        }
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = parse_host(authority, scheme);
    let path = Path::parse(if path.is_empty() { "/" } else { path });
    match (host, path) {
        (Ok(host @ HostPattern { name: HostName::Exact(_), .. }), Ok(path)) => {
            Some(Server { scheme, host, endpoint: Endpoint { path, messages } })
        }
        (Ok(_), Ok(_)) => {
            findings.report(node.span, "an MCP server has one host, without `*`");
            None
        }
        (Err(message), _) => {
            findings.report(node.span, message);
            None
        }
        (_, Err(bad)) => {
            findings.report(node.span, bad.to_string());
            None
        }
    }
}

/// How an MCP server is spoken to.
#[derive(Debug, Clone, Copy)]
enum Transport {
    /// Streamable HTTP: one endpoint.
    Http,
    /// HTTP with SSE (2024-11-05): one path to listen on, another for messages.
    Sse,
}

fn read_path(node: &Node, what: &str, findings: &mut Findings) -> Option<Path> {
    let text = reader::text(node, what, findings)?;
    Path::parse(text).map_err(|bad| _ = findings.report(node.span, format!("{what} is a path: {bad}"))).ok()
}

/// Where a service's GraphQL is: `/graphql`, `/admin/api/*/graphql.json`.
fn read_graphql(node: &Node, findings: &mut Findings) -> Option<Pattern> {
    let text = reader::text(node, "`graphql`", findings)?;
    Pattern::parse(text)
        .map_err(|message| {
            findings
                .report(node.span, format!("`graphql` is the path of the service's GraphQL: {message}"))
                .hint("for example `graphql: /graphql`");
        })
        .ok()
}

fn read_hosts(node: &Node, scheme: Scheme, findings: &mut Findings) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = Vec::new();
    for item in reader::items(node, "`hosts`", findings).unwrap_or_default() {
        let Some(text) = reader::text(item, "a host", findings) else { continue };
        match parse_host(text, scheme) {
            Ok(host) if hosts.contains(&host) => {
                findings.report(item.span, "this host stands twice");
            }
            Ok(host) => hosts.push(host),
            Err(message) => {
                findings.report(item.span, message);
            }
        }
    }
    hosts
}

/// Parses `api.example.com`, `*.example.com`, `api.example.com:8443`, `192.0.2.1`.
fn parse_host(text: &str, scheme: Scheme) -> Result<HostPattern, String> {
    if text.contains("://") || text.contains('/') {
        return Err("a host has no scheme and no path: write `api.example.com`".to_owned());
    }
    let explicit = |authority: &str| {
        crate::target::Authority::parse(authority, Some(scheme.default_port())).map_err(|bad| bad.to_string())
    };
    let (name, port) = if let Some(below) = text.strip_prefix("*.") {
        let authority = explicit(below)?;
        let Some(parent) = authority.host.name().filter(|name| !is_public_suffix(name)) else {
            return Err("`*.` needs a domain that one owner holds, such as `*.example.com`".to_owned());
        };
        (HostName::Below(parent.into()), authority.port)
    } else if text.contains('*') {
        return Err("`*` stands for the whole first label: write `*.example.com`".to_owned());
    } else {
        let authority = explicit(text)?;
        (HostName::Exact(authority.host), authority.port)
    };
    Ok(HostPattern { name, port: Some(port).filter(|port| *port != scheme.default_port()) })
}

/// Whether a name is a place where strangers register names side by side: a wildcard below it would cover all of
/// them. Public suffixes of registries (`com`, `co.uk`), names of one label, and the best known places of hosters;
/// `egret check` knows the others.
fn is_public_suffix(name: &str) -> bool {
    const SHARED: [&str; 16] = [
        "github.io",
        "gitlab.io",
        "pages.dev",
        "workers.dev",
        "vercel.app",
        "netlify.app",
        "herokuapp.com",
        "web.app",
        "firebaseapp.com",
        "azurewebsites.net",
        "cloudfront.net",
        "amazonaws.com",
        "appspot.com",
        "run.app",
        "fly.dev",
        "ngrok.io",
    ];
    let registry = psl::suffix(name.as_bytes()).is_some_and(|suffix| {
        suffix.as_bytes() == name.as_bytes() && suffix.typ() != Some(psl::Type::Private)
    });
    registry || SHARED.contains(&name)
}

fn read_private(node: &Node, findings: &mut Findings) -> PrivateReach {
    match &node.value {
        Value::Bool(true) => PrivateReach::Anywhere,
        Value::Bool(false) => PrivateReach::Nowhere,
        _ => PrivateReach::Within(reader::each(node, "`allow_private_addresses`", findings, |text| {
            text.parse::<IpNet>().map_err(|_| "this is not a network such as `10.0.0.0/8`".to_owned())
        })),
    }
}

fn header_names(node: Option<&Node>, what: &str, findings: &mut Findings) -> Vec<HeaderName> {
    let parse =
        |text: &str| HeaderName::try_from(text).map_err(|_| "this is not the name of a header".to_owned());
    node.map(|node| reader::each(node, what, findings, parse)).unwrap_or_default()
}

fn query_keys(node: Option<&Node>, what: &str, findings: &mut Findings) -> Vec<String> {
    let parse = |text: &str| Ok(text.to_ascii_lowercase());
    node.map(|node| reader::each(node, what, findings, parse)).unwrap_or_default()
}

fn read_strip(node: &Node, findings: &mut Findings) -> StripPlan {
    let Some(fields) = Fields::read(node, "`strip`", &["headers", "query"], findings) else {
        return StripPlan::default();
    };
    StripPlan {
        headers: header_names(fields.get("headers"), "`headers`", findings),
        query: query_keys(fields.get("query"), "`query`", findings),
    }
}

fn read_keep(node: &Node, findings: &mut Findings) -> Keep {
    let keys = ["request_headers", "query", "response_headers", "trailers"];
    let Some(fields) = Fields::read(node, "`keep`", &keys, findings) else { return Keep::default() };
    Keep {
        request_headers: header_names(fields.get("request_headers"), "`request_headers`", findings),
        query: query_keys(fields.get("query"), "`query`", findings),
        response_headers: header_names(fields.get("response_headers"), "`response_headers`", findings),
        trailers: header_names(fields.get("trailers"), "`trailers`", findings),
    }
}

fn read_size(node: &Node, findings: &mut Findings) -> Option<u64> {
    let text = reader::text(node, "`max_body`", findings)?;
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
    let size = units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    });
    if size.is_none_or(|size| size == 0) {
        findings.report(node.span, "`max_body` is a size such as `10MiB` or `512KiB`");
        return None;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label_below_a_domain_with_one_owner() {
        for bad in [
            "*",
            "*.com",
            "*.co.uk",
            "*.github.io",
            "*.localhost",
            "api.*.x",
            "*foo.example.com",
            "*.*.example.com",
            "https://x.example",
            "x.example/v1",
            "*.192.0.2.1",
            "x.example:0",
            "user@x.example",
            "",
        ] {
            assert!(parse_host(bad, Scheme::Https).is_err(), "{bad:?}");
        }
        for good in
            ["*.example.com", "*.x.co.uk", "API.Example.com.", "192.0.2.1", "[::1]:8443", "localhost:8080"]
        {
            assert!(parse_host(good, Scheme::Https).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_port_is_kept_only_where_it_does_not_go_without_saying() {
        for (text, scheme, port) in [
            ("x.example", Scheme::Https, None),
            ("x.example:443", Scheme::Https, None),
            ("x.example:80", Scheme::Https, Some(80)),
            ("x.example:80", Scheme::Http, None),
            ("x.example:8443", Scheme::Https, Some(8443)),
        ] {
            assert_eq!(parse_host(text, scheme).unwrap().port, port, "{text}");
        }
    }
}
