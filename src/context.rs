//! The shared words: who asks, for whom, as whom.
//!
//! Every identifier is checked once, where it enters, and is a type of its own from then on: a tenant is
//! never mistaken for an agent, and a string from outside is never mistaken for either.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// Why a string is not an identifier; names the rule, never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct BadIdentifier {
    what: &'static str,
    rule: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the identifier.
            ///
            /// # Errors
            /// When the text does not follow the grammar of this identifier.
            pub fn parse(text: &str) -> Result<Self, BadIdentifier> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(BadIdentifier { what: $what, rule: $rule }) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier as shared text.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier!(
    /// The organisation a request belongs to. First part of every key that egret keeps.
    TenantId, "a tenant id", "1 to 64 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit", |s| name(s, 64, b"_.-")
);
identifier!(
    /// The agent that asks. May hold `/`, for `k8s/<namespace>/<service account>`.
    AgentId, "an agent id", "1 to 128 of `A-Z a-z 0-9 _ . ~ / -`, beginning with a letter or digit", |s| name(s, 128, b"_.~/-")
);
identifier!(
    /// The person on whose behalf an agent acts, as the issuer names them.
    UserId, "a user id", "1 to 256 visible characters", |s| visible(s, 256)
);
identifier!(
    /// A tenant's connection to a service.
    IntegrationId, "an integration name", "1 to 64 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit", |s| name(s, 64, b"_.-")
);
identifier!(
    /// What exists out there: a set of hosts and what each role may do there.
    ServiceId, "a service name", "1 to 64 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit", |s| name(s, 64, b"_.-")
);
identifier!(
    /// What an agent may do with an integration: `reader`, `writer`, `publisher`, …
    RoleId, "a role name", "1 to 64 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit", |s| name(s, 64, b"_.-")
);
identifier!(
    /// Ties together all that one step of an agent caused. Made by egret (ULID) when the client sends none.
    CorrelationId, "a correlation id", "1 to 128 of `A-Z a-z 0-9 . _ : -`", |s| s.len() <= 128 && !s.is_empty()
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
);
identifier!(
    /// Why the agent makes the request, in a word.
    Purpose, "a purpose", "1 to 64 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit", |s| name(s, 64, b"_.-")
);

fn name(text: &str, longest: usize, also: &[u8]) -> bool {
    text.len() <= longest
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

fn visible(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// As whom a request goes out: the organisation, or one person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The organisation's own credential.
    App,
    /// One person's OAuth grant. Cannot be said without the person.
    User(UserId),
}

impl Tier {
    /// The word used in policies and records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::App => "APP",
            Self::User(_) => "USER",
        }
    }
}

/// One party in a delegation chain, outermost subject first (RFC 8693 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The party's `sub`.
    pub sub: Arc<str>,
    /// `user` or `agent`.
    pub kind: &'static str,
}

/// How the identity reached egret. Part of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// `Proxy-Authorization: Bearer`.
    ProxyBearer,
    /// `Proxy-Authorization: Basic`, the form of a proxy URL with user and password.
    ProxyBasic,
    /// `X-Agent-Authorization: Bearer`.
    AgentHeader,
    /// The gateway form: `Authorization: Bearer` or the SDK's own key slot.
    GatewayKey,
    /// A listener bound to one identity.
    Ambient,
    /// A private listener of `egret run`, opened with its session secret.
    Session,
}

/// Where the agent id was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentSource {
    /// The token names exactly this agent.
    Token,
    /// The token speaks for several agents or the whole organisation, and the client named one of them.
    Client,
}

/// What a verified token says. Plain facts: holding them proves nothing (see `identify::Caller`).
#[derive(Debug, Clone)]
pub struct Identity {
    /// The organisation.
    pub tenant_id: TenantId,
    /// The agent.
    pub agent_id: AgentId,
    /// Where the agent id was read.
    pub agent_source: AgentSource,
    /// The person behind the agent, when the token names one.
    pub user_id: Option<UserId>,
    /// The subject at the upstream's authorization server, when the token carries it.
    pub oauth_subject: Option<Arc<str>>,
    /// Scopes of the token, sorted.
    pub scopes: Arc<[Arc<str>]>,
    /// The chain of parties, the principal first, the current actor last.
    pub delegation: Arc<[Actor]>,
    /// The token's issuer.
    pub issuer: Arc<str>,
    /// SHA-256 of the token's `jti`, in hex, when it has one.
    pub jti_hash: Option<Arc<str>>,
    /// When the token ends, in seconds since the epoch.
    pub expires_at: u64,
    /// How the token reached egret.
    pub channel: Channel,
    /// Everything that the token says, for conditions of a policy.
    pub claims: Claims,
}

/// The claims of a verified token. They may speak of a person, so they are not printed.
#[derive(Clone, Default)]
pub struct Claims(pub Arc<serde_json::Map<String, serde_json::Value>>);

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

/// What the client chose among what it may have.
#[derive(Debug, Default, Clone)]
pub struct Selection {
    /// `X-Agent-Integration`.
    pub integration: Option<IntegrationId>,
    /// `X-Agent-Tier`: `APP` or `USER`; must be the integration's.
    pub tier: Option<&'static str>,
}

/// The context of a decision: present on every grant and every record.
#[derive(Debug, Clone)]
pub struct AuthContext {
    /// Who asks.
    pub identity: Arc<Identity>,
    /// As whom the request goes out.
    pub tier: Tier,
    /// Which of the tenant's integrations serves it. None only in shadow mode, where none covers the destination.
    pub integration_id: Option<IntegrationId>,
    /// What it means to do, in the agent's word.
    pub purpose: Option<Purpose>,
    /// Ties the records of one step together.
    pub correlation_id: CorrelationId,
}

/// A new correlation or decision id: a ULID (48 bits of time in milliseconds, 80 random bits, Crockford base32).
pub fn ulid(now: std::time::SystemTime) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let millis = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let mut bits = ((millis & 0xFFFF_FFFF_FFFF) << 80) | (fastrand::u128(..) >> 48);
    let mut text = [0u8; 26];
    for place in text.iter_mut().rev() {
        *place = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
        bits >>= 5;
    }
    text.iter().map(|b| char::from(*b)).collect()
}

impl CorrelationId {
    /// A fresh correlation id.
    pub fn fresh() -> Self {
        Self(ulid(std::time::SystemTime::now()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_never_a_path() {
        for bad in ["", "../t_zeta", "t_acme/", "%2e", " t", "t acme", "-t", ".t", &"t".repeat(65)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["t_acme", "acme", "7f3c-12", "Acme.eu"] {
            assert!(TenantId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_correlation_id_cannot_break_a_log_line() {
        for bad in ["", "a b", "a\nb", "a\u{2028}b", "\u{1b}[31m", &"a".repeat(129)] {
            assert!(CorrelationId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(CorrelationId::parse(CorrelationId::fresh().as_str()).is_ok());
    }

    #[test]
    fn a_ulid_sorts_by_time() {
        let early = ulid(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1));
        let late = ulid(std::time::UNIX_EPOCH + std::time::Duration::from_secs(2));
        assert_eq!(early.len(), 26);
        assert!(early < late);
    }
}
