//! Roles: what an agent may do with a service, line by line.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    act::Act,
    matcher::Matcher,
    pattern::{Case, Glob, Methods, Pattern},
    shape,
};
use crate::{
    context::RoleId,
    decide::files::{
        problem::Findings,
        reader::{self, Fields, closest, list, short},
        source::Span,
        yaml::{Key, Node, Value},
    },
    graphql, mcp,
};

/// What an agent may do, compiled.
#[derive(Debug)]
pub(in crate::decide) struct Role {
    pub(in crate::decide) id: RoleId,
    pub(in crate::decide) lines: Vec<RoleLine>,
    matcher: Matcher,
    /// What an OAuth token for it needs, those of included roles too. Shown by `egret catalog`.
    pub(in crate::decide) scopes: Box<[Box<str>]>,
}

/// One line of a role, also when it came through `include`.
#[derive(Debug, Clone)]
pub(in crate::decide) struct RoleLine {
    pub(in crate::decide) grants: Grants,
    /// What the line grants, as it is written: for HTTP the path pattern, otherwise the whole line.
    pub(in crate::decide) route: Arc<str>,
    /// `services.github.roles.writer[1]`.
    pub(in crate::decide) rule: Arc<str>,
    pub(in crate::decide) span: Span,
}

/// What a line grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum Grants {
    /// `GET /repos/**`; also `grpc /package.Service/Method`, which is a `POST`.
    Http(Methods, Pattern),
    /// `tool list_*`, `resource file:///*`, `prompt *`, `method tasks/*`: of an MCP server.
    Named(mcp::Named, Glob),
    /// `graphql mutation issueCreate`.
    GraphQl(graphql::Kind, Glob),
    /// `connect`: a tunnel that stays closed.
    Connect,
}

impl Role {
    /// The line that allows an act, the most specific one where paths decide.
    pub(in crate::decide) fn find(&self, act: &Act<'_>) -> Option<&RoleLine> {
        match act {
            Act::Http(method, path) => self.lines.get(self.matcher.find(*method, path)?),
            Act::Unreadable(_) => None,
            _ => self.lines.iter().find(|line| line.grants.allow(act)),
        }
    }

    /// The numbers of the lines that may grant all that `line` grants, in order, itself among them.
    pub(in crate::decide) fn may_cover(&self, line: &RoleLine) -> Vec<usize> {
        match &line.grants {
            Grants::Http(_, pattern) => {
                let mut found = self.matcher.covering(pattern);
                found.sort_unstable();
                found
            }
            _ => (0..self.lines.len()).collect(),
        }
    }

    /// How much it grants, roughly: what the smallest role is found by.
    fn breadth(&self) -> u32 {
        let of = |line: &RoleLine| match &line.grants {
            Grants::Http(methods, _) => methods.len(),
            Grants::Named(..) | Grants::GraphQl(..) | Grants::Connect => 1,
        };
        self.lines.iter().map(of).sum()
    }
}

impl Grants {
    /// Whether this line alone allows an act.
    fn allow(&self, act: &Act<'_>) -> bool {
        match (self, act) {
            (Self::Named(kind, glob), Act::Named { kind: asked, name, .. }) => {
                kind == asked && glob.matches(name, Case::Sensitive)
            }
            (Self::Named(kind, glob), Act::List { of, method }) => {
                kind == of
                    || *of == mcp::Named::Tool
                    || (*kind == mcp::Named::Method && glob.matches(method, Case::Sensitive))
            }
            // Whoever may do anything at a server may also greet it.
            (Self::Named(..), Act::Plumbing) | (Self::Connect, Act::Tunnel) => true,
            (Self::GraphQl(kind, glob), Act::Field(asked, field)) => {
                // Clients ask for `__typename` everywhere, and it says nothing.
                kind == asked && (glob.matches(field, Case::Sensitive) || *field == "__typename")
            }
            _ => false,
        }
    }
}

/// A role as it is written.
struct Draft<'n> {
    key: &'n Key,
    id: Option<RoleId>,
    includes: Vec<(&'n str, Span)>,
    lines: Vec<RoleLine>,
    scopes: Vec<Box<str>>,
}

/// What a service's requests look like to egret, and so which lines its roles can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Visible {
    /// Methods and paths.
    Http,
    /// Messages of the Model Context Protocol.
    Mcp,
    /// Nothing: its tunnels stay closed.
    Nothing,
}

