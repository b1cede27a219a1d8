//! The laboratory of this room's tests: issuers with keys, a clock that stands still, and a network that counts.

mod callers;
mod claims;
mod forms;
mod keys;
mod rotation;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    Hints, IssuerConfig, KeySource, Verifier,
    clock::Clock,
    jwks::Surroundings,
    settings::{Algorithm, BadIssuers},
};
use crate::{
    audit::{Audit, Durability, SinkKind, Writer},
    context::{Channel, Identity},
    fetch::{Fetch, FetchError, FetchUrl, Fetched, Fetching},
    listen::UnverifiedToken,
    metrics::Metrics,
    refusal::Reason,
    target::{Authority, Path},
};

/// The moment at which the tests begin.
const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://idp.acme.example";

/// An ES256 key with its name.
struct Signer {
    key: KeyPair,
    kid: &'static str,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        Self { key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), kid }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key_raw();
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        })
    }

    /// A token of these claims under the usual header.
    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": "ES256", "kid": self.kid }), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// Signs whatever stands there, also what is no JSON.
    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256.of_library()).unwrap();
        format!("{signed}.{signature}")
    }
}

fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|s| s.jwk()).collect::<Vec<_>>() }).to_string()
}

/// Claims that are accepted, with `changes` laid over them; null takes a claim away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "egret", "sub": "u_81f3", "tenant_id": "t_acme", "agent_id": "triage-bot",
        "iat": NOW - 60, "exp": NOW + 600,
    });
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

/// A network of one document, which counts how often it is asked.
#[derive(Debug)]
struct Network {
    answer: Mutex<Result<String, &'static str>>,
    max_age: Mutex<Option<Duration>>,
    fetches: AtomicUsize,
    /// A fetch lands only with a permit, so that a test can hold it in the air.
    permits: Semaphore,
}

impl Network {
    fn with(answer: Result<String, &'static str>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(answer),
            max_age: Mutex::default(),
            fetches: AtomicUsize::new(0),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    fn answers(&self, answer: Result<String, &'static str>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Fetch for Network {
    fn get<'a>(&'a self, _: &'a FetchUrl, _: &'static str, _: usize, _: Duration) -> Fetching<'a> {
        Box::pin(async {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            let answer = self.answer.lock().unwrap().clone();
            let max_age = *self.max_age.lock().unwrap();
            answer
                .map(|text| Fetched { body: Bytes::from(text), max_age })
                .map_err(|e| FetchError(e.to_owned()))
        })
    }
}

fn url() -> KeySource {
    KeySource::Url(FetchUrl {
        authority: Authority::parse("idp.acme.example:443", None).unwrap(),
        path: Path::parse("/jwks.json").unwrap(),
        query: None,
        tls: true,
    })
}

/// A verifier and what it stands in.
struct Lab {
    verifier: Verifier,
    clock: Clock,
    network: Arc<Network>,
    audit: Audit,
    records: tempfile::NamedTempFile,
}

impl Lab {
    fn build(issuers: Vec<IssuerConfig>, network: Arc<Network>) -> Result<Self, BadIssuers> {
        let clock = Clock::manual(NOW);
        let metrics = Arc::new(Metrics::default());
        let records = tempfile::NamedTempFile::new().unwrap();
        let sinks = [SinkKind::File(records.path().to_owned())];
        let writer = Writer::start(&sinks, Durability::BestEffort, metrics.clone()).unwrap();
        let audit = Audit::new(writer, metrics.clone());
        let around =
            Surroundings { fetch: network.clone(), audit: audit.clone(), metrics, clock: clock.clone() };
        Ok(Self { verifier: Verifier::build(issuers, &around)?, clock, network, audit, records })
    }

    /// One issuer with these keys in memory, changed as the test wants.
    fn inline(keys: &[&Signer], change: impl FnOnce(&mut IssuerConfig)) -> Self {
        let mut config = IssuerConfig::new(ISSUER, KeySource::Inline(jwks(keys)), "egret");
        change(&mut config);
        Self::build(vec![config], Network::with(Err("no network"))).unwrap()
    }

    /// One issuer behind a URL.
    fn remote(answer: Result<String, &'static str>) -> Self {
        Self::build(vec![IssuerConfig::new(ISSUER, url(), "egret")], Network::with(answer)).unwrap()
    }

    async fn check(&self, token: &str) -> Result<Arc<Identity>, Reason> {
        self.verifier.check(Channel::ProxyBearer, &UnverifiedToken::new(token), Hints::default()).await
    }

    /// The codes of a refusal, or `ok`.
    async fn code(&self, token: &str) -> &'static str {
        match self.check(token).await {
            Ok(_) => "ok",
            Err(reason) => reason.facts().code,
        }
    }

    /// What the operator reads about a token that is invalid.
    async fn why(&self, token: &str) -> String {
        match self.check(token).await {
            Err(Reason::TokenInvalid { check }) => check,
            other => panic!("expected an invalid token, not {other:?}"),
        }
    }

    fn keys(&self) -> Arc<super::jwks::Keys> {
        self.verifier.keys(ISSUER).unwrap()
    }

    /// The events written so far. Ends the writer.
    fn events(&self, name: &str) -> usize {
        self.audit.close();
        let lines = std::fs::read_to_string(self.records.path()).unwrap();
        lines.lines().filter(|line| line.contains(&format!("\"event\":\"{name}\""))).count()
    }
}
