//! What policies decide about requests that say in the body what they do.

use std::sync::Arc;

use super::{Caller, answer, policy, request};
use crate::{
    decide::{parts::act::Seen, policy::Policy},
    graphql, mcp,
    target::Method,
};

const SERVERS: &str = r#"
version: 1
services:
  linear:
    mcp: https://mcp.linear.example/mcp
    roles:
      reader: [tool get_*, tool list_*, "resource issue:///*"]
      admin: [include: reader, "tool *", prompt plan, method tasks/*]
  old:
    mcp: https://old.example/sse
    transport: sse
    messages: /messages/
    roles: {user: [tool echo]}
  tools-one: {mcp: "https://tools.example/one/mcp", roles: {user: [tool a]}}
  tools-two: {mcp: "https://tools.example/two/mcp", roles: {user: [tool b]}}
  hub:
    hosts: [api.hub.example]
    roles:
      reader: [GET /v1/**, graphql query *]
      triager: [include: reader, graphql mutation issue*]
      open: [POST /graphql]
  shop:
    hosts: [shop.example]
    graphql: /admin/api/*/graphql.json
    roles: {reader: [graphql query]}
  speech: {hosts: [speech.example], roles: {caller: [grpc /speech.v1.Speech/Recognize]}}
guards:
  - {match: linear tool delete_*, require: approval}
  - {match: linear tool drop_*, deny: nothing is dropped}
  - {match: hub graphql mutation issueDelete, deny: issues stay}
  - {match: "linear resource issue:///secret/*", deny: secrets stay}
  - {match: DELETE **, require: approval}
tenants:
  t:
    integrations:
      linear: {credential: none}
      old: {credential: none}
      tools-one: {credential: none}
      tools-two: {credential: none}
      hub: {credential: none}
      shop: {credential: none}
      speech: {credential: none}
    agents:
      reader: {linear: reader, hub: reader, shop: reader, old: user, tools-one: user, tools-two: user, speech: caller}
      admin: {linear: admin, hub: triager}
      open: {hub: open}
"#;

fn check(policy: &Policy, table: &[(&str, &str, &str)]) {
    for (who, line, expected) in table {
        assert_eq!(answer(policy, &format!("t/{who}"), line), *expected, "{who}: {line}");
    }
}

const LINEAR: &str = "linear https://mcp.linear.example:443";
const HUB: &str = "hub https://api.hub.example:443";

#[test]
fn a_tool_is_granted_by_its_name() {
    let policy = policy(SERVERS);
    let at = |what: &str| format!("{what} @ https://mcp.linear.example/mcp");
    for (who, what, expected) in [
        ("reader", "tool list_issues", LINEAR),
        ("reader", "tool LIST_issues", "action_denied"),
        ("reader", "tool create_issue", "action_denied"),
        ("reader", "resource issue:///7/comments", LINEAR),
        ("reader", "resource file:///etc/passwd", "action_denied"),
        ("reader", "prompt plan", "action_denied"),
        ("reader", "method tasks/list", "action_denied"),
        ("admin", "tool create_issue", LINEAR),
        ("admin", "prompt plan", LINEAR),
        ("admin", "method tasks/list", LINEAR),
        ("admin", "method elicitation/create", "action_denied"),
        ("admin", "tool Drop_all", "action_denied"),
    ] {
        check(&policy, &[(who, &at(what), expected)]);
    }
}

#[test]
fn an_endpoint_takes_what_its_transport_needs_and_nothing_else() {
    let policy = policy(SERVERS);
    check(
        &policy,
        &[
            ("reader", "GET https://mcp.linear.example/mcp", LINEAR),
            ("reader", "DELETE https://mcp.linear.example/mcp", LINEAR),
            ("reader", "POST https://mcp.linear.example/mcp", "action_denied"),
            ("reader", "PUT https://mcp.linear.example/mcp", "action_denied"),
            ("reader", "GET https://mcp.linear.example/MCP", "action_denied"),
            (
                "reader",
                "GET https://mcp.linear.example/.well-known/oauth-protected-resource",
                "action_denied",
            ),
            ("reader", "tool list_x @ https://mcp.linear.example/other", "action_denied"),
            ("reader", "GET https://old.example/sse", "old https://old.example:443"),
            ("reader", "tool echo @ https://old.example/messages/", "old https://old.example:443"),
            ("reader", "tool echo @ https://old.example/sse", "action_denied"),
            ("reader", "POST https://old.example/Messages", "action_denied"),
            ("reader", "DELETE https://old.example/sse", "action_denied"),
        ],
    );
}

#[test]
fn servers_behind_one_host_are_told_apart_by_their_endpoints() {
    check(
        &policy(SERVERS),
        &[
            ("reader", "tool a @ https://tools.example/one/mcp", "tools-one https://tools.example:443"),
            ("reader", "tool b @ https://tools.example/two/mcp", "tools-two https://tools.example:443"),
            ("reader", "tool b @ https://tools.example/one/mcp", "action_denied"),
            ("reader", "GET https://tools.example/", "integration_ambiguous"),
        ],
    );
}

#[test]
fn a_list_is_given_to_a_role_that_names_what_is_in_it() {
    let policy = policy(SERVERS);
    let may = |who: &str, method: &str| {
        let mut request = request("POST https://mcp.linear.example/mcp");
        request.seen = batch(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#));
        policy.judge(&Caller::parse(who).question(&request)).permit().is_ok()
    };
    assert!(may("t/reader", "tools/list") && may("t/reader", "resources/list"));
    assert!(may("t/reader", "resources/templates/list") && !may("t/reader", "prompts/list"));
    assert!(may("t/admin", "prompts/list"));
}

#[test]
fn services_that_share_a_host_are_told_apart_by_what_they_know() {
    let policy = policy(
        r"
version: 1
services:
  drive: {hosts: [www.apis.example], roles: {reader: [GET /drive/**], writer: [ANY /drive/**]}}
  calendar: {hosts: [www.apis.example], roles: {reader: [GET /calendar/**]}}
tenants:
  t:
    integrations:
      drive: {credential: none}
      drive-two: {service: drive, credential: none}
      calendar: {credential: none}
    agents:
      bot: {drive: reader, calendar: reader}
      both: {drive: reader, drive-two: writer, calendar: reader}
",
    );
    let ask = |who: &str, method: &str, path: &str| {
        answer(&policy, who, &format!("{method} https://www.apis.example{path}"))
    };
    assert_eq!(ask("t/bot", "GET", "/drive/v3/files"), "drive https://www.apis.example:443");
    assert_eq!(ask("t/bot", "GET", "/calendar/v3"), "calendar https://www.apis.example:443");
    // A service is chosen by what it knows, not by what the agent may do: no role is a way to another's credential.
    assert_eq!(ask("t/bot", "DELETE", "/drive/v3/files"), "action_denied");
    assert_eq!(ask("t/bot", "GET", "/other"), "integration_ambiguous");
    assert_eq!(ask("t/both", "DELETE", "/drive/v3/files"), "integration_ambiguous");
}

pub(super) fn batch(body: &str) -> Arc<Seen> {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    Arc::new(Seen::Mcp(mcp::Body::read(body.as_bytes(), &headers).unwrap()))
}

#[test]
fn every_message_of_a_batch_is_decided() {
    let policy = policy(SERVERS);
    let call = |name: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    };
    let allowed = |messages: &[&str]| {
        let mut request = request("POST https://mcp.linear.example/mcp");
        request.seen = batch(&format!("[{}]", messages.join(",")));
        let caller = Caller::parse("t/reader");
        policy.judge(&caller.question(&request)).permit().is_ok()
    };
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    assert!(allowed(&[&call("list_a"), ping, &call("get_b")]));
    assert!(!allowed(&[ping, &call("list_a"), &call("create_c")]));
    assert!(allowed(&[ping]));
}

#[test]
fn a_guard_asks_for_a_yes_and_a_denial_comes_first() {
    let policy = policy(SERVERS);
    let asks = |who: &str, line: &str| {
        let (caller, request) = (Caller::parse(who), request(line));
        let judgement = policy.judge(&caller.question(&request));
        judgement.permit().ok().and_then(|permit| permit.approval.clone()).map(|a| (a.guard, a.action))
    };
    assert_eq!(
        asks("t/admin", "tool delete_issue @ https://mcp.linear.example/mcp"),
        Some(("guards[0]".into(), "tool delete_issue".into()))
    );
    assert_eq!(asks("t/admin", "tool create_issue @ https://mcp.linear.example/mcp"), None);
    // The end of a session deletes nothing.
    assert_eq!(asks("t/admin", "DELETE https://mcp.linear.example/mcp"), None);
}

#[test]
fn graphql_is_granted_by_the_fields_of_its_roots() {
    let policy = policy(SERVERS);
    check(
        &policy,
        &[
            ("reader", "graphql query viewer @ https://api.hub.example/graphql", HUB),
            ("reader", "graphql mutation issueCreate @ https://api.hub.example/graphql", "action_denied"),
            ("admin", "graphql mutation issueCreate @ https://api.hub.example/graphql", HUB),
            ("admin", "graphql mutation repoDelete @ https://api.hub.example/graphql", "action_denied"),
            ("admin", "graphql mutation issueDelete @ https://api.hub.example/graphql", "action_denied"),
            ("open", "graphql mutation repoDelete @ https://api.hub.example/graphql", HUB),
            // A guard looks through a line that grants the whole path.
            ("open", "graphql mutation ISSUEdelete @ https://api.hub.example/graphql", "action_denied"),
            ("reader", "POST https://api.hub.example/graphql", "action_denied"),
            (
                "reader",
                "graphql query shop @ https://shop.example/admin/api/2026-10/graphql.json",
                "shop https://shop.example:443",
            ),
            (
                "reader",
                "grpc /speech.v1.Speech/Recognize @ https://speech.example",
                "speech https://speech.example:443",
            ),
            ("reader", "grpc /speech.v1.Speech/Delete @ https://speech.example", "action_denied"),
        ],
    );
    let several = |who: &str, document: &str| {
        let mut request = request("POST https://api.hub.example/graphql");
        request.seen = graphql::read_document(document).map_or_else(Seen::Unclear, Seen::GraphQl).into();
        policy.judge(&Caller::parse(who).question(&request)).permit().is_ok()
    };
    assert!(several("t/reader", "{ __typename a b }"));
    assert!(!several("t/reader", "query A { a } mutation B { issueCreate }"), "each operation counts");
    assert!(!several("t/reader", "mutation { __typename }"), "no line speaks of mutations");
    assert!(!several("t/open", "this is nothing"), "a guard must be able to look");
}

#[test]
fn a_line_of_graphql_grants_one_path_and_what_graphql_is_sent_with() {
    let policy = policy(SERVERS);
    let sent = |line: &str| {
        let mut request = request(line);
        request.seen = graphql::read_document("{ viewer }").map_or_else(Seen::Unclear, Seen::GraphQl).into();
        policy.judge(&Caller::parse("t/reader").question(&request)).permit().is_ok()
    };
    for line in ["GET", "HEAD", "POST"].map(|method| format!("{method} https://api.hub.example/graphql")) {
        assert!(sent(&line), "{line}");
    }
    assert!(sent("POST https://shop.example/admin/api/2026-10/graphql.json"));
    for line in [
        "PUT https://api.hub.example/graphql",
        "DELETE https://api.hub.example/graphql",
        "DELETE https://api.hub.example/graphql/admin",
        "POST https://api.hub.example/graphql/users/1/delete",
        "POST https://api.hub.example/graphql/",
        "POST https://api.hub.example/GraphQL",
        "POST https://shop.example/admin/api/2026-10/graphql.json/x",
    ] {
        assert!(!sent(line), "{line}");
    }
}

#[test]
fn a_guard_on_resources_sees_what_a_uri_stands_for() {
    let policy = policy(SERVERS);
    let at = |uri: &str| format!("resource {uri} @ https://mcp.linear.example/mcp");
    for (uri, expected) in [
        ("issue:///7", LINEAR),
        ("issue:///%37", LINEAR),
        ("issue:///secret/x", "action_denied"),
        ("issue:///%73ecret/x", "action_denied"),
        ("issue:///%2573ecret/x", "action_denied"),
        ("issue:////secret//x", "action_denied"),
        ("issue:///secret%2fx", "action_denied"),
    ] {
        check(&policy, &[("reader", &at(uri), expected)]);
    }
}

#[test]
fn a_guard_on_graphql_looks_into_every_service_that_it_reaches() {
    let policy = policy(
        r"
version: 1
services: {any: {hosts: [any.example], roles: {user: [ANY /**]}}}
guards: [{match: graphql mutation drop*, deny: nothing is dropped}]
tenants: {t: {integrations: {any: {credential: none}}, agents: {bot: {any: user}}}}
",
    );
    check(
        &policy,
        &[
            ("bot", "graphql mutation dropAll @ https://any.example/graphql", "action_denied"),
            ("bot", "graphql mutation keep @ https://any.example/graphql", "any https://any.example:443"),
            // Where nobody looks, a test does not pretend that somebody does.
            ("bot", "graphql mutation dropAll @ https://any.example/api", "any https://any.example:443"),
        ],
    );
    let mut unread = request("POST https://any.example/graphql");
    unread.seen = Arc::new(Seen::Unclear("it is"));
    assert!(policy.judge(&Caller::parse("t/bot").question(&unread)).permit().is_err());
}

#[test]
fn what_must_be_looked_into_depends_on_method_and_path() {
    use crate::decide::parts::protocol::Look;
    let policy = policy(SERVERS);
    let look = |line: &str| {
        let request = request(line);
        policy.look_for(&Caller::parse("t/reader").question(&request)).look
    };
    assert_eq!(look("POST https://mcp.linear.example/mcp"), Look::Mcp);
    assert_eq!(look("GET https://mcp.linear.example/mcp"), Look::McpWithoutBody);
    assert_eq!(look("POST https://old.example/messages/"), Look::McpInSession);
    assert_eq!(look("POST https://mcp.linear.example/other"), Look::McpWithoutBody);
    assert_eq!(look("POST https://api.hub.example/GraphQL/"), Look::GraphQl);
    assert_eq!(look("GET https://api.hub.example/graphql"), Look::GraphQlInQuery);
    assert_eq!(look("PUT https://api.hub.example/graphql/x"), Look::GraphQl);
    assert_eq!(look("POST https://api.hub.example/v1/x"), Look::Nothing);
    assert_eq!(look("POST https://unknown.example/mcp"), Look::Nothing);
}

#[test]
fn a_promise_can_say_when_and_that_a_human_must_agree() {
    let text = |tests: &str| {
        format!(
            r"
version: 1
services: {{api: {{hosts: [api.example], roles: {{user: [ANY /**]}}}}}}
guards:
  - {{match: DELETE **, when: time.hour < 6 || time.hour >= 22, deny: not at night}}
  - {{match: DELETE **, require: approval}}
tenants: {{t: {{integrations: {{api: {{credential: none}}}}, agents: {{bot: {{api: user}}}}}}}}
tests:
{tests}
"
        )
    };
    let kept = |tests: &str| Policy::from_text("p.yaml", &text(tests)).map_err(|p| p.to_string());
    let line = "DELETE https://api.example/x";
    kept(&format!("  - {{as: t/bot, at: '2026-01-01T23:00:00Z', deny: ['{line}']}}")).unwrap();
    kept(&format!("  - {{as: t/bot, at: '2026-01-01T12:00:00Z', approve: ['{line}']}}")).unwrap();
    let error =
        kept(&format!("  - {{as: t/bot, at: '2026-01-01T12:00:00Z', allow: ['{line}']}}")).unwrap_err();
    assert!(error.contains("needs an approval"), "{error}");
    let error = kept("  - {as: t/bot, approve: ['GET https://api.example/x']}").unwrap_err();
    assert!(error.contains("without an approval"), "{error}");
}

#[test]
fn a_tenant_can_be_in_shadow_mode_alone() {
    let policy = policy(
        r"
version: 1
services: {api: {hosts: [api.example], roles: {user: [GET /**]}}}
tenants:
  watched: {mode: shadow, integrations: {api: {credential: none}}, agents: {bot: {api: user}}}
  strict: {integrations: {api: {credential: none}}, agents: {bot: {api: user}}}
",
    );
    let line = "POST https://api.example/x";
    assert_eq!(answer(&policy, "watched/bot", line), "api https://api.example:443 (action_denied)");
    assert_eq!(answer(&policy, "strict/bot", line), "action_denied");
    assert_eq!(policy.look_for(&Caller::parse("strict/bot").question(&request(line))).limit, None);
    assert_eq!(request(line).method, Method::Post);
}
