//! A listener that knows who asks by itself.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::UnverifiedToken;
use crate::{context::Channel, secret::Secret};

/// Longest token file, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where a listener's own token comes from.
#[derive(Debug)]
pub enum TokenSource {
    /// A file that somebody else keeps fresh, such as a Kubernetes projected token. Read again when it changes.
    File(TokenFile),
    /// Minted by egret's own development issuer.
    Minted(Arc<dyn Mint>),
}

/// Mints tokens.
pub trait Mint: Send + Sync + std::fmt::Debug {
    /// A token that is good for a while.
    ///
    /// # Errors
    /// When none can be made; the text is for operators.
    fn token(&self) -> Result<Arc<UnverifiedToken>, String>;
}

/// The identity of a listener.
#[derive(Debug)]
pub enum Ambient {
    /// Whoever can connect is this identity.
    Open(TokenSource),
    /// Whoever knows the session's secret is this identity (`egret run`).
    Session {
        /// The password of the proxy URL.
        secret: Secret,
        /// The identity.
        source: TokenSource,
    },
}

impl Ambient {
    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Open(_) => Channel::Ambient,
            Self::Session { .. } => Channel::Session,
        }
    }

    pub(super) fn token(&self) -> Result<Arc<UnverifiedToken>, String> {
        let (Self::Open(source) | Self::Session { source, .. }) = self;
        match source {
            TokenSource::File(file) => file.token(),
            TokenSource::Minted(mint) => mint.token(),
        }
    }
}

/// A token in a file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<UnverifiedToken>)>>,
}

/// What changes when a file does.
type Stamp = (u64, u64, i64, i64, u64);

impl TokenFile {
    /// A token file; it may appear later.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    fn token(&self) -> Result<Arc<UnverifiedToken>, String> {
        let fault = |what: &dyn std::fmt::Display| format!("token file {}: {what}", self.path.display());
        let meta = fs::metadata(&self.path).map_err(|e| fault(&e))?;
        let stamp = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, token)) = &*read
            && *known == stamp
        {
            return Ok(token.clone());
        }
        if meta.len() > LONGEST {
            return Err(fault(&"too long to be a token"));
        }
        let text = zeroize::Zeroizing::new(fs::read_to_string(&self.path).map_err(|e| fault(&e))?);
        let token = Arc::new(UnverifiedToken::new(text.trim()));
        *read = Some((stamp, token.clone()));
        Ok(token)
    }
}
