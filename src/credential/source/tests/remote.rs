use serde_json::json;

use super::*;
use crate::{
    fetch::FetchUrl,
    settings::{RemoteSettings, SecretSource},
};

fn remote(dir: &Path) -> RemoteSettings {
    RemoteSettings {
        name: "api".into(),
        token_url: FetchUrl::parse("https://sts.example/token").unwrap(),
        subject_token: SecretSource::File(put(dir, "token", "pod-1\n")),
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
        audience: vec!["https://api.example".into()],
        resource: Vec::new(),
        scope: vec!["read".into(), "write".into()],
        client_id: None,
        client_secret: None,
    }
}

fn house(remote: RemoteSettings) -> House {
    House::new(&SourceSettings { remote: [("api".to_owned(), remote)].into(), ..Default::default() })
}

fn reference() -> SecretRef {
    SecretRef::Remote("api".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_exchanged_and_kept_until_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(remote(dir.path()));
    house.provider.tells(&json!({"access_token": "at-1", "expires_in": 600, "token_type": "Bearer"}));
    assert_eq!(house.read(&reference()).await.unwrap(), "at-1");
    advance(Duration::from_secs(539)).await;
    assert_eq!(house.read(&reference()).await.unwrap(), "at-1");
    let asked = house.asked();
    assert_eq!((asked.len(), asked[0].url.as_str()), (1, "https://sts.example/token"));
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "pod-1"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("audience", "https://api.example"),
        ("scope", "read write"),
    ] {
        assert_eq!(asked[0].form(name).as_deref(), Some(value));
    }
    assert!(asked[0].form("resource").is_none() && !asked[0].headers.contains_key("authorization"));
    // The file was replaced meanwhile.
    put(dir.path(), "token", "pod-2");
    house.provider.tells(&json!({"access_token": "at-2", "expires_in": "600"}));
    advance(Duration::from_secs(60)).await;
    assert_eq!(house.read(&reference()).await.unwrap(), "at-2");
    assert_eq!(house.asked()[0].form("subject_token").as_deref(), Some("pod-2"));
}

#[tokio::test(start_paused = true)]
async fn a_client_shows_its_secret_encoded_as_the_standard_says() {
    let dir = tempfile::tempdir().unwrap();
    let secret = SecretSource::File(put(dir.path(), "secret", "s/:"));
    let house = house(RemoteSettings {
        client_id: Some("a b".into()),
        client_secret: Some(secret),
        ..remote(dir.path())
    });
    house.provider.tells(&json!({"access_token": "at-1"}));
    assert_eq!(house.read(&reference()).await.unwrap(), "at-1");
    // base64 of `a+b:s%2F%3A`
    assert_eq!(house.asked()[0].headers["authorization"], "Basic YStiOnMlMkYlM0E=");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_missing_and_a_silence_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let body = json!({"error": "invalid_target", "error_description": "pod-1"});
    for (status, why, is_transient) in [
        (400, "is not given: sts.example:443 answered 400 `invalid_target` to the token exchange", false),
        (503, "cannot be read: sts.example:443 answered 503", true),
        (429, "cannot be read: sts.example:443 answered 429", true),
        (200, "cannot be read: the answer of sts.example:443 has no token", true),
        (0, "cannot be read: unreachable", true),
    ] {
        let house = house(remote(dir.path()));
        if status > 0 {
            house.provider.refuses(status, &body);
        }
        assert_eq!(house.refused(&reference()).await, (format!("`remote:api` {why}"), is_transient));
    }
}
