//! Listeners and connections.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{Method, Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Ambient, Arrival, Opened, Place, patient::Patient, prefixed::Prefixed, tunnel::Tunnel};
use crate::{
    audit::{Audit, Event, chain},
    message::AuditedBody,
    metrics::Metrics,
};

/// Largest head, in bytes: a JWT of 8 KiB and a full set of headers fit.
const HEAD_SIZE: usize = 64 * 1024;
/// Most header lines of a request.
const HEADERS: usize = 128;
/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams of one HTTP/2 connection at the same time.
const STREAMS: u32 = 256;
/// First and longest pause after a failed accept.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How requests are written on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `GET http://host/path` and `CONNECT host:port`.
    Proxy,
    /// `GET /<integration>/<path>`.
    Gateway,
}

/// What answers requests: the rooms behind this one.
pub trait Rooms: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, arrival: Arrival) -> impl Future<Output = Response<AuditedBody>> + Send;

    /// Lets a `CONNECT` through, or refuses it.
    fn connect(&self, arrival: Arrival)
    -> impl Future<Output = Result<Opened, Response<AuditedBody>>> + Send;
}

/// The two steps of stopping, and what is waited for in between.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Stop accepting, finish what runs.
    pub drain: CancellationToken,
    /// Stop what still runs.
    pub stop: CancellationToken,
    /// Connections and tunnels.
    pub tasks: TaskTracker,
}

impl Lifecycle {
    /// The life of one tunnel: it drains with everything, and alone.
    fn of_one(&self) -> Self {
        Self { drain: self.drain.child_token(), ..self.clone() }
    }
}

/// One listener's nature.
#[derive(Debug)]
pub struct ListenerSettings {
    /// How requests are written on it.
    pub form: Form,
    /// Its own identity.
    pub ambient: Option<Ambient>,
    /// Connections at the same time.
    pub connections: usize,
    /// How long a client may take to begin and to send a head, and how long it may rest between requests.
    pub header_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall_timeout: Duration,
}

/// A listener that is bound and not yet accepting.
pub struct Listener {
    socket: TcpListener,
    form: Form,
    ambient: Option<Arc<Ambient>>,
    free: Arc<Semaphore>,
    header_timeout: Duration,
    stall_timeout: Duration,
}

impl Listener {
    /// Takes a bound socket over.
    pub fn new(socket: TcpListener, settings: ListenerSettings) -> Self {
        let free = Arc::new(Semaphore::new(settings.connections));
        let ListenerSettings { form, ambient, header_timeout, stall_timeout, .. } = settings;
        Self { socket, form, ambient: ambient.map(Arc::new), free, header_timeout, stall_timeout }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until draining begins. No failure of a single accept ends it.
    pub async fn run<R: Rooms>(self, rooms: Arc<R>, audit: Audit, metrics: Arc<Metrics>, life: Lifecycle) {
        let mut pause = BACK_OFF.0;
        loop {
            let free = tokio::select! {
                free = self.free.clone().acquire_owned() => free,
                () = life.drain.cancelled() => return,
            };
            let Ok(free) = free else { return };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = life.drain.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if belongs_to_the_client(&error) => continue,
                Err(error) => {
                    // Out of descriptors or memory: wait for some to come back.
                    tracing::warn!(%error, "cannot accept connections just now");
                    time::sleep(pause).await;
                    pause = (pause * 2).min(BACK_OFF.1);
                    continue;
                }
            };
            pause = BACK_OFF.0;
            if stream.set_nodelay(true).is_err() {
                continue; // gone already
            }
            let stream = Patient::new(stream, self.stall_timeout);
            let (ambient, header_timeout) = (self.ambient.clone(), self.header_timeout);
            let place = Arc::new(Place { form: self.form, peer, ambient, header_timeout, tunnel: None });
            let (rooms, audit, metrics, life) = (rooms.clone(), audit.clone(), metrics.clone(), life.clone());
            life.tasks.clone().spawn(async move {
                let _open = (metrics.connection(), free);
                serve_connection(rooms, stream, place, &audit, &metrics, &life, None).await;
            });
        }
    }
}

