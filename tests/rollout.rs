//! The life of a policy outside of `serve`: formatted, drafted from a shadow log, signed, and named by its commit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use support::{Egret, House, Upstream, egret::BINARY};

/// Runs a command of egret's in a directory, with an empty environment.
fn egret(dir: &Path, args: &[&str]) -> Output {
    egret_reads(dir, args, "")
}

/// The same, with something on standard input.
fn egret_reads(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
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
    assert_eq!(ends(&egret_reads(dir.path(), &["fmt", "-"], UNTIDY), 0), TIDY);
    assert_eq!(ends(&egret_reads(dir.path(), &["fmt", "--check", "-"], UNTIDY), 1), "(standard input)\n");
    assert_eq!(ends(&egret_reads(dir.path(), &["fmt", "--check", "-"], TIDY), 0), "");
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
