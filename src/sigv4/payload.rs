//! How a request's body is covered by the signature.

use http::{HeaderMap, HeaderValue};

use super::{CONTENT_SHA256, Scope};
use crate::{secret::sha256_hex, target::Scheme};

/// How a body is covered by the signature: the last line of what is signed, and `x-amz-content-sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    form: Form,
    /// The client sent `x-amz-content-sha256`, so it is sent again whether the service asks for it or not.
    is_declared: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// By its SHA-256, in hex.
    Hash(Box<str>),
    /// By TLS alone.
    Unsigned,
    /// By a signature before each chunk.
    Chunks(Ending),
    /// By TLS alone, in chunks with a checksum behind them.
    UnsignedChunks,
}

/// What comes after the last chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing.
    Plain,
    /// Trailers, and a signature over them.
    Trailers,
}

/// Why a client's `x-amz-content-sha256` cannot be signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    /// `SigV4A` (`STREAMING-AWS4-ECDSA-…`): its chunk signatures are of another length and kind.
    #[error("the body is signed with SigV4A, which egret does not speak")]
    Asymmetric,
    /// Neither a hash nor a word that is known.
    #[error("`x-amz-content-sha256` is neither 64 hexadecimal digits nor a known word")]
    Unknown,
    /// Two servers would read two different ones.
    #[error("`x-amz-content-sha256` stands there more than once")]
    Twice,
}

/// What is known of a body that nothing was declared about.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// There is none.
    Empty,
    /// All of it.
    Whole(&'a [u8]),
    /// It still comes.
    Stream,
}

/// The body must be read whole before it can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body must be read whole before it can be signed")]
pub struct NeedsBody;

impl Payload {
    /// What the client declared. To be asked before its signature is stripped.
    ///
    /// A hash is taken as it is: AWS compares it with what it received.
    ///
    /// # Errors
    /// When it declared something that cannot be signed anew.
    pub fn declared(headers: &HeaderMap) -> Result<Option<Self>, BadPayload> {
        let mut values = headers.get_all(CONTENT_SHA256).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(BadPayload::Twice);
        }
        let form = match value.to_str().map_err(|_| BadPayload::Unknown)? {
            UNSIGNED => Form::Unsigned,
            CHUNKS => Form::Chunks(Ending::Plain),
            CHUNKS_TRAILER => Form::Chunks(Ending::Trailers),
            UNSIGNED_CHUNKS => Form::UnsignedChunks,
            word if word.starts_with("STREAMING-AWS4-ECDSA-") => return Err(BadPayload::Asymmetric),
            hash if is_sha256(hash) => Form::Hash(hash.into()),
            _ => return Err(BadPayload::Unknown),
        };
        Ok(Some(Self { form, is_declared: true }))
    }

    /// How to cover a body that nothing was declared about: by its hash, where it can be had; S3 also accepts none,
    /// over TLS.
    ///
    /// # Errors
    /// When it still comes and cannot go without a hash.
    pub fn undeclared(scope: &Scope, scheme: Scheme, body: Seen<'_>) -> Result<Self, NeedsBody> {
        let form = match body {
            Seen::Empty => Form::Hash(sha256_hex(b"").into()),
            Seen::Whole(bytes) => Form::Hash(sha256_hex(bytes).into()),
            Seen::Stream if scope.is_s3() && scheme == Scheme::Https => Form::Unsigned,
            Seen::Stream => return Err(NeedsBody),
        };
        Ok(Self { form, is_declared: false })
    }

    /// Whether the client declared it.
    pub(super) fn is_declared(&self) -> bool {
        self.is_declared
    }

    /// As it is signed.
    pub(super) fn as_str(&self) -> &str {
        match &self.form {
            Form::Hash(hash) => hash,
            Form::Unsigned => UNSIGNED,
            Form::Chunks(Ending::Plain) => CHUNKS,
            Form::Chunks(Ending::Trailers) => CHUNKS_TRAILER,
            Form::UnsignedChunks => UNSIGNED_CHUNKS,
        }
    }

    /// As a header's value.
    pub(super) fn header(&self) -> HeaderValue {
        // A hash in hex and these words are always one.
        HeaderValue::from_str(self.as_str()).unwrap_or(HeaderValue::from_static(UNSIGNED))
    }

    /// How the body ends, where it carries signatures of its own.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self.form {
            Form::Chunks(ending) => Some(ending),
            Form::Hash(_) | Form::Unsigned | Form::UnsignedChunks => None,
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNKS_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
