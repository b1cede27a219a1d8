//! Calls of egret's own: a request with a small body, and its answer, whatever the status.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::FetchUrl;
use crate::{plan::PrivateReach, tls::ClientCertificate};

/// A call. May hold secrets in its headers and body, so it does not print.
pub struct Call<'c> {
    /// `GET` or `POST`, and now and then another.
    pub method: Method,
    /// Where to.
    pub url: &'c FetchUrl,
    /// Headers beside `Host`, `Content-Length` and `User-Agent`.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// The longest answer, in bytes.
    pub most: usize,
    /// How long the whole may take.
    pub timeout: Duration,
    /// Which private addresses may be dialled for it.
    pub reach: &'c PrivateReach,
    /// What egret shows in the handshake (RFC 8705 §2).
    pub certificate: Option<&'c Arc<ClientCertificate>>,
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("url", &self.url).finish_non_exhaustive()
    }
}

/// What was answered. May hold secrets, so it does not print.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why there is no answer. Safe to show to operators.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct CallError {
    /// What happened.
    pub what: String,
    /// Whether the server may have taken the request. What can be done only once must then not be done again.
    pub maybe_taken: bool,
}

/// A call under way. Dropping it gives the call up; the server may have taken it.
pub type Calling<'c> = Pin<Box<dyn Future<Output = Result<Answer, CallError>> + Send + 'c>>;

/// Makes calls. The rooms see this and no socket, so tests answer calls of their own.
pub trait Calls: Send + Sync + fmt::Debug {
    /// Makes the call. A redirect is an answer like others and is not followed.
    fn call<'c>(&'c self, call: Call<'c>) -> Calling<'c>;
}
