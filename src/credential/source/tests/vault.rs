use serde_json::{Value, json};

use super::*;
use crate::{
    fetch::FetchUrl,
    settings::{MountKind, SecretSource, VaultAuth, VaultSettings},
};

struct Vault {
    dir: tempfile::TempDir,
    house: House,
}

impl Vault {
    fn new(mount_kind: MountKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token_file = put(dir.path(), "jwt", "pod-1\n");
        let auth = VaultAuth::Kubernetes { role: "egret".into(), token_file, mount: "kubernetes".into() };
        Self { house: House::new(&settings(mount_kind, auth)), dir }
    }

    fn tells(&self, body: &Value) -> &Self {
        self.house.provider.tells(body);
        self
    }

    fn refuses(&self, status: u16) -> &Self {
        self.house.provider.refuses(status, &json!({"errors": ["sk-hidden"]}));
        self
    }

    async fn read(&self, reference: &str) -> Result<String, (String, bool)> {
        self.house.read(&vault(reference)).await
    }
}

fn settings(mount_kind: MountKind, auth: VaultAuth) -> SourceSettings {
    let url = FetchUrl::parse("https://vault.example:8200").unwrap();
    let vault = VaultSettings { url, namespace: Some("team".into()), mount_kind, auth };
    SourceSettings { vault: Some(vault), ..Default::default() }
}

fn vault(reference: &str) -> SecretRef {
    let (path, field) = reference.split_once('#').unwrap();
    SecretRef::Vault { path: path.into(), field: field.into() }
}

fn login(token: &str, lasts: u64) -> Value {
    json!({"auth": {"client_token": token, "lease_duration": lasts, "renewable": true}})
}

fn kv2(data: &Value) -> Value {
    json!({"lease_id": "", "data": {"data": data, "metadata": {"version": 1}}})
}

fn lease(id: &str, lasts: u64, password: &str) -> Value {
    json!({"lease_id": id, "lease_duration": lasts, "renewable": true, "data": {"username": format!("u-{password}"), "password": password}})
}

#[tokio::test(start_paused = true)]
async fn two_fields_of_a_secret_are_one_login_and_one_read() {
    let vault = Vault::new(MountKind::Kv2);
    vault.tells(&login("hvs.1", 600)).tells(&kv2(&json!({"user": "u", "key": " k\n", "port": 7, "no": ""})));
    assert_eq!(vault.read("secret/egret/app#key").await.unwrap(), "k");
    assert_eq!(vault.read("secret/egret/app#user").await.unwrap(), "u");
    assert_eq!(vault.read("secret/egret/app#port").await.unwrap(), "7");
    let asked = vault.house.asked();
    let urls: Vec<&str> = asked.iter().map(|asked| asked.url.as_str()).collect();
    let base = "https://vault.example:8200/v1";
    assert_eq!(urls, [format!("{base}/auth/kubernetes/login"), format!("{base}/secret/data/egret/app")]);
    assert_eq!(asked[0].json(), json!({"role": "egret", "jwt": "pod-1"}));
    let header =
        |asked: &Asked, name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header(&asked[0], "x-vault-token"), None);
    assert_eq!(header(&asked[1], "x-vault-token").unwrap(), "hvs.1");
    assert!(asked.iter().all(|asked| header(asked, "x-vault-namespace").unwrap() == "team"));
    assert!(asked[1].headers["x-vault-token"].is_sensitive());
    let why = |reference: &str, why: &str| Err((format!("`vault:{reference}` {why}"), false));
    assert_eq!(vault.read("secret/egret/app#x").await, why("secret/egret/app#x", "has no field `x`"));
    assert_eq!(vault.read("secret/egret/app#no").await, why("secret/egret/app#no", "is empty"));
}

#[tokio::test(start_paused = true)]
async fn a_kept_secret_is_read_again_after_half_a_minute() {
    let vault = Vault::new(MountKind::Kv2);
    let reference = self::vault("secret/app#key");
    vault.tells(&login("hvs.1", 600)).tells(&kv2(&json!({"key": "1"})));
    let first = vault.house.sources().read(&reference).await.unwrap();
    advance(Duration::from_secs(29)).await;
    assert!(vault.house.sources().is_fresh(&reference, &first.stamp).await);
    assert_eq!(vault.house.asked().len(), 2);
    vault.tells(&kv2(&json!({"key": "1"})));
    advance(Duration::from_secs(2)).await;
    assert!(
        vault.house.sources().is_fresh(&reference, &first.stamp).await,
        "the same value is the same version"
    );
    vault.tells(&kv2(&json!({"key": "2"})));
    advance(Duration::from_secs(31)).await;
    assert!(!vault.house.sources().is_fresh(&reference, &first.stamp).await);
    assert_eq!((vault.read("secret/app#key").await.unwrap().as_str(), vault.house.asked().len()), ("2", 2));
}

