use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    cli::records::read_text,
    decide::{self, Policy},
};

/// One line of a log.
fn line(who: &str, request: &str, more: &Value) -> String {
    let (tenant, agent) = who.split_once('/').unwrap();
    let (method, url) = request.split_once(' ').unwrap();
    let url = url.strip_prefix("https://").unwrap_or(url);
    let (authority, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap()),
        _ => (authority, 443),
    };
    let path = if path.is_empty() { "/" } else { path };
    let mut record = json!({
        "ts": "2026-11-24T10:05:13.774398Z", "event": "decision", "decision_id": "01M86G",
        "tenant_id": tenant, "agent_id": agent, "decision": "deny", "enforced": false,
        "code": "destination_not_allowed",
        "http": {"request_method": method, "host": host, "port": port, "path": path},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        record[key] = value.clone();
    }
    format!("{record}\n")
}

/// The draft of a log. It always loads, and is always formatted.
fn draft(log: &str) -> Option<String> {
    let mut draft = Draft::default();
    let tally = read_text(log, |decision| draft.saw(decision));
    let text = draft.write(&Catalogue::read(), &tally)?;
    if let Err(problems) = Policy::from_text("draft.yaml", &text) {
        panic!("{}\n{text}", problems.render(false));
    }
    let formatted = decide::format("draft.yaml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(formatted, text, "the draft is not formatted");
    Some(text)
}

fn requests(lines: &[(&str, &str)]) -> String {
    lines.iter().map(|(who, request)| line(who, request, &Value::Null)).collect()
}

/// A draft of these requests holds all of these lines, in this order.
#[track_caller]
fn check(lines: &[(&str, &str)], expected: &[&str]) {
    let text = draft(&requests(lines)).unwrap();
    let mut rest = text.lines().map(str::trim);
    for wanted in expected {
        assert!(rest.any(|line| line == *wanted), "no `{wanted}` in this place:\n{text}");
    }
}

#[test]
fn a_log_becomes_a_policy() {
    let mut log = requests(&[
        ("acme/triage-bot", "GET https://crm.acme.example/v1/customers/17"),
        ("acme/triage-bot", "HEAD https://crm.acme.example/v1/customers/18"),
        ("acme/triage-bot", "POST https://crm.acme.example/v1/customers/18/notes"),
        ("acme/reader", "GET https://crm.acme.example/v1/customers"),
        ("acme/triage-bot", "GET https://api.github.com/repos/acme/app/issues/1"),
        ("acme/triage-bot", "POST https://api.github.com/repos/acme/app/issues/1/comments"),
        ("globex/triage-bot", "GET https://api.github.com/user"),
        ("globex/triage-bot", "CONNECT mirror.example:8443"),
    ]);
    log.push_str(&line(
        "acme/triage-bot",
        "POST https://api.openai.com/v1/responses",
        &json!({"decision": "allow", "enforced": true, "code": null, "integration_id": "openai-acme",
                "service": "openai", "credential": {"kind": "static", "ref": "env:ACME_OPENAI_KEY"}}),
    ));
    let text = draft(&log).unwrap();
    assert_eq!(text, include_str!("golden.yaml"));
    // The order of the log makes no difference.
    let turned: String = log.lines().rev().flat_map(|line| [line, "\n"]).collect();
    assert_eq!(draft(&turned).unwrap(), text);
}

#[test]
fn many_names_become_one_line_and_one_promise() {
    check(
        &[
            ("t/a", "GET https://x.example/users/anna"),
            ("t/a", "GET https://x.example/users/bert"),
            ("t/a", "GET https://x.example/users/carl"),
            ("t/a", "GET https://x.example/users/dora"),
            ("t/a", "POST https://x.example/users/anna"),
        ],
        &[
            "reader:",
            "- GET /users/*",
            "writer:",
            "- include: reader",
            "- POST /users/anna",
            "- GET https://x.example/users/anna",
            "- POST https://x.example/users/anna",
        ],
    );
}

#[test]
fn what_the_catalogues_roles_do_not_cover_is_a_service_of_its_own() {
    check(
        &[("t/a", "POST https://api.github.com/graphql")],
        &["api-github-com:", "- api.github.com", "- POST /graphql", "api-github-com: writer"],
    );
}

#[test]
fn tunnels_stay_closed_unless_their_requests_were_seen() {
    check(
        &[("t/a", "CONNECT x.example:443")],
        &["intercept: never", "- connect", "x-example: caller", "- CONNECT x.example:443"],
    );
    let text =
        draft(&requests(&[("t/a", "CONNECT x.example:443"), ("t/a", "GET https://x.example/y")])).unwrap();
    assert!(
        text.contains("# Left out: closed tunnels to x.example") && !text.contains("intercept"),
        "{text}"
    );
}

#[test]
fn names_that_yaml_or_a_policy_takes_for_something_else_are_not() {
    check(
        &[
            ("007/true", "GET https://disabled/a"),
            ("null/k8s/ns/bot~1", "GET https://10.0.0.7:8443/b"),
            ("null/k8s/ns/bot~1", "GET https://[fd00::7]/c:"),
            ("no/1e5", "PATCH https://x.example:8080/a,b/'q'/{x}/&y/*z/!t"),
            ("no/1e5", "GET https://x.example/-/-"),
        ],
        &[
            "10-0-0-7-8443:",
            "- \"10.0.0.7:8443\" # TODO: a private address needs `allow_private_addresses`",
            "disabled-2:",
            "fd00-7:",
            "- \"[fd00::7]\" # TODO: a private address needs `allow_private_addresses`",
            "- \"GET /c:\"",
            "x-example:",
            "x-example-8080:",
            "\"007\":",
            "\"true\":",
            "\"no\":",
            "\"1e5\":",
            "\"null\":",
        ]
        .map(|line| if line == "10-0-0-7-8443:" { "\"10-0-0-7-8443\":" } else { line }),
    );
}

#[test]
fn two_names_of_one_integration_are_one() {
    let via = |name: &str, service: &str| json!({"integration_id": name, "service": service});
    let mut log = line("t/a", "GET https://one.example/a", &via("same", "s1"));
    log += &line("t/a", "GET https://two.example/a", &via("same", "s2"));
    log += &line("t/a", "GET https://two.example/a", &via("other", "s3"));
    let text = draft(&log).unwrap();
    assert!(
        text.contains("      other:\n        service: s2\n")
            && text.contains("      same:\n        service: s1\n"),
        "{text}"
    );
}

#[test]
fn without_a_request_there_is_no_draft() {
    assert_eq!(draft(""), None);
    assert_eq!(draft(&requests(&[("t/a", "PROPFIND https://x.example/")])), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands in a log, the draft loads and keeps its own promises.
    #[test]
    fn the_draft_of_any_log_loads(
        lines in proptest::collection::vec(
            (
                "[a-c0-1][A-Za-z0-9_.-]{0,3}",
                "[a-c0][A-Za-z0-9_.~/-]{0,5}",
                prop_oneof![
                    Just("GET"), Just("POST"), Just("HEAD"), Just("DELETE"), Just("OPTIONS"), Just("CONNECT"),
                    Just("TRACE"),
                ],
                prop_oneof![
                    Just("api.github.com".to_owned()), Just("api.openai.com".to_owned()), Just("github".to_owned()),
                    Just("[::1]".to_owned()), Just("10.1.2.3".to_owned()), "[a-b]{1,2}(\\.[a-b]{1,2})?", "[ -~]{1,8}",
                ],
                prop_oneof![Just(443_u16), Just(80), Just(8443), any::<u16>()],
                prop_oneof![
                    "(/[a-c]{0,2}){1,4}", "/[ -~]{0,12}(/[ -~]{0,6})?", "/(repos|user|v1)/[a-z]{1,3}", "/x{1020,1030}",
                ],
                proptest::option::of(prop_oneof![Just("github"), Just("disabled"), Just("s1"), Just("a.b")]),
                proptest::option::of(prop_oneof![Just("disabled"), Just("i1"), Just("1"), Just("true")]),
                "\\PC{0,20}",
            ),
            1..25,
        )
    ) {
        let log: Vec<String> = lines
            .iter()
            .map(|(tenant, agent, method, host, port, path, service, integration, reference)| {
                let record = json!({
                    "ts": "2026-11-24T10:05:13Z", "event": "decision", "decision_id": "1", "tenant_id": tenant,
                    "agent_id": agent, "decision": "allow", "service": service, "integration_id": integration,
                    "credential": {"kind": "static", "ref": reference},
                    "http": {"request_method": method, "host": host, "port": port, "path": path},
                });
                format!("{record}\n")
            })
            .collect();
        draft(&log.concat());
    }
}
