//! Who may do what: tenant by tenant, agent by agent, integration by integration.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    Change, Kind, Side, facts,
    lines::{self, Held, Lines, Part},
};
use crate::{
    context::{AgentId, TenantId},
    decide::{
        judge::Mode,
        parts::{
            credential,
            host::{HostName, HostPattern},
            tenant::{Agent, Grant, Integration, Tenant},
        },
    },
};

/// The roles and services that were compared, by their addresses.
type Compared = HashMap<[usize; 4], Rc<Lines>>;

/// One integration in both policies.
pub(super) type Pair<'p> = (Option<&'p Integration>, Option<&'p Integration>);

/// Compares everything that belongs to a tenant.
pub(super) fn compare(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    let of = |side: &Side<'_>| -> BTreeSet<String> {
        side.policy.named_tenants().map(|(id, _)| id.as_str().to_owned()).collect()
    };
    let mut walk = Walk { old, new, compared: HashMap::new(), services: HashSet::new(), changes };
    let names: BTreeSet<String> = of(old).union(&of(new)).cloned().collect();
    for name in names {
        if let Ok(id) = TenantId::parse(&name) {
            walk.tenant(&id, name.as_str().into());
        }
    }
}

struct Walk<'w, 'p> {
    old: &'w Side<'p>,
    new: &'w Side<'p>,
    compared: Compared,
    /// Pairs of services whose own facts were compared.
    services: HashSet<[usize; 2]>,
    changes: &'w mut Vec<Change>,
}

/// One tenant in both policies.
struct Both<'p> {
    name: Arc<str>,
    old: Option<&'p Tenant>,
    new: Option<&'p Tenant>,
    /// Whether the new policy enforces what it says.
    enforced: bool,
}

/// What an agent has on an integration, in one policy.
struct Has<'p> {
    grant: Option<&'p Grant>,
    /// Whether it is what every agent has.
    common: bool,
}

