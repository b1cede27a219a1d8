//! MCP servers and GraphQL through the real binary: what reaches the server, what the client reads, what the log
//! says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use serde_json::{Value, json};
use support::{Answer, Egret, House, Seen, Upstream, upstream::full};

const SECRET: &str = "sk-live-4f8a2c19d7e6b305";

const POLICY: &str = r#"version: 1
services:
  board:
    mcp: https://mcp.board.test/mcp
    allow_private_addresses: true
    max_body: 64KiB
    roles:
      reader: ["tool list_*", "tool get_*"]
      admin: [{include: reader}, "tool *", "prompt plan"]
  hub:
    hosts: [api.hub.test]
    allow_private_addresses: true
    roles:
      reader: ["GET /v1/**", "graphql query *"]
      writer: [{include: reader}, "graphql mutation issue*"]
guards:
  - {match: board tool delete_*, require: approval}
  - {match: board tool pay, when: request.arguments.amount > 100, deny: payments over 100 need a person}
  - {match: hub graphql mutation issueDelete, deny: issues are not deleted}
tenants:
  acme:
    integrations:
      board: {credential: {static: {bearer: 'env:KEY'}}}
      hub: {credential: {static: {bearer: 'env:KEY'}}}
    agents:
      reader: {board: reader, hub: reader}
      admin: {board: admin, hub: writer}
  watched:
    mode: shadow
    integrations:
      board: {credential: {static: {bearer: 'env:KEY'}}}
    agents:
      reader: {board: reader}
"#;

/// A server with tools; it answers in JSON, or in events where the client says `x-events`.
fn server() -> Upstream {
    Upstream::https("mcp.board.test", |seen| {
        let messages: Value = serde_json::from_slice(&seen.body).unwrap_or(Value::Null);
        let answer = |message: &Value| {
            let result = match message["method"].as_str() {
                Some("tools/list") => json!({ "tools": [
                    { "name": "list_issues", "inputSchema": { "z": 1, "a": 2 } },
                    { "name": "delete_issue" },
                    { "name": "pay" },
                ], "nextCursor": "more" }),
                _ => json!({ "content": [{ "type": "text", "text": format!("done with {SECRET}") }] }),
            };
            json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })
        };
        let text = match &messages {
            Value::Array(batch) => Value::Array(batch.iter().map(answer).collect()).to_string(),
            message => answer(message).to_string(),
        };
        if seen.headers.contains_key("x-events") {
            let events = format!(": hello\n\nevent: message\ndata: {text}\n\n");
            return full(200, &[("content-type", "text/event-stream"), ("mcp-session-id", "s1")], events);
        }
        full(200, &[("content-type", "application/json"), ("mcp-session-id", "s1")], text)
    })
}

fn house(upstream: &Upstream) -> House {
    House::new(POLICY)
        .env("KEY", SECRET)
        .resolve("mcp.board.test", upstream.address)
        .resolve("api.hub.test", upstream.address)
}

/// Posts a body as `who`, in absolute form.
fn post(egret: &Egret, who: &str, url: &str, more: &str, body: &str) -> Answer {
    let token = egret.token(who);
    let host = url.split('/').nth(2).unwrap();
    let mut raw = egret.raw();
    raw.send(format!(
        "POST {url} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    raw.answer()
}

fn mcp(egret: &Egret, who: &str, more: &str, body: &Value) -> Answer {
    post(egret, who, "http://mcp.board.test/mcp", more, &body.to_string())
}

fn call(id: impl Into<Value>, tool: &str, arguments: &Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params })
}

fn posts(upstream: &Upstream) -> Vec<Seen> {
    upstream.seen()
}

