//! Where a request goes: parsed and normalised once, refused where it is ambiguous (RFC 9110 §7.1, RFC 3986).
//!
//! What is parsed here is what is matched, limited, recorded and forwarded. No other spelling of it exists
//! after the `listen` room.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// A host: a DNS name in lower case without its final dot, or an IP address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name of A-labels.
    Name(Arc<str>),
    /// An IPv4 or IPv6 literal.
    Address(IpAddr),
}

/// Why a target was not understood. The text is safe to show: it never repeats the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(pub &'static str);

impl Host {
    /// Parses a host as it stands in an authority: an address in brackets only when it is IPv6.
    ///
    /// # Errors
    /// Anything that two parsers might read differently: percent-encoding, non-ASCII, odd spellings of an
    /// IPv4 address, a name in brackets, a zone, labels or names that DNS cannot hold.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadTarget("the host has an open bracket"))?;
            let address: Ipv6Addr =
                inner.parse().map_err(|_| BadTarget("brackets hold an IPv6 address and nothing else"))?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err(BadTarget("a host name has 1 to 253 characters"));
        }
        if !name.split('.').all(is_label) {
            return Err(BadTarget(
                "a host name has labels of 1 to 63 letters, digits, `-` or `_`; international names are written as `xn--…`",
            ));
        }
        if looks_like_a_number(name) {
            let address: Ipv4Addr =
                name.parse().map_err(|_| BadTarget("an IPv4 address is written as four decimal numbers"))?;
            return if text.ends_with('.') {
                Err(BadTarget("an address has no final dot"))
            } else {
                Ok(Self::Address(IpAddr::V4(address)))
            };
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }

    /// The name, when it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a resolver might read the last label as a number (WHATWG URL, "ends in a number").
fn looks_like_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The protocol towards the upstream, or the one the client wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext. Upstream only where the service says `scheme: http`.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that goes without saying (RFC 9110 §4.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, always explicit here.
    pub port: u16,
}

impl Authority {
    /// Parses `host` or `host:port`; without a port, `default_port` stands in.
    ///
    /// # Errors
    /// Userinfo, an empty or non-decimal port, a leading zero, a port over 65535, or no port and no default.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, BadTarget> {
        if text.contains('@') {
            return Err(BadTarget("userinfo is not accepted in a target"));
        }
        let (host, port) = match text.rfind(':') {
            Some(colon) if !text.get(colon..).unwrap_or_default().contains(']') => {
                let (host, port) = text.split_at(colon);
                (host, Some(parse_port(port.get(1..).unwrap_or_default())?))
            }
            _ => (text, None),
        };
        let port = port.or(default_port).ok_or(BadTarget("the target needs a port"))?;
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// As written in a `Host` header: the port only when it is not the scheme's own (RFC 9110 §7.2).
    pub fn host_header(&self, scheme: Scheme) -> String {
        if self.port == scheme.default_port() { self.host.to_string() } else { self.to_string() }
    }
}

fn parse_port(digits: &str) -> Result<u16, BadTarget> {
    let plain = (1..=5).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    let port = if plain { digits.parse().ok() } else { None };
    port.ok_or(BadTarget("a port is a decimal number from 1 to 65535 without leading zeros"))
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A request method that a policy can name. Names are case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// `GET`, implies `HEAD` in a role.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
    /// A method that no role can grant: `TRACE`, `PROPFIND`, `get`, …
    Other,
}

impl Method {
    /// All methods that a policy can name, in the order of `ANY`.
    pub const NAMED: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The method by its exact name.
    pub fn named(text: &str) -> Self {
        Self::NAMED.into_iter().find(|m| m.as_str() == text).unwrap_or(Self::Other)
    }

    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "OTHER",
        }
    }

    /// Whether a repeated request is no second action (RFC 9110 §9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch | Self::Other)
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
            // `Other` is refused in `listen`, except for `CONNECT`, which is never forwarded.
            Method::Options | Method::Other => Self::OPTIONS,
        }
    }
}

/// A path in its one canonical spelling: unreserved characters decoded, other escapes in upper case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Box<str>);

impl Path {
    /// Parses an absolute path.
    ///
    /// # Errors
    /// What an upstream might read as another path: dot segments, `//`, `\`, `;` parameters, encoded
    /// slashes, backslashes, NUL or controls, double encoding of these, broken escapes, bytes that are not UTF-8.
    pub fn parse(raw: &str) -> Result<Self, BadTarget> {
        if !raw.starts_with('/') {
            return Err(BadTarget("the path begins with `/`"));
        }
        let canonical = canonical_escapes(raw)?;
        refuse_encoded_twice(&canonical)?;
        let mut segments = canonical.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            if is_dots(segment) {
                return Err(BadTarget("the path has dot segments"));
            }
            if segment.is_empty() && segments.peek().is_some() {
                return Err(BadTarget("the path has an empty segment"));
            }
        }
        Ok(Self(canonical.into()))
    }

    /// The path as it is matched and sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments after the first `/`; a final `/` gives a last, empty segment.
    pub fn segments(&self) -> std::iter::Skip<std::str::Split<'_, char>> {
        self.0.split('/').skip(1)
    }
}

