//! The development issuer: a key on this machine and tokens signed with it. For `token mint`, `run` and `demo`,
//! never for production: whoever reads the key is every agent of every tenant.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    clock::Clock,
    settings::{Algorithm, IssuerConfig, KeySource},
};
use crate::{
    context::{AgentId, TenantId, UserId, ulid},
    secret::sha256_hex,
};

/// The private key, PKCS#8 in PEM.
const KEY_FILE: &str = "dev-issuer.key";
/// The public key, as a JWK set.
const JWKS_FILE: &str = "dev-jwks.json";

/// Why the development issuer cannot work.
#[derive(Debug, thiserror::Error)]
pub enum DevIssuerError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Others may read the key.
    #[error("{}: others may read the key; take that away with `chmod 600`", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no key.
    #[error("{}: not an ES256 key in PKCS#8 PEM", path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// The cryptography failed.
    #[error("the development issuer cannot make a key or a signature")]
    Crypto,
}

/// What a development token says.
#[derive(Debug, Clone)]
pub struct Mint {
    /// The tenant.
    pub tenant: TenantId,
    /// The agent. None makes a token that speaks for the organisation.
    pub agent: Option<AgentId>,
    /// The person behind the agent.
    pub user: Option<UserId>,
    /// The audience.
    pub audience: String,
    /// How long it lasts.
    pub lifetime: Duration,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Further claims. They replace those above where they have the same name.
    pub extra: Map<String, Value>,
}

/// Signs development tokens with ES256.
pub struct DevIssuer {
    key: EncodingKey,
    kid: String,
    jwks: String,
    /// Where the key set lies, when it is on disk.
    jwks_file: Option<PathBuf>,
}

impl DevIssuer {
    /// `iss` of its tokens.
    pub const NAME: &'static str = "https://egret.localhost/dev";

    /// Opens the issuer in `dir`, or makes one there. Two programs that do so at once get the same.
    ///
    /// # Errors
    /// When files cannot be read or written, when others may read the key, when the file is no key.
    pub fn open_or_create(dir: &Path) -> Result<Self, DevIssuerError> {
        let path = dir.join(KEY_FILE);
        if !path.try_exists().map_err(|error| failed(&path, error))? {
            fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
            let pem = Zeroizing::new(new_key()?.serialize_pem());
            create(&path, pem.as_bytes())?;
        }
        let mode = fs::metadata(&path).map_err(|error| failed(&path, error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(DevIssuerError::Exposed { path });
        }
        let pem = Zeroizing::new(fs::read_to_string(&path).map_err(|error| failed(&path, error))?);
        let key = KeyPair::from_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| DevIssuerError::NotAKey { path })?;
        let mut issuer = Self::of(&key)?;
        let jwks_file = dir.join(JWKS_FILE);
        if fs::read_to_string(&jwks_file).ok().as_deref() != Some(issuer.jwks()) {
            replace(&jwks_file, issuer.jwks().as_bytes())?;
        }
        issuer.jwks_file = Some(jwks_file);
        Ok(issuer)
    }

    /// An issuer that lives no longer than this process.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn ephemeral() -> Result<Self, DevIssuerError> {
        Self::of(&new_key()?)
    }

    fn of(key: &KeyPair) -> Result<Self, DevIssuerError> {
        let point = key.public_key_raw();
        // An uncompressed point: 4, then both coordinates (SEC 1 §2.3.3).
        let (Some([4]), Some(x), Some(y)) = (point.get(..1), point.get(1..33), point.get(33..65)) else {
            return Err(DevIssuerError::Crypto);
        };
        let kid: String = sha256_hex(point).chars().take(16).collect();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let pkcs8 = Zeroizing::new(key.serialize_der());
        Ok(Self {
            key: EncodingKey::from_ec_der(&pkcs8),
            kid,
            jwks: format!("{:#}\n", json!({ "keys": [jwk] })),
            jwks_file: None,
        })
    }

    /// The public key, as the text of a JWK set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The settings under which a verifier takes this issuer's tokens.
    pub fn config(&self, audience: &str) -> IssuerConfig {
        let keys = match &self.jwks_file {
            Some(path) => KeySource::File(path.clone()),
            None => KeySource::Inline(self.jwks.clone()),
        };
        IssuerConfig { algorithms: vec![Algorithm::ES256], ..IssuerConfig::new(Self::NAME, keys, audience) }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn mint(&self, mint: &Mint) -> Result<String, DevIssuerError> {
        self.mint_at(mint, Clock::system().wall())
    }

    /// Signs a token that begins at `now`.
    pub(super) fn mint_at(&self, mint: &Mint, now: u64) -> Result<String, DevIssuerError> {
        let mut claims = Map::new();
        let subject = match (&mint.user, &mint.agent) {
            (Some(user), _) => user.as_str(),
            (None, Some(agent)) => agent.as_str(),
            (None, None) => mint.tenant.as_str(),
        };
        claims.insert("iss".into(), Self::NAME.into());
        claims.insert("sub".into(), subject.into());
        claims.insert("aud".into(), mint.audience.as_str().into());
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), now.saturating_add(mint.lifetime.as_secs()).into());
        claims.insert("jti".into(), ulid(std::time::SystemTime::now()).into());
        claims.insert("tenant_id".into(), mint.tenant.as_str().into());
        if let Some(agent) = &mint.agent {
            claims.insert("agent_id".into(), agent.as_str().into());
            if mint.user.is_some() {
                claims.insert("act".into(), json!({ "sub": agent.as_str() }));
            }
        }
        if !mint.scopes.is_empty() {
            claims.insert("scope".into(), mint.scopes.join(" ").into());
        }
        claims.extend(mint.extra.clone());
        let mut header = Header::new(Algorithm::ES256.of_library());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| DevIssuerError::Crypto)
    }
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn new_key() -> Result<KeyPair, DevIssuerError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| DevIssuerError::Crypto)
}

fn failed(path: &Path, error: io::Error) -> DevIssuerError {
    DevIssuerError::File { path: path.to_owned(), error }
}

/// Puts a whole file of mode 0600 at `path`, unless another program was faster: then its file stays.
fn create(path: &Path, content: &[u8]) -> Result<(), DevIssuerError> {
    let beside = written_beside(path, content, 0o600)?;
    let linked = fs::hard_link(&beside, path);
    let removed = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(path, error)),
        Ok(()) | Err(_) => removed.map_err(|error| failed(&beside, error)),
    }
}

/// Replaces the file at `path` in one step.
fn replace(path: &Path, content: &[u8]) -> Result<(), DevIssuerError> {
    let beside = written_beside(path, content, 0o644)?;
    fs::rename(&beside, path).map_err(|error| failed(path, error))
}

fn written_beside(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf, DevIssuerError> {
    let beside = path.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(beside),
        Err(error) => Err(failed(&beside, error)),
    }
}
