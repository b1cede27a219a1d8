//! Small documents from the network, for egret itself: keys, and later tokens. Through the same guarded
//! connector as requests: checked addresses, no redirects, the corporate proxy where one is set.

mod web;

pub use web::WebFetch;

use std::{fmt, future::Future, pin::Pin, time::Duration};

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

/// A fetch under way. Dropping it gives the fetch up.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Fetches small documents. The rooms see this and no socket, so tests hand them documents of their own.
pub trait Fetch: Send + Sync + fmt::Debug {
    /// Gets `url` with `GET` and answers with a body of at most `most` bytes. Any status but 200, a redirect,
    /// a longer body or an answer later than `timeout` is an error.
    fn get<'a>(
        &'a self,
        url: &'a FetchUrl,
        accept: &'static str,
        most: usize,
        timeout: Duration,
    ) -> Fetching<'a>;
}