#[test]
fn a_granted_tool_is_called_with_the_credential_and_the_bytes_of_the_client() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    let body =
        " {\"jsonrpc\": \"2.0\",  \"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"list_issues\"}} ";
    let answer = post(&egret, "acme/reader", "http://mcp.board.test/mcp", "mcp-session-id: s1\r\n", body);
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, Some("s1")));
    let text = answer.json()["result"]["content"][0]["text"].to_string();
    assert!(text.contains("[redacted]") && !text.contains(SECRET), "{text}");
    let seen = upstream.last();
    assert_eq!(&seen.body[..], body.as_bytes());
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(seen.header("mcp-session-id").as_deref(), Some("s1"));
    let decision = egret.decision("");
    assert_eq!(decision["mcp"], json!({ "method": "tools/call", "tool": "list_issues", "messages": 1 }));
    assert_eq!(decision["http"]["route"], "tool list_*");
    assert_eq!(egret.outcome()["http"]["request_body_size"], body.len());
}

#[test]
fn a_denied_tool_is_a_result_that_the_model_reads_and_nothing_leaves() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    for (tool, arguments, who, code, says) in [
        ("create_issue", json!({}), "acme/reader", "action_denied", "tool create_issue needs admin"),
        ("pay", json!({ "amount": 101 }), "acme/admin", "action_denied", "payments over 100 need a person"),
        ("pay", json!({}), "acme/admin", "action_denied", "payments over 100 need a person"),
        ("delete_issue", json!({}), "acme/admin", "approval_required", "tool delete_issue needs a human"),
    ] {
        let answer = mcp(&egret, who, "", &call("id-1", tool, &arguments));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert!(answer.header("proxy-status").unwrap().starts_with("egret; error="));
        let body = answer.json();
        assert_eq!((&body["id"], &body["result"]["isError"]), (&json!("id-1"), &json!(true)));
        let text = body["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("Denied by egret: ") && text.contains(says), "{text}");
        assert_eq!(body["result"]["_meta"]["egret.dev/refusal"]["code"], code);
        let decision = egret.decision(code);
        assert_eq!(decision["mcp"]["tool"], tool);
        if code == "approval_required" {
            assert_eq!(decision["decision"], "approve_pending");
            assert_eq!(decision["approval"], json!({ "state": "required", "guard": "guards[0]" }));
        }
    }
    assert!(posts(&upstream).is_empty());
    assert_eq!(mcp(&egret, "acme/admin", "", &call(1, "pay", &json!({ "amount": 7 }))).status, 200);
    assert_eq!(posts(&upstream).len(), 1);
}

