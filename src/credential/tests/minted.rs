//! Tokens that are had anew whenever one ends, in every form in which policies describe them.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{
    super::{
        engine::{Engine, TokenKey, Work},
        usage::Usage,
        workshop::Workshop,
    },
    nowhere, origins,
    provider::{Act, Asked, Provider},
};
use crate::{
    context::{IntegrationId, TenantId},
    decide::test_credential,
    plan::{CredentialSpec, Obtained},
    secret::Secret,
    store::{ConnectionKey, LazyStore, Owner},
};

/// The credential that a policy describes.
pub(super) fn spec(credential: &str) -> Arc<Obtained> {
    match test_credential(credential) {
        CredentialSpec::Obtained(obtained) => obtained,
        CredentialSpec::Static(_) => panic!("not obtained"),
    }
}

pub(super) fn engine(provider: &Arc<Provider>, store: LazyStore) -> Arc<Engine> {
    let workshop = Workshop::new(provider.clone(), origins(store), Arc::default());
    Arc::new(Engine::start(Arc::new(workshop), TaskTracker::new()))
}

pub(super) fn key() -> ConnectionKey {
    ConnectionKey {
        tenant: TenantId::parse("acme").unwrap(),
        integration: IntegrationId::parse("api").unwrap(),
        owner: Owner::App,
    }
}

pub(super) fn work(spec: &Arc<Obtained>) -> Work {
    Work {
        key: TokenKey { connection: key(), caller: None },
        spec: spec.clone(),
        caller: None,
        refused: None,
    }
}

/// What a request to `/x?a=1` carries: its headers, its path and query.
pub(super) async fn carried(engine: &Arc<Engine>, work: Work) -> Result<(http::HeaderMap, String), String> {
    let usage = Usage::of_token(engine.clone(), work).await.map_err(|failure| {
        let reason = failure.reason();
        format!("{} {}", reason.facts().code, reason.for_operator().unwrap_or_default())
    })?;
    let (super::super::live::Ready::Token(prepared), _) = usage.attached() else { panic!("not a token") };
    let mut headers = http::HeaderMap::new();
    let path = prepared.apply(&mut headers, "/x", Some("a=1")).unwrap();
    Ok((headers, path.as_str().to_owned()))
}

pub(super) async fn authorization(engine: &Arc<Engine>, work: Work) -> Result<String, String> {
    let (headers, _) = carried(engine, work).await?;
    Ok(headers["authorization"].to_str().unwrap().to_owned())
}

/// What the provider is asked for this credential, and what a request then carries.
async fn asked(credential: &str, answers: &[Value]) -> (Vec<Asked>, String) {
    let provider = Arc::new(Provider::default());
    for answer in answers {
        provider.tells(answer);
    }
    let engine = engine(&provider, nowhere());
    let spec = spec(credential);
    let carried = authorization(&engine, work(&spec)).await.unwrap();
    (provider.asked(), carried)
}

fn token() -> Value {
    json!({"access_token": "t0ken", "token_type": "Bearer", "expires_in": 3600})
}

fn claims(jwt: &str) -> (Value, Value) {
    let part = |index| {
        let text = jwt.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    (part(0), part(1))
}

const SECRET: &str = "env:CARGO_PKG_NAME"; // `egret`

#[tokio::test]
async fn a_client_shows_its_secret_in_the_way_that_it_is_told() {
    let base =
        format!("token_url: \"https://idp.example/token\", client_id: \"a b\", client_secret: \"{SECRET}\"");
    for (auth, header, body) in [
        ("basic", Some("Basic YStiOmVncmV0"), "grant_type=client_credentials&scope=x+y"),
        ("basic_raw", Some("Basic YSBiOmVncmV0"), "grant_type=client_credentials&scope=x+y"),
        ("basic_secret_as_user", Some("Basic ZWdyZXQ6"), "grant_type=client_credentials&scope=x+y"),
        ("post", None, "grant_type=client_credentials&scope=x+y&client_id=a+b&client_secret=egret"),
    ] {
        let credential = format!("{{client_credentials: {{{base}, client_auth: {auth}, scopes: [x, y]}}}}");
        let (asked, carried) = asked(&credential, &[token()]).await;
        assert_eq!(carried, "Bearer t0ken");
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].url, "https://idp.example/token");
        assert_eq!(asked[0].headers.get("authorization").map(|v| v.to_str().unwrap()), header, "{auth}");
        assert_eq!(asked[0].body, body, "{auth}");
        assert!(!format!("{:?}", asked[0].headers).contains("egret"), "headers are marked sensitive");
    }
}

