//! What belongs to nobody alone: guards that move to or out of shadow mode, approvals, tests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{About, Access, Change, Guarding, Kind, Side, lines::same, units};
use crate::decide::{
    files::outline::{entries, items, text},
    parts::{approval::Approvals, guard::Guard, promise::Request},
};

pub(super) fn compare(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    of_guards(old, new, changes);
    of_approvals(old.policy.approvals(), new.policy.approvals(), changes);
    of_tests(old, new, changes);
}

/// Guards that are the same, but for `shadow`.
fn of_guards(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    let has = |side: &Side<'_>, guard: &Guard, shadow: bool| {
        let mut guards = side.policy.guards().iter();
        guards.any(|other| other.shadow == shadow && other.service == guard.service && same(other, guard))
    };
    let mut say = |guard: &Guard, kind: Kind, what: &str| {
        let what = format!("guard `{}`: {what}", guard.text);
        let access = Some(Access::of(units::takes_writes(&guard.matched)));
        let service = guard.service.as_deref().map(Into::into);
        let guards = vec![Guarding::of(guard)];
        let change = Change::of_policy(kind, About::Guard, &what);
        changes.push(Change { access, service, guards, ..change });
    };
    for guard in new.policy.guards() {
        let moved = has(old, guard, !guard.shadow)
            && !has(old, guard, guard.shadow)
            && !has(new, guard, !guard.shadow);
        match (moved, guard.shadow) {
            (true, true) => say(guard, Kind::Weaker, "takes nothing away, it is in shadow mode now"),
            (true, false) => say(guard, Kind::Stricter, "is in shadow mode no longer, it is enforced now"),
            (false, _) => {}
        }
    }
}

fn of_approvals(was: &Approvals, is: &Approvals, changes: &mut Vec<Change>) {
    let mut say = |what: String| {
        changes.push(Change::of_policy(Kind::Changed, About::Approvals, &format!("approvals: {what}")));
    };
    if was.by != is.by {
        let who = |by: &Option<Arc<str>>| by.as_ref().map_or("an operator".to_owned(), ToString::to_string);
        say(format!("are given by {}, was {}", who(&is.by), who(&was.by)));
    }
    if was.within != is.within {
        say(format!("a yes is good for {:?}, was {:?}", is.within, was.within));
    }
    if was.hold != is.hold {
        let time = |time: Duration| {
            if time.is_zero() { "not at all".to_owned() } else { format!("{time:?}") }
        };
        say(format!("a request waits for one {}, was {}", time(is.hold), time(was.hold)));
    }
}

/// Tests that are gone, or promise something else of the same request.
fn of_tests(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    let kept = promises(new);
    for (key, promise) in promises(old) {
        let what = match kept.get(&key) {
            None => format!("test: `{}` is promised no longer", promise.text),
            Some(now) if now.verdict != promise.verdict => {
                format!("test: `{}` is promised now, in place of `{}`", now.text, promise.text)
            }
            Some(_) => continue,
        };
        changes.push(Change::of_policy(Kind::Changed, About::Test, &what));
    }
}

/// One line of a test.
struct Promised {
    verdict: String,
    text: String,
}

/// The tests of a policy, by what they ask, however that is written.
fn promises(side: &Side<'_>) -> BTreeMap<[String; 5], Promised> {
    let mut found = BTreeMap::new();
    for test in side.outline.all("tests").flat_map(items) {
        let field =
            |name: &str| entries(test).find(|(key, _)| key.text == name).and_then(|(_, node)| text(node));
        let [who, user, at] = ["as", "user", "at"].map(|name| field(name).unwrap_or_default());
        let beside = |word: &str, text: &str| {
            if text.is_empty() { String::new() } else { format!(" {word} {text}") }
        };
        let whole = format!("{who}{}{}", beside("for", user), beside("at", at));
        for (verdict, lines) in
            entries(test).filter(|(key, _)| ["allow", "deny", "approve"].contains(&key.text.as_str()))
        {
            for line in items(lines).iter().filter_map(text) {
                let (asked, via) = line.rsplit_once(" via ").unwrap_or((line, ""));
                let asked = Request::read(asked).map_or(asked.to_owned(), |request| format!("{request:?}"));
                let key = [who, user, at, via.trim(), &asked].map(ToOwned::to_owned);
                let verdict = verdict.text.clone();
                let text = format!("{whole}: {verdict} {line}");
                found.insert(key, Promised { verdict, text });
            }
        }
    }
    found
}
