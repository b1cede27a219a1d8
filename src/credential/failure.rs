//! Why there is no token, and what that means: for the request, for the connection, and for the next try.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::{
    plan::{ErrorClass, ErrorRule, Wait, WaitPlace, WaitUnit},
    refusal::Reason,
};

/// How long a provider may make us wait at most.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A point in time above this counts milliseconds.
const MILLIS: f64 = 1e11;

/// Why there is no token.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Something that is needed for it is not there. For the operator.
    Missing(String),
    /// Something that is needed for it cannot be read just now. For the operator.
    Unavailable(String),
    /// Nobody connected it yet.
    NotConnected,
    /// The provider, or an operator, took it back; or nobody knows what became of its refresh token.
    Gone {
        /// The provider's word for it.
        code: Option<String>,
    },
    /// The upstream does not accept a token that was fetched just now.
    NotAccepted,
    /// The provider said no.
    Refused(Verdict),
    /// The provider did not answer, or not as it should.
    Unreachable {
        /// What happened, for the operator.
        what: String,
        /// Whether it may have done what it was asked for.
        maybe_done: bool,
    },
}

/// What an error of a provider means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) class: ErrorClass,
    /// The provider's own code, such as `invalid_grant`.
    pub(super) code: Option<String>,
    pub(super) status: StatusCode,
    /// How long it wants us to wait.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    /// The refusal of a request that needs the token.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Missing(what) => Reason::CredentialMissing { what: what.clone(), connect: None },
            Self::Unavailable(what) => Reason::CredentialUnavailable { what: what.clone() },
            Self::NotConnected => {
                Reason::CredentialMissing { what: "nobody connected it yet".to_owned(), connect: None }
            }
            Self::NotAccepted => Reason::CredentialRejected { code: None },
            Self::Gone { code } => Reason::AuthRevoked { code: code.clone(), connect: None },
            Self::Refused(verdict) => match verdict.class {
                ErrorClass::Revoked
                | ErrorClass::Expired
                | ErrorClass::Interaction
                | ErrorClass::ScopeMissing => {
                    Reason::AuthRevoked { code: verdict.code.clone(), connect: None }
                }
                ErrorClass::Misconfigured | ErrorClass::Other => {
                    Reason::CredentialRejected { code: verdict.code.clone() }
                }
                ErrorClass::RateLimited | ErrorClass::Transient => Reason::TokenRefreshFailed {
                    code: verdict.code.clone(),
                    retry_after: verdict.wait.unwrap_or(Duration::from_secs(5)),
                    error: format!("the token endpoint answered {}", verdict.status.as_u16()),
                },
            },
            Self::Unreachable { what, .. } => Reason::TokenRefreshFailed {
                code: None,
                retry_after: Duration::from_secs(5),
                error: what.clone(),
            },
        }
    }

    /// The failure of a credential that no person gave: what a provider says of a grant, it says of the client here.
    pub(super) fn of_no_grant(self) -> Self {
        match self {
            Self::Refused(verdict) if verdict.class == ErrorClass::Revoked => {
                Self::Refused(Verdict { class: ErrorClass::Misconfigured, ..verdict })
            }
            other => other,
        }
    }

    /// Whether it may pass by itself.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unreachable { .. } => true,
            Self::Refused(verdict) => {
                matches!(verdict.class, ErrorClass::RateLimited | ErrorClass::Transient | ErrorClass::Other)
            }
            Self::Missing(_) | Self::NotConnected | Self::NotAccepted | Self::Gone { .. } => false,
        }
    }

    /// Whether a token that is there already must not be used any more.
    pub(super) fn ends_use(&self) -> bool {
        match self {
            Self::NotConnected | Self::Gone { .. } => true,
            Self::Refused(verdict) => verdict.class == ErrorClass::Revoked,
            _ => false,
        }
    }

    /// How long the provider wants us to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused(verdict) => verdict.wait,
            _ => None,
        }
    }

    /// A word for metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NotConnected => "missing",
            Self::Unavailable(_) => "unavailable",
            Self::NotAccepted => "rejected",
            Self::Gone { .. } => "revoked",
            Self::Refused(verdict) => match verdict.class {
                ErrorClass::Revoked | ErrorClass::Expired => "revoked",
                ErrorClass::Interaction | ErrorClass::ScopeMissing => "interaction",
                ErrorClass::RateLimited => "rate_limited",
                ErrorClass::Transient => "transient",
                ErrorClass::Misconfigured | ErrorClass::Other => "rejected",
            },
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// An answer as rules see it.
pub(super) struct Seen<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// The body where it is JSON.
    pub(super) json: Option<&'a Value>,
}