#[tokio::test]
async fn an_assertion_is_new_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let credential = format!(
        "{{client_credentials: {{token_url: \"https://idp.example/token\", client_id: me, private_key: \"file:{}\", algorithm: ES256, key_id: k1}}}}",
        dir.path().join("key.pem").display()
    );
    let provider = Arc::new(Provider::default());
    provider.tells(&json!({"access_token": "one", "expires_in": 1})).tells(&token());
    let engine = engine(&provider, nowhere());
    let spec = spec(&credential);
    for _ in 0..2 {
        authorization(&engine, work(&spec)).await.unwrap();
        // The first is at its end when it comes.
        while engine.live(&work(&spec).key, &spec).is_some() && provider.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
    }
    let asked = provider.asked();
    let assertions: Vec<String> = asked.iter().map(|asked| asked.form("client_assertion").unwrap()).collect();
    assert_eq!(assertions.len(), 2);
    let mut ids = Vec::new();
    for assertion in &assertions {
        let (header, claims) = claims(assertion);
        assert_eq!(header, json!({"typ": "JWT", "alg": "ES256", "kid": "k1"}));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("me"), &json!("me")));
        assert_eq!(claims["aud"], "https://idp.example/token");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        ids.push(claims["jti"].as_str().unwrap().to_owned());
        let public = jsonwebtoken::DecodingKey::from_ec_der(key.public_key_raw());
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_audience(&["https://idp.example/token"]);
        jsonwebtoken::decode::<Value>(assertion, &public, &validation).unwrap();
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(
        asked[0].form("client_assertion_type").unwrap(),
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
}

#[tokio::test]
async fn a_hundred_requests_that_come_at_once_ask_once_and_one_that_goes_away_takes_nothing_with_it() {
    let provider = Arc::new(Provider::default());
    let go = Arc::new(tokio::sync::Notify::new());
    provider.will(Act::Wait(go.clone(), Box::new(Act::Answer(200, Vec::new(), token().to_string()))));
    let engine = engine(&provider, nowhere());
    let spec = spec(&format!(
        "{{client_credentials: {{token_url: \"https://idp.example/token\", client_id: a, client_secret: \"{SECRET}\"}}}}"
    ));
    let mut first = Box::pin(authorization(&engine, work(&spec)));
    assert!(futures_poll(&mut first).await.is_none());
    while provider.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(first);
    let others: Vec<_> = (0..100)
        .map(|_| {
            let (engine, work) = (engine.clone(), work(&spec));
            tokio::spawn(async move { authorization(&engine, work).await })
        })
        .collect();
    tokio::task::yield_now().await;
    go.notify_one();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "Bearer t0ken");
    }
    assert_eq!(provider.asked().len(), 1);
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_refusal_is_told_again_without_asking_again() {
    let provider = Arc::new(Provider::default());
    provider.refuses(401, &json!({"error": "invalid_client", "error_description": "s3cret"})).tells(&token());
    let engine = engine(&provider, nowhere());
    let spec = spec(&format!(
        "{{client_credentials: {{token_url: \"https://idp.example/token\", client_id: a, client_secret: \"{SECRET}\"}}}}"
    ));
    for _ in 0..3 {
        let error = authorization(&engine, work(&spec)).await.unwrap_err();
        assert_eq!(error, "credential_rejected ");
    }
    assert_eq!(provider.asked().len(), 1);
    // The policy names another client: that one is asked for at once.
    let other = super::minted::spec(&format!(
        "{{client_credentials: {{token_url: \"https://idp.example/token\", client_id: b, client_secret: \"{SECRET}\"}}}}"
    ));
    assert_eq!(authorization(&engine, work(&other)).await.unwrap(), "Bearer t0ken");
}

