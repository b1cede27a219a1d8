//! The form of a token and its signature: what is refused before and by the cryptography.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{ISSUER, Lab, NOW, Signer, claims};

/// A token is refused as invalid, and the operator reads why.
async fn refused(lab: &Lab, token: &str, why: &str) {
    let said = lab.why(token).await;
    assert!(said.contains(why), "`{said}` does not contain `{why}`: {token:.80}");
}

fn unsigned(header: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(&claims(json!({}))), URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_in_every_spelling() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = json!({ "alg": alg, "kid": "k1" });
        refused(&lab, &unsigned(&header, b""), "no signature").await;
        refused(&lab, &unsigned(&header, b"x"), "`alg`").await;
    }
    refused(&lab, &unsigned(&json!({ "alg": "ES256", "kid": "k1" }), b""), "no signature").await;
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let secrets = [
        signer.key.public_key_raw().to_vec(),
        signer.jwk().to_string().into_bytes(),
        signer.key.public_key_pem().into_bytes(),
    ];
    for secret in secrets {
        let header = json!({ "alg": "HS256", "kid": "k1" });
        let token = unsigned(&header, b"x");
        let (input, _) = token.rsplit_once('.').unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
        refused(&lab, &format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)), "asymmetric").await;
    }
}

#[tokio::test]
async fn a_key_name_is_only_compared() {
    let signer = Signer::new("k1");
    let lab = Lab::remote(Ok(super::jwks(&[&signer])));
    let names = ["../../dev/null", "x' OR 1=1", "http://evil.example/k", "", "K1", "k1\0"];
    for name in names {
        let header = json!({ "alg": "ES256", "kid": name });
        refused(&lab, &signer.token_with(&header, &claims(json!({}))), "no such key").await;
    }
    for name in [json!("k".repeat(10_000)), json!(1), json!(null), json!(["k1"])] {
        let header = json!({ "alg": "ES256", "kid": name });
        refused(&lab, &signer.token_with(&header, &claims(json!({}))), "`kid` is not a string").await;
    }
    assert!(lab.network.fetches() <= 1);
}

