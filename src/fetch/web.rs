//! Fetching over the guarded connector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{Answer, Call, CallError, Calling, Calls, Fetch, FetchError, FetchUrl, Fetched, Fetching};
use crate::{
    audit::chain,
    connect::Connector,
    plan::PrivateReach,
    tls::{ClientTls, Trust},
};

/// Fetches from the network, a connection for each call.
#[derive(Debug)]
pub struct WebFetch {
    connector: Arc<Connector>,
    trust: Trust,
    tls: ClientTls,
}

/// Why a call came to nothing.
enum Broken {
    /// Nothing of it was written.
    Before(String),
    /// It may have been read.
    After(String),
}

impl WebFetch {
    /// Fetches through `connector`.
    pub fn new(connector: Arc<Connector>, trust: &Trust) -> Self {
        Self { connector, trust: trust.clone(), tls: trust.client() }
    }

    async fn exchange(&self, call: Call<'_>, written: &AtomicBool) -> Result<Answer, Broken> {
        let before = |what: &dyn std::fmt::Display| Broken::Before(what.to_string());
        let (url, most) = (call.url, call.most);
        let dialled = self.connector.dial(&url.authority, call.reach).await.map_err(|e| before(&e))?;
        let response = if url.tls {
            let config = match call.certificate {
                None => self.tls.config(true).ok_or_else(|| before(&"no TLS configuration"))?,
                Some(certificate) => self.trust.client_with(certificate).map_err(|e| before(&e))?,
            };
            let secured = self.connector.secure(&url.authority.host, config, dialled.stream).await;
            send(TokioIo::new(secured.map_err(|e| before(&e))?.stream), call, written).await?
        } else {
            send(TokioIo::new(dialled.stream), call, written).await?
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|e| Broken::After(chain(e.as_ref())))?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

async fn send<T>(io: T, call: Call<'_>, written: &AtomicBool) -> Result<Response<Incoming>, Broken>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await.map_err(|e| Broken::Before(chain(&e)))?;
    // Ends with the exchange: the sender is dropped with it.
    tokio::spawn(connection);
    let Call { method, url, headers, body, .. } = call;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    let query = url.query.as_ref().map(|q| format!("?{}", q.as_str())).unwrap_or_default();
    let uri = format!("{}{query}", url.path).parse();
    *request.uri_mut() = uri.map_err(|_| Broken::Before("the URL is too long".to_owned()))?;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&url.authority.host_header(url.scheme())) {
        headers.insert(header::HOST, host);
    }
    let agent = HeaderValue::from_static(concat!("egret/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(agent);
    written.store(true, Ordering::Relaxed);
    sender.try_send_request(request).await.map_err(|mut error| {
        let unwritten = error.take_message().is_some();
        let what = chain(&error.into_error());
        if unwritten { Broken::Before(what) } else { Broken::After(what) }
    })
}

impl Calls for WebFetch {
    fn call<'c>(&'c self, call: Call<'c>) -> Calling<'c> {
        Box::pin(async move {
            let (authority, timeout) = (&call.url.authority, call.timeout);
            let written = AtomicBool::new(false);
            let error =
                |what: &str, maybe_taken| CallError { what: format!("{authority}: {what}"), maybe_taken };
            match tokio::time::timeout(timeout, self.exchange(call, &written)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(Broken::Before(what))) => Err(error(&what, false)),
                Ok(Err(Broken::After(what))) => Err(error(&what, true)),
                Err(_) => Err(error("no answer in time", written.load(Ordering::Relaxed))),
            }
        })
    }
}

impl Fetch for WebFetch {
    /// The operator names these URLs in the settings, so private addresses are in reach; metadata services and egret
    /// itself never are.
    fn get<'a>(
        &'a self,
        url: &'a FetchUrl,
        accept: &'static str,
        most: usize,
        timeout: Duration,
    ) -> Fetching<'a> {
        Box::pin(async move {
            let call = Call {
                method: Method::GET,
                url,
                headers: HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]),
                body: Bytes::new(),
                most,
                timeout,
                reach: &PrivateReach::Anywhere,
                certificate: None,
            };
            let answer = self.call(call).await.map_err(|error| FetchError(error.what))?;
            if answer.status != StatusCode::OK {
                // Redirects too: who may name our keys is decided by the settings alone.
                let status = answer.status.as_u16();
                return Err(FetchError(format!("{}: it answered {status}", url.authority)));
            }
            Ok(Fetched { max_age: max_age(&answer.headers), body: answer.body })
        })
    }
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let seconds = directives.split(',').find_map(|d| d.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}
