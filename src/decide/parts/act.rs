//! What a request does, as far as a policy can see it: one act, or several of which each must be allowed.

use std::sync::{Arc, LazyLock};

use crate::{
    graphql, mcp,
    target::{Method, Path},
};

/// What was found in a request's body, where its service is one whose requests say in the body what they do.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nothing was looked for.
    Nothing,
    /// Messages of the Model Context Protocol.
    Mcp(mcp::Body),
    /// Fields of GraphQL roots.
    GraphQl(graphql::Fields),
    /// Something that has no single meaning. What is wrong, safe to show.
    Unclear(&'static str),
}

impl Seen {
    /// Whether the body, or the query in its place, was looked into.
    pub(in crate::decide) fn is_something(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Without arguments of tools that take much memory: while an answer is under way they are asked for only when
    /// the policy changes, and a condition that then misses them takes the answer away.
    pub(in crate::decide) fn keep_little(&mut self) {
        if let Self::Mcp(body) = self {
            body.keep_little();
        }
    }

    pub(crate) const NOTHING: &'static Self = &Self::Nothing;

    /// Nothing, shared: most requests have it, and none of them pays for it.
    pub(in crate::decide) fn nothing() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Seen>> = LazyLock::new(|| Arc::new(Seen::Nothing));
        SHARED.clone()
    }
}

/// One thing that a request does.
#[derive(Debug, Clone, Copy)]
pub enum Act<'q> {
    /// Method and path.
    Http(Method, &'q Path),
    /// One message of the Model Context Protocol that names what it wants.
    Named {
        /// What the name is of.
        kind: mcp::Named,
        /// The name.
        name: &'q str,
        /// What a tool is called with.
        arguments: Option<&'q serde_json::Value>,
    },
    /// A list of what a role may have: of tools for every role, of others where it names any.
    List {
        /// What is listed.
        of: mcp::Named,
        /// The JSON-RPC method.
        method: &'q str,
    },
    /// What every client of an MCP server needs, whatever its role.
    Plumbing,
    /// One field of a GraphQL root.
    Field(graphql::Kind, &'q str),
    /// A GraphQL request that cannot be read.
    Unreadable(&'static str),
    /// A tunnel that stays closed to egret.
    Tunnel,
}

impl<'q> Act<'q> {
    /// The URI of the resource that it is about.
    pub(in crate::decide) fn resource(&self) -> Option<&'q str> {
        match self {
            Self::Named { kind: mcp::Named::Resource, name, .. } => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Display for Act<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(Method::Other, _) => f.write_str("this method"),
            Self::Http(method, path) => {
                let path: String = path.as_str().chars().take(200).collect();
                write!(f, "{} {path}", method.as_str())
            }
            Self::Named { kind, name, .. } => {
                let name: String = name.chars().take(200).collect();
                write!(f, "{} {name}", kind.as_str())
            }
            Self::List { method, .. } => write!(f, "method {method}"),
            Self::Plumbing => f.write_str("this endpoint"),
            Self::Field(kind, field) => {
                let field: String = field.chars().take(200).collect();
                write!(f, "graphql {} {field}", kind.as_str())
            }
            Self::Unreadable(what) => write!(f, "a GraphQL request that cannot be read ({what})"),
            Self::Tunnel => f.write_str("a tunnel"),
        }
    }
}

impl<'q> From<&'q mcp::Item> for Act<'q> {
    fn from(item: &'q mcp::Item) -> Self {
        match &item.ask {
            mcp::Ask::Named(kind, name) => {
                let arguments = Some(&item.arguments).filter(|arguments| !arguments.is_null());
                Self::Named { kind: *kind, name, arguments }
            }
            mcp::Ask::List(of) => Self::List { of: *of, method: &item.method },
            mcp::Ask::Plumbing => Self::Plumbing,
        }
    }
}

/// The fields that a request asks for.
pub(in crate::decide) fn fields(fields: &graphql::Fields) -> impl Iterator<Item = Act<'_>> {
    fields.iter().map(|(kind, field)| Act::Field(*kind, field))
}
