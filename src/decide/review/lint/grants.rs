//! What roles grant: too much, or the same twice.

use super::{
    super::words::{self, Destroys},
    Code, Given, Look, in_force, is_own, written,
};
use crate::{
    decide::{
        files::outline::{entries, items, text},
        parts::{
            covers::{Hold, Unit},
            pattern::{Case, Glob, Pattern},
            protocol::Protocol,
            role::{Grants, Role, RoleLine},
            service::Service,
        },
    },
    graphql, mcp,
    target::Method,
};

pub(super) fn look(look: &mut Look<'_>) {
    let roles = std::mem::take(&mut look.roles);
    for given in &roles {
        for line in &given.role.lines {
            deletes(given, line, look);
            graphql_post(given, line, look);
        }
    }
    look.roles = roles;
    for (_, service) in look.policy.services().filter(|(_, service)| is_own(service.span)) {
        for role in &service.roles {
            redundant(service, role, look);
        }
    }
    twice_included(look);
}

/// What a guard would have to say.
const GUARD: &str = "add a guard with `require: approval` or `deny`";

fn deletes(given: &Given<'_>, line: &RoleLine, look: &mut Look<'_>) {
    let service = given.service;
    let (unit, what) = match &line.grants {
        Grants::Http(methods, pattern) if methods.contains(Method::Delete) => {
            (Unit::Http(Method::Delete, pattern.clone()), "grants DELETE")
        }
        Grants::Named(kind @ mcp::Named::Tool, glob) => match words::destroys(&glob.to_string()) {
            Destroys::Yes => (Unit::Named(*kind, glob.clone()), "grants tools that delete"),
            Destroys::Perhaps => (Unit::Named(*kind, glob.clone()), "may grant tools that delete"),
            Destroys::No => return,
        },
        Grants::GraphQl(kind @ graphql::Kind::Mutation, glob) => match words::destroys(&glob.to_string()) {
            Destroys::Yes => (Unit::GraphQl(*kind, glob.clone()), "grants mutations that delete"),
            Destroys::Perhaps => (Unit::GraphQl(*kind, glob.clone()), "may grant mutations that delete"),
            Destroys::No => return,
        },
        _ => return,
    };
    let called = given.called(line);
    let at = given.place(line);
    match coverage(&unit, service) {
        Hold::Whole => {}
        Hold::Part => {
            let some = in_force(service).find(|guard| guard.hold(&unit, service) == Hold::Part);
            let guard = some.map(|guard| guard.text.to_string()).unwrap_or_default();
            let (looks, hint) = if some.is_some_and(|guard| guard.when.is_some()) {
                ("holds only under its condition", format!("{GUARD} and without `when`"))
            } else {
                let hint = format!("widen the guard to `{}`", wanted(&unit, service));
                ("looks only at a part of it", hint)
            };
            look.report(
                Code::UnguardedDelete,
                at,
                format!("{called} {what}, and the guard `{guard}` {looks}"),
            )
            .hint(hint);
        }
        Hold::None => {
            look.report(Code::UnguardedDelete, at, format!("{called} {what}, and no guard looks at it"))
                .hint(format!("{GUARD}: `match: {}`", wanted(&unit, service)));
        }
    }
}

/// How far guards look at a unit. Names that delete may be covered word by word.
fn coverage(unit: &Unit, service: &Service) -> Hold {
    let most = in_force(service).map(|guard| guard.hold(unit, service)).max().unwrap_or(Hold::None);
    let by_words = || {
        words::DESTROY.iter().all(|word| {
            let Ok(glob) = Glob::parse(&format!("*{word}*")) else { return false };
            let part = match unit {
                Unit::Named(kind, line) if line.includes(&glob, Case::Insensitive) => {
                    Unit::Named(*kind, glob)
                }
                Unit::GraphQl(kind, line) if line.includes(&glob, Case::Insensitive) => {
                    Unit::GraphQl(*kind, glob)
                }
                _ => return false,
            };
            in_force(service).any(|guard| guard.hold(&part, service) == Hold::Whole)
        })
    };
    if most == Hold::Part && by_words() { Hold::Whole } else { most }
}

