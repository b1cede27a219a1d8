//! The services that every policy knows, asked without a policy.

use std::sync::Arc;

use super::{
    policy::Policy,
    problem::Problems,
    service::{HostName, Service},
    source::Sources,
};
use crate::{
    context::{RoleId, ServiceId},
    target::{Host, Method, Path},
};

/// The built-in services.
#[derive(Debug)]
pub struct Catalogue(Policy);

impl Catalogue {
    /// Reads it.
    ///
    /// # Errors
    /// Never, unless the catalogue itself is broken.
    pub fn read() -> Result<Self, Problems> {
        Policy::compile(&Sources::text("catalogue", "version: 1\n")).map(Self)
    }

    /// Whether it has a service of this name.
    pub fn has(&self, name: &str) -> bool {
        self.service(name).is_some()
    }

    /// The service behind a host. With a port that does not go without saying, none is.
    pub fn at(&self, host: &Host, port: Option<u16>) -> Option<ServiceId> {
        let covers = |service: &Service| {
            service.hosts.iter().any(|own| own.port == port && own.name == HostName::Exact(host.clone()))
        };
        let mut found: Vec<ServiceId> = self
            .0
            .services()
            .filter(|service| covers(service))
            .map(|service| service.plan.id.clone())
            .collect();
        found.sort();
        found.into_iter().next()
    }

    /// The smallest of a service's roles that covers all of these requests.
    pub fn smallest_role<'r>(
        &self,
        service: &str,
        mut requests: impl Iterator<Item = (Method, &'r Path)> + Clone,
    ) -> Option<RoleId> {
        let covers = |role: &&Arc<super::role::Role>| {
            requests.clone().all(|(method, path)| role.find(method, path).is_some())
        };
        let found = self.service(service)?.roles.iter().find(covers)?.id.clone();
        requests.next().map(|_| found)
    }

    fn service(&self, name: &str) -> Option<&Service> {
        self.0.services().find(|service| service.plan.id.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_service_and_a_request_its_role() {
        let catalogue = Catalogue::read().unwrap();
        let at = |host: &str, port| catalogue.at(&Host::parse(host).unwrap(), port);
        assert_eq!(at("api.github.com", None).unwrap().as_str(), "github");
        assert_eq!(at("api.github.com", Some(8443)), None);
        assert_eq!(at("evil.example", None), None);
        for (requests, role) in [
            (&[(Method::Get, "/user")][..], Some("reader")),
            (&[(Method::Get, "/user"), (Method::Post, "/repos/a/b/issues")], Some("writer")),
            (&[(Method::Post, "/graphql")], None),
            (&[], None),
        ] {
            let requests: Vec<(Method, Path)> =
                requests.iter().map(|(method, path)| (*method, Path::parse(path).unwrap())).collect();
            let found = catalogue.smallest_role("github", requests.iter().map(|(m, p)| (*m, p)));
            assert_eq!(found.as_ref().map(RoleId::as_str), role, "{requests:?}");
        }
    }
}
