//! `egret check` and `egret diff`, as a workflow runs them: exit codes, and what is written where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

use std::{fs, path::Path, process::Command};

const POLICY: &str = "\
version: 1
services:
  api:
    hosts: [api.example]
    roles:
      user:
        - DELETE /repos/**
tenants:
  t:
    integrations:
      api: {credential: none}
    agents:
      bot: {api: user}
";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn egret(directory: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_egret"))
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

#[test]
fn warnings_are_findings_only_where_they_are_asked_for() {
    let here = directory(&[("policy.yaml", POLICY), ("broken.yaml", "version: 2\n")]);
    for (arguments, code) in [
        (&["check", "policy.yaml"][..], 0),
        (&["check", "policy.yaml", "--strict"], 1),
        (&["check", "policy.yaml", "--strict", "--allow", "unguarded-delete"], 0),
        (&["check", "policy.yaml", "--strict", "--allow", "unused-role,unguarded-delete"], 0),
        (&["check", "policy.yaml", "--allow", "unguarded-deletes"], 2),
        (&["check", "broken.yaml"], 1),
        (&["check", "absent.yaml"], 1),
    ] {
        let ran = egret(here.path(), arguments);
        assert_eq!(ran.code, code, "{arguments:?}\n{}\n{}", ran.out, ran.err);
    }
}

#[test]
fn a_person_reads_place_code_and_hint() {
    let here = directory(&[("policy.yaml", POLICY)]);
    let ran = egret(here.path(), &["check", "policy.yaml"]);
    assert_eq!(
        ran.err,
        "policy.yaml:1:1: info[no-tests]: the policy grants something and promises nothing\n  \
         hint: write under `tests` what must stay allowed and what must stay refused\n\
         policy.yaml:7:11: warning[unguarded-delete]: `DELETE /repos/**` of `api` grants DELETE, and no guard looks at it\n  \
         hint: add a guard with `require: approval` or `deny`: `match: api DELETE /repos/**`\n"
    );
    assert_eq!(
        ran.out,
        "ok: 1 files, 1 services, 0 guards, 1 tenants, 1 integrations, 0 promises kept, 1 warnings, 1 infos\n"
    );
}

#[test]
fn a_workflow_shows_lints_and_problems_at_their_lines() {
    let here = directory(&[
        ("policies/a.yaml", POLICY),
        ("broken.yaml", "version: 1\nguards:\n  - {match: DELET **, deny: no}\n"),
    ]);
    let absolute = here.path().canonicalize().unwrap().join("policies");
    for (arguments, level) in [
        (&["check", "./policies", "--format", "github"][..], "warning"),
        (&["check", absolute.to_str().unwrap(), "--format", "github", "--strict"], "error"),
    ] {
        let ran = egret(&here.path().canonicalize().unwrap(), arguments);
        let expected = format!(
            "::{level} file=policies/a.yaml,line=7,col=11,title=egret%3A unguarded-delete::`DELETE /repos/**` of `api` \
             grants DELETE, and no guard looks at it%0Ahint: add a guard"
        );
        assert!(ran.out.contains(&expected), "{}", ran.out);
        assert!(ran.out.starts_with("::notice file=policies/a.yaml,line=1,"), "{}", ran.out);
    }
    let ran = egret(here.path(), &["check", "broken.yaml", "--format", "github"]);
    let expected = "::error file=broken.yaml,line=3,col=13,title=egret%3A policy::`DELET` is not a method%0Ahint: did you mean `DELETE`?\n";
    assert_eq!((ran.code, ran.out.as_str()), (1, expected));
}

#[test]
fn a_program_reads_problems_lints_and_counts() {
    let here = directory(&[("policy.yaml", POLICY)]);
    for (flags, ok) in [(&["--json"][..], true), (&["--format", "json", "--strict"], false)] {
        let ran = egret(here.path(), &[&["check", "policy.yaml"], flags].concat());
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(report["ok"], ok);
        assert_eq!(report["problems"], serde_json::json!([]));
        assert_eq!(report["lints"][1]["code"], "unguarded-delete");
        assert_eq!(report["lints"][1]["level"], "warning");
        assert_eq!(
            report["lints"][1]["at"],
            serde_json::json!({"file": "policy.yaml", "line": 7, "column": 11})
        );
        assert!(report["lints"][1]["hint"].is_string() && report["lints"][1]["message"].is_string());
        assert_eq!(report["counts"]["tenants"], 1);
    }
}

#[test]
fn a_difference_in_reach_has_an_exit_code_of_its_own() {
    let writes = POLICY.replace("DELETE /repos/**", "GET /repos/**\n        - POST /repos/**");
    let reads = POLICY.replace("DELETE /repos/**", "GET /repos/**");
    let renamed = reads.replace("user", "reader") + "# A remark.\n";
    let here = directory(&[
        ("old/policy.yaml", &reads),
        ("same/a.yaml", &renamed),
        ("new.yaml", &writes),
        ("broken.yaml", "version: 2\n"),
    ]);
    for (old, new, code, out) in [
        ("old", "old", 0, "no change in reach\n"),
        ("old", "same", 0, "no change in reach\n"),
        (
            "old",
            "new.yaml",
            1,
            "+ WRITE t/bot may POST /repos/** on api.example via api (APP, no credential)\n",
        ),
        ("new.yaml", "old", 1, "- t/bot may no longer POST /repos/** on api.example via api\n"),
        ("old", "broken.yaml", 78, ""),
        ("absent", "old", 78, ""),
    ] {
        let ran = egret(here.path(), &["diff", old, new]);
        assert_eq!((ran.code, ran.out.as_str()), (code, out), "{old} {new}\n{}", ran.err);
        assert_eq!(code == 78, !ran.err.is_empty(), "{}", ran.err);
    }
    assert_eq!(egret(here.path(), &["diff", "old"]).code, 2);
}

#[test]
fn a_program_reads_a_difference() {
    let here = directory(&[("old.yaml", POLICY), ("new.yaml", &POLICY.replace("DELETE", "GET|DELETE"))]);
    let ran = egret(here.path(), &["diff", "old.yaml", "new.yaml", "--json"]);
    let diff: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        diff,
        serde_json::json!({"changed": true, "changes": [{
            "kind": "gain",
            "change": "gained",
            "about": "reach",
            "access": "read",
            "enforced": true,
            "tenant": "t",
            "agent": "bot",
            "integration": "api",
            "service": "api",
            "action": {"kind": "http", "methods": ["GET"], "path": "/repos/**"},
            "hosts": ["api.example"],
            "credential": {"tier": "APP", "kind": "none", "text": "none"},
            "sentence": "+ t/bot may GET /repos/** on api.example via api (APP, no credential)",
        }]})
    );
    let ran = egret(here.path(), &["diff", "old.yaml", "old.yaml", "--json"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "{\"changed\":false,\"changes\":[]}\n"));
}

/// Policies with a slip beside a secret; `$` is the secret.
const SLIPS: [&str; 33] = [
    // In the place of a credential nothing is shown that is no reference.
    "I      a: {credential: {bearer:$}}",
    "I      a: {credential: {bearer $}}",
    "I      a: {credential: {$}}",
    "I      a: {credential:$}",
    "I      a: {credential: {static: {bearer:$}}}",
    "I      a: {credential: !!binary $}",
    "I      a: {credential: !!null $}",
    "I      a: {credential: !$}",
    "I      a: {credential: {static: {header: {\"X-Key: $\": x}}}}",
    "I      a: {credential: {statc: {bearer: \"env:A\"}}} # $",
    "I      a:\n        credential: {static: {bearer: x\n          $}}",
    // Where the file is no YAML, its shape does not tell what is what.
    "I      a:\n        credential:\n      $",
    "I      a:\n        credential: {static: {bearer: [\n        $",
    "I      a:\n        credential: {static: {bearer:\n        \t$}}",
    "I      a:\n        credential: &x $",
    "I      a:\n        credential: %$",
    "I      a:\n        credential: x: $",
    "I      a: {credential: {static: {bearer: \"\\q$\"}}}",
    "I      a: {credential: none}\n---\n$",
    "G    when: 'request.path == \"$'",
    "G    when: 'request.path == \"$",
    // URLs, wherever they stand.
    "S{hosts: ['https://me:$@a.example'], roles: {r: [GET /x]}}",
    "S{hosts: ['me:$@a.example'], roles: {r: [GET /x]}}",
    "S{mcp: 'https://me:$@a.example/mcp', roles: {r: [tool x]}}",
    "S{mcp: 'https://a.example/mcp?key=$', roles: {r: [tool x]}}",
    "S{hosts: [a.example], roles: {r: ['GET /x?key=$']}}",
    "S{hosts: [a.example], roles: {r: ['GET https://me:$@a.example/x']}}",
    "S{hosts: [a.example], strip: {headers: ['X-Key: $']}, roles: {r: [GET /x]}}",
    "T    allow: [GET https://me:$@a.example/x]",
    "T    allow: ['GET https://a.example/x?key=$']",
    // Names are shown, unless they look like a secret.
    "I      a: {credential: none}\n    agents: {b: {a: sk-live-$}}",
    "I      a: {service: sk-live-$, credential: none}",
    "Isk-live-$: x",
];

#[test]
fn no_slip_shows_a_secret() {
    const SECRET: &str = "2hunter4horse";
    let service = "version: 1\nservices:\n  a: ";
    let known = "version: 1\nservices:\n  a: {hosts: [a.example], roles: {r: [GET /x]}}\n";
    for slip in SLIPS {
        let (kind, rest) = slip.split_at(1);
        let before = match kind {
            "S" => service.to_owned(),
            "I" => format!("{known}tenants:\n  t:\n    integrations:\n"),
            "G" => format!("{known}guards:\n  - match: DELETE **\n    deny: no\n"),
            _ => format!("{known}tests:\n  - as: t/b\n"),
        };
        let text = format!("{before}{}\n", rest.replace('$', SECRET));
        let here = directory(&[("policy.yaml", &text)]);
        for arguments in [
            &["check", "policy.yaml"][..],
            &["check", "policy.yaml", "--json"],
            &["check", "policy.yaml", "--format", "github"],
            &["fmt", "--check", "policy.yaml"],
        ] {
            let ran = egret(here.path(), arguments);
            assert!(!ran.out.contains(SECRET) && !ran.err.contains(SECRET), "{slip}\n{}{}", ran.out, ran.err);
            assert!(ran.code == 1 || arguments[0] == "fmt", "{slip}\n{}{}", ran.out, ran.err);
        }
    }
}

#[test]
fn a_key_without_a_space_behind_its_colon_is_explained() {
    let policy = POLICY.replace("credential: none", "credential: {bearer:env:KEY}");
    let here = directory(&[("policy.yaml", &policy)]);
    let ran = egret(here.path(), &["check", "policy.yaml"]);
    assert!(ran.err.contains("error: a credential has no such key\n"), "{}", ran.err);
    let policy = policy.replace("{bearer:env:KEY}", "{static:env:KEY}");
    let here = directory(&[("policy.yaml", &policy)]);
    let ran = egret(here.path(), &["check", "policy.yaml"]);
    let hint = "a colon and a space stand between a key and its value: `static: …`";
    assert!(ran.err.contains(hint), "{}", ran.err);
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("policy.yaml"), b"version: 1\n# \xc3\xa4 \xe4\n").unwrap();
    for arguments in [["check", "policy.yaml"], ["fmt", "policy.yaml"]] {
        let ran = egret(here.path(), &arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("policy.yaml:2:5: this is not UTF-8"), "{}", ran.err);
    }
}

#[test]
fn a_file_that_is_nothing_but_mistakes_is_soon_read() {
    use std::{fmt::Write as _, time::Instant};
    let roles = "version: 1\nservices:\n  a:\n    hosts: [a.example]\n    roles:\n";
    let (mut chain, mut unknown) = (format!("{roles}      r0: [GET /x]\n"), roles.to_owned());
    for number in 1..20_000 {
        let _ = writeln!(chain, "      r{number}: [{{include: r{}}}]", number - 1);
        let _ = writeln!(unknown, "      r{number}: [{{include: s{number}}}]");
    }
    let names = "a,".repeat(100_000);
    for (text, said) in [
        (chain, "a role includes at most 64 others"),
        (unknown, "the service has no role `s1`"),
        (format!("version: 1\nservices: {{{names}}}\n"), "`a` stands twice"),
        (format!("version: 1\nservices: {{a: {{hosts: [{names}]}}}}\n"), "this host stands twice"),
        (format!("{{{names}"), "policy.yaml:"),
    ] {
        let here = directory(&[("policy.yaml", &text)]);
        let start = Instant::now();
        let ran = egret(here.path(), &["check", "policy.yaml"]);
        // Far more than it takes, and far less than what grows with the square of the file.
        assert!(start.elapsed().as_secs() < 20, "{said}: {:?}", start.elapsed());
        assert!(ran.code == 1 && ran.err.contains(said), "{said}");
    }
}
