//! Whether a grant still stands while its stream is open.

use std::sync::Arc;

use tokio::sync::watch;

/// A grant's standing: long streams and tunnels ask it again whenever the policy changes.
///
/// Made by the `decide` room together with the grant; the floor only knows how to wait for its end.
pub struct Standing {
    changes: watch::Receiver<u64>,
    stands: Arc<Stands>,
}

type Stands = dyn Fn() -> Result<(), Withdrawn> + Send + Sync;

/// Why a grant no longer stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy no longer grants it: {code} under revision {revision}: {detail}")]
pub struct Withdrawn {
    /// The code that the same request would be refused with now.
    pub code: &'static str,
    /// One sentence.
    pub detail: String,
    /// The policy that took it back.
    pub revision: Arc<str>,
}

impl Standing {
    /// `changes` ticks at every policy change; `stands` decides the same request again.
    pub fn new(changes: watch::Receiver<u64>, stands: Arc<Stands>) -> Self {
        Self { changes, stands }
    }

    /// Waits until the grant no longer stands. Never ends while it does; safe to drop at any time.
    pub async fn lost(&mut self) -> Withdrawn {
        loop {
            if self.changes.changed().await.is_err() {
                // The policy's owner is gone: the process is going down, and draining decides.
                return std::future::pending().await;
            }
            if let Err(withdrawn) = (self.stands)() {
                return withdrawn;
            }
        }
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Standing(..)")
    }
}
