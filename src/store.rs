//! The store: what must not be lost, and must not be read.
//!
//! Rows lie in SQLite beside egret, or in a fleet's PostgreSQL; the statements are the same. Every value is sealed
//! (`keys.rs`) before it comes near either, for one tenant and one row. A row changes by comparing its generation, so
//! that of two writers one is told, and each write is one statement: there is no state between.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use sqlx::AnyPool;

mod connections;
mod keys;
mod lazy;
mod open;
mod secrets;
mod tokens;

pub use connections::{Connection, ConnectionKey, Facts, Lease, Listed, Owner, Status};
pub use keys::{BadKey, KeyEncryptionKey};
use keys::{Closed, DataKey, Keyring, Place};
pub use lazy::LazyStore;
pub use secrets::{SecretName, Stored, Versioned};
pub use tokens::Tokens;

/// The store, open. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: AnyPool,
    /// Those that are set: the one that wraps, and former ones.
    keks: HashMap<String, KeyEncryptionKey>,
    wraps_with: String,
    keys: RwLock<Arc<Keyring>>,
}

/// Why the store does not do what it is asked. Names places, never values.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was kept here yet.
    #[error(
        "there is no store at `{0}` yet; `egret store init` makes it, and so does the first `egret secret set`"
    )]
    Absent(String),
    /// The key-encryption key cannot be had.
    #[error("store.key: {0}")]
    Key(String),
    /// The data keys were wrapped by another one.
    #[error(
        "the store was locked with another key (`{found}`) than `store.key` is (`{set}`); bring the old key back, or \
         name it in `store.old_keys`. Nothing is overwritten"
    )]
    OtherKey {
        /// Which key the store needs.
        found: String,
        /// Which one it was given.
        set: String,
    },
    /// Another egret wrote it.
    #[error("the store was made by a newer egret (format {0}); this one does not touch it")]
    Newer(i64),
    /// A row does not open.
    #[error("{0} cannot be opened: it was changed, or comes from another place")]
    Damaged(String),
    /// Another writer was faster, again and again.
    #[error("{0} is being changed by another writer; try again")]
    Contended(String),
    /// It cannot be reached, or is locked, or full.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// Whether it may pass by itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(match error {
            sqlx::Error::PoolTimedOut => "no connection within 5 s".to_owned(),
            sqlx::Error::Database(error) => error.message().to_owned(),
            error => error.to_string(),
        })
    }
}

impl From<BadKey> for StoreError {
    fn from(error: BadKey) -> Self {
        Self::Key(error.to_string())
    }
}

impl Store {
    fn keys(&self) -> Arc<Keyring> {
        // Every critical section is one assignment.
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = self.keys().seal(place, plain);
        sealed.ok_or_else(|| StoreError::Unavailable("the system has no random bytes".to_owned()))
    }

    /// Opens a row. Another process may have brought a new data key meanwhile: then the keys are read again, once.
    async fn unseal(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, StoreError> {
        let opened = match self.keys().open(place, sealed) {
            Err(Closed::UnknownKey) => {
                self.read_keys().await?;
                self.keys().open(place, sealed)
            }
            opened => opened,
        };
        opened.map_err(|_| StoreError::Damaged(place.to_string()))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of tenant `{}`", self.row.join("/"), self.tenant)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(..)")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The generation after `last`. Begins with the time in microseconds, so that a row that was removed and made again
/// does not bear a generation that it had before.
fn next(last: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX).max(last.saturating_add(1))
}

#[cfg(test)]
pub(crate) mod tests;
