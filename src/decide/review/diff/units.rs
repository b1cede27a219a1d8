//! Parts of a role as sentences and programs name them.

use std::collections::{HashMap, HashSet};

use super::{super::words, Access, Action, Guarding};
use crate::{
    decide::parts::{
        covers::Unit,
        guard::{Effect, Guard, Matched},
        pattern::{Glob, Methods, Pattern},
    },
    graphql, mcp,
    target::Method,
};

/// Something that an agent may do, and a remark about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) access: Access,
    /// `POST, PATCH /repos/*/*/issues/**`, `use tool list_*`.
    pub(super) text: String,
    pub(super) action: Action,
    pub(super) remark: Remark,
}

/// What is said of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remark {
    /// What goes on after hosts and integration.
    pub(super) note: String,
    pub(super) guards: Vec<Guarding>,
}

impl Part {
    /// What shadow mode lets out.
    pub(super) fn anything() -> Self {
        Self {
            access: Access::Write,
            text: "send any request".to_owned(),
            action: action("any", None),
            remark: Remark {
                note: ": shadow mode enforces no role and no guard".to_owned(),
                ..Remark::default()
            },
        }
    }
}

impl Guarding {
    pub(super) fn of(guard: &Guard) -> Self {
        Self {
            matched: guard.text.clone(),
            effect: match guard.effect {
                Effect::Deny(_) => "deny",
                Effect::Approval => "approval",
            },
            when: guard.when.as_ref().map(|when| when.text.clone()),
        }
    }
}

/// Units as sentences name them: methods of one path together. `HEAD` goes without saying beside `GET`.
pub(super) fn parts(mut units: Vec<(Unit, Remark)>) -> Vec<Part> {
    let read: HashSet<String> = units.iter().filter_map(|(unit, _)| path_of(unit, Method::Get)).collect();
    units.retain(|(unit, _)| path_of(unit, Method::Head).is_none_or(|path| !read.contains(&path)));
    let mut paths: HashMap<(String, String), usize> = HashMap::new();
    let mut parts: Vec<(Methods, Part)> = Vec::new();
    for (unit, remark) in units {
        let access = Access::of(writes(&unit));
        let Unit::Http(method, pattern) = &unit else {
            let (text, action) = named(&unit);
            parts.push((Methods::POST, Part { access, text, action, remark }));
            continue;
        };
        let path = shown(pattern);
        let at = *paths.entry((path.clone(), remark.note.clone())).or_insert(parts.len());
        if let Some((methods, part)) = parts.get_mut(at) {
            *methods = methods.with(Methods::only(*method));
            part.access = part.access.min(access);
            for guard in remark.guards {
                if !part.remark.guards.contains(&guard) {
                    part.remark.guards.push(guard);
                }
            }
            (part.text, part.action) = requests(*methods, path);
        } else {
            let methods = Methods::only(*method);
            let (text, action) = requests(methods, path);
            parts.push((methods, Part { access, text, action, remark }));
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// The path of a unit, where it is of this method.
fn path_of(unit: &Unit, wanted: Method) -> Option<String> {
    match unit {
        Unit::Http(method, pattern) if *method == wanted => Some(shown(pattern)),
        _ => None,
    }
}

fn shown(pattern: &Pattern) -> String {
    let path = pattern.to_string();
    if path.is_empty() { "/".to_owned() } else { path }
}

fn requests(methods: Methods, path: String) -> (String, Action) {
    let names = methods.each().filter(|method| *method != Method::Head || !methods.contains(Method::Get));
    let names: Vec<&'static str> = names.map(Method::as_str).collect();
    let shown = if methods == Methods::ANY { "ANY".to_owned() } else { names.join(", ") };
    let text = format!("{shown} {path}");
    (text, Action { kind: "http", methods: names, path: Some(path), name: None })
}

fn named(unit: &Unit) -> (String, Action) {
    let of = |kind: &'static str, glob: &Glob| action(kind, Some(glob.to_string()));
    match unit {
        Unit::Http(method, pattern) => requests(Methods::only(*method), shown(pattern)),
        Unit::Named(kind, glob) => (format!("use {} {glob}", kind.as_str()), of(kind.as_str(), glob)),
        Unit::GraphQl(kind, glob) => {
            (format!("use graphql {} {glob}", kind.as_str()), of(kind.as_str(), glob))
        }
        Unit::Connect => ("open tunnels that egret does not look into".to_owned(), action("connect", None)),
    }
}

fn action(kind: &'static str, name: Option<String>) -> Action {
    Action { kind, methods: Vec::new(), path: None, name }
}

/// Whether a unit writes, or may.
pub(super) fn writes(unit: &Unit) -> bool {
    match unit {
        Unit::Http(method, _) => is_write(*method),
        Unit::Named(kind, glob) => names_write(*kind, glob),
        Unit::GraphQl(kind, _) => *kind == graphql::Kind::Mutation,
        Unit::Connect => true,
    }
}

/// Whether what a guard looks at writes, or may.
pub(super) fn takes_writes(matched: &Matched) -> bool {
    match matched {
        Matched::Http(methods, _) => methods.each().any(is_write),
        Matched::Named(kind, glob) => names_write(*kind, glob),
        Matched::GraphQl(kind, _) => *kind == graphql::Kind::Mutation,
    }
}

fn is_write(method: Method) -> bool {
    !matches!(method, Method::Get | Method::Head | Method::Options)
}

fn names_write(kind: mcp::Named, glob: &Glob) -> bool {
    let glob = glob.to_string();
    match kind {
        mcp::Named::Resource | mcp::Named::Prompt => false,
        mcp::Named::Tool => !words::reads(&glob),
        // `tasks/get` says what it does at its end.
        mcp::Named::Method => !words::reads(glob.rsplit('/').next().unwrap_or(&glob)),
    }
}
