//! The draft: what was seen, and how a policy would name it.

mod roles;
mod seen;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::super::records::{Decision, Tally};
use crate::{
    context::{AgentId, IntegrationId, TenantId},
    decide::{Act, Catalogue},
    mcp,
    target::{Path, Scheme},
};
use roles::{Lines, READER, WRITER};
use seen::{Ask, CREDENTIALS, LeftOut, Sample, Seen, Shape, Site, smallest};
use text::{Heading, free_name, slug};

/// What was seen, to be written as a policy.
#[derive(Debug, Default)]
pub(super) struct Draft(Seen);

/// A service of the draft.
struct Service<'d> {
    sites: &'d BTreeSet<Site>,
    scheme: Scheme,
    body: Body,
    roles: BTreeMap<Who<'d>, String>,
}

/// An agent of a tenant.
type Who<'d> = (&'d TenantId, &'d AgentId);

enum Body {
    /// The catalogue describes it.
    Catalogue,
    /// Its tunnels pass unopened.
    Tunnel,
    /// An MCP server, with its endpoint.
    Mcp(Path, Lines),
    Http(Lines),
}

/// What the policy that wrote the log calls a tenant's integration, and what it attached.
#[derive(Debug, Default)]
struct Known {
    name: Option<IntegrationId>,
    credentials: BTreeSet<String>,
}

impl Draft {
    /// Takes one request that left egret.
    pub(super) fn saw(&mut self, decision: &Decision) {
        self.0.saw(decision);
    }

    /// The draft as YAML; none when nothing was seen.
    pub(super) fn write(mut self, catalogue: &Catalogue, tally: &Tally) -> Option<String> {
        self.0.settle();
        let (first, last) = tally.span.as_ref()?;
        if self.0.sites.is_empty() {
            return None;
        }
        let named = self.name_services(catalogue);
        let services: BTreeMap<&str, Service<'_>> =
            named.iter().map(|(name, sites)| (name.as_str(), self.service(name, sites, catalogue))).collect();
        let integrations = self.name_integrations(&services);
        let grants = text::write_grants(&self, &services, &integrations);
        let (tests, uncovered) = text::write_tests(&self, &services, &grants);
        let left_out = LeftOut { uncovered, ..self.0.left_out.clone() };
        let heading = Heading { requests: tally.decisions, first, last, left_out: &left_out };
        Some(format!("{}{grants}{tests}", text::write_heading(&heading)))
    }

    /// Every site belongs to one service: the one that the log names, else one of the catalogue whose roles
    /// suffice, else one called by the host.
    fn name_services(&self, catalogue: &Catalogue) -> BTreeMap<String, BTreeSet<Site>> {
        let (mut services, mut nameless) = self.services_of_the_log();
        nameless.extend(self.split_tunnels(&mut services));
        nameless.extend(self.split_graphql(&mut services));
        // Servers first: where both would be called by the host, the server is.
        nameless.sort_by(|a, b| (a.endpoint.is_none(), a).cmp(&(b.endpoint.is_none(), b)));
        for site in nameless {
            let known = catalogue.at(&site.place.host, site.place.port, site.endpoint.as_ref());
            let known = known.filter(|known| {
                !services.contains_key(known.as_str())
                    && self.catalogue_roles(known.as_str(), &[site.clone()].into(), catalogue).is_some()
            });
            let name = known.map_or_else(
                || free_name(&slug(&site), |name| services.contains_key(name) || catalogue.has(name)),
                |known| known.as_str().to_owned(),
            );
            services.insert(name, [site].into());
        }
        services
    }

