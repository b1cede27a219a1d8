//! What a policy fixed for the rooms after `decide`: plain facts, made at load, shared by all requests of an
//! integration. Holding a plan grants nothing; only a `decide::Grant` does.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderName;
use ipnet::IpNet;

use crate::{
    context::{IntegrationId, ServiceId},
    target::Scheme,
};

mod credential;
mod provider;
mod recipe;
mod template;

pub use credential::{
    AwsKeys, AwsRole, AwsSigV4, CredentialSpec, Half, How, Obtained, Placement, SecretRef, WebIdentity,
};
pub use provider::{
    AnswerShape, BodyForm, ClientAuthentication, ErrorClass, ErrorRule, Expected, Provider, Rotation, Wait,
    WaitPlace, WaitUnit,
};
pub use recipe::{
    Ask, Assertion, Authorization, CertificateRef, Connectable, Owned, Recipe, Signature, Step, StepBody,
    TokenPlaces,
};
pub use template::{Expression, Function, JsonPath, JsonTemplate, MOMENTS, Piece, Template};

/// Everything that later rooms need to know about one integration of one tenant.
#[derive(Debug)]
pub struct Plan {
    /// The integration.
    pub integration_id: IntegrationId,
    /// Its service.
    pub service: Arc<Service>,
    /// What to attach; none where the integration needs no credential (`credential: none`).
    pub credential: Option<CredentialSpec>,
    /// What egret shows in the handshake with the upstream, where that asks who connects.
    pub certificate: Option<Box<CertificateRef>>,
    /// Quotas that count for every request of it, the most specific first.
    pub limits: Arc<[LimitRule]>,
}

impl Plan {
    /// Where its secrets are read.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let certificate =
            self.certificate.iter().flat_map(|certificate| [&certificate.chain, &certificate.key]);
        self.credential.iter().flat_map(CredentialSpec::secrets).chain(certificate).collect()
    }

    /// The path as it may be shown and recorded, where that is not the path itself: what the client writes in
    /// the place of the secret is a credential of its own.
    pub fn shown_path(&self, path: &str) -> Option<String> {
        self.credential.as_ref().and_then(|credential| credential.shown_path(path))
    }
}

/// How a service is reached, whoever asks.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// `https` unless the service says otherwise.
    pub scheme: Scheme,
    /// Whether TLS in a tunnel is opened.
    pub intercept: Intercept,
    /// Private networks that its hosts may resolve to; everything special is out of reach otherwise.
    pub private: PrivateReach,
    /// What is stripped beyond the global list.
    pub strip: StripPlan,
    /// What is let through although it is taken away by default.
    pub keep: Keep,
    /// Largest request body, in bytes.
    pub max_body: Option<u64>,
    /// Whether `Via` is sent (RFC 9110 §7.6.3). Some servers do not compress for proxies.
    pub via: bool,
    /// From the last byte of the request to the head of the answer.
    pub response_timeout: Option<Duration>,
    /// What its errors say about the credential; the first that fits.
    pub errors: Box<[ErrorRule]>,
}

/// Whether egret opens a tunnel's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intercept {
    /// Yes: every request is judged. The default.
    Always,
    /// No: the tunnel is opaque, no credential is attached.
    Never,
}

/// Which special addresses a service may resolve to. Metadata and egret's own addresses never.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PrivateReach {
    /// None. The default.
    Nowhere,
    /// Any private or loopback address (`allow_private_addresses: true`).
    Anywhere,
    /// These networks (`allow_private_addresses: [10.0.0.0/8]`).
    Within(Vec<IpNet>),
}

/// What a service wants stripped beyond the global list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StripPlan {
    /// Header names.
    pub headers: Vec<HeaderName>,
    /// Query keys, in lower case.
    pub query: Vec<String>,
}

/// What a service lets through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Request headers of the global strip list, such as `cookie`.
    pub request_headers: Vec<HeaderName>,
    /// Query keys of the global strip list, in lower case.
    pub query: Vec<String>,
    /// Response headers that are removed by default, such as `set-cookie`.
    pub response_headers: Vec<HeaderName>,
    /// Request trailers. All others are dropped.
    pub trailers: Vec<HeaderName>,
}

/// One quota and whom it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// The name shown to clients: `tenant`, `tenant-openai`, `agent-openai`.
    pub name: Arc<str>,
    /// Whose requests share it.
    pub scope: LimitScope,
    /// How many in which time.
    pub quota: Quota,
}

/// Whose requests share a quota. Every key begins with the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// All requests of the tenant.
    Tenant,
    /// The tenant's requests to this integration.
    Integration,
    /// One agent's requests to this integration.
    Agent,
    /// One user's requests to this integration.
    User,
}

/// So many requests in so much time: `120/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Requests.
    pub count: NonZeroU32,
    /// The window: a second, a minute, an hour or a day.
    pub window: Duration,
}
