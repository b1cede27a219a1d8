//! What becomes of the lines of a role when it becomes another one, under the guards of two policies.

use std::collections::{HashMap, HashSet};

use super::super::words;
use crate::{
    decide::parts::{
        covers::{Hold, Unit},
        guard::{Effect, Guard, Matched},
        pattern::Methods,
        role::Role,
        service::Service,
    },
    graphql, mcp,
    target::Method,
};

/// A role on a service.
#[derive(Clone, Copy)]
pub(super) struct Held<'p> {
    pub(super) role: &'p Role,
    pub(super) service: &'p Service,
}

/// Something that an agent may do, and a remark about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) write: bool,
    /// `POST, PATCH /repos/*/*/issues/**`, `use tool list_*`.
    pub(super) action: String,
    /// What goes on after hosts and integration.
    pub(super) note: String,
}

/// What is different where both policies reach the same hosts, and what each of them allows altogether.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) gains: Vec<Part>,
    pub(super) losses: Vec<Part>,
    pub(super) weaker: Vec<Part>,
    pub(super) stricter: Vec<Part>,
    /// Everything that the old role allows: what is lost with a host.
    pub(super) before: Vec<Part>,
    /// Everything that the new role allows: what is gained with a host.
    pub(super) after: Vec<Part>,
}

/// What guards make of a unit.
struct Guarded<'g> {
    level: Level,
    /// Guards that take more away from a part of it.
    parts: Vec<&'g Guard>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Free,
    Approval,
    Denied,
}

/// Compares two roles.
pub(super) fn compare(old: Option<Held<'_>>, new: Option<Held<'_>>) -> Lines {
    let (before, after) = (units(old), units(new));
    let mut found = Found::default();
    if let Some(new) = new {
        for unit in &after {
            let now = guarded(unit, new.service);
            match old.filter(|_| before.iter().any(|other| other.includes(unit))) {
                Some(old) => found.still(unit, &guarded(unit, old.service), &now),
                None if now.level < Level::Denied => {
                    let note = format!("{}{}", now.note(), beside("had", unit, &before));
                    found.gains.push((unit.clone(), note));
                }
                None => {}
            }
        }
    }
    for unit in before.iter().filter(|unit| !after.contains(unit)) {
        let Some(old) = old else { continue };
        let was = guarded(unit, old.service);
        match new.filter(|_| after.iter().any(|other| other.includes(unit))) {
            // A part of what the new role grants: guards may make something else of it.
            Some(new) => found.still(unit, &was, &guarded(unit, new.service)),
            None if was.level < Level::Denied => {
                found.losses.push((unit.clone(), beside("keeps", unit, &after)));
            }
            None => {}
        }
    }
    Lines {
        gains: parts(found.gains),
        losses: parts(found.losses),
        weaker: parts(found.weaker),
        stricter: parts(found.stricter),
        before: allowed(old, &before),
        after: allowed(new, &after),
    }
}

#[derive(Default)]
struct Found {
    gains: Vec<(Unit, String)>,
    losses: Vec<(Unit, String)>,
    weaker: Vec<(Unit, String)>,
    stricter: Vec<(Unit, String)>,
}

impl Found {
    /// A unit that both roles grant.
    fn still(&mut self, unit: &Unit, before: &Guarded<'_>, now: &Guarded<'_>) {
        let mut say = |list: fn(&mut Self) -> &mut Vec<(Unit, String)>, note: String| {
            list(self).push((unit.clone(), note));
        };
        match (before.level, now.level) {
            (Level::Denied, Level::Free | Level::Approval) => {
                say(|found| &mut found.gains, format!("{}, and was denied by a guard", now.note()));
            }
            (Level::Free | Level::Approval, Level::Denied) => {
                say(|found| &mut found.losses, " (a guard denies it)".to_owned());
            }
            (Level::Approval, Level::Free) => {
                say(|found| &mut found.weaker, format!(" needs an approval no longer{}", now.only()));
            }
            (Level::Free, Level::Approval) => {
                say(|found| &mut found.stricter, " needs an approval now".to_owned());
            }
            (Level::Free, Level::Free)
            | (Level::Approval, Level::Approval)
            | (Level::Denied, Level::Denied) => {}
        }
        if before.level.max(now.level) < Level::Denied {
            for guard in beyond(before, now) {
                say(|found| &mut found.weaker, format!(": {} no longer", told(guard)));
            }
            for guard in beyond(now, before) {
                say(|found| &mut found.stricter, format!(": {} now", told(guard)));
            }
        }
    }
}

