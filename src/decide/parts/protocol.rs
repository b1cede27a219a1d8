//! How a service is spoken to: by methods and paths, by GraphQL, or by the Model Context Protocol.

use super::{host::Hosts, pattern::Pattern};
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields},
        yaml::Node,
    },
    target::{Method, Path, Scheme},
};

/// What a request's body has to be looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Look {
    /// Nothing: method and path say it all.
    Nothing,
    /// Messages of the Model Context Protocol.
    Mcp,
    /// The same, where the answer is read in the stream of a session.
    McpInSession,
    /// That there is none: an MCP server is told something by `POST` only.
    McpWithoutBody,
    /// GraphQL operations.
    GraphQl,
    /// GraphQL operations, in the query of the URL.
    GraphQlInQuery,
}

/// How a service is spoken to.
#[derive(Debug)]
pub(in crate::decide) enum Protocol {
    /// Methods and paths; and where its GraphQL is, if a role or a guard speaks of it.
    Http(Option<Pattern>),
    /// The Model Context Protocol.
    Mcp(Endpoint),
}

/// Where an MCP server is spoken to.
#[derive(Debug)]
pub(in crate::decide) struct Endpoint {
    path: Path,
    /// What servers may take for the same path: another case, a final `/` and the like.
    near: Pattern,
    /// Where messages go in the transport of 2024-11-05, whose `path` is only listened on, and what is near to it.
    messages: Option<(Path, Pattern)>,
}

impl Endpoint {
    /// Where clients begin.
    pub(in crate::decide) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::decide) fn is_at(&self, path: &Path) -> bool {
        self.near.guards(path) || self.messages.as_ref().is_some_and(|(_, near)| near.guards(path))
    }

    /// Where messages are sent.
    pub(in crate::decide) fn posts_to(&self) -> &Path {
        self.messages.as_ref().map_or(&self.path, |(path, _)| path)
    }

    /// Whether the answer to a message is read in the stream of a session.
    pub(in crate::decide) fn answers_in_a_stream(&self) -> bool {
        self.messages.is_some()
    }

    /// Whether another server stands at the same path.
    pub(in crate::decide) fn meets(&self, other: &Self) -> bool {
        other.is_at(&self.path) || self.messages.as_ref().is_some_and(|(path, _)| other.is_at(path))
    }

    /// Whether a request of this kind belongs to the transport.
    pub(in crate::decide) fn takes(&self, method: Method, path: &Path) -> bool {
        match (method, &self.messages) {
            (Method::Get, _) | (Method::Post | Method::Delete, None) => self.path == *path,
            (Method::Post, Some((messages, _))) => messages == path,
            _ => false,
        }
    }
}

/// An MCP server as its URL says.
pub(in crate::decide) struct Server {
    pub(in crate::decide) scheme: Scheme,
    pub(in crate::decide) hosts: Hosts,
    pub(in crate::decide) endpoint: Endpoint,
}

/// Reads `mcp`, `transport` and `messages`.
pub(in crate::decide) fn read_mcp(
    node: &Node,
    fields: &Fields<'_>,
    findings: &mut Findings,
) -> Option<Server> {
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
    if rest.contains(['?', '#']) {
        findings.report(node.span, "the URL of an MCP server has no query and no fragment");
        return None;
    }
    if path.contains('*') {
        findings
            .report(node.span, "the URL of an MCP server is one URL, without `*`")
            .hint("describe each server as a service of its own");
        return None;
    }
    let path = Path::parse(if path.is_empty() { "/" } else { path });
    let hosts = Hosts::one(authority, scheme).map_err(|message| _ = findings.report(node.span, message));
    match (hosts, path) {
        (Ok(hosts), Ok(path)) => {
            let mut near = |path: &Path| {
                Pattern::parse(path.as_str()).map_err(|message| _ = findings.report(node.span, message)).ok()
            };
            let messages = match messages {
                Some(path) => Some((near(&path)?, path)),
                None => None,
            };
            let endpoint =
                Endpoint { near: near(&path)?, path, messages: messages.map(|(near, path)| (path, near)) };
            Some(Server { scheme, hosts, endpoint })
        }
        (_, Err(bad)) => {
            findings.report(node.span, bad.to_string());
            None
        }
        (Err(()), Ok(_)) => None,
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
    if text.contains(['?', '#', '*']) {
        findings.report(node.span, format!("{what} is one path, without `*` and without a query"));
        return None;
    }
    Path::parse(text).map_err(|bad| _ = findings.report(node.span, format!("{what} is a path: {bad}"))).ok()
}

/// Where a service's GraphQL is: `/graphql`, `/admin/api/*/graphql.json`.
pub(in crate::decide) fn read_graphql(node: &Node, findings: &mut Findings) -> Option<Pattern> {
    let text = reader::text(node, "`graphql`", findings)?;
    let one = |pattern: Pattern| {
        if pattern.rest { Err("it is one path, and `**` are many".to_owned()) } else { Ok(pattern) }
    };
    Pattern::parse(text)
        .and_then(one)
        // What is looked into is more than what is granted: a server may take a path below for the same.
        .map(|pattern| Pattern { rest: true, ..pattern })
        .map_err(|message| {
            findings
                .report(node.span, format!("`graphql` is the path of the service's GraphQL: {message}"))
                .hint("for example `graphql: /graphql`");
        })
        .ok()
}
