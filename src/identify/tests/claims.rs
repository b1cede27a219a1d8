//! The claims of a token with a good signature: its times, its audience, its binding.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Lab, NOW, Signer, claims};
use crate::refusal::Reason;

const LEEWAY: u64 = 30;
const HOUR: u64 = 60 * 60;

/// Checks one change of claims against the expected code.
async fn check(lab: &Lab, signer: &Signer, change: Value, code: &str) {
    assert_eq!(lab.code(&signer.token(&claims(change.clone()))).await, code, "{change}");
}

#[tokio::test]
async fn a_token_ends_at_its_expiry_with_leeway_to_the_second() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (exp, code) in [
        (json!(NOW + 1), "ok"),
        (json!(NOW - 1), "ok"),
        (json!(NOW - LEEWAY + 1), "ok"),
        (json!(NOW - LEEWAY), "token_expired"),
        (json!(NOW - 61), "token_expired"),
        (json!(1_800_000_100.5), "ok"),
        (json!("1800000100"), "token_invalid"),
        (json!(-1), "token_invalid"),
        (json!(1e300), "token_invalid"),
        (json!(true), "token_invalid"),
        (Value::Null, "token_invalid"),
    ] {
        check(&lab, &signer, json!({ "exp": exp, "iat": NOW - 120 }), code).await;
    }
    let strict = Lab::inline(&[&signer], |config| config.leeway = Duration::ZERO);
    check(&strict, &signer, json!({ "exp": NOW }), "token_expired").await;
    check(&strict, &signer, json!({ "exp": NOW + 1 }), "ok").await;
}

#[tokio::test]
async fn expiry_is_told_only_of_genuine_tokens() {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let lab = Lab::inline(&[&signer], |_| {});
    let expired = claims(json!({ "exp": NOW - 100, "iat": NOW - 200 }));
    assert!(matches!(
        lab.check(&signer.token(&expired)).await,
        Err(Reason::TokenExpired { expired_at }) if expired_at == NOW - 100
    ));
    assert_eq!(lab.code(&other.token(&expired)).await, "token_invalid");
}

#[tokio::test]
async fn a_token_lives_no_longer_than_allowed() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (iat, exp, code) in [
        (json!(NOW), NOW + HOUR, "ok"),
        (json!(NOW), NOW + HOUR + 1, "token_invalid"),
        (json!(NOW - HOUR), NOW, "ok"),
        (json!(NOW - 24 * HOUR), NOW + 60, "token_invalid"),
        (Value::Null, NOW + HOUR, "ok"),
        (Value::Null, NOW + HOUR + LEEWAY, "ok"),
        (Value::Null, NOW + HOUR + LEEWAY + 1, "token_invalid"),
        (json!(NOW), 253_402_300_799, "token_invalid"),
        (json!(NOW + 20), NOW + 10, "token_invalid"),
        (json!("yesterday"), NOW + 60, "token_invalid"),
    ] {
        check(&lab, &signer, json!({ "iat": iat, "exp": exp }), code).await;
    }
}

#[tokio::test]
async fn a_token_from_the_future_is_refused() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for name in ["nbf", "iat"] {
        check(&lab, &signer, json!({ name: NOW + LEEWAY }), "ok").await;
        check(&lab, &signer, json!({ name: NOW + LEEWAY + 1 }), "token_invalid").await;
        check(&lab, &signer, json!({ name: [NOW] }), "token_invalid").await;
    }
}

#[tokio::test]
async fn the_audience_must_name_us() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |config| {
        config.audience = vec!["egret".into(), "https://egret.example".into()];
    });
    for (aud, code) in [
        (json!("egret"), "ok"),
        (json!(["x", "egret"]), "ok"),
        (json!(["https://egret.example"]), "ok"),
        (json!("Egret"), "token_audience_mismatch"),
        (json!("egret "), "token_audience_mismatch"),
        (json!(["x"]), "token_audience_mismatch"),
        (json!([]), "token_audience_mismatch"),
        (json!(5), "token_invalid"),
        (json!(["egret", 5]), "token_invalid"),
        (json!({ "egret": true }), "token_invalid"),
        (Value::Null, "token_invalid"),
    ] {
        check(&lab, &signer, json!({ "aud": aud }), code).await;
    }
    let wrong = lab.check(&signer.token(&claims(json!({ "aud": "other" })))).await;
    assert!(matches!(wrong, Err(Reason::TokenAudienceMismatch { expected }) if &*expected == "egret"));
}

#[tokio::test]
async fn a_sender_constrained_token_is_refused_without_its_sender() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for cnf in [json!({ "x5t#S256": "x" }), json!({ "jkt": "x" }), json!({})] {
        let why = lab.why(&signer.token(&claims(json!({ "cnf": cnf })))).await;
        assert!(why.contains("without mTLS"), "{why}");
    }
}

#[tokio::test]
async fn what_the_operator_reads_repeats_nothing_of_the_token() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let marked = "leak-4711 \u{1b}[31m";
    for change in [
        json!({ "iss": marked }),
        json!({ "tenant_id": marked }),
        json!({ "agent_id": marked }),
        json!({ "sub": marked }),
        json!({ "act": { "sub": marked } }),
        json!({ "nbf": marked }),
        json!({ "aud": { "x": marked } }),
        json!({ "scope": { "x": marked } }),
        json!({ "oauth_subject": marked }),
    ] {
        let why = lab.why(&signer.token(&claims(change.clone()))).await;
        assert!(!why.contains("4711") && !why.contains('\u{1b}'), "{change}: {why}");
    }
}
