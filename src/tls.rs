//! The one place that names the TLS and cryptography provider, and the trust in upstreams.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

/// HTTP/2 and HTTP/1.1, in the order of preference.
const H2_H1: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// TLS sessions that one tenant keeps for resumption.
const SESSIONS: usize = 32;

/// The provider: aws-lc-rs.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes the provider the process's own, for code that asks for no other. Call it first.
pub fn install() {
    // A second call finds it installed, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A signing key in the provider's form.
///
/// # Errors
/// When the key is of no kind that the provider knows.
pub fn signing_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    rustls::crypto::aws_lc_rs::sign::any_supported_type(der)
}

/// Why the trust store could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A file holds no certificate.
    #[error("{0}: no certificate in PEM form")]
    Empty(String),
    /// A certificate cannot be used.
    #[error("{0}: {1}")]
    Unusable(String, rustls::Error),
}

/// Whom egret trusts upstream: the system's roots, Mozilla's where the system has none, and `extra_ca`.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Loads the roots.
    ///
    /// # Errors
    /// When an extra file cannot be read or holds no certificate.
    pub fn load(extra: &[impl AsRef<Path>]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in extra {
            let path = path.as_ref();
            let name = path.display().to_string();
            let text = std::fs::read(path).map_err(|error| TrustError::Read { path: name.clone(), error })?;
            let mut any = false;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|_| TrustError::Empty(name.clone()))?;
                roots.add(certificate).map_err(|error| TrustError::Unusable(name.clone(), error))?;
                any = true;
            }
            if !any {
                return Err(TrustError::Empty(name));
            }
        }
        Ok(Self { roots: Arc::new(roots) })
    }

    /// Trusts this certificate and no other.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn only(certificate: CertificateDer<'static>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| TrustError::Unusable("certificate".into(), error))?;
        Ok(Self { roots: Arc::new(roots) })
    }

    /// A configuration that shows this certificate, and speaks HTTP/1.1. Nothing is resumed: whoever holds the
    /// certificate is asked each time.
    ///
    /// # Errors
    /// When the provider lacks the default protocol versions.
    pub fn client_with(&self, certificate: &ClientCertificate) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.0.clone())));
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Client configurations for one tenant: sessions are never resumed across tenants.
    pub fn client(&self) -> ClientTls {
        let base = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(self.roots.clone()).with_no_client_auth());
        let Ok(mut base) = base else {
            // aws-lc-rs has the default versions; were it not so, nothing could be dialled at all.
            return ClientTls { any: None, http1: None };
        };
        base.resumption = Resumption::in_memory_sessions(SESSIONS);
        let mut http1 = base.clone();
        http1.resumption = Resumption::in_memory_sessions(SESSIONS);
        base.alpn_protocols = H2_H1.map(<[u8]>::to_vec).to_vec();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        ClientTls { any: Some(Arc::new(base)), http1: Some(Arc::new(http1)) }
    }
}

/// A client's certificate and key, for upstreams that ask who connects (RFC 8705).
pub struct ClientCertificate(Arc<CertifiedKey>);

impl ClientCertificate {
    /// Reads a chain of certificates and their private key, in PEM.
    ///
    /// # Errors
    /// When one of them is not what it should be, or the key belongs to another certificate. Never says what was read.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain).map(|one| one.map(CertificateDer::into_owned)).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(BadCertificate::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| BadCertificate::Key)?;
        let key = signing_key(&key).map_err(|_| BadCertificate::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(BadCertificate::Mismatch)
            }
            // A key that cannot tell is tried in the handshake.
            _ => Ok(Self(Arc::new(certified))),
        }
    }

    /// SHA-256 of the certificate, as tokens name it: `x5t#S256` (RFC 8705 §3.1).
    pub fn thumbprint(&self) -> Option<[u8; 32]> {
        let end = self.0.cert.first()?;
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, end).as_ref().try_into().ok()
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// Why a client's certificate cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// The certificate.
    #[error("is no certificate in PEM form")]
    Certificate,
    /// The key.
    #[error("is no private key in PEM form")]
    Key,
    /// Both, together.
    #[error("is the key of another certificate")]
    Mismatch,
}

/// One tenant's TLS towards upstreams.
#[derive(Debug, Clone)]
pub struct ClientTls {
    any: Option<Arc<ClientConfig>>,
    http1: Option<Arc<ClientConfig>>,
}

impl ClientTls {
    /// The configuration that offers HTTP/2 and HTTP/1.1, or only HTTP/1.1.
    pub fn config(&self, http1_only: bool) -> Option<Arc<ClientConfig>> {
        if http1_only { self.http1.clone() } else { self.any.clone() }
    }
}

/// The server side of an intercepted tunnel: one certificate, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When the provider lacks the default protocol versions.
pub fn server(certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = H2_H1.map(<[u8]>::to_vec).to_vec();
    // A ticket of one tunnel must not open another: each handshake is judged anew.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
