//! Keys that come, change, fail to come and go, and the cache that follows them.

use std::{fs, sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use super::{ISSUER, Lab, Network, Signer, claims, jwks, url};
use crate::identify::{IssuerConfig, KeySource};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A token that outlives every wait of these tests.
fn token(signer: &Signer) -> String {
    signer.token(&claims(json!({ "iat": null })))
}

fn long_lived(config: &mut IssuerConfig) {
    config.max_lifetime = 30 * DAY;
}

fn lasting(signer: &Signer) -> String {
    signer.token(&claims(json!({ "iat": null, "exp": super::NOW + 20 * 24 * 60 * 60 })))
}

fn remote(answer: Result<String, &'static str>) -> Lab {
    let mut config = IssuerConfig::new(ISSUER, url(), "egret");
    long_lived(&mut config);
    Lab::build(vec![config], Network::with(answer)).unwrap()
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_then_accepted() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let lab = Lab::remote(Ok(jwks(&[&old])));
    lab.keys().refresh_if_due().await;
    assert_eq!(lab.code(&token(&old)).await, "ok");
    lab.network.answers(Ok(jwks(&[&old, &new])));
    lab.clock.advance(WINDOW);
    assert_eq!(lab.code(&token(&new)).await, "ok");
    assert_eq!(lab.network.fetches(), 2);
}

#[tokio::test]
async fn a_key_changed_under_its_name_is_fetched_too() {
    let (old, new) = (Signer::new("k1"), Signer::new("k1"));
    let lab = Lab::remote(Ok(jwks(&[&old])));
    lab.keys().refresh_if_due().await;
    lab.network.answers(Ok(jwks(&[&new])));
    assert_eq!(lab.code(&token(&new)).await, "token_invalid", "within the window nobody is asked");
    lab.clock.advance(WINDOW);
    assert_eq!(lab.code(&token(&new)).await, "ok");
    assert_eq!(lab.code(&token(&old)).await, "token_invalid");
    assert_eq!(lab.network.fetches(), 2);
}

#[tokio::test]
async fn a_removed_key_ends_the_tokens_that_it_verified() {
    let (kept, removed) = (Signer::new("k1"), Signer::new("k2"));
    let lab = Lab::remote(Ok(jwks(&[&kept, &removed])));
    let (good, bad) = (token(&kept), token(&removed));
    assert_eq!(lab.code(&good).await, "ok");
    assert_eq!(lab.code(&bad).await, "ok");
    assert_eq!(lab.verifier.remembers(), 2);

    lab.network.answers(Ok(jwks(&[&kept])));
    lab.clock.advance(WINDOW);
    lab.keys().look_again().await;
    assert_eq!(lab.code(&bad).await, "token_invalid");
    assert_eq!(lab.code(&good).await, "ok");
    assert_eq!(lab.verifier.remembers(), 1);
}

#[tokio::test]
async fn the_same_keys_in_another_order_change_nothing() {
    let (one, two) = (Signer::new("k1"), Signer::new("k2"));
    let lab = Lab::remote(Ok(jwks(&[&one, &two])));
    assert_eq!(lab.code(&token(&one)).await, "ok");
    let before = lab.keys().current().unwrap().as_ref().unwrap().generation;
    lab.network.answers(Ok(jwks(&[&two, &one])));
    lab.clock.advance(WINDOW);
    lab.keys().look_again().await;
    assert_eq!(lab.keys().current().unwrap().as_ref().unwrap().generation, before);
    assert_eq!(lab.network.fetches(), 2);
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_expiry() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let text = signer.token(&claims(json!({})));
    assert_eq!(lab.code(&text).await, "ok");
    lab.clock.advance(Duration::from_secs(629));
    assert_eq!(lab.code(&text).await, "ok");
    lab.clock.advance(SECOND);
    assert_eq!(lab.code(&text).await, "token_expired");
    assert_eq!(lab.verifier.remembers(), 0);
    assert_eq!(lab.code(&text).await, "token_expired");
}

#[tokio::test]
async fn a_refused_token_is_not_remembered() {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let lab = Lab::inline(&[&signer], |_| {});
    assert_eq!(lab.code(&token(&other)).await, "token_invalid");
    assert_eq!(lab.code(&signer.token(&claims(json!({ "aud": "x" })))).await, "token_audience_mismatch");
    assert_eq!(lab.verifier.remembers(), 0);
}

#[tokio::test]
async fn without_keys_nobody_is_called_invalid() {
    let signer = Signer::new("k1");
    for answer in [Err("connection refused"), Ok("<html>".to_owned()), Ok("{\"keys\":[]}".to_owned())] {
        let lab = Lab::remote(answer);
        assert_eq!(lab.verifier.pending(), [ISSUER]);
        assert_eq!(lab.code(&token(&signer)).await, "identity_unavailable");
        assert_eq!(lab.code(&token(&signer)).await, "identity_unavailable");
        assert_eq!(lab.network.fetches(), 1, "a failed fetch uses the window up");
        assert_eq!(lab.events("jwks_stale"), 1, "an outage is told once");
        lab.network.answers(Ok(jwks(&[&signer])));
        lab.clock.advance(WINDOW);
        assert_eq!(lab.code(&token(&signer)).await, "ok");
        assert!(lab.verifier.pending().is_empty());
    }
}

#[tokio::test]
async fn the_last_good_keys_are_kept_for_a_bounded_time() {
    let (signer, new) = (Signer::new("k1"), Signer::new("k2"));
    let lab = remote(Ok(jwks(&[&signer])));
    let known = lasting(&signer);
    assert_eq!(lab.code(&known).await, "ok");
    for failure in [Err("timed out"), Ok("{}".to_owned()), Ok("{\"keys\":[]}".to_owned())] {
        lab.network.answers(failure);
        lab.clock.advance(WINDOW);
        assert_eq!(lab.code(&lasting(&new)).await, "identity_unavailable", "its key may be the newest");
        assert_eq!(lab.code(&known).await, "ok");
    }
    lab.clock.advance(DAY);
    assert_eq!(lab.code(&known).await, "identity_unavailable", "also for a remembered token");
    assert_eq!(lab.verifier.pending(), [ISSUER]);
    lab.network.answers(Ok(jwks(&[&signer])));
    lab.clock.advance(WINDOW);
    assert_eq!(lab.code(&known).await, "ok");
    assert_eq!(lab.events("jwks_stale"), 1);
}

/// Sends `count` different tokens with a key that the issuer lacks, all at once.
fn herd(lab: &Arc<Lab>, signer: &Signer, count: usize) -> JoinSet<&'static str> {
    let mut requests = JoinSet::new();
    for at in 0..count {
        let text =
            signer.token_with(&json!({ "alg": "ES256", "kid": format!("unknown-{at}") }), &claims(json!({})));
        let lab = lab.clone();
        requests.spawn(async move { lab.code(&text).await });
    }
    requests
}

