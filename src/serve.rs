//! The house put together: from settings to listeners that answer, and down again.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    admin::{self, Admin, Connect, Readiness},
    approve::Approvals,
    audit::{Audit, Durability, Event, Writer},
    ca::CertificateAuthority,
    connect::{Connector, ConnectorSettings, CorporateProxy, OwnAddresses},
    credential::{Credentials, Links, Origins},
    decide::{Policies, Verification},
    fetch::{Calls, WebFetch},
    forward::{Upstream, UpstreamSettings},
    identify::{DevIssuer, Verifier},
    limit::Limits,
    listen::{Ambient, Form, Leaves, Lifecycle, Listener, ListenerSettings, TokenFile, TokenSource},
    metrics::Metrics,
    proxy::Proxy,
    secret::Secret,
    settings::{ConnectUrl, IssuerConfig, SecretSource, Settings, Verify},
    tls::Trust,
};

/// The audience of the development issuer's tokens.
pub const DEVELOPMENT_AUDIENCE: &str = "egret";

/// Why egret does not start. Each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something in the configuration is wrong.
    #[error("{0}")]
    Configuration(String),
    /// Something that egret needs is not there.
    #[error("{0}")]
    Unavailable(String),
    /// The system does not permit it.
    #[error("{0}")]
    NotPermitted(String),
}

impl StartError {
    fn configuration(error: impl std::fmt::Display) -> Self {
        Self::Configuration(error.to_string())
    }

    fn io(what: &str, error: &io::Error) -> Self {
        let text = format!("{what}: {error}");
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::NotPermitted(text)
        } else {
            Self::Unavailable(text)
        }
    }
}

/// What a house is built from, beyond the settings.
pub struct Parts {
    /// The policy in force.
    pub policy: Policies,
    /// The counters that the policy already uses.
    pub metrics: Arc<Metrics>,
    /// The decision log that the policy already uses.
    pub audit: Audit,
    /// The authority that signs tunnels' certificates.
    pub authority: Arc<CertificateAuthority>,
    /// Whom to trust upstream.
    pub trust: Trust,
    /// Issuers beyond the settings' own.
    pub issuers: Vec<IssuerConfig>,
    /// Listeners beyond the settings' own.
    pub listeners: Vec<(TcpListener, ListenerSettings)>,
}

/// Opens the decision log.
///
/// # Errors
/// When records are required and a sink cannot be opened.
pub fn open_audit(settings: &Settings) -> Result<(Audit, Arc<Metrics>), StartError> {
    let metrics = Arc::new(Metrics::default());
    let writer = Writer::start(&settings.sinks, settings.durability, metrics.clone())
        .map_err(|e| StartError::io("audit", &e))?;
    Ok((Audit::new(writer, metrics.clone()), metrics))
}

/// What a policy must prove by the settings.
///
/// # Errors
/// When a key cannot be read.
pub fn verification(settings: &Settings) -> Result<Option<Verification>, StartError> {
    match settings.signed.verify {
        Verify::Off => Ok(None),
        Verify::Required => Verification::new(&settings.signed.keys, settings.signed.state.clone())
            .map(Some)
            .map_err(|problem| StartError::Configuration(format!("policy.keys: {problem}"))),
    }
}

/// What makes egret's own calls, for a process that has no proxy.
///
/// # Errors
/// When the settings of the way out cannot be used.
pub fn web_fetch(settings: &Settings) -> Result<WebFetch, StartError> {
    let trust = Trust::load(&settings.upstream.extra_ca).map_err(StartError::configuration)?;
    let connector = Connector::new(connector_settings(settings)?, OwnAddresses::default());
    Ok(WebFetch::new(Arc::new(connector), &trust))
}

/// The development issuer in `dir`, made when there is none.
///
/// # Errors
/// When its key cannot be used.
pub fn development_issuer(dir: &Path) -> Result<DevIssuer, StartError> {
    DevIssuer::open_or_create(dir).map_err(StartError::configuration)
}

