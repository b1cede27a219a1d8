//! The schema that editors read: it takes every good policy, and draws a red line under slips of the pen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::{fs, path::Path};

use egret::decide;
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&decide::schema()).unwrap()
}

/// YAML as an editor reads it.
fn read(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_policy_of_the_repository_fits() {
    let validator = validator();
    for path in ["policies/example.yaml", "policies/advanced.yaml", "policies/minimal.yaml"] {
        let policy = read(&fs::read_to_string(path).unwrap());
        let errors: Vec<String> =
            validator.iter_errors(&policy).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}");
    }
    for entry in fs::read_dir("src/decide/catalog").unwrap() {
        let path = entry.unwrap().path();
        let service = read(&fs::read_to_string(&path).unwrap());
        let policy = json!({ "version": 1, "services": { "known": service } });
        let errors: Vec<String> =
            validator.iter_errors(&policy).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

/// The mistakes of the design study that are slips of the pen; the others are references and meanings, and
/// `egret check` finds those.
#[test]
fn slips_of_the_pen_do_not_fit() {
    let validator = validator();
    for name in [
        "01-key-of-a-guard",
        "02-method-of-a-guard",
        "07-path-without-slash",
        "10-roles-misspelt",
        "14-plain-secret",
        "15-empty-lists",
        "16-limits",
        "21-role-lines",
        "31-mcp-services",
        "33-graphql-and-grpc",
        "34-approvals",
    ] {
        let path = Path::new("tests/policies/bad").join(name).with_extension("yaml");
        let policy = read(&fs::read_to_string(path).unwrap());
        assert!(!validator.is_valid(&policy), "{name} fits");
    }
}

#[test]
fn each_line_of_a_role_is_looked_at() {
    let validator = validator();
    let fits = |line: &str| {
        let policy = json!({ "version": 1, "services": { "s": { "hosts": ["a.example"], "roles": { "r": [line] } } } });
        validator.is_valid(&policy)
    };
    for good in [
        "GET /repos/**",
        "POST|PATCH /repos/*/*/issues/**",
        "ANY /**",
        "connect",
        "tool list_*",
        "resource file:///*",
        "prompt *",
        "method tasks/*",
        "graphql query *",
        "graphql mutation issueCreate",
        "graphql query",
        "grpc /a.b.C/*",
    ] {
        assert!(fits(good), "{good}");
    }
    for bad in [
        "GTE /repos/**",
        "get /repos/**",
        "GET repos/**",
        "GET",
        "GET /a?b=c",
        "GET|POSTT /a",
        "tol list_*",
        "tool",
        "graphql subscription *",
        "grpc C/M",
        "conect",
        "",
    ] {
        assert!(!fits(bad), "{bad}");
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    fn look(schema: &Value, path: &str) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{path}.{key}");
            let about = value["description"].as_str().unwrap_or_default();
            assert!(about.ends_with('.') && about.len() > 3, "{at}: {about:?}");
            look(value, &at);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                look(&schema[inner], path);
            }
        }
    }
    look(&decide::schema(), "policy");
}
