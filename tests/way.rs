//! One test for each line of the way of a request: what enters, what leaves, what the log says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

mod support;

use support::{House, Raw, Upstream, token_with};

const SECRET: &str = "sk-live-4f8a2c19d7e6b305";

fn policy() -> String {
    "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles:
      reader: [GET /v1/public/**]
      writer: [{include: reader}, POST|PUT /v1/public/**]
  other:
    hosts: [api.other.test]
    allow_private_addresses: true
    roles:
      reader: [GET /**]
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: 'env:GOOD_KEY'}}}
      other: {credential: {static: {header: {X-Api-Key: 'env:OTHER_KEY'}}}}
    agents:
      bot: {good: writer, other: reader}
      reader: {good: reader}
  tiny:
    limit: 1/min
    integrations:
      good: {credential: {static: {bearer: 'env:TINY_KEY'}}}
    agents:
      bot: {good: reader}
"
    .into()
}

fn house(good: &Upstream) -> House {
    House::new(&policy())
        .env("GOOD_KEY", SECRET)
        .env("OTHER_KEY", "other-secret-0123456789")
        .env("TINY_KEY", "tiny-secret-0123456789")
        .resolve("api.good.test", good.address)
}

#[test]
fn a_plain_request_goes_out_over_tls_with_the_credential() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!(
        "POST http://api.good.test/v1/public/items?q=1&api_key=client-key HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\
         x-agent-id: bot\r\nx-correlation-id: run-7\r\nauthorization: Bearer client-own\r\ncookie: session=client\r\nx-custom: kept\r\ncontent-length: 5\r\n\r\nhello"
    ));
    let answer = raw.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-correlation-id"), Some("run-7"));
    let seen = upstream.last();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str(), &seen.body[..]),
        ("POST", "/v1/public/items?q=1", b"hello".as_slice())
    );
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(seen.header("x-custom").as_deref(), Some("kept"));
    assert_eq!(seen.header("via").as_deref(), Some("1.1 egret"));
    let everything = seen.everything();
    for absent in ["client-own", "client-key", "session=client", "bot", "run-7", &token] {
        assert!(!everything.contains(absent), "{absent} reached the upstream: {everything}");
    }
    assert!(!answer.text().contains(SECRET) && answer.text().contains("[redacted]"), "{}", answer.text());
    let decision = egret.decision("");
    assert_eq!(decision["decision"], "allow");
    assert_eq!(
        (&decision["tenant_id"], &decision["agent_id"], &decision["correlation_id"]),
        (&"acme".into(), &"bot".into(), &"run-7".into())
    );
    assert_eq!(
        (&decision["auth_tier"], &decision["integration_id"], &decision["role"]),
        (&"APP".into(), &"good".into(), &"writer".into())
    );
    assert_eq!(decision["policy"]["rule"], "services.good.roles.writer[1]");
    assert_eq!(decision["credential"]["ref"], "env:GOOD_KEY");
    let outcome = egret.outcome();
    assert_eq!(
        (
            &outcome["http"]["response_status_code"],
            &outcome["http"]["request_body_size"],
            &outcome["upstream"]["ending"]
        ),
        (&200.into(), &5.into(), &"complete".into())
    );
    assert_eq!(outcome["upstream"]["tls"], "1.3");
    let everything = egret.everything();
    for absent in [SECRET, "client-own", "client-key", &token, "hello"] {
        assert!(!everything.contains(absent), "{absent} was written down");
    }
}

#[test]
fn inside_a_tunnel_every_request_is_judged() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(&upstream).start();
    let token = egret.token("acme/reader");
    let mut raw = egret.raw();
    let opened = raw.connect_to("api.good.test:443", &format!("proxy-authorization: Bearer {token}\r\n"));
    assert_eq!(opened.status, 200);
    let mut inside = raw.tls("api.good.test", &egret.authority());
    inside.send("GET /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
    assert_eq!(inside.answer().status, 200);
    inside.send("DELETE /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
    let refused = inside.answer();
    assert_eq!((refused.status, refused.code().as_str()), (403, "action_denied"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(
        refused.header("proxy-status"),
        Some("egret; error=http_request_denied; reason=action-denied")
    );
    inside.send("GET /v1/public/b HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
    assert_eq!(inside.answer().status, 200, "a refusal does not end the tunnel");
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(upstream.connections(), 1, "the upstream connection is kept");
    assert_eq!(egret.decision("action_denied")["http"]["request_method"], "DELETE");
}

#[test]
fn the_gateway_names_the_integration_in_the_path() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    for header in [format!("authorization: Bearer {token}"), format!("x-api-key: {token}")] {
        let mut raw = Raw::connect(egret.gateway());
        raw.send(format!(
            "GET /good/v1/public/a?x=1 HTTP/1.1\r\nhost: {}\r\n{header}\r\n\r\n",
            egret.gateway()
        ));
        let answer = raw.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = upstream.last();
        assert_eq!(seen.target, "/v1/public/a?x=1");
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}")));
        assert!(!seen.everything().contains(&token));
    }
    let mut raw = Raw::connect(egret.gateway());
    raw.send(format!("GET /good/v1/public/a HTTP/1.1\r\nhost: {}\r\n\r\n", egret.gateway()));
    let refused = raw.answer();
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer realm=\"egret\"")));
    let mut raw = Raw::connect(egret.gateway());
    raw.send(format!(
        "GET /nothing/v1 HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
        egret.gateway()
    ));
    assert_eq!(raw.answer().code(), "destination_not_allowed");
}

#[test]
fn a_refusal_says_why_and_nothing_leaves() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(&upstream).start();
    let expired = token_with(
        &egret.house.issuer,
        "acme/bot",
        None,
        serde_json::json!({"iat": 1_700_000_000, "exp": 1_700_000_600}),
    );
    let good = egret.token("acme/bot");
    let stranger = egret.token("nobody/bot");
    for (token, url, status, code) in [
        (None, "http://api.good.test/v1/public/a", 407, "identity_missing"),
        (Some(&expired), "http://api.good.test/v1/public/a", 407, "token_expired"),
        (Some(&stranger), "http://api.good.test/v1/public/a", 403, "tenant_unknown"),
        (Some(&good), "http://evil.test/v1/public/a", 403, "destination_not_allowed"),
        (Some(&good), "http://api.good.test/v1/admin", 403, "action_denied"),
    ] {
        let mut raw = egret.raw();
        let identity = token.map(|t| format!("proxy-authorization: Bearer {t}\r\n")).unwrap_or_default();
        let host = url.split('/').nth(2).unwrap();
        raw.send(format!("GET {url} HTTP/1.1\r\nhost: {host}\r\n{identity}\r\n"));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["message"], body["detail"]);
        assert_eq!(body["error"]["code"], code);
        assert_eq!(answer.all("proxy-authenticate").len(), if status == 407 { 2 } else { 0 });
        let decision = egret.decision(code);
        assert_eq!(decision["decision"], "deny");
        assert_eq!(decision["decision_id"], body["decision_id"]);
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_refused_connect_says_why_in_its_reason_phrase() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    let refused = raw.connect_to("evil.test:443", &format!("proxy-authorization: Bearer {token}\r\n"));
    assert_eq!((refused.status, refused.reason.as_str()), (403, "Denied by egret: destination_not_allowed"));
    assert_eq!(refused.header("connection"), Some("close"));
    let mut raw = egret.raw();
    let refused = raw.connect_to("api.good.test:443", "");
    assert_eq!((refused.status, refused.all("proxy-authenticate").len()), (407, 2));
}

#[test]
fn a_tenant_over_its_limit_waits() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(&upstream).start();
    let token = egret.token("tiny/bot");
    let request = format!(
        "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    );
    let mut raw = egret.raw();
    raw.send(&request);
    assert_eq!(raw.answer().status, 200);
    raw.send(&request);
    let limited = raw.answer();
    assert_eq!((limited.status, limited.code().as_str()), (429, "rate_limited"));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(limited.header("ratelimit-policy"), Some("\"tenant\";q=1;w=60"));
    assert_eq!(limited.header("x-should-retry"), None);
    assert_eq!(egret.decision("rate_limited")["limit"]["remaining"], 0);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_missing_credential_is_a_refusal_and_not_a_request_without_one() {
    let upstream = Upstream::echo("api.good.test");
    let egret = House::new(&policy()).resolve("api.good.test", upstream.address).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!("GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"));
    let answer = raw.answer();
    assert_eq!((answer.status, answer.code().as_str()), (403, "credential_missing"));
    assert!(upstream.seen().is_empty());
}

#[test]
fn what_a_client_writes_in_the_place_of_a_secret_is_not_recorded() {
    let upstream = Upstream::echo("api.good.test");
    let policy = "version: 1
services:
  telegram: {hosts: [api.good.test], allow_private_addresses: true, roles: {sender: [POST /bot*/sendMessage]}}
