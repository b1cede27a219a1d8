use std::{fs, time::Duration};

use crate::settings::{
    AccessKeyId, AwsSmKeys, Given, MountKind, SecretSource, Settings, Shown, VaultAuth, VaultSettings,
};

fn load(file: &str) -> (tempfile::TempDir, Result<(Settings, Vec<Shown>), String>) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("egret.yaml"), file).unwrap();
    let given = Given { places: vec![dir.path().join("egret.yaml")], ..Given::default() };
    (dir, Settings::load(&given).map_err(|error| error.to_string()))
}

const WHOLE: &str = r#"
sources:
  exec:
    helper: {command: [bin/helper, "--quiet"], env: {A: sk-hidden}, inherit: [B], timeout: 3s, cache: 1m}
    other: {command: [op, read]}
  vault:
    url: https://vault.example:8200
    namespace: team/a/
    auth: {kubernetes: {role: egret}}
  aws_sm: {region: eu-central-1, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: "env:SECRET"}
  remote:
    api:
      token_url: https://sts.example/token
      subject_token: "file:token"
      audience: [a, b]
      scope: read
      client_id: egret
      client_secret: "env:CLIENT"
store: {key: "exec:helper", old_keys: ["exec:other", "file:old"]}
"#;

#[test]
fn every_source_can_be_described() {
    let (dir, loaded) = load(WHOLE);
    let (settings, shown) = loaded.unwrap();
    let sources = &settings.sources;
    let helper = &sources.exec["helper"];
    let path = dir.path().join("bin/helper").to_str().unwrap().to_owned();
    assert_eq!(helper.command, [path, "--quiet".to_owned()]);
    assert_eq!((helper.timeout, helper.cache), (Duration::from_secs(3), Duration::from_secs(60)));
    assert_eq!(
        (sources.exec["other"].command[0].as_str(), sources.exec["other"].timeout.as_secs()),
        ("op", 10)
    );
    let VaultSettings { namespace, mount_kind, auth, .. } = sources.vault.as_ref().unwrap();
    assert_eq!((namespace.as_deref(), *mount_kind), (Some("team/a"), MountKind::Auto));
    let file = "/var/run/secrets/kubernetes.io/serviceaccount/token".into();
    let kubernetes =
        VaultAuth::Kubernetes { role: "egret".to_owned(), token_file: file, mount: "kubernetes".to_owned() };
    assert_eq!(*auth, kubernetes);
    let aws = sources.aws_sm.as_ref().unwrap();
    assert_eq!(aws.url.to_string(), "https://secretsmanager.eu-central-1.amazonaws.com/");
    let id = AccessKeyId::Text("AKIAIOSFODNN7EXAMPLE".to_owned());
    assert_eq!(
        aws.keys,
        AwsSmKeys::Given { id, secret: SecretSource::Env("SECRET".to_owned()), session: None }
    );
    let remote = &sources.remote["api"];
    assert_eq!(remote.subject_token, SecretSource::File(dir.path().join("token")));
    assert_eq!(
        (remote.audience.as_slice(), remote.scope.as_slice()),
        (&["a".into(), "b".into()][..], &["read".into()][..])
    );
    assert_eq!(settings.store.key, SecretSource::Exec(helper.clone()));
    assert_eq!(settings.store.old_keys[0], SecretSource::Exec(sources.exec["other"].clone()));

    // Whatever egret starts must not inherit them.
    let named: Vec<String> = settings.secret_sources().map(ToString::to_string).collect();
    assert!(["env:SECRET", "env:CLIENT"].iter().all(|one| named.iter().any(|name| name == one)), "{named:?}");
    assert_eq!(sources.inherited().collect::<Vec<_>>(), ["B"]);

    let value = |key: &str| shown.iter().find(|shown| shown.key == key).map(|shown| shown.value.as_str());
    assert_eq!(value("sources.vault.auth.kubernetes.role"), Some("egret"));
    assert_eq!(value("sources.remote.api.audience"), Some("a, b"));
    assert_eq!(value("sources.exec.helper.env"), Some("A"));
    let all = format!("{shown:?} {settings:?}");
    assert!(!all.contains("hidden") && !all.contains("--quiet"), "{all}");
}

#[test]
fn a_role_signs_in_the_place_of_keys() {
    let (dir, loaded) = load(
        "sources: {aws_sm: {region: cn-north-1, role_arn: 'arn:aws-cn:iam::1:role/egret', web_identity_token_file: token}}",
    );
    let aws = loaded.unwrap().0.sources.aws_sm.unwrap();
    let AwsSmKeys::Role { arn, token_file, sts } = aws.keys else { panic!("a role") };
    assert_eq!((arn.as_str(), token_file), ("arn:aws-cn:iam::1:role/egret", dir.path().join("token")));
    assert_eq!(sts.to_string(), "https://sts.cn-north-1.amazonaws.com.cn/");
}

#[test]
fn all_problems_of_all_sources_are_told_at_once_and_no_secret_is() {
    let (_dir, loaded) = load(
        r#"
sources:
  exec:
    a b: {command: [x]}
    empty: {}
    wrong: {command: [x], timeout: 0s, cache: soon, inherit: ["A=sk-hidden"]}
  vault:
    url: http://vault.example
    mount_kind: kv3
    auth: {token: sk-hidden, approle: {role_id: r, secret_id: sk-hidden}}
  aws_sm: {region: "Europe", access_key_id: "wJalrXUtnFEMI/hidden", secret_access_key: sk-hidden, sts_url: "https://x"}
  remote:
    r: {token_url: "https://sts.example/token?a=b", client_secret: "env:X"}
store: {key: "exec:absent"}
"#,
    );
    let text = loaded.map(drop).unwrap_err();
    for part in [
        "sources.exec: `a b` is no name",
        "egret.yaml:5:12: sources.exec.empty: `command` is missing",
        "sources.exec.wrong.timeout: a time above zero",
        "sources.exec.wrong.cache: a time is",
        "sources.vault.url: secrets come over https",
        "sources.vault.mount_kind: `auto`, `kv2` or `kv1`",
        "sources.vault.auth: exactly one of",
        "sources.aws_sm.region: a region such as",
        "sources.aws_sm.access_key_id: an id such as",
        "sources.aws_sm.secret_access_key: a reference",
        "sources.aws_sm: `sts_url` goes with `role_arn`",
        "sources.remote.r.token_url: the URL has no query",
        "sources.remote.r: `subject_token` is missing",
        "sources.remote.r: `client_secret` goes with `client_id`",
        "store.key: `exec:` is followed by the name of a program in `sources.exec`",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert!(!text.contains("sk-hidden\"") && !text.contains("wJalr"), "{text}");
    for (file, part) in [
        ("sources: {vault: {url: 'https://v', auth: {}}}", "sources.vault.auth: exactly one of"),
        ("sources: {vault: {url: 'https://v'}}", "sources.vault: `auth` is missing"),
        (
            "sources: {vault: {url: 'https://v', auth: {jwt: {role: r}}}}",
            "sources.vault.auth.jwt: `token` is missing",
        ),
        ("sources: {aws_sm: {region: r}}", "either `access_key_id` and `secret_access_key`, or `role_arn`"),
        ("sources: {op: {}}", "op"),
        ("sources: {exec: {a: {command: [x], shell: y}}}", "shell"),
    ] {
        let text = load(file).1.map(drop).unwrap_err();
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}
