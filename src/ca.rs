//! The local certificate authority: made on first start, read again after, never sent anywhere.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use time::{Duration, OffsetDateTime};

use crate::{target::Host, tls};

/// The certificate, in PEM. Public.
const CERTIFICATE: &str = "ca.pem";
/// The private key, in PEM. Mode 0600, refused otherwise.
const KEY: &str = "ca.key";
/// How long a new authority is valid.
const AUTHORITY_LIFE: Duration = Duration::days(365 * 2);
/// How long a leaf is valid: short, since nothing revokes it.
const LEAF_LIFE: Duration = Duration::hours(23);
/// How far dates reach back, for clients whose clock is behind.
const SKEW: Duration = Duration::minutes(10);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key can be read by others.
    #[error(
        "{0}: the key can be read by others (mode {1:o}); `chmod 600` it, and make a new one if it was exposed"
    )]
    Exposed(PathBuf, u32),
    /// Only one of the two files is there.
    #[error("{0} is missing beside its other half; restore it, or remove both files to make a new authority")]
    Half(PathBuf),
    /// There is an authority already.
    #[error("{0} exists; remove it to make a new authority, and distribute the new certificate")]
    Exists(PathBuf),
    /// A file holds something else.
    #[error("{path}: {problem}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate is past its time.
    #[error(
        "{0}: the authority has expired; run `egret ca init` after removing it, and distribute the new certificate"
    )]
    Expired(PathBuf),
}

/// The authority that signs the certificates of intercepted tunnels.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: OffsetDateTime,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
}

impl CertificateAuthority {
    /// Reads the authority in `dir`, or makes one when there is none.
    ///
    /// # Errors
    /// When the files cannot be used; nothing is overwritten.
    pub fn open_or_create(dir: &Path) -> Result<Self, CaError> {
        match (dir.join(CERTIFICATE).exists(), dir.join(KEY).exists()) {
            (true, true) => Self::open(dir),
            (false, false) => Self::create(dir),
            (false, true) => Err(CaError::Half(dir.join(CERTIFICATE))),
            (true, false) => Err(CaError::Half(dir.join(KEY))),
        }
    }

    /// Reads the authority in `dir`.
    ///
    /// # Errors
    /// When the key is exposed, the files do not fit, or the certificate has expired.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let (certificate_path, key_path) = (dir.join(CERTIFICATE), dir.join(KEY));
        let mode =
            fs::metadata(&key_path).map_err(|error| CaError::File { path: key_path.clone(), error })?.mode()
                & 0o777;
        if mode & 0o077 != 0 {
            return Err(CaError::Exposed(key_path, mode));
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| CaError::File { path: path.to_owned(), error })
        };
        let (pem, key_pem) = (read(&certificate_path)?, zeroize::Zeroizing::new(read(&key_path)?));
        let unusable = |path: &Path, problem: String| CaError::Unusable { path: path.to_owned(), problem };
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|_| unusable(&key_path, "not a private key in PEM form".into()))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| unusable(&certificate_path, "not a certificate in PEM form".into()))?;
        let facts = Facts::of(&certificate).map_err(|problem| unusable(&certificate_path, problem))?;
        if facts.public_key != key.public_key_raw() {
            return Err(unusable(&certificate_path, "it does not belong to the key beside it".into()));
        }
        if facts.not_after <= OffsetDateTime::now_utc() {
            return Err(CaError::Expired(certificate_path));
        }
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).map_err(|e| unusable(&certificate_path, e.to_string()))?;
        Self::assemble(issuer, certificate, pem, facts.not_after).map_err(|e| unusable(&key_path, e))
    }

    /// Makes an authority and writes it to `dir`.
    ///
    /// # Errors
    /// When there is one already, or the files cannot be written.
    pub fn create(dir: &Path) -> Result<Self, CaError> {
        let (certificate_path, key_path) = (dir.join(CERTIFICATE), dir.join(KEY));
        for path in [&certificate_path, &key_path] {
            if path.exists() {
                return Err(CaError::Exists(path.clone()));
            }
        }
        fs::create_dir_all(dir).map_err(|error| CaError::File { path: dir.to_owned(), error })?;
        let (this, key_pem) =
            Self::make().map_err(|problem| CaError::Unusable { path: key_path.clone(), problem })?;
        write_new(&key_path, key_pem.as_bytes(), 0o600)?;
        write_new(&certificate_path, this.pem.as_bytes(), 0o644)?;
        Ok(this)
    }

    /// An authority that lives in memory only.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn ephemeral() -> Result<Self, CaError> {
        Self::make()
            .map(|(this, _)| this)
            .map_err(|problem| CaError::Unusable { path: "memory".into(), problem })
    }

    fn make() -> Result<(Self, zeroize::Zeroizing<String>), String> {
        let text = |e: rcgen::Error| e.to_string();
        let now = OffsetDateTime::now_utc();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(text)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(text)?;
        params.distinguished_name = DistinguishedName::new();
        // A name of its own each time, so that two authorities are never taken for one another.
        let id = crate::secret::sha256_hex(key.public_key_raw());
        params
            .distinguished_name
            .push(DnType::CommonName, format!("egret local CA {}", id.get(..8).unwrap_or_default()));
        params.distinguished_name.push(DnType::OrganizationName, "egret");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - SKEW;
        params.not_after = now + AUTHORITY_LIFE;
        let not_after = params.not_after;
        let certificate = params.self_signed(&key).map_err(text)?;
        let key_pem = zeroize::Zeroizing::new(key.serialize_pem());
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok((Self::assemble(Issuer::new(params, key), der, pem, not_after)?, key_pem))
    }

    fn assemble(
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
        pem: String,
        not_after: OffsetDateTime,
    ) -> Result<Self, String> {
        // One key for all leaves of a process: it never leaves it, and a leaf costs one signature.
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = tls::signing_key(&der).map_err(|e| e.to_string())?;
        Ok(Self { issuer, certificate, pem, not_after, leaf_key, leaf_signer })
    }

    /// The certificate to trust, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate to trust, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// SHA-256 of the certificate, in hex.
    pub fn fingerprint(&self) -> String {
        crate::secret::sha256_hex(&self.certificate)
    }

    /// Signs a leaf for `host` and says until when it may be used.
    ///
    /// # Errors
    /// When the authority has expired, or the signing fails.
    pub fn mint(&self, host: &Host) -> Result<(Arc<CertifiedKey>, OffsetDateTime), String> {
        let now = OffsetDateTime::now_utc();
        if now >= self.not_after {
            return Err("the authority has expired".into());
        }
        let text = |e: rcgen::Error| e.to_string();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.to_string().try_into().map_err(text)?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.distinguished_name = DistinguishedName::new(); // a name in the SAN needs no subject
        params.not_before = now - SKEW;
        params.not_after = (now + LEAF_LIFE).min(self.not_after);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa; // also writes the Subject Key Identifier
        params.use_authority_key_identifier_extension = true; // strict verifiers refuse a leaf without it
        let until = params.not_after;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(text)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok((Arc::new(CertifiedKey::new(chain, self.leaf_signer.clone())), until))
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateAuthority(..)")
    }
}