impl Seen<'_> {
    /// What the first rule that fits says.
    pub(super) fn judge(&self, rules: &[ErrorRule]) -> Option<Verdict> {
        let rule = rules.iter().find(|rule| self.fits(rule))?;
        let code = rule.code.as_ref().and_then(|path| path.find(self.json?)).and_then(code);
        let wait = rule.wait.as_ref().and_then(|wait| self.wait(wait)).or_else(|| self.retry_after());
        Some(Verdict { class: rule.class, code: code.or_else(|| self.code()), status: self.status, wait })
    }

    fn fits(&self, rule: &ErrorRule) -> bool {
        let in_body = |(path, expected): &(_, crate::plan::Expected)| {
            self.json.is_some_and(|json| {
                crate::plan::JsonPath::any(path, json, &|value| expected.fits(Some(value)))
            })
        };
        let in_header = |(name, expected): &(http::HeaderName, Box<str>)| {
            let mut values = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.any(|value| &**expected == "*" || has_word(&value.to_ascii_lowercase(), expected))
        };
        rule.has_status(self.status) && rule.json.iter().all(in_body) && rule.header.iter().all(in_header)
    }

    /// What a token endpoint means where no rule says it (RFC 6749 §5.2, RFC 8693 §2.2.2).
    pub(super) fn judge_token_endpoint(&self, rules: &[ErrorRule]) -> Verdict {
        self.judge(rules).unwrap_or_else(|| {
            let error = self.code();
            let class = match (error.as_deref(), self.status.as_u16()) {
                (Some("invalid_grant"), _) => ErrorClass::Revoked,
                (
                    Some(
                        "invalid_client"
                        | "unauthorized_client"
                        | "unsupported_grant_type"
                        | "invalid_scope"
                        | "invalid_target"
                        | "access_denied",
                    ),
                    _,
                ) => ErrorClass::Misconfigured,
                (Some("interaction_required" | "login_required" | "consent_required"), _) => {
                    ErrorClass::Interaction
                }
                (_, 429) => ErrorClass::RateLimited,
                (Some("temporarily_unavailable" | "server_error"), _) | (_, 408 | 425 | 500..=599) => {
                    ErrorClass::Transient
                }
                (_, 401 | 403) => ErrorClass::Misconfigured,
                // An empty 400 says nothing: it is tried again, a few times.
                _ => ErrorClass::Other,
            };
            Verdict { class, code: error, status: self.status, wait: self.retry_after() }
        })
    }

    /// `error` (RFC 6749 §5.2), where it looks like a code.
    fn code(&self) -> Option<String> {
        self.json?.get("error").and_then(code)
    }

    /// `Retry-After` (RFC 9110 §10.2.3), in seconds.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        text.parse().ok().map(Duration::from_secs).map(|wait| wait.min(LONGEST_WAIT))
    }

    fn wait(&self, wait: &Wait) -> Option<Duration> {
        let number: f64 = match &wait.place {
            WaitPlace::Header(name) => self.headers.get(name)?.to_str().ok()?.trim().parse().ok()?,
            WaitPlace::Json(path) => match path.find(self.json?)? {
                Value::Number(number) => number.as_f64()?,
                Value::String(text) => text.trim().parse().ok()?,
                _ => return None,
            },
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
        let seconds = match wait.unit {
            WaitUnit::Seconds => number,
            WaitUnit::Millis => number / 1000.0,
            // No header tells of a second in the year 5138.
            WaitUnit::Epoch if number > MILLIS => number / 1000.0 - now,
            WaitUnit::Epoch => number - now,
            WaitUnit::EpochMillis => number / 1000.0 - now,
        };
        let seconds = seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64());
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Whether a word stands in a text by itself: `0` does not stand in `120`.
fn has_word(text: &str, word: &str) -> bool {
    let goes_on = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !goes_on(before) && !goes_on(after)
    })
}

/// A provider's code: short, and of characters that codes have. Texts for people are not repeated.
fn code(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-:".contains(&b);
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then_some(text)
}