#[tokio::test]
async fn a_token_does_not_bring_its_own_key() {
    let (signer, attacker) = (Signer::new("k1"), Signer::new("k1"));
    let lab = Lab::remote(Ok(super::jwks(&[&signer])));
    for (member, value) in [
        ("jwk", attacker.jwk()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        header[member] = value;
        refused(&lab, &attacker.token_with(&header, &claims(json!({}))), "does not verify").await;
        assert_eq!(
            lab.code(&signer.token_with(&header, &claims(json!({})))).await,
            "ok",
            "{member} is ignored"
        );
    }
    assert!(lab.network.fetches() <= 1);
}

#[tokio::test]
async fn a_header_that_changes_the_meaning_is_refused() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (member, value) in [
        ("crit", json!(["x"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        header[member] = value;
        refused(&lab, &signer.token_with(&header, &claims(json!({}))), member).await;
    }
}

#[tokio::test]
async fn an_algorithm_of_another_issuer_is_refused() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (alg, why) in [
        ("ES384", "not one of this issuer's"),
        ("RS256", "no such key"),
        ("EdDSA", "no such key"),
        ("es256", "`alg`"),
    ] {
        let header = json!({ "alg": alg, "kid": "k1" });
        refused(&lab, &signer.token_with(&header, &claims(json!({}))), why).await;
    }
    refused(&lab, &signer.token_with(&json!({ "kid": "k1" }), &claims(json!({}))), "`alg`").await;
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let good = signer.token(&claims(json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    for (token, why) in [
        (String::new(), "three parts"),
        (format!("{header}.{payload}"), "three parts"),
        (format!("{good}.x"), "three parts"),
        (format!("{good}.x.y"), "three parts"),
        (format!("{good}="), "base64url"),
        (format!("{good}\n"), "base64url"),
        (format!(" {good}"), "base64url"),
        (format!("{header}.{payload}=.{signature}"), "base64url"),
        (format!("{header}.{payload}.{}", "+/+/"), "base64url"),
        (signer.sign("[]", "{}"), "header"),
        (signer.sign("{\"alg\":\"ES256\",\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}"), "header"),
        (signer.sign("{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{} {}"), "payload"),
        (signer.sign(&format!("{{\"alg\":{}}}", "[".repeat(5_000)), "{}"), "header"),
        (
            signer.sign("{\"alg\":\"ES256\",\"kid\":\"k1\"}", &format!("{{\"x\":{}", "[".repeat(5_000))),
            "payload",
        ),
    ] {
        refused(&lab, &token, why).await;
    }
    assert_eq!(lab.code(&good).await, "ok");
}

#[tokio::test]
async fn a_huge_token_is_not_looked_into() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let token = signer.token(&claims(json!({ "padding": "x".repeat(64 * 1024) })));
    refused(&lab, &token, "more than 16384 bytes").await;
    refused(&lab, &"A".repeat(8 * 1024 * 1024), "more than 16384 bytes").await;
    assert_eq!(lab.code(&signer.token(&claims(json!({ "padding": "x".repeat(8 * 1024) })))).await, "ok");
}

#[tokio::test]
async fn a_signature_that_is_not_one_is_refused() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let header = json!({ "alg": "ES256", "kid": "k1" });
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &[1; 32], &[0x02, 0x20], &[1; 32]].concat();
    for signature in [vec![0; 64], vec![0xff; 64], vec![1; 63], vec![1; 65], der] {
        refused(&lab, &unsigned(&header, &signature), "does not verify").await;
    }
    // The same signature under other claims.
    let good = signer.token(&claims(json!({})));
    let moved = format!(
        "{}.{}",
        signer.token(&claims(json!({ "tenant_id": "t_zeta" }))).rsplit_once('.').unwrap().0,
        good.rsplit_once('.').unwrap().1
    );
    refused(&lab, &moved, "does not verify").await;
}

#[tokio::test]
async fn a_member_that_occurs_twice_is_refused_at_every_depth() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let header = "{\"alg\":\"ES256\",\"kid\":\"k1\"}";
    let base = format!("\"iss\":\"{ISSUER}\",\"aud\":\"egret\",\"sub\":\"u\",\"exp\":{}", NOW + 60);
    for rest in [
        "\"tenant_id\":\"t_acme\",\"tenant_id\":\"t_zeta\"",
        "\"tenant_id\":\"t_acme\",\"tenant_\\u0069d\":\"t_zeta\"",
        "\"tenant_id\":\"t_acme\",\"act\":{\"sub\":\"a\",\"sub\":\"b\"}",
        "\"tenant_id\":\"t_acme\",\"act\":{\"sub\":\"a\",\"act\":{\"sub\":\"b\",\"sub\":\"c\"}}",
    ] {
        refused(&lab, &signer.sign(header, &format!("{{{base},{rest}}}")), "unique members").await;
    }
    let good = signer.sign(header, &format!("{{{base},\"tenant_id\":\"t_acme\",\"agent_id\":\"a\"}}"));
    assert_eq!(lab.code(&good).await, "ok");
}

#[tokio::test]
async fn the_issuer_is_compared_exactly() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for issuer in [
        "https://idp.acme.example/",
        "http://idp.acme.example",
        "https://IDP.acme.example",
        "https://evil.example",
        "",
    ] {
        refused(&lab, &signer.token(&claims(json!({ "iss": issuer }))), "no known issuer").await;
    }
    for issuer in [json!(["https://evil.example", ISSUER]), json!(7), json!({}), Value::Null] {
        refused(&lab, &signer.token(&claims(json!({ "iss": issuer }))), "`iss` is not a string").await;
    }
}

#[tokio::test]
async fn a_token_made_for_another_purpose_is_refused() {
    let signer = Signer::new("k1");
    let usual = Lab::inline(&[&signer], |_| {});
    let strict = Lab::inline(&[&signer], |config| config.typ = Some(vec!["application/AT+JWT".into()]));
    for (typ, by_default, by_list) in [
        (json!("JWT"), true, false),
        (json!("jwt"), true, false),
        (json!("at+jwt"), true, true),
        (json!("application/at+jwt"), true, true),
        (json!("JOSE"), true, false),
        (Value::Null, true, false),
        (json!("dpop+jwt"), false, false),
        (json!("logout+jwt"), false, false),
        (json!("application/secevent+jwt"), false, false),
        (json!(""), false, false),
        (json!(1), false, false),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        if !typ.is_null() {
            header["typ"] = typ.clone();
        }
        let token = signer.token_with(&header, &claims(json!({})));
        assert_eq!(usual.code(&token).await == "ok", by_default, "{typ}");
        assert_eq!(strict.code(&token).await == "ok", by_list, "{typ} with a list");
    }
}
