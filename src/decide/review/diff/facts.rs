//! What changes beside who may do what: credentials, limits, how a service is reached, modes, guards, promises.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use super::{Change, Kind, Side, lines::same};
use crate::{
    decide::{
        files::outline::{entries, items, text},
        judge::Mode,
        parts::{
            credential,
            protocol::Protocol,
            service::Service,
            tenant::{Integration, Tenant, TierKind},
        },
    },
    plan::{Intercept, LimitRule, LimitScope, PrivateReach, Quota},
    target::Scheme,
};

impl Change {
    /// A change of a tenant, whatever its agents may do.
    pub(super) fn of_tenant(tenant: &Arc<str>, kind: Kind, what: &str, with: &str) -> Self {
        Self {
            kind,
            write: false,
            tenant: Some(tenant.clone()),
            agent: None,
            integration: None,
            what: what.into(),
            with: with.into(),
            note: "".into(),
        }
    }

    /// A change of the whole policy.
    fn of_policy(kind: Kind, what: &str) -> Self {
        Self {
            kind,
            write: false,
            tenant: None,
            agent: None,
            integration: None,
            what: what.into(),
            with: "".into(),
            note: "".into(),
        }
    }
}

impl Side<'_> {
    /// A text about a credential, without the directory that this policy stands in.
    pub(super) fn plain(&self, text: &str) -> String {
        plain(text, &self.root)
    }
}

fn plain(text: &str, root: &str) -> String {
    if root == "/" { text.to_owned() } else { text.replace(root, "") }
}

/// Everything about an integration's credential, to tell whether it is the same. Never shown.
pub(super) fn spec(integration: &Integration, root: &str) -> String {
    plain(&format!("{:?}", integration.plan.credential), root)
}

/// The mode of a tenant.
pub(super) fn of_modes(tenant: &Arc<str>, old: Option<Mode>, new: Option<Mode>, changes: &mut Vec<Change>) {
    match (old, new) {
        (Some(Mode::Enforce) | None, Some(Mode::Shadow)) => {
            let what = "is in shadow mode: no rule is enforced, what no role covers goes out, too";
            changes.push(Change { write: true, ..Change::of_tenant(tenant, Kind::Gain, what, "") });
        }
        (Some(Mode::Shadow), Some(Mode::Enforce)) => {
            let what = "is in shadow mode no longer: its rules are enforced";
            changes.push(Change::of_tenant(tenant, Kind::Stricter, what, ""));
        }
        _ => {}
    }
}

/// The limit of a tenant as a whole. Each of its integrations knows it.
pub(super) fn of_tenant_limits(
    tenant: &Arc<str>,
    old: Option<&Tenant>,
    new: Option<&Tenant>,
    changes: &mut Vec<Change>,
) {
    let first = |tenant: Option<&Tenant>| {
        tenant.and_then(|tenant| tenant.integrations.first()).map(|i| i.plan.clone())
    };
    let (Some(old), Some(new)) = (first(old), first(new)) else { return };
    of_limits(tenant, "", LimitScope::Tenant, (&old.limits, &new.limits), changes);
}

