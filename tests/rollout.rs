//! The life of a policy outside of `serve`: formatted, drafted from a shadow log, signed, and named by its commit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test that cannot go on fails; counters are whole numbers"
)]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
};

use support::{
    Egret, House, Upstream,
    egret::{BINARY, command},
    live::eventually,
    upstream::full,
};

/// Runs a command of egret's in a directory, with an empty environment.
fn egret(dir: &Path, args: &[&str]) -> Output {
    command(dir, args, "")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts the exit code, and gives standard output.
#[track_caller]
fn ends(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
    out(output)
}

const UNTIDY: &str = "version:   1   # one\ntenants:\n    t: {}\n";
const TIDY: &str = "version: 1 # one\ntenants:\n  t: {}\n";

#[test]
fn a_policy_is_formatted_in_place_and_keeps_its_mode_and_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("policies/deeper")).unwrap();
    for name in ["policies/a.yaml", "policies/deeper/b.yml", "policies/.hidden.yaml", "policies/notes.txt"] {
        fs::write(at(name), UNTIDY).unwrap();
    }
    fs::write(at("elsewhere.yaml"), UNTIDY).unwrap();
    symlink("../elsewhere.yaml", at("policies/link.yaml")).unwrap();
    fs::set_permissions(at("policies/a.yaml"), fs::Permissions::from_mode(0o640)).unwrap();

    let listed = ends(&egret(dir.path(), &["fmt", "--check"]), 1);
    assert_eq!(listed, "policies/a.yaml\npolicies/deeper/b.yml\npolicies/link.yaml\n");
    assert_eq!(fs::read_to_string(at("policies/a.yaml")).unwrap(), UNTIDY, "nothing is written");

    assert_eq!(ends(&egret(dir.path(), &["fmt"]), 0), "");
    for name in ["policies/a.yaml", "policies/deeper/b.yml", "elsewhere.yaml"] {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), TIDY, "{name}");
    }
    assert!(fs::symlink_metadata(at("policies/link.yaml")).unwrap().is_symlink());
    assert_eq!(fs::metadata(at("policies/a.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_to_string(at("policies/.hidden.yaml")).unwrap(), UNTIDY);
    assert_eq!(fs::read_dir(at("policies")).unwrap().count(), 5, "nothing is left behind");
    assert_eq!(ends(&egret(dir.path(), &["fmt", "--check"]), 0), "");
}

#[test]
fn standard_input_is_formatted_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ends(&command(dir.path(), &["fmt", "-"], UNTIDY), 0), TIDY);
    assert_eq!(ends(&command(dir.path(), &["fmt", "--check", "-"], UNTIDY), 1), "(standard input)\n");
    assert_eq!(ends(&command(dir.path(), &["fmt", "--check", "-"], TIDY), 0), "");
}

#[test]
fn what_is_no_yaml_is_shown_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.yaml"), "version: 1\ntenants: [\n").unwrap();
    let output = egret(dir.path(), &["fmt", "bad.yaml"]);
    assert_eq!(ends(&output, 1), "");
    assert!(err(&output).contains("bad.yaml:2:"), "{}", err(&output));
    assert_eq!(fs::read_to_string(dir.path().join("bad.yaml")).unwrap(), "version: 1\ntenants: [\n");
    ends(&egret(dir.path(), &["fmt", "nowhere.yaml"]), 1);
}

