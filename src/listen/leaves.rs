//! Certificates for intercepted tunnels: minted once for a name that the policy allows, and kept a while.

use std::{num::NonZeroU32, sync::Arc};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};
use quick_cache::sync::Cache;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::{Duration, OffsetDateTime};

use crate::{ca::CertificateAuthority, context::TenantId, metrics::Metrics, target::Host, tls};

/// Names whose leaf is kept.
const NAMES: usize = 1024;
/// A leaf that ends sooner than this is minted anew: a tunnel may stay open for long.
const FRESH: Duration = Duration::hours(1);

/// Leaves minted for one tenant in a minute: a wildcard covers names without end, and each costs a signature.
const MINTED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).unwrap();

/// Why there is no leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLeaf {
    /// The authority did not sign. For operators.
    #[error("no certificate for the tunnel: {0}")]
    Unsigned(String),
    /// The tenant asks for new names too fast.
    #[error("too many new names in a minute")]
    TooMany {
        /// Leaves in a minute.
        quota: u32,
        /// When the next one fits.
        wait: std::time::Duration,
    },
}

/// The leaves in use.
pub struct Leaves {
    authority: Arc<CertificateAuthority>,
    kept: Cache<Host, Leaf>,
    /// Keyed by verified tenants of the policy, so its size is bounded by theirs.
    minted: RateLimiter<TenantId, HashMapStateStore<TenantId>, DefaultClock>,
    quota: NonZeroU32,
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
        Self::with_quota(authority, metrics, MINTED_PER_MINUTE)
    }

    fn with_quota(authority: Arc<CertificateAuthority>, metrics: Arc<Metrics>, quota: NonZeroU32) -> Self {
        let minted = RateLimiter::hashmap(Quota::per_minute(quota));
        Self { authority, kept: Cache::new(NAMES), minted, quota, metrics }
    }

    /// The TLS configuration of a tunnel to `host`, which the policy allows: the caller holds the proof.
    /// One minting at a time for a name, off the worker threads.
    ///
    /// # Errors
    /// When the authority cannot sign, or the tenant asks for new names too fast.
    pub(crate) async fn config(&self, tenant: &TenantId, host: &Host) -> Result<Arc<ServerConfig>, NoLeaf> {
        if let Some(leaf) = self.kept.get(host) {
            if leaf.until - OffsetDateTime::now_utc() > FRESH {
                return Ok(leaf.config);
            }
            self.kept.remove(host);
        }
        let leaf = self.kept.get_or_insert_async(host, self.mint(tenant, host.clone())).await?;
        Ok(leaf.config)
    }

    async fn mint(&self, tenant: &TenantId, host: Host) -> Result<Leaf, NoLeaf> {
        self.minted.check_key(tenant).map_err(|not_yet| NoLeaf::TooMany {
            quota: self.quota.get(),
            wait: not_yet.wait_time_from(DefaultClock::default().now()),
        })?;
        let authority = self.authority.clone();
        let minted = tokio::task::spawn_blocking(move || authority.mint(&host)).await;
        let (certificate, until) =
            minted.map_err(|e| NoLeaf::Unsigned(e.to_string()))?.map_err(NoLeaf::Unsigned)?;
        self.metrics.leaf_minted();
        let config =
            tls::server(Arc::new(Fixed(certificate))).map_err(|e| NoLeaf::Unsigned(e.to_string()))?;
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

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaves(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn new_names_are_counted_and_known_ones_are_not() {
        tls::install();
        let authority = Arc::new(CertificateAuthority::ephemeral().unwrap());
        let leaves = Leaves::with_quota(authority, Arc::default(), NonZeroU32::MIN);
        let (acme, globex) = (TenantId::parse("acme").unwrap(), TenantId::parse("globex").unwrap());
        let host = |name: &str| Host::parse(name).unwrap();
        assert!(leaves.config(&acme, &host("a.test")).await.is_ok());
        assert!(leaves.config(&acme, &host("a.test")).await.is_ok(), "a kept leaf costs nothing");
        assert!(matches!(leaves.config(&acme, &host("b.test")).await, Err(NoLeaf::TooMany { quota: 1, .. })));
        assert!(leaves.config(&globex, &host("b.test")).await.is_ok(), "tenants do not share the quota");
    }
}
