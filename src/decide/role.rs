//! Roles: what an agent may do with a service, line by line.

use std::{collections::HashMap, sync::Arc};

use super::{
    matcher::Matcher,
    pattern::{Methods, Pattern},
    problem::Findings,
    reader::{self, Fields, closest, list, short},
    source::Span,
    yaml::{Key, Node, Value},
};
use crate::{
    context::RoleId,
    plan::Intercept,
    target::{Method, Path},
};

/// What an agent may do, compiled.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) id: RoleId,
    pub(super) lines: Vec<RoleLine>,
    matcher: Matcher,
    /// Whether it holds `connect`.
    pub(super) connect: Option<RoleLine>,
    /// What an OAuth token for it needs, those of included roles too. Shown by `egret catalog`.
    pub(super) scopes: Box<[Box<str>]>,
}

/// One line of a role, also when it came through `include`.
#[derive(Debug, Clone)]
pub(super) struct RoleLine {
    pub(super) methods: Methods,
    pub(super) pattern: Pattern,
    /// The path pattern as it is written.
    pub(super) route: Arc<str>,
    /// `services.github.roles.writer[1]`.
    pub(super) rule: Arc<str>,
    pub(super) span: Span,
}

impl Role {
    pub(super) fn find(&self, method: Method, path: &Path) -> Option<&RoleLine> {
        self.lines.get(self.matcher.find(method, path)?)
    }
}

/// A role as it is written.
struct Draft<'n> {
    key: &'n Key,
    id: Option<RoleId>,
    includes: Vec<(&'n str, Span)>,
    lines: Vec<RoleLine>,
    connect: Option<RoleLine>,
    scopes: Vec<Box<str>>,
}

/// Reads the roles of a service, the smallest first.
pub(super) fn read_all(
    service: &str,
    node: &Node,
    intercept: Intercept,
    findings: &mut Findings,
) -> Vec<Arc<Role>> {
    let Some(entries) = reader::mapping(node, "`roles`", findings) else { return Vec::new() };
    if entries.is_empty() {
        findings.report(node.span, "`roles` is empty");
    }
    let drafts: Vec<Draft<'_>> =
        entries.iter().map(|(key, lines)| read(service, key, lines, intercept, findings)).collect();
    let by_name: HashMap<&str, &Draft<'_>> = drafts.iter().map(|d| (d.key.text.as_str(), d)).collect();
    for draft in &drafts {
        check_includes(draft, &by_name, findings);
    }
    let mut roles: Vec<Arc<Role>> =
        drafts.iter().filter_map(|draft| compile(draft, &by_name)).map(Arc::new).collect();
    roles.sort_by_cached_key(|role| {
        let breadth: u32 = role.lines.iter().map(|line| line.methods.len()).sum();
        (breadth, role.id.as_str().to_owned())
    });
    roles
}

