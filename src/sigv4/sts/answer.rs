//! Reads what STS answers.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{json, secret::Secret, sigv4::Keys};

/// Temporary keys, and when they end.
///
/// Purposefully neither `Clone` nor `Debug`.
pub struct Session {
    /// To sign with.
    pub keys: Keys,
    /// From when on AWS refuses them.
    pub expires: SystemTime,
}

/// Why there are no keys. Safe to show: STS repeats parts of a token in its messages, which are left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("STS answered `{code}`")]
pub struct Fault {
    /// The word that AWS has for it, such as `ExpiredTokenException`; [`Fault::UNREADABLE`] where there is none.
    pub code: String,
    /// Whether the same question may be answered later. If not, somebody must change a token, a role or a policy.
    pub is_transient: bool,
}

impl Fault {
    /// The code of an answer that is none of STS's.
    pub const UNREADABLE: &str = "Unreadable";
}

/// Reads an answer of STS, in XML or JSON. The caller bounds its size.
///
/// # Errors
/// When STS refuses, or says nothing that can be understood.
pub fn answer(status: StatusCode, body: &[u8]) -> Result<Session, Fault> {
    let found = if body.trim_ascii_start().first() == Some(&b'{') { from_json(body) } else { from_xml(body) };
    match found {
        Some(Found::Session(session)) if status == StatusCode::OK => Ok(session),
        Some(Found::Code(code)) if status != StatusCode::OK => {
            let is_transient = is_transient(&code) || may_pass(status);
            Err(Fault { code, is_transient })
        }
        // Something between us and STS may have spoken; it says nothing about the token.
        _ => Err(Fault {
            code: Fault::UNREADABLE.to_owned(),
            is_transient: status == StatusCode::OK || may_pass(status),
        }),
    }
}

/// What an answer holds.
enum Found {
    Session(Session),
    Code(String),
}

/// As the SDKs judge it. `IDPCommunicationError` says that STS could not reach the identity provider.
fn is_transient(code: &str) -> bool {
    const TRANSIENT: &[&str] = &[
        "IDPCommunicationError",
        "IDPCommunicationErrorException",
        "InternalFailure",
        "InternalError",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    ];
    code.starts_with("Throttl") || TRANSIENT.contains(&code)
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// `<AssumeRoleResponse><AssumeRoleResult><Credentials>…` or `<ErrorResponse><Error><Code>…`. A document type is
/// refused, and with it every entity of the document's own.
fn from_xml(body: &[u8]) -> Option<Found> {
    let text = std::str::from_utf8(body).ok()?;
    let options = roxmltree::ParsingOptions { nodes_limit: MOST_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).ok()?;
    let one = |name: &str| document.descendants().find(|node| node.tag_name().name() == name);
    let child = |parent: roxmltree::Node<'_, '_>, name: &str| {
        let text = parent.children().find(|node| node.tag_name().name() == name)?.text()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    if let Some(error) = one("Error") {
        return Some(Found::Code(code(&child(error, "Code")?)?));
    }
    let credentials = one("Credentials")?;
    session(|name| child(credentials, name), &child(credentials, "Expiration")?)
}

/// The same names, as JSON; the time in seconds.
fn from_json(body: &[u8]) -> Option<Found> {
    let root = json::object(body, DEEPEST)?;
    if let Some(error) = root.get("Error") {
        return Some(Found::Code(code(error.get("Code")?.as_str()?)?));
    }
    let credentials = member(member(member(&root, "Response")?, "Result")?, "Credentials")?;
    let text =
        |name: &str| credentials.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    session(text, &credentials.get("Expiration")?.to_string())
}

fn member<'a>(value: &'a Map<String, Value>, end: &str) -> Option<&'a Map<String, Value>> {
    value.iter().find(|(name, _)| name.ends_with(end))?.1.as_object()
}

fn session(text: impl Fn(&str) -> Option<String>, expiration: &str) -> Option<Found> {
    let secret = |name: &str| text(name).map(|text| Secret::new(text.into_bytes()));
    let keys = Keys {
        access_key_id: text("AccessKeyId")?,
        secret_access_key: secret("SecretAccessKey")?,
        // Temporary keys never come without one.
        session_token: Some(secret("SessionToken")?),
    };
    Some(Found::Session(Session { keys, expires: time_of(expiration.trim_matches('"'))? }))
}

/// A time as RFC 3339 or as seconds since 1970.
fn time_of(text: &str) -> Option<SystemTime> {
    if let Ok(seconds) = text.parse::<f64>() {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// A code, if it is a word: it goes into logs.
fn code(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:".contains(&b));
    fits.then(|| text.to_owned())
}

/// An answer has about twenty.
const MOST_NODES: u32 = 500;
/// An answer is four deep.
const DEEPEST: usize = 8;
