//! Keys in a file: read again when the file changes, looked at while it is used.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::identify::keys::LARGEST;

/// How long a look at the file holds. Shorter than any propagation of a mounted file.
const PAUSE: Duration = Duration::from_secs(1);

/// A JWK set in a file.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    /// When to look next, in milliseconds of the steady clock: read on every request, so without a lock.
    next: AtomicU64,
    /// The file as last read with success. Also keeps two readers from one change.
    last: Mutex<Option<Stamp>>,
}

/// What changes when the file does. A mounted `ConfigMap` swaps a link, so the inode; an editor the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

/// What a look gave.
pub(super) enum Look {
    /// Looked a moment ago, or someone else is looking.
    NotNow,
    /// As it was.
    Same,
    /// The new content.
    Changed(Vec<u8>),
    /// Why it cannot be read.
    Failed(String),
}

impl KeyFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, next: AtomicU64::new(0), last: Mutex::new(None) }
    }

    /// Looks, when it is time or at once. Blocks for the read of one small local file.
    pub(super) fn look(&self, now: Duration, at_once: bool) -> Look {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if !at_once && now < self.next.load(Ordering::Relaxed) {
            return Look::NotNow;
        }
        let mut last = match (self.last.try_lock(), at_once) {
            (Ok(last), _) => last,
            (Err(TryLockError::Poisoned(poisoned)), _) => poisoned.into_inner(),
            (Err(TryLockError::WouldBlock), true) => self.last.lock().unwrap_or_else(PoisonError::into_inner),
            (Err(TryLockError::WouldBlock), false) => return Look::NotNow,
        };
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.next.store(now.saturating_add(pause), Ordering::Relaxed);
        match self.read(*last) {
            Ok(Some((stamp, content))) => {
                *last = Some(stamp);
                Look::Changed(content)
            }
            Ok(None) => Look::Same,
            Err(error) => {
                *last = None;
                Look::Failed(format!("{}: {error}", self.path.display()))
            }
        }
    }

    /// What was read last is no good: the next look reads again even if nothing has changed since, for it may
    /// have been read half written.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read(&self, last: Option<Stamp>) -> io::Result<Option<(Stamp, Vec<u8>)>> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let stamp = Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            inode: metadata.ino(),
        };
        if last == Some(stamp) {
            return Ok(None);
        }
        let mut content = Vec::new();
        // One byte more than allowed, so that the parser sees that it is too large.
        file.take(LARGEST as u64 + 1).read_to_end(&mut content)?;
        Ok(Some((stamp, content)))
    }
}
