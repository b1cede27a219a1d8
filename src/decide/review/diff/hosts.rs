//! Where two integrations reach.

use std::{collections::HashSet, sync::Arc};

use crate::decide::parts::{
    host::{HostName, HostPattern},
    tenant::{Integration, Tenant},
};

/// So many hosts of many that stay are named in a sentence.
const NAMED: usize = 3;
/// From so many hosts on they are not looked through one by one.
const MANY: usize = 16;

/// The hosts that an integration reaches.
#[derive(Default)]
pub(super) struct Reach<'p> {
    hosts: &'p [HostPattern],
    /// The same as texts, where they are many.
    known: HashSet<String>,
    /// Hosts below its wildcards that it does not reach: another integration of the tenant names them exactly, and
    /// they are that one's, also where it is switched off.
    except: Vec<&'p HostPattern>,
}

impl<'p> Reach<'p> {
    pub(super) fn of(integration: &'p Integration, tenant: Option<&'p Tenant>) -> Self {
        let hosts = integration.hosts();
        let many = hosts.iter().filter(|_| hosts.len() > MANY);
        let known: HashSet<String> = many.map(HostPattern::to_string).collect();
        let mut reach = Self { hosts, known, except: Vec::new() };
        if hosts.iter().any(is_wildcard) {
            let others = tenant.into_iter().flat_map(|tenant| &tenant.integrations);
            let exact = others.flat_map(Integration::hosts).filter(|host| !is_wildcard(host));
            reach.except = exact.filter(|host| !reach.names(host) && reach.is_below(host)).collect();
        }
        reach
    }

    /// Whether it is one of the hosts as they are written.
    fn names(&self, host: &HostPattern) -> bool {
        if self.hosts.len() > MANY {
            self.known.contains(&host.to_string())
        } else {
            self.hosts.contains(host)
        }
    }

    /// Whether it is below one of the wildcards.
    fn is_below(&self, host: &HostPattern) -> bool {
        let HostName::Exact(name) = &host.name else { return false };
        let parent = name.name().and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        parent.is_some_and(|parent| {
            let wildcard = HostPattern { name: HostName::Below(parent.into()), port: host.port };
            self.names(&wildcard)
        })
    }

    fn covers(&self, host: &HostPattern) -> bool {
        (self.names(host) || self.is_below(host)) && !self.except.contains(&host)
    }

    /// What it reaches and the other does not.
    fn beyond(&self, other: &Self) -> Names {
        let beyond = |host: &&HostPattern| self.covers(host) && !other.covers(host);
        // A host that was another integration's, and is reached by a wildcard now.
        let kept = |host: &&HostPattern| !other.hosts.is_empty() && !self.names(host);
        let freed = other.except.iter().copied().filter(kept);
        Names::all(self.hosts.iter().chain(freed).filter(beyond))
    }
}

fn is_wildcard(host: &HostPattern) -> bool {
    matches!(host.name, HostName::Below(_))
}

/// Hosts, and how a sentence names them.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) all: Arc<[String]>,
    pub(super) text: String,
}

impl Names {
    /// Each is named.
    fn all<'h>(hosts: impl Iterator<Item = &'h HostPattern>) -> Self {
        let all: Arc<[String]> = hosts.map(HostPattern::to_string).collect();
        Self { text: all.join(", "), all }
    }

    /// The first few are named.
    fn few<'h>(hosts: impl Iterator<Item = &'h HostPattern>) -> Self {
        let mut names = Self::all(hosts);
        if names.all.len() > NAMED {
            let first: Vec<&str> = names.all.iter().take(NAMED).map(String::as_str).collect();
            names.text = format!("{} and {} more", first.join(", "), names.all.len() - NAMED);
        }
        names
    }
}

/// The hosts of two integrations.
pub(super) struct Hosts {
    pub(super) gained: Names,
    pub(super) common: Names,
    pub(super) lost: Names,
}

impl Hosts {
    pub(super) fn compare(old: &Reach<'_>, new: &Reach<'_>) -> Self {
        // Of a host and a wildcard around it, the host is what both have.
        let common = new.hosts.iter().filter(|host| old.covers(host));
        let within = old.hosts.iter().filter(|host| !new.names(host) && new.covers(host));
        Self { gained: new.beyond(old), lost: old.beyond(new), common: Names::few(common.chain(within)) }
    }
}