/// Reads the roles of a service, the smallest first.
pub(in crate::decide) fn read_all(
    service: &str,
    node: &Node,
    visible: Visible,
    findings: &mut Findings,
) -> Vec<Arc<Role>> {
    let Some(entries) = reader::mapping(node, "`roles`", findings) else { return Vec::new() };
    if entries.is_empty() {
        findings.report(node.span, "`roles` is empty");
    }
    let drafts: Vec<Draft<'_>> =
        entries.iter().map(|(key, lines)| read(service, key, lines, visible, findings)).collect();
    let includes = Includes::of(&drafts);
    for (number, draft) in drafts.iter().enumerate() {
        check_includes(number, draft, &includes, findings);
    }
    let mut roles: Vec<Arc<Role>> = drafts
        .iter()
        .enumerate()
        .filter_map(|(number, draft)| compile(draft, includes.of_role(number), &drafts))
        .map(Arc::new)
        .collect();
    roles.sort_by_cached_key(|role| (role.breadth(), role.id.as_str().to_owned()));
    roles
}

fn read<'n>(
    service: &str,
    key: &'n Key,
    node: &'n Node,
    visible: Visible,
    findings: &mut Findings,
) -> Draft<'n> {
    let id = reader::identifier(key, RoleId::parse, findings);
    let mut draft = Draft { key, id, includes: Vec::new(), lines: Vec::new(), scopes: Vec::new() };
    for (index, item) in reader::items(node, "a role", findings).unwrap_or_default().iter().enumerate() {
        let rule: Arc<str> = format!("services.{service}.roles.{}[{index}]", key.text).into();
        match &item.value {
            Value::Text(text) => match parse_line(text, visible) {
                Ok((grants, route)) => draft.lines.push(RoleLine { grants, route, rule, span: item.span }),
                Err((message, hint)) => {
                    findings.report(item.span, message);
                    if let Some(hint) = hint {
                        findings.hint(hint);
                    }
                }
            },
            Value::Map(_) => {
                let fields = Fields::read(item, "a line of a role", shape::ROLE_ENTRY.keys, findings);
                if let Some(node) = fields.as_ref().and_then(|f| f.get("scopes")) {
                    draft.scopes.extend(reader::each(node, "`scopes`", findings, parse_scope));
                }
                let included = fields.and_then(|f| f.get("include"));
                if let Some(name) = included.and_then(|n| reader::text(n, "`include`", findings)) {
                    draft.includes.push((name, included.map_or(item.span, |n| n.span)));
                }
            }
            _ => {
                findings
                    .report(item.span, "a line of a role is `METHOD /path`, `include: ROLE` or `scopes: […]`")
                    .hint("for example `GET /repos/**` or `POST|PATCH /repos/*/*/issues`");
            }
        }
    }
    draft
}

/// A scope (RFC 6749 §3.3).
fn parse_scope(text: &str) -> Result<Box<str>, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    plain.then(|| text.into()).ok_or_else(|| "a scope is one word without quotes or backslashes".to_owned())
}

type Wrong = (String, Option<String>);

