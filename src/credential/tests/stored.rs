//! Grants that are kept in the store: renewed once, by one process, and never lost. On SQLite, and on PostgreSQL where
//! `EGRET_TEST_POSTGRES` has the URL of a database.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{
        engine::{Engine, Refused, Work},
        usage::{Consequence, Usage},
    },
    minted::{authorization, carried, engine, key, work},
    provider::{Act, Provider},
};
use crate::{
    decide::test_credential_with,
    plan::{CredentialSpec, Obtained},
    secret::Secret,
    settings::StoreSettings,
    store::{Facts, LazyStore, Lease, Status, Store, Tokens, tests::places},
};

/// A grant of a provider whose refresh tokens behave like this.
pub(super) fn grant(rotation: &str) -> Arc<Obtained> {
    let providers = format!(
        "providers: {{idp: {{token_url: \"https://idp.example/token\", rotation: {rotation}, client_auth: post}}}}"
    );
    let credential = "{oauth: {provider: idp, client_id: me, client_secret: \"env:CARGO_PKG_NAME\"}}";
    match test_credential_with(credential, &providers) {
        CredentialSpec::Obtained(obtained) => obtained,
        CredentialSpec::Static(_) => panic!("not obtained"),
    }
}

pub(super) fn tokens(access: &str, refresh: Option<&str>) -> Tokens {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    Tokens { access_token: secret(access), refresh_token: refresh.map(secret), kept: Vec::new() }
}

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

/// A token that ends in so many seconds, and is renewed at once when it did.
pub(super) fn ends_in(seconds: i64) -> Facts {
    Facts { expires_at: Some(now() + seconds), renew_at: Some(now() + seconds), scopes: "a b".to_owned() }
}

fn answer(access: &str, refresh: Option<&str>) -> Value {
    let mut answer = json!({"access_token": access, "token_type": "Bearer", "expires_in": 3600});
    if let Some(refresh) = refresh {
        answer["refresh_token"] = json!(refresh);
    }
    answer
}

/// A provider, an engine over a new store, and the store.
struct House {
    provider: Arc<Provider>,
    engine: Arc<Engine>,
    store: Store,
    settings: StoreSettings,
    _dir: tempfile::TempDir,
}

impl House {
    /// In every kind of store.
    async fn all() -> Vec<Self> {
        let mut houses = Vec::new();
        for (dir, settings) in places().await {
            let store = Store::open_or_create(&settings).await.unwrap();
            let provider = Arc::new(Provider::default());
            let engine = engine(&provider, LazyStore::new(settings.clone()));
            houses.push(Self { provider, engine, store, settings, _dir: dir });
        }
        houses
    }

    async fn connect(&self, tokens: &Tokens, facts: &Facts) -> i64 {
        self.store.connect(&key(), tokens, facts).await.unwrap()
    }

    async fn status(&self) -> Status {
        self.store.connection_state(&key()).await.unwrap().unwrap().1
    }

    /// Another process with the same store and provider.
    fn again(&self) -> Arc<Engine> {
        engine(&self.provider, LazyStore::new(self.settings.clone()))
    }
}

#[tokio::test]
async fn a_token_that_is_good_is_used_and_one_that_ended_is_renewed_and_kept() {
    for house in House::all().await {
        let spec = grant("single_use");
        let error = authorization(&house.engine, work(&spec)).await.unwrap_err();
        assert_eq!(error, "credential_missing nobody connected it yet");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(3600)).await;
        // A missing connection is looked for again soon.
        while authorization(&house.engine, work(&spec)).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap(), "Bearer at-1");
        assert!(house.provider.asked().is_empty());

        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        house.provider.tells(&answer("at-2", Some("rt-2")));
        let other = house.again();
        assert_eq!(authorization(&other, work(&spec)).await.unwrap(), "Bearer at-2");
        let asked = house.provider.asked();
        assert_eq!(asked.len(), 1);
        for (name, value) in [
            ("grant_type", "refresh_token"),
            ("refresh_token", "rt-1"),
            ("client_id", "me"),
            ("client_secret", "egret"),
        ] {
            assert_eq!(asked[0].form(name).as_deref(), Some(value), "{name}");
        }
        // It was kept before it was used: another process asks nobody.
        assert_eq!(authorization(&house.again(), work(&spec)).await.unwrap(), "Bearer at-2");
        let row = house.store.connection(&key()).await.unwrap().unwrap();
        assert!(row.tokens.refresh_token.unwrap().matches(b"rt-2") && row.spending.is_none());
        assert_eq!(row.facts.scopes, "a b", "scopes that are not told again are still granted");
        assert_eq!(house.provider.asked().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_leaves_the_old_one() {
    for house in House::all().await {
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        house.provider.tells(&answer("at-2", None));
        assert_eq!(authorization(&house.engine, work(&grant("not_reissued"))).await.unwrap(), "Bearer at-2");
        let row = house.store.connection(&key()).await.unwrap().unwrap();
        assert!(row.tokens.refresh_token.unwrap().matches(b"rt-1"));
    }
}

#[tokio::test]
async fn a_revoked_grant_is_remembered_until_a_person_connects_it_anew() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        house.provider.refuses(400, &json!({"error": "invalid_grant", "error_description": "secret words"}));
        let failure = Usage::of_token(house.engine.clone(), work(&spec)).await.unwrap_err();
        let reason = failure.reason();
        assert_eq!(
            (reason.facts().code, reason.provider_error_code()),
            ("auth_revoked", Some("invalid_grant"))
        );
        assert_eq!(house.status().await, Status::Revoked);
        for engine in [house.engine.clone(), house.again()] {
            let error = authorization(&engine, work(&spec)).await.unwrap_err();
            assert_eq!(error, "auth_revoked ");
        }
        assert_eq!(house.provider.asked().len(), 1, "a dead grant is not sent again");
        house.connect(&tokens("at-9", Some("rt-9")), &ends_in(3600)).await;
        let began = std::time::Instant::now();
        while authorization(&house.engine, work(&spec)).await.is_err() {
            assert!(began.elapsed().as_secs() < 10);
            tokio::task::yield_now().await;
        }
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap(), "Bearer at-9");
    }
}