#[test]
fn what_is_no_tool_is_refused_as_an_error_that_whoever_waits_can_read() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    let prompt = json!({ "jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": { "name": "plan" } });
    let answer = mcp(&egret, "acme/reader", "", &prompt);
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.json()["id"], &answer.json()["error"]["code"]), (&json!(3), &json!(40_301)));
    let quiet = json!({ "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "pay" } });
    assert_eq!(mcp(&egret, "acme/reader", "", &quiet).status, 403);
    assert!(posts(&upstream).is_empty());
    assert_eq!(mcp(&egret, "acme/admin", "", &prompt).status, 200);
    assert_eq!(egret.decision("")["mcp"]["name"], "plan");
}

#[test]
fn a_list_shows_what_the_role_may_use_in_json_and_in_events() {
    let upstream = server();
    let egret = house(&upstream).start();
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    for more in ["accept-encoding: gzip\r\n", "x-events: 1\r\n", "range: bytes=9-\r\nif-range: \"1\"\r\n"] {
        let answer = mcp(&egret, "acme/reader", more, &list);
        let text = answer.text();
        assert!(text.contains(r#""tools":[{"inputSchema":{"a":2,"z":1},"name":"list_issues"}]"#), "{text}");
        assert!(text.contains(r#""nextCursor":"more""#) && !text.contains("delete_issue"), "{text}");
        let seen = upstream.last();
        assert_eq!(seen.header("accept-encoding").as_deref(), Some("identity"));
        assert_eq!((seen.header("range"), seen.header("if-range")), (None, None), "a part cannot be read");
    }
    let all = mcp(&egret, "acme/admin", "", &list).text();
    assert!(all.contains("delete_issue") && all.contains("pay"), "{all}");
    // What is only watched is shown whole.
    assert!(mcp(&egret, "watched/reader", "", &list).text().contains("delete_issue"));
}

#[test]
fn a_list_that_cannot_be_read_is_not_shown() {
    for headers in [
        &[("content-type", "text/plain")][..],
        &[],
        &[("content-type", "application/json"), ("content-type", "text/plain")],
        &[("content-type", "application/json"), ("content-encoding", "x-odd")],
    ] {
        let upstream = Upstream::https("mcp.board.test", |_| {
            let list = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [{ "name": "pay" }] } });
            full(200, headers, list.to_string())
        });
        let mut egret = house(&upstream).start();
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let answer = mcp(&egret, "acme/reader", "", &list);
        assert!(!answer.text().contains("pay"), "{headers:?}: {}", answer.text());
        assert_eq!(egret.outcome()["code"], "upstream_unscrubbable", "{headers:?}");
    }
}

#[test]
fn a_batch_is_sent_when_every_message_of_it_is_granted() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    let (one, two) = (call(1, "list_a", &json!({})), call(2, "get_b", &json!({})));
    let answer = mcp(&egret, "acme/reader", "", &json!([one, two]));
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(egret.decision("")["mcp"]["messages"], 2);
    let ping = json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" });
    let answer = mcp(&egret, "acme/reader", "", &json!([one, call(2, "drop", &json!({})), ping]));
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!((&body[0]["result"]["isError"], &body[1]["result"]["isError"]), (&json!(true), &json!(true)));
    assert_eq!((&body[2]["id"], &body[2]["error"]["code"]), (&json!("p"), &json!(40_301)));
    assert_eq!(posts(&upstream).len(), 1, "no part of a refused batch leaves");
}

#[test]
fn a_body_with_two_meanings_or_other_headers_never_leaves() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    let url = "http://mcp.board.test/mcp";
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (more, body, token) in [
        (
            "",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"pay"}}"#,
            "malformed-body",
        ),
        (
            "",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"pay"}}"#,
            "malformed-body",
        ),
        ("", "not json", "malformed-body"),
        ("", "", "malformed-body"),
        ("content-encoding: gzip\r\n", ping, "malformed-body"),
        ("content-type: text/plain\r\n", ping, "malformed-body"),
        ("mcp-method: tools/list\r\n", ping, "mcp-header-mismatch"),
        ("mcp-name: pay\r\n", ping, "mcp-header-mismatch"),
    ] {
        let answer = post(&egret, "acme/admin", url, more, body);
        assert_eq!(answer.status, 400, "{more}{body}");
        assert!(
            answer.header("proxy-status").unwrap().ends_with(token),
            "{more}{body}: {:?}",
            answer.headers
        );
        let expected = if token == "malformed-body" { 40_301 } else { -32_020 };
        assert_eq!(answer.json()["error"]["code"], expected, "{more}{body}");
        egret.decision("request_malformed");
    }
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(70_000));
    assert_eq!(post(&egret, "acme/admin", url, "", &large).status, 413);
    assert!(posts(&upstream).is_empty());
    let matching = "mcp-method: tools/call\r\nmcp-name: list_a\r\n";
    assert_eq!(mcp(&egret, "acme/reader", matching, &call(1, "list_a", &json!({}))).status, 200);
    assert_eq!(upstream.last().header("mcp-name").as_deref(), Some("list_a"));
}

