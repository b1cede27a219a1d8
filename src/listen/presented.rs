//! What the client presents as its identity and choices: read here, verified in `identify`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::{Ambient, Place};
use crate::{
    context::{AgentId, Channel, CorrelationId, Identity, IntegrationId, Purpose, Selection, TenantId},
    refusal::Reason,
    secret::Secret,
};

/// A token as it came: nobody has looked into it yet.
pub struct UnverifiedToken {
    text: Arc<Secret>,
    digest: [u8; 32],
}

impl UnverifiedToken {
    /// Takes a token over. Its digest is the key of every cache.
    pub fn new(text: &str) -> Self {
        let text = Secret::new(text.as_bytes().to_vec());
        Self { digest: text.sha256(), text: Arc::new(text) }
    }

    /// The token's text.
    #[expect(clippy::disallowed_methods, reason = "the token is verified")]
    pub fn expose(&self) -> &str {
        // It was made from a text.
        std::str::from_utf8(self.text.expose()).unwrap_or_default()
    }

    /// The token as a secret, for a credential that is had for it once it is verified.
    pub fn secret(&self) -> Arc<Secret> {
        self.text.clone()
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(..)")
    }
}

/// What the client presented, unverified.
#[derive(Debug, Default)]
pub struct Presented {
    /// The tokens, in the order of preference. Usually one; several must agree.
    pub tokens: Vec<(Channel, Arc<UnverifiedToken>)>,
    /// The agent that the client names (`X-Agent-Id`, or the user of a proxy URL). Narrows the token, never widens it.
    pub agent: Option<AgentId>,
    /// The tenant that the client names (`X-Tenant-Id`). Must equal the token's.
    pub tenant: Option<TenantId>,
    /// The identity under which the tunnel around this request was opened. Must stay the same.
    pub tunnel: Option<Arc<Identity>>,
}

/// Everything that the client says about itself.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) presented: Presented,
    pub(super) selection: Selection,
    pub(super) correlation_id: CorrelationId,
    /// Whether the client named it; otherwise egret made it for this request alone.
    pub(super) correlation_named: bool,
    pub(super) purpose: Option<Purpose>,
}

const AGENT: [&str; 3] = ["x-agent-id", "agent-id", "agent_id"];
const TENANT: [&str; 1] = ["x-tenant-id"];
const CORRELATION: [&str; 3] = ["x-correlation-id", "correlation-id", "correlation_id"];

/// Where SDKs put their key when they talk to a gateway, after `Authorization` (credentials in the field).
const KEY_SLOTS: [&str; 6] =
    ["x-api-key", "api-key", "x-goog-api-key", "private-token", "x-auth-token", "x-access-token"];

impl Introduction {
    /// Reads the introduction from the headers and from where the request came in.
    pub(super) fn read(headers: &HeaderMap, place: &Place) -> Result<Self, Reason> {
        let mut presented = Presented::default();
        let mut basic = None;
        if let Some(value) = single(headers, header::PROXY_AUTHORIZATION.as_str())? {
            match Scheme::of(value) {
                Some(Scheme::Bearer(token)) => presented.tokens.push((Channel::ProxyBearer, token)),
                Some(Scheme::Basic(user, password)) => basic = Some((user, password)),
                None => return Err(invalid("`Proxy-Authorization` is neither Bearer nor Basic")),
            }
        }
        if let Some(value) = single(headers, "x-agent-authorization")? {
            match Scheme::of(value) {
                Some(Scheme::Bearer(token)) => presented.tokens.push((Channel::AgentHeader, token)),
                _ => return Err(invalid("`X-Agent-Authorization` is not Bearer")),
            }
        }
        if place.is_gateway() {
            presented.tokens.extend(gateway_key(headers)?);
        }
        let mut correlated = None;
        if let Some((user, password)) = basic {
            let (agent, correlation) =
                user.split_once('+').map_or((user.as_str(), None), |(a, c)| (a, Some(c)));
            presented.agent = Some(
                AgentId::parse(agent).map_err(|_| invalid("the user of the proxy URL is not an agent id"))?,
            );
            correlated = correlation.and_then(|c| CorrelationId::parse(c).ok());
            match place.ambient.as_deref() {
                Some(Ambient::Session { secret, .. }) => {
                    if !secret.matches(password.as_bytes()) {
                        return Err(invalid("the session secret does not match"));
                    }
                }
                _ => presented.tokens.push((Channel::ProxyBasic, Arc::new(UnverifiedToken::new(&password)))),
            }
        } else if matches!(place.ambient.as_deref(), Some(Ambient::Session { .. })) && place.tunnel.is_none()
        {
            return Err(Reason::IdentityMissing);
        }
        if let Some(ambient) = &place.ambient {
            presented.tokens.push((
                ambient.channel(),
                ambient.token().map_err(|what| Reason::IdentityUnavailable { what })?,
            ));
        }
        if let Some(tunnel) = &place.tunnel {
            presented.tunnel = Some(tunnel.opened.identity.clone());
            // A fresher token inside the tunnel stands in for the one that opened it.
            if presented.tokens.is_empty() {
                presented.tokens.extend(tunnel.opened.tokens.iter().cloned());
            }
            presented.agent = presented.agent.or_else(|| tunnel.opened.agent.clone());
        }
        if let Some(agent) = one_of(headers, &AGENT)? {
            let agent = AgentId::parse(agent)
                .map_err(|_| malformed("the agent id has characters that agent ids do not have"))?;
            if presented.agent.as_ref().is_some_and(|other| *other != agent) {
                return Err(Reason::AgentMismatch);
            }
            presented.agent = Some(agent);
        }
        if let Some(tenant) = one_of(headers, &TENANT)? {
            presented.tenant = Some(
                TenantId::parse(tenant)
                    .map_err(|_| malformed("the tenant id has characters that tenant ids do not have"))?,
            );
        }
        let named = one_of(headers, &CORRELATION)?.and_then(|id| CorrelationId::parse(id).ok());
        let from_tunnel = || place.tunnel.as_ref().and_then(|t| t.opened.correlation_id.clone());
        let named = named.or(correlated).or_else(from_tunnel);
        let (selection, purpose) = (selection(headers)?, purpose(headers)?);
        let correlation_named = named.is_some();
        let correlation_id = named.unwrap_or_else(CorrelationId::fresh);
        Ok(Self { presented, selection, correlation_id, correlation_named, purpose })
    }
}