tenants:
  acme:
    integrations: {telegram: {credential: {static: {path: {\"/bot*\": 'env:GOOD_KEY'}}}}}
    agents: {bot: {telegram: sender}}
";
    let mut egret =
        House::new(policy).env("GOOD_KEY", SECRET).resolve("api.good.test", upstream.address).start();
    let token = egret.token("acme/bot");
    for (path, status) in [("sendMessage", 200), ("getUpdates", 403)] {
        let mut raw = egret.raw();
        raw.send(format!(
            "POST http://api.good.test/botclients-own-token/{path} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
        ));
        assert_eq!(raw.answer().status, status);
        let code = if status == 200 { "" } else { "action_denied" };
        assert_eq!(egret.decision(code)["http"]["path"], format!("/bot*/{path}"));
    }
    assert_eq!(upstream.last().target, format!("/bot{SECRET}/sendMessage"));
    let said = egret.everything();
    assert!(!said.contains("clients-own-token") && !said.contains(SECRET), "{said}");
}

#[test]
fn a_session_opened_with_a_short_secret_stays_here_too() {
    let upstream = Upstream::https("api.good.test", |seen| {
        let status = if seen.target.ends_with("/no") { 401 } else { 200 };
        support::upstream::full(status, &[("set-cookie", "session=1")], "")
    });
    let egret =
        House::new(&policy()).env("GOOD_KEY", "abc").resolve("api.good.test", upstream.address).start();
    let token = egret.token("acme/bot");
    for (path, status) in [("yes", 200), ("no", 403)] {
        let mut raw = egret.raw();
        raw.send(format!(
            "GET http://api.good.test/v1/public/{path} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
        ));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.header("set-cookie")), (status, None));
        assert_eq!(upstream.last().header("authorization").as_deref(), Some("Bearer abc"));
    }
}