impl Guarded<'_> {
    /// What a gain says of the guards.
    fn note(&self) -> String {
        let approval = if self.level == Level::Approval { ", after an approval" } else { "" };
        format!("{approval}{}", self.only())
    }

    fn only(&self) -> String {
        let told = self.parts.iter().map(|guard| told(guard)).collect::<Vec<_>>();
        if told.is_empty() { String::new() } else { format!("; {}", told.join("; ")) }
    }
}

/// The guards of one that take away what the other leaves.
fn beyond<'g>(one: &Guarded<'g>, other: &Guarded<'_>) -> Vec<&'g Guard> {
    let left =
        |guard: &&Guard| level(guard) > other.level && !other.parts.iter().any(|o| takes_all(o, guard));
    one.parts.iter().copied().filter(left).collect()
}

/// Whether one guard takes everything away that another one takes.
fn takes_all(outer: &Guard, inner: &Guard) -> bool {
    let wider = match (&outer.matched, &inner.matched) {
        (Matched::Http(methods, pattern), Matched::Http(some, line)) => {
            some.each().all(|method| methods.contains(method)) && pattern.guards_all(line)
        }
        (one, other) => one == other,
    };
    let always = outer.when.is_none() || condition(outer) == condition(inner);
    wider && always && level(outer) >= level(inner)
}

fn condition(guard: &Guard) -> Option<&str> {
    guard.when.as_ref().map(|when| when.text.as_str())
}

/// Whether two guards take the same away under the same condition.
pub(super) fn same(one: &Guard, other: &Guard) -> bool {
    one.matched == other.matched && level(one) == level(other) && condition(one) == condition(other)
}

/// A guard and what it does to a part.
fn told(guard: &Guard) -> String {
    let when = guard.when.as_ref().map(|when| format!(" where `{}`", when.text)).unwrap_or_default();
    let does = if level(guard) == Level::Denied { "is denied" } else { "needs an approval" };
    format!("what `{}` covers{when} {does}", guard.text)
}

fn level(guard: &Guard) -> Level {
    match guard.effect {
        Effect::Deny(_) => Level::Denied,
        Effect::Approval => Level::Approval,
    }
}

fn guarded<'g>(unit: &Unit, service: &'g Service) -> Guarded<'g> {
    // Into a tunnel that stays closed no guard can see.
    let guards = || service.guards.iter().map(|guard| &**guard).filter(|guard| !guard.shadow);
    let whole = guards().filter(|guard| guard.hold(unit, service) == Hold::Whole).map(level);
    let level_ = whole.max().unwrap_or(Level::Free);
    let parts = guards().filter(|guard| guard.hold(unit, service) == Hold::Part && level(guard) > level_);
    Guarded { level: level_, parts: parts.collect() }
}

/// What a role grants, without what is in something else that it grants.
fn units(held: Option<Held<'_>>) -> Vec<Unit> {
    let lines = held.iter().flat_map(|held| &held.role.lines);
    let all: Vec<Unit> = lines.flat_map(|line| Unit::of(&line.grants)).collect();
    let within = |at: usize, unit: &Unit| {
        all.iter().enumerate().any(|(other, outer)| {
            other != at && outer.includes(unit) && (other < at || !unit.includes(outer))
        })
    };
    all.iter().enumerate().filter(|(at, unit)| !within(*at, unit)).map(|(_, unit)| unit.clone()).collect()
}