/// An `Authorization`-like value, taken apart.
enum Scheme {
    Bearer(Arc<UnverifiedToken>),
    Basic(String, Zeroizing<String>),
}

impl Scheme {
    fn of(value: &HeaderValue) -> Option<Self> {
        let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(Arc::new(UnverifiedToken::new(rest))));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = Zeroizing::new(String::from_utf8(STANDARD.decode(rest).ok()?).ok()?);
        let (user, password) = text.split_once(':')?;
        Some(Self::Basic(user.to_owned(), Zeroizing::new(password.to_owned())))
    }
}

/// The JWT in the slot where the SDK puts its key. What is no JWT there is no identity, and is stripped later.
fn gateway_key(headers: &HeaderMap) -> Result<Option<(Channel, Arc<UnverifiedToken>)>, Reason> {
    if let Some(value) = single(headers, header::AUTHORIZATION.as_str())? {
        let token = match Scheme::of(value) {
            Some(Scheme::Bearer(token)) => Some(token),
            Some(Scheme::Basic(user, password)) => {
                let slot = if looks_like_jwt(&password) { &*password } else { &user };
                looks_like_jwt(slot).then(|| Arc::new(UnverifiedToken::new(slot)))
            }
            // `Authorization: token <jwt>`, as some SDKs write it.
            None => value
                .to_str()
                .ok()
                .and_then(|v| v.rsplit(' ').next())
                .filter(|t| looks_like_jwt(t))
                .map(|t| Arc::new(UnverifiedToken::new(t))),
        };
        if let Some(token) = token {
            return Ok(Some((Channel::GatewayKey, token)));
        }
    }
    for slot in KEY_SLOTS {
        let Some(value) = single(headers, slot)? else { continue };
        if let Some(token) = value.to_str().ok().filter(|t| looks_like_jwt(t)) {
            return Ok(Some((Channel::GatewayKey, Arc::new(UnverifiedToken::new(token)))));
        }
    }
    Ok(None)
}

fn looks_like_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.split('.').count() == 3
}

fn selection(headers: &HeaderMap) -> Result<Selection, Reason> {
    let integration = match single(headers, "x-agent-integration")?.map(text) {
        Some(name) => Some(
            IntegrationId::parse(name?)
                .map_err(|_| malformed("`X-Agent-Integration` is not an integration's name"))?,
        ),
        None => None,
    };
    let tier = match single(headers, "x-agent-tier")?.map(HeaderValue::as_bytes) {
        None => None,
        Some(b"APP") => Some("APP"),
        Some(b"USER") => Some("USER"),
        Some(_) => return Err(malformed("`X-Agent-Tier` is neither `APP` nor `USER`")),
    };
    Ok(Selection { integration, tier })
}

fn purpose(headers: &HeaderMap) -> Result<Option<Purpose>, Reason> {
    let Some(value) = single(headers, "x-agent-purpose")? else { return Ok(None) };
    Purpose::parse(text(value)?).map(Some).map_err(|_| malformed("`X-Agent-Purpose` is not one word"))
}

/// The value under any of several spellings. Values that differ are a contradiction.
fn one_of<'a>(headers: &'a HeaderMap, names: &[&str]) -> Result<Option<&'a str>, Reason> {
    let mut found: Option<&HeaderValue> = None;
    for name in names {
        for value in headers.get_all(*name) {
            if found.is_some_and(|other| other != value) {
                return Err(malformed("an identity header is there twice with different values"));
            }
            found = Some(value);
        }
    }
    found.map(text).transpose()
}

/// The only value of a header; several are ambiguous.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Reason> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Ok(None) };
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(malformed("an identity header is there more than once")),
    }
}

fn text(value: &HeaderValue) -> Result<&str, Reason> {
    value.to_str().map_err(|_| malformed("an identity header is not visible ASCII"))
}

fn malformed(what: &'static str) -> Reason {
    Reason::RequestMalformed { what, token: "malformed-identity", status: 400 }
}

fn invalid(check: &str) -> Reason {
    Reason::TokenInvalid { check: check.into() }
}