#[tokio::test(start_paused = true)]
async fn while_vault_is_away_the_last_value_counts_for_a_minute() {
    for status in [0, 429, 472, 473, 500, 503, 307] {
        let vault = Vault::new(MountKind::Kv2);
        vault.tells(&login("hvs.1", 6000)).tells(&kv2(&json!({"key": "1"})));
        assert_eq!(vault.read("secret/app#key").await.unwrap(), "1");
        for after in [31, 30, 28] {
            if status > 0 {
                vault.refuses(status);
            }
            advance(Duration::from_secs(after)).await;
            assert_eq!(vault.read("secret/app#key").await.unwrap(), "1", "{status}");
        }
        if status > 0 {
            vault.refuses(status);
        }
        advance(Duration::from_secs(3)).await;
        let (why, is_transient) = vault.read("secret/app#key").await.unwrap_err();
        assert!(is_transient && why.starts_with("`vault:secret/app#key` cannot be read: "), "{why}");
        assert!(!why.contains("hidden"), "{why}");
        vault.house.asked();
        // Not every request asks.
        assert!(vault.read("secret/app#key").await.is_err() && vault.house.asked().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_removed_is_not_used_again() {
    let vault = Vault::new(MountKind::Kv2);
    vault.tells(&login("hvs.1", 600)).tells(&kv2(&json!({"key": "1"})));
    assert_eq!(vault.read("secret/app#key").await.unwrap(), "1");
    vault.house.provider.refuses(404, &kv2(&Value::Null));
    advance(Duration::from_secs(31)).await;
    let gone = Err(("`vault:secret/app#key` is not in Vault (404)".to_owned(), false));
    assert_eq!(vault.read("secret/app#key").await, gone);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_followed_by_one_new_login_with_the_token_of_now() {
    let vault = Vault::new(MountKind::Kv2);
    vault.tells(&login("hvs.1", 600)).tells(&kv2(&json!({"key": "1"})));
    assert_eq!(vault.read("secret/app#key").await.unwrap(), "1");
    vault.house.asked();
    put(vault.dir.path(), "jwt", "pod-2");
    vault.refuses(403).tells(&login("hvs.2", 600)).tells(&kv2(&json!({"key": "2"})));
    advance(Duration::from_secs(31)).await;
    assert_eq!(vault.read("secret/app#key").await.unwrap(), "2");
    let asked = vault.house.asked();
    assert_eq!(asked[1].json()["jwt"], "pod-2");
    assert_eq!(asked[2].headers["x-vault-token"], "hvs.2");

    // A path without a policy: a login does not help, and is not tried each time.
    vault.refuses(403);
    let why =
        "`vault:secret/other#key` is not given: Vault answered 403, so its role has no policy for this path";
    assert_eq!(vault.read("secret/other#key").await, Err((why.to_owned(), false)));
    assert_eq!(vault.house.paths(), ["secret/data/other"]);
    advance(Duration::from_secs(31)).await;
    vault.refuses(403).tells(&login("hvs.3", 600)).refuses(403);
    assert_eq!(vault.read("secret/other#key").await, Err((why.to_owned(), false)));
    assert_eq!(vault.house.paths(), ["secret/data/other", "auth/kubernetes/login", "secret/data/other"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_its_end_and_another_one_got_where_that_is_refused() {
    let vault = Vault::new(MountKind::Kv2);
    let value = kv2(&json!({"key": "1"}));
    vault.tells(&login("hvs.1", 600)).tells(&value);
    vault.read("secret/app#key").await.unwrap();
    vault.house.asked();
    vault.tells(&login("hvs.1", 600)).tells(&value);
    advance(Duration::from_secs(401)).await;
    vault.read("secret/app#key").await.unwrap();
    assert_eq!(vault.house.paths(), ["auth/token/renew-self", "secret/data/app"]);
    // Renewed for 600 s, counted from then.
    vault.tells(&value);
    advance(Duration::from_secs(390)).await;
    vault.read("secret/app#key").await.unwrap();
    assert_eq!(vault.house.paths(), ["secret/data/app"]);
    // Refused, and then shorter than half of what it was.
    vault.refuses(403).tells(&login("hvs.2", 600)).tells(&value);
    advance(Duration::from_secs(31)).await;
    vault.read("secret/app#key").await.unwrap();
    assert_eq!(vault.house.paths(), ["auth/token/renew-self", "auth/kubernetes/login", "secret/data/app"]);
    vault.tells(&login("hvs.2", 200)).tells(&login("hvs.3", 600)).tells(&value);
    advance(Duration::from_secs(401)).await;
    vault.read("secret/app#key").await.unwrap();
    let asked = vault.house.asked();
    assert_eq!(asked[2].headers["x-vault-token"], "hvs.3");
    // Vault is away, and the token is still good.
    vault.refuses(503).tells(&value);
    advance(Duration::from_secs(401)).await;
    vault.read("secret/app#key").await.unwrap();
    assert_eq!(vault.house.asked()[1].headers["x-vault-token"], "hvs.3");
}

#[tokio::test(start_paused = true)]
async fn the_kind_of_a_mount_is_found_out_once() {
    let vault = Vault::new(MountKind::Auto);
    let mount = |path: &str, kind: &str, version: &str| json!({"data": {"path": path, "type": kind, "options": {"version": version}}});
    vault.tells(&login("hvs.1", 6000)).tells(&mount("team/kv/", "kv", "2")).tells(&kv2(&json!({"a": "1"})));
    assert_eq!(vault.read("team/kv/app/x#a").await.unwrap(), "1");
    assert_eq!(
        vault.house.paths(),
        ["auth/kubernetes/login", "sys/internal/ui/mounts/team/kv/app/x", "team/kv/data/app/x"]
    );
    vault.tells(&kv2(&json!({"a": "2"})));
    assert_eq!(vault.read("team/kv/other#a").await.unwrap(), "2");
    assert_eq!(vault.house.paths(), ["team/kv/data/other"]);
    vault.tells(&mount("old/", "kv", "1")).tells(&json!({"data": {"a": "3"}, "lease_duration": 2_764_800}));
    assert_eq!(vault.read("old/x#a").await.unwrap(), "3");
    assert_eq!(vault.house.paths(), ["sys/internal/ui/mounts/old/x", "old/x"]);
    // Vault does not say it: what can be read does.
    vault.refuses(403).tells(&kv2(&json!({"a": "4"})));
    assert_eq!(vault.read("hidden/x#a").await.unwrap(), "4");
    vault.tells(&kv2(&json!({"a": "5"})));
    assert_eq!(vault.read("hidden/y#a").await.unwrap(), "5");
    assert_eq!(vault.house.paths(), ["sys/internal/ui/mounts/hidden/x", "hidden/data/x", "hidden/data/y"]);
    vault.refuses(403).refuses(403).tells(&lease("l-1", 600, "p"));
    assert_eq!(vault.read("database/creds/r#password").await.unwrap(), "p");
    assert_eq!(
        vault.house.paths(),
        ["sys/internal/ui/mounts/database/creds/r", "database/data/creds/r", "database/creds/r"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_made_to_last_at_half_its_time_and_another_one_got_where_that_is_refused() {
    let vault = Vault::new(MountKind::Kv1);
    let both = [self::vault("db/creds/r#username"), self::vault("db/creds/r#password")];
    let read = async || {
        let all = vault.house.sources().read_all(&both.each_ref()).await.unwrap();
        all.iter().map(shown).collect::<Vec<_>>()
    };
    vault.tells(&login("hvs.1", 6000)).tells(&lease("l-1", 600, "p1"));
    assert_eq!(read().await, ["u-p1", "p1"]);
    assert_eq!(vault.house.paths(), ["auth/kubernetes/login", "db/creds/r"]);
    advance(Duration::from_secs(299)).await;
    assert_eq!((read().await, vault.house.paths().len()), (vec!["u-p1".into(), "p1".into()], 0));
    // Nobody waits for it: the old one is still good. The duration that is answered counts: 400 s.
    let renewed = json!({"lease_id": "l-1", "lease_duration": 400, "renewable": true});
    vault.tells(&renewed);
    advance(Duration::from_secs(2)).await;
    assert_eq!(read().await, ["u-p1", "p1"]);
    tokio::task::yield_now().await;
    let asked = vault.house.asked();
    assert_eq!(asked[0].json(), json!({"lease_id": "l-1", "increment": "600"}));
    advance(Duration::from_secs(199)).await;
    assert_eq!((read().await, vault.house.paths().len()), (vec!["u-p1".into(), "p1".into()], 0));
    // Refused: user and password of the next one.
    vault.refuses(400).tells(&lease("l-2", 600, "p2"));
    advance(Duration::from_secs(200)).await;
    assert_eq!(read().await, ["u-p2", "p2"]);
    assert_eq!(vault.house.paths(), ["sys/leases/renew", "db/creds/r"]);
    // Away: in use to its end, and no longer.
    advance(Duration::from_secs(590)).await;
    assert_eq!(read().await, ["u-p2", "p2"]);
    advance(Duration::from_secs(6)).await;
    let (why, is_transient) = vault.read("db/creds/r#password").await.unwrap_err();
    assert!(is_transient, "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_the_token_that_got_it() {
    let vault = Vault::new(MountKind::Kv1);
    vault.tells(&login("hvs.1", 100)).tells(&lease("l-1", 6000, "p1"));
    assert_eq!(vault.read("db/creds/r#password").await.unwrap(), "p1");
    vault.house.asked();
    vault.refuses(403).tells(&login("hvs.2", 100)).tells(&lease("l-2", 6000, "p2"));
    advance(Duration::from_secs(99)).await;
    assert_eq!(vault.read("db/creds/r#password").await.unwrap(), "p2");
    assert_eq!(vault.house.paths(), ["auth/token/renew-self", "auth/kubernetes/login", "db/creds/r"]);
}

#[tokio::test(start_paused = true)]
async fn two_fields_that_are_read_together_are_of_one_lease_also_at_its_end() {
    let vault = Vault::new(MountKind::Kv1);
    let all = ["db/creds/r#username", "kv/slow#a", "db/creds/r#password"].map(self::vault);
    let answers = Arc::new(tokio::sync::Notify::new());
    vault.tells(&login("hvs.1", 6000)).tells(&lease("l-1", 100, "p1"));
    let slow = Act::Answer(200, vec![], json!({"data": {"a": "x"}}).to_string());
    vault.house.provider.will(Act::Wait(answers.clone(), Box::new(slow)));
    vault.refuses(400).tells(&lease("l-2", 100, "p2"));
    // The lease is over before its second field is read.
    let (reading, all) = (vault.house.sources(), all.each_ref());
    let (read, ()) = tokio::join!(reading.read_all(&all), async {
        while vault.house.provider.asked().len() < 3 {
            tokio::task::yield_now().await;
        }
        advance(Duration::from_secs(200)).await;
        answers.notify_one();
    });
    assert_eq!(read.unwrap().iter().map(shown).collect::<Vec<_>>(), ["u-p1", "x", "p1"]);
    assert_eq!(vault.read("db/creds/r#password").await.unwrap(), "p2");
}

#[tokio::test(start_paused = true)]
async fn every_login_says_who_egret_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| SecretSource::File(put(dir.path(), name, text));
    let value = kv2(&json!({"a": "1"}));
    for (auth, path, body) in [
        (
            VaultAuth::Jwt { role: "r".into(), token: file("jwt", "j"), mount: "gitlab".into() },
            "auth/gitlab/login",
            json!({"role": "r", "jwt": "j"}),
        ),
        (
            VaultAuth::AppRole {
                role_id: "i".into(),
                secret_id: file("secret", "s"),
                mount: "approle".into(),
            },
            "auth/approle/login",
            json!({"role_id": "i", "secret_id": "s"}),
        ),
    ] {
        let house = House::new(&settings(MountKind::Kv2, auth));
        house.provider.tells(&login("hvs.1", 600)).tells(&value);
        assert_eq!(house.read(&vault("secret/x#a")).await.unwrap(), "1");
        let asked = house.asked();
        assert!(asked[0].url.ends_with(path), "{}", asked[0].url);
        assert_eq!(asked[0].json(), body);
    }
    let house = House::new(&settings(MountKind::Kv2, VaultAuth::Token(file("token", "hvs.own\n"))));
    house.provider.tells(&json!({"data": {"ttl": 600, "renewable": false}})).tells(&value);
    assert_eq!(house.read(&vault("secret/x#a")).await.unwrap(), "1");
    let asked = house.asked();
    assert!(asked[0].url.ends_with("auth/token/lookup-self"));
    assert!(asked.iter().all(|asked| asked.headers["x-vault-token"] == "hvs.own"));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_says_why_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::new(MountKind::Kv2);
    vault.refuses(400);
    let why = "`vault:secret/x#a` cannot be read: Vault refuses the login by kubernetes (400)";
    assert_eq!(vault.read("secret/x#a").await, Err((why.to_owned(), false)));
    advance(Duration::from_secs(3)).await;
    vault.refuses(503);
    assert!(vault.read("secret/x#a").await.unwrap_err().1);
    let auth = VaultAuth::Kubernetes {
        role: "r".into(),
        token_file: dir.path().join("absent"),
        mount: "kubernetes".into(),
    };
    let house = House::new(&settings(MountKind::Kv2, auth));
    let (why, is_transient) = house.refused(&self::vault("secret/x#a")).await;
    assert!(why.contains("absent` cannot be read: No such file") && !is_transient, "{why}");
}
