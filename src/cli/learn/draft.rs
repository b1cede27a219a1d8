//! The draft: what was seen, and how a policy would name it.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::records::{Decision, Place, Tally},
    lines::Tree,
};
use crate::{
    context::{AgentId, IntegrationId, ServiceId, TenantId},
    decide::Catalogue,
    target::{Method, Path},
};
use text::{Heading, free_name, slug};

/// The most shapes of requests that are kept apart.
const SHAPES: usize = 20_000;
/// The most credentials of one integration that are told.
const CREDENTIALS: usize = 4;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Draft {
    places: BTreeMap<Place, Seen>,
    shapes: usize,
    /// Requests that no line can grant, or beyond the most shapes.
    left_out: u64,
}

/// What was seen at one place. Each shape has one of its paths; none where the log has only the beginning.
#[derive(Debug, Default)]
struct Seen {
    shapes: BTreeMap<Shape, Option<Path>>,
    /// What the policy that wrote the log calls the service.
    service: Option<ServiceId>,
    integrations: BTreeMap<TenantId, Known>,
}

/// Requests that a policy would not tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    tenant: TenantId,
    agent: AgentId,
    ask: Ask,
    template: String,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    /// A method, by its place in [`Method::NAMED`].
    Method(usize),
    /// A tunnel that stayed closed.
    Tunnel,
}

/// What the policy that wrote the log calls a tenant's integration, and what it attached.
#[derive(Debug, Default)]
struct Known {
    name: Option<IntegrationId>,
    credentials: BTreeSet<String>,
}

/// A service of the draft.
struct Service<'d> {
    places: &'d BTreeSet<Place>,
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
    /// The lines of its roles, by method.
    Own(BTreeMap<Ask, Tree>),
}

impl Draft {
    /// Takes one request that left egret.
    pub(super) fn saw(&mut self, decision: Decision) {
        let Some(ask) = Ask::of(&decision.method) else {
            self.left_out += 1;
            return;
        };
        let template = decision.route();
        let shape = Shape { tenant: decision.tenant, agent: decision.agent, ask, template };
        let known = self.places.get(&decision.place).is_some_and(|seen| seen.shapes.contains_key(&shape));
        if !known && self.shapes == SHAPES {
            self.left_out += 1;
            return;
        }
        self.shapes += usize::from(!known);
        let seen = self.places.entry(decision.place).or_default();
        // The smallest of everything: in whatever order a log is read, the draft is the same.
        smallest(&mut seen.service, decision.service);
        let integration = seen.integrations.entry(shape.tenant.clone()).or_default();
        smallest(&mut integration.name, decision.integration);
        integration.credentials.extend(decision.credential);
        if integration.credentials.len() > CREDENTIALS {
            integration.credentials.pop_last();
        }
        let example = seen.shapes.entry(shape).or_default();
        let shorter = |old: &Path| decision.path.as_str() < old.as_str();
        if !decision.cut && example.as_ref().is_none_or(shorter) {
            *example = Some(decision.path);
        }
    }

    /// The draft as YAML; none when nothing was seen.
    pub(super) fn write(mut self, catalogue: &Catalogue, tally: &Tally) -> Option<String> {
        let mixed = self.drop_tunnels_of_mixed_places();
        let (first, last) = tally.span.as_ref()?;
        if self.places.is_empty() {
            return None;
        }
        let heading = Heading { requests: tally.decisions, first, last, left_out: self.left_out, mixed };
        let named = self.name_services(catalogue);
        let services: BTreeMap<&str, Service<'_>> = named
            .iter()
            .map(|(name, places)| (name.as_str(), self.service(name, places, catalogue)))
            .collect();
        let integrations = self.name_integrations(&services);
        Some(text::write(&heading, &self, &services, &integrations))
    }

    /// A service is opened, or it is not. Where both were seen, the requests say more.
    fn drop_tunnels_of_mixed_places(&mut self) -> Vec<Place> {
        let mut mixed = Vec::new();
        for (place, seen) in &mut self.places {
            let before = seen.shapes.len();
            if seen.shapes.keys().any(|shape| shape.ask != Ask::Tunnel) {
                seen.shapes.retain(|shape, _| shape.ask != Ask::Tunnel);
            }
            if seen.shapes.len() < before {
                mixed.push(place.clone());
            }
        }
        mixed
    }

    /// Every place belongs to one service: the one that the log names, else one of the catalogue whose roles
    /// suffice, else one called by the host.
    fn name_services(&self, catalogue: &Catalogue) -> BTreeMap<String, BTreeSet<Place>> {
        let mut services: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
        let mut nameless = Vec::new();
        for (place, seen) in &self.places {
            match &seen.service {
                Some(name) => _ = services.entry(name.as_str().to_owned()).or_default().insert(place.clone()),
                None => nameless.push(place),
            }
        }
        // A service is opened, or it is not, with all of its hosts.
        let split: Vec<(String, Place)> = services
            .iter()
            .filter(|(_, places)| places.iter().any(|place| !self.is_tunnel(place)))
            .flat_map(|(name, places)| places.iter().map(|place| (name.clone(), place.clone())))
            .filter(|(_, place)| self.is_tunnel(place))
            .collect();
        for (name, place) in split {
            services.entry(name).or_default().remove(&place);
            let free = free_name(&slug(&place), |name| services.contains_key(name) || catalogue.has(name));
            services.insert(free, [place].into());
        }
        for place in nameless {
            let known = catalogue.at(&place.host, place.port).filter(|known| {
                !services.contains_key(known.as_str())
                    && self.catalogue_roles(known.as_str(), &[place.clone()].into(), catalogue).is_some()
            });
            let name = known.map_or_else(
                || free_name(&slug(place), |name| services.contains_key(name) || catalogue.has(name)),
                |known| known.as_str().to_owned(),
            );
            services.insert(name, [place.clone()].into());
        }
        services
    }

