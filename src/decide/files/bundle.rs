//! Signed policies: a manifest beside the files that lists them with their hashes, and a signature over it.
//!
//! Whether a signature is needed is said by the settings alone (`policy.verify`). That a bundle carries one, or that
//! a key is configured, switches nothing: a bundle whose signature was taken away must not pass for one that never
//! had any.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    problem::Problems,
    source::{Sources, Unreadable, Version},
};
use crate::{decide::policy::Policy, secret::sha256_hex};

/// Lists the files. Its name is one that a key of a `ConfigMap` may have, and no policy file's.
pub const MANIFEST: &str = "policy.manifest.json";
/// Signatures over its bytes, one a line, in base64.
pub const SIGNATURE: &str = "policy.manifest.sig";
/// Goes before the signed bytes, so that no other signature of the same key can pass for one of these.
pub(in crate::decide) const DOMAIN: &[u8] = b"egret policy manifest v1\n";
/// The largest manifest.
pub(in crate::decide) const MANIFEST_LIMIT: u64 = 1 << 20;
/// The largest file of signatures, state or key.
pub(in crate::decide) const SMALL_LIMIT: u64 = 16 << 10;
/// The most signatures that are tried.
const SIGNATURES: usize = 8;
/// What stands before the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
pub(in crate::decide) const SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What is signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::decide) struct Manifest {
    pub(in crate::decide) version: u32,
    /// Rises with every bundle.
    pub(in crate::decide) revision: u64,
    pub(in crate::decide) issued_at: String,
    /// None: it is good until a later one comes.
    pub(in crate::decide) expires_at: Option<String>,
    /// SHA-256 of each file, in hex, by its name below the policy's directory.
    pub(in crate::decide) files: BTreeMap<String, String>,
}

/// A bundle whose signature and files were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) struct Bundle {
    pub(in crate::decide) revision: u64,
    pub(in crate::decide) expires_at: Option<SystemTime>,
    /// SHA-256 of the manifest, in hex.
    pub(in crate::decide) manifest: Arc<str>,
    path: PathBuf,
}

/// Demands that a policy is signed, unexpired, and not older than one before.
#[derive(Debug)]
pub struct Verification {
    keys: Vec<[u8; 32]>,
    /// Where the newest bundle is remembered beyond this process.
    state: Option<PathBuf>,
    newest: Mutex<Option<Seen>>,
}

/// The newest bundle that was in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    revision: u64,
    manifest: String,
}

/// Where a policy comes from, and what it must prove.
#[derive(Debug)]
pub(in crate::decide) struct Origin {
    pub(in crate::decide) path: PathBuf,
    verification: Option<Verification>,
}

impl Origin {
    pub(in crate::decide) fn new(path: &Path, verification: Option<Verification>) -> Self {
        Self { path: path.into(), verification }
    }

    /// Reads the policy for the first time.
    pub(in crate::decide) fn load(&self) -> Result<Policy, Problems> {
        let policy = Policy::load_verified(&self.path, self.verification.as_ref())?;
        self.accepted(&policy.version);
        Ok(policy)
    }

    /// Reads the files, and verifies them where that is demanded: what is verified is what was read.
    pub(in crate::decide) fn read(&self) -> Result<Sources, Unreadable> {
        read(&self.path, self.verification.as_ref())
    }

    /// Whether what was read may come into force now.
    pub(in crate::decide) fn admit(&self, sources: &Sources) -> Result<(), Unreadable> {
        admit(self.verification.as_ref(), sources)
    }

    /// Remembers what has come into force.
    pub(in crate::decide) fn accepted(&self, version: &Version) {
        if let (Some(verification), Version::Bundle(bundle)) = (&self.verification, version) {
            verification.remember(bundle);
        }
    }
}

