//! Secrets from outside of egret, through the real binary: a program, and a Vault that speaks HTTPS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use support::{Answer, Egret, House, Upstream, egret::command as egret, upstream::full};

const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles: {reader: [GET /**]}
tenants:
  acme:
    integrations:
      good: {credential: {static: CREDENTIAL}}
    agents: {bot: {good: reader}}
  zeta:
    integrations:
      good: {credential: {static: CREDENTIAL}}
    agents: {bot: {good: reader}}
";

fn house(credential: &str, upstream: &Upstream, sources: &str) -> House {
    House::new(&POLICY.replace("CREDENTIAL", credential))
        .resolve("api.good.test", upstream.address)
        .settings(sources)
}

fn ask(egret: &Egret, who: &str) -> Answer {
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {}\r\n\r\n",
        egret.token(who)
    ));
    raw.answer()
}

#[test]
fn a_program_brings_the_secret_and_sees_none_of_egrets_own() {
    let upstream = Upstream::echo("api.good.test");
    let sources = "sources:\n  exec:\n    helper: {command: [/bin/sh, -c, 'echo run >> \"$RUNS\"; echo sk-planted-$MINE-0123456789$OTHER'], \
                   env: {RUNS: RUNS_FILE}, inherit: [MINE]}\n";
    let house = house("{bearer: 'exec:helper'}", &upstream, "").env("MINE", "mine").env("OTHER", "other");
    let runs = house.path("runs");
    let mut running = house.settings(&sources.replace("RUNS_FILE", runs.to_str().unwrap())).start();
    for who in ["acme/bot", "acme/bot", "zeta/bot"] {
        assert_eq!(ask(&running, who).status, 200);
        let sent = upstream.last().header("authorization");
        assert_eq!(sent.as_deref(), Some("Bearer sk-planted-mine-0123456789"));
    }
    let decision = running.decision("");
    assert_eq!(decision["credential"]["ref"], "exec:helper", "{decision}");
    assert_eq!(
        fs::read_to_string(&runs).unwrap(),
        "run\n",
        "tenants share what the operator's program brought"
    );
    assert!(!running.everything().contains("planted"));
}

#[test]
fn a_program_that_fails_is_told_to_the_operator_and_not_repeated() {
    let upstream = Upstream::echo("api.good.test");
    let sources = "sources: {exec: {helper: {command: [/bin/sh, -c, 'echo sk-planted; echo sk-planted >&2; exit 4']}}}\n";
    let mut running = house("{bearer: 'exec:helper'}", &upstream, sources).start();
    let answer = ask(&running, "acme/bot");
    assert_eq!((answer.status, answer.code().as_str()), (503, "credential_unavailable"));
    let decision = running.decision("credential_unavailable");
    assert!(decision["reason"].as_str().unwrap().contains("`exec:helper` ended with code 4"), "{decision}");
    assert!(upstream.seen().is_empty());
    assert!(!running.everything().contains("planted"));
}

#[test]
fn vault_brings_both_halves_of_one_secret_and_sealed_it_brings_none() {
    let upstream = Upstream::echo("api.good.test");
    let sealed = Arc::new(AtomicBool::new(false));
    let vault = Upstream::https1("vault.good.test", {
        let sealed = sealed.clone();
        move |seen| {
            let told = |body: serde_json::Value| full(200, &[], body.to_string());
            if sealed.load(Ordering::Relaxed) {
                return full(503, &[], "{\"errors\": [\"sealed\"]}");
            }
            let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let login = json!({"role_id": "egret", "secret_id": "planted-secret-id"});
            let is_known = seen.header("x-vault-token").as_deref() == Some("hvs.planted");
            match seen.target.as_str() {
                "/v1/auth/approle/login" if body == login => told(
                    json!({"auth": {"client_token": "hvs.planted", "lease_duration": 600, "renewable": true}}),
                ),
                "/v1/sys/internal/ui/mounts/secret/egret/api" if is_known => {
                    told(json!({"data": {"path": "secret/", "type": "kv", "options": {"version": "2"}}}))
                }
                "/v1/secret/data/egret/api" if is_known => {
                    told(json!({"data": {"data": {"user": "heron", "key": "planted-key"}, "metadata": {}}}))
                }
                _ => full(403, &[], "{\"errors\": [\"permission denied\"]}"),
            }
        }
    });
    let sources = "sources: {vault: {url: 'https://vault.good.test', auth: {approle: {role_id: egret, secret_id: 'file:secret-id'}}}}\n";
    let credential = "{basic: {user: 'vault:secret/egret/api#user', password: 'vault:secret/egret/api#key'}}";
    let house = |sealed_first: bool| {
        sealed.store(sealed_first, Ordering::Relaxed);
        house(credential, &upstream, sources)
            .resolve("vault.good.test", vault.address)
            .file("secret-id", "planted-secret-id\n")
            .start()
    };
    let running = house(false);
    for who in ["acme/bot", "zeta/bot"] {
        assert_eq!(ask(&running, who).status, 200);
        // base64 of `heron:planted-key`
        assert_eq!(
            upstream.last().header("authorization").as_deref(),
            Some("Basic aGVyb246cGxhbnRlZC1rZXk=")
        );
    }
    assert_eq!(vault.seen().len(), 3, "a login, a question for the mount, and one read");
    assert!(!running.everything().contains("planted"));

    let mut running = house(true);
    let answer = ask(&running, "acme/bot");
    assert_eq!((answer.status, answer.code().as_str()), (503, "credential_unavailable"));
    let decision = running.decision("credential_unavailable");
    assert!(decision["reason"].as_str().unwrap().contains("Vault answered 503"), "{decision}");
}

#[test]
fn the_key_of_the_store_may_come_from_a_program() {
    let house = House::new(&POLICY.replace("CREDENTIAL", "{bearer: 'secret:key'}")).settings(
        "sources: {exec: {kek: {command: [/bin/cat, kek]}, broken: {command: [/bin/sh, -c, 'exit 5']}}}\n\
         store: {key: 'exec:kek'}\n",
    );
    let house = house.file("kek", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n");
    house.write_settings();
    let dir = house.dir.path();
    let set = |more: &[&str]| {
        egret(dir, &[&["secret", "set", "key", "--tenant", "acme"], more].concat(), "sk-planted")
    };
    assert_eq!(set(&[]).status.code(), Some(0));
    assert!(!dir.join("state/store.key").exists());
    let list = egret(dir, &["secret", "list"], "");
    assert_eq!(list.status.code(), Some(0));
    // Another key opens nothing, and a program that fails none.
    fs::write(dir.join("kek"), "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n").unwrap();
    assert_ne!(egret(dir, &["secret", "set", "other", "--tenant", "acme"], "x").status.code(), Some(0));
    let failed = egret(dir, &["secret", "list", "--set", "store.key=exec:broken"], "");
    let error = String::from_utf8_lossy(&failed.stderr);
    assert!(failed.status.code() == Some(69) && error.contains("`exec:broken` ended with code 5"), "{error}");
}

#[test]
fn a_check_says_which_sources_no_settings_describe_and_runs_nothing() {
    let house = House::new(&POLICY.replace("CREDENTIAL", "{header: {A: 'exec:helper', B: 'vault:kv/a#b'}}"));
    house.write_settings();
    let dir = house.dir.path();
    let check = |what: &[&str]| {
        let output = egret(dir, &[&["check", "policies"], what].concat(), "");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0));
    for part in [
        "warning[unresolved-secret]: `exec:helper` is not described: the settings have no `sources.exec.helper`",
        "describe it as `sources.exec.helper` in the settings",
        "warning[unresolved-secret]: `vault:kv/a#b` is not described: the settings have no `sources.vault`",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let described = house.settings(
        "sources:\n  exec: {helper: {command: [/bin/sh, -c, 'echo > ran']}}\n  \
         vault: {url: 'https://vault.good.test', auth: {token: 'env:T'}}\n",
    );
    described.write_settings();
    let output = egret(described.dir.path(), &["check", "policies"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("unresolved-secret") && !described.path("ran").exists(), "{said}");
    let shown = egret(described.dir.path(), &["config", "show"], "");
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.contains("sources.exec.helper.timeout") && shown.contains("https://vault.good.test"),
        "{shown}"
    );
}
