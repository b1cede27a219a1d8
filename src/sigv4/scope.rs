//! For which region and service a request is signed.

use std::fmt;

use http::HeaderValue;

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
    /// Where this says something, it counts, and [`Scope::of_authorization`] is for the rest: then a client cannot
    /// have a signature made for another service than the one it was granted. Only Location Service has two names at
    /// one host (`maps.geo`, `places.geo`, `routes.geo`); this gives that of the newer interface.
    pub fn of_host(host: &Host) -> Option<Self> {
        let (region, service) = endpoints::find(host.name()?)?;
        Some(Self { region: region.to_owned(), service: service.to_owned() })
    }

    /// The scope that a client signed for. Says nothing about whether the signature is good, and takes nothing else
    /// from it. None where the header holds no signature of version 4.
    pub fn of_authorization(value: &HeaderValue) -> Option<Self> {
        let parameters = value.to_str().ok()?.strip_prefix(super::ALGORITHM)?.strip_prefix(' ')?;
        let credential = parameters.split(',').find_map(|part| part.trim().strip_prefix("Credential="))?;
        // From the end: the key's ID is the client's affair and may hold a slash.
        let mut parts = credential.rsplit('/');
        let (end, service, region, date, id) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        if end != "aws4_request" || !is_date || id.is_empty() || !is_word(service) || !is_word(region) {
            return None;
        }
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

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
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