/// Reads a policy, verified where that is demanded.
pub(in crate::decide) fn read(
    path: &Path,
    verification: Option<&Verification>,
) -> Result<Sources, Unreadable> {
    let mut sources = Sources::read(path)?;
    if let Some(verification) = verification {
        sources.version = Version::Bundle(verification.verify(path, &sources)?);
    }
    Ok(sources)
}

/// Whether a policy that was read may come into force now.
pub(in crate::decide) fn admit(
    verification: Option<&Verification>,
    sources: &Sources,
) -> Result<(), Unreadable> {
    match (verification, &sources.version) {
        (Some(verification), Version::Bundle(bundle)) => verification.admit(bundle, SystemTime::now()),
        _ => Ok(()),
    }
}

impl Verification {
    /// Accepts bundles that one of these keys signed. `state` remembers the newest one.
    ///
    /// # Errors
    /// When there is no key, or a file is none.
    pub fn new(keys: &[PathBuf], state: Option<PathBuf>) -> Result<Self, String> {
        let keys: Vec<[u8; 32]> = keys.iter().map(|path| public_key(path)).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err("no key could verify a policy".to_owned());
        }
        Ok(Self { keys, state, newest: Mutex::new(None) })
    }

    fn verify(&self, path: &Path, sources: &Sources) -> Result<Bundle, Unreadable> {
        let place = path.join(MANIFEST);
        let bad = |why: String| Unreadable::of(place.clone(), why);
        if !path.is_dir() {
            let why = "a signed policy is a directory with its manifest".to_owned();
            return Err(Unreadable::of(path, why));
        }
        let bytes = bounded(&place, MANIFEST_LIMIT).map_err(|error| bad(missing(&error)))?;
        let signatures = path.join(SIGNATURE);
        let signatures = bounded(&signatures, SMALL_LIMIT)
            .map_err(|error| Unreadable::of(signatures.clone(), missing(&error)))?;
        // Before anything in the manifest is looked at.
        if !self.signed(&bytes, &signatures) {
            return Err(bad("the signature is not one of the keys in `policy.keys`".to_owned()));
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| bad(format!("not a manifest: {error}")))?;
        if manifest.version != 1 {
            return Err(bad("this egret reads manifests of version 1".to_owned()));
        }
        let wrong = differences(&manifest.files, &hashes(sources));
        if !wrong.is_empty() {
            return Err(bad(wrong.join("; ")));
        }
        let expires_at = manifest.expires_at.as_deref().map(|text| {
            OffsetDateTime::parse(text, &Rfc3339)
                .map(SystemTime::from)
                .map_err(|_| bad("`expires_at` is no time".to_owned()))
        });
        Ok(Bundle {
            revision: manifest.revision,
            expires_at: expires_at.transpose()?,
            manifest: sha256_hex(&bytes).into(),
            path: place,
        })
    }

    fn signed(&self, manifest: &[u8], signatures: &[u8]) -> bool {
        let message = [DOMAIN, manifest].concat();
        let lines = signatures.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.take(SIGNATURES).filter_map(|line| STANDARD.decode(line.trim_ascii()).ok()).any(|signature| {
            self.keys
                .iter()
                .any(|key| UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok())
        })
    }

    fn admit(&self, bundle: &Bundle, now: SystemTime) -> Result<(), Unreadable> {
        let bad = |why: String| Err(Unreadable::of(bundle.path.clone(), why));
        if let Some(at) = bundle.expires_at.filter(|at| *at <= now) {
            return bad(format!("the bundle expired at {}", rfc3339(at)));
        }
        let Some(newest) = self.newest()? else { return Ok(()) };
        let (revision, before) = (bundle.revision, newest.revision);
        if revision < before {
            return bad(format!("the bundle has revision {revision}, and {before} was in force before"));
        }
        if revision == before && *bundle.manifest != newest.manifest {
            return bad(format!(
                "revision {revision} was in force with another manifest; a change needs a higher revision"
            ));
        }
        Ok(())
    }

    /// The newest bundle that this process or another one with the same state had in force.
    fn newest(&self) -> Result<Option<Seen>, Unreadable> {
        let own = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(path) = &self.state else { return Ok(own) };
        let kept = match bounded(path, SMALL_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Unreadable::of(path.clone(), error.to_string())),
            Ok(bytes) => {
                let seen = serde_json::from_slice::<Seen>(&bytes).map_err(|_| {
                    let why = "this is no state of `policy.state`; which bundle was the newest is not known";
                    Unreadable::of(path.clone(), why)
                })?;
                Some(seen)
            }
        };
        Ok([own, kept].into_iter().flatten().max_by_key(|seen| seen.revision))
    }

    fn remember(&self, bundle: &Bundle) {
        let seen = Seen { revision: bundle.revision, manifest: bundle.manifest.to_string() };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.clone());
        let Some(path) = &self.state else { return };
        let known = self.newest().ok().flatten();
        let write = || -> io::Result<()> {
            let kept = bounded(path, SMALL_LIMIT).ok();
            let text = serde_json::to_vec(&known.unwrap_or(seen))?;
            if kept.as_deref() == Some(&text) { Ok(()) } else { replace(path, &text) }
        };
        if let Err(error) = write() {
            tracing::error!(
                path = %path.display(), %error,
                "cannot write `policy.state`: after a restart an older bundle would be accepted"
            );
        }
    }
}

