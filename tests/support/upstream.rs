//! Upstreams that remember what they read.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
};

use ::egret::{ca::CertificateAuthority, target::Host, tls};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

/// The body of an upstream's answer.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// One request as the upstream read it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// As on the wire: path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub version: http::Version,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    }

    /// All of it in one text, to search for what must not be there.
    pub fn everything(&self) -> String {
        format!(
            "{} {} {:?} {} {:?}",
            self.method,
            self.target,
            self.headers
                .iter()
                .map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes())))
                .collect::<Vec<_>>(),
            String::from_utf8_lossy(&self.body),
            self.trailers
        )
    }
}

/// A whole answer.
pub fn full(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(body.into()).map_err(|never| match never {}).boxed()).unwrap()
}

/// A running upstream. It has a runtime of its own, so that plain tests can use it.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    _runtime: Runtime,
}

static AUTHORITY: LazyLock<CertificateAuthority> =
    LazyLock::new(|| CertificateAuthority::ephemeral().unwrap());

impl Upstream {
    /// The authority of all upstreams of this test program; egret trusts it.
    pub fn authority() -> &'static CertificateAuthority {
        &AUTHORITY
    }

    /// HTTPS for `name`, HTTP/1.1 and HTTP/2, answering with `answer` once the body has been read.
    pub fn https(name: &str, answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(Some(name), true, move |seen| Box::pin(std::future::ready(answer(seen))))
    }

    /// The same without HTTP/2.
    pub fn https1(name: &str, answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(Some(name), false, move |seen| Box::pin(std::future::ready(answer(seen))))
    }

    /// Cleartext.
    pub fn http(answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(None, true, move |seen| Box::pin(std::future::ready(answer(seen))))
    }

    /// An upstream that echoes method, target and headers as JSON.
    pub fn echo(name: &str) -> Self {
        Self::https(name, |seen| {
            let headers: serde_json::Map<String, serde_json::Value> = seen
                .headers
                .iter()
                .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
                .collect();
            let body = serde_json::json!({ "method": seen.method, "target": seen.target, "headers": headers, "body": String::from_utf8_lossy(&seen.body) });
            full(200, &[("content-type", "application/json")], body.to_string())
        })
    }

    fn start(
        name: Option<&str>,
        h2: bool,
        answer: impl Fn(&Seen) -> std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        tls::install();
        let acceptor = name.map(|name| {
            let (certificate, _) = AUTHORITY.mint(&Host::parse(name).unwrap()).unwrap();
            let mut config = tls::server(Arc::new(Always(certificate))).unwrap();
            if !h2 {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            TlsAcceptor::from(Arc::new(config))
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (remember, count, answer) = (seen.clone(), connections.clone(), Arc::new(answer));
        runtime.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                *count.lock().unwrap() += 1;
                let _ = stream.set_nodelay(true);
                let (acceptor, remember, answer) = (acceptor.clone(), remember.clone(), answer.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, remember, answer).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, remember, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, connections, _runtime: runtime }
    }

    /// Everything it read so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request it read.
    pub fn last(&self) -> Seen {
        self.seen().last().expect("the upstream received nothing").clone()
    }

    /// Connections it accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve<T, F>(stream: T, remember: Arc<Mutex<Vec<Seen>>>, answer: Arc<F>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&Seen) -> std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (remember, answer) = (remember.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let (body, trailers) = match body.collect().await {
                Ok(collected) => (collected.trailers().cloned(), collected.to_bytes()),
                // A request that broke off never became one.
                Err(error) => return Err(std::io::Error::other(error)),
            };
            let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let seen = Seen {
                method: head.method.to_string(),
                target,
                headers: head.headers,
                body: trailers,
                trailers: body,
                version: head.version,
            };
            remember.lock().unwrap().push(seen.clone());
            Ok::<_, std::io::Error>(answer(&seen).await)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Never fails: for handlers whose errors are their own.
pub type Never = Infallible;