    /// The services that the log names, and the sites that have no name there. An MCP server is a service of its
    /// own, whatever else stands behind its host.
    fn services_of_the_log(&self) -> (BTreeMap<String, BTreeSet<Site>>, Vec<Site>) {
        let mut services: BTreeMap<String, BTreeSet<Site>> = BTreeMap::new();
        let mut nameless = Vec::new();
        let (servers, others): (Vec<_>, Vec<_>) =
            self.0.sites.iter().partition(|(site, _)| site.endpoint.is_some());
        for (site, shapes) in servers.into_iter().chain(others) {
            let mut name = None;
            for sample in shapes.values() {
                smallest(&mut name, sample.service.as_ref());
            }
            let is_server = |site: &Site| site.endpoint.is_some();
            let taken = |sites: &BTreeSet<Site>| is_server(site) || sites.iter().any(is_server);
            match name.filter(|name| !services.get(name.as_str()).is_some_and(taken)) {
                Some(name) => _ = services.entry(name.as_str().to_owned()).or_default().insert(site.clone()),
                None => nameless.push(site.clone()),
            }
        }
        (services, nameless)
    }

    /// A service is opened, or it is not, with all of its hosts.
    fn split_tunnels(&self, services: &mut BTreeMap<String, BTreeSet<Site>>) -> Vec<Site> {
        let mut split = Vec::new();
        for sites in services.values_mut() {
            let (tunnels, opened): (BTreeSet<Site>, BTreeSet<Site>) =
                std::mem::take(sites).into_iter().partition(|site| self.is_tunnel(site));
            if opened.is_empty() {
                *sites = tunnels;
            } else {
                *sites = opened;
                split.extend(tunnels);
            }
        }
        split
    }

    /// A service has GraphQL at one path, with all of its hosts.
    fn split_graphql(&self, services: &mut BTreeMap<String, BTreeSet<Site>>) -> Vec<Site> {
        let mut split = Vec::new();
        for sites in services.values_mut() {
            let Some(own) = sites.iter().filter_map(|site| self.graphql_at(site)).min() else { continue };
            let fits = |site: &Site| self.graphql_at(site) == Some(own);
            let (kept, others): (BTreeSet<Site>, BTreeSet<Site>) = sites.iter().cloned().partition(fits);
            *sites = kept;
            split.extend(others);
        }
        split
    }

    /// Where GraphQL was seen; by then it is one path of each site.
    fn graphql_at(&self, site: &Site) -> Option<&str> {
        self.0.sites.get(site)?.keys().find_map(|shape| shape.ask.graphql())
    }

    fn is_tunnel(&self, site: &Site) -> bool {
        self.0.sites.get(site).is_some_and(|shapes| shapes.keys().any(|shape| shape.ask == Ask::Tunnel))
    }

