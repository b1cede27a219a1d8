//! What becomes of the lines of a role when it becomes another one, under the guards of two policies.

use std::collections::HashMap;

use super::{
    Guarding,
    index::{Index, outermost},
    units::{Part, Remark, parts},
};
use crate::decide::parts::{
    covers::{Hold, Unit},
    guard::{Effect, Guard, Matched},
    role::Role,
    service::Service,
};

/// A role on a service.
#[derive(Clone, Copy)]
pub(super) struct Held<'p> {
    pub(super) role: &'p Role,
    pub(super) service: &'p Service,
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
    /// The guards that make it so.
    whole: Vec<&'g Guard>,
    /// Guards that take more away from a part of it.
    parts: Vec<&'g Guard>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Free,
    Approval,
    Denied,
}

/// A role's units, and what guards make of each.
struct Granted<'p> {
    held: Option<Held<'p>>,
    units: Vec<Unit>,
    guarded: Vec<Guarded<'p>>,
}

impl<'p> Granted<'p> {
    /// What a role grants, without what is in something else that it grants.
    fn of(held: Option<Held<'p>>) -> Self {
        let lines = held.into_iter().flat_map(|held| &held.role.lines);
        let units = outermost(lines.flat_map(|line| Unit::of(&line.grants)));
        let looks = |held: Held<'p>| units.iter().map(|unit| guarded(unit, held.service)).collect();
        let guarded = held.map(looks).unwrap_or_default();
        Self { held, units, guarded }
    }

    fn each(&self) -> impl Iterator<Item = (&Unit, &Guarded<'p>)> {
        self.units.iter().zip(&self.guarded)
    }

    /// Those that no guard denies.
    fn allowed(&self) -> impl Iterator<Item = (&Unit, &Guarded<'p>)> {
        self.each().filter(|(_, guarded)| guarded.level < Level::Denied)
    }

    /// Everything that it allows.
    fn parts(&self) -> Vec<Part> {
        parts(self.allowed().map(|(unit, guarded)| (unit.clone(), guarded.remark())).collect())
    }

    /// What it allows inside units of another one, by their numbers.
    fn inside(&self, others: &Index<'_>) -> HashMap<usize, Vec<&Unit>> {
        let mut inside: HashMap<usize, Vec<&Unit>> = HashMap::new();
        for (unit, _) in self.allowed() {
            for number in others.around(unit) {
                inside.entry(number).or_default().push(unit);
            }
        }
        inside
    }
}

/// Compares two roles.
pub(super) fn compare(old: Option<Held<'_>>, new: Option<Held<'_>>) -> Lines {
    let (before, after) = (Granted::of(old), Granted::of(new));
    let (in_before, in_after) = (Index::of(&before.units), Index::of(&after.units));
    let (had, keeps) = (before.inside(&in_after), after.inside(&in_before));
    let mut found = Found::default();
    for (number, (unit, now)) in after.each().enumerate() {
        match before.held.filter(|_| in_before.covers(unit)) {
            Some(old) => found.still(unit, &guarded(unit, old.service), now),
            None if now.level < Level::Denied => {
                let mut remark = now.remark();
                remark.note += &beside("had", had.get(&number));
                found.gains.push((unit.clone(), remark));
            }
            None => {}
        }
    }
    for (number, (unit, was)) in before.each().enumerate().filter(|(_, (unit, _))| !in_after.has(unit)) {
        match after.held.filter(|_| in_after.covers(unit)) {
            // A part of what the new role grants: guards may make something else of it.
            Some(new) => found.still(unit, was, &guarded(unit, new.service)),
            None if was.level < Level::Denied => {
                let note = beside("keeps", keeps.get(&number));
                found.losses.push((unit.clone(), Remark { note, ..Remark::default() }));
            }
            None => {}
        }
    }
    Lines {
        gains: parts(found.gains),
        losses: parts(found.losses),
        weaker: parts(found.weaker),
        stricter: parts(found.stricter),
        before: before.parts(),
        after: after.parts(),
    }
}

#[derive(Default)]
struct Found {
    gains: Vec<(Unit, Remark)>,
    losses: Vec<(Unit, Remark)>,
    weaker: Vec<(Unit, Remark)>,
    stricter: Vec<(Unit, Remark)>,
}

impl Found {
    /// A unit that both roles grant.
    fn still(&mut self, unit: &Unit, before: &Guarded<'_>, now: &Guarded<'_>) {
        let mut say = |list: fn(&mut Self) -> &mut Vec<(Unit, Remark)>, note: String, guards: Vec<&Guard>| {
            let guards = guards.into_iter().map(Guarding::of).collect();
            list(self).push((unit.clone(), Remark { note, guards }));
        };
        match (before.level, now.level) {
            (Level::Denied, Level::Free | Level::Approval) => {
                let note = format!("{}, and was denied by a guard", now.note());
                say(|found| &mut found.gains, note, now.all());
            }
            (Level::Free | Level::Approval, Level::Denied) => {
                say(|found| &mut found.losses, " (a guard denies it)".to_owned(), now.whole.clone());
            }
            (Level::Approval, Level::Free) => {
                let note = format!(" needs an approval no longer{}", now.only());
                say(|found| &mut found.weaker, note, before.whole.clone());
            }
            (Level::Free, Level::Approval) => {
                say(|found| &mut found.stricter, " needs an approval now".to_owned(), now.whole.clone());
            }
            (Level::Free, Level::Free)
            | (Level::Approval, Level::Approval)
            | (Level::Denied, Level::Denied) => {}
        }
        if before.level.max(now.level) < Level::Denied {
            for guard in beyond(before, now) {
                say(|found| &mut found.weaker, format!(": {} no longer", told(guard)), vec![guard]);
            }
            for guard in beyond(now, before) {
                say(|found| &mut found.stricter, format!(": {} now", told(guard)), vec![guard]);
            }
        }
    }
}

impl<'g> Guarded<'g> {
    /// What a gain says of the guards.
    fn note(&self) -> String {
        let approval = if self.level == Level::Approval { ", after an approval" } else { "" };
        format!("{approval}{}", self.only())
    }

    fn only(&self) -> String {
        let told = self.parts.iter().map(|guard| told(guard)).collect::<Vec<_>>();
        if told.is_empty() { String::new() } else { format!("; {}", told.join("; ")) }
    }

    fn all(&self) -> Vec<&'g Guard> {
        [self.whole.as_slice(), &self.parts].concat()
    }

    fn remark(&self) -> Remark {
        Remark { note: self.note(), guards: self.all().into_iter().map(Guarding::of).collect() }
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
    let whole = || guards().filter(|guard| guard.hold(unit, service) == Hold::Whole);
    let level_ = whole().map(level).max().unwrap_or(Level::Free);
    let parts = guards().filter(|guard| guard.hold(unit, service) == Hold::Part && level(guard) > level_);
    Guarded {
        level: level_,
        whole: whole().filter(|guard| level(guard) == level_).collect(),
        parts: parts.collect(),
    }
}

/// What else there is of a unit: ` (keeps GET /repos/*)`.
fn beside(word: &str, inside: Option<&Vec<&Unit>>) -> String {
    let inside = inside.into_iter().flatten().map(|unit| ((*unit).clone(), Remark::default()));
    let inside: Vec<String> = parts(inside.collect()).into_iter().map(|part| part.text).collect();
    match inside.as_slice() {
        [] => String::new(),
        some if some.len() <= 3 => format!(" ({word} {})", some.join(", ")),
        [first, rest @ ..] => format!(" ({word} {first} and {} more)", rest.len()),
    }
}
