//! Small documents from the network, for egret itself: keys, and tokens. Through the same guarded connector as
//! requests: checked addresses, no redirects, the corporate proxy where one is set.

mod call;
mod web;

pub use call::{Answer, Call, CallError, Calling, Calls};
pub use web::WebFetch;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::target::{Authority, Host, Path, Query, Scheme};

/// A URL that egret itself fetches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchUrl {
    /// Host and port.
    pub authority: Authority,
    /// The path.
    pub path: Path,
    /// The query.
    pub query: Option<Query>,
    /// Whether TLS is used.
    pub tls: bool,
}

impl FetchUrl {
    /// Parses an absolute `https` or `http` URL without user and fragment.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("a URL such as `https://idp.example/jwks.json`")?;
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err("the scheme is https".into()),
        };
        let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let authority =
            Authority::parse(authority, Some(scheme.default_port())).map_err(|e| e.to_string())?;
        let path = Path::parse(if path.is_empty() { "/" } else { path }).map_err(|e| e.to_string())?;
        let query = query.map(Query::parse).transpose().map_err(|e| e.to_string())?;
        Ok(Self { authority, path, query, tls: scheme == Scheme::Https })
    }

    /// Whether it names this machine itself.
    pub fn is_loopback(&self) -> bool {
        match &self.authority.host {
            Host::Address(ip) => ip.is_loopback(),
            Host::Name(name) => &**name == "localhost",
        }
    }

    /// How it is reached.
    pub fn scheme(&self) -> Scheme {
        if self.tls { Scheme::Https } else { Scheme::Http }
    }
}

impl fmt::Display for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme().as_str(), self.authority.host_header(self.scheme()), self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{}", query.as_str()),
            None => Ok(()),
        }
    }
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
