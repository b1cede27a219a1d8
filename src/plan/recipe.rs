//! How a token is had: steps that are data. All kinds of credentials come down to these, so what runs them knows no
//! kinds and no providers.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use super::{
    Half, Obtained, Placement, PrivateReach, SecretRef,
    provider::{AnswerShape, ErrorRule, Rotation},
    template::{JsonTemplate, Template},
};
use crate::{context::IntegrationId, fetch::FetchUrl};

/// How a token is had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// What the templates may name: constants, and references to secrets.
    pub values: Box<[(Box<str>, Half)]>,
    /// What is signed anew for each run, by name.
    pub assertions: Box<[(Box<str>, Assertion)]>,
    /// What is sent, in this order; the last brings the token. None: the assertion `token` is the token.
    pub steps: Box<[Step]>,
    /// What is shown to the token endpoint in the handshake, where it asks for that.
    pub certificate: Option<CertificateRef>,
    /// Whose token it is.
    pub owner: Owned,
    /// How long before its end a token is renewed; at most half its life.
    pub ahead: Option<Duration>,
}

impl Recipe {
    /// Where its secrets are read.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let certificate = self.certificate.iter().flat_map(|c| [&c.chain, &c.key]);
        self.values.iter().filter_map(|(_, half)| half.secret()).chain(certificate)
    }
}

/// Whose a token is, beside its tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owned {
    /// The integration's.
    Integration,
    /// The caller's: its own token is exchanged. The value `caller_token` is in the templates.
    Caller,
}

/// A client's certificate, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateRef {
    /// The certificate and those that lead to its authority, PEM.
    pub chain: SecretRef,
    /// The private key, PEM.
    pub key: SecretRef,
}

/// One request and what is taken from its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// `GET`, `POST`, …
    pub method: http::Method,
    /// Where to.
    pub url: FetchUrl,
    /// Which private addresses its host may resolve to.
    pub private: PrivateReach,
    /// Its headers.
    pub headers: Box<[(HeaderName, Template)]>,
    /// Parameters in the URL.
    pub query: Box<[(Box<str>, Template)]>,
    /// What it sends.
    pub body: StepBody,
    /// Where in the answer what stands.
    pub answer: AnswerShape,
    /// What its errors mean; the first that fits.
    pub errors: Box<[ErrorRule]>,
}

/// What a step sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StepBody {
    /// Nothing.
    Empty,
    /// A form.
    Form(Box<[(Box<str>, Template)]>),
    /// JSON.
    Json(JsonTemplate),
}

/// A JSON Web Token that egret signs (RFC 7519, RFC 7523).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assertion {
    /// The algorithm (RFC 7518 §3.1).
    pub algorithm: jsonwebtoken::Algorithm,
    /// The key.
    pub key: Template,
    /// `kid`.
    pub key_id: Option<Template>,
    /// `x5t#S256`.
    pub thumbprint: Option<Template>,
    /// The claims beside `iat`, `exp` and `jti`.
    pub claims: Box<[(Box<str>, JsonTemplate)]>,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// How far `iat` lies back, for servers whose clock is behind.
    pub backdate: Duration,
    /// Whether it has a `jti`: a new one each time.
    pub jti: bool,
}

/// A person's or an organisation's grant, kept in the store: how it is had, renewed and given back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authorization {
    /// Who issues it.
    pub provider: Box<str>,
    /// How a person is asked; none where the provider has no page for that.
    pub ask: Option<Ask>,
    /// How a device asks for a code; none where the provider has no such way.
    pub device: Option<Step>,
    /// A code for a token (RFC 6749 §4.1.3). Names `code`, `redirect_uri` and `code_verifier`.
    pub redeem: Step,
    /// A device's code for a token (RFC 8628 §3.4). Names `device_code`.
    pub poll: Step,
    /// A new token for the refresh token (RFC 6749 §6). Names `refresh_token` and `access_token`.
    pub refresh: Step,
    /// How the grant is given back (RFC 7009). Names `refresh_token` and `access_token`.
    pub revoke: Option<Step>,
    /// What the steps have in common.
    pub recipe: Recipe,
    /// What is asked for, beside what the role needs.
    pub scopes: Box<[Box<str>]>,
    /// What stands between scopes.
    pub scope_separator: Box<str>,
    /// What a refresh does to the refresh token.
    pub rotation: Rotation,
    /// For how long a spent refresh token may be presented again, where the provider promises it.
    pub reuse_grace: Option<Duration>,
}

/// A page on which a person agrees (RFC 6749 §4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The page.
    pub url: Box<str>,
    /// Parameters beside those of the protocol.
    pub params: Box<[(Box<str>, Box<str>)]>,
    /// The parameter that scopes go to.
    pub scope_param: Box<str>,
    /// Whether the code is bound by a challenge (RFC 7636, S256).
    pub pkce: bool,
}

/// A connection that a person can make: what it is for, and what is asked for.
#[derive(Debug, Clone)]
pub struct Connectable {
    /// For which integration.
    pub integration: IntegrationId,
    /// Whether it is one person's; otherwise the organisation's.
    pub is_users: bool,
    /// How it is had.
    pub credential: Arc<Obtained>,
    /// The scopes of the credential and of the roles that agents have on it, and no more.
    pub scopes: Vec<Box<str>>,
}

/// A signature of each request, from templates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    /// What the templates may name: constants, and references to secrets.
    pub values: Box<[(Box<str>, Half)]>,
    /// Names that are worked out first, in this order: a date that several places need.
    pub lets: Box<[(Box<str>, Template)]>,
    /// The headers.
    pub headers: Box<[(HeaderName, Template)]>,
    /// The query parameters.
    pub query: Box<[(Box<str>, Template)]>,
    /// Whether the body has to be read first, for `body_sha256`.
    pub reads_body: bool,
}

/// Where a token goes, and what goes with it: `token`, and what was kept of the answer.
pub type TokenPlaces = Arc<[Placement<Box<str>>]>;
