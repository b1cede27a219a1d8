//! The demo's upstream: HTTPS, echoes what it receives, and remembers it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{ca::CertificateAuthority, serve::StartError, target::Host, tls};

/// One request as the upstream read it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// A running upstream.
#[derive(Debug)]
pub(super) struct DemoUpstream {
    pub(super) address: SocketAddr,
    last: Arc<Mutex<Option<Seen>>>,
}

impl DemoUpstream {
    pub(super) async fn start(authority: &CertificateAuthority, name: &str) -> Result<Self, StartError> {
        let broken = |e: &dyn std::fmt::Display| StartError::Unavailable(format!("the demo's upstream: {e}"));
        let host = Host::parse(name).map_err(|e| broken(&e))?;
        let (certificate, _) = authority.mint(&host).map_err(|e| broken(&e))?;
        let acceptor =
            TlsAcceptor::from(Arc::new(tls::server(Arc::new(Always(certificate))).map_err(|e| broken(&e))?));
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| broken(&e))?;
        let address = socket.local_addr().map_err(|e| broken(&e))?;
        let last = Arc::new(Mutex::new(None));
        let seen = last.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| {
                        let seen = seen.clone();
                        async move { Ok::<_, Infallible>(echo(&request, &seen)) }
                    });
                    let io = TokioIo::new(stream);
                    // The client that goes away is the proxy at the end of the demo.
                    if h2 {
                        let _ =
                            hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                                .serve_connection(io, service)
                                .await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        Ok(Self { address, last })
    }

    /// What arrived since the last call.
    pub(super) fn take(&self) -> Option<Seen> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn echo(request: &Request<Incoming>, seen: &Mutex<Option<Seen>>) -> Response<Full<Bytes>> {
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let body =
        serde_json::json!({ "items": [1, 2, 3], "you_sent": { "authorization": authorization } }).to_string();
    let arrived =
        Seen { method: request.method().to_string(), path: request.uri().path().to_owned(), headers };
    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(arrived);
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// Always the same certificate.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
