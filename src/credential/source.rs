//! Where secrets are read, and how a change is noticed.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use zeroize::Zeroizing;

use crate::{plan::SecretRef, secret::Secret};

/// The largest secret file. Far more than any header may hold.
const LARGEST: u64 = 64 * 1024;

/// A file that changed less than this before it was read may change again without a new time stamp: kernels
/// stamp in ticks of up to 10 ms.
const SETTLING: Duration = Duration::from_millis(100);

/// Why a secret cannot be had, for the operator. Names the reference, never the value.
#[derive(Debug, thiserror::Error)]
#[error("`{reference}` {flaw}")]
pub(super) struct Missing {
    reference: String,
    flaw: Flaw,
}

impl Missing {
    pub(super) fn new(reference: &SecretRef, flaw: Flaw) -> Self {
        Self { reference: reference.to_string(), flaw }
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
    #[error("cannot be resolved yet: it comes with the credential store")]
    NotYet,
    #[error("is the user half of a Basic credential and holds a `:` (RFC 7617 §2)")]
    Colon,
}

/// Which version of a secret was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// The environment does not change while egret runs.
    Environment,
    /// A file, as the path led to it through all symbolic links: Kubernetes swaps a link to replace a secret.
    File(FileStamp),
    /// A file that had changed just before: the next use reads it again.
    Unsettled,
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

/// Whether the reference still leads to what bears this stamp. One `stat` for a file.
pub(super) fn is_fresh(reference: &SecretRef, stamp: Stamp) -> bool {
    match (reference, stamp) {
        (SecretRef::Env(_), Stamp::Environment) => true,
        (SecretRef::File(path), Stamp::File(stamp)) => {
            std::fs::metadata(path).is_ok_and(|metadata| FileStamp::of(&metadata) == stamp)
        }
        _ => false,
    }
}

/// Reads a secret.
pub(super) fn read(reference: &SecretRef) -> Result<Read, Missing> {
    let read = match reference {
        SecretRef::Env(name) => std::env::var_os(name)
            .ok_or(Flaw::NotSet)
            .and_then(|value| clean(value.as_bytes()))
            .map(|secret| Read { secret, stamp: Stamp::Environment }),
        SecretRef::File(path) => read_file(path),
        SecretRef::Store(_)
        | SecretRef::Vault { .. }
        | SecretRef::AwsSecretsManager { .. }
        | SecretRef::Exec(_) => Err(Flaw::NotYet),
    };
    read.map_err(|flaw| Missing::new(reference, flaw))
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

/// The secret itself: editors and `echo` put a line break after it. One in its middle would end a header and
/// begin another (CWE-113), so it is refused.
fn clean(bytes: &[u8]) -> Result<Secret, Flaw> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(Flaw::Empty);
    }
    if trimmed.iter().any(u8::is_ascii_control) {
        return Err(Flaw::ControlCharacter);
    }
    Ok(Secret::new(trimmed.to_vec()))
}