fn parse_line(text: &str, visible: Visible) -> Result<(Grants, Arc<str>), Wrong> {
    let (first, rest) = text.split_once(' ').map_or((text, ""), |(first, rest)| (first, rest.trim_start()));
    let wrong = |message: &str, hint: &str| Err((message.to_owned(), Some(hint.to_owned())));
    let kind = named_kind(first);
    match visible {
        Visible::Nothing if text == "connect" => return Ok((Grants::Connect, "connect".into())),
        Visible::Nothing => {
            let message = "a service with `intercept: never` shows egret no methods and paths";
            return wrong(message, "write `connect`, the one thing a role can grant on it");
        }
        Visible::Http if text == "connect" => {
            let hint = "say `intercept: never` in the service to let its tunnels through unopened";
            return wrong("`connect` needs a service that is not intercepted", hint);
        }
        Visible::Http if kind.is_some() => {
            let message = format!("`{first}` lines belong to a service with `mcp`");
            return wrong(&message, "name the server's endpoint in the service: `mcp: https://host/mcp`");
        }
        Visible::Mcp if kind.is_none() => {
            let hint = meant_kind(first).map_or_else(
                || "its lines are `tool NAME`, `resource URI`, `prompt NAME` and `method NAME`".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            return Err(("a role of an MCP service has no such line".to_owned(), Some(hint)));
        }
        Visible::Http | Visible::Mcp => {}
    }
    if kind == Some(mcp::Named::Method)
        && let Some(instead) = never_a_method(rest)
    {
        return wrong(&format!("a `method` line never grants `{rest}`"), instead);
    }
    if let Some(kind) = kind {
        let glob =
            Glob::parse(rest).map_err(|message| (message, Some(format!("for example `{first} list_*`"))))?;
        return Ok((Grants::Named(kind, glob), text.into()));
    }
    match first {
        "graphql" => parse_graphql(rest).map(|(kind, glob)| (Grants::GraphQl(kind, glob), text.into())),
        "grpc" => {
            let pattern = parse_grpc(rest)?;
            Ok((Grants::Http(Methods::POST, pattern), rest.into()))
        }
        _ => parse_http(first, rest),
    }
}

/// Methods that are no role's to grant as such, and what to write instead.
pub(in crate::decide) const NEVER_A_METHOD: [(&str, &str); 6] = [
    ("tools/call", "write `tool NAME`"),
    ("prompts/get", "write `prompt NAME`"),
    ("resources/read", "write `resource URI`"),
    ("resources/subscribe", "write `resource URI`"),
    ("resources/unsubscribe", "write `resource URI`"),
    ("completion/complete", "it goes with `prompt` and `resource` lines"),
];

fn never_a_method(method: &str) -> Option<&'static str> {
    NEVER_A_METHOD.into_iter().find(|(never, _)| *never == method).map(|(_, instead)| instead)
}

fn parse_http(first: &str, rest: &str) -> Result<(Grants, Arc<str>), Wrong> {
    let methods = Methods::parse(first).map_err(|message| (message, method_hint(first)))?;
    if rest.is_empty() {
        return Err(("a line of a role names a path, too".to_owned(), Some(format!("write `{first} /**`"))));
    }
    if !rest.starts_with('/') {
        let message = "the path of a role's line begins with `/`".to_owned();
        return Err((message, Some(format!("write `{first} /{}`", short(rest)))));
    }
    let pattern = Pattern::parse(rest).map_err(|message| (message, None))?;
    Ok((Grants::Http(methods, pattern), rest.into()))
}

/// Parses what follows `graphql`: `query`, `mutation issueCreate`.
pub(in crate::decide) fn parse_graphql(rest: &str) -> Result<(graphql::Kind, Glob), Wrong> {
    let (kind, field) = rest.split_once(' ').map_or((rest, "*"), |(kind, field)| (kind, field.trim_start()));
    let kind = match kind {
        "query" => graphql::Kind::Query,
        "mutation" => graphql::Kind::Mutation,
        _ => {
            let hint = "write `graphql query *` or `graphql mutation FIELD`";
            return Err(("`graphql` is followed by `query` or `mutation`".to_owned(), Some(hint.to_owned())));
        }
    };
    let wrong =
        |_| ("a field of the schema's root is one word".to_owned(), Some("`*` in it is any text".to_owned()));
    Ok((kind, Glob::parse(field).map_err(wrong)?))
}

/// Parses what follows `grpc`: `/package.Service/Method`, where `*` may stand in either part.
pub(in crate::decide) fn parse_grpc(rest: &str) -> Result<Pattern, Wrong> {
    let wrong = || {
        let hint = "write `grpc /package.Service/Method` or `grpc /package.Service/*`";
        ("`grpc` is followed by a service and a method".to_owned(), Some(hint.to_owned()))
    };
    let pattern = Pattern::parse(rest).map_err(|_| wrong())?;
    if pattern.segments.len() == 2 && !pattern.rest { Ok(pattern) } else { Err(wrong()) }
}

/// What a word names at an MCP server.
pub(in crate::decide) fn named_kind(word: &str) -> Option<mcp::Named> {
    KINDS.into_iter().find(|kind| kind.as_str() == word)
}

fn meant_kind(word: &str) -> Option<&'static str> {
    closest(word, KINDS.into_iter().map(mcp::Named::as_str))
}

