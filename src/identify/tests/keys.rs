//! Key sets with keys that must not be used, and the development issuer's own.

use std::{fs, os::unix::fs::PermissionsExt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};

use super::{Lab, Signer, claims};
use crate::identify::{
    Algorithm, DevIssuer, DevIssuerError, IssuerConfig, KeySource,
    keys::{BadKeySet, KeySet},
};

const ALLOWED: [Algorithm; 3] = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256];

fn with(mut jwk: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        jwk[name] = value;
    }
    jwk
}

/// An RSA key of so many bits that nobody holds the private part of.
fn rsa(bytes: usize) -> Value {
    json!({ "kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0x81; bytes]), "e": "AQAB" })
}

#[test]
fn a_key_that_must_not_verify_is_left_out_alone() {
    let signer = Signer::new("k1");
    let good = signer.jwk();
    for (name, jwk) in [
        ("encryption", with(good.clone(), json!({ "use": "enc" }))),
        ("other use", with(good.clone(), json!({ "use": "x509-svid" }))),
        ("encrypt only", with(good.clone(), json!({ "key_ops": ["encrypt"] }))),
        ("sign only", with(good.clone(), json!({ "key_ops": ["sign"] }))),
        ("another algorithm", with(good.clone(), json!({ "alg": "ES384" }))),
        ("an unknown algorithm", with(good.clone(), json!({ "alg": "X" }))),
        ("no algorithm name", with(good.clone(), json!({ "alg": 1 }))),
        ("a short coordinate", with(good.clone(), json!({ "x": "AQ" }))),
        ("another curve", with(good.clone(), json!({ "crv": "P-384" }))),
        ("an unknown curve", with(good.clone(), json!({ "crv": "secp256k1" }))),
        ("a shared secret", json!({ "kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256" })),
        ("an unknown type", json!({ "kty": "AKP", "kid": "p", "pub": "AA" })),
        ("no type", json!({ "kid": "p" })),
        ("no object", json!("key")),
        ("RSA of 512 bits", rsa(64)),
        ("RSA of 1024 bits", rsa(128)),
        ("RSA of 16384 bits", rsa(2048)),
        (
            "RSA of the right length for its zeros",
            with(rsa(256), json!({ "n": URL_SAFE_NO_PAD.encode([vec![0; 192], vec![0x81; 64]].concat()) })),
        ),
    ] {
        let text = json!({ "keys": [jwk, good] }).to_string();
        let set = KeySet::parse(text.as_bytes(), &ALLOWED).unwrap();
        assert_eq!(set.skipped, 1, "{name}");
        let alone = json!({ "keys": [jwk] }).to_string();
        assert_eq!(KeySet::parse(alone.as_bytes(), &ALLOWED).unwrap_err(), BadKeySet::Empty, "{name}");
    }
    for (name, jwk) in [
        ("signatures", with(good.clone(), json!({ "use": "sig" }))),
        ("JWT-SVIDs", with(good.clone(), json!({ "use": "jwt-svid" }))),
        ("verify", with(good.clone(), json!({ "key_ops": ["verify"] }))),
        ("its algorithm", with(good, json!({ "alg": "ES256" }))),
        ("RSA of 2048 bits", rsa(256)),
        (
            "RSA with a leading zero",
            with(rsa(256), json!({ "n": URL_SAFE_NO_PAD.encode([vec![0], vec![0x81; 256]].concat()) })),
        ),
    ] {
        let text = json!({ "keys": [jwk] }).to_string();
        assert_eq!(KeySet::parse(text.as_bytes(), &ALLOWED).unwrap().skipped, 0, "{name}");
    }
}

#[test]
fn a_document_that_is_no_key_set_is_refused_whole() {
    let many = json!({ "keys": vec![json!({}); 257] }).to_string();
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(512 * 1024));
    for (text, bad) in [
        ("", BadKeySet::Garbage),
        ("<html>", BadKeySet::Garbage),
        ("{}", BadKeySet::Garbage),
        ("{\"keys\":{}}", BadKeySet::Garbage),
        ("{\"keys\":[]}", BadKeySet::Empty),
        (many.as_str(), BadKeySet::TooMany),
        (large.as_str(), BadKeySet::TooLarge),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes(), &ALLOWED).unwrap_err(), bad, "{text:.40}");
    }
}

