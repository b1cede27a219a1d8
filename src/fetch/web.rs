//! Fetching over the guarded connector.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Fetch, FetchError, FetchUrl, Fetched, Fetching};
use crate::{
    audit::chain,
    connect::Connector,
    plan::PrivateReach,
    target::Scheme,
    tls::{ClientTls, Trust},
};

/// Fetches from the network. The operator names the URLs, so private addresses are in reach; metadata
/// services and egret itself never are.
#[derive(Debug)]
pub struct WebFetch {
    connector: Arc<Connector>,
    tls: ClientTls,
}

impl WebFetch {
    /// Fetches through `connector`.
    pub fn new(connector: Arc<Connector>, trust: &Trust) -> Self {
        Self { connector, tls: trust.client() }
    }

    async fn fetch(&self, url: &FetchUrl, accept: &'static str, most: usize) -> Result<Fetched, FetchError> {
        let fault = |what: &dyn std::fmt::Display| FetchError(format!("{}: {what}", url.authority));
        let dialled =
            self.connector.dial(&url.authority, &PrivateReach::Anywhere).await.map_err(|e| fault(&e))?;
        let response = if url.tls {
            let config = self.tls.config(true).ok_or_else(|| fault(&"no TLS configuration"))?;
            let secured = self
                .connector
                .secure(&url.authority.host, config, dialled.stream)
                .await
                .map_err(|e| fault(&e))?;
            self.exchange(TokioIo::new(secured.stream), url, accept).await
        } else {
            self.exchange(TokioIo::new(dialled.stream), url, accept).await
        };
        let response = response.map_err(|e| fault(&chain(&e)))?;
        if response.status() != StatusCode::OK {
            // Redirects too: who may name our keys is decided by the settings alone.
            return Err(fault(&format_args!("it answered {}", response.status().as_u16())));
        }
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), most)
            .collect()
            .await
            .map_err(|e| fault(&chain(e.as_ref())))?;
        Ok(Fetched { body: body.to_bytes(), max_age })
    }

    async fn exchange<T>(
        &self,
        io: T,
        url: &FetchUrl,
        accept: &'static str,
    ) -> Result<http::Response<hyper::body::Incoming>, hyper::Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(io).await?;
        // Ends with the exchange: the sender is dropped with it.
        tokio::spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        let query = url.query.as_ref().map(|q| format!("?{}", q.as_str())).unwrap_or_default();
        if let Ok(uri) = format!("{}{query}", url.path).parse() {
            *request.uri_mut() = uri;
        }
        let scheme = if url.tls { Scheme::Https } else { Scheme::Http };
        if let Ok(host) = HeaderValue::from_str(&url.authority.host_header(scheme)) {
            request.headers_mut().insert(header::HOST, host);
        }
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        request.headers_mut().insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("egret/", env!("CARGO_PKG_VERSION"))),
        );
        sender.send_request(request).await
    }
}

impl Fetch for WebFetch {
    fn get<'a>(
        &'a self,
        url: &'a FetchUrl,
        accept: &'static str,
        most: usize,
        timeout: Duration,
    ) -> Fetching<'a> {
        Box::pin(async move {
            let fetched = tokio::time::timeout(timeout, self.fetch(url, accept, most)).await;
            fetched.unwrap_or_else(|_| Err(FetchError(format!("{}: no answer in time", url.authority))))
        })
    }
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let seconds = directives.split(',').find_map(|d| d.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}
