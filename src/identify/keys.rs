//! A JWK set, read with suspicion: unusable keys are left out one by one, and no symmetric key exists.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{settings::Algorithm, token::Jws};

/// The largest set. Sets with certificate chains have some tens of KiB.
pub(super) const LARGEST: usize = 512 * 1024;
/// Keys of one set.
const MOST_KEYS: usize = 256;
/// RSA key sizes in bits that the library verifies with (RFC 7518 §3.3 asks for 2048 or more).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key and the algorithms that it may verify.
struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// An issuer's keys, by `kid`.
pub(super) struct KeySet {
    named: HashMap<String, Vec<Key>>,
    /// Keys without a name: reachable for tokens without a name only.
    unnamed: Vec<Key>,
    /// Keys that were left out.
    pub(super) skipped: usize,
    /// SHA-256 of the usable keys in a fixed order, to tell a change from a rewrite.
    fingerprint: [u8; 32],
}

/// Why a set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeySet {
    #[error("the key set is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("the key set is not JSON with a list of `keys`")]
    Garbage,
    #[error("the key set has more than {MOST_KEYS} keys")]
    TooMany,
    #[error("the key set has no usable key")]
    Empty,
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    /// The set has no key that the token could be signed with.
    NoKey,
    /// The key says no.
    Signature,
}

impl KeySet {
    /// Reads a set, for an issuer that uses `allowed`.
    pub(super) fn parse(text: &[u8], allowed: &[Algorithm]) -> Result<Self, BadKeySet> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        if text.len() > LARGEST {
            return Err(BadKeySet::TooLarge);
        }
        let Document { keys } = serde_json::from_slice(text).map_err(|_| BadKeySet::Garbage)?;
        if keys.len() > MOST_KEYS {
            return Err(BadKeySet::TooMany);
        }
        let (mut named, mut unnamed) = (HashMap::<String, Vec<Key>>::new(), Vec::new());
        let (mut prints, mut skipped) = (Vec::new(), 0);
        for document in keys {
            // A set is the issuer's, but one odd key must not take the others away.
            let print = document.to_string();
            let Some((kid, key)) = usable(document, allowed) else {
                skipped += 1;
                continue;
            };
            prints.push(print);
            match kid {
                Some(kid) => named.entry(kid).or_default().push(key),
                None => unnamed.push(key),
            }
        }
        if prints.is_empty() {
            return Err(BadKeySet::Empty);
        }
        prints.sort_unstable();
        Ok(Self { named, unnamed, skipped, fingerprint: digest(&prints.join("\n")) })
    }

    /// Whether `other` has the same keys.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Verifies the signature.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), Unproven> {
        let key = self.find(jws.kid.as_deref(), jws.algorithm).ok_or(Unproven::NoKey)?;
        let algorithm = jws.algorithm.of_library();
        match jsonwebtoken::crypto::verify(jws.signature, jws.signed.as_bytes(), &key.key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unproven::Signature),
        }
    }

    /// The key of this name that fits the algorithm. A token without a name gets a key only where there is no
    /// choice: trying one after the other would let an old key stand in for a new one.
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        if let Some(kid) = kid {
            return self.named.get(kid)?.iter().find(fits);
        }
        let mut all = self.named.values().flatten().chain(&self.unnamed).filter(fits);
        let only = all.next()?;
        all.next().is_none().then_some(only)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet")
            .field("kids", &self.named.keys())
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

fn digest(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The key and its name, when it is a public key for signatures of an allowed algorithm.
fn usable(document: Value, allowed: &[Algorithm]) -> Option<(Option<String>, Key)> {
    let declared = document.get("alg").cloned();
    let jwk: Jwk = serde_json::from_value(document).ok()?;
    // SPIFFE marks the keys of JWT-SVIDs with a use of its own.
    let signs = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Other(other)) => other == "jwt-svid",
        Some(PublicKeyUse::Encryption) => false,
    };
    let verifies = jwk
        .common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let (key, fitting) = public_key(&jwk.algorithm)?;
    // The type of the key decides, never the token: what it declares itself may only narrow that.
    let algorithms: Vec<_> = fitting
        .iter()
        .filter(|a| allowed.contains(a) && declared.as_ref().is_none_or(|d| d.as_str() == Some(a.as_str())))
        .copied()
        .collect();
    (!algorithms.is_empty()).then_some((jwk.common.key_id, Key { key, algorithms }))
}

fn public_key(parameters: &AlgorithmParameters) -> Option<(DecodingKey, &'static [Algorithm])> {
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let (modulus, exponent) = (number(&rsa.n)?, number(&rsa.e)?);
            let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
            let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            RSA_BITS.contains(&bits).then_some((key, &Algorithm::RSA))
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (length, algorithms): (_, &[Algorithm]) = match ec.curve {
                EllipticCurve::P256 => (32, &[Algorithm::ES256]),
                EllipticCurve::P384 => (48, &[Algorithm::ES384]),
                _ => return None,
            };
            coordinate(&ec.x, length)?;
            coordinate(&ec.y, length)?;
            Some((DecodingKey::from_ec_components(&ec.x, &ec.y).ok()?, algorithms))
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            coordinate(&pair.x, 32)?;
            Some((DecodingKey::from_ed_components(&pair.x).ok()?, &[Algorithm::EdDSA]))
        }
        // `oct` is a shared secret: whoever can verify with it can sign with it.
        _ => None,
    }
}

/// A number without leading zeros, which some issuers write and the library does not take.
fn number(encoded: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let start = bytes.iter().position(|b| *b != 0)?;
    bytes.get(start..).map(<[u8]>::to_vec)
}

fn coordinate(encoded: &str, length: usize) -> Option<()> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    (bytes.len() == length).then_some(())
}
