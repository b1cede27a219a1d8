use std::sync::LazyLock;

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

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::read);

/// The draft of a log. It always loads, and is always formatted.
fn draft(log: &str) -> Option<String> {
    let mut draft = Draft::default();
    let tally = read_text(log, |decision| draft.saw(&decision));
    let text = draft.write(&CATALOGUE, &tally)?;
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

/// A request to an MCP server, by method and name.
fn mcp(who: &str, url: &str, method: &str, name: &str) -> String {
    let key = if method == "tools/call" { "tool" } else { "name" };
    let mut rpc = json!({"method": method, "messages": 1});
    if !name.is_empty() {
        rpc[key] = json!(name);
    }
    line(who, &format!("POST {url}"), &json!({ "mcp": rpc }))
}

fn graphql(who: &str, url: &str, fields: &[&str]) -> String {
    line(who, &format!("POST {url}"), &json!({ "graphql": fields }))
}

#[test]
fn an_mcp_server_is_drafted_by_what_it_was_asked_for() {
    const URL: &str = "https://mcp.board.example/mcp";
    let mut log = [
        mcp("acme/bot", URL, "initialize", ""),
        mcp("acme/bot", URL, "notifications/initialized", ""),
        mcp("acme/bot", URL, "tools/list", ""),
        mcp("acme/bot", URL, "prompts/list", ""),
        mcp("acme/bot", URL, "tools/call", "list_issues"),
        mcp("acme/bot", URL, "tools/call", "get_issue"),
        mcp("acme/admin", URL, "tools/call", "delete_issue"),
        mcp("acme/admin", URL, "tools/call", "Lösch!"),
        mcp("acme/bot", URL, "resources/read", "issue:///17"),
        mcp("acme/bot", URL, "resources/subscribe", "issue:///18"),
        mcp("acme/bot", URL, "resources/read", &format!("file:///docs/{}", "x".repeat(187))),
        mcp("acme/bot", URL, "tasks/list", ""),
        mcp("acme/bot", URL, "", ""),
        mcp("acme/lurker", URL, "initialize", ""),
        mcp("globex/bot", "https://mcp.linear.app/mcp", "tools/call", "list_issues"),
        mcp("globex/bot", "https://mcp.linear.app/mcp", "tools/call", "create_comment"),
        mcp("globex/bot", "https://mcp.linear.app/mcp", "tools/list", ""),
    ]
    .concat();
    log += &requests(&[
        ("acme/bot", "GET https://mcp.board.example/mcp"),
        ("acme/bot", "DELETE https://mcp.board.example/mcp"),
        ("acme/bot", "POST https://mcp.board.example/mcp"),
        ("acme/bot", "GET https://mcp.board.example/health"),
        ("acme/bot", "CONNECT mcp.board.example:443"),
    ]);
    log += &mcp("acme/bot", URL, "tools/call", "two words");
    log += &mcp("acme/bot", URL, "tools/call", "all*");
    log += &mcp("acme/bot", URL, "tools/call", &"x".repeat(200));
    let batch = json!({"mcp": {"method": "tools/call", "tool": "get_issue", "messages": 2}});
    log += &line("acme/bot", &format!("POST {URL}"), &batch);
    let text = draft(&log).unwrap();
    assert_eq!(text, include_str!("mcp.golden.yaml"));
    let turned: String = log.lines().rev().flat_map(|line| [line, "\n"]).collect();
    assert_eq!(draft(&turned).unwrap(), text);
}

#[test]
fn a_server_that_was_only_greeted_has_a_line() {
    let text = draft(&mcp("t/a", "https://x.example/api/mcp", "tools/list", "")).unwrap();
    for line in ["  x-example-api-mcp:", "        - method tools/list", "        x-example-api-mcp: reader"] {
        assert!(text.lines().any(|own| own == line), "no `{line}`:\n{text}");
    }
}

#[test]
fn graphql_is_drafted_by_its_fields() {
    let api = "https://api.hub.example/api/graphql";
    let mut log = [
        graphql("t/a", api, &["query viewer", "query __typename"]),
        graphql("t/b", api, &["mutation issueCreate", "mutation issueClose"]),
        graphql("t/b", api, &["subscription issues"]),
        graphql("t/a", "https://api.hub.example/other", &["query elsewhere"]),
        graphql("t/a", "https://api.linear.app/graphql", &["mutation issueCreate"]),
        graphql("t/c", "https://usual.example/graphql", &["query __typename"]),
    ]
    .concat();
    log += &requests(&[
        ("t/b", &format!("POST {api}")),
        ("t/b", "POST https://api.hub.example/api/one"),
        ("t/b", "POST https://api.hub.example/api/two"),
        ("t/b", "POST https://api.hub.example/api/three"),
        ("t/b", "POST https://api.hub.example/api/four"),
    ]);
    let text = draft(&log).unwrap();
    assert_eq!(text, include_str!("graphql.golden.yaml"));
}

#[test]
fn a_server_and_what_else_is_on_its_host_are_two_services() {
    let via = json!({"service": "board", "integration_id": "board"});
    let log = [
        line("t/a", "GET https://x.example/items", &via),
        line(
            "t/a",
            "POST https://x.example/mcp",
            &json!({
                "mcp": {"method": "tools/call", "tool": "pay", "messages": 1},
                "service": "board", "integration_id": "board", "upstream_scheme": "http",
            }),
        ),
        line("t/a", "GET https://x.example/mcp", &via),
    ];
    let text = draft(&log.concat()).unwrap();
    for line in [
        "  board:",
        "    mcp: http://x.example/mcp",
        "        - tool pay",
        "  x-example:",
        "        - GET /items",
        "      board:",
        "      board-2:",
        "        service: x-example",
        "      - tool pay @ http://x.example/mcp",
        "      - GET https://x.example/items",
    ] {
        assert!(text.lines().any(|own| own.split(" # ").next() == Some(line)), "no `{line}`:\n{text}");
    }
}

#[test]
fn a_service_in_clear_is_drafted_so() {
    let clear = json!({"upstream_scheme": "http"});
    let text = draft(&line("t/a", "GET https://x.example/y", &clear)).unwrap();
    assert!(text.contains("    scheme: http # ") && text.contains("- GET http://x.example/y"), "{text}");
    let both =
        line("t/a", "GET https://x.example/y", &clear) + &requests(&[("t/a", "GET https://x.example/z")]);
    assert!(!draft(&both).unwrap().contains("scheme"));
}

#[test]
fn without_a_request_there_is_no_draft() {
    assert_eq!(draft(""), None);
    assert_eq!(draft(&requests(&[("t/a", "PROPFIND https://x.example/")])), None);
}

/// What a record may say of a body, and what it would never say.
fn body() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        "(get|list|create)_[a-c]",
        "[ -~]{1,12}",
        "\\PC{1,12}",
        ".{1,8}",
        "x{190,210}",
        "[é-ž ]{0,1000}",
        "(file|db|urn|\\*|a b):/{0,3}[a-d0-9 *]{0,3}(/[a-f]{0,2}){0,4}",
        Just("mcp".to_owned()),
        Just("@".to_owned()),
        Just("a via b".to_owned()),
        Just("*".to_owned()),
        Just("\u{202e}evil".to_owned()),
    ];
    let method = prop_oneof![
        Just("tools/call"),
        Just("resources/read"),
        Just("prompts/get"),
        Just("completion/complete"),
        Just("initialize"),
        Just("tools/list"),
        Just("prompts/list"),
        Just("resources/templates/list"),
        Just("tasks/list"),
        Just("a b"),
        Just("notifications/x"),
        Just(""),
        Just("*"),
    ];
    let field = (
        prop_oneof![Just("query"), Just("mutation"), Just("subscription"), Just("fragment")],
        prop_oneof![Just("__typename".to_owned()), "[a-c_]{1,3}", "[a-z ]{0,8}", "x{195,205}"],
    );
    let scheme = prop_oneof![Just("https"), Just("http"), Just("ftp")];
    prop_oneof![
        Just(json!({})),
        scheme.prop_map(|scheme| json!({ "upstream_scheme": scheme })),
        (method, proptest::option::of(name), any::<bool>(), 0..3_u64).prop_map(
            |(method, name, tool, messages)| {
                let mut rpc = json!({ "method": method, "messages": messages });
                if let Some(name) = name {
                    rpc[if tool { "tool" } else { "name" }] = json!(name);
                }
                json!({ "mcp": rpc })
            }
        ),
        proptest::collection::vec(field, 0..22).prop_map(|fields| {
            let fields: Vec<String> = fields.iter().map(|(kind, field)| format!("{kind} {field}")).collect();
            json!({ "graphql": fields })
        }),
    ]
}

