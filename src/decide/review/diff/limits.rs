//! How often: the limits of tenants and integrations.

use std::{cmp::Ordering, sync::Arc};

use super::{About, Change, Kind};
use crate::{
    decide::parts::tenant::{Integration, Tenant},
    plan::{LimitRule, LimitScope, Quota},
};

/// The limit of a tenant as a whole. Each of its integrations knows it.
pub(super) fn of_tenants(
    tenant: &Arc<str>,
    old: Option<&Tenant>,
    new: Option<&Tenant>,
    changes: &mut Vec<Change>,
) {
    let first = |tenant: Option<&Tenant>| tenant?.integrations.first().map(|first| first.plan.clone());
    let (Some(old), Some(new)) = (first(old), first(new)) else { return };
    changes.extend(compare(tenant, "", LimitScope::Tenant, &old.limits, &new.limits));
}

/// The limits of an integration.
pub(super) fn of_integrations(
    tenant: &Arc<str>,
    old: &Integration,
    new: &Integration,
    changes: &mut Vec<Change>,
) {
    let place = format!(" on {}", new.id);
    for scope in [LimitScope::Integration, LimitScope::Agent, LimitScope::User] {
        let change = compare(tenant, &place, scope, &old.plan.limits, &new.plan.limits);
        changes.extend(change.map(|change| change.on(new)));
    }
}

fn compare(
    tenant: &Arc<str>,
    place: &str,
    scope: LimitScope,
    old: &[LimitRule],
    new: &[LimitRule],
) -> Option<Change> {
    let of = |rules: &[LimitRule]| rules.iter().find(|rule| rule.scope == scope).map(|rule| rule.quota);
    let per = match scope {
        LimitScope::Tenant | LimitScope::Integration => "",
        LimitScope::Agent => " per agent",
        LimitScope::User => " per user",
    };
    let (what, details) = match (of(old), of(new)) {
        (Some(old), Some(new)) if old != new => {
            (becomes(old, new), format!("{}{per}, was {}", rate(new), rate(old)))
        }
        (Some(old), None) => ("has a limit no longer", format!("it was {}{per}", rate(old))),
        (None, Some(new)) => ("has a limit", format!("{}{per}", rate(new))),
        _ => return None,
    };
    let with = format!("{place}: {details}");
    Some(Change::of_tenant(tenant, Kind::Changed, About::Limit, what, &with))
}

/// A rate has two sides: how many there may be in the long run, and how many at once (`limit::Cell`).
fn becomes(old: Quota, new: Quota) -> &'static str {
    // Requests in a day: every window divides it.
    let daily = |quota: Quota| u64::from(quota.count.get()) * 86_400 / quota.window.as_secs().max(1);
    match (daily(new).cmp(&daily(old)), new.count.cmp(&old.count)) {
        (Ordering::Less, Ordering::Less | Ordering::Equal) => "has a lower limit",
        (Ordering::Greater, Ordering::Greater | Ordering::Equal) => "has a higher limit",
        (Ordering::Less, Ordering::Greater) => "has a lower limit, but one that lets more pass at once",
        (Ordering::Greater, Ordering::Less) => "has a higher limit, but one that lets fewer pass at once",
        (Ordering::Equal, Ordering::Less) => "has the same limit, but one that lets fewer pass at once",
        (Ordering::Equal, _) => "has the same limit, but one that lets more pass at once",
    }
}

fn rate(quota: Quota) -> String {
    let unit = match quota.window.as_secs() {
        1 => "s",
        60 => "min",
        3_600 => "h",
        _ => "d",
    };
    format!("{}/{unit}", quota.count)
}
