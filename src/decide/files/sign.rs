//! Signing a policy: keys, and the manifest that `bundle` verifies.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{
    bundle::{
        DOMAIN, MANIFEST, MANIFEST_LIMIT, Manifest, SIGNATURE, SMALL_LIMIT, SPKI, bounded, hashes, replace,
    },
    problem::Problems,
    source::Sources,
};
use crate::decide::policy::Policy;

/// Why a policy was not signed, or a key not made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The policy does not load; nobody should sign it.
    #[error("{0}")]
    Policy(Problems),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The key, the revision or the directory will not do.
    #[error("{0}")]
    Unfit(String),
}

/// Makes a key pair: the private half in `path` (PKCS#8 in PEM, mode 0600), the public one beside it with `.pub`.
/// Gives the public half, in PEM.
///
/// # Errors
/// When a file is there already, or cannot be written.
pub fn new_key(path: &Path) -> Result<String, SignError> {
    let broken = |_| SignError::Unfit("no key could be made".to_owned());
    let pair = Ed25519KeyPair::generate().map_err(broken)?;
    // Version 1, without the public half: what OpenSSL reads.
    let private = pair.to_pkcs8v1().map_err(broken)?;
    let private = Zeroizing::new(pem("PRIVATE KEY", private.as_ref()));
    let public = pem("PUBLIC KEY", &[&SPKI[..], pair.public_key().as_ref()].concat());
    create(path, private.as_bytes(), 0o600)?;
    create(&public_path(path), public.as_bytes(), 0o644)?;
    Ok(public)
}

/// Where the public half of the key in `path` is.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Signs the policy in `directory`, which must load, and writes manifest and signature into it. Gives the number of
/// files.
///
/// # Errors
/// When the policy does not load, the key can be read by others or is none, or the revision does not rise.
pub fn sign(
    directory: &Path,
    key: &Path,
    revision: u64,
    lifetime: Option<Duration>,
) -> Result<usize, SignError> {
    if !directory.is_dir() {
        return Err(SignError::Unfit(format!("{}: a directory is signed", directory.display())));
    }
    let pair = private_key(key)?;
    let sources =
        Sources::read(directory).map_err(|error| SignError::Policy(Problems::unreadable(&error)))?;
    Policy::compile(&sources).map_err(SignError::Policy)?;
    rises(directory, revision)?;
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let files = hashes(&sources);
    let count = files.len();
    let manifest = Manifest {
        version: 1,
        revision,
        issued_at: time(now),
        expires_at: lifetime.map(|lifetime| time(now + lifetime)),
        files,
    };
    let mut bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| SignError::Unfit(format!("the manifest cannot be written: {error}")))?;
    bytes.push(b'\n');
    let signature = pair.sign(&[DOMAIN, &bytes].concat());
    let signature = format!("{}\n", STANDARD.encode(signature.as_ref()));
    for (name, bytes) in [(MANIFEST, bytes.as_slice()), (SIGNATURE, signature.as_bytes())] {
        let path = directory.join(name);
        replace(&path, bytes).map_err(|error| SignError::File { path, error })?;
    }
    Ok(count)
}

/// Two bundles with one revision would be told apart by nobody.
fn rises(directory: &Path, revision: u64) -> Result<(), SignError> {
    let there = bounded(&directory.join(MANIFEST), MANIFEST_LIMIT).ok();
    let there = there.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
    match there {
        _ if revision == 0 => Err(SignError::Unfit("revisions begin with 1".to_owned())),
        Some(there) if there.revision >= revision => Err(SignError::Unfit(format!(
            "the manifest in {} has revision {}; the next one is higher",
            directory.display(),
            there.revision
        ))),
        _ => Ok(()),
    }
}

fn private_key(path: &Path) -> Result<Ed25519KeyPair, SignError> {
    let failed = |error| SignError::File { path: path.into(), error };
    let mode = fs::metadata(path).map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        return Err(SignError::Unfit(format!(
            "{}: others may read the key; take that away with `chmod 600`",
            path.display()
        )));
    }
    let pem = Zeroizing::new(bounded(path, SMALL_LIMIT).map_err(failed)?);
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).ok();
    der.and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok())
        .ok_or_else(|| SignError::Unfit(format!("{}: not an Ed25519 key in PKCS#8 PEM", path.display())))
}

fn pem(label: &str, der: &[u8]) -> String {
    // Both kinds of key are shorter than one line of PEM may be.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SignError> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|error| SignError::File { path: path.into(), error })
}
