//! Certificates for intercepted tunnels: minted once for a name that the policy allows, and kept a while.

use std::sync::Arc;

use quick_cache::sync::Cache;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::{Duration, OffsetDateTime};

use crate::{ca::CertificateAuthority, metrics::Metrics, target::Host, tls};

/// Names whose leaf is kept.
const NAMES: usize = 1024;
/// A leaf that ends sooner than this is minted anew: a tunnel may stay open for long.
const FRESH: Duration = Duration::hours(1);

/// Why there is no leaf. For operators.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for the tunnel: {0}")]
pub struct NoLeaf(String);

/// The leaves in use.
#[derive(Debug)]
pub struct Leaves {
    authority: Arc<CertificateAuthority>,
    kept: Cache<Host, Leaf>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    until: OffsetDateTime,
}

impl Leaves {
    /// Leaves signed by `authority`.
    pub fn new(authority: Arc<CertificateAuthority>, metrics: Arc<Metrics>) -> Self {
        Self { authority, kept: Cache::new(NAMES), metrics }
    }

    /// The TLS configuration of a tunnel to `host`, which the policy allows: the caller holds the proof.
    /// One minting at a time for a name, off the worker threads.
    ///
    /// # Errors
    /// When the authority cannot sign.
    pub(crate) async fn config(&self, host: &Host) -> Result<Arc<ServerConfig>, NoLeaf> {
        if let Some(leaf) = self.kept.get(host) {
            if leaf.until - OffsetDateTime::now_utc() > FRESH {
                return Ok(leaf.config);
            }
            self.kept.remove(host);
        }
        let leaf = self.kept.get_or_insert_async(host, self.mint(host.clone())).await?;
        Ok(leaf.config)
    }

    async fn mint(&self, host: Host) -> Result<Leaf, NoLeaf> {
        let authority = self.authority.clone();
        let minted = tokio::task::spawn_blocking(move || authority.mint(&host)).await;
        let (certificate, until) = minted.map_err(|e| NoLeaf(e.to_string()))?.map_err(NoLeaf)?;
        self.metrics.leaf_minted();
        let config = tls::server(Arc::new(Fixed(certificate))).map_err(|e| NoLeaf(e.to_string()))?;
        Ok(Leaf { config: Arc::new(config), until })
    }
}

/// Always the same certificate: the `CONNECT` authority decided it, not the client's SNI.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