/// Dot segments, also with what some upstreams cut off before they look: final blanks, and everything from an
/// encoded `?` or `#`.
fn is_dots(segment: &str) -> bool {
    let end = segment.find("%3F").into_iter().chain(segment.find("%23")).min().unwrap_or(segment.len());
    let name = segment.get(..end).unwrap_or(segment);
    matches!(name.replace("%20", "").as_str(), "." | "..")
}

fn canonical_escapes(raw: &str) -> Result<String, BadTarget> {
    let mut out = String::with_capacity(raw.len());
    let mut decoded = Vec::with_capacity(raw.len()); // only to see whether the whole is UTF-8
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let value = escape(&mut rest)?;
                refuse_escaped(value)?;
                decoded.push(value);
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(char::from(value));
                } else {
                    use fmt::Write as _;
                    let _ = write!(out, "%{value:02X}");
                }
            }
            b'\\' => return Err(BadTarget("the path has a backslash")),
            b';' => return Err(BadTarget("the path has `;` parameters")),
            0x21..=0x7e => {
                decoded.push(byte);
                out.push(char::from(byte));
            }
            _ => return Err(BadTarget("the path has a character that must be percent-encoded")),
        }
    }
    std::str::from_utf8(&decoded).map_err(|_| BadTarget("the path is not UTF-8"))?;
    Ok(out)
}

fn escape(rest: &mut std::str::Bytes<'_>) -> Result<u8, BadTarget> {
    let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
    match (digit(), digit()) {
        (Some(high), Some(low)) => Ok(u8::try_from(high * 16 + low).unwrap_or(0)),
        _ => Err(BadTarget("the path has a broken percent escape")),
    }
}

/// Refuses escapes that some upstreams decode before they split the path.
fn refuse_escaped(value: u8) -> Result<(), BadTarget> {
    match value {
        b'/' => Err(BadTarget("the path has an encoded slash")),
        b'\\' => Err(BadTarget("the path has an encoded backslash")),
        b';' => Err(BadTarget("the path has `;` parameters")),
        0..=0x1f | 0x7f => Err(BadTarget("the path has an encoded control character")),
        _ => Ok(()),
    }
}

/// Refuses the same escapes encoded once more, and dots. Looks at the canonical spelling: of `%25%32%65` no two
/// bytes in a row look encoded twice, and yet it is `%252e`.
fn refuse_encoded_twice(canonical: &str) -> Result<(), BadTarget> {
    let hidden = canonical.match_indices("%25").any(|(at, escape)| {
        let ahead = canonical.get(at + escape.len()..).unwrap_or_default();
        let mut ahead = ahead.bytes().map(|b| b.to_ascii_lowercase());
        matches!(
            (ahead.next(), ahead.next()),
            (Some(b'2'), Some(b'e' | b'f' | b'5'))
                | (Some(b'5'), Some(b'c'))
                | (Some(b'0' | b'1'), Some(_))
                | (Some(b'3'), Some(b'b'))
                | (Some(b'7'), Some(b'f'))
        )
    });
    if hidden { Err(BadTarget("the path is encoded twice")) } else { Ok(()) }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A query as the client wrote it, without the `?`. Kept byte for byte; its values are never recorded.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Query(Box<str>);

impl Query {
    /// Parses a query.
    ///
    /// # Errors
    /// Controls, spaces and bytes that are not ASCII.
    pub fn parse(raw: &str) -> Result<Self, BadTarget> {
        if raw.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#') {
            Ok(Self(raw.into()))
        } else {
            Err(BadTarget("the query has a character that must be percent-encoded"))
        }
    }

    /// The query as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between `&` and `;`: some upstreams split at either.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split(['&', ';']).filter(|part| !part.is_empty())
    }

    /// The keys, decoded, at most `most` of them, each at most 64 characters. A part without a value may be one
    /// itself (`?<token>`): it is a key only where it is a short plain word, as in `?acl`.
    pub fn keys(&self, most: usize) -> Vec<String> {
        let key = |part: &str| {
            let key: String = key_of(part).chars().take(64).collect();
            let has_value =
                part.split_once('=').is_some_and(|(_, value)| !value.trim_matches('=').is_empty());
            let plain =
                key.len() <= 20 && key.bytes().all(|b| b.is_ascii_lowercase() || b"-_[]".contains(&b));
            if has_value || plain { key } else { "[bare]".to_owned() }
        };
        self.parts().take(most).map(key).collect()
    }
}

/// The decoded key of one `key=value` part.
pub fn key_of(part: &str) -> String {
    let key = part.split('=').next().unwrap_or(part).replace('+', " ");
    percent_encoding::percent_decode_str(&key).decode_utf8_lossy().into_owned()
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Query(..)")
    }
}

/// The one target of a request: what the policy judges and what is forwarded.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the client wrote; the scheme towards the upstream is the service's.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// The canonical path.
    pub path: Path,
    /// The query, when there is one.
    pub query: Option<Query>,
}

#[cfg(test)]
mod tests;
