//! Attacks on who asks, and on the walls between tenants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::format_collect,
    clippy::type_complexity,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod support;
#[path = "support/attacks.rs"]
mod attacks;

use attacks::{H2, Scene};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use support::{Egret, House, Raw, Upstream, token_with};

const TARGET: &str = "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n";

fn ask(egret: &Egret, lines: &str) -> support::Answer {
    let mut raw = egret.raw();
    raw.send(format!("{TARGET}{lines}\r\n"));
    raw.answer()
}

fn basic(user: &str, password: &str) -> String {
    format!("proxy-authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn minted(egret: &Egret) -> u64 {
    let metrics = egret.page("/metrics").1;
    let line = metrics.lines().find(|l| l.starts_with("egret_leaf_certificates_minted_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn every_channel_leads_to_the_same_caller() {
    let mut scene = Scene::new();
    let token = scene.token.clone();
    for (lines, channel) in [
        (format!("proxy-authorization: Bearer {token}\r\n"), "proxy_bearer"),
        (format!("proxy-authorization: bearer  {token}\r\n"), "proxy_bearer"),
        (basic("bot", &token), "proxy_basic"),
        (basic("bot+run-9", &token), "proxy_basic"),
        (format!("x-agent-authorization: Bearer {token}\r\n"), "agent_header"),
        (
            format!(
                "proxy-authorization: Bearer {token}\r\nx-agent-authorization: Bearer {token}\r\nx-agent-id: bot\r\nx-tenant-id: acme\r\n"
            ),
            "proxy_bearer",
        ),
    ] {
        let answer = ask(&scene.egret, &lines);
        assert_eq!(answer.status, 200, "{lines}: {}", answer.text());
        let decision = scene.egret.decision("");
        assert_eq!(
            (&decision["tenant_id"], &decision["agent_id"]),
            (&json!("acme"), &json!("bot")),
            "{channel}"
        );
    }
    scene.holds(&[]);
}

/// V-J19, V-T06, and tokens that are none.
#[test]
fn a_contradiction_is_refused() {
    let scene = Scene::new();
    let issuer = &scene.egret.house.issuer;
    let bot = scene.token.clone();
    let with = |extra: Value| token_with(issuer, "acme/bot", Some("alice@acme.example"), extra);
    let other_agent = token_with(issuer, "acme/other", None, Value::Null);
    let other_tenant = token_with(issuer, "zeta/bot", Some("alice@acme.example"), Value::Null);
    let other_user = token_with(issuer, "acme/bot", Some("bob@acme.example"), Value::Null);
    let expired = with(json!({"iat": 1_700_000_000, "exp": 1_700_000_600}));
    let bearer = |t: &str| format!("proxy-authorization: Bearer {t}\r\n");
    let agent = |t: &str| format!("x-agent-authorization: Bearer {t}\r\n");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let payload = bot.split('.').nth(1).unwrap();
    let signature = bot.rsplit('.').next().unwrap();
    let forged = |header: Value| format!("{}.{payload}.{signature}", part(header));
    let widened = json!({"iss": "egret-dev", "tenant_id": "zeta", "agent_id": "bot", "aud": "egret", "exp": 9_999_999_999u64});
    let mut refused = Vec::new();
    for (name, lines, status, code) in [
        ("two agents", bearer(&bot) + &agent(&other_agent), 403, "agent_mismatch"),
        ("two tenants", bearer(&bot) + &agent(&other_tenant), 403, "agent_mismatch"),
        ("two tenants the other way", bearer(&other_tenant) + &agent(&bot), 403, "agent_mismatch"),
        ("two users", bearer(&bot) + &agent(&other_user), 403, "agent_mismatch"),
        ("a user that is not the agent", basic("other", &bot), 403, "agent_mismatch"),
        ("another agent by name", bearer(&bot) + "x-agent-id: other\r\n", 403, "agent_mismatch"),
        ("another agent by its other name", bearer(&bot) + "agent_id: other\r\n", 403, "agent_mismatch"),
        ("another tenant by name", bearer(&bot) + "x-tenant-id: zeta\r\n", 403, "agent_mismatch"),
        ("another tenant in another case", bearer(&bot) + "x-tenant-id: ACME\r\n", 403, "agent_mismatch"),
        (
            "two agents by name",
            bearer(&bot) + "x-agent-id: bot\r\nagent-id: other\r\n",
            400,
            "request_malformed",
        ),
        (
            "two tenants by name",
            bearer(&bot) + "x-tenant-id: acme\r\nx-tenant-id: zeta\r\n",
            400,
            "request_malformed",
        ),
        ("a list of tenants", bearer(&bot) + "x-tenant-id: acme, zeta\r\n", 400, "request_malformed"),
        ("a path for a tenant", bearer(&bot) + "x-tenant-id: ../zeta\r\n", 400, "request_malformed"),
        ("the same token twice", bearer(&bot) + &bearer(&bot), 400, "request_malformed"),
        ("a good one and an expired one", bearer(&bot) + &agent(&expired), 407, "token_expired"),
        ("an expired one and a good one", bearer(&expired) + &agent(&bot), 407, "token_expired"),
        ("an expired one", bearer(&expired), 407, "token_expired"),
        ("nothing", String::new(), 407, "identity_missing"),
        ("no scheme", format!("proxy-authorization: {bot}\r\n"), 407, "token_invalid"),
        ("another scheme", format!("proxy-authorization: Digest {bot}\r\n"), 407, "token_invalid"),
        ("no user", basic("", &bot), 407, "token_invalid"),
        ("the token as the user", basic(&bot, ""), 407, "token_invalid"),
        ("no base64", "proxy-authorization: Basic %%%\r\n".into(), 407, "token_invalid"),
        ("two parts", bearer("eyJ.eyJ"), 407, "token_invalid"),
        ("four parts", bearer(&format!("{bot}.x")), 407, "token_invalid"),
        ("no signature", bearer(bot.rsplit_once('.').unwrap().0), 407, "token_invalid"),
        (
            "an empty signature",
            bearer(&format!("{}.", bot.rsplit_once('.').unwrap().0)),
            407,
            "token_invalid",
        ),
        ("alg none", bearer(&format!("{}.{payload}.", part(json!({"alg": "none"})))), 407, "token_invalid"),
        ("alg none with a signature", bearer(&forged(json!({"alg": "none"}))), 407, "token_invalid"),
        ("alg None", bearer(&forged(json!({"alg": "None"}))), 407, "token_invalid"),
        ("alg HS256", bearer(&forged(json!({"alg": "HS256"}))), 407, "token_invalid"),
        ("crit", bearer(&forged(json!({"alg": "ES256", "crit": ["x"], "x": 1}))), 407, "token_invalid"),
        (
            "a kid that is a path",
            bearer(&forged(json!({"alg": "ES256", "kid": "../../dev/null"}))),
            407,
            "token_invalid",
        ),
        (
            "a kid that is a URL",
            bearer(&forged(json!({"alg": "ES256", "jku": "http://evil.test/k"}))),
            407,
            "token_invalid",
        ),
        (
            "another payload",
            bearer(&format!("{}.{}.{signature}", bot.split('.').next().unwrap(), part(widened))),
            407,
            "token_invalid",
        ),
        ("another issuer", bearer(&with(json!({"iss": "https://evil.test"}))), 407, "token_invalid"),
        ("two issuers", bearer(&with(json!({"iss": ["egret-dev", "x"]}))), 407, "token_invalid"),
        ("another audience", bearer(&with(json!({"aud": "other"}))), 407, "token_audience_mismatch"),
        ("an audience that is a number", bearer(&with(json!({"aud": 5}))), 407, "token_invalid"),
        ("a life of a century", bearer(&with(json!({"exp": 9_999_999_999u64}))), 407, "token_invalid"),
        ("an end that is a word", bearer(&with(json!({"exp": "soon"}))), 407, "token_invalid"),
        ("a beginning in the future", bearer(&with(json!({"nbf": 9_999_999_999u64}))), 407, "token_invalid"),
        ("bound to a certificate", bearer(&with(json!({"cnf": {"x5t#S256": "x"}}))), 407, "token_invalid"),
        ("a tenant that is a path", bearer(&with(json!({"tenant_id": "../zeta"}))), 407, "token_invalid"),
        ("a tenant that is a list", bearer(&with(json!({"tenant_id": ["zeta"]}))), 407, "token_invalid"),
        ("a tenant with a NUL", bearer(&with(json!({"tenant_id": "acme\0"}))), 407, "token_invalid"),
        ("a token of 17 KiB", bearer(&format!("{bot}{}", "a".repeat(17 * 1024))), 407, "token_invalid"),
        (
            "an unknown tenant",
            bearer(&token_with(issuer, "nobody/bot", None, Value::Null)),
            403,
            "tenant_unknown",
        ),
        (
            "an unknown agent",
            bearer(&token_with(issuer, "acme/nobody", None, Value::Null)),
            403,
            "agent_unknown",
        ),
    ] {
        let answer = ask(&scene.egret, &lines);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {}", answer.text());
        assert!(
            !answer.text().contains(&bot) && !answer.text().contains("zeta"),
            "{name}: {}",
            answer.text()
        );
        refused.push(answer.json()["decision_id"].as_str().unwrap().to_owned());
    }
    // V-J12: before anybody looks at it, a head has a largest size.
    let mut raw = scene.egret.raw();
    raw.send(format!("{TARGET}{}\r\n", bearer(&"a".repeat(200_000))));
    assert!(raw.try_answer().is_none_or(|a| a.status == 431 || a.status == 400));
    scene.still_works("tokens");
    scene.holds(&refused);
}

/// Each request of a tunnel is asked again who asks.
#[test]
fn a_tunnel_stays_with_its_caller() {
    let scene = Scene::new();
    let issuer = &scene.egret.house.issuer;
    let expired = token_with(
        issuer,
        "acme/bot",
        Some("alice@acme.example"),
        json!({"iat": 1_700_000_000, "exp": 1_700_000_600}),
    );
    let fresh = token_with(issuer, "acme/bot", Some("alice@acme.example"), Value::Null);
    for (name, line, code, closes) in [
        ("a fresher token", format!("x-agent-authorization: Bearer {fresh}"), "", false),
        ("an expired token", format!("x-agent-authorization: Bearer {expired}"), "token_expired", true),
        (
            "another agent",
            format!("x-agent-authorization: Bearer {}", token_with(issuer, "acme/other", None, Value::Null)),
            "agent_mismatch",
            false,
        ),
        (
            "another tenant",
            format!(
                "x-agent-authorization: Bearer {}",
                token_with(issuer, "zeta/bot", Some("alice@acme.example"), Value::Null)
            ),
            "agent_mismatch",
            false,
        ),
        (
            "another user",
            format!(
                "x-agent-authorization: Bearer {}",
                token_with(issuer, "acme/bot", Some("bob@acme.example"), Value::Null)
            ),
            "agent_mismatch",
            false,
        ),
        ("another agent by name", "x-agent-id: other".into(), "agent_mismatch", false),
        ("another tenant by name", "x-tenant-id: zeta".into(), "agent_mismatch", false),
        ("a token that is none", "proxy-authorization: Bearer x.y.z".into(), "token_invalid", true),
    ] {
        let mut inside = scene.inside();
        inside.send("GET /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
        assert_eq!(inside.answer().status, 200);
        inside.send(format!("GET /v1/public/b HTTP/1.1\r\nhost: api.good.test\r\n{line}\r\n\r\n"));
        let answer = inside.answer();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (if code.is_empty() { 200 } else { 403 }, code),
            "{name}"
        );
        assert_eq!(answer.header("connection") == Some("close"), closes, "{name}");
        if closes {
            assert!(inside.rest().is_empty(), "{name}: the tunnel ends");
        } else {
            inside.send("GET /v1/public/c HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
            assert_eq!(inside.answer().status, 200, "{name}: the tunnel goes on as its caller");
        }
    }
    assert!(
        scene.good.seen().iter().all(|s| s.target != "/v1/public/b" || s.header("authorization").is_some())
    );
    scene.still_works("tunnels");
}

/// V-S09: a certificate is made for an allowed name and a known caller only.
#[test]
fn no_leaf_is_minted_before_it_is_allowed() {
    let scene = Scene::new();
    let stranger = scene.egret.token("nobody/bot");
    for (authority, identity) in [
        ("api.good.test:443", String::new()),
        ("api.good.test:443", "proxy-authorization: Bearer x.y.z\r\n".into()),
        ("api.good.test:443", format!("proxy-authorization: Bearer {stranger}\r\n")),
        ("evil.test:443", scene.identity()),
        ("api.other.test:443", scene.identity()),
        ("a.b.wild.test:443", scene.identity()),
        ("*.wild.test:443", scene.identity()),
        ("[api.good.test]:443", scene.identity()),
        ("api.good.test:22", scene.identity()),
    ] {
        let mut raw = scene.egret.raw();
        let answer = raw.connect_to(authority, &identity);
        assert!((400..=407).contains(&answer.status), "{authority}: {}", answer.status);
    }
    let bearer = format!("Bearer {}", scene.token);
    let mut h2 = H2::open(scene.egret.raw());
    let connect =
        [(":method", "CONNECT"), (":authority", "evil.test:443"), ("proxy-authorization", &*bearer)];
    assert!(!h2.exchange(&connect, None).outcome().passed());
    drop(h2);
    assert_eq!(minted(&scene.egret), 0);
    let _ = scene.inside();
    let _ = scene.inside();
    assert_eq!(minted(&scene.egret), 1, "one name, one leaf");
}

/// Two tenants whose agents and integrations bear the same names, with secrets of their own.
const TWINS: &str = "version: 1
services:
  good: {hosts: [api.good.test], allow_private_addresses: true, roles: {r: [GET|POST /**]}}
  hidden: {hosts: [hidden.test], allow_private_addresses: true, roles: {r: [GET /**]}}
tenants:
  one: {integrations: {good: {credential: {static: {bearer: 'env:ONE'}}}}, agents: {bot: {good: r}}}
  two: {integrations: {good: {credential: {static: {bearer: 'env:TWO'}}}, hidden: {credential: {static: {bearer: 'env:TWO'}}}}, agents: {bot: {good: r, hidden: r}}}
";

fn twins(good: &Upstream) -> Egret {
    House::new(TWINS)
        .env("ONE", "secret-of-one-0123456789")
        .env("TWO", "secret-of-two-9876543210")
        .resolve("api.good.test", good.address)
        .resolve("hidden.test", good.address)
        .start()
}

/// V-T01: no request of a storm gets another tenant's credential, nor sees its connection or its answer.
#[test]
fn no_credential_crosses_in_a_storm() {
    let good = Upstream::echo("api.good.test");
    let egret = twins(&good);
    let tokens = [("one", egret.token("one/bot")), ("two", egret.token("two/bot"))];
    let authority = egret.authority();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (proxy, tokens, authority) = (egret.proxy(), &tokens, &authority);
            scope.spawn(move || {
                // One connection that both tenants use in turn, and a tunnel of one of them.
                let mut shared = Raw::connect(proxy);
                let (owner, token) = &tokens[thread % 2];
                let mut tunnel = Raw::connect(proxy);
                tunnel.connect_to("api.good.test:443", &format!("proxy-authorization: Bearer {token}\r\n"));
                let mut tunnel = tunnel.tls("api.good.test", authority);
                // HTTP/2, where both tenants' requests are streams of one connection.
                let mut streams = H2::open(Raw::connect(proxy));
                for round in 0..125 {
                    let (tenant, token) = &tokens[(thread + round) % 2];
                    shared.send(format!(
                        "GET http://api.good.test/{thread}/{round} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\nx-mark: {tenant}\r\n\r\n"
                    ));
                    let answer = shared.answer();
                    assert_eq!(answer.json()["headers"]["x-mark"], *tenant);
                    let bearer = format!("Bearer {token}");
                    let path = format!("/h2/{thread}/{round}");
                    let answer = streams.exchange(
                        &[
                            (":method", "GET"),
                            (":scheme", "https"),
                            (":authority", "api.good.test"),
                            (":path", &path),
                            ("proxy-authorization", &bearer),
                            ("x-mark", tenant),
                        ],
                        None,
                    );
                    let body: Value = serde_json::from_slice(&answer.body).unwrap();
                    assert_eq!(body["headers"]["x-mark"], *tenant);
                    tunnel.send(format!(
                        "POST /t/{thread}/{round} HTTP/1.1\r\nhost: api.good.test\r\nx-mark: {owner}\r\ncontent-length: 2\r\n\r\nok"
                    ));
                    let answer = tunnel.answer();
                    assert_eq!(answer.json()["headers"]["x-mark"], *owner);
                    assert!(!answer.text().contains("secret-of"), "{}", answer.text());
                }
            });
        }
    });
    let seen = good.seen();
    assert_eq!(seen.len(), 3000);
    for seen in seen {
        let mark = seen.header("x-mark").unwrap();
        let secret = if mark == "one" { "secret-of-one-0123456789" } else { "secret-of-two-9876543210" };
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {secret}")), "{mark}");
    }
}

/// V-T02: a connection is opened for one tenant and used for no other.
#[test]
fn no_connection_is_shared_between_tenants() {
    let good = Upstream::https1("api.good.test", |_| support::upstream::full(200, &[], "{}"));
    let egret = twins(&good);
    for tenant in ["one", "two", "one", "two"] {
        let token = egret.token(&format!("{tenant}/bot"));
        assert_eq!(ask(&egret, &format!("proxy-authorization: Bearer {token}\r\n")).status, 200);
    }
    assert_eq!(good.connections(), 2, "one for each tenant, kept");
}

/// V-T08: what another tenant has looks exactly like what does not exist.
#[test]
fn another_tenants_integration_does_not_exist() {
    let good = Upstream::echo("api.good.test");
    let egret = twins(&good);
    let token = egret.token("one/bot");
    let plain = |mut body: Value, name: &str| {
        for key in ["decision_id", "correlation_id"] {
            body.as_object_mut().unwrap().remove(key);
        }
        body.to_string().replace(name, "NAME")
    };
    let at_the_gateway = |name: &str| {
        let mut raw = Raw::connect(egret.gateway());
        raw.send(format!(
            "GET /{name}/x HTTP/1.1\r\nhost: gateway.local\r\nauthorization: Bearer {token}\r\n\r\n"
        ));
        let answer = raw.answer();
        (answer.status, plain(answer.json(), name))
    };
    assert_eq!(at_the_gateway("hidden"), at_the_gateway("nosuch"));
    let by_header = |name: &str| {
        let answer =
            ask(&egret, &format!("proxy-authorization: Bearer {token}\r\nx-agent-integration: {name}\r\n"));
        (answer.status, plain(answer.json(), name))
    };
    assert_eq!(by_header("hidden"), by_header("nosuch"));
    let by_host = |host: &str| {
        let mut raw = egret.raw();
        raw.send(format!(
            "GET http://{host}/x HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n\r\n"
        ));
        let answer = raw.answer();
        let connect = egret
            .raw()
            .connect_to(&format!("{host}:443"), &format!("proxy-authorization: Bearer {token}\r\n"));
        (
            answer.status,
            plain(answer.json(), host),
            connect.status,
            connect.reason.clone(),
            plain(connect.json(), host),
        )
    };
    assert_eq!(by_host("hidden.test"), by_host("nosuch.test"));
    assert!(good.seen().is_empty());
    // Also to a tenant that itself does not exist.
    let nobody = egret.token("nobody/bot");
    assert_eq!(ask(&egret, &format!("proxy-authorization: Bearer {nobody}\r\n")).code(), "tenant_unknown");
}

/// V-T03: names that read alike when they are joined have limits of their own.
#[test]
fn limits_do_not_collide() {
    let good = Upstream::echo("api.good.test");
    let tenant = "{limit: 1/min, integrations: {good: {credential: {static: {bearer: 'env:ONE'}}}}";
    let policy = format!(
        "version: 1\nservices:\n  good: {{hosts: [api.good.test], allow_private_addresses: true, roles: {{r: [GET /**]}}}}\n\
         tenants:\n  a: {tenant}, agents: {{b-c: {{good: r}}}}}}\n  a-b: {tenant}, agents: {{c: {{good: r}}}}}}\n  a_b: {tenant}, agents: {{c: {{good: r}}}}}}\n"
    );
    let egret = House::new(&policy)
        .env("ONE", "secret-of-one-0123456789")
        .resolve("api.good.test", good.address)
        .start();
    for who in ["a/b-c", "a-b/c", "a_b/c"] {
        let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token(who));
        assert_eq!(ask(&egret, &identity).status, 200, "{who}");
        assert_eq!(ask(&egret, &identity).code(), "rate_limited", "{who}");
        // A new token is no new limit.
        let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token(who));
        assert_eq!(ask(&egret, &identity).code(), "rate_limited", "{who}");
    }
}