/// A house that answers.
#[derive(Debug)]
pub struct Running {
    /// Addresses that were bound: the settings' proxy, gateway and admin, in this order; then `Parts::listeners`.
    pub addresses: Addresses,
    /// The policy in force.
    pub policy: Policies,
    life: Lifecycle,
    audit: Audit,
    metrics: Arc<Metrics>,
    drain_timeout: Duration,
}

/// Where the house listens.
#[derive(Debug, Default, Clone)]
pub struct Addresses {
    /// The proxy.
    pub proxy: Option<SocketAddr>,
    /// The gateway.
    pub gateway: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: Option<SocketAddr>,
    /// Ambient listeners, and then those that were handed in.
    pub others: Vec<SocketAddr>,
}

impl Running {
    /// Builds the house and opens its doors.
    ///
    /// # Errors
    /// When the configuration is wrong, or an address cannot be bound.
    pub async fn start(settings: &Settings, parts: Parts) -> Result<Self, StartError> {
        let Parts { policy, metrics, audit, authority, trust, mut issuers, listeners } = parts;
        let life = Lifecycle::default();
        let own = OwnAddresses::default();
        let connector = Arc::new(Connector::new(connector_settings(settings)?, own.clone()));
        issuers.extend(settings.issuers.iter().cloned());
        if issuers.is_empty() {
            return Err(StartError::Configuration(
                "identity.issuers is empty: nobody could be identified. Name an issuer, or set `identity.development` to a directory to use the development issuer".into(),
            ));
        }
        let fetch = Arc::new(WebFetch::new(connector.clone(), &trust));
        let verifier = Verifier::new(issuers, fetch.clone(), audit.clone(), metrics.clone())
            .map_err(StartError::configuration)?;
        verifier.start(&life.stop);
        let admin = match settings.admin {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let base = connect_base(settings, admin.as_ref().and_then(|socket| socket.local_addr().ok()));
        let links = base.as_deref().map(|base| Links::new(admin::links(base))).unwrap_or_default();
        let calls: Arc<dyn Calls> = fetch;
        let origins = Origins::of(settings, &calls);
        let upstream = UpstreamSettings { idle_timeout: settings.upstream.idle_timeout };
        let proxy = Arc::new(Proxy {
            audit: audit.clone(),
            verifier,
            policy: policy.clone(),
            limits: Limits::default(),
            approvals: Approvals::default(),
            credentials: Credentials::new(origins, calls, metrics.clone(), life.tasks.clone(), links),
            upstream: Upstream::new(connector, trust, upstream, life.tasks.clone(), life.stop.clone()),
            leaves: Leaves::new(authority, metrics.clone()),
        });
        let mut addresses = Addresses::default();
        let mut open = Vec::new();
        let (connections, header_timeout) = (settings.max_connections, settings.header_timeout);
        let stall_timeout = settings.upstream.idle_timeout;
        for (address, form, bound) in [
            (settings.proxy, Form::Proxy, &mut addresses.proxy),
            (settings.gateway, Form::Gateway, &mut addresses.gateway),
        ] {
            let Some(address) = address else { continue };
            let listener = Listener::new(
                bind(address).await?,
                ListenerSettings { form, ambient: None, connections, header_timeout, stall_timeout },
            );
            *bound = Some(local(&listener)?);
            open.push(listener);
        }
        for (address, file) in &settings.ambient {
            let ambient = Ambient::Open(TokenSource::File(TokenFile::new(file.clone())));
            let listener = Listener::new(
                bind(*address).await?,
                ListenerSettings {
                    form: Form::Proxy,
                    ambient: Some(ambient),
                    connections,
                    header_timeout,
                    stall_timeout,
                },
            );
            addresses.others.push(local(&listener)?);
            open.push(listener);
        }
        for (socket, settings) in listeners {
            let listener = Listener::new(socket, settings);
            addresses.others.push(local(&listener)?);
            open.push(listener);
        }
        if let Some(socket) = admin {
            addresses.admin = socket.local_addr().ok();
            let admin = Admin {
                metrics: metrics.clone(),
                readiness: readiness(&proxy, settings.durability),
                connect: base.map(|base| Connect::new(base, policy.clone(), proxy.credentials.consents())),
                life: life.clone(),
            };
            tokio::spawn(admin.run(socket));
        }
        // All addresses are known to the connector before the first request can ask for one of them.
        let all = [addresses.proxy, addresses.gateway, addresses.admin];
        all.into_iter()
            .flatten()
            .chain(addresses.others.iter().copied())
            .for_each(|address| own.add(address));
        for listener in open {
            tokio::spawn(listener.run(proxy.clone(), audit.clone(), metrics.clone(), life.clone()));
        }
        audit.event(&Event::Started { version: env!("CARGO_PKG_VERSION") });
        Ok(Self { addresses, policy, life, audit, metrics, drain_timeout: settings.drain_timeout })
    }

    /// Stops accepting, lets what runs finish for a bounded time, ends the rest, and closes the log.
    pub async fn stop(self) {
        self.life.drain.cancel();
        self.life.tasks.close();
        if tokio::time::timeout(self.drain_timeout, self.life.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.life.tasks.len(), "draining took too long, ending what still runs");
        }
        self.life.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.life.tasks.wait()).await;
        self.audit.event(&Event::Stopped { audit_dropped: self.metrics.audit_dropped_so_far() });
        let audit = self.audit.clone();
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
    }
}