fn read<'n>(
    service: &str,
    key: &'n Key,
    node: &'n Node,
    intercept: Intercept,
    findings: &mut Findings,
) -> Draft<'n> {
    let id = reader::identifier(key, RoleId::parse, findings);
    let mut draft =
        Draft { key, id, includes: Vec::new(), lines: Vec::new(), connect: None, scopes: Vec::new() };
    for (index, item) in reader::items(node, "a role", findings).unwrap_or_default().iter().enumerate() {
        let rule: Arc<str> = format!("services.{service}.roles.{}[{index}]", key.text).into();
        match &item.value {
            Value::Text(text) => match parse_line(text, intercept) {
                Ok(Line::Connect) => {
                    let pattern = Pattern { segments: Vec::new(), rest: true };
                    let methods = Methods::ANY;
                    draft.connect =
                        Some(RoleLine { methods, pattern, route: "connect".into(), rule, span: item.span });
                }
                Ok(Line::Http { methods, pattern, route }) => {
                    draft.lines.push(RoleLine { methods, pattern, route, rule, span: item.span });
                }
                Err((message, hint)) => {
                    findings.report(item.span, message);
                    if let Some(hint) = hint {
                        findings.hint(hint);
                    }
                }
            },
            Value::Map(_) => {
                let fields = Fields::read(item, "a line of a role", &["include", "scopes"], findings);
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

enum Line {
    Http { methods: Methods, pattern: Pattern, route: Arc<str> },
    Connect,
}

fn parse_line(text: &str, intercept: Intercept) -> Result<Line, (String, Option<String>)> {
    let (first, rest) = text.split_once(' ').map_or((text, ""), |(first, rest)| (first, rest.trim_start()));
    if ["tool", "graphql", "grpc"].contains(&first) {
        let message = format!("`{first}` lines are not supported yet");
        return Err((message, Some("grant HTTP methods and paths for now".to_owned())));
    }
    match (text == "connect", intercept) {
        (true, Intercept::Never) => return Ok(Line::Connect),
        (true, Intercept::Always) => {
            let hint = "say `intercept: never` in the service to let its tunnels through unopened";
            return Err((
                "`connect` needs a service that is not intercepted".to_owned(),
                Some(hint.to_owned()),
            ));
        }
        (false, Intercept::Never) => {
            let hint = "write `connect`, the one thing a role can grant on it";
            let message = "a service with `intercept: never` shows egret no methods and paths";
            return Err((message.to_owned(), Some(hint.to_owned())));
        }
        (false, Intercept::Always) => {}
    }
    let methods = Methods::parse(first).map_err(|message| (message, method_hint(first)))?;
    if rest.is_empty() {
        return Err(("a line of a role names a path, too".to_owned(), Some(format!("write `{first} /**`"))));
    }
    if !rest.starts_with('/') {
        let message = "the path of a role's line begins with `/`".to_owned();
        return Err((message, Some(format!("write `{first} /{}`", short(rest)))));
    }
    let pattern = Pattern::parse(rest).map_err(|message| (message, None))?;
    Ok(Line::Http { methods, pattern, route: rest.into() })
}

/// What to say about a word that is no method.
pub(super) fn method_hint(text: &str) -> Option<String> {
    let wrong = text.split('|').find(|name| Methods::parse(name).is_err())?;
    let meant = closest(&wrong.to_ascii_uppercase(), Methods::names());
    Some(meant.map_or_else(
        || format!("methods are {}", list(Methods::names())),
        |meant| format!("did you mean `{meant}`?"),
    ))
}

fn check_includes(draft: &Draft<'_>, all: &HashMap<&str, &Draft<'_>>, findings: &mut Findings) {
    for (name, span) in &draft.includes {
        if !all.contains_key(name) {
            findings.report(*span, format!("the service has no role `{}`", short(name)));
            if let Some(meant) = closest(name, all.keys().copied()) {
                findings.hint(format!("did you mean `{meant}`?"));
            }
        } else if reaches(name, &draft.key.text, all) {
            findings.report(*span, format!("the role `{}` includes itself", short(&draft.key.text)));
        }
    }
}

/// Whether following the includes of `from` leads to `to`.
fn reaches(from: &str, to: &str, all: &HashMap<&str, &Draft<'_>>) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while let Some(name) = seen.get(at).copied() {
        if name == to {
            return true;
        }
        for (next, _) in all.get(name).map(|draft| draft.includes.as_slice()).unwrap_or_default() {
            if !seen.contains(next) {
                seen.push(next);
            }
        }
        at += 1;
    }
    false
}

fn compile(draft: &Draft<'_>, all: &HashMap<&str, &Draft<'_>>) -> Option<Role> {
    let mut lines = Vec::new();
    let mut connect = None;
    let mut scopes: Vec<Box<str>> = Vec::new();
    let mut names = vec![draft.key.text.as_str()];
    let mut at = 0;
    while let Some(part) = names.get(at).and_then(|name| all.get(name)) {
        lines.extend(part.lines.iter().cloned());
        connect = connect.or_else(|| part.connect.clone());
        for scope in &part.scopes {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        for (next, _) in &part.includes {
            if all.contains_key(next) && !names.contains(next) {
                names.push(next);
            }
        }
        at += 1;
    }
    let matcher = Matcher::new(lines.iter().map(|line| (line.methods, &line.pattern)));
    Some(Role { id: draft.id.clone()?, lines, matcher, connect, scopes: scopes.into() })
}
