//! Secrets in the store, through the real binary: kept by one command, attached by another, never told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::{fs, process::Output};

use support::{Answer, Egret, House, Upstream, egret::command as egret, live::eventually};

const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles: {reader: [GET /**]}
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: 'secret:good/key'}}}
    agents: {bot: {good: reader}}
  zeta:
    integrations:
      good: {credential: {static: {bearer: 'secret:good/key'}}}
    agents: {bot: {good: reader}}
";

const FIRST: &str = "sk-planted-first-0123456789";
const SECOND: &str = "sk-planted-second-9876543210";

/// Asserts the exit code, and gives both outputs; no secret stands in them.
#[track_caller]
fn ends(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(!out.contains("planted") && !err.contains("planted"), "{out}{err}");
    (out.into_owned(), err.into_owned())
}

fn ask(egret: &Egret, who: &str) -> Answer {
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {}\r\n\r\n",
        egret.token(who)
    ));
    raw.answer()
}

const KEY: [&str; 4] = ["good/key", "--tenant", "acme", "--set=log=info"];

fn secret(verb: &str) -> Vec<&str> {
    [&["secret", verb][..], &KEY].concat()
}

#[test]
fn a_secret_is_kept_attached_rotated_and_removed_and_never_told() {
    let upstream = Upstream::echo("api.good.test");
    let house = House::new(POLICY).resolve("api.good.test", upstream.address);
    let dir = house.dir.path().to_owned();
    ends(&egret(&dir, &secret("rotate"), FIRST), 78);
    let (out, err) = ends(&egret(&dir, &secret("set"), &format!("{FIRST}\n")), 0);
    assert!(out.is_empty() && err.contains("`secret:good/key` in a policy"), "{out}{err}");
    assert!(err.contains("keep a copy of the key"), "{err}");
    let mut running = house.start();

    assert_eq!(ask(&running, "acme/bot").status, 200);
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {FIRST}")));
    let decision = running.decision("");
    assert_eq!(decision["credential"]["ref"], "secret:good/key", "{decision}");
    assert_eq!(decision["credential"]["masked"], "…6789");
    // The other tenant has none of this name.
    let refused = ask(&running, "zeta/bot");
    assert_eq!((refused.status, refused.code().as_str()), (403, "credential_missing"));
    assert!(
        running.decision("credential_missing")["reason"].as_str().unwrap().ends_with("is not in the store")
    );

    let (_, err) = ends(&egret(&dir, &secret("rotate"), SECOND), 0);
    assert!(!err.contains("keep a copy"), "{err}");
    eventually("the new secret", || {
        ask(&running, "acme/bot");
        (upstream.last().header("authorization") == Some(format!("Bearer {SECOND}"))).then_some(())
    });
    let (list, _) = ends(&egret(&dir, &["secret", "list"], ""), 0);
    assert!(
        list.starts_with("acme             good/key ") && list.contains("good/key") && list.contains("…3210"),
        "{list}"
    );
    let (json, _) = ends(&egret(&dir, &["secret", "list", "--tenant", "acme", "--json"], ""), 0);
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&line["name"], &line["masked"]), (&"good/key".into(), &"…3210".into()));

    ends(&egret(&dir, &secret("remove"), ""), 0);
    eventually("the refusal", || (ask(&running, "acme/bot").status == 403).then_some(()));
    ends(&egret(&dir, &secret("remove"), ""), 1);
    ends(&egret(&dir, &secret("rotate"), FIRST), 1);
    for entry in fs::read_dir(dir.join("state")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"planted"), "{}", path.display());
    }
}

#[test]
fn what_is_no_secret_or_no_store_is_said_and_changes_nothing() {
    let house = House::new(POLICY);
    let dir = house.dir.path();
    let (_, err) = ends(&egret(dir, &["secret", "list"], ""), 78);
    assert!(err.contains("egret store init"), "{err}");
    assert!(!dir.join("state").exists());
    for empty in ["", " \n"] {
        let (_, err) = ends(&egret(dir, &secret("set"), empty), 78);
        assert!(err.contains("is empty"), "{err}");
    }
    ends(&egret(dir, &secret("set"), &"k".repeat(70_000)), 78);
    for bad in [["a b", "--tenant", "acme"], ["a", "--tenant", "a/b"]] {
        ends(&egret(dir, &[&["secret", "set"][..], &bad].concat(), FIRST), 78);
    }
    assert!(!dir.join("state").exists(), "nothing was made");
    ends(&egret(dir, &["store", "init"], ""), 0);
    // A key that is lost is not replaced.
    ends(&egret(dir, &secret("set"), FIRST), 0);
    fs::remove_file(dir.join("state/store.key")).unwrap();
    let (_, err) = ends(&egret(dir, &secret("set"), SECOND), 78);
    assert!(err.contains("store.key"), "{err}");
    assert!(!dir.join("state/store.key").exists());
}

#[test]
fn the_stores_key_changes_while_egret_runs() {
    let upstream = Upstream::echo("api.good.test");
    let house = House::new(POLICY).resolve("api.good.test", upstream.address);
    let dir = house.dir.path().to_owned();
    ends(&egret(&dir, &secret("set"), FIRST), 0);
    let running = house.start();
    assert_eq!(ask(&running, "acme/bot").status, 200);

    fs::rename(dir.join("state/store.key"), dir.join("state/old.key")).unwrap();
    let key = egret(&dir, &["store", "init", "--set=store.url=sqlite:other.db"], "");
    ends(&key, 0);
    let both = ["--set=store.key=file:state/store.key", "--set=store.old_keys=file:state/old.key"];
    let (_, err) = ends(&egret(&dir, &[&["store", "rekey", "--data"][..], &both].concat(), ""), 0);
    assert!(err.contains("`file:state/store.key`: 1\n") && err.contains("data key: 1\n"), "{err}");
    // The one that runs has the old key alone, and the secret as it read it.
    assert_eq!(ask(&running, "acme/bot").status, 200);
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {FIRST}")));
    let (list, _) = ends(&egret(&dir, &["secret", "list"], ""), 0);
    assert!(list.contains("…6789"), "{list}");
}
