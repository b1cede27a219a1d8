//! Resolve, check, dial, secure.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{CorporateProxy, OwnAddresses, address};
use crate::{
    audit::chain,
    plan::PrivateReach,
    target::{Authority, Host},
};

/// Name lookups at the same time: `getaddrinfo` blocks a thread each.
const LOOKUPS: usize = 64;
/// How long a lookup may take.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Head start of one address before the next is tried beside it (RFC 8305 §8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Why no connection was made. Texts are for operators.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error("{error}")]
    Dns {
        /// Whether the resolver did not answer in time.
        timeout: bool,
        /// What it said.
        error: String,
    },
    /// All its addresses are out of reach.
    #[error("{0} is out of reach")]
    Prohibited(IpAddr),
    /// Nothing accepts connections there.
    #[error("{0}")]
    Unreachable(String),
    /// No connection in time.
    #[error("no connection in time")]
    Timeout,
    /// The TLS handshake failed.
    #[error("{error}")]
    Tls {
        /// Whether it was the certificate.
        certificate: bool,
        /// What happened.
        error: String,
    },
}

/// An open TCP connection to a checked address.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// The address that was checked and dialled; none behind a corporate proxy.
    pub peer: Option<SocketAddr>,
    /// Connections tried.
    pub attempts: u32,
}

/// An open TLS connection whose certificate names the host.
#[derive(Debug)]
pub struct Secured {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// Whether HTTP/2 was chosen (ALPN).
    pub h2: bool,
    /// `1.2` or `1.3`.
    pub version: Option<&'static str>,
}

/// What the connector is made of.
#[derive(Debug, Default)]
pub struct ConnectorSettings {
    /// From the first packet to the end of the TLS handshake.
    pub connect_timeout: Option<Duration>,
    /// Hosts whose address the operator fixed (`upstream.resolve`); checked like any other.
    pub resolve: HashMap<Host, (IpAddr, Option<u16>)>,
    /// The corporate proxy.
    pub proxy: Option<CorporateProxy>,
}

/// Opens connections upstream.
#[derive(Debug)]
pub struct Connector {
    settings: ConnectorSettings,
    own: OwnAddresses,
    lookups: Semaphore,
}

impl Connector {
    /// A connector that never dials `own`.
    pub fn new(settings: ConnectorSettings, own: OwnAddresses) -> Self {
        Self { settings, own, lookups: Semaphore::new(LOOKUPS) }
    }