/// SHA-256 of each of the policy's own files, by name.
pub(in crate::decide) fn hashes(sources: &Sources) -> BTreeMap<String, String> {
    let own = sources.files.iter();
    own.map(|file| (file.key.to_string_lossy().into_owned(), sha256_hex(file.text.as_bytes()))).collect()
}

fn differences(listed: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Vec<String> {
    let missing = listed.keys().filter(|name| !found.contains_key(*name));
    let missing = missing.map(|name| format!("`{name}` is listed and not there"));
    let other = found.iter().filter_map(|(name, hash)| match listed.get(name) {
        None => Some(format!("`{name}` is not listed")),
        Some(listed) if listed != hash => Some(format!("`{name}` is not the file that was signed")),
        Some(_) => None,
    });
    missing.chain(other).take(10).collect()
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no such file, and `policy.verify` is `required`; `egret policy sign` makes it".to_owned()
        }
        _ => error.to_string(),
    }
}

fn public_key(path: &Path) -> Result<[u8; 32], String> {
    let bytes = bounded(path, SMALL_LIMIT).map_err(|error| format!("{}: {error}", path.display()))?;
    let der = SubjectPublicKeyInfoDer::from_pem_slice(&bytes).ok();
    let raw = der.and_then(|der| der.strip_prefix(&SPKI[..]).and_then(|raw| raw.try_into().ok()));
    raw.ok_or_else(|| format!("{}: not an Ed25519 public key in PEM", path.display()))
}

/// Puts bytes in a file's place, whole or not at all.
pub(in crate::decide) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

