//! Inside `CONNECT`: TLS with a certificate of ours, or cleartext HTTP, each request judged on its own.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{Ambient, Form, Lifecycle, Rooms, UnverifiedToken, prefixed::Prefixed, server};
use crate::{
    audit::{Audit, Event, chain},
    context::{AgentId, Channel, CorrelationId, Identity},
    metrics::Metrics,
    standing::{Standing, Withdrawn},
    target::{Authority, Host, Scheme},
};

/// How long a client may take from the 200 to the end of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// First byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Where a request came in.
#[derive(Debug)]
pub struct Place {
    /// The listener's form.
    pub form: Form,
    /// The client's socket.
    pub peer: SocketAddr,
    /// The listener's own identity, when it has one.
    pub ambient: Option<Arc<Ambient>>,
    /// How long a client may take to begin, and to send a head.
    pub header_timeout: Duration,
    /// The tunnel around it, when there is one.
    pub tunnel: Option<TunnelPlace>,
}

/// The tunnel around a request.
#[derive(Debug)]
pub struct TunnelPlace {
    /// What `CONNECT` named.
    pub authority: Authority,
    /// What the client speaks inside.
    pub scheme: Scheme,
    /// Who opened it.
    pub opened: Tunnelled,
}

/// Who opened a tunnel, and with what; each request inside is verified with it again.
#[derive(Debug, Clone)]
pub struct Tunnelled {
    /// The verified identity.
    pub identity: Arc<Identity>,
    /// The tokens.
    pub tokens: Vec<(Channel, Arc<UnverifiedToken>)>,
    /// The agent that the client named.
    pub agent: Option<AgentId>,
    /// The step that it named at `CONNECT`, if it did.
    pub correlation_id: Option<CorrelationId>,
}

/// What a client opens a tunnel with.
#[derive(Debug)]
pub struct Opener {
    pub(super) tokens: Vec<(Channel, Arc<UnverifiedToken>)>,
    pub(super) agent: Option<AgentId>,
    pub(super) correlation_id: Option<CorrelationId>,
}

impl Opener {
    /// With the identity that the tokens proved.
    pub(crate) fn verified(self, identity: Arc<Identity>) -> Tunnelled {
        let Self { tokens, agent, correlation_id } = self;
        Tunnelled { identity, tokens, agent, correlation_id }
    }
}

/// How a tunnel that was let through goes on.
pub enum Opened {
    /// egret reads what is inside.
    Intercept {
        /// What `CONNECT` named.
        authority: Authority,
        /// The certificate for it.
        tls: Arc<ServerConfig>,
        /// Who opened it.
        opened: Tunnelled,
        /// Whether it may still be open.
        standing: Standing,
    },
    /// egret copies bytes; the copying runs until both ends are done.
    Opaque(Copying),
}

/// What joins the client's end of an opaque tunnel with the upstream's.
pub type Copying = Box<dyn FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Place {
    /// Whether the listener is the gateway.
    pub(super) fn is_gateway(&self) -> bool {
        self.form == Form::Gateway
    }

    /// The listener's name in records.
    pub(super) fn name(&self) -> &'static str {
        match (&self.tunnel, self.ambient.as_deref(), self.form) {
            (Some(_), ..) => "tunnel",
            (_, Some(Ambient::Open(_)), _) => "ambient",
            (_, Some(Ambient::Session { .. }), _) => "session",
            (.., Form::Gateway) => "gateway",
            (.., Form::Proxy) => "proxy",
        }
    }
}

/// Serves a tunnel; where it is no longer granted, says so once. What runs inside ends by itself: each request
/// asks for its own grant.
async fn while_granted(
    mut serving: impl Future<Output = ()> + Unpin,
    mut standing: Standing,
    lost: impl FnOnce(Withdrawn),
) {
    tokio::select! {
        () = &mut serving => return,
        withdrawn = standing.lost() => lost(withdrawn),
    }
    serving.await;
}

/// A tunnel about to be served.
pub(super) struct Tunnel {
    pub(super) place: Arc<Place>,
    pub(super) audit: Audit,
    pub(super) metrics: Arc<Metrics>,
    pub(super) life: Lifecycle,
}

