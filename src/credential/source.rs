//! Where secrets are read, and how a change is noticed.

mod aws_sm;
mod exec;
mod file;
mod kept;
mod outside;
mod remote;
mod vault;
mod wire;

use std::{
    collections::HashMap,
    io,
    os::unix::ffi::OsStrExt as _,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    context::TenantId,
    fetch::Calls,
    plan::SecretRef,
    secret::Secret,
    settings::Settings,
    store::{LazyStore, SecretName, StoreError},
};
use file::FileStamp;
use kept::{Fault, Held};
pub use outside::Outside;

/// The largest secret file. Far more than any header may hold.
const LARGEST: u64 = 64 * 1024;

/// How often the store is asked whether a secret is still the one: half of what a revocation may take.
const CONFIRMED_EVERY: Duration = Duration::from_millis(500);

/// How long a secret is used that the store cannot confirm, because it cannot be reached.
const KEPT_WITHOUT_STORE: Duration = Duration::from_secs(60);

/// Why a secret cannot be had, for the operator. Names the reference, never the value.
#[derive(Debug, thiserror::Error)]
#[error("`{reference}` {flaw}")]
pub(super) struct Missing {
    reference: String,
    flaw: Flaw,
}

impl Missing {
    pub(super) fn new(reference: &impl std::fmt::Display, flaw: Flaw) -> Self {
        Self { reference: reference.to_string(), flaw }
    }

    /// Whether it may be there a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match &self.flaw {
            Flaw::Store(error) => error.is_transient(),
            Flaw::Outside(fault) => matches!(fault, Fault::Unavailable(_)),
            _ => false,
        }
    }
}

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Flaw {
    #[error("is not set in the environment of egret")]
    NotSet,
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("is empty")]
    Empty,
    #[error("holds a line break or another control character in its middle")]
    ControlCharacter,
    #[error("is not described: the settings have no `{0}`")]
    NotDescribed(String),
    #[error("{0}")]
    Outside(#[from] Fault),
    #[error("is not in the store")]
    NotStored,
    #[error("cannot be read: {0}")]
    Store(Arc<StoreError>),
    #[error("is the user half of a Basic credential and holds a `:` (RFC 7617 §2)")]
    Colon,
}

/// Which version of a secret was read.
#[derive(Debug)]
pub(super) enum Stamp {
    /// The environment does not change while egret runs.
    Environment,
    /// A file, as the path led to it through all symbolic links: Kubernetes swaps a link to replace a secret.
    File(FileStamp),
    /// A file that had changed just before: the next use reads it again.
    Unsettled,
    /// A row of the store.
    Stored(StoredStamp),
    /// What a source outside of egret gave: its number.
    Held(u64),
}

#[derive(Debug)]
pub(super) struct StoredStamp {
    pub(super) generation: i64,
    /// When the store was asked last, by anyone.
    pub(super) asked: Moment,
    /// When it said last that this is still the one.
    pub(super) confirmed: Moment,
}

impl StoredStamp {
    /// Whether the row is still of this generation. The store is asked now and then, and by one request of many; while
    /// it cannot be reached, what it said last counts for a while.
    pub(super) async fn is_fresh<F>(&self, ask: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Result<Option<i64>, Arc<StoreError>>>,
    {
        if !self.asked.renew_after(CONFIRMED_EVERY) {
            return self.confirmed.age() < KEPT_WITHOUT_STORE;
        }
        match ask().await {
            Ok(generation) => {
                self.confirmed.renew();
                generation == Some(self.generation)
            }
            Err(error) => {
                tracing::warn!(%error, "the store cannot say whether what is in use is still the one");
                self.confirmed.age() < KEPT_WITHOUT_STORE
            }
        }
    }
}

/// A point in time that many may move, in milliseconds since the first one was made.
#[derive(Debug)]
pub(super) struct Moment(AtomicU64);

impl Moment {
    pub(super) fn now() -> Self {
        Self(AtomicU64::new(millis()))
    }

    fn age(&self) -> Duration {
        Duration::from_millis(millis().saturating_sub(self.0.load(Ordering::Relaxed)))
    }

    fn renew(&self) {
        self.0.store(millis(), Ordering::Relaxed);
    }