#[tokio::test]
async fn a_caller_s_token_is_exchanged_for_that_caller_alone() {
    let provider = Arc::new(Provider::default());
    provider.tells(&json!({"access_token": "for-ann", "expires_in": 300}));
    provider.tells(&json!({"access_token": "for-bob", "expires_in": 300}));
    let engine = engine(&provider, nowhere());
    let spec = spec(
        "{token_exchange: {token_url: \"https://idp.example/token\", audience: billing, scopes: [read], resource: \"https://b.example/\"}}",
    );
    let of = |token: &str| {
        let caller = Arc::new(Secret::new(token.as_bytes().to_vec()));
        let key = TokenKey { connection: key(), caller: Some(caller.sha256()) };
        Work { key, caller: Some(caller), ..work(&spec) }
    };
    for _ in 0..2 {
        assert_eq!(authorization(&engine, of("ann.jwt")).await.unwrap(), "Bearer for-ann");
        assert_eq!(authorization(&engine, of("bob.jwt")).await.unwrap(), "Bearer for-bob");
    }
    let asked = provider.asked();
    assert_eq!(asked.len(), 2);
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "ann.jwt"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("audience", "billing"),
        ("resource", "https://b.example/"),
        ("scope", "read"),
    ] {
        assert_eq!(asked[0].form(name).as_deref(), Some(value), "{name}");
    }
    assert!(authorization(&engine, work(&spec)).await.unwrap_err().contains("caller's token"));
}

#[tokio::test]
async fn a_login_takes_its_steps_in_order_and_keeps_what_it_is_told() {
    let credential = format!(
        "{{login: {{secrets: {{user: ann, password: \"{SECRET}\"}}, steps: [\
         {{url: \"https://a.example/session\", headers: {{X-Key: \"{{base64(user ':' password)}}\"}}, json: {{user: \"{{user}}\", deep: [{{p: \"{{password}}\"}}]}}, response: {{access_token: none, keep: {{session: data.0.id}}}}}},\
         {{method: GET, url: \"https://a.example/token\", query: {{s: \"{{session}}\"}}, response: {{access_token: [wrong, t.x], expires_at: t.until, keep: {{region: region}}}}}}],\
         attach: {{header: {{X-Auth: \"Tok {{token}}\", X-Region: \"{{region}}\"}}}}}}}}"
    );
    let provider = Arc::new(Provider::default());
    provider.tells(&json!({"data": [{"id": "s/1"}]}));
    provider.tells(&json!({"t": {"x": "tt", "until": "2999-01-01T00:00:00Z"}, "region": 7}));
    let engine = engine(&provider, nowhere());
    let spec = spec(&credential);
    let (headers, _) = carried(&engine, work(&spec)).await.unwrap();
    assert_eq!(
        (&headers["x-auth"], &headers["x-region"]),
        (&"Tok tt".parse().unwrap(), &"7".parse::<http::HeaderValue>().unwrap())
    );
    let asked = provider.asked();
    assert_eq!(asked[0].json(), json!({"user": "ann", "deep": [{"p": "egret"}]}));
    assert_eq!(asked[0].headers["x-key"], "YW5uOmVncmV0");
    assert_eq!((asked[1].url.as_str(), asked[1].body.as_str()), ("https://a.example/token?s=s%2F1", ""));
}

