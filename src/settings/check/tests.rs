use std::{collections::BTreeMap, fs};

use super::*;

fn given(file: &str, flags: &[(&str, &str)], env: &[(&str, &str)]) -> (tempfile::TempDir, Given) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("egret.yaml"), file).unwrap();
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let places = vec![dir.path().join("egret.yaml"), dir.path().join("absent.yaml")];
    (dir, Given { config: None, flags: map(flags), env: map(env), places })
}

fn problems(file: &str) -> String {
    let (_dir, given) = given(file, &[], &[]);
    Settings::load(&given).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn every_key_has_a_default() {
    let (_dir, given) = given("", &[], &[]);
    let (settings, shown) = Settings::load(&given).unwrap();
    assert_eq!(settings.proxy, "127.0.0.1:8080".parse().ok());
    assert!(shown.iter().all(|s| s.origin == Origin::Default));
}

#[test]
fn a_flag_is_before_the_environment_is_before_the_file() {
    let file = "listen: {proxy: '127.0.0.1:1', gateway: '127.0.0.1:2', admin: off}\n";
    let (_dir, given) = given(
        file,
        &[("listen.proxy", "127.0.0.1:9")],
        &[("EGRET_LISTEN_PROXY", "127.0.0.1:8"), ("EGRET_LISTEN_GATEWAY", "127.0.0.1:7")],
    );
    let (settings, shown) = Settings::load(&given).unwrap();
    assert_eq!(
        (settings.proxy, settings.gateway, settings.admin),
        ("127.0.0.1:9".parse().ok(), "127.0.0.1:7".parse().ok(), None)
    );
    let origin = |key: &str| shown.iter().find(|s| s.key == key).unwrap().origin.to_string();
    assert_eq!(
        (origin("listen.proxy"), origin("listen.gateway")),
        ("command line".into(), "environment EGRET_LISTEN_GATEWAY".into())
    );
    assert!(origin("listen.admin").ends_with("egret.yaml:1:63"), "{}", origin("listen.admin"));
}

#[test]
fn the_whole_file_of_the_documentation_loads() {
    let file = r#"
listen:   {proxy: "127.0.0.1:8080", gateway: "127.0.0.1:8081", admin: "127.0.0.1:9901"}
identity:
  issuers:
    - issuer: https://idp.acme.example
      jwks: {url: "https://idp.acme.example/jwks.json"}
      audience: egret
      algorithms: [ES256, EdDSA, RS256]
      max_lifetime: 1h
      claims: {tenant: [tenant_id, org_id], agent: [agent_id, act.sub, client_id], user: sub}
ca:       {dir: certs}
policy:   {dir: policies}
store:    {url: "sqlite:state/egret.db", key: "file:state/store.key"}
limits:   {backend: local}
audit:    {sinks: [stdout], durability: best_effort}
upstream: {extra_ca: [], proxy: null, connect_timeout: 10s}
"#;
    let (dir, given) = given(file, &[], &[]);
    let (settings, _) = Settings::load(&given).unwrap();
    assert_eq!(settings.issuers[0].claims.user, ["sub"]);
    assert_eq!(settings.policy, dir.path().join("policies"));
    assert_eq!(settings.store.url, StoreUrl::Sqlite(dir.path().join("state/egret.db")));
    assert_eq!(settings.store.key, SecretSource::File(dir.path().join("state/store.key")));
}

#[test]
fn the_url_of_the_store_holds_no_password() {
    for (url, expected) in [
        ("sqlite:a/b.db", StoreUrl::Sqlite("a/b.db".into())),
        ("sqlite:///var/b.db", StoreUrl::Sqlite("/var/b.db".into())),
        (
            "postgres://egret@db.example:5432/egret",
            StoreUrl::Postgres("postgres://egret@db.example:5432/egret".into()),
        ),
        ("env:DATABASE_URL", StoreUrl::Read(SecretSource::Env("DATABASE_URL".into()))),
        ("file:/run/url", StoreUrl::Read(SecretSource::File("/run/url".into()))),
    ] {
        let (_dir, given) = given("{}", &[("store.url", url)], &[]);
        assert_eq!(Settings::load(&given).unwrap().0.store.url, expected, "{url}");
    }
    for url in [
        "sqlite:",
        "sqlite::memory:?x",
        "mysql://x",
        "egret.db",
        "postgres://egret:hunter2@db.example/egret",
        "postgres://db.example/egret?password=hunter2",
        "postgres:hunter2",
        "off",
    ] {
        let (_dir, given) = given("{}", &[("store.url", url)], &[]);
        let text = Settings::load(&given).unwrap_err().to_string();
        assert!(text.contains("store.url: `sqlite:PATH`") && !text.contains("hunter2"), "{url}: {text}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = problems(
        "listen: {proxy: nowhere}\naudit: {sinks: [], durability: maybe}\nlimits: {backend: 'redis://r'}\nupstream: {proxy_credentials: hunter2, connect_timeout: 10}\n",
    );
    for part in [
        "egret.yaml:1:17: listen.proxy",
        "audit.sinks: the list is empty",
        "audit.durability",
        "limits.backend",
        "upstream.proxy_credentials",
        "upstream.connect_timeout",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_is_unknown_or_said_twice_is_refused() {
    assert!(problems("listen: {proxi: '127.0.0.1:1'}\n").contains("proxi"));
    assert!(problems("ca: {dir: a}\nca: {dir: b}\n").contains("duplicate"));
    let (_dir, given) = given("", &[("listen.proxi", "x")], &[]);
    assert!(Settings::load(&given).map(|_| ()).unwrap_err().to_string().contains("`listen.proxi` is no key"));
}

#[test]
fn an_ambient_listener_is_local() {
    let text = problems("listen: {ambient: [{address: '0.0.0.0:8082', token_file: /t}]}\n");
    assert!(text.contains("not a loopback address"), "{text}");
}

#[test]
fn keys_come_over_https() {
    let text = problems(
        "identity: {issuers: [{issuer: i, audience: egret, jwks: {url: 'http://idp.example/k'}}]}\n",
    );
    assert!(text.contains("https"), "{text}");
}