/// The guard that covers a unit.
fn wanted(unit: &Unit, service: &Service) -> String {
    let id = &service.plan.id;
    match unit {
        Unit::Http(method, pattern) => format!("{id} {} {pattern}", method.as_str()),
        Unit::Named(kind, glob) => format!("{id} {} {glob}", kind.as_str()),
        Unit::GraphQl(kind, glob) => format!("{id} graphql {} {glob}", kind.as_str()),
        Unit::Connect => format!("{id} connect"),
    }
}

fn graphql_post(given: &Given<'_>, line: &RoleLine, look: &mut Look<'_>) {
    let Grants::Http(methods, pattern) = &line.grants else { return };
    let Protocol::Http(place) = &given.service.protocol else { return };
    let Some(place) = place.clone().or_else(|| Pattern::parse("/graphql").ok()) else { return };
    if !methods.contains(Method::Post) || !pattern.guards_some(&place) {
        return;
    }
    let posts = Unit::Http(Method::Post, place.clone());
    let mutations = Glob::parse("*").map(|glob| Unit::GraphQl(graphql::Kind::Mutation, glob));
    let guarded = in_force(given.service).any(|guard| {
        guard.hold(&posts, given.service) == Hold::Whole
            || mutations.as_ref().is_ok_and(|unit| guard.hold(unit, given.service) == Hold::Whole)
    });
    if !guarded {
        let message = format!("{} covers `{place}`: it grants every GraphQL mutation", given.called(line));
        look.report(Code::GraphqlPost, given.place(line), message)
            .hint("write `graphql query *` and the mutations that are meant, and name other paths");
    }
}

/// Lines that stand in a role and grant nothing beyond another line of it.
fn redundant(service: &Service, role: &Role, look: &mut Look<'_>) {
    let beginning = format!("services.{}.roles.{}[", service.plan.id, role.id);
    let lines: Vec<(&RoleLine, Vec<Unit>)> =
        role.lines.iter().map(|line| (line, Unit::of(&line.grants))).collect();
    let includes = |outer: &[Unit], inner: &[Unit]| {
        inner.iter().all(|unit| outer.iter().any(|other| other.includes(unit)))
    };
    for (number, (line, units)) in lines.iter().enumerate() {
        if !line.rule.starts_with(&beginning) {
            continue;
        }
        let other = role.may_cover(line).into_iter().find(|other| {
            let Some((_, theirs)) = lines.get(*other) else { return false };
            // Of two that grant the same, the later one is too much.
            *other != number && includes(theirs, units) && (*other < number || !includes(units, theirs))
        });
        if let Some((other, _)) = other.and_then(|other| lines.get(other)) {
            let message = format!("`{}` grants nothing beyond `{}`", written(line), written(other));
            look.report(Code::RedundantLine, line.span, message)
                .hint(format!("`{}` of the same role covers it: leave it out", other.rule));
        }
    }
}

/// An `include` that stands twice in one role.
fn twice_included(look: &mut Look<'_>) {
    let mut twice = Vec::new();
    for services in look.outline.all("services") {
        let roles = entries(services).flat_map(|(_, service)| entries(service));
        let roles = roles.filter(|(key, _)| key.text == "roles").flat_map(|(_, roles)| entries(roles));
        for (_, lines) in roles {
            let mut seen = Vec::new();
            for (_, included) in
                items(lines).iter().flat_map(entries).filter(|(key, _)| key.text == "include")
            {
                let Some(name) = text(included) else { continue };
                if seen.contains(&name) {
                    twice.push((included.span, name.to_owned()));
                }
                seen.push(name);
            }
        }
    }
    for (span, name) in twice {
        look.report(Code::NeverMatches, span, format!("`{name}` is included twice"))
            .hint("leave one of the two out");
    }
}