#[tokio::test]
async fn a_refusal_that_says_nothing_is_believed_after_a_few_times() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        for count in 1..=3 {
            house.provider.will(Act::Answer(400, Vec::new(), String::new()));
            // Each time another process, so that no pause is in the way; the count is one process's.
            assert_eq!(house.status().await, Status::Active, "{count}");
            while house.provider.asked().len() < count {
                let _ = authorization(&house.engine, work(&spec)).await;
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(house.status().await, Status::Revoked);
    }
}

#[tokio::test]
async fn what_a_provider_that_is_down_does_not_give_is_no_revocation() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        house.provider.will(Act::Answer(503, vec![("retry-after", "7")], "down".to_owned()));
        let reason = Usage::of_token(house.engine.clone(), work(&spec)).await.unwrap_err().reason();
        assert!(
            matches!(&reason, crate::refusal::Reason::TokenRefreshFailed { retry_after, .. } if retry_after.as_secs() == 7),
            "{reason:?}"
        );
        assert_eq!(house.status().await, Status::Active);
        let row = house.store.connection(&key()).await.unwrap().unwrap();
        assert_eq!(row.spending, None, "the provider answered, so it is known what became of the token");
        house.provider.tells(&answer("at-2", Some("rt-2")));
        assert_eq!(authorization(&house.again(), work(&spec)).await.unwrap(), "Bearer at-2");
    }
}

#[tokio::test]
async fn a_token_that_is_good_is_used_to_its_end_whatever_the_provider_says_meanwhile() {
    for house in House::all().await {
        let spec = grant("single_use");
        let due = Facts { renew_at: Some(now() - 1), ..ends_in(3600) };
        house.connect(&tokens("at-1", Some("rt-1")), &due).await;
        // Due, and good: it is renewed when it is read, and that fails.
        house.provider.will(Act::Unreachable);
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap(), "Bearer at-1");
        assert_eq!(house.provider.asked().len(), 1);
        // And not tried again at once, though it is in use.
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap(), "Bearer at-1");
        assert_eq!(house.provider.asked().len(), 1);
        // Nor does anybody wait for another process that renews it.
        assert!(house.store.lease(&key(), &Lease { holder: "other".to_owned() }, 60).await.unwrap());
        assert_eq!(authorization(&house.again(), work(&spec)).await.unwrap(), "Bearer at-1");
    }
}

#[tokio::test]
async fn nobody_knows_what_became_of_a_token_that_was_sent_without_an_answer() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        house.provider.will(Act::BreakOff);
        let error = authorization(&house.engine, work(&spec)).await.unwrap_err();
        assert_eq!(error, "token_refresh_failed broke off");
        assert_eq!(house.status().await, Status::Unknown);
        for engine in [house.engine.clone(), house.again()] {
            let reason = loop {
                match Usage::of_token(engine.clone(), work(&spec)).await.unwrap_err().reason() {
                    reason @ crate::refusal::Reason::AuthRevoked { .. } => break reason,
                    _ => tokio::task::yield_now().await,
                }
            };
            assert_eq!(reason.provider_error_code(), Some("outcome_unknown"));
        }
        assert_eq!(house.provider.asked().len(), 1, "a single-use token is not presented twice");

        // Where the old one stays good, it is simply tried again.
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        let spec = grant("replace_keep_old");
        house.provider.will(Act::BreakOff).tells(&answer("at-2", Some("rt-2")));
        assert!(
            authorization(&house.engine, work(&spec)).await.unwrap_err().starts_with("token_refresh_failed")
        );
        assert_eq!(house.status().await, Status::Active);
        assert_eq!(authorization(&house.again(), work(&spec)).await.unwrap(), "Bearer at-2");
    }
}

