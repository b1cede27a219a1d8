//! Small documents from the network, for egret itself: keys, and later tokens. Through the same guarded
//! connector as requests: checked addresses, no redirects, the corporate proxy where one is set.

use std::time::Duration;

use bytes::Bytes;

use crate::target::{Authority, Path, Query};

/// An `https` URL that egret itself fetches.
#[derive(Debug, Clone)]
pub struct FetchUrl {
    /// Host and port.
    pub authority: Authority,
    /// The path.
    pub path: Path,
    /// The query.
    pub query: Option<Query>,
    /// Whether TLS is used. Cleartext only to loopback, for development.
    pub tls: bool,
}

/// A fetched document.
#[derive(Debug)]
pub struct Fetched {
    /// The body, whole.
    pub body: Bytes,
    /// `Cache-Control: max-age`, when given.
    pub max_age: Option<Duration>,
}

/// Why a document could not be had. Safe to show to operators.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);
