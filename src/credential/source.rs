//! Where secrets are read, and how a change is noticed.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use zeroize::Zeroizing;

use crate::{
    context::TenantId,
    plan::SecretRef,
    secret::Secret,
    store::{LazyStore, SecretName, StoreError},
};

/// The largest secret file. Far more than any header may hold.
const LARGEST: u64 = 64 * 1024;

/// A file that changed less than this before it was read may change again without a new time stamp: kernels
/// stamp in ticks of up to 10 ms.
const SETTLING: Duration = Duration::from_millis(100);

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
        matches!(&self.flaw, Flaw::Store(error) if error.is_transient())
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
    #[error("cannot be resolved yet")]
    NotYet,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            length: metadata.size(),
        }
    }

    /// Whether it changed just now. Asks for the change of the inode, which programs cannot set as they like.
    fn is_settling(&self) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age < SETTLING)
    }
}

/// A secret, and how a later use sees whether it is still the one.
pub(super) struct Read {
    pub(super) secret: Secret,
    pub(super) stamp: Stamp,
}

/// Whose secrets are read, and where those of the store are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'s> {
    pub(super) store: &'s LazyStore,
    pub(super) tenant: &'s TenantId,
}

impl Sources<'_> {
    /// Whether the reference still leads to what bears this stamp. One `stat` for a file; the store is asked now and
    /// then, and by one request of many.
    pub(super) async fn is_fresh(self, reference: &SecretRef, stamp: &Stamp) -> bool {
        match (reference, stamp) {
            (SecretRef::Env(_), Stamp::Environment) => true,
            (SecretRef::File(path), Stamp::File(stamp)) => {
                std::fs::metadata(path).is_ok_and(|metadata| FileStamp::of(&metadata) == *stamp)
            }
            (SecretRef::Store(name), Stamp::Stored(stamp)) => stamp.is_fresh(|| self.generation(name)).await,
            _ => false,
        }
    }

    async fn generation(self, name: &SecretName) -> Result<Option<i64>, Arc<StoreError>> {
        Ok(self.store.get().await?.secret_generation(self.tenant, name).await?)
    }

    /// Reads a secret.
    pub(super) async fn read(self, reference: &SecretRef) -> Result<Read, Missing> {
        let read = match reference {
            SecretRef::Env(name) => std::env::var_os(name)
                .ok_or(Flaw::NotSet)
                .and_then(|value| clean(value.as_bytes()))
                .map(|secret| Read { secret, stamp: Stamp::Environment }),
            SecretRef::File(path) => read_file(path),
            SecretRef::Store(name) => self.read_stored(name).await,
            SecretRef::Vault { .. }
            | SecretRef::AwsSecretsManager { .. }
            | SecretRef::Exec(_)
            | SecretRef::Remote(_) => Err(Flaw::NotYet),
        };
        read.map_err(|flaw| Missing::new(reference, flaw))
    }

    async fn read_stored(self, name: &SecretName) -> Result<Read, Flaw> {
        let store = self.store.get().await.map_err(Flaw::Store)?;
        let found = store.secret(self.tenant, name).await.map_err(|error| Flaw::Store(Arc::new(error)))?;
        let found = found.ok_or(Flaw::NotStored)?;
        let (asked, confirmed) = (Moment::now(), Moment::now());
        let stamp = Stamp::Stored(StoredStamp { generation: found.generation, asked, confirmed });
        // It was trimmed when it was set.
        Ok(Read { secret: found.value, stamp })
    }
}

fn read_file(path: &Path) -> Result<Read, Flaw> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Flaw::NotAFile);
    }
    let mut file = File::open(path)?;
    let before = file.metadata()?;
    let capacity = usize::try_from(before.size().min(LARGEST) + 1).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    (&mut file).take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Flaw::TooLarge);
    }
    let secret = clean(&bytes)?;
    let after = FileStamp::of(&file.metadata()?);
    if FileStamp::of(&before) != after || after.is_settling() {
        return Ok(Read { secret, stamp: Stamp::Unsettled });
    }
    if before.mode() & 0o004 != 0 {
        tracing::warn!(path = %path.display(), "every user of this machine may read this secret");
    }
    Ok(Read { secret, stamp: Stamp::File(after) })
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
