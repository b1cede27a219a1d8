//! For which region and service a request is signed.

use std::fmt;

use super::{endpoints, key::Stamp};
use crate::target::Host;

/// The region and the service that a signature is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// `us-east-1`, or what an S3-compatible store calls its only one.
    pub region: String,
    /// The service's name in signatures, which need not be the one in its host: `ses` at `email.…`.
    pub service: String,
}

impl Scope {
    /// The scope that a host of AWS's names. None where it is none of theirs, where it does not tell the region
    /// (`BUCKET.s3-accelerate.amazonaws.com`), or where nothing is signed (`*.elb.amazonaws.com`).
    ///
    /// Only Location Service has two names at one host (`maps.geo`, `places.geo`, `routes.geo`); this gives that of the
    /// newer interface.
    pub fn of_host(host: &Host) -> Option<Self> {
        let (region, service) = endpoints::find(host.name()?)?;
        Some(Self { region: region.to_owned(), service: service.to_owned() })
    }

    /// Whether it is object storage, with its own rules for paths and bodies.
    pub(super) fn is_s3(&self) -> bool {
        matches!(self.service.as_str(), "s3" | "s3-object-lambda" | "s3-outposts" | "s3express")
    }

    /// Whether the service wants `x-amz-content-sha256`. Others ignore it.
    pub(super) fn wants_hash(&self) -> bool {
        self.is_s3() || matches!(self.service.as_str(), "glacier" | "aoss" | "vpc-lattice-svcs")
    }

    /// The scope on a day, as it stands in signatures.
    pub(super) fn on<'a>(&'a self, stamp: &'a Stamp) -> Dated<'a> {
        Dated { scope: self, date: stamp.date() }
    }
}

/// A scope on a day.
pub(super) struct Dated<'a> {
    scope: &'a Scope,
    date: &'a str,
}

impl Dated<'_> {
    /// `20130524`
    pub(super) fn date(&self) -> &str {
        self.date
    }

    /// The region.
    pub(super) fn region(&self) -> &str {
        &self.scope.region
    }

    /// The service.
    pub(super) fn service(&self) -> &str {
        &self.scope.service
    }
}

impl fmt::Display for Dated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date(), self.region(), self.service())
    }
}