    /// How long a connection may take.
    fn patience(&self) -> Duration {
        self.settings.connect_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// Whether a connection to `peer` may still be used by a service with this reach.
    pub fn still_allowed(&self, peer: Option<SocketAddr>, reach: &PrivateReach) -> bool {
        peer.is_none_or(|peer| address::allowed(peer.ip(), reach))
    }

    /// Connects to `to`.
    ///
    /// # Errors
    /// When the name does not resolve, resolves to addresses out of reach only, or nothing answers there.
    pub async fn dial(&self, to: &Authority, reach: &PrivateReach) -> Result<Dialled, DialError> {
        let dialled = async {
            match &self.settings.proxy {
                Some(proxy) if proxy.serves(&to.host) => self.through(proxy, to, reach).await,
                _ => self.direct(to, reach).await,
            }
        };
        time::timeout(self.patience(), dialled).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn direct(&self, to: &Authority, reach: &PrivateReach) -> Result<Dialled, DialError> {
        let found = self.resolve(to).await?;
        let mut prohibited = None;
        let mut checked = Vec::with_capacity(found.len());
        for candidate in found {
            if address::allowed(candidate.ip(), reach) && !self.own.contains(candidate) {
                checked.push(candidate);
            } else {
                prohibited = Some(candidate.ip());
            }
        }
        match (checked.is_empty(), prohibited) {
            (true, Some(address)) => Err(DialError::Prohibited(address)),
            (true, None) => Err(DialError::Dns { timeout: false, error: "the name has no address".into() }),
            (false, _) => race(checked).await,
        }
    }

    /// Through the corporate proxy: it resolves names, so only literal addresses can be checked here.
    async fn through(
        &self,
        proxy: &CorporateProxy,
        to: &Authority,
        reach: &PrivateReach,
    ) -> Result<Dialled, DialError> {
        if let Host::Address(literal) = to.host
            && (!address::allowed(literal, reach) || self.own.contains(SocketAddr::new(literal, to.port)))
        {
            return Err(DialError::Prohibited(literal));
        }
        let mut dialled = race(self.resolve(&proxy.address).await?).await?;
        proxy.connect(&mut dialled.stream, to).await?;
        dialled.peer = None;
        Ok(dialled)
    }

    async fn resolve(&self, to: &Authority) -> Result<Vec<SocketAddr>, DialError> {
        if let Some((ip, port)) = self.settings.resolve.get(&to.host) {
            return Ok(vec![SocketAddr::new(*ip, port.unwrap_or(to.port))]);
        }
        let name = match &to.host {
            Host::Address(literal) => return Ok(vec![SocketAddr::new(*literal, to.port)]),
            Host::Name(name) => name,
        };
        let lookup = async {
            let _one_of_few = self.lookups.acquire().await;
            tokio::net::lookup_host((&**name, to.port)).await.map(Iterator::collect::<Vec<_>>)
        };
        match time::timeout(LOOKUP_TIME, lookup).await {
            Ok(Ok(found)) => Ok(alternate(found)),
            Ok(Err(error)) => Err(DialError::Dns { timeout: false, error: chain(&error) }),
            Err(_) => {
                Err(DialError::Dns { timeout: true, error: "the resolver did not answer in time".into() })
            }
        }
    }

    /// Secures a connection: the certificate must name `host`.
    ///
    /// # Errors
    /// When the handshake fails or the certificate is not trusted; nothing of a request was sent by then.
    pub async fn secure(
        &self,
        host: &Host,
        config: Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<Secured, DialError> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| DialError::Tls { certificate: false, error: error.to_string() })?,
            Host::Address(literal) => ServerName::IpAddress((*literal).into()),
        };
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream = match time::timeout(self.patience(), handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(tls_error(&error)),
            Err(_) => return Err(DialError::Timeout),
        };
        let (_, session) = stream.get_ref();
        let h2 = session.alpn_protocol() == Some(b"h2");
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => Some("1.3"),
            Some(rustls::ProtocolVersion::TLSv1_2) => Some("1.2"),
            _ => None,
        };
        Ok(Secured { stream, h2, version })
    }
}

/// Dials in turn, each with a head start over the next; the first connection wins.
async fn race(addresses: Vec<SocketAddr>) -> Result<Dialled, DialError> {
    let mut attempts = 0;
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last = DialError::Unreachable("the name has no address".into());
    let mut start = |running: &mut JoinSet<_>| {
        let next = waiting.next();
        if let Some(address) = next {
            attempts += 1;
            running.spawn(async move { (address, connect(address).await) });
        }
        (next.is_some(), attempts)
    };
    let (mut more, mut tried) = start(&mut running);
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok((peer, Ok(stream)))) => return Ok(Dialled { stream, peer: Some(peer), attempts: tried }),
                Some(Ok((_, Err(error)))) => {
                    last = DialError::Unreachable(chain(&error));
                    (more, tried) = start(&mut running);
                }
                Some(Err(error)) => last = DialError::Unreachable(error.to_string()),
                None => return Err(last),
            },
            () = time::sleep(HEAD_START), if more => (more, tried) = start(&mut running),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the guarded connector: the address was checked")]
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// IPv6 and IPv4 in turn (RFC 8305 §4).
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut order = Vec::with_capacity(six.len() + four.len());
    loop {
        let pair = (six.next(), four.next());
        if pair == (None, None) {
            return order;
        }
        order.extend(pair.0);
        order.extend(pair.1);
    }
}

fn tls_error(error: &io::Error) -> DialError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let certificate =
        matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented));
    DialError::Tls { certificate, error: chain(error) }
}
