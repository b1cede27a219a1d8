//! Two clocks in one: the wall, by which tokens end, and a steady one, by which keys are fetched again.

use std::time::{Duration, Instant, SystemTime};

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Tells the time. Tests hold one that they move by hand.
#[derive(Debug, Clone)]
pub(super) struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    System(Instant),
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's time.
    pub(super) fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }

    /// Seconds since the epoch.
    pub(super) fn wall(&self) -> u64 {
        match &self.0 {
            Kind::System(_) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
            }
            #[cfg(test)]
            Kind::Manual(seconds) => seconds.load(Ordering::SeqCst),
        }
    }

    /// Time since some fixed moment. Unlike the wall's it never jumps, so nobody postpones a refresh by
    /// setting the clock.
    pub(super) fn steady(&self) -> Duration {
        match &self.0 {
            Kind::System(start) => start.elapsed(),
            #[cfg(test)]
            Kind::Manual(seconds) => Duration::from_secs(seconds.load(Ordering::SeqCst)),
        }
    }

    /// A clock that stands still at `seconds` since the epoch.
    #[cfg(test)]
    pub(super) fn manual(seconds: u64) -> Self {
        Self(Kind::Manual(Arc::new(AtomicU64::new(seconds))))
    }

    /// Moves a manual clock, and all its clones.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        if let Kind::Manual(seconds) = &self.0 {
            seconds.fetch_add(by.as_secs(), Ordering::SeqCst);
        }
    }
}
