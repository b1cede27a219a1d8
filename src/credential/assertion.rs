//! JSON Web Tokens that egret signs (RFC 7519).

use std::time::UNIX_EPOCH;

use aws_lc_rs::{hmac, rand::SystemRandom, signature};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use zeroize::Zeroizing;

use super::values::{Unfilled, Values};
use crate::{context::ulid, plan::Assertion, secret::Secret};

/// Why nothing was signed. Never says what the key is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsigned {
    #[error(transparent)]
    Unfilled(#[from] Unfilled),
    #[error("the key is no private key for `{0:?}`")]
    Key(Algorithm),
}

/// Signs a token, anew for each use: a server that has seen its `jti` refuses it (RFC 7523 §3).
pub(super) fn sign(assertion: &Assertion, values: &Values) -> Result<Secret, Unsigned> {
    let key = values.fill(&assertion.key)?;
    let now = values.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let issued = now.saturating_sub(assertion.backdate).as_secs();
    let mut header = format!("{{\"typ\":\"JWT\",\"alg\":\"{:?}\"", assertion.algorithm);
    for (name, template) in [("kid", &assertion.key_id), ("x5t#S256", &assertion.thumbprint)] {
        if let Some(template) = template {
            let value = values.fill_json(&crate::plan::JsonTemplate::Text(template.clone()))?;
            header.extend([",\"", name, "\":", &value]);
        }
    }
    header.push('}');
    let mut claims = Zeroizing::new(String::from("{"));
    for (name, template) in &assertion.claims {
        let name = serde_json::to_string(&**name).unwrap_or_default();
        claims.extend([&name, ":", &*values.fill_json(template)?, ","]);
    }
    if assertion.jti {
        claims.extend(["\"jti\":\"", &ulid(values.now()), "\","]);
    }
    let expires = issued.saturating_add(assertion.lifetime.as_secs());
    claims.extend(["\"iat\":", &issued.to_string(), ",\"exp\":", &expires.to_string(), "}"]);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&*claims));
    let signature = signature_of(assertion.algorithm, &key, message.as_bytes())?;
    Ok(Secret::new(format!("{message}.{signature}").into_bytes()))
}

/// The signature, in base64url (RFC 7515 §5.1).
fn signature_of(algorithm: Algorithm, key: &[u8], message: &[u8]) -> Result<String, Unsigned> {
    let wrong = || Unsigned::Key(algorithm);
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => {
            let algorithm = match algorithm {
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => hmac::HMAC_SHA256,
            };
            let signed = hmac::sign(&hmac::Key::new(algorithm, key), message);
            return Ok(URL_SAFE_NO_PAD.encode(signed));
        }
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(key),
        AlgorithmFamily::Ec => return ecdsa(algorithm, key, message).ok_or_else(wrong),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(key),
    };
    let key = key.map_err(|_| wrong())?;
    jsonwebtoken::crypto::sign(message, &key, algorithm).map_err(|_| wrong())
}

/// Keys of OpenSSL come as SEC 1 (`BEGIN EC PRIVATE KEY`) as well as PKCS#8.
fn ecdsa(algorithm: Algorithm, pem: &[u8], message: &[u8]) -> Option<String> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let how = if algorithm == Algorithm::ES384 {
        &signature::ECDSA_P384_SHA384_FIXED_SIGNING
    } else {
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING
    };
    let pair = match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(key) => signature::EcdsaKeyPair::from_pkcs8(how, key.secret_pkcs8_der()).ok()?,
        PrivateKeyDer::Sec1(key) => {
            signature::EcdsaKeyPair::from_private_key_der(how, key.secret_sec1_der()).ok()?
        }
        _ => return None,
    };
    let signed = pair.sign(&SystemRandom::new(), message).ok()?;
    Some(URL_SAFE_NO_PAD.encode(signed))
}