fn readiness(proxy: &Arc<Proxy>, durability: Durability) -> admin::Ask {
    let proxy = proxy.clone();
    Arc::new(move || {
        let mut pending = proxy.verifier.pending();
        if durability == Durability::Required && !proxy.audit.healthy() {
            pending.push("audit sink".into());
        }
        if let Some(at) = proxy.policy.expired() {
            pending.push(format!("a policy that is not past its time (it expired at {at})"));
        }
        let rejected = proxy.policy.last_error();
        let note = |error: Arc<String>| {
            format!("the policy files as they are now are not in force: {}", error.replace('\n', "; "))
        };
        Readiness { pending, notes: rejected.map(note).into_iter().collect() }
    })
}

/// Where people connect integrations. By default only where the admin listener is this machine's own.
fn connect_base(settings: &Settings, admin: Option<SocketAddr>) -> Option<String> {
    match (&settings.connect, admin) {
        (ConnectUrl::Off, _) | (_, None) => None,
        (ConnectUrl::At(base), Some(_)) => Some(base.clone()),
        (ConnectUrl::Auto, Some(admin)) => admin.ip().is_loopback().then(|| format!("http://{admin}")),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|e| StartError::io(&format!("cannot listen on {address}"), &e))
}

fn local(listener: &Listener) -> Result<SocketAddr, StartError> {
    listener.address().map_err(|e| StartError::io("a listener has no address", &e))
}

fn connector_settings(settings: &Settings) -> Result<ConnectorSettings, StartError> {
    let upstream = &settings.upstream;
    let credentials = upstream.proxy_credentials.as_ref().map(secret).transpose()?;
    let proxy = upstream.proxy.clone().map(|address| CorporateProxy {
        address,
        credentials,
        except: upstream.no_proxy.clone(),
    });
    Ok(ConnectorSettings {
        connect_timeout: Some(upstream.connect_timeout),
        resolve: upstream.resolve.clone(),
        proxy,
    })
}

fn secret(source: &SecretSource) -> Result<Secret, StartError> {
    let missing = |what: &dyn std::fmt::Display| {
        StartError::Configuration(format!("upstream.proxy_credentials: {what}"))
    };
    let mut bytes = match source {
        SecretSource::Env(name) => std::env::var(name)
            .map_err(|_| missing(&format_args!("the environment has no `{name}`")))?
            .into_bytes(),
        SecretSource::File(path) => {
            std::fs::read(path).map_err(|e| missing(&format_args!("{}: {e}", path.display())))?
        }
        SecretSource::Exec(_) => return Err(missing(&"BUG: the settings accept no program here")),
    };
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}