#[tokio::test]
async fn a_thousand_unknown_keys_cause_one_fetch() {
    let signer = Signer::new("k1");
    let lab = Arc::new(Lab::remote(Ok(jwks(&[&signer]))));
    lab.keys().refresh_if_due().await;
    assert_eq!(lab.network.fetches(), 1);
    lab.clock.advance(WINDOW);

    // The fetch stays in the air until all of them wait for it.
    lab.network.permits.forget_permits(usize::MAX);
    let requests = herd(&lab, &signer, 1_000);
    for _ in 0..5_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.network.fetches(), 2, "one for all of them");
    lab.network.permits.add_permits(1);
    assert!(requests.join_all().await.into_iter().all(|code| code == "token_invalid"));

    // Within the window the next thousand are refused without waiting: no permit is left for another fetch.
    let refused = herd(&lab, &signer, 1_000).join_all().await;
    assert!(refused.into_iter().all(|code| code == "token_invalid"));
    assert_eq!(lab.network.fetches(), 2);
}

#[tokio::test]
async fn a_request_that_goes_away_takes_no_fetch_along() {
    let signer = Signer::new("k1");
    let lab = Arc::new(Lab::remote(Ok(jwks(&[&signer]))));
    lab.network.permits.forget_permits(usize::MAX);
    let (text, gone) = (token(&signer), lab.clone());
    let request = tokio::spawn(async move { gone.code(&text).await });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    request.abort();
    assert!(request.await.is_err());
    lab.network.permits.add_permits(1);
    assert_eq!(lab.code(&token(&signer)).await, "ok");
    assert_eq!(lab.network.fetches(), 1);
}

