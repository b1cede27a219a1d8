pub(super) mod kill;
mod minted;
pub(super) mod provider;
mod quirks;
mod stored;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{placement::Prepared, *};
use crate::{
    fetch::{Call, Calling},
    plan::{CredentialSpec, Half, Intercept, Keep, Placement, PrivateReach, SecretRef, Service, StripPlan},
    secret::Secret,
    settings::{SecretSource, StoreSettings, StoreUrl},
    store::{LazyStore, SecretName, Store},
};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> SecretRef {
        fs::write(self.path(name), text).unwrap();
        SecretRef::File(self.path(name))
    }
}

/// A store that is not there.
fn nowhere() -> LazyStore {
    stored_in(Path::new("/nonexistent"))
}

fn stored_in(dir: &Path) -> LazyStore {
    LazyStore::new(settings(dir))
}

fn settings(dir: &Path) -> StoreSettings {
    StoreSettings {
        url: StoreUrl::Sqlite(dir.join("egret.db")),
        key: SecretSource::File(dir.join("store.key")),
        old_keys: Vec::new(),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A network on which nothing answers.
#[derive(Debug)]
struct Silence;

impl Calls for Silence {
    fn call<'c>(&'c self, _: Call<'c>) -> Calling<'c> {
        Box::pin(std::future::pending())
    }
}

/// Secrets in a store, and nowhere else.
fn origins(store: LazyStore) -> Origins {
    Origins { store, outside: Outside::default() }
}

/// Credentials without providers.
fn credentials(store: LazyStore) -> Credentials {
    let make = async {
        Credentials::new(
            origins(store),
            Arc::new(Silence),
            Arc::default(),
            TaskTracker::new(),
            Links::default(),
        )
    };
    wait(make)
}

fn read(placements: &[Placement]) -> Result<Arc<Prepared>, source::Missing> {
    let (origins, tenant) = (origins(nowhere()), TenantId::parse("t").unwrap());
    wait(Static::read(placements, Sources { origins: &origins, tenant: &tenant })).map(|fixed| fixed.prepared)
}

impl Credentials {
    /// What is attached for a plan whose secrets are attached as they are.
    async fn prepare(&self, tenant: &TenantId, plan: &Plan) -> Result<Arc<Prepared>, Reason> {
        let placements = plan.credential.as_ref().unwrap().placements();
        self.fixed(tenant, plan, placements).await.map(|fixed| fixed.prepared.clone())
    }
}

/// What is sent for a request to `/bot0/send?a=1`: the value of the first header, path and query.
fn sent(placement: Placement) -> Result<(HeaderMap, String), String> {
    let prepared = read(&[placement]).map_err(|missing| missing.to_string())?;
    let mut headers = HeaderMap::new();
    let outgoing =
        prepared.apply(&mut headers, "/bot0/send", Some("a=1")).map_err(|reason| reason.detail())?;
    Ok((headers, outgoing.as_str().to_owned()))
}

fn authorization(placement: Placement) -> Result<String, String> {
    sent(placement).map(|(headers, _)| headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
}

#[test]
fn a_bearer_secret_is_trimmed_and_not_doubled() {
    let files = Files::new();
    for text in ["sk-0123", "sk-0123\n", " sk-0123\r\n\n", "Bearer sk-0123", "bearer  sk-0123\n"] {
        assert_eq!(
            authorization(Placement::Bearer(files.put("a", text))).unwrap(),
            "Bearer sk-0123",
            "{text:?}"
        );
    }
}

#[test]
fn a_secret_that_cannot_be_a_header_is_refused_without_being_told() {
    let files = Files::new();
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"Bearer ", "is empty"),
        (b"sk-top\r\nX-Injected: sk-top", "holds a line break or another control character in its middle"),
        (b"sk-top\0sk-top", "holds a line break or another control character in its middle"),
        (&vec![b'k'; 65537], "is larger than 65536 bytes"),
    ];
    for (text, flaw) in cases {
        let reference = files.put("a", text);
        assert_eq!(
            authorization(Placement::Bearer(reference.clone())).unwrap_err(),
            format!("`{reference}` {flaw}")
        );
    }
}

#[test]
fn what_is_not_there_is_named() {
    let files = Files::new();
    let missing = |reference: SecretRef| authorization(Placement::Bearer(reference)).unwrap_err();
    assert_eq!(
        missing(SecretRef::Env("EGRET_TEST_NOT_SET".into())),
        "`env:EGRET_TEST_NOT_SET` is not set in the environment of egret"
    );
    assert!(missing(SecretRef::File(files.path("nothing"))).contains("cannot be read: No such file"));
    assert!(missing(SecretRef::File(files.0.path().into())).ends_with("is not a regular file"));
    assert!(missing(SecretRef::File(Path::new("/dev/zero").into())).ends_with("is not a regular file"));
}

#[test]
fn the_environment_is_read() {
    assert_eq!(
        authorization(Placement::Bearer(SecretRef::Env("CARGO_PKG_NAME".into()))).unwrap(),
        "Bearer egret"
    );
}

#[test]
fn basic_has_two_halves_of_any_kind() {
    let files = Files::new();
    let constant = |text: &str| Half::Constant(text.into());
    let basic = |user, password| authorization(Placement::Basic { user, password });
    let key = || Half::Secret(files.put("key", "sk_live_1\n"));
    assert_eq!(basic(key(), constant("")).unwrap(), "Basic c2tfbGl2ZV8xOg==");
    assert_eq!(basic(constant("x-access-token"), key()).unwrap(), "Basic eC1hY2Nlc3MtdG9rZW46c2tfbGl2ZV8x");
    assert_eq!(basic(constant(""), key()).unwrap(), "Basic OnNrX2xpdmVfMQ==");
    let colon = Half::Secret(files.put("colon", "user:password"));
    assert!(basic(colon, constant("")).unwrap_err().contains("RFC 7617"));
}

#[test]
fn a_header_replaces_all_that_was_there_and_is_marked_sensitive() {
    let files = Files::new();
    let prepared = read(&[
        Placement::Header {
            name: HeaderName::from_static("x-key"),
            prefix: "Token ".into(),
            secret: files.put("key", "token s3cr3t"),
        },
        Placement::Constant {
            name: HeaderName::from_static("x-version"),
            value: HeaderValue::from_static("2026-01-01"),
        },
    ])
    .unwrap_or_else(|missing| panic!("{missing}"));
    let mut headers = HeaderMap::new();
    headers.append("x-key", HeaderValue::from_static("C"));
    headers.append("x-key", HeaderValue::from_static("D"));
    prepared.apply(&mut headers, "/", None).unwrap();
    assert_eq!(headers.get_all("x-key").iter().collect::<Vec<_>>(), ["Token s3cr3t"]);
    assert_eq!(format!("{:?}", headers["x-key"]), "Sensitive");
    assert_eq!(headers["x-version"], "2026-01-01");
}

#[test]
fn a_query_parameter_is_encoded_and_comes_last() {
    let files = Files::new();
    let prepared = |name: &str| {
        let secret = files.put("key", "a/b&c=d;e#f+g h");
        read(&[Placement::Query { name: name.into(), secret }]).ok().unwrap()
    };
    let apply =
        |query| prepared("key").apply(&mut HeaderMap::new(), "/p", query).unwrap().as_str().to_owned();
    assert_eq!(apply(Some("a=1;b=%7e")), "/p?a=1;b=%7e&key=a%2Fb%26c%3Dd%3Be%23f%2Bg%20h");
    assert_eq!(apply(Some("")), "/p?key=a%2Fb%26c%3Dd%3Be%23f%2Bg%20h");
    assert_eq!(apply(None), "/p?key=a%2Fb%26c%3Dd%3Be%23f%2Bg%20h");
}

#[test]
fn a_path_segment_takes_the_secret_in_the_place_of_what_the_client_wrote() {
    let files = Files::new();
    let secret = files.put("token", "123:A/B?C");
    let placement = |before: &[&str], prefix: &str, suffix: &str| Placement::Path {
        before: before.iter().map(|literal| (*literal).to_owned()).collect(),
        prefix: prefix.into(),
        suffix: suffix.into(),
        secret: secret.clone(),
    };
    let path = |placement, path: &str| {
        let prepared = read(&[placement]).ok().unwrap();
        prepared
            .apply(&mut HeaderMap::new(), path, None)
            .map(|sent| sent.as_str().to_owned())
            .map_err(|reason| reason.detail())
    };
    assert_eq!(path(placement(&[], "bot", ""), "/botX/getMe").unwrap(), "/bot123:A%2FB%3FC/getMe");
    assert_eq!(path(placement(&[], "bot", ""), "/bot/getMe/").unwrap(), "/bot123:A%2FB%3FC/getMe/");
    assert_eq!(
        path(placement(&["v1", "k"], "", ".json"), "/v1/k/x.json").unwrap(),
        "/v1/k/123:A%2FB%3FC.json"
    );
    for unfit in ["/", "/file/botX/getMe", "/Bot/getMe"] {
        let detail = path(placement(&[], "bot", ""), unfit).unwrap_err();
        assert_eq!(detail, "the path has no place for the credential: it begins with `/bot*`");
    }
    assert!(path(placement(&["v1"], "", ".json"), "/v2/x.json").is_err());
    assert!(path(placement(&["v1"], "ab", "bc"), "/v1/abc").is_err());
}

#[test]
fn a_path_that_is_too_long_is_refused_without_being_told() {
    let reason = placement::without_secret(&format!("/{}", "x".repeat(70_000)), None).unwrap_err();
    assert_eq!(reason.facts().code, "request_malformed");
    assert_eq!(placement::without_secret("/a", Some("")).unwrap().as_str(), "/a?");
}

#[test]
fn what_was_sent_is_looked_for_in_the_answer() {
    let files = Files::new();
    let basic = Placement::Basic {
        user: Half::Constant("alice".into()),
        password: Half::Secret(files.put("password", "0123456789abk9Qz")),
    };
    let prepared = read(&[basic]).ok().unwrap();
    let needles = prepared.needles().unwrap();
    let scrubbed = |text: &'static str| {
        needles.scrub_header(&HeaderValue::from_static(text)).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(scrubbed("Basic YWxpY2U6MDEyMzQ1Njc4OWFiazlReg=="), Some("Basic [redacted]".into()));
    assert_eq!(scrubbed("alice:0123456789abk9Qz"), Some("[redacted]".into()));
    assert_eq!(scrubbed("0123456789abk9Qz"), Some("[redacted]".into()));
    assert_eq!(scrubbed("alice"), None);

    let record = prepared.record();
    assert_eq!(record.masked.as_deref(), Some("…k9Qz"));
    assert_eq!(*record.reference, *format!("file:{}", files.path("password").display()));
}

#[test]
fn a_short_secret_shows_nothing_in_the_log() {
    let files = Files::new();
    let prepared = read(&[Placement::Bearer(files.put("a", "0123456789abcde"))]).ok().unwrap();
    assert_eq!(prepared.record().masked, None);
}

#[test]
fn a_constant_is_no_secret() {
    let placement =
        Placement::Constant { name: HeaderName::from_static("x-v"), value: HeaderValue::from_static("1") };
    let prepared = read(&[placement]).ok().unwrap();
    assert!(prepared.needles().is_none());
}

fn plan(placement: Placement) -> Plan {
    Plan {
        integration_id: IntegrationId::parse("acme").unwrap(),
        service: Arc::new(Service {
            id: crate::context::ServiceId::parse("acme").unwrap(),
            scheme: crate::target::Scheme::Https,
            intercept: Intercept::Always,
            private: PrivateReach::Nowhere,
            strip: StripPlan::default(),
            keep: Keep::default(),
            max_body: None,
            via: true,
            response_timeout: None,
            errors: Box::default(),
        }),
        credential: Some(CredentialSpec::Static(Box::new([placement]))),
        certificate: None,
        limits: Arc::new([]),
    }
}

fn bearer_of(credentials: &Credentials, tenant: &str, plan: &Plan) -> Result<String, String> {
    let tenant = TenantId::parse(tenant).unwrap();
    let prepared = wait(credentials.prepare(&tenant, plan))
        .map_err(|reason| reason.for_operator().unwrap().to_owned())?;
    let mut headers = HeaderMap::new();
    prepared.apply(&mut headers, "/", None).unwrap();
    Ok(headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
}

#[test]
fn a_changed_file_is_read_again_and_a_lost_one_is_not_remembered() {
    let files = Files::new();
    let credentials = credentials(nowhere());
    let plan = plan(Placement::Bearer(files.put("a", "first")));
    assert_eq!(bearer_of(&credentials, "t", &plan).unwrap(), "Bearer first");
    files.put("a", "other"); // the same length, within one tick of the clock
    assert_eq!(bearer_of(&credentials, "t", &plan).unwrap(), "Bearer other");
    fs::remove_file(files.path("a")).unwrap();
    assert!(bearer_of(&credentials, "t", &plan).unwrap_err().contains("cannot be read"));
    files.put("a", "third");
    assert_eq!(bearer_of(&credentials, "t", &plan).unwrap(), "Bearer third");
}

#[test]
fn a_swapped_link_is_noticed() {
    use std::os::unix::fs::symlink;
    let files = Files::new();
    for (name, text) in [("..1", "first"), ("..2", "second")] {
        fs::create_dir(files.path(name)).unwrap();
        fs::write(files.path(name).join("token"), text).unwrap();
    }
    symlink("..1", files.path("..data")).unwrap();
    symlink("..data/token", files.path("token")).unwrap();
    let credentials = credentials(nowhere());
    let plan = plan(Placement::Bearer(SecretRef::File(files.path("token"))));
    assert_eq!(bearer_of(&credentials, "t", &plan).unwrap(), "Bearer first");
    symlink("..2", files.path("..new")).unwrap();
    fs::rename(files.path("..new"), files.path("..data")).unwrap();
    assert_eq!(bearer_of(&credentials, "t", &plan).unwrap(), "Bearer second");
}

#[test]
fn a_settled_secret_is_prepared_once_for_each_tenant() {
    let files = Files::new();
    let credentials = credentials(nowhere());
    let plan = plan(Placement::Bearer(files.put("a", "first")));
    std::thread::sleep(Duration::from_millis(120)); // the kernel's own clock stamps the file
    let prepare = |tenant: &str| wait(credentials.prepare(&TenantId::parse(tenant).unwrap(), &plan)).unwrap();
    assert!(Arc::ptr_eq(&prepare("t_a"), &prepare("t_a")));
    assert!(!Arc::ptr_eq(&prepare("t_a"), &prepare("t_b")));
}

#[test]
fn a_reloaded_policy_with_another_credential_is_followed() {
    let files = Files::new();
    let credentials = credentials(nowhere());
    let [one, other] = ["one", "other"].map(|text| plan(Placement::Bearer(files.put(text, text))));
    assert_eq!(bearer_of(&credentials, "t", &one).unwrap(), "Bearer one");
    assert_eq!(bearer_of(&credentials, "t", &other).unwrap(), "Bearer other");
    assert_eq!(bearer_of(&credentials, "t", &one).unwrap(), "Bearer one");
}

#[test]
fn nothing_prints_a_secret() {
    let outgoing = Outgoing {
        path_and_query: PathAndQuery::from_static("/bot-secret?key=secret"),
        needles: None,
        usage: None,
        links: Links::default(),
        certificate: None,
    };
    assert_eq!(format!("{outgoing:?}"), "Outgoing(..)");
    assert!(!format!("{:?}", credentials(nowhere())).contains("secret"));
}

#[tokio::test]
async fn a_stored_secret_is_its_tenants_alone_and_followed_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&settings(dir.path())).await.unwrap();
    let tenant = |name: &str| TenantId::parse(name).unwrap();
    let name = SecretName::parse("key").unwrap();
    let set = async |of: &str, value: &str| {
        store.set_secret(&tenant(of), &name, &Secret::new(value.as_bytes().to_vec())).await.unwrap();
    };
    let credentials = Credentials::new(
        origins(stored_in(dir.path())),
        Arc::new(Silence),
        Arc::default(),
        TaskTracker::new(),
        Links::default(),
    );
    let plan = plan(Placement::Bearer(SecretRef::Store(SecretName::parse("key").unwrap())));
    let bearer = async |of: &str| {
        let prepared = credentials
            .prepare(&tenant(of), &plan)
            .await
            .map_err(|reason| (reason.facts().code, reason.for_operator().unwrap().to_owned()))?;
        let mut headers = HeaderMap::new();
        prepared.apply(&mut headers, "/", None).unwrap();
        Ok::<_, (&str, String)>(headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
    };
    set("acme", "first").await;
    assert_eq!(bearer("acme").await.unwrap(), "Bearer first");
    let (code, what) = bearer("zeta").await.unwrap_err();
    assert_eq!((code, what.as_str()), ("credential_missing", "`secret:key` is not in the store"));
    set("acme", "second").await;
    let changed = Instant::now();
    while bearer("acme").await.unwrap() == "Bearer first" {
        assert!(changed.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    store.remove_secret(&tenant("acme"), &name).await.unwrap();
    while bearer("acme").await.is_ok() {
        assert!(changed.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    assert_eq!(bearer("acme").await.unwrap_err().0, "credential_missing");
}

#[test]
fn a_store_that_is_not_there_is_missing_and_one_that_cannot_be_used_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(Placement::Bearer(SecretRef::Store(SecretName::parse("key").unwrap())));
    let code = || {
        let credentials = credentials(stored_in(dir.path()));
        wait(credentials.prepare(&TenantId::parse("t").unwrap(), &plan)).err().unwrap().facts().code
    };
    assert_eq!(code(), "credential_missing");
    fs::write(
        dir.path().join("egret.db"),
        "this is no database, and long enough to be told from an empty one",
    )
    .unwrap();
    assert_eq!(code(), "credential_unavailable");
}
