//! What the operator says about issuers: who they are, where their keys are, what their tokens must be.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use crate::fetch::FetchUrl;

/// One issuer whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// The exact text of `iss`. No slash is added or taken away (RFC 8725 §3.8).
    pub issuer: String,
    /// Where its keys are.
    pub keys: KeySource,
    /// The audiences that mean us. One of them must be in `aud`; the first is the one told to clients.
    pub audience: Vec<String>,
    /// The algorithms that its tokens may use.
    pub algorithms: Vec<Algorithm>,
    /// The longest life of a token, `exp - iat`.
    pub max_lifetime: Duration,
    /// How far its clock and ours may differ.
    pub leeway: Duration,
    /// The accepted values of `typ`, compared without case and without `application/`. None accepts a missing
    /// `typ` and those that mean a plain JWT; a list accepts what it names and nothing else.
    pub typ: Option<Vec<String>>,
    /// What `sub` and `act` mean in its tokens.
    pub delegation: Delegation,
    /// Which claims say what.
    pub claims: ClaimMap,
    /// Whether its tokens must name the agent.
    pub agent_claim: AgentClaim,
    /// How long its keys are used after they could last be confirmed.
    pub max_stale: Duration,
}

impl IssuerConfig {
    /// An issuer with everything at its default.
    pub fn new(issuer: impl Into<String>, keys: KeySource, audience: impl Into<String>) -> Self {
        let delegation = Delegation::Rfc8693;
        Self {
            issuer: issuer.into(),
            keys,
            audience: vec![audience.into()],
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256],
            max_lifetime: Duration::from_secs(60 * 60),
            leeway: Duration::from_secs(30),
            typ: None,
            delegation,
            claims: ClaimMap::of(delegation),
            agent_claim: AgentClaim::Optional,
            max_stale: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A JWK set in a file, read again when the file changes.
    File(PathBuf),
    /// A JWK set on the network, fetched ahead of its expiry and when a token names a key it lacks.
    Url(FetchUrl),
    /// The text of a JWK set, for issuers inside this process.
    Inline(String),
}

/// A signature algorithm. Only asymmetric ones exist here, so neither `none` nor an HMAC with a public key as
/// its secret can be configured or accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// The RSA algorithms, which one key may serve all.
    pub(crate) const RSA: [Self; 6] =
        [Self::RS256, Self::RS384, Self::RS512, Self::PS256, Self::PS384, Self::PS512];

    /// The name in `alg` (RFC 7518 §3.1, RFC 8037 §3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The same in the words of the library that verifies.
    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::RS384 => jsonwebtoken::Algorithm::RS384,
            Self::RS512 => jsonwebtoken::Algorithm::RS512,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::PS384 => jsonwebtoken::Algorithm::PS384,
            Self::PS512 => jsonwebtoken::Algorithm::PS512,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::ES384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A name that is no algorithm of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Parses the exact name: `alg` is case-sensitive (RFC 7515 §4.1.1).
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let others = [Self::ES256, Self::ES384, Self::EdDSA];
        Self::RSA.into_iter().chain(others).find(|a| a.as_str() == name).ok_or(UnknownAlgorithm)
    }
}

/// What `sub` and `act` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// `sub` is the principal, the outermost `act` the agent that acts now (RFC 8693 §4.1).
    Rfc8693,
    /// `sub` is the agent, `act.sub` the person it acts for.
    AgentSubject,
}

/// Whether the token itself must name the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentClaim {
    /// A token that names none speaks for its organisation, and the client says which agent it is.
    Optional,
    /// A token that names none is refused.
    Required,
}

/// Which claims say what. Of each list the first claim that is present counts; a dot goes into an object, or
/// belongs to a name that has one (`kubernetes.io.namespace`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMap {
    /// Claims that name the tenant.
    pub tenant: Vec<String>,
    /// Claims that name the agent, or list the agents that the token speaks for.
    pub agent: Vec<String>,
    /// Claims that name the person.
    pub user: Vec<String>,
}

impl ClaimMap {
    /// The usual claims under this meaning of `sub` and `act`.
    pub fn of(delegation: Delegation) -> Self {
        let (agent, user): (&[&str], &[&str]) = match delegation {
            Delegation::Rfc8693 => (&["agent_id", "act.sub", "client_id", "azp"], &["sub"]),
            Delegation::AgentSubject => (&["agent_id", "sub"], &["act.sub"]),
        };
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self { tenant: list(&["tenant_id", "org_id"]), agent: list(agent), user: list(user) }
    }
}

/// Everything that is wrong with the issuers, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadIssuers(pub Vec<String>);

impl fmt::Display for BadIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for BadIssuers {}

/// Finds what makes `issuers` unusable.
pub(crate) fn problems(issuers: &[IssuerConfig]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, config) in issuers.iter().enumerate() {
        let name = &config.issuer;
        if name.is_empty() {
            found.push(format!("issuer {at} has no name"));
        }
        if issuers.iter().take(at).any(|earlier| earlier.issuer == *name) {
            found.push(format!("issuer `{name}` is there twice"));
        }
        let lists: [(&str, usize); 4] = [
            ("audience", config.audience.iter().filter(|a| !a.is_empty()).count()),
            ("algorithm", config.algorithms.len()),
            ("`typ`", config.typ.as_ref().map_or(1, Vec::len)),
            ("tenant claim", config.claims.tenant.len()),
        ];
        found
            .extend(lists.iter().filter(|l| l.1 == 0).map(|l| format!("issuer `{name}` accepts no {}", l.0)));
        if config.max_lifetime.is_zero() {
            found.push(format!("issuer `{name}` has a `max_lifetime` of zero"));
        }
    }
    found
}
