//! Every policy of this repository loads and keeps its promises; every broken one is refused, word for word; and
//! what changes between two policies is said, word for word.

use std::{
    fs,
    path::{Path, PathBuf},
};

use egret::{
    decide::{Around, Kept, Policy, check, diff},
    settings::SourceSettings,
};

#[expect(clippy::unwrap_used, reason = "a test's helper: the directory is part of the repository")]
fn below(directory: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml")
}

const NOTHING: Around<'static> = Around {
    kept: &|| Kept::Unknown("there is none".to_owned()),
    sources: &|| Ok(SourceSettings::default()),
};

#[test]
fn every_policy_of_the_repository_loads() {
    let policies: Vec<PathBuf> = below("policies").into_iter().filter(|path| is_yaml(path)).collect();
    assert!(!policies.is_empty());
    for path in policies {
        let report = check(&path, None, NOTHING);
        if let Some(problems) = report.problems {
            panic!("{}", problems.render(false));
        }
    }
}

#[test]
fn the_directory_of_policies_loads_as_one_policy() {
    let report = check(Path::new("policies"), None, NOTHING);
    assert!(report.problems.is_none(), "{:?}", report.problems.map(|p| p.to_string()));
    assert_eq!((report.counts.files, report.counts.tenants), (3, 5));
}

#[test]
fn the_policy_in_the_readme_loads() {
    let readme = fs::read_to_string("policies/README.md").unwrap();
    let policy = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    if let Err(problems) = Policy::from_text("README.md", policy) {
        panic!("{}", problems.render(false));
    }
}

