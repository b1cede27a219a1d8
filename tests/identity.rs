//! The other ways in: listeners that know who asks, and the corporate proxy on the way out.

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

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use support::{House, Raw, Upstream, token_with};

const SECRET: &str = "sk-live-4f8a2c19d7e6b305";
const POLICY: &str = "version: 1
services:
  good: {hosts: [api.good.test], allow_private_addresses: true, roles: {reader: [GET /**]}}
tenants:
  acme:
    integrations: {good: {credential: {static: {bearer: 'env:GOOD_KEY'}}}}
    agents: {bot: {good: reader}, other: {good: reader}}
";
const REQUEST: &str = "GET http://api.good.test/v1 HTTP/1.1\r\nhost: api.good.test\r\n";

#[test]
fn an_ambient_listener_reads_its_token_again_when_it_changes() {
    let upstream = Upstream::echo("api.good.test");
    let house = House::new(POLICY).env("GOOD_KEY", SECRET).resolve("api.good.test", upstream.address);
    let bot = token_with(&house.issuer, "acme/bot", None, serde_json::Value::Null);
    let other = token_with(&house.issuer, "acme/other", None, serde_json::Value::Null);
    let mut egret = house
        .file("token", &format!("{bot}\n"))
        .listen("ambient: [{address: '127.0.0.1:0', token_file: token}]")
        .start();
    let ambient = egret.ambient();
    let ask = |headers: &str| {
        let mut raw = Raw::connect(ambient);
        raw.send(format!("{REQUEST}{headers}\r\n"));
        raw.answer()
    };
    assert_eq!(ask("").status, 200);
    let decision = egret.decision("");
    assert_eq!((&decision["agent_id"], &decision["identity"]["channel"]), (&"bot".into(), &"ambient".into()));
    assert_eq!(decision["client"]["listener"], "ambient");
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(ask("x-agent-id: other\r\n").code(), "agent_mismatch");
    assert_eq!(ask(&format!("proxy-authorization: Bearer {other}\r\n")).code(), "agent_mismatch");
    egret.replace("token", &other);
    assert_eq!(ask("").status, 200);
    assert_eq!(egret.decision("")["agent_id"], "other");
    std::fs::remove_file(egret.house.path("token")).unwrap();
    let refused = ask("");
    assert_eq!((refused.status, refused.code().as_str()), (503, "identity_unavailable"));
    egret.replace("token", &bot);
    assert_eq!(ask("").status, 200, "it recovers by itself");
}

#[test]
fn an_organisation_token_is_narrowed_to_one_agent() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret =
        House::new(POLICY).env("GOOD_KEY", SECRET).resolve("api.good.test", upstream.address).start();
    let token = token_with(&egret.house.issuer, "acme", None, serde_json::Value::Null);
    let ask = |proxy: SocketAddr, headers: &str| {
        let mut raw = Raw::connect(proxy);
        raw.send(format!("{REQUEST}proxy-authorization: Bearer {token}\r\n{headers}\r\n"));
        raw.answer()
    };
    assert_eq!(ask(egret.proxy(), "x-agent-id: bot\r\n").status, 200);
    assert_eq!(egret.decision("")["agent_id_source"], "client");
    assert_eq!(ask(egret.proxy(), "").code(), "agent_unknown");
    assert_eq!(ask(egret.proxy(), "x-agent-id: stranger\r\n").code(), "agent_unknown");
    assert_eq!(ask(egret.proxy(), "x-agent-id: bot\r\nagent_id: other\r\n").code(), "request_malformed");
}

/// A proxy that connects wherever it is asked to, with a password, and remembers what it was asked.
fn corporate_proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remember = asked.clone();
    thread::spawn(move || {
        for client in socket.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            remember.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            if !head.windows(6).any(|w| w == b"Basic ") {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
                continue;
            }
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let upstream = TcpStream::connect(to).unwrap();
            for (mut from, mut into) in [
                (client.try_clone().unwrap(), upstream.try_clone().unwrap()),
                (upstream.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, asked)
}

#[test]
fn the_way_out_may_lead_through_a_corporate_proxy() {
    let upstream = Upstream::echo("api.good.test");
    let (proxy, asked) = corporate_proxy(upstream.address);
    let egret = House::new(POLICY)
        .env("GOOD_KEY", SECRET)
        .file("proxy-login", "corp:pass-word-123\n")
        .settings(&format!("  proxy: 'http://{proxy}'\n  proxy_credentials: 'file:proxy-login'\n"))
        .start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!("{REQUEST}proxy-authorization: Bearer {token}\r\n\r\n"));
    assert_eq!(raw.answer().status, 200);
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {SECRET}")));
    let asked = asked.lock().unwrap().clone();
    assert!(asked[0].starts_with("CONNECT api.good.test:443 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains("Proxy-Authorization: Basic Y29ycDpwYXNzLXdvcmQtMTIz\r\n"), "{asked:?}");
    assert!(!asked[0].contains(&token) && !asked[0].contains(SECRET));
    let said = egret.everything();
    assert!(!said.contains("pass-word-123") && !said.contains("Y29ycDpwYXNzLXdvcmQtMTIz"));
}

#[test]
fn a_corporate_proxy_that_refuses_is_an_unreachable_upstream() {
    let upstream = Upstream::echo("api.good.test");
    let (proxy, _) = corporate_proxy(upstream.address);
    let mut egret =
        House::new(POLICY).env("GOOD_KEY", SECRET).settings(&format!("  proxy: 'http://{proxy}'\n")).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!("{REQUEST}proxy-authorization: Bearer {token}\r\n\r\n"));
    let refused = raw.answer();
    assert_eq!((refused.status, refused.code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(egret.outcome()["reason"], "the upstream proxy answered 407");
    assert!(upstream.seen().is_empty());
}