    /// Renews it if it is older than this; of many who try at once, one does.
    fn renew_after(&self, age: Duration) -> bool {
        let (now, last) = (millis(), self.0.load(Ordering::Relaxed));
        Duration::from_millis(now.saturating_sub(last)) >= age
            && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A secret, and how a later use sees whether it is still the one.
pub(super) struct Read {
    pub(super) secret: Arc<Secret>,
    pub(super) stamp: Stamp,
}

impl Read {
    /// The secret, for who must have it alone.
    pub(super) fn into_secret(self) -> Secret {
        Arc::try_unwrap(self.secret).unwrap_or_else(|shared| wire::copy(&shared))
    }
}

/// Where secrets are that do not lie on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Origins {
    /// Those that each tenant has of its own.
    pub store: LazyStore,
    /// Those of the operator, which are the same for all tenants.
    pub outside: Outside,
}

impl Origins {
    /// Those of the settings. Nothing is opened or asked yet.
    pub fn of(settings: &Settings, calls: &Arc<dyn Calls>) -> Self {
        Self {
            store: LazyStore::new(settings.store.clone()),
            outside: Outside::new(&settings.sources, calls),
        }
    }
}

/// Whose secrets are read, and where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'s> {
    pub(super) origins: &'s Origins,
    pub(super) tenant: &'s TenantId,
}

impl Sources<'_> {
    /// Whether the reference still leads to what bears this stamp. One `stat` for a file; the others are asked now and
    /// then, and by one request of many.
    pub(super) async fn is_fresh(self, reference: &SecretRef, stamp: &Stamp) -> bool {
        match (reference, stamp) {
            (SecretRef::Env(_), Stamp::Environment) => true,
            (SecretRef::File(path), Stamp::File(stamp)) => stamp.is_of(path),
            (SecretRef::Store(name), Stamp::Stored(stamp)) => stamp.is_fresh(|| self.generation(name)).await,
            (_, Stamp::Held(serial)) => {
                let held = self.origins.outside.get(reference).await;
                held.is_ok_and(|held| held.is_some_and(|held| held.serial == *serial))
            }
            _ => false,
        }
    }

    async fn generation(self, name: &SecretName) -> Result<Option<i64>, Arc<StoreError>> {
        Ok(self.origins.store.get().await?.secret_generation(self.tenant, name).await?)
    }

    /// Reads a secret.
    pub(super) async fn read(self, reference: &SecretRef) -> Result<Read, Missing> {
        let mut read = self.read_all(&[reference]).await?;
        read.pop().ok_or_else(|| Missing::new(reference, Flaw::Empty))
    }

    /// Reads secrets that belong together, in their order. Fields of one secret outside of egret are of one version: the
    /// user and the password of one lease.
    pub(super) async fn read_all(self, references: &[&SecretRef]) -> Result<Vec<Read>, Missing> {
        let mut sitting: HashMap<String, Arc<Held>> = HashMap::new();
        let mut all = Vec::new();
        for reference in references {
            let read = self.read_one(reference, &mut sitting).await;
            all.push(read.map_err(|flaw| Missing::new(reference, flaw))?);
        }
        Ok(all)
    }

    async fn read_one(
        self,
        reference: &SecretRef,
        sitting: &mut HashMap<String, Arc<Held>>,
    ) -> Result<Read, Flaw> {
        let (secret, stamp) = match reference {
            SecretRef::Env(name) => {
                let value = std::env::var_os(name).ok_or(Flaw::NotSet)?;
                (clean(value.as_bytes())?, Stamp::Environment)
            }
            SecretRef::File(path) => file::read(path)?,
            SecretRef::Store(name) => self.read_stored(name).await?,
            _ => {
                let place = outside::place(reference);
                let held = if let Some(held) = sitting.get(&place) {
                    held.clone()
                } else {
                    let key = || reference.settings_key().unwrap_or_default();
                    let held = self.origins.outside.get(reference).await?;
                    held.ok_or_else(|| Flaw::NotDescribed(key()))?
                };
                let read = Read {
                    secret: held.parts.part(outside::field(reference))?,
                    stamp: Stamp::Held(held.serial),
                };
                sitting.insert(place, held);
                return Ok(read);
            }
        };
        Ok(Read { secret: Arc::new(secret), stamp })
    }

    async fn read_stored(self, name: &SecretName) -> Result<(Secret, Stamp), Flaw> {
        let store = self.origins.store.get().await.map_err(Flaw::Store)?;
        let found = store.secret(self.tenant, name).await.map_err(|error| Flaw::Store(Arc::new(error)))?;
        let found = found.ok_or(Flaw::NotStored)?;
        let (asked, confirmed) = (Moment::now(), Moment::now());
        let stamp = Stamp::Stored(StoredStamp { generation: found.generation, asked, confirmed });
        // It was trimmed when it was set.
        Ok((found.value, stamp))
    }
}

/// The secret itself: editors and `echo` put a line break after it. Keys and certificates have some in their middle,
/// too; what is put into a request is looked at there.
fn clean(bytes: &[u8]) -> Result<Secret, Flaw> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(Flaw::Empty);
    }
    Ok(Secret::new(trimmed.to_vec()))
}

#[cfg(test)]
mod tests;