/// Serves one connection until it ends, or until it has finished what runs when draining begins. `h2` says
/// which protocol was negotiated, if any was.
pub(super) async fn serve_connection<R, T>(
    rooms: Arc<R>,
    mut io: T,
    place: Arc<Place>,
    audit: &Audit,
    metrics: &Arc<Metrics>,
    life: &Lifecycle,
    h2: Option<bool>,
) where
    R: Rooms,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut first = BytesMut::new();
    let begun = tokio::select! {
        begun = time::timeout(place.header_timeout, begins_http2(&mut io, &mut first)) => begun,
        () = life.drain.cancelled() => return,
    };
    // Gone, or it does not say what it wants: nothing was asked, so nothing is answered.
    let Ok(Ok(begins)) = begun else { return };
    let h2 = h2.unwrap_or(begins);
    let io = Prefixed::new(first.freeze(), io);
    let service = {
        let (place, audit, metrics, life) = (place.clone(), audit.clone(), metrics.clone(), life.clone());
        service_fn(move |request: Request<Incoming>| {
            let one = One {
                rooms: rooms.clone(),
                place: place.clone(),
                audit: audit.clone(),
                metrics: metrics.clone(),
                life: life.clone(),
            };
            async move { Ok::<_, Infallible>(one.answer(request).await) }
        })
    };
    let builder = builder(h2, place.header_timeout);
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = life.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = life.stop.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        report(error.as_ref(), h2, &place, audit, metrics);
    }
}

/// Reads on until it is clear whether the client begins like HTTP/2.
async fn begins_http2<T: AsyncRead + Unpin>(io: &mut T, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        if first.starts_with(PREFACE) {
            return Ok(true);
        }
        if !PREFACE.starts_with(first) {
            return Ok(false);
        }
        first.reserve(4096);
        if io.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn builder(h2: bool, header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_SIZE)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_SIZE).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(64))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    if h2 { builder.http2_only() } else { builder.http1_only() }
}

/// One request of a connection.
struct One<R> {
    rooms: Arc<R>,
    place: Arc<Place>,
    audit: Audit,
    metrics: Arc<Metrics>,
    life: Lifecycle,
}

impl<R: Rooms> One<R> {
    async fn answer(self, mut request: Request<Incoming>) -> Response<AuditedBody> {
        if request.method() != Method::CONNECT || self.place.tunnel.is_some() {
            return self.rooms.handle(Arrival { request, place: self.place }).await;
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let arrival = Arrival { request, place: self.place.clone() };
        match self.rooms.connect(arrival).await {
            Ok(opened) => {
                let tunnel = Tunnel {
                    place: self.place,
                    audit: self.audit,
                    metrics: self.metrics,
                    life: self.life.of_one(),
                };
                // The tunnel outlives this exchange: its bytes begin when the 200 is out.
                self.life.tasks.spawn(tunnel.serve(self.rooms, upgrade, opened));
                Response::new(AuditedBody::whole(""))
            }
            Err(refused) => refused,
        }
    }
}

/// Records what the HTTP parser refused: such a message never became a request.
fn report(
    error: &(dyn Error + Send + Sync + 'static),
    h2: bool,
    place: &Place,
    audit: &Audit,
    metrics: &Metrics,
) {
    let Some(fault) = error.downcast_ref::<hyper::Error>() else { return };
    // What ends an HTTP/2 connection is a violation of its rules, unless the client went away or fell silent.
    let gone = || fault.is_timeout() || fault.source().is_some_and(<dyn Error>::is::<io::Error>);
    let kind = match h2 {
        _ if fault.is_parse_too_large() => "http_too_large",
        _ if fault.is_parse() => "http",
        true if !gone() => "http2",
        _ => return,
    };
    metrics.malformed(kind);
    let (peer, authority) = (place.peer.to_string(), place.tunnel.as_ref().map(|t| t.authority.to_string()));
    audit.event(&Event::Malformed {
        kind,
        reason: &chain(fault),
        peer: &peer,
        authority: authority.as_deref(),
    });
}

/// An accept that failed because that one client went away.
fn belongs_to_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
