//! What a difference says, and what it costs, where there are many tenants.

use std::{fmt::Write as _, fs};

use super::*;

fn differ(old: &str, new: &str) -> Diff {
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = [("old", old), ("new", new)].map(|(name, text)| {
        let path = directory.path().join(format!("{name}.yaml"));
        fs::write(&path, text).unwrap();
        path
    });
    match diff(&old, &new) {
        Ok(diff) => diff,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

fn compiled(text: &str) -> (Policy, Outline) {
    let (policy, outline) = Policy::compile_with_outline(&Sources::text("policy.yaml", text)).unwrap();
    (policy, outline)
}

fn side((policy, outline): &(Policy, Outline)) -> Side<'_> {
    Side { policy, outline, root: PathBuf::new() }
}

/// A policy of many tenants, each with the same five integrations and two agents.
fn many(tenants: usize, lines: &str, credential: impl Fn(usize) -> String) -> String {
    let mut text = format!(
        "version: 1\nservices:\n  api:\n    hosts: [api.example]\n    roles:\n      user: [{lines}]\ntenants:\n"
    );
    for number in 0..tenants {
        let credential = credential(number);
        let _ = writeln!(
            text,
            "  t{number:05}:\n    integrations: {{api: {credential}, openai: {credential}, github: {credential}, slack: {credential}, stripe: {credential}}}\n    agents: {{bot: {{api: user, openai: caller, github: reader}}, other: {{api: user, slack: reader, stripe: reader}}}}"
        );
    }
    text
}

fn none(_: usize) -> String {
    "{credential: none}".to_owned()
}

fn own(number: usize) -> String {
    format!("{{credential: {{static: {{bearer: \"env:KEY_{number}\"}}}}}}")
}

#[test]
fn many_equal_changes_are_one_sentence_and_all_of_them_in_json() {
    let found = differ(&many(200, "GET /a", none), &many(200, "GET /a, POST /b", none));
    assert_eq!(
        found.to_string(),
        "+ WRITE 400 agents of 200 tenants may POST /b on api.example via api (APP, no credential) \
         (t00000/bot, t00000/other, t00001/bot, …)\n"
    );
    let json = found.to_json();
    assert_eq!(json["changes"].as_array().unwrap().len(), 400);
    assert_eq!(json["changes"][1]["agent"], "other");
    assert_eq!(json["changes"][1]["access"], "write");
    assert_eq!(
        json["changes"][1]["sentence"],
        "+ WRITE t00000/other may POST /b on api.example via api (APP, no credential)"
    );

    let found = differ(&many(200, "GET /a", own), &many(200, "GET /a, POST /b", own));
    assert_eq!(
        found.to_string(),
        "+ WRITE 400 agents of 200 tenants may POST /b on api.example, each via its own integration \
         (t00000/bot, t00000/other, t00001/bot, …)\n"
    );
    let found = differ(&many(200, "GET /a", none), &many(200, "GET /a", own));
    assert_eq!(
        found.to_string(),
        "~ each of 200 tenants attaches a credential, in its own way (t00000, t00001, t00002, …)\n"
    );
}

#[test]
fn few_equal_changes_are_told_one_by_one() {
    let found = differ(&many(1, "GET /a", none), &many(1, "GET /a, GET /b", none));
    assert_eq!(
        found.to_string(),
        "+ t00000/bot may GET /b on api.example via api (APP, no credential)\n\
         + t00000/other may GET /b on api.example via api (APP, no credential)\n"
    );
}

#[test]
fn ten_thousand_tenants_are_compared_in_a_moment() {
    let (old, new) = (many(10_000, "GET /a", own), many(10_000, "GET /a, POST /b", own));
    let [old, new] = [old, new].map(|text| compiled(&text));
    let started = std::time::Instant::now();
    let diff = compare(&side(&old), &side(&new));
    assert_eq!(diff.changes.len(), 20_000);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[test]
fn a_role_of_thousands_of_lines_is_compared_in_a_moment() {
    let role = |change: &str, kind: &str| {
        let lines: Vec<String> = (0..16_000)
            .map(|number| match kind {
                "paths" if number % 2 == 0 => format!("GET /a/{number}{change}"),
                "paths" => format!("GET /a/x{number}/**"),
                "tools" if number % 2 == 0 => format!("tool get_{number}{change}"),
                _ => format!("tool {number}_*"),
            })
            .collect();
        let place = if kind == "tools" { "mcp: https://x.example/mcp" } else { "hosts: [x.example]" };
        let text = lines.join(", ");
        compiled(&one(&format!("api: {{{place}, roles: {{user: [{text}]}}}}"), "credential: none", ""))
    };
    for kind in ["paths", "tools"] {
        let (old, new) = (role("", kind), role("_", kind));
        let started = std::time::Instant::now();
        let diff = compare(&side(&old), &side(&new));
        assert_eq!(diff.changes.len(), 16_000);
        assert!(started.elapsed().as_secs() < 20, "{kind} {:?}", started.elapsed());
    }
}

/// A policy with one tenant `t` whose agent `bot` is `user` on `api`.
fn one(service: &str, integration: &str, rest: &str) -> String {
    format!(
        "version: 1\nservices:\n  {service}\ntenants:\n  t:\n    integrations: {{api: {{{integration}}}}}\n    agents: {{bot: {{api: user}}}}\n{rest}"
    )
}

const API: &str = "api: {hosts: [api.example], roles: {user: [GET /a]}}";

/// Each pair of policies, and what is said of them, in one direction and in the other.
fn says(old: &str, new: &str, there: &str, back: &str) {
    assert_eq!(differ(old, new).to_string(), there, "{old}\n{new}");
    assert_eq!(differ(new, old).to_string(), back, "back: {new}\n{old}");
}

const SAME: &str = "no change in reach\n";

/// Two directories with a file each, named as a shell completes them.
fn directories(write: impl Fn(&Path) -> String) -> (tempfile::TempDir, [PathBuf; 2]) {
    let here = tempfile::tempdir().unwrap();
    let both = ["old", "new"].map(|name| {
        let path = here.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("policy.yaml"), write(&path)).unwrap();
        path
    });
    (here, both)
}

#[test]
fn directories_with_the_same_content_do_not_differ() {
    let (_here, [old, new]) =
        directories(|_| one(API, "credential: {static: {bearer: \"file:secrets/key\"}}", ""));
    for end in ["", "/", "//", "/."] {
        let [old, new] = [&old, &new].map(|path| PathBuf::from(format!("{}{end}", path.display())));
        assert_eq!(diff(&old, &new).unwrap().to_string(), SAME, "{end}");
    }
}

#[test]
fn only_where_a_relative_reference_begins_is_the_directory_left_out() {
    for (reference, is) in [("file:{}/key", "file:{}/key"), ("vault:{}/key#field", "vault:{}/key#field")] {
        let (_here, [old, new]) = directories(|path| {
            let named = reference.replace("{}", &path.display().to_string());
            let named = if path.ends_with("new") { "file:key".to_owned() } else { named };
            one(API, &format!("credential: {{static: {{bearer: \"{named}\"}}}}"), "")
        });
        let is = is.replace("{}", &old.display().to_string());
        assert_eq!(
            diff(&old, &new).unwrap().to_string(),
            format!(
                "~ t attaches another credential on api: `Authorization: Bearer` from file:key, was \
                 `Authorization: Bearer` from {is}\n"
            )
        );
    }
    // One absolute name in both is one secret.
    let (_here, [old, new]) = directories(|path| {
        let secret = path.parent().unwrap().join("old/key").display().to_string();
        one(API, &format!("credential: {{static: {{bearer: \"file:{secret}\"}}}}"), "")
    });
    assert_eq!(diff(&old, &new).unwrap().to_string(), SAME);
}

#[test]
fn a_constant_is_never_shown() {
    let basic = |user: &str, password: &str| {
        one(API, &format!("credential: {{static: {{basic: {{user: {user}, password: {password}}}}}}}"), "")
    };
    let found = differ(&one(API, "credential: none", ""), &basic("\"env:USER\"", "hunter2"));
    let from = "`Authorization: Basic` from env:USER and a constant";
    assert_eq!(found.to_string(), format!("~ t attaches a credential on api: {from}, was none\n"));
    assert!(!found.to_json().to_string().contains("hunter2"));
    let other = "attaches another credential on api: ";
    says(
        &basic("\"env:USER\"", "hunter2"),
        &basic("\"env:USER\"", "hunter3"),
        &format!("~ t {other}{from}, with other details\n"),
        &format!("~ t {other}{from}, with other details\n"),
    );
    let examined = crate::decide::Examined::from_text("p.yaml", &basic("AC123", "\"env:PASSWORD\"")).unwrap();
    let inquiry = crate::decide::Inquiry {
        tenant: "t",
        agent: "bot",
        user: None,
        request: "GET https://api.example/a",
        at: None,
        integration: None,
    };
    let explained = examined.explain(&inquiry).unwrap().to_string();
    assert!(explained.contains("from a constant and env:PASSWORD"), "{explained}");
    assert!(!explained.contains("AC123"), "{explained}");
}

#[test]
fn in_which_order_a_credential_is_written_makes_no_difference() {
    let [one_way, other] = ["{X-A: \"env:A\", X-B: \"env:B\"}", "{X-B: \"env:B\", X-A: \"env:A\"}"]
        .map(|header| one(API, &format!("credential: {{static: {{header: {header}}}}}"), ""));
    says(&one_way, &other, SAME, SAME);
}

#[test]
fn in_shadow_mode_whoever_has_a_role_may_do_anything() {
    let policy = |mode: &str, agents: &str| {
        format!(
            "version: 1\nservices:\n  {API}\ntenants:\n  t:\n    mode: {mode}\n    integrations: {{api: {{credential: none}}}}\n    agents: {agents}\n"
        )
    };
    let any = "send any request to api.example via api";
    says(
        &policy("shadow", "{}"),
        &policy("shadow", "{bot: {api: user}}"),
        &format!(
            "+ WRITE t/bot may {any} (APP, no credential): shadow mode enforces no role and no guard\n\
             + t/bot may GET /a on api.example via api (APP, no credential; not enforced)\n"
        ),
        &format!(
            "- t/bot may no longer {any}; without its credential they go out still\n\
             - t/bot may no longer GET /a on api.example via api (not enforced)\n"
        ),
    );
    says(
        &policy("enforce", "{bot: {api: user}}"),
        &policy("shadow", "{bot: {api: user}}"),
        &format!(
            "+ WRITE t is in shadow mode: no role and no guard is enforced, what no role covers goes out, too\n\
             + WRITE t/bot may {any} (APP, no credential): shadow mode enforces no role and no guard\n"
        ),
        &format!(
            "- t/bot may no longer {any}\n\
             - t is in shadow mode no longer: its roles and guards are enforced\n"
        ),
    );
    let gone = differ(&policy("shadow", "{}"), "version: 1\n").to_string();
    assert_eq!(gone, "- t is in shadow mode no longer: it is gone or switched off, and nothing goes out\n");
    let switched_off = policy("shadow", "{bot: {api: user, disabled: true}}");
    assert!(
        differ(&policy("shadow", "{bot: {api: user}}"), &switched_off)
            .to_string()
            .ends_with("may no longer GET /a on api.example via api\n")
    );
}

#[test]
fn a_guard_that_is_gone_or_in_shadow_mode_gives_reach() {
    let writes = "api: {hosts: [api.example], roles: {user: [DELETE /a]}}";
    let policy = |guard: &str| one(writes, "credential: none", guard);
    let guard = |more: &str| format!("guards:\n  - {{match: DELETE **, require: approval{more}}}\n");
    let weaker = "+ WRITE t/bot: DELETE /a on api.example via api needs an approval no longer\n";
    let stricter = "- t/bot: DELETE /a on api.example via api needs an approval now\n";
    says(&policy(&guard("")), &policy(""), weaker, stricter);
    says(
        &policy(&guard("")),
        &policy(&guard(", shadow: true")),
        &format!("+ WRITE guard `DELETE **`: takes nothing away, it is in shadow mode now\n{weaker}"),
        &format!("- guard `DELETE **`: is in shadow mode no longer, it is enforced now\n{stricter}"),
    );
}

#[test]
fn what_gives_write_access_comes_first() {
    let policy = |lines: &str, guard: &str| {
        let service = format!("api: {{hosts: [api.example], roles: {{user: [{lines}]}}}}");
        one(&service, "credential: none", guard)
    };
    let guard = "guards:\n  - {match: DELETE **, require: approval}\n";
    says(
        &policy("DELETE /a", guard),
        &policy("DELETE /a, GET /b, POST /c", ""),
        "+ WRITE t/bot may POST /c on api.example via api (APP, no credential)\n\
         + WRITE t/bot: DELETE /a on api.example via api needs an approval no longer\n\
         + t/bot may GET /b on api.example via api (APP, no credential)\n",
        "- t/bot may no longer POST /c on api.example via api\n\
         - t/bot: DELETE /a on api.example via api needs an approval now\n\
         - t/bot may no longer GET /b on api.example via api\n",
    );
}

#[test]
fn every_host_that_is_gained_or_lost_is_named() {
    let hosts = |from: usize, to: usize| -> String {
        (from..to).map(|number| format!("h{number}.example")).collect::<Vec<_>>().join(", ")
    };
    let policy = |hosts: &str, lines: &str| {
        one(&format!("api: {{hosts: [{hosts}], roles: {{user: [{lines}]}}}}"), "credential: none", "")
    };
    let added = hosts(5, 10);
    says(
        &policy(&hosts(0, 5), "GET /a"),
        &policy(&hosts(0, 10), "GET /a"),
        &format!("+ t/bot may GET /a on {added} via api (APP, no credential)\n"),
        &format!("- t/bot may no longer GET /a on {added} via api\n"),
    );
    let found = differ(&policy(&hosts(0, 5), "GET /a"), &policy(&hosts(0, 5), "GET /a, GET /b"));
    assert_eq!(
        found.to_string(),
        "+ t/bot may GET /b on h0.example, h1.example, h2.example and 2 more via api (APP, no credential)\n"
    );
    assert_eq!(found.to_json()["changes"][0]["hosts"].as_array().unwrap().len(), 5);
}

#[test]
fn the_first_host_is_where_the_gateway_goes() {
    let policy = |hosts: &str| {
        one(&format!("api: {{hosts: [{hosts}], roles: {{user: [GET /a]}}}}"), "credential: none", "")
    };
    says(
        &policy("a.example, b.example"),
        &policy("b.example, a.example"),
        "~ t sends what comes to the gateway to b.example for api, was a.example\n",
        "~ t sends what comes to the gateway to a.example for api, was b.example\n",
    );
}

#[test]
fn a_limit_has_a_rate_and_what_may_pass_at_once() {
    let policy = |limit: &str| one(API, &format!("credential: none, limit: {limit}"), "");
    for (old, new, there, back) in [
        ("10/min", "20/min", "a higher limit", "a lower limit"),
        (
            "10/min",
            "600/h",
            "the same limit, but one that lets more pass at once",
            "the same limit, but one that lets fewer pass at once",
        ),
        (
            "10/s",
            "300/min",
            "a lower limit, but one that lets more pass at once",
            "a higher limit, but one that lets fewer pass at once",
        ),
    ] {
        says(
            &policy(old),
            &policy(new),
            &format!("~ t has {there} on api: {new}, was {old}\n"),
            &format!("~ t has {back} on api: {old}, was {new}\n"),
        );
    }
    says(
        &one(API, "credential: none", ""),
        &policy("10/min"),
        "~ t has a limit on api: 10/min\n",
        "~ t has a limit no longer on api: it was 10/min\n",
    );
}

#[test]
fn approvals_are_told_one_by_one() {
    let policy = |approvals: &str| one(API, "credential: none", &format!("approvals: {approvals}\n"));
    for (old, new, there, back) in [
        (
            "{by: \"group:a\"}",
            "{by: \"group:b\"}",
            "are given by group:b, was group:a",
            "are given by group:a, was group:b",
        ),
        (
            "{by: \"group:a\"}",
            "{by: \"group:a\", within: 60s}",
            "a yes is good for 60s, was 900s",
            "a yes is good for 900s, was 60s",
        ),
        (
            "{by: \"group:a\"}",
            "{by: \"group:a\", hold: 30s}",
            "a request waits for one 30s, was not at all",
            "a request waits for one not at all, was 30s",
        ),
    ] {
        let said = |what: &str| format!("~ approvals: {what}\n");
        says(&policy(old), &policy(new), &said(there), &said(back));
    }
}

#[test]
fn how_a_server_is_spoken_to_is_told_as_it_is() {
    let policy = |server: &str| {
        one(&format!("api: {{{server}, roles: {{user: [tool get_x]}}}}"), "credential: none", "")
    };
    let said = |what: &str| format!("~ service api: {what}\n");
    let http = policy("mcp: https://x.example/mcp");
    says(
        &http,
        &policy("mcp: https://x.example/mcp, transport: sse"),
        &said("is spoken to by HTTP with SSE (`transport: sse`), with messages to /message"),
        &said("is spoken to by Streamable HTTP, was HTTP with SSE"),
    );
    says(
        &policy("mcp: https://x.example/mcp, transport: sse"),
        &policy("mcp: https://x.example/mcp, transport: sse, messages: /post"),
        &said("its messages go to /post, was /message"),
        &said("its messages go to /message, was /post"),
    );
    says(
        &http,
        &policy("mcp: https://x.example/v2"),
        &said("its MCP endpoint is /v2, was /mcp"),
        &said("its MCP endpoint is /mcp, was /v2"),
    );
}

#[test]
fn a_test_is_what_it_asks_and_promises() {
    let policy = |line: &str| {
        let service = "api: {hosts: [api.example], roles: {user: [GET /a, DELETE /a]}}";
        one(service, "credential: none", &format!("tests:\n  - {{as: t/bot, {line}}}\n"))
    };
    says(
        &policy("allow: [GET https://api.example/a]"),
        &policy("allow: [\"GET  https://API.example:443/a\"]"),
        SAME,
        SAME,
    );
    let other = "allow: [DELETE https://api.example/a]";
    says(
        &policy("allow: [GET https://api.example/a]"),
        &policy(other),
        "~ test: `t/bot: allow GET https://api.example/a` is promised no longer\n",
        "~ test: `t/bot: allow DELETE https://api.example/a` is promised no longer\n",
    );
    let guard = "guards:\n  - {match: DELETE **, require: approval}\n";
    let approved = policy(other).replace("allow", "approve") + guard;
    let found = differ(&policy(other), &approved).to_string();
    let now = "~ test: `t/bot: approve DELETE https://api.example/a` is promised now, in place of \
               `t/bot: allow DELETE https://api.example/a`\n";
    assert!(found.contains(now), "{found}");
}

#[test]
fn a_host_that_becomes_ambiguous_is_told() {
    let policy = |grants: &str| {
        format!(
            "version: 1\nservices:\n  {API}\ntenants:\n  t:\n    integrations: {{one: {{service: api, credential: none}}, two: {{service: api, credential: none}}}}\n    agents: {{bot: {{{grants}}}}}\n"
        )
    };
    says(
        &policy("one: user"),
        &policy("one: user, two: user"),
        "+ t/bot may GET /a on api.example via two (APP, no credential)\n\
         - t/bot: `one` and `two` both reach api.example now: what both know, or neither, is refused with \
         `integration_ambiguous` unless it names one in `X-Agent-Integration`\n",
        "+ t/bot: `one` and `two` both reach api.example no longer: requests need not name one of them\n\
         - t/bot may no longer GET /a on api.example via two\n",
    );
    let apart = policy("one: user, two: user")
        .replace("tenants:", "  other: {hosts: [b.example], roles: {user: [GET /a]}}\ntenants:")
        .replace("two: {service: api", "two: {service: other");
    let found = differ(&apart, &policy("one: user, two: user")).to_string();
    assert!(found.contains("`one` and `two` both reach api.example now"), "{found}");
}

#[test]
fn what_is_unusual_with_a_new_integration_is_told() {
    let policy = |agents: &str| {
        format!(
            "version: 1\nservices:\n  api: {{hosts: [api.example], scheme: http, allow_private_addresses: [10.0.0.0/8], keep: {{request_headers: [cookie]}}, roles: {{user: [GET /a]}}}}\ntenants:\n  t: {agents}\n"
        )
    };
    says(
        &policy("{}"),
        &policy("{integrations: {api: {credential: none}}, agents: {bot: {api: user}}}"),
        "+ t has a new integration that is reached by http: requests and any credential go out in clear; that \
         may resolve to private addresses in 10.0.0.0/8; that lets through the request headers cookie (api)\n\
         + t/bot may GET /a on api.example via api (APP, no credential)\n",
        "- t/bot may no longer GET /a on api.example via api\n",
    );
}

#[test]
fn another_service_is_not_the_old_one_changed() {
    let policy = |service: &str| {
        format!(
            "version: 1\nservices:\n  a: {{hosts: [api.example], roles: {{user: [GET /a]}}}}\n  b: {{hosts: [api.example], via: false, roles: {{user: [GET /a]}}}}\ntenants:\n  t:\n    integrations: {{api: {{service: {service}, credential: none}}}}\n    agents: {{bot: {{api: user}}}}\n"
        )
    };
    says(
        &policy("a"),
        &policy("b"),
        "~ service b, in place of a: `Via` is not sent\n",
        "~ service a, in place of b: `Via` is sent\n",
    );
}

#[test]
fn what_a_role_had_and_a_guard_denied_it_did_not_have() {
    let policy = |line: &str, guard: &str| {
        let service = format!("api: {{hosts: [api.example], roles: {{user: [{line}]}}}}");
        one(&service, "credential: none", guard)
    };
    let guard = "guards:\n  - {match: POST /a/b, deny: no}\n";
    let found = differ(&policy("POST /a/b", guard), &policy("POST /a/**", guard)).to_string();
    assert_eq!(
        found,
        "+ WRITE t/bot may POST /a/** on api.example via api (APP, no credential); what `POST /a/b` covers is \
         denied\n"
    );
}

#[test]
fn a_tool_with_any_word_that_writes_is_a_write() {
    let policy = |tools: &str| {
        let service = format!("api: {{mcp: \"https://x.example/mcp\", roles: {{user: [{tools}]}}}}");
        one(&service, "credential: none", "")
    };
    for (tool, write) in [
        ("find_and_delete_user", " WRITE"),
        ("bulk_update", " WRITE"),
        ("list_or_create", " WRITE"),
        ("frobnicate", " WRITE"),
        ("get_comment", ""),
    ] {
        assert_eq!(
            differ(&policy("tool get_x"), &policy(&format!("tool get_x, tool {tool}"))).to_string(),
            format!("+{write} t/bot may use tool {tool} on x.example via api (APP, no credential)\n")
        );
    }
}

#[test]
fn a_program_reads_facts_and_not_sentences() {
    let service = "api: {hosts: [api.example], roles: {user: [GET /a], other: [GET /a, POST|DELETE /b]}}";
    let guard = "guards:\n  - {match: DELETE **, require: approval, when: time.hour < 8}\n";
    let old = one(service, "credential: {static: {bearer: \"env:KEY\"}}", guard);
    let new = old.replace("{bot: {api: user}}", "{bot: {api: other}}");
    let json = differ(&old, &new).to_json();
    assert_eq!(
        json["changes"][0],
        serde_json::json!({
            "kind": "gain",
            "change": "gained",
            "about": "reach",
            "access": "write",
            "enforced": true,
            "tenant": "t",
            "agent": "bot",
            "integration": "api",
            "service": "api",
            "action": {"kind": "http", "methods": ["DELETE"], "path": "/b"},
            "hosts": ["api.example"],
            "credential": {
                "tier": "APP",
                "kind": "static",
                "references": ["env:KEY"],
                "text": "`Authorization: Bearer` from env:KEY",
            },
            "guards": [{"match": "DELETE **", "effect": "approval", "when": "time.hour < 8"}],
            "sentence": "+ WRITE t/bot may DELETE /b on api.example via api (APP, `Authorization: Bearer` from \
                         env:KEY); what `DELETE **` covers where `time.hour < 8` needs an approval",
        })
    );
    let json = differ(&old, &old.replace("env:KEY", "env:OTHER")).to_json();
    assert_eq!(json["changes"][0]["about"], "credential");
    assert_eq!(json["changes"][0]["credential"]["references"][0], "env:OTHER");
    assert_eq!(json["changes"][0]["old_credential"]["references"][0], "env:KEY");
}

mod judged {
    //! The difference agrees with what is decided: no request changes its answer and is not spoken of.

    use proptest::prelude::*;

    use super::*;
    use crate::{
        context::{AgentId, Selection, TenantId},
        decide::{judge::Question, parts::promise::Request},
    };

    fn line() -> BoxedStrategy<String> {
        let methods = prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "GET|POST", "ANY"]);
        let paths = ["/**", "/a", "/a/", "/a/*", "/a/**", "/a/b", "/*/b", "/a*/b", "/*b/**", "/A/**"];
        (methods, prop::sample::select(paths.to_vec()))
            .prop_map(|(methods, path)| format!("{methods} {path}"))
            .boxed()
    }

    fn guard() -> BoxedStrategy<String> {
        let does = [
            "require: approval",
            "deny: no",
            "require: approval, shadow: true",
            "deny: no, when: request.path == \"/a/b\"",
        ];
        (line(), prop::sample::select(does.to_vec()))
            .prop_map(|(line, does)| format!("  - {{match: {line}, {does}}}\n"))
            .boxed()
    }

    fn field() -> BoxedStrategy<String> {
        let fields = ["query *", "query a", "mutation *", "mutation x", "mutation y*"];
        prop::sample::select(fields.to_vec()).prop_map(|field| format!("graphql {field}")).boxed()
    }

    fn field_guard() -> BoxedStrategy<String> {
        let does = prop::sample::select(vec!["require: approval", "deny: no"]);
        let what = prop_oneof![field(), Just("POST /graphql".to_owned()), Just("GET|POST /**".to_owned())];
        (what, does).prop_map(|(what, does)| format!("  - {{match: \"api {what}\", {does}}}\n")).boxed()
    }

    fn tools() -> BoxedStrategy<String> {
        let names = ["*", "get_*", "*_x", "get_x", "delete_x", "delete_*", "g*x"];
        let kinds = ["tool", "prompt"];
        (prop::sample::select(kinds.to_vec()), prop::sample::select(names.to_vec()))
            .prop_map(|(kind, name)| format!("{kind} {name}"))
            .boxed()
    }

    fn tool_guard() -> BoxedStrategy<String> {
        let does = prop::sample::select(vec!["require: approval", "deny: no"]);
        let what = prop_oneof![tools(), Just("POST /mcp".to_owned()), Just("POST /x/**".to_owned())];
        (what, does).prop_map(|(what, does)| format!("  - {{match: \"mcp {what}\", {does}}}\n")).boxed()
    }

    /// A policy with these lines and guards.
    fn written() -> impl Strategy<Value = String> {
        let some = prop::collection::vec::<BoxedStrategy<String>>;
        let roles = (some(line(), 1..3), some(field(), 0..3), some(tools(), 1..3));
        let guards = (some(guard(), 0..2), some(tool_guard(), 0..2), some(field_guard(), 0..2));
        (roles, guards).prop_map(|((lines, fields, tools), (guards, of_tools, of_fields))| {
            let mut text = format!(
                "version: 1\nservices:\n  api: {{hosts: [api.example], roles: {{user: [{}]}}}}\n  mcp: {{mcp: \"https://mcp.example/mcp\", roles: {{user: [{}]}}}}\ntenants:\n  t:\n    integrations: {{api: {{credential: none}}, mcp: {{credential: none}}}}\n    agents: {{bot: {{api: user, mcp: user}}}}\n",
                [lines, fields].concat().join(", "),
                tools.join(", "),
            );
            let guards = [guards, of_tools, of_fields].concat();
            if !guards.is_empty() {
                text.push_str("guards:\n");
            }
            text.push_str(&guards.concat());
            text
        })
    }

    /// Whether a policy allows a request, and whether somebody has to agree.
    fn answer(policy: &Policy, request: &Request) -> Option<bool> {
        let (tenant, agent) = (TenantId::parse("t").unwrap(), AgentId::parse("bot").unwrap());
        let selection = Selection { integration: None, tier: None };
        let question = Question {
            tenant: &tenant,
            agent: &agent,
            user: None,
            ask: request.ask,
            method: request.method,
            target: &request.target,
            seen: &request.seen,
            selection: &selection,
            token: None,
            at: None,
        };
        policy.judge(&question).permit().ok().map(|permit| permit.approval.is_some())
    }

    fn requests() -> Vec<Request> {
        let mut lines = Vec::new();
        for method in ["GET", "HEAD", "POST", "DELETE", "PUT"] {
            for path in ["/", "/a", "/a/", "/A/x", "/a/b", "/a/c", "/ax/b", "/x/b", "/xb/c", "/a/b/c", "/q"] {
                lines.push(format!("{method} https://api.example{path}"));
            }
        }
        for field in ["query a", "query b", "mutation x", "mutation yy"] {
            lines.push(format!("graphql {field} @ https://api.example/graphql"));
        }
        for kind in ["tool", "prompt"] {
            for name in ["get_x", "get_y", "delete_x", "delete_y", "x", "gx"] {
                lines.push(format!("{kind} {name} @ https://mcp.example/mcp"));
            }
        }
        lines.iter().map(|line| Request::read(line).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_answer_changes_without_a_word(old in written(), new in written()) {
            let (old_policy, new_policy) = (compiled(&old), compiled(&new));
            let diff = compare(&side(&old_policy), &side(&new_policy));
            for request in requests() {
                let host = request.target.authority.host.to_string();
                let says = |kinds: &[Kind]| {
                    let mut changes = diff.changes.iter();
                    changes.any(|change| kinds.contains(&change.kind) && change.what.contains(&host))
                };
                let answers = (answer(&old_policy.0, &request), answer(&new_policy.0, &request));
                let told = match answers {
                    (before, now) if before == now => true,
                    (None, Some(_)) | (Some(true), Some(false)) => says(&[Kind::Gain, Kind::Weaker]),
                    _ => says(&[Kind::Loss, Kind::Stricter]),
                };
                prop_assert!(told, "{:?} {:?}\n{old}\n{new}\n{diff}", answers, request);
            }
        }

        #[test]
        fn what_stays_as_it_is_is_not_spoken_of(text in written()) {
            let policy = compiled(&text);
            prop_assert_eq!(compare(&side(&policy), &side(&policy)).to_string(), "no change in reach\n");
        }
    }
}
