//! What `when` of a guard says, and what it does where that cannot be told.

use super::{Caller, bodies::batch, policy, request};
use crate::decide::policy::Policy;

fn guarded(matched: &str, when: &str) -> Policy {
    policy(&format!(
        r#"
version: 1
services:
  pay: {{mcp: "https://pay.example/mcp", roles: {{user: ["tool *"]}}}}
  api: {{hosts: [api.example], roles: {{user: [ANY /**]}}}}
guards: [{{match: {matched}, when: '{when}', deny: no}}]
tenants:
  t:
    integrations: {{pay: {{credential: none}}, api: {{credential: none}}}}
    agents: {{"*": {{pay: user, api: user}}}}
"#
    ))
}

#[test]
fn a_condition_sees_the_request_and_who_asks_and_when() {
    let request = request("POST https://api.example/v1/things/7");
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    for (when, holds) in [
        ("request.method == \"POST\"", true),
        ("request.host == \"api.example\" && request.port == 443", true),
        ("request.path.startsWith(\"/v1/things/\")", true),
        ("request.segments[2] == \"7\"", true),
        ("request.path.matches(\"^/v2/\")", false),
        ("request.segments.exists(s, s.matches(\"^[0-9]$\")) && agent.matches(\"b.t\")", true),
        ("agent == \"bot\" && tenant == \"t\"", true),
        ("agent in [\"other\", \"another\"]", false),
        ("token.user == \"alice\"", true),
        ("time.hour == 22 && time.weekday == 2 && time.year == 2026", true),
        ("time.hour < 6", false),
        ("[\"a\", \"b\"].exists(x, x == agent)", false),
        // What cannot be told takes away.
        ("request.segments[1] > 7", true),
        ("token.claims.department != \"x\"", true),
        ("request.segments[99] == \"x\"", true),
    ] {
        let policy = guarded("ANY **", when);
        let caller = Caller::parse("t/bot+alice");
        let mut question = caller.question(&request);
        question.at = Some(at(1_795_559_400));
        assert_eq!(policy.judge(&question).permit().is_err(), holds, "{when}");
    }
}

#[test]
fn a_condition_sees_what_a_tool_is_called_with() {
    let call = |amount: &str| {
        batch(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"pay","arguments":{{"amount":{amount}}}}}}}"#
        ))
    };
    let policy = guarded("tool *", "request.tool == \"pay\" && request.arguments.amount > 100");
    let denied = |amount: &str| {
        let mut request = request("POST https://pay.example/mcp");
        request.seen = call(amount);
        policy.judge(&Caller::parse("t/bot").question(&request)).permit().is_err()
    };
    assert!(!denied("7"));
    assert!(denied("700"));
    assert!(denied("\"7\""), "a type that does not fit takes away");
    let call = |arguments: &str| {
        let mut request = request("POST https://pay.example/mcp");
        request.seen = batch(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"pay","arguments":{arguments}}}}}"#
        ));
        policy.judge(&Caller::parse("t/bot").question(&request)).permit().is_err()
    };
    assert!(call(r#"{"amount":7,"Amount":700}"#), "a server may take the other spelling");
    assert!(call(r#"{"AMOUNT":700}"#) && call(r#"{"amount":7,"x":{"y":1,"Y":2}}"#));
    assert!(!call(r#"{"amount":7,"x":{"y":1,"z":2}}"#));
    let long = format!("[{}]", vec!["1"; 5000].join(","));
    assert!(denied(&long), "what would take too long takes away");
}

#[test]
fn without_a_user_nothing_about_it_can_be_told() {
    let request = request("POST https://api.example/v1/things/7");
    for (when, holds) in [
        ("token.user == \"alice\"", true),
        ("token.user in [\"alice\", \"bob\"]", true),
        ("token.user != \"alice\"", true),
        ("has(token.user) && token.user == \"alice\"", false),
        ("!has(token.user)", true),
    ] {
        let policy = guarded("ANY **", when);
        let judgement = policy.judge(&Caller::parse("t/bot").question(&request)).permit().is_err();
        assert_eq!(judgement, holds, "{when}");
    }
}

/// Whether a guard with this condition takes a tool call with these arguments away.
fn holds(when: &str, arguments: &str) -> bool {
    let policy = guarded("tool *", when);
    let mut request = request("POST https://pay.example/mcp");
    request.seen = batch(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"pay","arguments":{arguments}}}}}"#
    ));
    policy.judge(&Caller::parse("t/bot").question(&request)).permit().is_err()
}

#[test]
fn a_value_of_another_type_does_not_pass_for_a_different_one() {
    for (when, same, other, evasions) in [
        ("request.arguments.a == 42", "42.0", "41", &["\"42\"", "[42]", "{\"value\":42}", "true"][..]),
        ("request.arguments.a == true", "true", "false", &["\"true\"", "1", "\"1\""]),
        ("request.arguments.a == \"prod\"", "\"prod\"", "\"dev\"", &["[\"prod\"]", "7", "{}"]),
        ("request.arguments.a != \"dev\"", "\"prod\"", "\"dev\"", &["[\"dev\"]", "null"]),
        ("request.arguments.a in [\"prod\", \"live\"]", "\"live\"", "\"dev\"", &["[\"prod\"]", "null"]),
        (
            "\"drop\" in request.arguments.a",
            "[\"x\",\"drop\"]",
            "[\"x\"]",
            &["[[\"drop\"]]", "\"drop\"", "[\"x\",1]"],
        ),
        (
            "request.arguments.a.exists(x, x == \"drop\")",
            "[\"drop\",1]",
            "[]",
            &["[[\"drop\"]]", "{\"0\":\"drop\"}", "\"drop\""],
        ),
        (
            "!request.arguments.a.all(x, x.endsWith(\"@acme.test\"))",
            "[\"b@x\"]",
            "[\"a@acme.test\"]",
            &["{\"a@acme.test\":\"b@x\"}", "\"b@x\""],
        ),
        ("request.arguments.a == [\"x\", 1]", "[\"x\",1]", "[\"y\",\"1\"]", &["[\"x\",\"1\"]", "\"x\""]),
        (
            "request.arguments.a == \"prod\" && request.arguments.b > 5",
            "\"prod\",\"b\":6",
            "\"dev\",\"b\":6",
            &["[\"prod\"],\"b\":6"],
        ),
        ("size(string(request.arguments.a)) > 3", "\"long\"", "\"l\"", &["[\"long\"]", "{}"]),
    ] {
        let with = |value: &str| holds(when, &format!("{{\"a\":{value}}}"));
        assert!(with(same), "{when}: {same}");
        assert!(!with(other), "{when}: {other}");
        for evasion in evasions {
            assert!(with(evasion), "{when}: {evasion}");
        }
    }
    assert!(!holds("request.arguments.a == null", "{\"a\":\"x\"}"), "that something is null can be told");
    assert!(holds("request.arguments.a == null", "{\"a\":null}"));
}

#[test]
fn a_member_that_a_condition_names_has_one_spelling() {
    for (when, there, evasions) in [
        ("\"force\" in request.arguments", "force", &["Force", "FORCE"][..]),
        ("request.arguments.exists(k, k == \"shell\")", "shell", &["Shell", "\u{17f}hell"]),
        (
            "has(request.arguments.amount) && request.arguments.amount > 5",
            "amount",
            &["Amount", "amount\\u0000"],
        ),
    ] {
        assert!(holds(when, &format!("{{\"{there}\":9}}")), "{when}");
        assert!(!holds(when, "{\"other\":9}"), "{when}");
        for evasion in evasions {
            assert!(holds(when, &format!("{{\"{evasion}\":9}}")), "{when}: {evasion}");
        }
        assert!(holds(when, &format!("{{\"__proto__\":{{\"{there}\":9}}}}")), "{when}");
    }
}
