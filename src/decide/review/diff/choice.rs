//! Which of several integrations a request goes through, where an agent has roles on more than one that covers a host.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    About, Change, Kind,
    tenants::{Own, Pair},
};
use crate::decide::parts::{host::HostPattern, protocol::Protocol, service::Service};

/// Two integrations by their places among the pairs, and the hosts that both cover.
type Clashes = BTreeMap<(usize, usize), Vec<String>>;

/// The integrations of a tenant that cover the same hosts, in both policies.
pub(super) struct Choices {
    old: Clashes,
    new: Clashes,
}

impl Choices {
    pub(super) fn of(pairs: &[Pair<'_>]) -> Self {
        Self {
            old: clashes(pairs.iter().map(|pair| pair.old)),
            new: clashes(pairs.iter().map(|pair| pair.new)),
        }
    }

    /// Where an agent has to choose now, and where it has no longer. `held` says on which side it has a role.
    pub(super) fn compare<'p>(
        &self,
        tenant: &Arc<str>,
        agent: &str,
        pairs: &[Pair<'p>],
        held: impl Fn(&Pair<'p>) -> (bool, bool),
        changes: &mut Vec<Change>,
    ) {
        if self.old.is_empty() && self.new.is_empty() {
            return;
        }
        let held: Vec<(bool, bool)> = pairs.iter().map(held).collect();
        let has = |at: &usize| held.get(*at).copied().unwrap_or_default();
        let had = |(one, other): &(usize, usize)| has(one).0 && has(other).0;
        let has = |(one, other): &(usize, usize)| has(one).1 && has(other).1;
        let mut tell = |kind: Kind, key: &(usize, usize), hosts: &[String]| {
            let name = |at: usize| {
                let own = pairs.get(at).and_then(|pair| pair.new.or(pair.old));
                own.map(|own| own.integration.id.as_str()).unwrap_or_default()
            };
            let (one, other, at) = (name(key.0), name(key.1), hosts.join(", "));
            let what = if kind == Kind::Stricter {
                format!(
                    "`{one}` and `{other}` both reach {at} now: what both know, or neither, is refused with \
                     `integration_ambiguous` unless it names one in `X-Agent-Integration`"
                )
            } else {
                format!("`{one}` and `{other}` both reach {at} no longer: requests need not name one of them")
            };
            let change = Change::of_tenant(tenant, kind, About::Choice, &what, "");
            let agent = Some(agent.into());
            changes.push(Change { agent, hosts: hosts.into(), integration: Some(other.into()), ..change });
        };
        for (key, hosts) in self.new.iter().filter(|(key, _)| has(key)) {
            let before = self.old.get(key).filter(|_| had(key));
            let added = beyond(hosts, before);
            if !added.is_empty() {
                tell(Kind::Stricter, key, &added);
            }
        }
        for (key, hosts) in self.old.iter().filter(|(key, _)| had(key)) {
            let now = self.new.get(key).filter(|_| has(key));
            let ended = beyond(hosts, now);
            if !ended.is_empty() {
                tell(Kind::Weaker, key, &ended);
            }
        }
    }
}

fn beyond(hosts: &[String], others: Option<&Vec<String>>) -> Vec<String> {
    hosts.iter().filter(|host| others.is_none_or(|others| !others.contains(host))).cloned().collect()
}

fn clashes<'p>(integrations: impl Iterator<Item = Option<Own<'p>>>) -> Clashes {
    let mut clashes = Clashes::new();
    let integrations: Vec<_> = integrations.collect();
    if integrations.iter().flatten().count() < 2 {
        return clashes;
    }
    // Only equal names meet: of a name and a wildcard around it, the name is taken.
    let mut seen: HashMap<String, Vec<(usize, &HostPattern, &Service)>> = HashMap::new();
    for (at, own) in integrations.into_iter().enumerate() {
        let Some(own) = own else { continue };
        let service = &*own.integration.service;
        for host in own.integration.hosts() {
            let name = HostPattern { name: host.name.clone(), port: None };
            let others = seen.entry(name.to_string()).or_default();
            for (other, theirs, served) in others.iter() {
                if *other != at && ports_meet(theirs.port, host.port) && !apart(served, service) {
                    clashes.entry((*other, at)).or_default().push(host.to_string());
                }
            }
            others.push((at, host, service));
        }
    }
    clashes
}

fn ports_meet(one: Option<u16>, other: Option<u16>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(port), None) | (None, Some(port)) => matches!(port, 80 | 443),
        (Some(one), Some(other)) => one == other,
    }
}

/// Whether requests can be told apart by the path alone.
fn apart(one: &Service, other: &Service) -> bool {
    matches!((&one.protocol, &other.protocol), (Protocol::Mcp(one), Protocol::Mcp(other)) if !one.meets(other))
}