impl<'p> Walk<'_, 'p> {
    fn tenant(&mut self, id: &TenantId, name: Arc<str>) {
        let both = Both {
            old: self.old.policy.tenant(id),
            new: self.new.policy.tenant(id),
            enforced: self.new.policy.mode_of(id) == Mode::Enforce,
            name,
        };
        let before = both.old.map(|_| self.old.policy.mode_of(id));
        let now = both.new.map(|_| self.new.policy.mode_of(id));
        facts::of_modes(&both.name, before, now, self.changes);
        facts::of_tenant_limits(&both.name, both.old, both.new, self.changes);
        let pairs = self.pairs(&both);
        for (old, new) in &pairs {
            let (Some(old), Some(new)) = (old, new) else { continue };
            facts::of_integrations(&both.name, (self.old, old), (self.new, new), self.changes);
            if self.services.insert([address(&*old.service), address(&*new.service)]) {
                facts::of_services(&old.service, &new.service, self.changes);
            }
        }
        let listed = |tenant: Option<&'p Tenant>| -> BTreeMap<Option<&'p AgentId>, &'p Agent> {
            tenant.into_iter().flat_map(Tenant::agents).collect()
        };
        let (old_agents, new_agents) = (listed(both.old), listed(both.new));
        let names: BTreeSet<Option<&AgentId>> = old_agents.keys().chain(new_agents.keys()).copied().collect();
        for agent in names {
            for pair in &pairs {
                let old = has(&old_agents, agent, both.old, pair.0);
                let new = has(&new_agents, agent, both.new, pair.1);
                // What is everybody's is said once, of `*`.
                if agent.is_some() && old.common && new.common {
                    continue;
                }
                self.reach(&both, agent, *pair, (old.grant, new.grant));
            }
        }
    }

    /// The integrations of both policies that belong together: by name, or by what they reach with what.
    fn pairs(&mut self, both: &Both<'p>) -> Vec<Pair<'p>> {
        let of = |tenant: Option<&'p Tenant>| -> Vec<&'p Integration> {
            let all = tenant.map(|tenant| tenant.integrations.as_slice()).unwrap_or_default();
            all.iter().filter(|integration| !integration.disabled).collect()
        };
        let (old, new) = (of(both.old), of(both.new));
        let new_names: HashMap<&str, &'p Integration> = new.iter().map(|i| (i.id.as_str(), *i)).collect();
        let old_names: HashSet<&str> = old.iter().map(|i| i.id.as_str()).collect();
        let mut others: Vec<&'p Integration> =
            new.iter().copied().filter(|i| !old_names.contains(i.id.as_str())).collect();
        let mut pairs: Vec<Pair<'p>> = Vec::new();
        for integration in old {
            let same_name = new_names.get(integration.id.as_str()).copied();
            let renamed = || {
                let same = |other: &&Integration| {
                    other.hosts() == integration.hosts()
                        && other.tier == integration.tier
                        && facts::spec(other, &self.new.root) == facts::spec(integration, &self.old.root)
                };
                others.iter().position(same)
            };
            let found = match same_name {
                Some(found) => Some(found),
                None => renamed().map(|at| others.remove(at)),
            };
            if let Some(found) = found.filter(|found| found.id != integration.id) {
                let what = format!("calls `{}` now `{}`", integration.id, found.id);
                let with = "; agents name it in `X-Agent-Integration` and in the gateway's paths";
                self.changes.push(Change::of_tenant(&both.name, Kind::Changed, &what, with));
            }
            pairs.push((Some(integration), found));
        }
        pairs.extend(others.into_iter().map(|integration| (None, Some(integration))));
        pairs
    }

    /// What changes for an agent on one integration.
    fn reach(
        &mut self,
        both: &Both<'p>,
        agent: Option<&AgentId>,
        pair: Pair<'p>,
        grants: (Option<&'p Grant>, Option<&'p Grant>),
    ) {
        let held = |integration: Option<&'p Integration>, grant: Option<&'p Grant>| {
            Some(Held { role: &grant?.role, service: &integration?.service })
        };
        let (old, new) = (held(pair.0, grants.0), held(pair.1, grants.1));
        if old.is_none() && new.is_none() {
            return;
        }
        let key =
            |held: Option<Held<'p>>| held.map_or([0, 0], |held| [address(held.role), address(held.service)]);
        let ([a, b], [c, d]) = (key(old), key(new));
        let lines =
            self.compared.entry([a, b, c, d]).or_insert_with(|| lines::compare(old, new).into()).clone();
        let hosts = |held: Option<Held<'p>>,
                     integration: Option<&'p Integration>,
                     tenant: Option<&'p Tenant>| {
            let hosts = integration.filter(|_| held.is_some()).map(Integration::hosts).unwrap_or_default();
            Reach { hosts, except: integration.map(|own| taken(own, tenant)).unwrap_or_default() }
        };
        let hosts = Hosts::compare(&hosts(old, pair.0, both.old), &hosts(new, pair.1, both.new));
        let mut say = |kind: Kind, parts: &[Part], hosts: &str| {
            for part in parts.iter().filter(|_| !hosts.is_empty()) {
                self.changes.push(change(kind, part, hosts, both, agent, pair, self.new));
            }
        };
        say(Kind::Gain, &lines.after, &hosts.gained);
        say(Kind::Gain, &lines.gains, &hosts.common);
        say(Kind::Weaker, &lines.weaker, &hosts.common);
        say(Kind::Stricter, &lines.stricter, &hosts.common);
        say(Kind::Loss, &lines.losses, &hosts.common);
        say(Kind::Loss, &lines.before, &hosts.lost);
    }
}

fn change(
    kind: Kind,
    part: &Part,
    hosts: &str,
    both: &Both<'_>,
    agent: Option<&AgentId>,
    pair: Pair<'_>,
    new: &Side<'_>,
) -> Change {
    let Part { action, note, write } = part;
    let what = match kind {
        Kind::Gain => format!("may {action} on {hosts}"),
        Kind::Loss => format!("may no longer {action} on {hosts}"),
        Kind::Changed | Kind::Weaker | Kind::Stricter => format!("{action} on {hosts}"),
    };
    let integration = if kind == Kind::Loss { pair.0 } else { pair.1.or(pair.0) };
    let name = integration.map(|integration| integration.id.as_str()).unwrap_or_default();
    let with = match integration.filter(|_| kind == Kind::Gain) {
        Some(integration) => {
            let credential = credential::describe(integration.plan.credential.as_ref());
            let credential = match credential.as_str() {
                "none" => "no credential".to_owned(),
                text => new.plain(text),
            };
            let shadow = if both.enforced { "" } else { "; not enforced" };
            format!(" via {name} ({}, {credential}{shadow})", integration.tier.as_str())
        }
        None => format!(" via {name}"),
    };
    Change {
        kind,
        write: *write,
        tenant: Some(both.name.clone()),
        agent: Some(agent.map_or("*", |agent| agent.as_str()).into()),
        integration: Some(name.into()),
        what: what.into(),
        with: with.into(),
        note: note.as_str().into(),
    }
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

/// What an agent has on an integration.
fn has<'p>(
    listed: &BTreeMap<Option<&'p AgentId>, &'p Agent>,
    name: Option<&AgentId>,
    tenant: Option<&'p Tenant>,
    integration: Option<&'p Integration>,
) -> Has<'p> {
    let own = listed.get(&name);
    let Some(agent) = own.or_else(|| listed.get(&None)).filter(|agent| !agent.disabled) else {
        return Has { grant: None, common: own.is_none() };
    };
    let is_it = |number: usize| {
        let found = tenant.and_then(|tenant| tenant.integrations.get(number));
        found.zip(integration).is_some_and(|(one, other)| std::ptr::eq(one, other))
    };
    let grant = agent.grants().find(|(number, _)| is_it(*number)).map(|(_, grant)| grant);
    let everyone = listed.get(&None).filter(|everyone| !everyone.disabled);
    let common = match (own, grant) {
        (None, _) => true,
        (Some(_), None) => everyone.is_none_or(|all| !all.grants().any(|(number, _)| is_it(number))),
        (Some(_), Some(grant)) => everyone.is_some_and(|all| {
            all.grants().any(|(number, other)| is_it(number) && other.label == grant.label)
        }),
    };
    Has { grant, common }
}