pub(in crate::decide) const KINDS: [mcp::Named; 4] =
    [mcp::Named::Tool, mcp::Named::Resource, mcp::Named::Prompt, mcp::Named::Method];

/// What to say about a word that is no method.
pub(in crate::decide) fn method_hint(text: &str) -> Option<String> {
    let wrong = text.split('|').find(|name| Methods::parse(name).is_err())?;
    let meant = closest(&wrong.to_ascii_uppercase(), Methods::names());
    Some(meant.map_or_else(
        || format!("methods are {}", list(Methods::names())),
        |meant| format!("did you mean `{meant}`?"),
    ))
}

/// Roles that one role may include, also by way of others.
const MOST_INCLUDED: usize = 64;

/// What each role of a service includes, by number: the roles may be many, and each is followed once.
struct Includes<'n> {
    by_name: HashMap<&'n str, usize>,
    /// The numbers that following a role's includes leads to, itself first; where there are too many, the first of
    /// them.
    all: Vec<Vec<usize>>,
}

impl<'n> Includes<'n> {
    fn of(drafts: &[Draft<'n>]) -> Self {
        let by_name: HashMap<&str, usize> =
            drafts.iter().enumerate().map(|(number, draft)| (draft.key.text.as_str(), number)).collect();
        let direct = |draft: &Draft<'n>| {
            let mut seen = HashSet::new();
            let known = draft.includes.iter().filter_map(|(name, _)| by_name.get(name).copied());
            known.filter(|number| seen.insert(*number)).collect()
        };
        let direct: Vec<Vec<usize>> = drafts.iter().map(direct).collect();
        let mut seen = vec![usize::MAX; drafts.len()];
        let all = (0..drafts.len()).map(|number| Self::follow(number, &direct, &mut seen)).collect();
        Self { by_name, all }
    }

    /// `seen` says for each role who came upon it last: lists are not searched.
    fn follow(from: usize, direct: &[Vec<usize>], seen: &mut [usize]) -> Vec<usize> {
        let mut found = vec![from];
        let mut new =
            |number: usize| seen.get_mut(number).is_some_and(|by| std::mem::replace(by, from) != from);
        new(from);
        let mut at = 0;
        while let Some(next) = found.get(at).and_then(|number| direct.get(*number)) {
            for number in next.iter().copied() {
                if found.len() > MOST_INCLUDED {
                    return found;
                }
                if new(number) {
                    found.push(number);
                }
            }
            at += 1;
        }
        found
    }

    fn of_role(&self, number: usize) -> &[usize] {
        self.all.get(number).map(Vec::as_slice).unwrap_or_default()
    }
}

fn check_includes(number: usize, draft: &Draft<'_>, includes: &Includes<'_>, findings: &mut Findings) {
    for (name, span) in &draft.includes {
        if let Some(included) = includes.by_name.get(name) {
            let all = includes.of_role(*included);
            if all.contains(&number) {
                findings.report(*span, format!("the role `{}` includes itself", short(&draft.key.text)));
            } else if all.len() > MOST_INCLUDED {
                findings.report(*span, "a role includes at most 64 others, also by way of others");
            }
        } else {
            findings.report(*span, format!("the service has no role `{}`", short(name)));
            if let Some(meant) = findings.closest(name, includes.by_name.keys().copied()) {
                findings.hint(format!("did you mean `{meant}`?"));
            }
        }
    }
}

fn compile(draft: &Draft<'_>, includes: &[usize], drafts: &[Draft<'_>]) -> Option<Role> {
    let mut lines: Vec<RoleLine> = Vec::new();
    let mut scopes: Vec<Box<str>> = Vec::new();
    // With too many there is a problem already, and nothing comes of them.
    let includes = if includes.len() > MOST_INCLUDED { includes.get(..1)? } else { includes };
    for part in includes.iter().filter_map(|number| drafts.get(*number)) {
        lines.extend(part.lines.iter().cloned());
        for scope in &part.scopes {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
    }
    let http = lines.iter().enumerate().filter_map(|(number, line)| match &line.grants {
        Grants::Http(methods, pattern) => Some((number, *methods, pattern)),
        _ => None,
    });
    let matcher = Matcher::new(http);
    Some(Role { id: draft.id.clone()?, lines, matcher, scopes: scopes.into() })
}