pub(in crate::decide) fn bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// A time for people, in UTC and whole seconds.
pub(in crate::decide) fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::sign::{new_key, public_path, sign},
        *,
    };

    const POLICY: &str = "version: 1\ntenants: {t: {}}\n";

    struct Fixture {
        dir: tempfile::TempDir,
        policies: PathBuf,
    }

    impl Fixture {
        /// A policy of two files, signed as revision 5.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let policies = dir.path().join("policies");
            fs::create_dir_all(policies.join("more")).unwrap();
            fs::write(policies.join("a.yaml"), POLICY).unwrap();
            fs::write(policies.join("more/b.yaml"), "version: 1\ntenants: {u: {}}\n").unwrap();
            let this = Self { dir, policies };
            new_key(&this.at("key")).unwrap();
            this.sign(5, None);
            this
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn sign(&self, revision: u64, lifetime: Option<Duration>) {
            assert_eq!(sign(&self.policies, &self.at("key"), revision, lifetime).unwrap(), 2);
        }

        fn verification(&self) -> Verification {
            Verification::new(&[public_path(&self.at("key"))], Some(self.at("state"))).unwrap()
        }

        /// Why it is refused; empty when it is not.
        fn refused(&self) -> String {
            let loaded = Policy::load_verified(&self.policies, Some(&self.verification()));
            loaded.map_or_else(|problems| problems.to_string(), |_| String::new())
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.policies.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_signed_policy_is_called_by_its_bundle() {
        let fixture = Fixture::new();
        fixture.write("a.yaml", "version: 1\nrevision: mine\ntenants: {t: {}}\n");
        fixture.sign(6, Some(Duration::from_secs(60)));
        let policy = Policy::load_verified(&fixture.policies, Some(&fixture.verification())).unwrap();
        assert_eq!(&**policy.revision(), "bundle:6");
        assert!(policy.expires_at().unwrap() > SystemTime::now());
        // Nobody looks at a manifest when nobody asked for one.
        let unverified = Policy::load(&fixture.policies).unwrap();
        assert_eq!((&**unverified.revision(), unverified.expires_at()), ("mine", None));
        assert_eq!(unverified.hash(), policy.hash());
    }

    #[test]
    fn what_was_not_signed_is_refused() {
        type Change = fn(&Fixture);
        let changes: [(&str, &str, Change); 11] = [
            ("a file was changed", "`a.yaml` is not the file that was signed", |f| {
                f.write("a.yaml", &format!("{POLICY}# more\n"));
            }),
            ("a file was added", "`c.yaml` is not listed", |f| f.write("c.yaml", "version: 1\n")),
            ("a file was taken away", "`more/b.yaml` is listed and not there", |f| {
                fs::remove_file(f.policies.join("more/b.yaml")).unwrap();
            }),
            ("a file was renamed", "`a.yaml` is listed and not there; `z.yaml` is not listed", |f| {
                fs::rename(f.policies.join("a.yaml"), f.policies.join("z.yaml")).unwrap();
            }),
            ("the signature was taken away", "`policy.verify` is `required`", |f| {
                fs::remove_file(f.policies.join(SIGNATURE)).unwrap();
            }),
            ("manifest and signature were taken away", "`policy.verify` is `required`", |f| {
                fs::remove_file(f.policies.join(SIGNATURE)).unwrap();
                fs::remove_file(f.policies.join(MANIFEST)).unwrap();
            }),
            ("the signature is empty", "the signature is not", |f| f.write(SIGNATURE, "")),
            ("the signature is of something else", "the signature is not", |f| {
                f.write(SIGNATURE, &STANDARD.encode([7; 64]));
            }),
            ("the manifest was changed", "the signature is not", |f| {
                let text = fs::read_to_string(f.policies.join(MANIFEST)).unwrap();
                f.write(MANIFEST, &text.replace("\"revision\": 5", "\"revision\": 9"));
            }),
            ("the manifest is huge", "larger than", |f| f.write(MANIFEST, &"x".repeat(2 << 20))),
            ("another key signed", "the signature is not", |f| {
                new_key(&f.at("other")).unwrap();
                sign(&f.policies, &f.at("other"), 6, None).unwrap();
            }),
        ];
        for (what, why, change) in changes {
            let fixture = Fixture::new();
            assert_eq!(fixture.refused(), "");
            change(&fixture);
            let refused = fixture.refused();
            assert!(refused.contains(why), "{what}: {refused}");
        }
    }

    /// A signature of the same key over the same bytes, made for another purpose.
    #[test]
    fn a_signature_without_its_domain_is_none() {
        let fixture = Fixture::new();
        let manifest = fs::read(fixture.policies.join(MANIFEST)).unwrap();
        let pem = fs::read(fixture.at("key")).unwrap();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
        let pair =
            aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).unwrap();
        fixture.write(SIGNATURE, &STANDARD.encode(pair.sign(&manifest).as_ref()));
        assert!(fixture.refused().contains("the signature is not"));
    }

    #[test]
    fn either_of_two_keys_will_do_while_they_change() {
        let fixture = Fixture::new();
        new_key(&fixture.at("next")).unwrap();
        let keys = ["key", "next"].map(|name| public_path(&fixture.at(name)));
        for (revision, name) in [(6, "next"), (7, "key")] {
            sign(&fixture.policies, &fixture.at(name), revision, None).unwrap();
            let both = Verification::new(&keys, None).unwrap();
            assert!(Policy::load_verified(&fixture.policies, Some(&both)).is_ok(), "{name}");
        }
        assert!(Verification::new(&[], None).is_err());
        assert!(Verification::new(&[fixture.at("key")], None).is_err(), "a private key verifies nothing");
    }

    #[test]
    fn an_expired_bundle_does_not_come_into_force() {
        let fixture = Fixture::new();
        fixture.sign(6, Some(Duration::ZERO));
        assert!(fixture.refused().contains("the bundle expired at 20"), "{}", fixture.refused());
    }

    #[test]
    fn an_older_bundle_is_refused_also_after_a_restart() {
        let fixture = Fixture::new();
        let older: Vec<(&str, Vec<u8>)> =
            [MANIFEST, SIGNATURE].map(|name| (name, fs::read(fixture.policies.join(name)).unwrap())).into();
        fixture.sign(6, None);
        // Looking at it does not put it in force.
        assert_eq!(fixture.refused(), "");
        assert!(!fixture.at("state").exists());
        let origin = Origin::new(&fixture.policies, Some(fixture.verification()));
        origin.load().unwrap();
        for (name, bytes) in older {
            fs::write(fixture.policies.join(name), bytes).unwrap();
        }
        let why = "the bundle has revision 5, and 6 was in force before";
        assert!(origin.load().unwrap_err().to_string().contains(why));
        assert!(fixture.refused().contains(why), "{}", fixture.refused());
        // Without a state, only this process knows.
        let keys = [public_path(&fixture.at("key"))];
        let forgetful = Verification::new(&keys, None).unwrap();
        assert!(Policy::load_verified(&fixture.policies, Some(&forgetful)).is_ok());
        // A state that cannot be read proves nothing.
        fs::write(fixture.at("state"), "{}").unwrap();
        assert!(fixture.refused().contains("not known"), "{}", fixture.refused());
    }

    #[test]
    fn a_revision_stands_for_one_bundle() {
        let fixture = Fixture::new();
        assert!(sign(&fixture.policies, &fixture.at("key"), 5, None).is_err());
        Origin::new(&fixture.policies, Some(fixture.verification())).load().unwrap();
        fs::remove_file(fixture.policies.join(MANIFEST)).unwrap();
        fixture.sign(5, Some(Duration::from_secs(60)));
        assert!(fixture.refused().contains("another manifest"), "{}", fixture.refused());
    }

    #[test]
    fn a_policy_that_does_not_load_is_not_signed() {
        let fixture = Fixture::new();
        fixture.write("a.yaml", "version: 1\ntenants: {t: {limit: 0/min}}\n");
        let refused = sign(&fixture.policies, &fixture.at("key"), 6, None).unwrap_err().to_string();
        assert!(refused.contains("limit of zero"), "{refused}");
    }

    #[test]
    fn a_key_that_others_can_read_signs_nothing() {
        let fixture = Fixture::new();
        let private = fs::read_to_string(fixture.at("key")).unwrap();
        fs::set_permissions(fixture.at("key"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let refused = sign(&fixture.policies, &fixture.at("key"), 6, None).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        assert!(new_key(&fixture.at("key")).is_err(), "a key is not overwritten");
        assert_eq!(fs::read_to_string(fixture.at("key")).unwrap(), private);
    }
}