fn of_limits(
    tenant: &Arc<str>,
    place: &str,
    scope: LimitScope,
    (old, new): (&[LimitRule], &[LimitRule]),
    changes: &mut Vec<Change>,
) {
    let of = |rules: &[LimitRule]| rules.iter().find(|rule| rule.scope == scope).map(|rule| rule.quota);
    let per = match scope {
        LimitScope::Tenant | LimitScope::Integration => "",
        LimitScope::Agent => " per agent",
        LimitScope::User => " per user",
    };
    // Requests in a day, to compare rates of different windows.
    let daily = |quota: Quota| u64::from(quota.count.get()) * 86_400 / quota.window.as_secs().max(1);
    let (kind, what, details) = match (of(old), of(new)) {
        (Some(old), Some(new)) if old != new => {
            let word = if daily(new) < daily(old) { "a lower" } else { "a higher" };
            (Kind::Changed, format!("has {word} limit"), format!("{}{per}, was {}", rate(new), rate(old)))
        }
        (Some(old), None) => {
            (Kind::Changed, "has a limit no longer".to_owned(), format!("it was {}{per}", rate(old)))
        }
        (None, Some(new)) => (Kind::Changed, "has a limit".to_owned(), format!("{}{per}", rate(new))),
        _ => return,
    };
    changes.push(Change::of_tenant(tenant, kind, &what, &format!("{place}: {details}")));
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

/// What comes with an integration.
pub(super) fn of_integrations(
    tenant: &Arc<str>,
    (old_side, old): (&Side<'_>, &Integration),
    (new_side, new): (&Side<'_>, &Integration),
    changes: &mut Vec<Change>,
) {
    let name = &new.id;
    let before = changes.len();
    if old.tier != new.tier {
        let what = match new.tier {
            TierKind::App => "acts as APP: no user is needed",
            TierKind::User => "acts as USER: the token must name a user",
        };
        let with = format!(" on {name}, was {}", old.tier.as_str());
        changes.push(Change::of_tenant(tenant, Kind::Changed, what, &with));
    }
    if spec(old, &old_side.root) != spec(new, &new_side.root) {
        let was = old_side.plain(&credential::describe(old.plan.credential.as_ref()));
        let is = new_side.plain(&credential::describe(new.plan.credential.as_ref()));
        let with = if was == is {
            format!(" on {name}: {is}, with other details")
        } else {
            format!(" on {name}: {is}, was {was}")
        };
        changes.push(Change::of_tenant(tenant, Kind::Changed, "attaches another credential", &with));
    }
    let place = format!(" on {name}");
    for scope in [LimitScope::Integration, LimitScope::Agent, LimitScope::User] {
        of_limits(tenant, &place, scope, (&old.plan.limits, &new.plan.limits), changes);
    }
    for change in changes.iter_mut().skip(before) {
        change.integration = Some(name.as_str().into());
    }
}

/// How a service is reached.
pub(super) fn of_services(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let (was, is) = (&old.plan, &new.plan);
    let mut say = |what: String| {
        let what = format!("service {}: {what}", is.id);
        changes.push(Change::of_policy(Kind::Changed, &what));
    };
    if was.scheme != is.scheme {
        say(match is.scheme {
            Scheme::Http => "is reached by http: the credential goes out in clear".to_owned(),
            Scheme::Https => "is reached by https".to_owned(),
        });
    }
    if was.intercept != is.intercept {
        say(match is.intercept {
            Intercept::Never => {
                "its tunnels stay closed (`intercept: never`): no request is judged, no credential attached"
                    .to_owned()
            }
            Intercept::Always => "its tunnels are opened, each request is judged".to_owned(),
        });
    }
    if was.private != is.private {
        say(format!("may resolve to {}, was {}", private(&is.private), private(&was.private)));
    }
    of_protocols(old, new, &mut say);
    let lists: [(&str, Vec<String>, Vec<String>); 6] = [
        ("strips the headers", texts(&was.strip.headers), texts(&is.strip.headers)),
        ("strips the query keys", texts(&was.strip.query), texts(&is.strip.query)),
        (
            "lets through the request headers",
            texts(&was.keep.request_headers),
            texts(&is.keep.request_headers),
        ),
        ("lets through the query keys", texts(&was.keep.query), texts(&is.keep.query)),
        (
            "lets through the response headers",
            texts(&was.keep.response_headers),
            texts(&is.keep.response_headers),
        ),
        ("lets through the trailers", texts(&was.keep.trailers), texts(&is.keep.trailers)),
    ];
    for (words, was, is) in lists.into_iter().filter(|(_, was, is)| was != is) {
        let shown = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        say(format!("{words} {}, was {}", shown(&is), shown(&was)));
    }
    if was.max_body != is.max_body {
        let size =
            |size: Option<u64>| size.map_or("the usual one".to_owned(), |size| format!("{size} bytes"));
        say(format!("the largest body is {}, was {}", size(is.max_body), size(was.max_body)));
    }
    if was.response_timeout != is.response_timeout {
        let time = |time: Option<std::time::Duration>| {
            time.map_or("the usual time".to_owned(), |t| format!("{t:?}"))
        };
        say(format!("an answer may take {}, was {}", time(is.response_timeout), time(was.response_timeout)));
    }
    if was.via != is.via {
        say(format!("`Via` is {}", if is.via { "sent" } else { "not sent" }));
    }
}

fn of_protocols(old: &Service, new: &Service, say: &mut impl FnMut(String)) {
    match (&old.protocol, &new.protocol) {
        (Protocol::Mcp(was), Protocol::Mcp(is)) if format!("{was:?}") != format!("{is:?}") => {
            say("its MCP endpoint is at another path".to_owned());
        }
        (Protocol::Http(_), Protocol::Mcp(_)) => say("is an MCP server now".to_owned()),
        (Protocol::Mcp(_), Protocol::Http(_)) => say("is an MCP server no longer".to_owned()),
        (Protocol::Http(Some(was)), Protocol::Http(Some(is))) if was != is => {
            say(format!("its GraphQL is at {is}, was {was}"));
        }
        _ => {}
    }
}

fn private(reach: &PrivateReach) -> String {
    match reach {
        PrivateReach::Nowhere => "public addresses only".to_owned(),
        PrivateReach::Anywhere => "any private address".to_owned(),
        PrivateReach::Within(networks) => texts(networks).join(", "),
    }
}

fn texts<T: ToString + Debug>(list: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

/// What belongs to nobody alone.
pub(super) fn of_policies(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    for guard in old.policy.guards().iter().filter(|guard| !guard.shadow) {
        let equal = |shadow: bool| {
            let mut guards = new.policy.guards().iter();
            guards.any(|other| other.shadow == shadow && other.service == guard.service && same(other, guard))
        };
        if equal(true) && !equal(false) {
            let what = format!("guard `{}`: takes nothing away, it is in shadow mode", guard.text);
            changes.push(Change::of_policy(Kind::Weaker, &what));
        }
    }
    let (was, is) = (old.policy.approvals(), new.policy.approvals());
    if was != is {
        let who = |by: &Option<Arc<str>>| by.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        let what = format!(
            "approvals: are given by {} for {:?}, was {} for {:?}",
            who(&is.by),
            is.within,
            who(&was.by),
            was.within
        );
        changes.push(Change::of_policy(Kind::Changed, &what));
    }
    let kept = promises(new);
    for promise in promises(old).difference(&kept) {
        changes.push(Change::of_policy(Kind::Changed, &format!("test: `{promise}` is promised no longer")));
    }
}

/// The tests of a policy, each line a text.
fn promises(side: &Side<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for test in side.outline.all("tests").flat_map(items) {
        let field =
            |name: &str| entries(test).find(|(key, _)| key.text == name).and_then(|(_, node)| text(node));
        let who = field("as").unwrap_or_default();
        let user = field("user").map(|user| format!(" for {user}")).unwrap_or_default();
        let at = field("at").map(|at| format!(" at {at}")).unwrap_or_default();
        for (kind, lines) in
            entries(test).filter(|(key, _)| ["allow", "deny", "approve"].contains(&key.text.as_str()))
        {
            for line in items(lines).iter().filter_map(text) {
                found.insert(format!("{who}{user}{at}: {} {line}", kind.text));
            }
        }
    }
    found
}