/// Each case is a file or a directory in `tests/policies/bad`, and beside it the problems as a terminal shows them.
/// `EGRET_BLESS=1` writes them anew.
#[test]
fn every_mistake_is_refused_with_its_place_and_a_hint() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for path in below("tests/policies/bad").into_iter().filter(|path| is_yaml(path) || path.is_dir()) {
        cases += 1;
        let problems = match Policy::load(&path) {
            Err(problems) => problems.render(false) + "\n",
            Ok(_) => "this policy loads\n".to_owned(),
        };
        let golden = path.with_extension("stderr");
        if std::env::var_os("EGRET_BLESS").is_some() {
            fs::write(&golden, &problems).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != problems {
            wrong.push(format!("{}:\n{problems}", path.display()));
        }
    }
    assert!(cases > 20, "{cases}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Each case is a directory with `old.yaml`, `new.yaml` and what `egret diff` says of them. `EGRET_BLESS=1` writes
/// that anew.
#[test]
fn what_changes_between_two_policies_is_said() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for case in below("tests/policies/diff") {
        cases += 1;
        let said = match diff(&case.join("old.yaml"), &case.join("new.yaml")) {
            Ok(diff) => diff.to_string(),
            Err(problems) => panic!("{}", problems.render(false)),
        };
        let golden = case.join("expected.txt");
        if std::env::var_os("EGRET_BLESS").is_some() {
            fs::write(&golden, &said).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(cases > 20, "{cases}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A service holds no secrets: one that stands there by mistake is not repeated either.
#[test]
fn a_secret_in_a_service_is_never_repeated() {
    const SECRET: &str = "sk-live-AAAAbbbbCCCCdddd1234";
    for attach in [
        "{bearer: SECRET}",
        "{bearer: \"Bearer SECRET\"}",
        "{bearer: \"{SECRET}\"}",
        "{basic: {user: x, password: SECRET}}",
        "{header: {Authorization: \"Token {SECRET}\"}}",
        "{header: {X-Key: {prefix: SECRET}}}",
        "{headers: {X-Key: [SECRET]}}",
        "{beerer: SECRET}",
        "SECRET",
    ] {
        let text = format!(
            "version: 1\nservices: {{x: {{hosts: [x.example], attach: {}, roles: {{reader: [GET /**]}}}}}}\n",
            attach.replace("SECRET", SECRET)
        );
        let Err(problems) = Policy::from_text("policy.yaml", &text) else {
            panic!("this loads: {text}");
        };
        for shown in [problems.render(false), problems.to_string(), problems.to_json().to_string()] {
            assert!(!shown.contains("sk-live") && !shown.contains("CCCC"), "{attach}\n{shown}");
        }
    }
}

/// Files made to break the reader are problems like any others.
#[test]
fn a_hostile_file_is_a_problem_and_nothing_more() {
    let lines = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let lol = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b]\n";
    for text in [
        "[".repeat(200_000),
        "{".repeat(200_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "a: ".repeat(70_000),
        "!".repeat(200_000),
        "\"".to_owned() + &"\\u0041".repeat(30_000),
        lol.to_owned(),
        lines(&|number| format!("a{number}: &b{number} 1\n"), 10_000),
        lines(&|depth| format!("{}a:\n", " ".repeat(depth)), 500),
        "version: 1\n<<: {a: 1}\n".to_owned(),
        "version: 1\n".repeat(15_000),
        "version: 1\ntenants:\n\tt: {}\n".to_owned(),
        "\u{feff}version: 1\n".to_owned(),
        "version: 1\0\n".to_owned(),
        "version: 1\nservices:\n".to_owned() + &lines(&|number| format!("  s{number}: {{x: 1}}\n"), 10_000),
    ] {
        let problems = Policy::from_text("policy.yaml", &text).expect_err(&text[..40.min(text.len())]);
        assert!(problems.count() > 0 && problems.render(false).len() < 200_000, "{text:.40}");
    }
    let dir = tempfile::tempdir().unwrap();
    for bytes in [&b"version: 1\nrevision: \"\xff\xfe\"\n"[..], b"\xff\xfev\0e\0"] {
        let path = dir.path().join("policy.yaml");
        fs::write(&path, bytes).unwrap();
        let problems = Policy::load(&path).unwrap_err();
        assert!(problems.to_string().contains("not UTF-8"), "{problems}");
    }
}

/// A secret that stands in a policy by mistake appears in no rendering of its problems.
#[test]
fn a_secret_in_a_policy_is_never_repeated() {
    const SECRET: &str = "sk-live-AAAAbbbbCCCCdddd1234";
    let policy = |integration: &str| {
        format!(
            "version: 1\ntenants:\n  t:\n    integrations:\n      openai: {integration}\n    agents: {{bot: {{openai: caller}}}}\n"
        )
    };
    for integration in [
        "{credential: {static: {bearer: SECRET}}}",
        "{credential: {static: {bearer: \"env:SECRET\"}}}",
        "{credential: {static: {bearer: \"Bearer SECRET\"}}}",
        "{credential: {static: {beerer: SECRET}}}",
        "{credential: {static: {bearer: [SECRET]}}}",
        "{credential: {static: {basic: {user: SECRET, password: SECRET}}}}",
        "{credential: {static: {basic: SECRET}}}",
        "{credential: {static: {header: {X-Key: SECRET}}}}",
        "{credential: {static: {header: {X-Key: {prefix: a, secret: SECRET}}}}}",
        "{credential: {static: {query: {key: SECRET}}}}",
        "{credential: {static: SECRET}}",
        "{credential: SECRET}",
        "{credential: {bearer: SECRET}}",
        "{credentail: {static: {bearer: SECRET}}}",
        "SECRET",
        "{credential: {static: {bearer: SECRET}}, limit: 0/min}",
        "{credential: {static: {bearer: SECRET}}, limit: SECRET}",
        "{credential: {static: {bearer: SECRET}}, disabled: SECRET}",
        "{credential: {static: {bearer: &a SECRET}}}",
        "{credential: {static: {bearer: SECRET}}, limit: [}",
        "{credential: {static: {bearer: 'SECRET}}}",
        "{credential: {static: {bearer: @SECRET}}}",
        "{credential: !SECRET {static: {bearer: x}}}",
        "{credential: {static: {bearer: |\n  SECRET\n}}}",
        "{tier: SECRET, credential: none}",
        "{credential: \"SECRET\"}",
        "{credential: {secrets: {secret: SECRET}}}",
        "{credential: {secrets: {secret: [SECRET]}}}",
        "{credential: {secrets: SECRET}}",
        "{credential: \"vault:SECRET\"}",
        "{credential: \"env:A\", vars: {host: SECRET}}",
        "{credential: {github_app: {app_id: SECRET, installation_id: 1, private_key: SECRET}}}",
        "{credential: {client_credentials: {token_url: SECRET, client_id: SECRET, client_secret: SECRET}}}",
        "{credential: {aws_sigv4: {access_key_id: SECRET, secret_access_key: SECRET}}}",
        "{credential: {service_account: {key: {private_key: SECRET}}}}",
        "{credential: {byok: SECRET}}",
        "{credential: {static: {bearer: !SECRET}}}",
        "{credential: {static: {basic: {user: x, password: !SECRET }}}, limit: 0/s}",
    ] {
        let text = policy(&integration.replace("SECRET", SECRET));
        let Err(problems) = Policy::from_text("policy.yaml", &text) else {
            panic!("this loads: {text}");
        };
        for shown in [
            problems.render(false),
            problems.render(true),
            problems.to_string(),
            problems.to_json().to_string(),
        ] {
            assert!(!shown.contains("sk-live") && !shown.contains("CCCC"), "{integration}\n{shown}");
        }
    }
}

#[test]
fn the_catalogue_is_shown_on_the_command_line() {
    let egret = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_egret"))
            .arg("catalog")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, listed, said) = egret(&[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(listed.lines().count(), egret::decide::catalogue().len());
    let all: serde_json::Value = serde_json::from_str(&egret(&["--json"]).1).unwrap();
    assert!(
        all.as_array().unwrap().iter().any(|one| one["name"] == "github" && one["secrets"][0] == "token")
    );
    let (_, shown, _) = egret(&["zendesk"]);
    let policy = shown.split("# A policy to start from:\n").nth(1).unwrap();
    assert!(Policy::from_text("policy.yaml", policy).is_ok(), "{policy}");
    let one: serde_json::Value = serde_json::from_str(&egret(&["zendesk", "--json"]).1).unwrap();
    assert!(Policy::from_text("policy.yaml", one["policy"].as_str().unwrap()).is_ok());
    let (code, shown, said) = egret(&["zendsk"]);
    assert_eq!((code, shown.as_str()), (Some(78), ""));
    assert_eq!(said, "the catalogue has no service `zendsk`; did you mean `zendesk`?\n");
}
