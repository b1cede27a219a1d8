//! Upstreams whose handlers own the exchange: they see a request before its body, answer piece by piece, switch
//! protocols, or speak no HTTP at all. And the HTTP/2 client that looks at what egret makes of it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::egret::{
    target::Host,
    tls::{self, Trust},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    pki_types::ServerName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Egret, PATIENCE, Upstream, upstream::Body};

/// A running upstream, on a runtime of its own. Dropped, it is gone with all its connections.
pub struct Live {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Live {
    /// HTTPS for `name`, HTTP/1.1 and HTTP/2.
    pub fn https<F>(name: &str, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving(Some(config(name, &[b"h2", b"http/1.1"])), None, handler)
    }

    /// HTTPS for `name`, HTTP/1.1 alone.
    pub fn https1<F>(name: &str, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving(Some(config(name, &[b"http/1.1"])), None, handler)
    }

    /// Cleartext.
    pub fn http<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving(None, None, handler)
    }

    /// The same on this address, where another upstream was before.
    pub fn http_at<F>(
        address: SocketAddr,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving(None, Some(address), handler)
    }

    /// HTTP under this TLS configuration.
    pub fn serving<F>(
        config: Option<ServerConfig>,
        at: Option<SocketAddr>,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, handler) = (asked.clone(), Arc::new(handler));
        let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        let mut this = Self::listening(at, move |stream| {
            let (acceptor, count, handler) = (acceptor.clone(), count.clone(), handler.clone());
            async move {
                match acceptor {
                    None => serve(stream, count, handler).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, count, handler).await;
                        }
                    }
                }
            }
        });
        this.asked = asked;
        this
    }

    /// Hands every connection to `handler`, bare.
    pub fn socket<F>(handler: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listening(None, handler)
    }

    fn listening<F>(at: Option<SocketAddr>, handler: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tls::install();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let at = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let socket = runtime.block_on(TcpListener::bind(at)).unwrap();
        let address = socket.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                tokio::spawn(handler(stream));
            }
        });
        Self { address, asked: Arc::default(), accepted, runtime: Some(runtime) }
    }

    /// Requests whose head was read so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Ends it: nothing listens any more, and every connection is closed.
    pub fn stop(mut self) -> SocketAddr {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
        self.address
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve<T, H, F>(stream: T, count: Arc<AtomicUsize>, handler: Arc<H>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler(request).await) }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// TLS as `name`, signed by the authority that egret trusts in tests.
pub fn config(name: &str, alpn: &[&[u8]]) -> ServerConfig {
    tls::install();
    let (certificate, _) = Upstream::authority().mint(&Host::parse(name).unwrap()).unwrap();
    config_with(certificate, alpn)
}

/// TLS with this certificate.
pub fn config_with(certificate: Arc<CertifiedKey>, alpn: &[&[u8]]) -> ServerConfig {
    let mut config = tls::server(Arc::new(Always(certificate))).unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The writing end of a body. Dropped, the body ends.
pub struct Pen(UnboundedSender<io::Result<Frame<Bytes>>>);

impl Pen {
    /// Sends a piece; `false` when nobody reads any more.
    pub fn write(&self, piece: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(piece.into()))).is_ok()
    }

    /// Sends trailers.
    pub fn trailers(&self, list: &[(&'static str, &'static str)]) {
        let mut trailers = HeaderMap::new();
        for (name, value) in list {
            trailers.append(*name, value.parse().unwrap());
        }
        let _ = self.0.send(Ok(Frame::trailers(trailers)));
    }

    /// Breaks the body off.
    pub fn fail(&self) {
        let _ = self.0.send(Err(io::Error::other("broken off on purpose")));
    }

    /// Waits until the reading end is gone.
    pub fn abandoned(&self) {
        let waiting = async { tokio::time::timeout(PATIENCE, self.0.closed()).await };
        runtime().block_on(waiting).expect("somebody still reads");
    }
}

/// A body that is written while it is read.
pub fn pipe() -> (Pen, Body) {
    let (sender, receiver) = unbounded_channel();
    (Pen(sender), Piped(receiver).boxed())
}

struct Piped(UnboundedReceiver<io::Result<Frame<Bytes>>>);

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// A body of `length` zero bytes in pieces of 64 KiB, with its length announced.
pub fn zeros(length: u64) -> Body {
    Zeros(length).map_err(|never: Infallible| match never {}).boxed()
}

struct Zeros(u64);

static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let piece = usize::try_from(self.0).unwrap_or(usize::MAX).min(PIECE.len());
        self.0 -= piece as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..piece])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// Reads a body to its end and says how long it was; `None` when it broke off.
pub async fn drain(mut body: Incoming) -> Option<u64> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Some(length)
}

/// A runtime for one test's client.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The client's half of an HTTP/2 connection.
pub type H2 = SendRequest<Body>;

/// Opens an HTTP/2 connection inside a tunnel to `name:443`. Call it inside a runtime.
pub async fn h2_in_tunnel(egret: &Egret, name: &str, token: &str) -> H2 {
    let mut stream = TcpStream::connect(egret.proxy()).await.unwrap();
    let connect = format!(
        "CONNECT {name}:443 HTTP/1.1\r\nhost: {name}:443\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(connect.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let trust = Trust::only(egret.authority().certificate().clone()).unwrap();
    let config = trust.client().config(false).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    h2_over(stream).await
}

/// Speaks HTTP/2 in the clear to egret's own port, without asking first (RFC 9113 §3.3).
pub async fn h2_to_proxy(egret: &Egret) -> H2 {
    h2_over(TcpStream::connect(egret.proxy()).await.unwrap()).await
}

async fn h2_over<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T) -> H2 {
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A request with a whole body.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Body> {
    let body: Bytes = body.into();
    let body = if body.is_empty() {
        http_body_util::Empty::new().map_err(|never| match never {}).boxed()
    } else {
        Full::new(body).map_err(|never| match never {}).boxed()
    };
    with_body(method, url, headers, body)
}

/// A request with a body of any making.
pub fn with_body(method: &str, url: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// The next data of a body, as text.
pub async fn next(body: &mut Incoming) -> String {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("nothing came in time");
    let data = frame.expect("the body has ended").expect("the body broke off").into_data().unwrap();
    String::from_utf8_lossy(&data).into_owned()
}

/// Tries again until `done` gives something. For what has no event to wait for: another process's files and timers.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
