//! Process settings: what is read once at the start. Policy is another matter, and reloads.
//!
//! Flags come before `EGRET_*`, before `./egret.yaml`, before `$XDG_CONFIG_HOME/egret/config.yaml`, before
//! `/etc/egret/config.yaml`, before the defaults; key by key. Every key has a default.

mod check;
mod file;
mod issuers;
mod layers;
mod said;
mod sources;

pub(crate) use issuers::problems;
pub use issuers::{
    AgentClaim, Algorithm, BadIssuers, ClaimMap, Delegation, IssuerConfig, KeySource, UnknownAlgorithm,
};
pub use layers::{Given, Origin, Shown};
pub use said::{Span, parse_span};
pub use sources::{
    AccessKeyId, AwsSmKeys, AwsSmSettings, MountKind, Program, RemoteSettings, SourceSettings, VaultAuth,
    VaultSettings,
};

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    audit::{Durability, SinkKind},
    target::{Authority, Host},
};

/// Settings that were checked.
#[derive(Debug)]
pub struct Settings {
    /// Where the proxy listens; none when it is off.
    pub proxy: Option<SocketAddr>,
    /// Where the gateway listens; none when it is off.
    pub gateway: Option<SocketAddr>,
    /// Where health and metrics are served; none when they are off.
    pub admin: Option<SocketAddr>,
    /// Listeners with an identity of their own, and its token file.
    pub ambient: Vec<(SocketAddr, PathBuf)>,
    /// Connections at the same time, for each listener.
    pub max_connections: usize,
    /// How long a client may take to send a head, and how long it may rest between requests.
    pub header_timeout: Duration,
    /// Whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// The directory of the development issuer, when it is on.
    pub development: Option<PathBuf>,
    /// Where the certificate authority is.
    pub ca_dir: PathBuf,
    /// The policy: a directory, or one file.
    pub policy: PathBuf,
    /// Whether it must be signed, and by whom.
    pub signed: SignedPolicy,
    /// Where records go.
    pub sinks: Vec<SinkKind>,
    /// What happens when they cannot.
    pub durability: Durability,
    /// The way out.
    pub upstream: UpstreamSettings,
    /// How long draining may take.
    pub drain_timeout: Duration,
    /// Threads that serve; as many as there are cores when zero.
    pub workers: usize,
    /// Which diagnostics are written to standard error.
    pub log: String,
    /// Where credentials are kept.
    pub store: StoreSettings,
    /// Where people connect integrations.
    pub connect: ConnectUrl,
    /// Where secrets outside of egret are read.
    pub sources: SourceSettings,
}

impl Settings {
    /// Where egret's own secrets are read.
    pub fn secret_sources(&self) -> impl Iterator<Item = &SecretSource> {
        let url = match &self.store.url {
            StoreUrl::Read(source) => Some(source),
            StoreUrl::Sqlite(_) | StoreUrl::Postgres(_) => None,
        };
        let store = url.into_iter().chain([&self.store.key]).chain(&self.store.old_keys);
        self.upstream.proxy_credentials.iter().chain(store).chain(self.sources.secret_sources())
    }
}

/// Where people reach the pages on which they connect integrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectUrl {
    /// At the admin listener's own address, where that is this machine's alone.
    Auto,
    /// Nowhere.
    Off,
    /// Here: scheme and host, and a port.
    At(String),
}

/// Settings of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The database.
    pub url: StoreUrl,
    /// The key-encryption key.
    pub key: SecretSource,
    /// Former ones, with which data keys may still be wrapped.
    pub old_keys: Vec<SecretSource>,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
    /// `postgres://…`, without a password.
    Postgres(String),
    /// Where a URL of PostgreSQL is read that may hold a password.
    Read(SecretSource),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(url),
            Self::Read(source) => source.fmt(f),
        }
    }
}

/// Settings of signed policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPolicy {
    /// A switch of its own: neither a key nor a signature turns it on or off.
    pub verify: Verify,
    /// Public keys, in PEM.
    pub keys: Vec<PathBuf>,
    /// Where the newest bundle is remembered beyond a restart.
    pub state: Option<PathBuf>,
}

/// Whether a policy must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Signatures are not looked at.
    Off,
    /// A policy that is not signed as it should be is not loaded.
    Required,
}

/// Settings of the way out.
#[derive(Debug)]
pub struct UpstreamSettings {
    /// Certificates to trust beside the system's.
    pub extra_ca: Vec<PathBuf>,
    /// The corporate proxy.
    pub proxy: Option<Authority>,
    /// Where its `user:password` is read.
    pub proxy_credentials: Option<SecretSource>,
    /// Hosts that go around it.
    pub no_proxy: Vec<String>,
    /// From the first packet to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// A stream that stands still for this long is ended.
    pub idle_timeout: Duration,
    /// Hosts whose address the operator fixed, with a port where that is another one.
    pub resolve: HashMap<Host, (IpAddr, Option<u16>)>,
}

/// Where one of egret's own secrets is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `env:NAME`.
    Env(String),
    /// `file:PATH`.
    File(PathBuf),
    /// `exec:NAME`, from a program of `sources.exec`: the keys of the store alone.
    Exec(Arc<Program>),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Exec(program) => write!(f, "exec:{}", program.name),
        }
    }
}

/// Everything that is wrong with the settings, at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(pub Vec<String>);
