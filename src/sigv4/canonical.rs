//! The one spelling of a request that both sides sign.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::{Request, Scope};

/// What differs between services.
pub(super) struct Style {
    /// How the path is spelled.
    pub(super) path: PathStyle,
    /// Which headers are signed.
    pub(super) signs: fn(&HeaderName) -> bool,
}

/// How a path is spelled to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathStyle {
    /// As S3 does: it is a key, read once and encoded once; dots and double slashes are part of the key.
    Key,
    /// As all others do: dot segments and double slashes are resolved, and what was sent is encoded once more.
    Twice,
}

impl Style {
    /// The style of this scope's service.
    pub(super) fn of(scope: &Scope) -> Self {
        let path = if scope.is_s3() { PathStyle::Key } else { PathStyle::Twice };
        Self { path, signs: is_signed }
    }
}

/// What the forwarder never changes.
fn is_signed(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-amz-") || *name == header::CONTENT_TYPE || name.as_str() == "content-md5"
}

/// A request as it is signed.
pub(super) struct Canonical {
    /// What is hashed. Holds the session token.
    pub(super) text: Vec<u8>,
    /// Which headers are in it.
    pub(super) signed_names: String,
}

/// Spells a request. `payload` is the value of `x-amz-content-sha256`, whether it is sent or not.
pub(super) fn request(request: &Request<'_>, headers: &HeaderMap, payload: &str, style: &Style) -> Canonical {
    let signed = signed_headers(request.authority, headers, style.signs);
    let signed_names = signed.keys().copied().collect::<Vec<_>>().join(";");
    let mut text = Vec::with_capacity(512);
    for line in
        [request.method.as_str(), &path(request.path, style.path), &query(request.query.unwrap_or_default())]
    {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    for (name, value) in &signed {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(signed_names.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload.as_bytes());
    Canonical { text, signed_names }
}

fn signed_headers<'a>(
    authority: &str,
    headers: &'a HeaderMap,
    signs: fn(&HeaderName) -> bool,
) -> BTreeMap<&'a str, Vec<u8>> {
    let mut signed = BTreeMap::from([("host", authority.as_bytes().to_vec())]);
    for name in headers.keys().filter(|name| **name != header::HOST && signs(name)) {
        let values: Vec<Vec<u8>> = headers.get_all(name).iter().map(trimmed).collect();
        signed.insert(name.as_str(), values.join(&b','));
    }
    signed
}

/// A value without blanks around it, and one for many within. S3 takes only spaces for blanks.
fn trimmed(value: &HeaderValue) -> Vec<u8> {
    let words = value.as_bytes().split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// The path as it is signed.
pub(super) fn path(raw: &str, style: PathStyle) -> String {
    match style {
        PathStyle::Key if raw.is_empty() => "/".to_owned(),
        PathStyle::Key => encoded(&percent_decode(raw.as_bytes()).collect::<Vec<_>>(), PATH),
        PathStyle::Twice => encoded(resolved(raw).as_bytes(), PATH),
    }
}

/// RFC 3986 §5.2.4, and no empty segments.
fn resolved(raw: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let is_directory = ["/", "/.", "/.."].iter().any(|end| raw.ends_with(end));
    let end = if is_directory && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// The query as it is signed: in order, and with `=` behind every name. A `+` is a space, as the upstream reads it
/// and AWS's own library has it.
pub(super) fn query(raw: &str) -> String {
    let respelled = |text: &str| {
        let text = text.replace('+', " ");
        encoded(&percent_decode(text.as_bytes()).collect::<Vec<_>>(), UNRESERVED)
    };
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (respelled(name), respelled(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn encoded(bytes: &[u8], kept: &'static AsciiSet) -> String {
    percent_encode(bytes, kept).to_string()
}

/// All but the unreserved characters (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
