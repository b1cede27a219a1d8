//! How egret talks to sources: small calls to addresses of the operator's, with secrets in them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Flaw, clean, file, kept::Fault};
use crate::{
    fetch::{Answer, Call, Calls, FetchUrl},
    form, json,
    plan::PrivateReach,
    secret::Secret,
    settings::SecretSource,
};

/// How long a source may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer of one.
const LARGEST: usize = 1 << 20;
/// How deep it may be.
const DEPTH: usize = 32;

/// Asks a source. Whatever it answers is an answer; the operator named its address, so it may be a private one.
pub(super) async fn ask(
    calls: &dyn Calls,
    method: Method,
    url: &FetchUrl,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Answer, Fault> {
    let call = Call {
        method,
        url,
        headers,
        body,
        most: LARGEST,
        timeout: PATIENCE,
        reach: &PrivateReach::Anywhere,
        certificate: None,
    };
    calls.call(call).await.map_err(|error| Fault::unavailable(format!("cannot be read: {}", error.what)))
}

/// Whether an answer says nothing about what was asked: its server is busy, sealed, or behind another one.
pub(super) fn is_passing(status: StatusCode) -> bool {
    // 472 and 473 are Vault's, of standbys.
    status.is_server_error()
        || status.is_redirection()
        || matches!(status.as_u16(), 408 | 425 | 429 | 472 | 473)
}

/// An answer that is a JSON object with one meaning.
pub(super) fn members(answer: &Answer, who: &str) -> Result<Map<String, Value>, Fault> {
    json::object(&answer.body, DEPTH).ok_or_else(|| {
        Fault::unavailable(format!("cannot be read: the answer of {who} is no JSON that means one thing"))
    })
}

/// The members of a JSON object as secrets. What is no text is taken as it is written.
pub(super) fn fields(object: &Map<String, Value>) -> std::collections::HashMap<Box<str>, Arc<Secret>> {
    let secret = |value: &Value| {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        Arc::new(Secret::new(text.into_bytes()))
    };
    object.iter().map(|(name, value)| (name.as_str().into(), secret(value))).collect()
}

/// The members of a secret that is a JSON object; none where it is none.
#[expect(clippy::disallowed_methods, reason = "the fields of a secret are secrets again")]
pub(super) fn fields_of(secret: &Secret) -> std::collections::HashMap<Box<str>, Arc<Secret>> {
    json::object(secret.expose(), DEPTH).map(|object| fields(&object)).unwrap_or_default()
}

/// Reads a secret with which egret shows a source who it is. Each time anew: files are replaced in place.
pub(super) fn own(source: &SecretSource) -> Result<Secret, Fault> {
    let read = match source {
        SecretSource::Env(name) => {
            use std::os::unix::ffi::OsStrExt as _;
            std::env::var_os(name).ok_or(Flaw::NotSet).and_then(|value| clean(value.as_bytes()))
        }
        SecretSource::File(path) => file::read(path).map(|(secret, _)| secret),
        // The settings accept programs for the keys of the store alone.
        SecretSource::Exec(_) => Err(Flaw::NotSet),
    };
    read.map_err(|flaw| Fault::missing(format!("cannot be read: `{source}` {flaw}")))
}

/// A secret as a header's value.
#[expect(clippy::disallowed_methods, reason = "the secret is shown to its source in a header")]
pub(super) fn header(secret: &Secret) -> Result<HeaderValue, Fault> {
    let value = HeaderValue::from_bytes(secret.expose());
    let mut value =
        value.map_err(|_| Fault::missing("cannot be read: what egret logs in with has a line break or another control character in its middle"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A secret as the text that it must be.
#[expect(clippy::disallowed_methods, reason = "the secret is shown to its source in a body")]
pub(super) fn text(secret: &Secret) -> Result<&str, Fault> {
    std::str::from_utf8(secret.expose())
        .map_err(|_| Fault::missing("cannot be read: what egret logs in with is no text"))
}

/// Another one of the same.
#[expect(clippy::disallowed_methods, reason = "what several use becomes one's own")]
pub(super) fn copy(secret: &Secret) -> Secret {
    Secret::new(secret.expose().to_vec())
}

/// A secret that is a whole body.
#[expect(clippy::disallowed_methods, reason = "the form holds the token that is shown")]
pub(super) fn body(secret: &Secret) -> Bytes {
    Bytes::copy_from_slice(secret.expose())
}

/// A JSON object of texts.
pub(super) fn object(members: &[(&str, &str)]) -> Bytes {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    for (name, value) in members {
        let quoted = Zeroizing::new(Value::from(*value).to_string());
        let before = if text.is_empty() { "{\"" } else { ",\"" };
        text.extend([before, name, "\":", &quoted]);
    }
    let end = if text.is_empty() { "{}" } else { "}" };
    text.push_str(end);
    Bytes::copy_from_slice(text.as_bytes())
}

/// A form.
pub(super) fn form(params: &[(&str, &str)]) -> Bytes {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    for (name, value) in params {
        form::append(&mut text, name, value.as_bytes());
    }
    Bytes::copy_from_slice(&text)
}

/// A client and its secret (RFC 6749 §2.3.1: both encoded as in a form).
pub(super) fn basic(id: &str, secret: &str) -> Result<HeaderValue, Fault> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut pair = form::encode(id.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(&form::encode(secret.as_bytes()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    header(&Secret::new(value.as_bytes().to_vec()))
}

/// The headers of a call that sends this kind of body.
pub(super) fn sending(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
    ])
}