/// Bodies are held in memory while they are looked into, so there is a bound, and who comes to it stands in nobody
/// else's way.
#[test]
fn bodies_that_never_end_keep_nobody_else_out() {
    let upstream = server();
    let policy = POLICY.replace("    max_body: 64KiB\n", "");
    let egret = House::new(&policy).env("KEY", SECRET).resolve("mcp.board.test", upstream.address).start();
    let token = egret.token("acme/reader");
    let mut idle: Vec<_> = (0..20)
        .map(|_| {
            let mut raw = egret.raw();
            raw.send(format!(
                "POST http://mcp.board.test/mcp HTTP/1.1\r\nhost: mcp.board.test\r\n\
                 proxy-authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
                 expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
            ));
            assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 100"), "a body is waited for");
            raw
        })
        .collect();
    let start = "{".to_owned() + &" ".repeat(20_000);
    for raw in &mut idle {
        raw.send(format!("{:x}\r\n{start}\r\n", start.len()));
    }
    let large = json!({ "text": "x".repeat(40_000) });
    assert_eq!(mcp(&egret, "acme/reader", "", &call(1, "list_a", &json!({}))).status, 200);
    assert_eq!(mcp(&egret, "acme/admin", "", &call(1, "list_a", &large)).status, 200);
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_server_is_spoken_to_at_its_endpoint_and_nowhere_else() {
    let upstream = server();
    let egret = house(&upstream).start();
    let token = egret.token("acme/admin");
    let ask = |line: &str| {
        let mut raw = egret.raw();
        raw.send(format!(
            "{line} HTTP/1.1\r\nhost: mcp.board.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
        ));
        raw.answer().status
    };
    assert_eq!(ask("GET http://mcp.board.test/mcp"), 200);
    assert_eq!(ask("DELETE http://mcp.board.test/mcp"), 200);
    assert_eq!(ask("GET http://mcp.board.test/.well-known/oauth-protected-resource"), 403);
    assert_eq!(ask("GET http://mcp.board.test/mcp/"), 403);
    assert_eq!(ask("OPTIONS http://mcp.board.test/mcp"), 403);
    let socket = "GET http://mcp.board.test/mcp HTTP/1.1\r\nhost: mcp.board.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let mut raw = egret.raw();
    raw.send(format!("{socket}proxy-authorization: Bearer {token}\r\n\r\n"));
    assert_ne!(raw.answer().status, 101);
    assert!(upstream.seen().iter().all(|seen| !seen.headers.contains_key("upgrade")));
}

#[test]
fn tools_inside_a_tunnel_and_through_the_gateway_are_decided_alike() {
    let upstream = server();
    let egret = house(&upstream).start();
    let token = egret.token("acme/reader");
    let denied = call(1, "pay", &json!({})).to_string();
    let granted = call(2, "get_x", &json!({})).to_string();
    let head = |path: &str, host: &str, more: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut raw = egret.raw();
    let opened = raw.connect_to("mcp.board.test:443", &format!("proxy-authorization: Bearer {token}\r\n"));
    assert_eq!(opened.status, 200);
    let mut inside = raw.tls("mcp.board.test", &egret.authority());
    let answer = inside.send(head("/mcp", "mcp.board.test", "", &denied)).answer();
    assert_eq!((answer.status, &answer.json()["result"]["isError"]), (200, &json!(true)));
    assert_eq!(inside.send(head("/mcp", "mcp.board.test", "", &granted)).answer().status, 200);
    let identity = format!("authorization: Bearer {token}\r\n");
    let mut gateway = support::Raw::connect(egret.gateway());
    let answer = gateway.send(head("/board/mcp", "localhost", &identity, &denied)).answer();
    assert_eq!((answer.status, &answer.json()["result"]["isError"]), (200, &json!(true)));
    let answer = gateway.send(head("/board/mcp", "localhost", &identity, &granted)).answer();
    assert_eq!((answer.status, posts(&upstream).len()), (200, 2), "{}", answer.text());
}

const OLD: &str = r#"version: 1
services:
  old:
    mcp: https://old.board.test/sse
    transport: sse
    messages: /message
    allow_private_addresses: true
    roles: {reader: ["tool list_*"]}
tenants:
  acme:
    integrations: {old: {credential: none}}
    agents: {reader: {old: reader}, other: {old: reader}}
"#;

/// The transport of 2024-11-05: a client reads answers in its stream, and nothing in the answer to its `POST`.
#[test]
fn a_client_of_the_old_transport_reads_its_refusal_in_its_stream() {
    let (pens, opened) = std::sync::mpsc::channel();
    let upstream = support::Live::https("old.board.test", move |request| {
        let pens = pens.clone();
        async move {
            if request.method() == http::Method::GET {
                let (pen, body) = support::live::pipe();
                pens.send(pen).unwrap();
                let answer = http::Response::builder().header("content-type", "text/event-stream");
                return answer.body(body).unwrap();
            }
            full(202, &[], "Accepted")
        }
    });
    let mut egret = House::new(OLD).resolve("old.board.test", upstream.address).start();
    let token = egret.token("acme/reader");
    let mut stream = egret.raw();
    stream.send(format!(
        "GET http://old.board.test/sse HTTP/1.1\r\nhost: old.board.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    let pen = opened.recv_timeout(support::PATIENCE).unwrap();
    assert!(pen.write("event: endpoint\ndata: /message?sessionId=7\n\n"));
    assert_eq!(stream.head().status, 200);
    stream.until("/message?sessionId=7\n\n");
    let url = "http://old.board.test/message?sessionId=7";
    let denied = post(&egret, "acme/reader", url, "", &call(5, "drop", &json!({})).to_string());
    assert_eq!((denied.status, denied.text().as_str()), (202, ""));
    let told = stream.until("\n\n");
    assert!(told.contains("\"isError\":true") && told.contains("\"id\":5"), "{told}");
    egret.decision("action_denied");
    // Nobody else's refusal is told in it, and without a stream there is a status.
    let other = post(&egret, "acme/other", url, "", &call(6, "drop", &json!({})).to_string());
    assert_eq!(other.status, 403);
    assert!(pen.write(format!("event: message\ndata: {}\n\n", json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [{ "name": "list_x" }, { "name": "drop" }] } }))));
    let list = stream.until("\n\n");
    assert!(list.contains("list_x") && !list.contains("drop") && !list.contains("\"id\":6"), "{list}");
    // A stream stays open through a change of the policy; its lists follow.
    egret.replace("policies/policy.yaml", &OLD.replace("tool list_*", "tool drop"));
    egret.record(|r| r["event"] == "policy_loaded");
    assert!(pen.write(format!("event: message\ndata: {}\n\n", json!({ "jsonrpc": "2.0", "id": 2, "result": { "tools": [{ "name": "list_x" }, { "name": "drop" }] } }))));
    let list = stream.until("\n\n");
    assert!(list.contains("drop") && !list.contains("list_x"), "{list}");
    egret.replace("policies/policy.yaml", OLD);
    egret.record(|r| r["event"] == "policy_loaded");
    drop(pen);
    stream.until("0\r\n\r\n");
    egret.outcome();
    let late = post(&egret, "acme/reader", url, "", &call(8, "drop", &json!({})).to_string());
    assert_eq!((late.status, &late.json()["id"]), (403, &json!(8)));
}

