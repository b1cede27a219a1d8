//! A service as the policy describes it: hosts, roles, and how it is reached.

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::{
    credential::Attach,
    guard::Guard,
    host::Hosts,
    pattern::Pattern,
    protocol::{self, Look, Protocol},
    provider,
    role::{self, Grants, Role, Visible},
    shape,
};
use crate::{
    context::ServiceId,
    decide::files::{
        problem::Findings,
        reader::{self, Fields, short},
        source::Span,
        yaml::{Key, Node, Value},
    },
    plan::{self, Intercept, Keep, PrivateReach, StripPlan},
    target::{Method, Path, Scheme},
};

/// What exists out there, ready to be asked.
#[derive(Debug)]
pub(in crate::decide) struct Service {
    pub(in crate::decide) plan: Arc<plan::Service>,
    pub(in crate::decide) protocol: Protocol,
    pub(in crate::decide) hosts: Hosts,
    /// Where it wants its secrets, where it says so.
    pub(in crate::decide) attach: Option<Attach>,
    /// Where it wants a token, where that is not `Authorization: Bearer`.
    pub(in crate::decide) token_places: Option<Attach>,
    /// The smallest first: the first that covers a request is the role to ask for.
    pub(in crate::decide) roles: Vec<Arc<Role>>,
    /// The guards that reach it, in the policy's order.
    pub(in crate::decide) guards: Vec<Arc<Guard>>,
    pub(in crate::decide) span: Span,
}

impl Service {
    pub(in crate::decide) fn role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.iter().find(|role| role.id.as_str() == name)
    }

    pub(in crate::decide) fn is_opaque(&self) -> bool {
        self.plan.intercept == Intercept::Never
    }

    /// Whether it is an MCP server with an endpoint at this path.
    pub(in crate::decide) fn is_at(&self, path: &Path) -> bool {
        matches!(&self.protocol, Protocol::Mcp(endpoint) if endpoint.is_at(path))
    }

    /// Whether it is an MCP server that answers in a stream of its own (the transport of 2024-11-05).
    pub(in crate::decide) fn answers_in_a_stream(&self) -> bool {
        matches!(&self.protocol, Protocol::Mcp(endpoint) if endpoint.answers_in_a_stream())
    }

    /// What a request's body has to be looked at for.
    pub(in crate::decide) fn looks_for(&self, method: Method, path: &Path) -> Look {
        match &self.protocol {
            Protocol::Mcp(endpoint) if method == Method::Post && endpoint.takes(method, path) => {
                if endpoint.answers_in_a_stream() { Look::McpInSession } else { Look::Mcp }
            }
            Protocol::Mcp(_) => Look::McpWithoutBody,
            Protocol::Http(Some(graphql)) if graphql.guards(path) => match method {
                Method::Get | Method::Head => Look::GraphQlInQuery,
                _ => Look::GraphQl,
            },
            Protocol::Http(_) => Look::Nothing,
        }
    }

    /// Whether this is where and how a GraphQL request is sent (GraphQL over HTTP §5). More is looked into than that:
    /// a server may take `/GraphQL/` for the same.
    pub(in crate::decide) fn is_graphql(&self, method: Method, path: &Path) -> bool {
        let sends = matches!(method, Method::Get | Method::Head | Method::Post);
        sends && matches!(&self.protocol, Protocol::Http(Some(place)) if place.is_whole(path))
    }
}

/// Reads a service. None where nothing can be built from it; the reasons are in `findings`.
pub(in crate::decide) fn read(key: &Key, node: &Node, findings: &mut Findings) -> Option<Service> {
    let id = reader::identifier(key, ServiceId::parse, findings);
    let fields = Fields::read(node, "a service", shape::SERVICE.keys, findings)?;
    let schemes = [("https", Scheme::Https), ("http", Scheme::Http)];
    let scheme = fields.get("scheme").and_then(|n| reader::word(n, "`scheme`", &schemes, findings));
    let modes = [("always", Intercept::Always), ("never", Intercept::Never)];
    let intercept = fields.get("intercept").and_then(|n| reader::word(n, "`intercept`", &modes, findings));
    let intercept = intercept.unwrap_or(Intercept::Always);
    let server = fields.get("mcp").map(|node| protocol::read_mcp(node, &fields, findings));
    let (scheme, hosts, visible) = if let Some(server) = &server {
        (server.as_ref().map_or(Scheme::Https, |server| server.scheme), None, Visible::Mcp)
    } else {
        let scheme = scheme.unwrap_or(Scheme::Https);
        let hosts = fields.get("hosts").map(|node| Hosts::read(node, scheme, findings));
        if hosts.is_none() {
            findings
                .report(key.span, format!("the service `{}` has no `hosts`", short(&key.text)))
                .hint("name its hosts, or for an MCP server its endpoint: `mcp: https://host/mcp`");
        }
        let visible = if intercept == Intercept::Never { Visible::Nothing } else { Visible::Http };
        (scheme, hosts, visible)
    };
    let attach = fields.entry("attach").and_then(|(key, node)| {
        if intercept == Intercept::Never {
            findings.report(key.span, "nothing can be attached in a tunnel that is not intercepted");
        }
        Attach::read(node, findings)
    });
    let token_places = fields.get("attach_token").and_then(|node| {
        let attach = Attach::read(node, findings)?;
        if attach.names() != ["token"] {
            findings.report(node.span, "`attach_token` has one placeholder: `\"{token}\"`");
        }
        Some(attach)
    });
    let errors = fields.get("errors").map(|node| provider::read_errors(node, findings));
    let roles = fields.get("roles").map(|node| role::read_all(&key.text, node, visible, findings));
    if roles.is_none() {
        findings
            .report(key.span, format!("the service `{}` has no `roles`", short(&key.text)))
            .hint("without a role nobody can be granted anything on it");
    }
    let graphql = fields.get("graphql").map(|node| protocol::read_graphql(node, findings));
    let (protocol, hosts) = if let Some(server) = server {
        let server = server?;
        (Protocol::Mcp(server.endpoint), Some(server.hosts))
    } else {
        let mut lines = roles.iter().flatten().flat_map(|role| &role.lines);
        let speaks = lines.any(|line| matches!(line.grants, Grants::GraphQl(..)));
        let usual = || Pattern::parse("/graphql/**").ok().filter(|_| speaks);
        (Protocol::Http(graphql.flatten().or_else(usual)), hosts)
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
        errors: errors.unwrap_or_default(),
    };
    let plan = Arc::new(plan);
    let (hosts, roles) = (hosts?, roles?);
    Some(Service { plan, protocol, hosts, attach, token_places, roles, guards: Vec::new(), span: key.span })
}

impl Service {
    /// A guard speaks of its GraphQL: from here on it is looked at, even if no role does.
    pub(in crate::decide) fn look_at_graphql(&mut self) {
        if let Protocol::Http(graphql @ None) = &mut self.protocol {
            *graphql = Pattern::parse("/graphql/**").ok();
        }
    }
}

/// Which private addresses names may resolve to.
pub(in crate::decide) fn read_private(node: &Node, findings: &mut Findings) -> PrivateReach {
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
    let Some(fields) = Fields::read(node, "`strip`", shape::STRIP.keys, findings) else {
        return StripPlan::default();
    };
    StripPlan {
        headers: header_names(fields.get("headers"), "`headers`", findings),
        query: query_keys(fields.get("query"), "`query`", findings),
    }
}

fn read_keep(node: &Node, findings: &mut Findings) -> Keep {
    let Some(fields) = Fields::read(node, "`keep`", shape::KEEP.keys, findings) else {
        return Keep::default();
    };
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