    fn is_tunnel(&self, place: &Place) -> bool {
        self.places.get(place).is_some_and(|seen| seen.shapes.keys().any(|shape| shape.ask == Ask::Tunnel))
    }

    /// What was seen at these places.
    fn at<'d>(&'d self, places: &'d BTreeSet<Place>) -> impl Iterator<Item = (&'d Shape, &'d Option<Path>)> {
        places.iter().filter_map(|place| self.places.get(place)).flat_map(|seen| &seen.shapes)
    }

    /// The role of the catalogue's service that everybody needs; none where it is not its host, or where a role is
    /// missing.
    fn catalogue_roles<'d>(
        &'d self,
        name: &str,
        places: &'d BTreeSet<Place>,
        catalogue: &Catalogue,
    ) -> Option<BTreeMap<Who<'d>, String>> {
        let known =
            |place: &Place| catalogue.at(&place.host, place.port).is_some_and(|at| at.as_str() == name);
        if !places.iter().all(known) {
            return None;
        }
        let mut requests: BTreeMap<Who<'_>, Vec<(Method, &Path)>> = BTreeMap::new();
        for (shape, example) in self.at(places) {
            // What cannot be looked up is covered by no role that is known to suffice.
            let request = (shape.ask.method()?, example.as_ref()?);
            requests.entry((&shape.tenant, &shape.agent)).or_default().push(request);
        }
        let role = |(who, requests): (_, Vec<(Method, &Path)>)| {
            let role = catalogue.smallest_role(name, requests.iter().copied())?;
            Some((who, role.as_str().to_owned()))
        };
        requests.into_iter().map(role).collect()
    }

    fn service<'d>(&'d self, name: &str, places: &'d BTreeSet<Place>, catalogue: &Catalogue) -> Service<'d> {
        if let Some(roles) = self.catalogue_roles(name, places, catalogue) {
            return Service { places, body: Body::Catalogue, roles };
        }
        let tunnel = places.iter().any(|place| self.is_tunnel(place));
        let mut trees: BTreeMap<Ask, Tree> = BTreeMap::new();
        let mut roles: BTreeMap<Who<'_>, String> = BTreeMap::new();
        for (shape, _) in self.at(places) {
            trees.entry(shape.ask).or_default().add(&shape.template);
            let role = roles.entry((&shape.tenant, &shape.agent)).or_default();
            let needed = match (tunnel, shape.ask.only_reads()) {
                (true, _) => "caller",
                (false, true) => "reader",
                (false, false) => "writer",
            };
            // `writer` includes `reader`, and sorts after it.
            if role.as_str() < needed {
                needed.clone_into(role);
            }
        }
        trees.values_mut().for_each(Tree::collapse);
        Service { places, body: if tunnel { Body::Tunnel } else { Body::Own(trees) }, roles }
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
                let known = self.known(tenant, drafted.places).find_map(|known| known.name.as_ref());
                let wanted = known.map_or(*service, |known| known.as_str());
                let name = free_name(wanted, |name| taken.contains(&(tenant, name.to_owned())));
                taken.insert((tenant, name.clone()));
                names.entry(tenant).or_default().insert(*service, name);
            }
        }
        names
    }

    fn known<'d>(
        &'d self,
        tenant: &'d TenantId,
        places: &'d BTreeSet<Place>,
    ) -> impl Iterator<Item = &'d Known> {
        places.iter().filter_map(|place| self.places.get(place)?.integrations.get(tenant))
    }
}

fn smallest<T: Ord>(kept: &mut Option<T>, new: Option<T>) {
    if let Some(new) = new
        && kept.as_ref().is_none_or(|kept| new < *kept)
    {
        *kept = Some(new);
    }
}

impl Ask {
    fn of(method: &str) -> Option<Self> {
        if method == "CONNECT" {
            return Some(Self::Tunnel);
        }
        Method::NAMED.iter().position(|named| named.as_str() == method).map(Self::Method)
    }

    fn method(self) -> Option<Method> {
        match self {
            Self::Method(number) => Method::NAMED.get(number).copied(),
            Self::Tunnel => None,
        }
    }

    fn name(self) -> &'static str {
        self.method().map_or("CONNECT", Method::as_str)
    }

    /// RFC 9110 §9.2.1.
    fn only_reads(self) -> bool {
        self.method().is_none_or(|method| matches!(method, Method::Get | Method::Head | Method::Options))
    }
}

#[cfg(test)]
mod tests;