#[test]
fn a_service_with_graphql_at_two_paths_becomes_two() {
    let shop = json!({"service": "shop", "integration_id": "shop"});
    let with = |fields: &str| {
        let mut more = shop.clone();
        more["graphql"] = json!([fields]);
        more
    };
    let log = [
        line("acme/bot", "POST https://one.example/stable/graphql", &with("query viewer")),
        line("acme/bot", "POST https://two.example/graphql", &with("mutation orderCreate")),
        line("acme/bot", "GET https://three.example/graphql", &shop),
    ];
    let text = draft(&log.concat()).unwrap();
    for wanted in [
        "  shop:\n    hosts:\n      - two.example\n    roles:",
        "  one-example:\n    hosts:\n      - one.example\n    graphql: /stable/graphql\n",
        "  three-example:\n    hosts:\n      - three.example\n    roles:\n      reader:\n        - GET /graphql\n",
        "- graphql query viewer @ https://one.example/stable/graphql\n",
        "- graphql mutation orderCreate @ https://two.example/graphql\n",
    ] {
        assert!(text.contains(wanted), "no {wanted}:\n{text}");
    }
}

#[test]
fn what_a_policy_keeps_for_an_endpoint_is_left_out() {
    let log = [
        mcp("acme/bot", "https://one.example/mcp", "tools/call", "get_x"),
        line("acme/bot", "OPTIONS https://one.example/MCP/", &Value::Null),
        line("acme/bot", "GET https://one.example/mcp.", &Value::Null),
        mcp("acme/bot", "https://one.example/**/mcp", "tools/call", "get_y"),
        mcp("acme/bot", "https://one.example/a*b", "tools/call", "get_z"),
    ];
    let text = draft(&log.concat()).unwrap();
    assert!(text.contains("# Left out: 2 requests that no line can grant"), "{text}");
    assert!(text.contains("# Left out: 1 request to an MCP server"), "{text}");
    assert!(text.contains("get_x") && !text.contains("get_y") && !text.contains("OPTIONS"), "{text}");
}