    /// What was seen at these sites.
    fn at<'d>(
        &'d self,
        sites: &'d BTreeSet<Site>,
    ) -> impl Iterator<Item = (&'d Shape, &'d Sample)> + Clone + 'd {
        sites.iter().filter_map(|site| self.0.sites.get(site)).flatten()
    }

    /// The role of the catalogue's service that everybody needs; none where it is not its host, or where a role is
    /// missing.
    fn catalogue_roles<'d>(
        &'d self,
        name: &str,
        sites: &'d BTreeSet<Site>,
        catalogue: &Catalogue,
    ) -> Option<BTreeMap<Who<'d>, String>> {
        let known = |site: &Site| {
            let at = catalogue.at(&site.place.host, site.place.port, site.endpoint.as_ref());
            at.is_some_and(|at| at.as_str() == name)
        };
        if !sites.iter().all(known) || self.scheme(sites) == Scheme::Http {
            return None;
        }
        let mut acts: BTreeMap<Who<'_>, Vec<Act<'_>>> = BTreeMap::new();
        for (shape, sample) in self.at(sites) {
            if shape.ask.graphql().is_some() && !catalogue.has_graphql_at(name, sample.path.as_ref()?) {
                return None;
            }
            // What cannot be looked up is covered by no role that is known to suffice.
            acts.entry((&shape.tenant, &shape.agent)).or_default().push(act(&shape.ask, sample)?);
        }
        let role = |(who, acts): (_, Vec<Act<'_>>)| {
            let role = catalogue.smallest_role(name, acts.iter().copied())?;
            Some((who, role.as_str().to_owned()))
        };
        acts.into_iter().map(role).collect()
    }

    /// How a service is reached: by TLS, unless the log says of all its requests that they were not.
    fn scheme(&self, sites: &BTreeSet<Site>) -> Scheme {
        if self.at(sites).any(|(_, sample)| sample.by_tls) { Scheme::Https } else { Scheme::Http }
    }

    fn service<'d>(&'d self, name: &str, sites: &'d BTreeSet<Site>, catalogue: &Catalogue) -> Service<'d> {
        let scheme = self.scheme(sites);
        if let Some(roles) = self.catalogue_roles(name, sites, catalogue) {
            return Service { sites, scheme, body: Body::Catalogue, roles };
        }
        let tunnel = sites.iter().any(|site| self.is_tunnel(site));
        let mut roles: BTreeMap<Who<'_>, String> = BTreeMap::new();
        for (shape, _) in self.at(sites) {
            let role = roles.entry((&shape.tenant, &shape.agent)).or_default();
            let needed = match (tunnel, shape.ask.only_reads()) {
                (true, _) => "caller",
                (false, true) => READER,
                (false, false) => WRITER,
            };
            if role.as_str() < needed {
                needed.clone_into(role);
            }
        }
        let lines = || Lines::of(&self.at(sites).map(|(shape, _)| shape));
        let body = match sites.iter().find_map(|site| site.endpoint.clone()) {
            _ if tunnel => Body::Tunnel,
            Some(endpoint) => Body::Mcp(endpoint, lines()),
            None => Body::Http(lines()),
        };
        Service { sites, scheme, body, roles }
    }

    /// The name of each tenant's integration with each service.
    fn name_integrations<'d>(
        &self,
        services: &BTreeMap<&'d str, Service<'d>>,
    ) -> BTreeMap<&'d TenantId, BTreeMap<&'d str, String>> {
        let mut names: BTreeMap<&TenantId, BTreeMap<&str, String>> = BTreeMap::new();
        let mut taken: BTreeSet<(&TenantId, String)> = BTreeSet::new();
        for (service, drafted) in services {
            let tenants: BTreeSet<&TenantId> = drafted.roles.keys().map(|(tenant, _)| *tenant).collect();
            for tenant in tenants {
                let known = self.known(tenant, drafted.sites).name;
                let wanted = known.as_ref().map_or(*service, |known| known.as_str());
                let name = free_name(wanted, |name| taken.contains(&(tenant, name.to_owned())));
                taken.insert((tenant, name.clone()));
                names.entry(tenant).or_default().insert(*service, name);
            }
        }
        names
    }

    fn known(&self, tenant: &TenantId, sites: &BTreeSet<Site>) -> Known {
        let mut known = Known::default();
        for (_, sample) in self.at(sites).filter(|(shape, _)| shape.tenant == *tenant) {
            smallest(&mut known.name, sample.integration.as_ref());
            known.credentials.extend(sample.credentials.iter().cloned());
            while known.credentials.len() > CREDENTIALS {
                known.credentials.pop_last();
            }
        }
        known
    }
}

/// What a role of the catalogue has to allow; none where the log has too little to tell.
fn act<'d>(ask: &'d Ask, sample: &'d Sample) -> Option<Act<'d>> {
    let named = |kind, name| Act::Named { kind, name, arguments: None };
    match ask {
        Ask::Http(..) => Some(Act::Http(ask.method()?, sample.path.as_ref()?)),
        Ask::Field(kind, field, _) => Some(Act::Field(*kind, field)),
        Ask::Named(mcp::Named::Resource, _) => Some(named(mcp::Named::Resource, sample.resource.as_ref()?)),
        Ask::Named(kind, name) => Some(named(*kind, name)),
        Ask::Quiet(method) => match mcp::Ask::recorded(method, None)? {
            mcp::Ask::List(of) => Some(Act::List { of, method }),
            _ => Some(Act::Plumbing),
        },
        Ask::Tunnel => None,
    }
}

#[cfg(test)]
mod tests;
