//! What a policy fixed for the rooms after `decide`: plain facts, made at load, shared by all requests of an
//! integration. Holding a plan grants nothing; only a `decide::Grant` does.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::{
    context::{IntegrationId, ServiceId},
    target::Scheme,
};

/// Everything that later rooms need to know about one integration of one tenant.
#[derive(Debug)]
pub struct Plan {
    /// The integration.
    pub integration_id: IntegrationId,
    /// Its service.
    pub service: Arc<Service>,
    /// What to attach; none where the integration needs no credential (`credential: none`).
    pub credential: Option<CredentialSpec>,
    /// Quotas that count for every request of it, the most specific first.
    pub limits: Arc<[LimitRule]>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Where a secret is read. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// `env:NAME`, from egret's own environment, read once.
    Env(String),
    /// `file:PATH`, read again when the file changes.
    File(PathBuf),
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// A credential that is attached as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSpec {
    /// Where its parts go, in the policy's order. At least one.
    pub placements: Vec<Placement>,
}

impl CredentialSpec {
    /// Where its secrets are read.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        fn half(half: &Half) -> Option<&SecretRef> {
            match half {
                Half::Secret(secret) => Some(secret),
                Half::Constant(_) => None,
            }
        }
        self.placements
            .iter()
            .flat_map(|placement| match placement {
                Placement::Bearer(secret)
                | Placement::Header { secret, .. }
                | Placement::Query { secret, .. }
                | Placement::Path { secret, .. } => [Some(secret), None],
                Placement::Basic { user, password } => [half(user), half(password)],
                Placement::Constant { .. } => [None, None],
            })
            .flatten()
    }
}

/// One place where a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// `Authorization: Bearer <secret>` (RFC 6750 §2.1).
    Bearer(SecretRef),
    /// `Authorization: Basic <base64(user:password)>` (RFC 7617); either half may be constant or empty.
    Basic {
        /// Before the colon.
        user: Half,
        /// After it.
        password: Half,
    },
    /// Any header, with an optional prefix such as `Token `.
    Header {
        /// The header.
        name: HeaderName,
        /// Text before the secret.
        prefix: String,
        /// The secret.
        secret: SecretRef,
    },
    /// A header without a secret that goes with the credential, such as an API version.
    Constant {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
    },
    /// A query parameter, percent-encoded.
    Query {
        /// The key.
        name: String,
        /// The secret.
        secret: SecretRef,
    },
    /// A path segment: `/bot*` puts the secret in the place of `*` in the first segment.
    Path {
        /// Segments before the one with the secret; all literal.
        before: Vec<String>,
        /// Literal text in front of the secret in its segment.
        prefix: String,
        /// Literal text after it in its segment.
        suffix: String,
        /// The secret.
        secret: SecretRef,
    },
}

impl Plan {
    /// The path as it may be shown and recorded, where that is not the path itself: what the client writes in
    /// the place of the secret is a credential of its own.
    pub fn shown_path(&self, path: &str) -> Option<String> {
        self.credential.iter().flat_map(|c| &c.placements).find_map(|placement| placement.shown_path(path))
    }
}

impl Placement {
    fn shown_path(&self, path: &str) -> Option<String> {
        let Self::Path { before, prefix, suffix, .. } = self else { return None };
        let mut segments: Vec<&str> = path.split('/').collect();
        let shown = format!("{prefix}*{suffix}");
        let place = segments.get_mut(before.len() + 1)?;
        if !(place.starts_with(prefix.as_str()) && place.ends_with(suffix.as_str())) {
            return None;
        }
        *place = &shown;
        Some(segments.join("/"))
    }
}

/// One half of a Basic credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// Not secret: `x`, `x-access-token`, or empty.
    Constant(String),
    /// Secret.
    Secret(SecretRef),
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