#[tokio::test]
async fn keys_are_fetched_ahead_of_their_expiry() {
    let signer = Signer::new("k1");
    let minutes = |m: u64| Duration::from_secs(m * 60);
    for (max_age, life) in [
        (None, minutes(15)),
        (Some(Duration::ZERO), minutes(5)),
        (Some(minutes(60)), minutes(60)),
        (Some(30 * DAY), DAY),
    ] {
        let lab = Lab::remote(Ok(jwks(&[&signer])));
        *lab.network.max_age.lock().unwrap() = max_age;
        lab.keys().refresh_if_due().await;
        let due = lab.keys().due_in().unwrap();
        assert!(due >= life.mul_f64(0.69) && due <= life.mul_f64(0.91), "{max_age:?}: {due:?}");
        lab.keys().refresh_if_due().await;
        assert_eq!(lab.network.fetches(), 1, "not before it is due");
        lab.clock.advance(life);
        lab.keys().refresh_if_due().await;
        assert_eq!(lab.network.fetches(), 2);
    }
}

#[tokio::test]
async fn a_failing_issuer_is_asked_less_and_less_often() {
    let lab = Lab::remote(Err("connection refused"));
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        lab.keys().refresh_if_due().await;
        let (due, wait) = (lab.keys().due_in().unwrap(), Duration::from_secs(wait));
        assert!(due >= wait.mul_f64(0.74) && due <= wait, "{wait:?}: {due:?}");
        lab.clock.advance(wait);
    }
    lab.network.answers(Ok(jwks(&[&Signer::new("k1")])));
    lab.keys().refresh_if_due().await;
    assert!(lab.keys().due_in().unwrap() > Duration::from_secs(60), "an answer ends the outage");
}

#[tokio::test]
async fn a_changed_file_is_read_again() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("jwks.json");
    let mut config = IssuerConfig::new(ISSUER, KeySource::File(path.clone()), "egret");
    long_lived(&mut config);
    let lab = Lab::build(vec![config], Network::with(Err("no network"))).unwrap();
    assert_eq!(lab.verifier.pending(), [ISSUER], "a missing file is no reason not to start");
    assert_eq!(lab.code(&lasting(&old)).await, "identity_unavailable");

    fs::write(&path, "half a fil").unwrap();
    lab.clock.advance(SECOND);
    assert_eq!(lab.code(&lasting(&old)).await, "identity_unavailable");
    fs::write(&path, jwks(&[&old])).unwrap();
    lab.clock.advance(SECOND);
    assert!(lab.verifier.pending().is_empty());
    assert_eq!(lab.code(&lasting(&old)).await, "ok");

    // An unknown key is looked for at once, and the key that is gone takes its tokens along.
    let beside = home.path().join("next.json");
    fs::write(&beside, jwks(&[&new])).unwrap();
    fs::rename(&beside, &path).unwrap();
    assert_eq!(lab.code(&lasting(&new)).await, "ok");
    assert_eq!(lab.code(&lasting(&old)).await, "token_invalid");

    fs::remove_file(&path).unwrap();
    lab.clock.advance(SECOND);
    assert_eq!(lab.code(&lasting(&new)).await, "ok", "the last good keys stay");
    lab.clock.advance(DAY);
    assert_eq!(lab.code(&lasting(&new)).await, "identity_unavailable");
    assert_eq!(lab.events("jwks_stale"), 2, "before the first keys, and after the last");
}

#[tokio::test]
async fn one_issuers_keys_do_not_speak_for_another() {
    let (ours, theirs) = (Signer::new("k1"), Signer::new("k1"));
    let other = "https://other.example";
    let config =
        |issuer: &str, signer| IssuerConfig::new(issuer, KeySource::Inline(jwks(&[signer])), "egret");
    let issuers = vec![config(ISSUER, &ours), config(other, &theirs)];
    let lab = Lab::build(issuers, Network::with(Err("no network"))).unwrap();
    assert_eq!(lab.code(&theirs.token(&claims(json!({ "iss": other })))).await, "ok");
    assert_eq!(lab.code(&theirs.token(&claims(json!({})))).await, "token_invalid");
    assert_eq!(lab.code(&ours.token(&claims(json!({ "iss": other })))).await, "token_invalid");
}

#[tokio::test]
async fn keys_are_kept_fresh_until_the_end() {
    let signer = Signer::new("k1");
    let lab = Lab::remote(Ok(jwks(&[&signer])));
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(lab.keys().keep_fresh(stop.clone()));
    while lab.verifier.pending() == [ISSUER] {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(lab.network.fetches(), 1);
}