#[test]
fn in_shadow_mode_a_tool_that_would_be_denied_is_called_and_written_down() {
    let upstream = server();
    let mut egret = house(&upstream).start();
    let answer = mcp(&egret, "watched/reader", "", &call(1, "delete_issue", &json!({})));
    assert_eq!((answer.status, posts(&upstream).len()), (200, 1));
    let decision = egret.decision("action_denied");
    assert_eq!((&decision["enforced"], &decision["mcp"]["tool"]), (&json!(false), &json!("delete_issue")));
}

/// Ways to say something else to a server than to egret.
#[test]
fn what_a_body_says_is_all_that_is_said() {
    let hub = Upstream::echo("api.hub.test");
    let egret = house(&hub).start();
    let token = egret.token("acme/admin");
    let viewer = r#"{"query":"{viewer}"}"#;
    let send = |line: &str, more: &str, body: &str| {
        let host = line.split('/').nth(2).unwrap();
        let mut raw = egret.raw();
        raw.send(format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        ));
        raw.answer().status
    };
    let json = "content-type: application/json\r\n";
    for (line, more, body) in [
        ("POST http://api.hub.test/graphql?query=mutation%7BissueDelete%7D", json, viewer),
        ("POST http://api.hub.test/graphql?%71uery=x", json, viewer),
        ("POST http://api.hub.test/graphql", json, r#"{"query":"{viewer}","documentId":"x"}"#),
        (
            "POST http://api.hub.test/graphql",
            "content-type: application/graphql\r\n",
            "mutation{issueDelete}",
        ),
        ("GET http://api.hub.test/graphql?query=%7Bviewer%7D", json, r#"{"query":"mutation{issueDelete}"}"#),
        ("GET http://api.hub.test/graphql?query=query%20A%7Bviewer%7D%23;%0Aquery%20M%7Bx%7D", "", ""),
        ("PUT http://api.hub.test/graphql", json, r#"{"query":"mutation{issueDelete}"}"#),
        ("POST http://api.hub.test/graphql/", json, r#"{"query":"mutation{issueDelete}"}"#),
    ] {
        assert_eq!(send(line, more, body), 403, "{line} {body}");
    }
    assert!(hub.seen().is_empty());
    let socket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    assert_eq!(send("GET http://api.hub.test/graphql?query=%7Bviewer%7D", socket, ""), 200);
    assert_eq!(hub.last().header("upgrade"), None);
    drop(egret);

    let board = server();
    let egret = house(&board).start();
    let call = call(1, "drop", &json!({})).to_string();
    for method in ["GET", "DELETE"] {
        let token = egret.token("acme/reader");
        let mut raw = egret.raw();
        raw.send(format!(
            "{method} http://mcp.board.test/mcp HTTP/1.1\r\nhost: mcp.board.test\r\nproxy-authorization: Bearer {token}\r\n{json}content-length: {}\r\n\r\n{call}",
            call.len()
        ));
        assert_eq!(raw.answer().code(), "", "{method}: the refusal is in JSON-RPC");
    }
    assert!(board.seen().is_empty());
    // Nobody reads the body of who may do nothing there.
    let mut raw = egret.raw();
    let stranger = egret.token("acme/stranger");
    raw.send(format!(
        "POST http://mcp.board.test/mcp HTTP/1.1\r\nhost: mcp.board.test\r\nproxy-authorization: Bearer {stranger}\r\n{json}content-length: 60000\r\n\r\n"
    ));
    assert_eq!(raw.answer().code(), "agent_unknown");
}

#[test]
fn graphql_is_decided_by_what_it_asks_for() {
    let upstream = Upstream::echo("api.hub.test");
    let mut egret = house(&upstream).start();
    let ask = |who: &str, document: &str| {
        let body = json!({ "query": document }).to_string();
        post(&egret, who, "http://api.hub.test/graphql", "", &body)
    };
    assert_eq!(ask("acme/reader", "query Q { viewer { id } }").status, 200);
    assert_eq!(ask("acme/writer-of-nothing", "{ viewer { id } }").code(), "agent_unknown");
    let denied = ask("acme/reader", "query issueCreate { a } mutation viewer { issueCreate { id } }");
    assert_eq!((denied.status, denied.code().as_str()), (403, "action_denied"));
    assert!(denied.text().contains("graphql mutation issueCreate needs writer"), "{}", denied.text());
    assert_eq!(ask("acme/admin", "mutation { a: issueCreate { id } }").status, 200);
    let guarded = ask("acme/admin", "mutation { ...F } fragment F on Mutation { issueDelete(id: 1) { id } }");
    assert!(guarded.text().contains("issues are not deleted"), "{}", guarded.text());
    assert_eq!(ask("acme/admin", "mutation {").code(), "action_denied");
    assert_eq!(upstream.seen().len(), 2);
    let decision = egret.record(|record| record["graphql"][0] == "mutation issueDelete");
    assert_eq!(decision["code"], "action_denied");
}