impl Tunnel {
    /// Serves the tunnel until the client is done. Dropped, it closes. Boxed, since a connection holds tunnels
    /// and a tunnel holds connections.
    pub(super) fn serve<R: Rooms>(
        self,
        rooms: Arc<R>,
        upgrade: OnUpgrade,
        opened: Opened,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _open = self.metrics.tunnel();
            let Ok(Ok(upgraded)) = time::timeout(HANDSHAKE, upgrade).await else { return };
            match opened {
                Opened::Opaque(copy) => copy(upgraded).await,
                Opened::Intercept { authority, tls, opened, standing } => {
                    let identity = opened.identity.clone();
                    let (to, drain) = (authority.to_string(), self.life.drain.clone());
                    let audit = self.audit.clone();
                    let serving =
                        Box::pin(self.intercept(rooms, TokioIo::new(upgraded), authority, tls, opened));
                    while_granted(serving, standing, |withdrawn| {
                        audit.event(&Event::TunnelClosed {
                            tenant_id: identity.tenant_id.as_str(),
                            agent_id: identity.agent_id.as_str(),
                            authority: &to,
                            code: withdrawn.code,
                            reason: &withdrawn.to_string(),
                        });
                        drain.cancel();
                    })
                    .await;
                }
            }
        })
    }

    async fn intercept<R: Rooms, T>(
        &self,
        rooms: Arc<R>,
        mut io: T,
        authority: Authority,
        tls: Arc<ServerConfig>,
        opened: Tunnelled,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut first = BytesMut::with_capacity(1024);
        let begun = tokio::select! {
            begun = time::timeout(HANDSHAKE, io.read_buf(&mut first)) => begun,
            // Nothing was asked in it yet.
            () = self.life.drain.cancelled() => return,
        };
        match begun {
            Ok(Ok(read)) if read > 0 => {}
            _ => return,
        }
        let tls_speaks = first.first() == Some(&TLS_HANDSHAKE);
        let io = Prefixed::new(first.freeze(), io);
        if tls_speaks {
            return self.secured(rooms, io, authority, tls, opened).await;
        }
        // Node's fetch speaks cleartext HTTP inside `CONNECT host:80`. On a TLS port nothing but TLS is right.
        if authority.port == Scheme::Https.default_port()
            || !io.first_byte().is_some_and(|byte| byte.is_ascii_uppercase())
        {
            return self.malformed(
                "tunnel_protocol",
                "what is inside the tunnel is neither TLS nor HTTP",
                &authority,
            );
        }
        let place = self.inside(authority, Scheme::Http, opened);
        server::serve_connection(rooms, io, place, &self.audit, &self.metrics, &self.life, None).await;
    }

    async fn secured<R: Rooms, T>(
        &self,
        rooms: Arc<R>,
        io: Prefixed<T>,
        authority: Authority,
        tls: Arc<ServerConfig>,
        opened: Tunnelled,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let start = match time::timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), io)).await {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => return self.malformed("tls", &chain(&error), &authority),
            Err(_) => return self.malformed("tls", "no handshake in time", &authority),
        };
        // One name for the tunnel, its certificate, and all its requests.
        let hello = start.client_hello();
        if let Some(name) = hello.server_name()
            && Host::parse(name).ok().as_ref() != Some(&authority.host)
        {
            return self.malformed(
                "sni_mismatch",
                "the TLS client names another host than CONNECT did",
                &authority,
            );
        }
        let stream = match time::timeout(HANDSHAKE, start.into_stream(tls)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(&error, &authority),
            Err(_) => return self.malformed("tls", "no handshake in time", &authority),
        };
        let h2 = stream.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2");
        let place = self.inside(authority, Scheme::Https, opened);
        server::serve_connection(rooms, stream, place, &self.audit, &self.metrics, &self.life, h2).await;
    }

    fn inside(&self, authority: Authority, scheme: Scheme, opened: Tunnelled) -> Arc<Place> {
        let Place { form, peer, ambient, header_timeout, .. } = &*self.place;
        let tunnel = Some(TunnelPlace { authority, scheme, opened });
        let header_timeout = *header_timeout;
        Arc::new(Place { form: *form, peer: *peer, ambient: ambient.clone(), header_timeout, tunnel })
    }

    fn handshake_failed(&self, error: &io::Error, authority: &Authority) {
        let refused = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).is_some_and(|e| {
            use AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
            matches!(e, rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown))
        });
        if !refused {
            return self.malformed("tls", &chain(error), authority);
        }
        self.metrics.client_tls_rejected();
        tracing::warn!(%authority, peer = %self.place.peer, "the client does not trust egret's certificate: give it the CA (`egret env` prints the variables, `egret ca show` the file)");
        self.malformed("client_tls_rejected", "the client does not trust egret's certificate", authority);
    }

    fn malformed(&self, kind: &'static str, reason: &str, authority: &Authority) {
        self.metrics.malformed(kind);
        let (peer, authority) = (self.place.peer.to_string(), authority.to_string());
        self.audit.event(&Event::Malformed { kind, reason, peer: &peer, authority: Some(&authority) });
    }
}
