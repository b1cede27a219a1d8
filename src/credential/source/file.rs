//! `file:PATH`: secrets in files, and how a change is noticed.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use zeroize::Zeroizing;

use super::{Flaw, LARGEST, Stamp, clean};
use crate::secret::Secret;

/// A file that changed less than this before it was read may change again without a new time stamp: kernels
/// stamp in ticks of up to 10 ms.
const SETTLING: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::credential) struct FileStamp {
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

    /// Whether the path leads to the same file as it was.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| Self::of(&metadata) == *self)
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

/// Reads a secret, and what to know it by.
pub(super) fn read(path: &Path) -> Result<(Secret, Stamp), Flaw> {
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
        return Ok((secret, Stamp::Unsettled));
    }
    if before.mode() & 0o004 != 0 {
        tracing::warn!(path = %path.display(), "every user of this machine may read this secret");
    }
    Ok((secret, Stamp::File(after)))
}