#[tokio::test]
async fn what_a_process_left_half_way_is_not_sent_again() {
    for house in House::all().await {
        for (rotation, is_sent) in [("single_use", false), ("not_reissued", true)] {
            let generation = house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
            // A process that takes the lease, writes down that it spends the token, and is gone.
            let lease = Lease { holder: "gone".to_owned() };
            assert!(house.store.lease(&key(), &lease, 0).await.unwrap());
            assert!(house.store.spend(&key(), generation, &lease).await.unwrap());
            let before = house.provider.asked().len();
            house.provider.tells(&answer("at-2", Some("rt-2")));
            let outcome = authorization(&house.again(), work(&grant(rotation))).await;
            assert_eq!(house.provider.asked().len() > before, is_sent, "{rotation}");
            if is_sent {
                assert_eq!(outcome.unwrap(), "Bearer at-2");
            } else {
                assert_eq!(outcome.unwrap_err(), "auth_revoked ");
                assert_eq!(house.status().await, Status::Unknown);
            }
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_believed() {
    for house in House::all().await {
        let spec = grant("single_use");
        let generation = house.connect(&tokens("at-1", Some("rt-1")), &ends_in(3600)).await;
        let usage = Usage::of_token(house.engine.clone(), work(&spec)).await.unwrap();
        let unauthorized = http::StatusCode::UNAUTHORIZED;
        let judged = usage.judge(&[], unauthorized, &http::HeaderMap::new(), None).await;
        assert!(matches!(judged, Consequence::Renew));
        house.provider.tells(&answer("at-2", Some("rt-2")));
        let mut usage = usage;
        let mut headers = http::HeaderMap::new();
        usage.renew(&mut headers, "/", None).await.unwrap();
        assert_eq!(headers["authorization"], "Bearer at-2");
        // Many in flight were refused with the old one: they take the new one, and nobody is asked again.
        let refused = Refused { serial: 0, generation: Some(generation) };
        let late = Work { refused: Some(refused), ..work(&spec) };
        assert_eq!(carried(&house.engine, late.clone()).await.unwrap().0["authorization"], "Bearer at-2");
        assert_eq!(
            house.again().obtain(late).await.unwrap().stored.as_ref().unwrap().generation,
            house.store.connection_state(&key()).await.unwrap().unwrap().0
        );
        // The new one is refused, too: another would not help.
        let error = usage.renew(&mut headers, "/", None).await.unwrap_err();
        assert_eq!(error.facts().code, "credential_rejected");
        assert_eq!(house.provider.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_an_operator_takes_back_is_not_used_a_second_later() {
    for house in House::all().await {
        let spec = grant("single_use");
        let generation = house.connect(&tokens("at-1", Some("rt-1")), &ends_in(3600)).await;
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap(), "Bearer at-1");
        house.store.set_status(&key(), generation, Status::Revoked).await.unwrap();
        let began = std::time::Instant::now();
        while authorization(&house.engine, work(&spec)).await.is_ok() {
            assert!(began.elapsed().as_millis() < 5000);
            tokio::task::yield_now().await;
        }
        assert_eq!(authorization(&house.engine, work(&spec)).await.unwrap_err(), "auth_revoked ");
    }
}

#[tokio::test]
async fn a_person_who_connects_anew_while_it_is_renewed_counts() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        let go = Arc::new(tokio::sync::Notify::new());
        let late = Act::Answer(200, Vec::new(), answer("at-2", Some("rt-2")).to_string());
        house.provider.will(Act::Wait(go.clone(), Box::new(late)));
        let (engine, order) = (house.engine.clone(), work(&spec));
        let renewing = tokio::spawn(async move { authorization(&engine, order).await });
        while house.provider.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        house.connect(&tokens("at-9", Some("rt-9")), &ends_in(3600)).await;
        go.notify_one();
        assert_eq!(renewing.await.unwrap().unwrap(), "Bearer at-9");
        let row = house.store.connection(&key()).await.unwrap().unwrap();
        assert!(row.tokens.refresh_token.unwrap().matches(b"rt-9"));
    }
}

/// Two processes, and all that come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_in_two_processes_one_renews() {
    for house in House::all().await {
        let spec = grant("single_use");
        house.connect(&tokens("at-1", Some("rt-1")), &ends_in(-1)).await;
        let go = Arc::new(tokio::sync::Notify::new());
        let late = Act::Answer(200, Vec::new(), answer("at-2", Some("rt-2")).to_string());
        house.provider.will(Act::Wait(go.clone(), Box::new(late)));
        let engines = [house.again(), house.again()];
        let requests: Vec<_> = engines
            .iter()
            .flat_map(|engine| (0..500).map(|_| (engine.clone(), work(&spec))))
            .map(|(engine, work)| tokio::spawn(async move { authorization(&engine, work).await }))
            .collect();
        while house.provider.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap(), "Bearer at-2");
        }
        assert_eq!(house.provider.asked().len(), 1, "one token request");
        assert_eq!(house.status().await, Status::Active);
    }
}