#[tokio::test]
async fn a_token_without_a_key_name_needs_a_set_without_a_choice() {
    let (one, two) = (Signer::new("k1"), Signer::new("k2"));
    let token = one.token_with(&json!({ "alg": "ES256" }), &claims(json!({})));
    assert_eq!(Lab::inline(&[&one], |_| {}).code(&token).await, "ok");
    assert_eq!(Lab::inline(&[&one, &two], |_| {}).code(&token).await, "token_invalid");
}

#[tokio::test]
async fn every_family_of_keys_verifies() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let components: aws_lc_rs::signature::RsaPublicKeyComponents<Vec<u8>> =
        (&aws_lc_rs::rsa::PublicKey::from_der(&rsa.subject_public_key_info()).unwrap()).into();
    let set = json!({ "keys": [
        { "kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(&components.n), "e": URL_SAFE_NO_PAD.encode(&components.e) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": URL_SAFE_NO_PAD.encode(ed.public_key_raw()) },
    ] });
    let mut config = IssuerConfig::new(super::ISSUER, KeySource::Inline(set.to_string()), "egret");
    config.algorithms = vec![Algorithm::RS256, Algorithm::PS384, Algorithm::EdDSA];
    let lab = Lab::build(vec![config], super::Network::with(Err("no network"))).unwrap();
    let rsa_key = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let ed_key = EncodingKey::from_ed_der(&ed.serialize_der());
    for (algorithm, kid, key, expected) in [
        (Algorithm::RS256, "r", &rsa_key, "ok"),
        (Algorithm::PS384, "r", &rsa_key, "ok"),
        (Algorithm::RS512, "r", &rsa_key, "token_invalid"),
        (Algorithm::EdDSA, "e", &ed_key, "ok"),
    ] {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": algorithm.as_str(), "kid": kid }));
        let signed = format!("{header}.{}", part(claims(json!({}))));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm.of_library()).unwrap();
        assert_eq!(lab.code(&format!("{signed}.{signature}")).await, expected, "{algorithm:?}");
    }
}

#[test]
fn every_problem_of_the_issuers_is_told_at_once() {
    let mut empty = IssuerConfig::new("", KeySource::Inline(String::new()), "");
    empty.algorithms.clear();
    empty.typ = Some(Vec::new());
    empty.claims.tenant.clear();
    empty.max_lifetime = std::time::Duration::ZERO;
    let network = super::Network::with(Err("no network"));
    let problems = Lab::build(vec![empty.clone(), empty], network).err().unwrap().0;
    assert_eq!(problems.len(), 13, "{problems:?}");
}

#[test]
fn an_algorithm_is_named_exactly() {
    for name in ["ES256", "EdDSA", "PS512"] {
        assert_eq!(name.parse::<Algorithm>().unwrap().as_str(), name);
    }
    for name in ["none", "HS256", "es256", "ES512", "", "ES256K"] {
        assert!(name.parse::<Algorithm>().is_err(), "{name}");
    }
}

#[test]
fn a_development_issuer_lasts_and_is_private() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let first = DevIssuer::open_or_create(&dir).unwrap();
    let again = DevIssuer::open_or_create(&dir).unwrap();
    assert_eq!(first.jwks(), again.jwks());
    let key = dir.join("dev-issuer.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(dir.join("dev-jwks.json")).unwrap(), first.jwks());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing is left lying about");

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(DevIssuer::open_or_create(&dir), Err(DevIssuerError::Exposed { .. })));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "no key").unwrap();
    assert!(matches!(DevIssuer::open_or_create(&dir), Err(DevIssuerError::NotAKey { .. })));
}