/// The hosts that an integration reaches.
struct Reach<'p> {
    hosts: &'p [HostPattern],
    /// Hosts below its wildcards that it does not reach.
    except: Vec<&'p HostPattern>,
}

impl Reach<'_> {
    fn covers(&self, host: &HostPattern) -> bool {
        self.hosts.iter().any(|own| covers(own, host)) && !self.except.contains(&host)
    }
}

/// The hosts below an integration's wildcards that another one of the tenant names exactly: they are that one's, also
/// where it is switched off.
fn taken<'p>(integration: &Integration, tenant: Option<&'p Tenant>) -> Vec<&'p HostPattern> {
    let is_wildcard = |host: &&HostPattern| matches!(host.name, HostName::Below(_));
    let wildcards: Vec<&HostPattern> = integration.hosts().iter().filter(is_wildcard).collect();
    if wildcards.is_empty() {
        return Vec::new();
    }
    let own = |host: &HostPattern| integration.hosts().contains(host);
    let others = tenant.into_iter().flat_map(|tenant| &tenant.integrations);
    let exact = others.flat_map(Integration::hosts).filter(|host| !is_wildcard(host) && !own(host));
    exact.filter(|host| wildcards.iter().any(|wildcard| covers(wildcard, host))).collect()
}

/// The hosts of two integrations, as sentences name them.
struct Hosts {
    gained: String,
    common: String,
    lost: String,
}

impl Hosts {
    fn compare(old: &Reach<'_>, new: &Reach<'_>) -> Self {
        // Of a host and a wildcard around it, the host is what both have.
        let common = new.hosts.iter().filter(|host| old.covers(host));
        let within = old.hosts.iter().filter(|host| !new.hosts.contains(host) && new.covers(host));
        Self {
            gained: Self::beyond(new, old),
            lost: Self::beyond(old, new),
            common: shown(common.chain(within)),
        }
    }

    /// What one reaches and the other does not.
    fn beyond(one: &Reach<'_>, other: &Reach<'_>) -> String {
        let beyond = |host: &&HostPattern| one.covers(host) && !other.covers(host);
        // A host that was another integration's, and is reached by a wildcard now.
        let freed = other.except.iter().copied().filter(|host| !one.hosts.contains(host));
        shown(one.hosts.iter().chain(freed).filter(beyond))
    }
}

fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    let names = match (&outer.name, &inner.name) {
        (HostName::Exact(one), HostName::Exact(other)) => one == other,
        (HostName::Below(one), HostName::Below(other)) => one == other,
        (HostName::Below(parent), HostName::Exact(host)) => {
            host.name().and_then(|name| name.split_once('.')).is_some_and(|(_, own)| own == &**parent)
        }
        (HostName::Exact(_), HostName::Below(_)) => false,
    };
    names && outer.port == inner.port
}

fn shown<'h>(hosts: impl Iterator<Item = &'h HostPattern>) -> String {
    let hosts: Vec<String> = hosts
        .map(|host| {
            let name = match &host.name {
                HostName::Exact(host) => host.to_string(),
                HostName::Below(parent) => format!("*.{parent}"),
            };
            host.port.map_or(name.clone(), |port| format!("{name}:{port}"))
        })
        .collect();
    match hosts.as_slice() {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}
