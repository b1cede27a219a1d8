//! The content codings (RFC 9110 §8.4.1) that can be opened.

use http::{HeaderMap, HeaderValue, header};

/// A content coding that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`, also `x-gzip` (RFC 1952).
    Gzip,
    /// `deflate`: zlib (RFC 1950), or the bare deflate that some servers send under this name.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
}

/// A content coding that cannot be opened, or one coding over another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its content coding cannot be opened")]
pub struct UnknownEncoding;

impl Encoding {
    /// The coding that these headers announce; none for a body as it is.
    ///
    /// # Errors
    /// When the coding is unknown, or when there are several. [`narrow_accept_encoding`] asks for neither.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownEncoding> {
        let mut encoding = None;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let text = value.to_str().map_err(|_| UnknownEncoding)?;
            for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                match Self::named(name) {
                    Known::Itself => {}
                    Known::Coded(known) if encoding.is_none() => encoding = Some(known),
                    Known::Coded(_) | Known::Not => return Err(UnknownEncoding),
                }
            }
        }
        Ok(encoding)
    }

    fn named(name: &str) -> Known {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("identity") {
            Known::Itself
        } else if is("gzip") || is("x-gzip") {
            Known::Coded(Self::Gzip)
        } else if is("deflate") {
            Known::Coded(Self::Deflate)
        } else if is("br") {
            Known::Coded(Self::Brotli)
        } else if is("zstd") {
            Known::Coded(Self::Zstd)
        } else {
            Known::Not
        }
    }
}

enum Known {
    Itself,
    Coded(Encoding),
    Not,
}

/// Takes out of a request's `Accept-Encoding` what could not be opened in the answer.
///
/// Weights stay, and an absent header stays absent. `*` would ask for anything and goes too, except where it
/// forbids (`*;q=0`). When nothing is left, the answer is asked for as it is: no header would again mean anything.
///
/// gRPC compresses message by message, and those are not opened at all.
pub fn narrow_accept_encoding(headers: &mut HeaderMap) {
    headers.remove("grpc-accept-encoding");
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut dropped = false;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        let Ok(text) = value.to_str() else {
            dropped = true;
            continue;
        };
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let name = member.split(';').next().unwrap_or(member).trim();
            let openable = !matches!(Encoding::named(name), Known::Not);
            if openable || (name == "*" && forbids(member)) {
                kept.push(member);
            } else {
                dropped = true;
            }
        }
    }
    if !dropped {
        return;
    }
    let narrowed = if kept.is_empty() { "identity".to_owned() } else { kept.join(", ") };
    let value = HeaderValue::try_from(narrowed).unwrap_or(HeaderValue::from_static("identity"));
    headers.insert(header::ACCEPT_ENCODING, value);
}

/// Whether the weight is zero (RFC 9110 §12.4.2): `q=0`, `q=0.000`.
fn forbids(member: &str) -> bool {
    member.split(';').skip(1).filter_map(|parameter| parameter.split_once('=')).any(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q")
            && weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
    })
}