#[test]
fn what_falls_under_no_line_of_the_draft_is_counted_and_not_promised() {
    let github =
        json!({"service": "github", "integration_id": "github", "decision": "allow", "enforced": true});
    let log = [
        line("acme/bot", "GET https://api.github.com/user", &github),
        line("acme/bot", "GET https://uploads.github.com/repos/a/b/releases/1/assets", &Value::Null),
    ];
    draft(&log.concat()).unwrap();
}

#[test]
fn no_text_of_the_log_leaves_its_place() {
    let evil = "x\u{2028}mode: enforce\u{202e} # \u{85}y*/ {{z}}\ttab";
    let log = line(
        "acme/bot",
        "GET https://one.example/a",
        &json!({"decision": "allow", "enforced": true, "credential": {"kind": "static", "ref": evil}}),
    );
    let text = draft(&log).unwrap();
    let comment = text.lines().find(|line| line.contains("The log has")).unwrap();
    assert!(comment.ends_with("static xmode: enforce? # y*/ {{z}}tab"), "{comment}");
    assert!(!text.contains(['\u{2028}', '\u{202e}', '\u{85}', '\t']), "{text}");
    assert!(text.contains("mode: shadow # TODO") && text.matches("mode:").count() == 2, "{text}");
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
                    Just("mcp.linear.app".to_owned()), Just("api.linear.app".to_owned()),
                    Just("uploads.github.com".to_owned()),
                    Just("[::1]".to_owned()), Just("10.1.2.3".to_owned()), "[a-b]{1,2}(\\.[a-b]{1,2})?", "[ -~]{1,8}",
                ],
                prop_oneof![Just(443_u16), Just(80), Just(8443), any::<u16>()],
                prop_oneof![
                    "(/[a-c]{0,2}){1,4}", "/[ -~]{0,12}(/[ -~]{0,6})?", "/(repos|user|v1)/[a-z]{1,3}", "/x{1020,1030}",
                    "/(mcp|graphql)", "/[0-9]{1,2}/mcp", "(/(v1|api))?/(mcp|MCP|graphql|GraphQL)(/|[.]|%20|%3Fx|/x)?",
                    "(/([*]{1,3}|a[*]b|[.]{3}|~|mcp)){1,3}",
                ],
                proptest::option::of(prop_oneof![Just("github"), Just("disabled"), Just("s1"), Just("a.b"), Just("linear-mcp")]),
                proptest::option::of(prop_oneof![Just("disabled"), Just("i1"), Just("1"), Just("true")]),
                "\\PC{0,20}",
                body(),
            ),
            1..25,
        )
    ) {
        let log: Vec<String> = lines
            .iter()
            .map(|(tenant, agent, method, host, port, path, service, integration, reference, body)| {
                let mut record = json!({
                    "ts": "2026-11-24T10:05:13Z", "event": "decision", "decision_id": "1", "tenant_id": tenant,
                    "agent_id": agent, "decision": "allow", "service": service, "integration_id": integration,
                    "credential": {"kind": "static", "ref": reference},
                    "http": {"request_method": method, "host": host, "port": port, "path": path},
                });
                for (key, value) in body.as_object().into_iter().flatten() {
                    record[key] = value.clone();
                }
                format!("{record}\n")
            })
            .collect();
        draft(&log.concat());
    }
}