fn write_new(path: &Path, text: &[u8], mode: u32) -> Result<(), CaError> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
    written.map_err(|error| CaError::File { path: path.to_owned(), error })
}

/// What egret needs to know of a certificate that it did not just make.
struct Facts {
    public_key: Vec<u8>,
    not_after: OffsetDateTime,
}

impl Facts {
    fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        use x509_parser::prelude::FromDer as _;
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|_| "not an X.509 certificate".to_owned())?;
        if !certificate.is_ca() {
            return Err("not the certificate of an authority".into());
        }
        Ok(Self {
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            not_after: certificate.validity().not_after.to_datetime(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = CertificateAuthority::open_or_create(dir.path()).unwrap();
        let read = CertificateAuthority::open_or_create(dir.path()).unwrap();
        assert_eq!(made.fingerprint(), read.fingerprint());
        assert_eq!(fs::metadata(dir.path().join(KEY)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(CertificateAuthority::open_or_create(dir.path()), Err(CaError::Exposed(..))));
    }

    #[test]
    fn half_an_authority_is_never_completed_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::create(dir.path()).unwrap();
        fs::remove_file(dir.path().join(CERTIFICATE)).unwrap();
        assert!(matches!(CertificateAuthority::open_or_create(dir.path()), Err(CaError::Half(..))));
        CertificateAuthority::create(&dir.path().join("other")).unwrap();
        fs::copy(dir.path().join("other").join(CERTIFICATE), dir.path().join(CERTIFICATE)).unwrap();
        assert!(
            matches!(CertificateAuthority::open_or_create(dir.path()), Err(CaError::Unusable { .. })),
            "another authority's certificate"
        );
    }

    #[test]
    fn a_leaf_names_its_host_and_its_authority_for_a_day_at_most() {
        use x509_parser::prelude::*;
        let authority = CertificateAuthority::ephemeral().unwrap();
        for (host, san) in
            [("api.good.test", "DNSName(\"api.good.test\")"), ("127.0.0.1", "IPAddress([127, 0, 0, 1])")]
        {
            let (leaf, _) = authority.mint(&Host::parse(host).unwrap()).unwrap();
            let (_, parsed) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
            let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
            assert!(life <= 24 * 3600, "{life}");
            assert!(parsed.validity().not_before.timestamp() < OffsetDateTime::now_utc().unix_timestamp());
            let names = parsed.subject_alternative_name().unwrap().unwrap();
            assert_eq!(
                format!("{:?}", names.value.general_names[0]).replace("IPAddress([", "IPAddress(["),
                san
            );
            let oids: Vec<_> = parsed.extensions().iter().map(|e| e.oid.to_id_string()).collect();
            assert!(
                oids.contains(&"2.5.29.35".into()) && oids.contains(&"2.5.29.14".into()),
                "AKI and SKI: {oids:?}"
            );
        }
    }
}