/// What else there is of a unit: ` (keeps GET /repos/*)`.
fn beside(word: &str, unit: &Unit, others: &[Unit]) -> String {
    let inside: Vec<(Unit, String)> = others
        .iter()
        .filter(|other| unit.includes(other))
        .map(|other| (other.clone(), String::new()))
        .collect();
    let inside: Vec<String> = parts(inside).into_iter().map(|part| part.action).collect();
    match inside.as_slice() {
        [] => String::new(),
        some if some.len() <= 3 => format!(" ({word} {})", some.join(", ")),
        [first, rest @ ..] => format!(" ({word} {first} and {} more)", rest.len()),
    }
}

/// Everything that a role allows under its guards.
fn allowed(held: Option<Held<'_>>, units: &[Unit]) -> Vec<Part> {
    let Some(held) = held else { return Vec::new() };
    let allowed = units.iter().filter_map(|unit| {
        let guarded = guarded(unit, held.service);
        (guarded.level < Level::Denied).then(|| (unit.clone(), guarded.note()))
    });
    parts(allowed.collect())
}

/// Units as sentences name them: methods of one path together. `HEAD` goes without saying beside `GET`.
fn parts(mut units: Vec<(Unit, String)>) -> Vec<Part> {
    let read: HashSet<String> = units.iter().filter_map(|(unit, _)| path_of(unit, Method::Get)).collect();
    units.retain(|(unit, _)| path_of(unit, Method::Head).is_none_or(|path| !read.contains(&path)));
    let mut paths: HashMap<(String, String), usize> = HashMap::new();
    let mut parts: Vec<(Methods, Part)> = Vec::new();
    for (unit, note) in units {
        let write = writes(&unit);
        let Unit::Http(method, pattern) = &unit else {
            parts.push((Methods::POST, Part { write, action: named(&unit), note }));
            continue;
        };
        let path = pattern.to_string();
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let at = *paths.entry((path.clone(), note.clone())).or_insert(parts.len());
        if let Some((methods, part)) = parts.get_mut(at) {
            *methods = methods.with(Methods::only(*method));
            part.write |= write;
            part.action = format!("{} {path}", methods.to_string().replace('|', ", "));
        } else {
            let action = format!("{} {path}", method.as_str());
            parts.push((Methods::only(*method), Part { write, action, note }));
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// The path of a unit, where it is of this method.
fn path_of(unit: &Unit, wanted: Method) -> Option<String> {
    match unit {
        Unit::Http(method, pattern) if *method == wanted => Some(pattern.to_string()),
        _ => None,
    }
}

fn named(unit: &Unit) -> String {
    match unit {
        Unit::Http(method, pattern) => format!("{} {pattern}", method.as_str()),
        Unit::Named(kind, glob) => format!("use {} {glob}", kind.as_str()),
        Unit::GraphQl(kind, glob) => format!("use graphql {} {glob}", kind.as_str()),
        Unit::Connect => "open tunnels that egret does not look into".to_owned(),
    }
}

fn writes(unit: &Unit) -> bool {
    match unit {
        Unit::Http(method, _) => !matches!(method, Method::Get | Method::Head | Method::Options),
        Unit::Named(mcp::Named::Resource | mcp::Named::Prompt, _) => false,
        Unit::Named(mcp::Named::Tool, glob) => !words::reads(&glob.to_string()),
        // `tasks/get` says what it does at its end.
        Unit::Named(mcp::Named::Method, glob) => {
            let glob = glob.to_string();
            !words::reads(glob.rsplit('/').next().unwrap_or(&glob))
        }
        Unit::GraphQl(kind, _) => *kind == graphql::Kind::Mutation,
        Unit::Connect => true,
    }
}