const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles:
      reader: [GET /**]
tenants:
  acme:
    integrations:
      good: {credential: none}
    agents:
      bot: {good: reader}
";

/// Sends one request and gives the record of its decision.
fn decide(egret: &mut Egret) -> serde_json::Value {
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {}\r\n\r\n",
        egret.token("acme/bot")
    ));
    assert_eq!(raw.answer().status, 200);
    egret.decision("")
}

const SIGNED: &str = "policy: {verify: required, keys: [policy.key.pub], state: policy.state}\n";

/// A house with a key; what `sign` signs is its policy.
fn signed_house(upstream: &Upstream) -> House {
    let house = House::new(POLICY).resolve("api.good.test", upstream.address).settings(SIGNED);
    ends(&egret(house.dir.path(), &["policy", "keygen", "--out", "policy.key"]), 0);
    house.write_settings();
    house
}

fn sign(dir: &Path, revision: &str, more: &[&str]) -> Output {
    let args = ["policy", "sign", "policies", "--key", "policy.key", "--revision", revision];
    egret(dir, &[&args, more].concat())
}

#[test]
fn a_key_pair_is_made_and_only_its_public_half_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let output = egret(dir.path(), &["policy", "keygen", "--out", "policy.key"]);
    let public = ends(&output, 0);
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"), "{public}");
    assert_eq!(fs::read_to_string(at("policy.key.pub")).unwrap(), public);
    let private = fs::read_to_string(at("policy.key")).unwrap();
    assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let inside = private.lines().nth(1).unwrap();
    assert!(!format!("{public}{}", err(&output)).contains(inside));
    assert_eq!(fs::metadata(at("policy.key")).unwrap().permissions().mode() & 0o777, 0o600);
    ends(&egret(dir.path(), &["policy", "keygen", "--out", "policy.key"]), 78);
    assert_eq!(fs::read_to_string(at("policy.key")).unwrap(), private, "a key is never replaced");
}

#[test]
fn a_policy_that_must_be_signed_is_loaded_by_nobody_before_it_is() {
    let house = signed_house(&Upstream::echo("api.good.test"));
    let dir = house.dir.path();
    let explain = ["explain", "GET https://api.good.test/a", "--as", "acme/bot"];
    let unsigned = egret(dir, &["check"]);
    ends(&unsigned, 1);
    assert!(err(&unsigned).contains("policy.manifest.json: no such file"), "{}", err(&unsigned));
    ends(&egret(dir, &explain), 78);
    // What is about to be signed can be checked before.
    ends(&egret(dir, &["check", "policies"]), 0);
    ends(&sign(dir, "1", &["--expires", "7d"]), 0);
    ends(&egret(dir, &["check"]), 0);
    ends(&egret(dir, &explain), 0);
    ends(&sign(dir, "1", &[]), 78);
    assert!(fs::read_dir(house.path("policies")).unwrap().count() == 3, "nothing is left behind");

    fs::remove_file(house.path("policies/policy.manifest.sig")).unwrap();
    fs::remove_file(house.path("policies/policy.manifest.json")).unwrap();
    let (code, said) = house.fail();
    assert_eq!(code, Some(78));
    assert!(said.contains("`policy.verify` is `required`"), "{said}");
}

#[test]
fn verification_without_a_key_is_no_setting() {
    let (code, said) = House::new(POLICY).settings("policy: {verify: required}\n").fail();
    assert_eq!(code, Some(78));
    assert!(said.contains("`required` needs `policy.keys`"), "{said}");
    let (code, said) =
        House::new(POLICY).settings("policy: {verify: required, keys: [upstream-ca.pem]}\n").fail();
    assert_eq!(code, Some(78));
    assert!(said.contains("not an Ed25519 public key"), "{said}");
}

#[test]
fn a_bundle_replaces_only_older_ones_also_after_a_restart() {
    let upstream = Upstream::echo("api.good.test");
    let house = signed_house(&upstream);
    ends(&sign(house.dir.path(), "1", &[]), 0);
    let mut egret = house.start();
    let record = decide(&mut egret);
    assert_eq!(record["policy"]["revision"], "bundle:1");
    assert_eq!(egret.metric("egret_policy_expires_timestamp_seconds"), 0.0);
    let read = |name: &str| fs::read(egret.house.path("policies").join(name)).unwrap();
    let files = ["policy.yaml", "policy.manifest.json", "policy.manifest.sig"];
    let first = files.map(|name| (name, read(name)));

    // Somebody changes a file.
    egret.replace("policies/policy.yaml", &format!("{POLICY}# changed\n"));
    egret.record(|r| r["event"] == "policy_rejected");
    egret.message("`policy.yaml` is not the file that was signed");
    assert_eq!(decide(&mut egret)["policy"]["revision"], "bundle:1");
    let (status, text) = egret.page("/readyz");
    assert_eq!(status, 200);
    assert!(text.contains("note: the policy files as they are now are not in force"), "{text}");

    // It is signed.
    ends(&sign(egret.dir(), "2", &[]), 0);
    egret.record(|r| r["event"] == "policy_loaded" && r["revision"] == "bundle:2");
    assert_eq!(decide(&mut egret)["policy"]["revision"], "bundle:2");

    // The first bundle comes back.
    for (name, bytes) in first {
        fs::write(egret.house.path("policies").join(name), bytes).unwrap();
    }
    egret.message("the bundle has revision 1, and 2 was in force before");
    assert_eq!(decide(&mut egret)["policy"]["revision"], "bundle:2");
    egret.kill();
    let again = Command::new(BINARY)
        .args(["serve", "--config", "egret.yaml"])
        .current_dir(egret.dir())
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(78));
    assert!(err(&again).contains("the bundle has revision 1, and 2 was in force before"), "{}", err(&again));
}

#[test]
fn a_bundle_that_ends_while_it_is_in_force_stays_and_readiness_ends() {
    let upstream = Upstream::echo("api.good.test");
    let house = signed_house(&upstream);
    ends(&sign(house.dir.path(), "1", &["--expires", "3s"]), 0);
    let mut egret = house.start();
    assert!(egret.metric("egret_policy_expires_timestamp_seconds") > 1.7e9);
    eventually("not ready any more", || (egret.page("/readyz").0 == 503).then_some(()));
    let (_, text) = egret.page("/readyz");
    assert!(text.starts_with("pending: a policy that is not past its time (it expired at 20"), "{text}");
    let expired = egret.record(|r| r["event"] == "policy_expired");
    assert_eq!(expired["revision"], "bundle:1");
    assert_eq!(decide(&mut egret)["policy"]["revision"], "bundle:1");
    // A newer one mends it.
    ends(&sign(egret.dir(), "2", &["--expires", "1h"]), 0);
    egret.record(|r| r["event"] == "policy_loaded" && r["revision"] == "bundle:2");
    assert_eq!(egret.page("/readyz").0, 200);
}

#[test]
fn a_policy_in_a_work_tree_is_called_by_its_commit() {
    let upstream = Upstream::echo("api.good.test");
    let house = House::new(POLICY).resolve("api.good.test", upstream.address);
    let commit = "1f3a9c0b7d2e4f5061728394a5b6c7d8e9f00112";
    fs::create_dir_all(house.path(".git/refs/heads")).unwrap();
    let house = house
        .file(".git/HEAD", "ref: refs/heads/main\n")
        .file(".git/refs/heads/main", &format!("{commit}\n"));
    let mut egret = house.start();
    let record = decide(&mut egret);
    assert_eq!(record["policy"]["revision"], "git:1f3a9c0b7d2e");
    let hash = record["policy"]["hash"].clone();
    // Its own word is stronger.
    egret.replace("policies/policy.yaml", &format!("{POLICY}revision: mine\n"));
    egret.record(|r| r["event"] == "policy_loaded" && r["revision"] == "mine");
    // The next commit is noticed when the files are.
    fs::write(egret.house.path(".git/refs/heads/main"), commit.replace("1f3a", "2b00")).unwrap();
    egret.replace("policies/policy.yaml", POLICY);
    egret.record(|r| {
        r["event"] == "policy_loaded" && r["revision"] == "git:2b009c0b7d2e" && r["hash"] == hash
    });
}

/// A log by hand: two shadowed kinds, an allowed one, and what a report leaves out.
fn log() -> String {
    let record = |at: &str, id: &str, more: serde_json::Value| {
        let mut record = serde_json::json!({
            "v": 1, "ts": format!("2026-11-24T{at}.774398Z"), "event": "decision", "decision_id": id,
            "correlation_id": format!("run-{id}"), "tenant_id": "acme", "agent_id": "triage-bot",
            "decision": "deny", "enforced": false, "code": "action_denied",
            "reason": "triage-bot (acme) may use github-acme as reader; POST /repos/acme/app/issues needs writer",
            "policy": {"revision": "r", "hash": "h", "rule": null, "grant": null, "guards": []},
            "integration_id": "github-acme", "service": "github", "role": "reader",
            "http": {"request_method": "POST", "host": "api.github.com", "port": 443,
                     "path": "/repos/acme/app/issues/17", "response_status_code": null},
        });
        for (key, value) in more.as_object().unwrap() {
            record[key] = value.clone();
        }
        format!("{record}\n")
    };
    let elsewhere = serde_json::json!({
        "agent_id": "k8s/ns/bot", "code": "destination_not_allowed", "reason": "no integration covers it",
        "integration_id": null, "service": null, "role": null,
        "http": {"request_method": "GET", "host": "crm.acme.example", "port": 8443,
                 "path": "/v1/customers/cus_9s6XKzkNRiz8i3", "response_status_code": null},
    });
    let guarded = serde_json::json!({
        "reason": "deletions are made by people",
        "policy": {"guards": ["guards[0]"]},
        "http": {"request_method": "DELETE", "host": "api.github.com", "port": 443,
                 "path": "/repos/acme/app", "response_status_code": null},
    });
    [
        record("10:05:13", "01", serde_json::json!({})),
        record("10:04:00", "02", serde_json::json!({})),
        "half a li".to_owned() + "\n",
        record("10:06:00", "03", elsewhere),
        record("10:07:00", "04", guarded),
        record("10:08:00", "05", serde_json::json!({"decision": "allow", "enforced": true, "code": null})),
        record("10:09:00", "06", serde_json::json!({"enforced": true})),
        record("10:09:30", "07", serde_json::json!({"event": "outcome"})),
        "{\"v\":1,\"ts\":\"2026-11-24T10:10:00.000000Z\",\"seq\":9,\"event\":\"policy_loaded\"}\n".to_owned(),
    ]
    .concat()
}

#[test]
fn a_report_says_what_enforcing_would_have_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &["shadow", "report"], &log());
    let expected = "\
enforcing would have refused 4 of 5 requests, 2026-11-24T10:04:00Z to 2026-11-24T10:08:00Z

      2  acme/triage-bot  action_denied
         POST api.github.com/repos/acme/app/issues/* via github-acme
         triage-bot (acme) may use github-acme as reader; POST /repos/acme/app/issues needs writer
         2026-11-24T10:04:00Z to 2026-11-24T10:05:13Z, such as decision 01 of step run-01

      1  acme/k8s/ns/bot  destination_not_allowed
         GET crm.acme.example:8443/v1/customers/*
         no integration covers it
         2026-11-24T10:06:00Z to 2026-11-24T10:06:00Z, such as decision 03 of step run-03

      1  acme/triage-bot  action_denied
         DELETE api.github.com/repos/acme/app via github-acme
         guards[0]: deletions are made by people
         2026-11-24T10:07:00Z to 2026-11-24T10:07:00Z, such as decision 04 of step run-04
";
    let shown = ends(&output, 0);
    assert_eq!(shown.split("\n\n").collect::<std::collections::BTreeSet<_>>().len(), 4, "{shown}");
    assert_eq!(shown, expected);
    assert_eq!(err(&output), "1 of 9 lines are no records\n");

    fs::write(dir.path().join("old.jsonl"), log()).unwrap();
    fs::write(dir.path().join("new.jsonl"), log()).unwrap();
    let files = ["shadow", "report", "old.jsonl", "new.jsonl", "--json", "--since", "2026-11-24T10:05:00Z"];
    let report: serde_json::Value = serde_json::from_str(&ends(&egret(dir.path(), &files), 0)).unwrap();
    assert_eq!(
        (&report["requests"], &report["would_be_refused"], &report["broken_lines"], &report["lines"]),
        (&8.into(), &6.into(), &2.into(), &18.into())
    );
    let guarded = report["groups"].as_array().unwrap().iter().find(|g| g["method"] == "DELETE").unwrap();
    assert_eq!(
        *guarded,
        serde_json::json!({
            "count": 2, "tenant_id": "acme", "agent_id": "triage-bot", "code": "action_denied",
            "reason": "deletions are made by people", "guards": ["guards[0]"],
            "integration_id": "github-acme", "service": "github", "role": "reader",
            "what": null, "host": "api.github.com", "method": "DELETE", "path": "/repos/acme/app",
            "first": "2026-11-24T10:07:00Z", "last": "2026-11-24T10:07:00Z",
            "example": {"decision_id": "04", "correlation_id": "run-04", "path": "/repos/acme/app"},
        })
    );
    assert_eq!(
        ends(&command(dir.path(), &["shadow", "report"], ""), 0),
        "no request left egret in this time\n"
    );
    ends(&egret(dir.path(), &["shadow", "report", "nowhere.jsonl"]), 69);
    ends(&egret(dir.path(), &["shadow", "report", "--since", "yesterday"]), 2);
}

#[test]
fn a_draft_is_written_once_and_loads() {
    let dir = tempfile::tempdir().unwrap();
    let learn = |more: &[&str]| command(dir.path(), &[&["policy", "learn"], more].concat(), &log());
    let text = ends(&learn(&[]), 0);
    assert!(text.contains("from 5 requests, 2026-11-24T10:04:00Z to 2026-11-24T10:08:00Z.\n"), "{text}");
    assert!(text.contains("    integrations:\n      crm-acme-example-8443:\n"), "{text}");
    assert_eq!(ends(&learn(&["--out", "draft.yaml"]), 0), "");
    assert_eq!(fs::read_to_string(dir.path().join("draft.yaml")).unwrap(), text);
    ends(&egret(dir.path(), &["check", "draft.yaml"]), 0);
    ends(&egret(dir.path(), &["fmt", "--check", "draft.yaml"]), 0);
    ends(&learn(&["--out", "draft.yaml"]), 78);
    ends(&learn(&["--out", "draft.yaml", "--force"]), 0);
    ends(&command(dir.path(), &["policy", "learn"], "no log\n"), 1);
}

/// A request that shadow mode objected to, and that was then refused for a reason that holds in any mode.
#[test]
fn what_shadow_mode_could_not_let_through_is_no_part_of_a_report() {
    let upstream = Upstream::echo("api.good.test");
    let policy = POLICY
        .replace("tenants:", "mode: shadow\nguards: [{match: GET /a, deny: not yet}]\ntenants:")
        .replace("credential: none", "tier: USER, credential: none");
    let mut running = House::new(&policy).resolve("api.good.test", upstream.address).start();
    let token = support::token_with(&running.house.issuer, "acme/bot", None, serde_json::Value::Null);
    let mut raw = running.raw();
    raw.send(format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    assert_eq!(raw.answer().status, 403);
    let record = running.decision("user_missing");
    assert_eq!((&record["enforced"], &record["policy"]["guards"][0]), (&true.into(), &"guards[0]".into()));
    let report = command(running.dir(), &["shadow", "report"], &format!("{record}\n"));
    assert_eq!(ends(&report, 0), "no request left egret in this time\n");
}

/// The way of a rollout: shadow, report, learn, enforce.
#[test]
fn what_shadow_mode_let_through_is_learned_and_then_enforced() {
    let upstream = Upstream::echo("api.good.test");
    let shadow = POLICY
        .replace("tenants:", "mode: shadow\ntenants:")
        .replace("      reader:", "      lister: [GET /list]\n      reader:")
        + "      other: {good: lister}\n";
    let house = |policy: &str| {
        House::new(policy)
            .resolve("api.good.test", upstream.address)
            .settings("audit: {sinks: [stdout, 'file:decisions.jsonl']}\n")
    };
    let ask = |egret: &Egret, who: &str, request: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let mut raw = egret.raw();
        raw.send(format!(
            "{method} http://api.good.test{path} HTTP/1.1\r\nhost: api.good.test\r\ncontent-length: 0\r\n\
             proxy-authorization: Bearer {}\r\n\r\n",
            egret.token(who)
        ));
        raw.answer().status
    };
    let asked = [
        ("acme/bot", "GET /items/1"),
        ("acme/bot", "POST /items"),
        ("acme/other", "GET /items/2"),
        ("acme/other", "GET /items/3"),
    ];

    let mut running = house(&shadow).start();
    for (who, request) in asked {
        assert_eq!(ask(&running, who, request), 200, "{who} {request}");
    }
    running.signal("TERM");
    running.wait();
    let report = ends(&egret(running.dir(), &["shadow", "report", "decisions.jsonl"]), 0);
    assert!(report.starts_with("enforcing would have refused 3 of 4 requests"), "{report}");
    for line in ["      2  acme/other  action_denied\n", "      1  acme/bot  action_denied\n"] {
        assert!(report.contains(line), "{report}");
    }
    let draft = ends(&egret(running.dir(), &["policy", "learn", "decisions.jsonl"]), 0);

    // What a person decides: the credential, the private address, and when to enforce.
    let decided = draft
        .replace("mode: shadow", "mode: enforce")
        .replace("    roles:", "    allow_private_addresses: true\n    roles:");
    let running = house(&decided).start();
    for (who, request) in asked {
        assert_eq!(ask(&running, who, request), 200, "{who} {request}\n{decided}");
    }
    for (who, request) in
        [("acme/other", "POST /items"), ("acme/bot", "DELETE /items/1"), ("acme/bot", "GET /else")]
    {
        assert_eq!(ask(&running, who, request), 403, "{who} {request}\n{decided}");
    }
}

const TOOLS: &str = "version: 1
services:
  board:
    mcp: https://mcp.board.test/mcp
    allow_private_addresses: true
    roles:
      reader: [tool list_*]
      admin: [{include: reader}, tool *, resource *]
  hub:
    hosts: [api.hub.test]
    allow_private_addresses: true
    roles:
      reader: [graphql query *]
guards:
  - {match: board tool pay, require: approval}
tenants:
  acme:
    mode: shadow
    integrations:
      board: {credential: none}
      hub: {credential: none}
    agents:
      reader: {board: reader, hub: reader}
      admin: {board: admin}
";

/// Sends a body as an agent, and gives the answer.
fn post(egret: &Egret, who: &str, url: &str, body: &serde_json::Value) -> support::Answer {
    let (host, body) = (url.split('/').nth(2).unwrap(), body.to_string());
    let mut raw = egret.raw();
    raw.send(format!(
        "POST {url} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {}\r\n\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         content-length: {}\r\n\r\n{body}",
        egret.token(who),
        body.len()
    ));
    raw.answer()
}

/// The same way for what only bodies tell: tools, resources, and fields of GraphQL.
#[test]
fn tools_and_fields_that_shadow_mode_let_through_are_told_apart_learned_and_then_enforced() {
    use serde_json::{Value, json};
    let upstream = Upstream::https("mcp.board.test", |seen| {
        let id = serde_json::from_slice::<Value>(&seen.body).map_or(Value::Null, |body| body["id"].clone());
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {}, "data": {}});
        full(200, &[("content-type", "application/json")], answer.to_string())
    });
    let hub = Upstream::echo("api.hub.test");
    let house = |policy: &str| {
        House::new(policy)
            .resolve("mcp.board.test", upstream.address)
            .resolve("api.hub.test", hub.address)
            .settings("audit: {sinks: [stdout, 'file:decisions.jsonl']}\n")
    };
    let rpc =
        |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let call = |tool: &str| rpc("tools/call", json!({"name": tool}));
    let field = |document: &str| json!({"query": document});
    let asked = [
        ("acme/reader", "mcp", rpc("initialize", json!({}))),
        ("acme/reader", "mcp", call("list_issues")),
        ("acme/reader", "mcp", call("delete_issue")),
        ("acme/reader", "mcp", call("delete_issue")),
        ("acme/reader", "mcp", rpc("resources/read", json!({"uri": "issue:///17?x=1"}))),
        ("acme/reader", "mcp", rpc("prompts/get", json!({"name": "plan"}))),
        ("acme/reader", "mcp", rpc("tasks/list", json!({}))),
        ("acme/reader", "mcp", json!([call("list_issues"), call("drop")])),
        ("acme/admin", "mcp", call("pay")),
        ("acme/reader", "graphql", field("{ viewer { id } }")),
        ("acme/reader", "graphql", field("mutation { issueCreate { id } }")),
    ];
    let ask = |egret: &Egret, who: &str, to: &str, body: &Value| {
        let host = if to == "mcp" { "mcp.board.test" } else { "api.hub.test" };
        post(egret, who, &format!("http://{host}/{to}"), body)
    };

    let mut running = house(TOOLS).start();
    for (who, to, body) in &asked {
        assert_eq!(ask(&running, who, to, body).status, 200, "{who} {body}");
    }
    let token = running.token("acme/reader");
    let mut raw = running.raw();
    raw.send(format!(
        "GET http://mcp.board.test/mcp HTTP/1.1\r\nhost: mcp.board.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    assert_eq!(raw.answer().status, 200);
    running.signal("TERM");
    running.wait();

    let report = ends(&egret(running.dir(), &["shadow", "report", "decisions.jsonl"]), 0);
    assert!(report.starts_with("enforcing would have refused 8 of 12 requests"), "{report}");
    for line in [
        "      2  acme/reader  action_denied\n         tool delete_issue @ mcp.board.test/mcp via board\n",
        "      1  acme/admin  approval_required\n         tool pay @ mcp.board.test/mcp via board\n         guards[0]: ",
        "         resource issue:///* @ mcp.board.test/mcp via board\n",
        "         prompt plan @ mcp.board.test/mcp via board\n",
        "         method tasks/list @ mcp.board.test/mcp via board\n",
        "         tool list_issues, in a batch @ mcp.board.test/mcp via board\n",
        "         graphql mutation issueCreate @ api.hub.test/graphql via hub\n",
    ] {
        assert!(report.contains(line), "no `{line}` in\n{report}");
    }
    let json = ends(&egret(running.dir(), &["shadow", "report", "--json", "decisions.jsonl"]), 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    let first = &json["groups"][0];
    assert_eq!((&first["what"], &first["path"]), (&json!("tool delete_issue"), &json!("/mcp")));

    let draft = ends(&egret(running.dir(), &["policy", "learn", "decisions.jsonl"]), 0);
    let services = "services:
  board:
    mcp: https://mcp.board.test/mcp
    roles:
      reader:
        - tool list_issues
        - resource issue:///*
        - prompt plan
        - method tasks/list
      writer:
        - include: reader
        - tool delete_issue
        - tool pay

  hub:
    hosts:
      - api.hub.test
    roles:
      reader:
        - graphql query viewer
      writer:
        - include: reader
        - graphql mutation issueCreate
";
    assert!(draft.contains(services), "{draft}");
    assert!(draft.contains("# Covered in part: 1 request "), "{draft}");

    let decided = draft
        .replace("mode: shadow", "mode: enforce")
        .replace("    roles:", "    allow_private_addresses: true\n    roles:");
    let running = house(&decided).start();
    for (who, to, body) in asked.iter().filter(|(_, _, body)| !body.is_array()) {
        let answer = ask(&running, who, to, body);
        assert_eq!(answer.status, 200, "{who} {body}\n{decided}");
        assert!(!answer.text().contains("egret.dev/refusal"), "{who} {body}: {}", answer.text());
    }
    for body in [call("drop"), call("list_all"), rpc("prompts/get", json!({"name": "other"}))] {
        let answer = ask(&running, "acme/reader", "mcp", &body);
        assert!(answer.header("proxy-status").is_some(), "{body}: {}", answer.text());
    }
    assert_eq!(ask(&running, "acme/reader", "graphql", &field("mutation { drop }")).status, 403);
    assert_eq!(ask(&running, "acme/admin", "graphql", &field("{ viewer { id } }")).status, 403);
}