#[tokio::test]
async fn a_github_app_asks_for_its_installation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pem");
    std::fs::write(&path, rsa_key()).unwrap();
    let credential = format!(
        "{{github_app: {{app_id: 7, installation_id: 9, private_key: \"file:{}\", repositories: [a], permissions: {{contents: read}}}}}}",
        path.display()
    );
    let (asked, carried) =
        asked(&credential, &[json!({"token": "ghs_x", "expires_at": "2999-01-01T00:00:00Z"})]).await;
    assert_eq!(carried, "Bearer ghs_x");
    assert_eq!(asked[0].url, "https://api.github.com/app/installations/9/access_tokens");
    assert_eq!(asked[0].json(), json!({"repositories": ["a"], "permissions": {"contents": "read"}}));
    let jwt = asked[0].headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let (header, claims) = claims(jwt);
    assert_eq!((&header["alg"], &claims["iss"]), (&json!("RS256"), &json!("7")));
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(issued <= now - 60 && expires <= now + 600 && expires > now, "{issued} {expires} {now}");
}

/// Made by whoever runs the tests: no key lies in the repository.
fn rsa_key() -> String {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap()
        .serialize_pem()
}

#[tokio::test]
async fn a_service_account_says_who_it_is_and_the_provider_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.json");
    let key = json!({
        "type": "service_account", "client_email": "bot@p.iam.example", "private_key_id": "kid", "private_key": rsa_key(),
        "token_uri": "https://evil.example/token",
    });
    std::fs::write(&path, key.to_string()).unwrap();
    let credential = format!(
        "{{service_account: {{key: \"file:{}\", scopes: [a, b], subject: ann@acme.example}}}}",
        path.display()
    );
    let (asked, carried) = asked(&credential, &[token()]).await;
    assert_eq!(
        (carried.as_str(), asked[0].url.as_str()),
        ("Bearer t0ken", "https://oauth2.googleapis.com/token")
    );
    let (header, claims) = claims(&asked[0].form("assertion").unwrap());
    assert_eq!(header["kid"], "kid");
    assert_eq!(claims["iss"], "bot@p.iam.example");
    assert_eq!(claims["sub"], "ann@acme.example");
    assert_eq!(
        (&claims["scope"], &claims["aud"]),
        (&json!("a b"), &json!("https://oauth2.googleapis.com/token"))
    );
}

#[tokio::test]
async fn a_federated_token_becomes_a_service_account_s() {
    let (asked, carried) = asked(
        &format!("{{workload_identity: {{audience: //iam.x/p, token: \"{SECRET}\", scopes: [s], service_account: a@p.example}}}}"),
        &[json!({"access_token": "fed", "expires_in": 3600}), json!({"accessToken": "sa", "expireTime": "2999-01-01T00:00:00Z"})],
    )
    .await;
    assert_eq!(carried, "Bearer sa");
    assert_eq!(asked[0].form("subject_token").as_deref(), Some("egret"));
    assert_eq!(
        asked[1].url,
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.example:generateAccessToken"
    );
    assert_eq!(asked[1].headers["authorization"], "Bearer fed");
    assert_eq!(asked[1].json(), json!({"scope": ["s"], "lifetime": "3600s"}));
}

#[tokio::test]
async fn a_token_that_egret_signs_needs_nobody() {
    let (asked, carried) = asked(
        &format!("{{jwt: {{secret: \"{SECRET}\", key_id: k, audience: /admin/, claims: {{a: b}}, attach: {{header: {{Authorization: \"Ghost {{token}}\"}}}}}}}}"),
        &[],
    )
    .await;
    assert!(asked.is_empty());
    let jwt = carried.strip_prefix("Ghost ").unwrap();
    let key = jsonwebtoken::DecodingKey::from_secret(b"egret");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.set_audience(&["/admin/"]);
    let decoded = jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap();
    assert_eq!((decoded.header.kid.as_deref(), &decoded.claims["a"]), (Some("k"), &json!("b")));
}
