//! What breaks: keys, upstreams, policy files, the decision log, secrets. Each fault has its named refusal, and each
//! ends by itself, without a restart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test that cannot go on fails; counters are whole numbers"
)]

mod support;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use egret::identify::DevIssuer;
use http::{Request, Response};
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{pki_types::PrivateKeyDer, sign::CertifiedKey};
use support::{
    Answer, Egret, House, Live, PATIENCE, Raw, Upstream,
    live::{config_with, eventually, pipe},
    token_with,
    upstream::{Body, full},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECRET: &str = "sk-live-4f8a2c19d7e6b305";

const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    response_timeout: 300ms
    roles:
      reader: [GET /**]
      writer: [{include: reader}, POST /**]
  clear:
    hosts: [clear.good.test]
    scheme: http
    allow_private_addresses: true
    roles:
      reader: [GET /**]
  lost:
    hosts: [nowhere.invalid]
    roles:
      reader: [GET /**]
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: 'env:KEY'}}}
      clear: {credential: {static: {bearer: 'env:KEY'}}}
      lost: {credential: none}
    agents:
      bot: {good: reader, clear: reader, lost: reader}
";

fn house(upstream: std::net::SocketAddr) -> House {
    House::new(POLICY)
        .env("KEY", SECRET)
        .resolve("api.good.test", upstream)
        .resolve("clear.good.test", upstream)
}

/// One request on a connection of its own.
fn ask(egret: &Egret, url: &str) -> Answer {
    ask_as(egret, url, &egret.token("acme/bot"))
}

fn ask_as(egret: &Egret, url: &str, token: &str) -> Answer {
    let host = url.split('/').nth(2).unwrap();
    let mut raw = egret.raw();
    raw.send(format!(
        "GET {url} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    ));
    raw.answer()
}

fn verdict(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

/// Asks until the answer is this one: for what egret finds out by a timer of its own.
fn until(egret: &Egret, url: &str, token: &str, status: u16) {
    eventually(&format!("{status} for {url}"), || (ask_as(egret, url, token).status == status).then_some(()));
}

const GOOD: &str = "http://api.good.test/a";
const CLEAR: &str = "http://clear.good.test/a";

// --- keys -----------------------------------------------------------------------------------------------------

/// What a key server says now.
#[derive(Clone)]
struct Keys(Arc<Mutex<(u16, Bytes)>>);

impl Keys {
    fn new(jwks: &str) -> Self {
        Self(Arc::new(Mutex::new((200, jwks.to_owned().into()))))
    }

    fn say(&self, status: u16, text: &str) {
        *self.0.lock().unwrap() = (status, text.to_owned().into());
    }

    fn answer(
        &self,
    ) -> impl Fn(Request<Incoming>) -> std::future::Ready<Response<Body>> + Send + Sync + 'static {
        let this = self.0.clone();
        move |_| {
            let (status, text) = this.lock().unwrap().clone();
            std::future::ready(full(status, &[("content-type", "application/json")], text))
        }
    }
}

fn url(server: &Live) -> String {
    format!("url: 'http://{}/jwks.json'", server.address)
}

#[test]
fn keys_that_cannot_be_had_are_a_503_and_come_back_by_themselves() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address);
    let good = house.issuer.jwks().to_owned();
    let keys = Keys::new("this is not a key set");
    let server = Live::http(keys.answer());
    let mut egret = house.keys(&url(&server)).start();
    assert_eq!(verdict(&ask(&egret, GOOD)), (503, "identity_unavailable".into()), "garbage");
    assert_eq!(egret.decision("identity_unavailable")["decision"], "fail");
    assert_eq!(egret.page("/readyz").0, 503);
    keys.say(500, "");
    assert_eq!(verdict(&ask(&egret, GOOD)), (503, "identity_unavailable".into()), "a server error");
    keys.say(200, &good);
    until(&egret, GOOD, &egret.token("acme/bot"), 200);
    assert_eq!(egret.page("/readyz").0, 200);
    // Keys once known are good while their server is away.
    let address = server.stop();
    assert_eq!(ask(&egret, GOOD).status, 200);
    assert_eq!(ask_as(&egret, GOOD, &egret.token("acme/bot")).status, 200);
    drop(Live::http_at(address, keys.answer()));
}

#[test]
fn a_key_server_that_is_away_at_the_start_is_found_when_it_comes() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address);
    let keys = Keys::new(house.issuer.jwks());
    let server = Live::http(keys.answer());
    let source = url(&server);
    let address = server.stop();
    let mut egret = house.keys(&source).start();
    assert_eq!(verdict(&ask(&egret, GOOD)), (503, "identity_unavailable".into()));
    assert!(egret.record(|r| r["event"] == "jwks_stale")["reason"].is_string());
    let _server = Live::http_at(address, keys.answer());
    until(&egret, GOOD, &egret.token("acme/bot"), 200);
}

#[test]
fn a_key_server_that_hangs_holds_a_request_for_a_bounded_time() {
    let upstream = Upstream::echo("api.good.test");
    let server = Live::http(|_| std::future::pending());
    let egret = house(upstream.address).keys(&url(&server)).start();
    assert_eq!(verdict(&ask(&egret, GOOD)), (503, "identity_unavailable".into()));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_new_key_is_fetched_when_the_first_token_names_it_and_the_old_one_ends() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address);
    let keys = Keys::new(house.issuer.jwks());
    let server = Live::http(keys.answer());
    let egret = house.keys(&url(&server)).start();
    let old = egret.token("acme/bot");
    until(&egret, GOOD, &old, 200);
    let next = DevIssuer::ephemeral().unwrap();
    let new = token_with(&next, "acme/bot", None, serde_json::Value::Null);
    assert_eq!(verdict(&ask_as(&egret, GOOD, &new)), (407, "token_invalid".into()));
    keys.say(200, next.jwks());
    until(&egret, GOOD, &new, 200);
    // A cached verdict on the old key's token ends with the key.
    assert_eq!(verdict(&ask_as(&egret, GOOD, &old)), (407, "token_invalid".into()));
}

#[test]
fn made_up_key_names_do_not_hammer_the_key_server() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address);
    let server = Live::http(Keys::new(house.issuer.jwks()).answer());
    let egret = house.keys(&url(&server)).start();
    until(&egret, GOOD, &egret.token("acme/bot"), 200);
    for _ in 0..20 {
        let stranger = DevIssuer::ephemeral().unwrap();
        let token = token_with(&stranger, "acme/bot", None, serde_json::Value::Null);
        assert_eq!(verdict(&ask_as(&egret, GOOD, &token)), (407, "token_invalid".into()));
    }
    assert!(server.asked() <= 3, "{} fetches", server.asked());
}

// --- upstreams ------------------------------------------------------------------------------------------------

#[test]
fn an_upstream_that_is_gone_is_a_502_until_it_is_back() {
    let upstream = Live::http(|_| async { full(200, &[], "one") });
    let mut egret = house(upstream.address).start();
    assert_eq!(ask(&egret, CLEAR).text(), "one");
    let address = upstream.stop();
    let refused = ask(&egret, CLEAR);
    assert_eq!(verdict(&refused), (502, "upstream_unreachable".into()));
    assert!(refused.header("proxy-status").unwrap().contains("error=connection_refused"), "{refused:?}");
    // It was decided, so what went wrong stands in its outcome.
    let outcome = egret.record(|r| r["event"] == "outcome" && r["code"] == "upstream_unreachable");
    assert_eq!(outcome["http"]["response_status_code"], 502);
    let _back = Live::http_at(address, |_| async { full(200, &[], "two") });
    assert_eq!(ask(&egret, CLEAR).text(), "two");
}

#[test]
fn an_upstream_that_hangs_up_without_an_answer_is_a_502() {
    let upstream = Live::socket(|mut stream| async move {
        let _ = stream.read_u8().await;
    });
    let egret = house(upstream.address).start();
    let refused = ask(&egret, CLEAR);
    assert_eq!(verdict(&refused), (502, "upstream_unreachable".into()));
    assert!(refused.header("proxy-status").unwrap().contains("error=connection_terminated"), "{refused:?}");
    assert_eq!(upstream.accepted(), 1, "what may have been read is not sent again");
}

#[test]
fn a_name_that_does_not_resolve_is_its_own_refusal() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(upstream.address).start();
    let refused = ask(&egret, "http://nowhere.invalid/a");
    assert_eq!(refused.code(), "upstream_dns_failed");
    assert!(matches!(refused.status, 502 | 504));
}

#[test]
fn an_upstream_that_accepts_and_says_nothing_is_a_504_in_time() {
    let silent = Live::socket(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    });
    // No TLS handshake, so no connection.
    let egret = house(silent.address).env("EGRET_UPSTREAM_CONNECT_TIMEOUT", "300ms").start();
    let refused = ask(&egret, GOOD);
    assert_eq!(verdict(&refused), (504, "upstream_timeout".into()));
    assert!(refused.header("proxy-status").unwrap().contains("error=connection_timeout"), "{refused:?}");
}

#[test]
fn an_upstream_that_never_answers_is_a_504_after_the_services_own_time() {
    let slow = Arc::new(AtomicBool::new(true));
    let hangs = slow.clone();
    let upstream = Live::https("api.good.test", move |_| {
        let hangs = hangs.load(Ordering::SeqCst);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            full(200, &[], "awake")
        }
    });
    let egret = house(upstream.address).start();
    let refused = ask(&egret, GOOD);
    assert_eq!(verdict(&refused), (504, "upstream_timeout".into()));
    assert!(refused.header("proxy-status").unwrap().contains("error=http_response_timeout"), "{refused:?}");
    slow.store(false, Ordering::SeqCst);
    assert_eq!(ask(&egret, GOOD).text(), "awake");
}

/// Certificates that must not be trusted for `api.good.test`, and the authority to trust beside the usual one.
fn bad_certificates() -> (Vec<(&'static str, Arc<CertifiedKey>)>, String) {
    egret::tls::install();
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "another authority");
    let authority = ca.self_signed(&key).unwrap();
    let trusted = Issuer::from_params(&ca, &key);
    let certified = |key: &KeyPair, certificate: rcgen::Certificate| {
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let signer = egret::tls::signing_key(&der).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer))
    };
    let leaf = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let signed = |params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &trusted).unwrap();
        certified(&key, certificate)
    };
    let alone = KeyPair::generate().unwrap();
    let mut expired = leaf("api.good.test");
    expired.not_before = rcgen::date_time_ymd(2019, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut future = leaf("api.good.test");
    future.not_before = rcgen::date_time_ymd(2090, 1, 1);
    future.not_after = rcgen::date_time_ymd(2091, 1, 1);
    let mut named_in_the_subject = CertificateParams::default();
    named_in_the_subject.distinguished_name.push(DnType::CommonName, "api.good.test");
    let all = vec![
        ("self-signed", certified(&alone, leaf("api.good.test").self_signed(&alone).unwrap())),
        ("wrong name", signed(leaf("api.evil.test"))),
        ("wildcard one label too high", signed(leaf("*.test"))),
        ("name in the subject alone", signed(named_in_the_subject)),
        ("expired", signed(expired)),
        ("not yet valid", signed(future)),
        ("good after all", signed(leaf("api.good.test"))),
    ];
    (all, authority.pem())
}

#[test]
fn an_upstream_that_is_not_who_it_should_be_gets_nothing() {
    let (certificates, authority) = bad_certificates();
    let both = format!("{}{authority}", Upstream::authority().pem());
    for (what, certificate) in certificates {
        let upstream = Live::serving(
            Some(config_with(certificate, &[b"http/1.1"])),
            None,
            |_: Request<Incoming>| async { full(200, &[], "") },
        );
        let egret = house(upstream.address).file("upstream-ca.pem", &both).start();
        let answer = ask(&egret, GOOD);
        if what == "good after all" {
            assert_eq!(answer.status, 200, "{what}: the others fail for their own reason");
            continue;
        }
        assert_eq!(verdict(&answer), (502, "upstream_tls_failed".into()), "{what}");
        assert!(answer.header("proxy-status").unwrap().contains("error=tls_certificate_error"), "{what}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{what}");
        assert_eq!((upstream.accepted(), upstream.asked()), (1, 0), "{what}");
    }
}

#[test]
fn an_upstream_without_tls_gets_nothing() {
    let (sender, read) = mpsc::channel();
    let upstream = Live::socket(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut first = vec![0; 4096];
            let length = stream.read(&mut first).await.unwrap_or(0);
            first.truncate(length);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = sender.send(first);
        }
    });
    let egret = house(upstream.address).start();
    let refused = ask(&egret, GOOD);
    assert_eq!(verdict(&refused), (502, "upstream_tls_failed".into()));
    let first = read.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.first(), Some(&0x16), "a handshake and nothing else");
    assert!(!String::from_utf8_lossy(&first).contains(SECRET));
}

// --- policy files ---------------------------------------------------------------------------------------------

fn without_a_grant() -> String {
    POLICY.replace("bot: {good: reader, clear: reader, lost: reader}", "bot: {lost: reader}")
}

type Break = Box<dyn Fn(&Egret)>;

#[test]
fn a_policy_that_cannot_be_used_changes_nothing_and_is_told_everywhere() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "policy_loaded");
    let path = egret.house.path("policies/policy.yaml");
    let breaks: [(&str, Break); 5] = [
        ("no YAML", Box::new(|e| e.replace("policies/policy.yaml", "{{{{"))),
        (
            "an unknown key",
            Box::new(|e| e.replace("policies/policy.yaml", &format!("{POLICY}surprise: 1\n"))),
        ),
        ("empty", Box::new(|e| e.replace("policies/policy.yaml", ""))),
        ("half written", Box::new(|e| e.replace("policies/policy.yaml", &POLICY[..POLICY.len() / 2]))),
        ("deleted", Box::new(|e| fs::remove_file(e.house.path("policies/policy.yaml")).unwrap())),
    ];
    for (count, (what, break_it)) in (0u32..).zip(&breaks) {
        break_it(&egret);
        let event = egret.record(|r| r["event"] == "policy_rejected");
        assert!(event["problems"].as_u64().unwrap() > 0, "{what}");
        egret.message("policy rejected, the last good one stays");
        assert_eq!(ask(&egret, GOOD).status, 200, "{what}");
        assert_eq!(egret.page("/readyz").0, 200, "{what}");
        let rejected = egret.metric("egret_policy_reload_total{result=\"error\"}");
        assert!(rejected > f64::from(count), "{what}: {rejected}");
    }
    fs::write(&path, without_a_grant()).unwrap();
    let loaded = egret.record(|r| r["event"] == "policy_loaded");
    let refused = ask(&egret, GOOD);
    assert_eq!(refused.status, 403);
    assert_eq!(egret.decision(&refused.code())["policy"]["hash"], loaded["hash"]);
    assert_eq!(egret.metric("egret_policy_reload_total{result=\"ok\"}"), 2.0);
}

/// Kubernetes mounts a `ConfigMap` as links through `..data`, and replaces that one link.
#[test]
fn a_mounted_policy_is_swapped_by_one_link() {
    use std::os::unix::fs::symlink;
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address);
    let mount = house.path("policies");
    fs::remove_file(mount.join("policy.yaml")).unwrap();
    for (version, text) in [("..1", POLICY.to_owned()), ("..2", without_a_grant())] {
        fs::create_dir(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("policy.yaml"), text).unwrap();
    }
    symlink("..1", mount.join("..data")).unwrap();
    symlink("..data/policy.yaml", mount.join("policy.yaml")).unwrap();
    let mut egret = house.start();
    assert_eq!(ask(&egret, GOOD).status, 200);
    egret.record(|r| r["event"] == "started");
    symlink("..2", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    egret.record(|r| r["event"] == "policy_loaded");
    assert_eq!(ask(&egret, GOOD).status, 403);
}

#[test]
fn a_signal_reads_the_policy_again() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "started");
    // The directory itself is another one by now, which no watch on the old one tells.
    fs::rename(egret.house.path("policies"), egret.house.path("policies.old")).unwrap();
    fs::create_dir(egret.house.path("policies")).unwrap();
    fs::write(egret.house.path("policies/policy.yaml"), without_a_grant()).unwrap();
    egret.signal("HUP");
    egret.record(|r| r["event"] == "policy_loaded");
    assert_eq!(ask(&egret, GOOD).status, 403);
}

#[test]
fn a_new_policy_reaches_the_next_request_of_an_open_tunnel() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "started");
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    let mut raw = egret.raw();
    assert_eq!(raw.connect_to("api.good.test:443", &identity).status, 200);
    let mut inside = raw.tls("api.good.test", &egret.authority());
    let mut ask = || {
        inside.send("GET /a HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
        inside.answer().status
    };
    assert_eq!(ask(), 200);
    egret.replace("policies/policy.yaml", &without_a_grant());
    egret.record(|r| r["event"] == "policy_loaded");
    assert_eq!(ask(), 403);
    egret.replace("policies/policy.yaml", POLICY);
    egret.record(|r| r["event"] == "policy_loaded");
    assert_eq!(ask(), 200, "the tunnel itself was never cut");
}

/// What a tunnel leads to is nobody's any more: it is closed, also while nothing is asked in it.
#[test]
fn a_tunnel_to_what_a_new_policy_does_not_know_is_closed() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "started");
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    let mut raw = egret.raw();
    assert_eq!(raw.connect_to("api.good.test:443", &identity).status, 200);
    let mut inside = raw.tls("api.good.test", &egret.authority());
    inside.send("GET /a HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
    assert_eq!(inside.answer().status, 200);
    egret.replace("policies/policy.yaml", "version: 1\nrevision: none\ntenants: {acme: {}}\n");
    assert!(inside.rest().is_empty(), "it ends, without a word that the client could take for an answer");
    let closed = egret.record(|r| r["event"] == "tunnel_closed");
    assert_eq!(
        (&closed["tenant_id"], &closed["agent_id"], &closed["authority"], &closed["code"]),
        (&"acme".into(), &"bot".into(), &"api.good.test:443".into(), &"destination_not_allowed".into())
    );
    let reason = closed["reason"].as_str().unwrap();
    assert!(reason.contains("under revision none") && reason.contains("covers `api.good.test`"), "{reason}");
}

/// A body of known length may still take hours.
#[test]
fn a_new_policy_cuts_a_large_answer_of_known_length() {
    let (sender, pens) = mpsc::channel();
    let upstream = Live::https("api.good.test", move |_| {
        let (pen, body) = pipe();
        sender.send(pen).unwrap();
        let mut answer = Response::new(body);
        answer.headers_mut().insert("content-length", (1u64 << 30).into());
        async move { answer }
    });
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "started");
    let mut raw = egret.raw();
    let token = egret.token("acme/bot");
    raw.send(format!(
        "GET {GOOD} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write("the beginning\n");
    assert_eq!(raw.head().status, 200);
    raw.until("the beginning\n");
    egret.replace("policies/policy.yaml", &without_a_grant());
    assert!(raw.rest().is_empty());
    pen.abandoned();
    assert_eq!(egret.outcome()["upstream"]["ending"], "broken");
}

#[test]
fn a_new_policy_cuts_the_streams_that_it_no_longer_grants() {
    let (sender, pens) = mpsc::channel();
    let upstream = Live::https("api.good.test", move |mut request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (pen, body) = pipe();
            if !request.headers().contains_key("upgrade") {
                sender.send(pen).unwrap();
                return Response::new(body);
            }
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
                // Held open until the other side closes it.
                let mut io = hyper_util::rt::TokioIo::new(upgraded);
                let _ = io.read_u8().await;
                drop(pen);
            });
            let mut answer = full(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "");
            answer
                .headers_mut()
                .insert("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap());
            answer
        }
    });
    let mut egret = house(upstream.address).start();
    egret.record(|r| r["event"] == "started");
    let token = egret.token("acme/bot");
    let start = |more: &str| {
        let mut raw = egret.raw();
        raw.send(format!(
            "GET {GOOD} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n{more}\r\n"
        ));
        let status = raw.head().status;
        (raw, status)
    };
    let (mut events, status) = start("");
    assert_eq!(status, 200);
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write("data: 1\n\n");
    events.until("data: 1\n\n");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (mut socket, status) = start(upgrade);
    assert_eq!(status, 101);
    egret.replace("policies/policy.yaml", &without_a_grant());
    assert!(!String::from_utf8_lossy(&events.rest()).contains("0\r\n\r\n"), "cut, not ended");
    pen.abandoned();
    assert!(socket.rest().is_empty());
    for _ in 0..2 {
        let outcome = egret.outcome();
        assert_eq!(outcome["upstream"]["ending"], "broken");
        assert!(outcome.to_string().contains("no longer grants"), "{outcome}");
    }
}

// --- the decision log -----------------------------------------------------------------------------------------

fn logging(upstream: &Upstream, sink: &str, durability: &str) -> House {
    house(upstream.address).settings(&format!("audit: {{sinks: ['{sink}'], durability: {durability}}}\n"))
}

/// The whole records of a log.
fn records(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

fn decisions(path: &std::path::Path) -> usize {
    records(path).iter().filter(|r| r["event"] == "decision").count()
}

#[test]
fn a_log_that_was_rotated_away_or_deleted_is_opened_anew() {
    let upstream = Upstream::echo("api.good.test");
    for durability in ["best_effort", "required"] {
        let egret = logging(&upstream, "file:decisions.jsonl", durability).start();
        let path = egret.house.path("decisions.jsonl");
        assert_eq!(ask(&egret, GOOD).status, 200);
        eventually("the first record", || (decisions(&path) > 0).then_some(()));
        let rotations: [&dyn Fn(); 2] =
            [&|| fs::rename(&path, path.with_extension("1")).unwrap(), &|| fs::remove_file(&path).unwrap()];
        for rotate in rotations {
            rotate();
            if durability == "required" {
                // Not one record goes into a file that nobody can find any more.
                assert_eq!(ask(&egret, GOOD).status, 200);
                assert_eq!(decisions(&path), 1);
            } else {
                eventually("a record in the new file", || {
                    assert_eq!(ask(&egret, GOOD).status, 200);
                    (decisions(&path) > 0).then_some(())
                });
            }
        }
        assert_eq!(egret.metric("egret_audit_dropped_total"), 0.0);
    }
}

#[test]
fn without_a_record_there_is_no_request_where_records_are_required() {
    let upstream = Upstream::echo("api.good.test");
    let egret = logging(&upstream, "file:decisions.jsonl", "required").start();
    let path = egret.house.path("decisions.jsonl");
    assert_eq!(ask(&egret, GOOD).status, 200);
    // The disk is full: the path leads to a device that takes nothing.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let refused = ask(&egret, GOOD);
    assert_eq!(verdict(&refused), (503, "not_recorded".into()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(upstream.seen().len(), 1, "nothing left");
    assert_eq!(egret.page("/readyz"), (503, "pending: audit sink\n".into()));
    // There is room again: it finds out by itself, before any request comes.
    fs::remove_file(&path).unwrap();
    eventually("ready again", || (egret.page("/readyz").0 == 200).then_some(()));
    assert_eq!(ask(&egret, GOOD).status, 200);
    let all = records(&path);
    assert_eq!(all[0]["event"], "audit_resumed", "the gap is told: {all:?}");
    assert!(all[0]["dropped"].as_u64().unwrap() > 0);
}

#[test]
fn a_log_that_takes_nothing_loses_records_aloud_where_they_are_not_required() {
    let upstream = Upstream::echo("api.good.test");
    let egret = logging(&upstream, "file:/dev/full", "best_effort").start();
    assert_eq!(ask(&egret, GOOD).status, 200);
    eventually("the loss is counted", || (egret.metric("egret_audit_dropped_total") >= 2.0).then_some(()));
    assert_eq!(egret.page("/readyz").0, 200);
}

#[test]
fn a_pipe_without_a_reader_stops_nobody_and_works_when_one_comes() {
    let upstream = Upstream::echo("api.good.test");
    let house = logging(&upstream, "file:pipe", "best_effort");
    let path = house.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let egret = house.start();
    assert_eq!(ask(&egret, GOOD).status, 200);
    eventually("the loss is counted", || (egret.metric("egret_audit_dropped_total") >= 1.0).then_some(()));
    let reader = std::thread::spawn(move || {
        let mut pipe = std::io::BufReader::new(fs::File::open(path).unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut pipe, &mut line).unwrap();
        line
    });
    eventually("a record in the pipe", || {
        assert_eq!(ask(&egret, GOOD).status, 200);
        reader.is_finished().then_some(())
    });
    assert!(serde_json::from_str::<serde_json::Value>(&reader.join().unwrap()).is_ok());
}

#[test]
fn a_pipe_whose_reader_stalls_gets_whole_lines_and_is_told_what_it_missed() {
    let upstream = Upstream::echo("api.good.test");
    let house = logging(&upstream, "file:pipe", "best_effort");
    let path = house.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Both ends, so that opening does not wait for egret; and no reading for now.
    let pipe = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let egret = house.start();
    eventually("the pipe is full", || {
        assert_eq!(ask(&egret, GOOD).status, 200);
        (egret.metric("egret_audit_dropped_total") >= 10.0).then_some(())
    });
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(pipe));
        let _ = lines.map_while(Result::ok).try_for_each(|line| sender.send(line));
    });
    let dropped = loop {
        let line = lines.recv_timeout(PATIENCE).expect("nobody told what was missed");
        let record: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("a torn line: {e}: {line}"));
        if record["event"] == "audit_resumed" {
            break record["dropped"].as_u64().unwrap();
        }
    };
    assert!(dropped >= 10, "{dropped}");
}

#[test]
fn a_required_log_that_cannot_be_opened_keeps_egret_from_starting() {
    let upstream = Upstream::echo("api.good.test");
    let (code, said) = logging(&upstream, "file:no/such/directory/log", "required").fail();
    assert_eq!(code, Some(69), "{said}");
}

/// Killed in the middle of its work, egret has written down everything that it let out.
#[test]
fn no_request_reaches_an_upstream_before_its_decision_is_in_the_log() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = logging(&upstream, "file:decisions.jsonl", "required").start();
    let (proxy, token) = (egret.proxy(), egret.token("acme/bot"));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let request = format!(
                "GET {GOOD} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
            );
            std::thread::spawn(move || {
                let mut raw = Raw::connect(proxy);
                loop {
                    raw.send(&request);
                    if raw.until_or_end("\r\n\r\n").is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    eventually("some load", || (upstream.seen().len() > 200).then_some(()));
    egret.kill();
    for client in clients {
        client.join().unwrap();
    }
    let text = fs::read_to_string(egret.house.path("decisions.jsonl")).unwrap();
    let allowed = text
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter(|r| r["event"] == "decision" && r["decision"] == "allow")
        .count();
    let left = upstream.seen().len();
    assert!(left <= allowed, "{left} requests left, {allowed} were written down");
}

// --- secrets --------------------------------------------------------------------------------------------------

#[test]
fn a_secret_that_is_replaced_on_disk_is_used_from_the_next_request_on() {
    let upstream = Upstream::echo("api.good.test");
    let policy = POLICY.replace(
        "good: {credential: {static: {bearer: 'env:KEY'}}}",
        "good: {credential: {static: {bearer: 'file:../key'}}}",
    );
    let egret = House::new(&policy)
        .env("KEY", SECRET)
        .resolve("api.good.test", upstream.address)
        .file("key", "first-secret-0123456789\n")
        .start();
    let sent = || {
        let answer = ask(&egret, GOOD);
        (answer.status, answer.code(), upstream.last().header("authorization").unwrap())
    };
    assert_eq!(sent(), (200, String::new(), "Bearer first-secret-0123456789".into()));
    egret.replace("key", "other-secret-9876543210");
    assert_eq!(sent(), (200, String::new(), "Bearer other-secret-9876543210".into()));
    // In place, with the same length.
    fs::write(egret.house.path("key"), "third-secret-0000000000").unwrap();
    assert_eq!(sent(), (200, String::new(), "Bearer third-secret-0000000000".into()));
    fs::remove_file(egret.house.path("key")).unwrap();
    let before = upstream.seen().len();
    assert_eq!(verdict(&ask(&egret, GOOD)), (403, "credential_missing".into()));
    egret.replace("key", "");
    assert_eq!(verdict(&ask(&egret, GOOD)), (403, "credential_missing".into()));
    assert_eq!(upstream.seen().len(), before);
    egret.replace("key", "fourth-secret-111111111");
    assert_eq!(sent().0, 200);
}

#[test]
fn a_new_policy_ends_the_wait_for_an_answer_that_it_no_longer_grants() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = |grant: &str| {
        format!(
            "version: 1\nservices:\n  slow: {{hosts: [api.good.test], scheme: http, allow_private_addresses: true, \
             roles: {{reader: [GET /**]}}}}\ntenants:\n  acme:\n    integrations: {{slow: {{credential: none}}}}\n    \
             agents: {{bot: {{{grant}}}, other: {{slow: reader}}}}\n"
        )
    };
    let mut egret =
        House::new(&policy("slow: reader")).resolve("api.good.test", silent.local_addr().unwrap()).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://api.good.test/v1 HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    // The upstream has it, and thinks.
    let _thinking = silent.accept().unwrap();
    egret.replace("policies/policy.yaml", &policy(""));
    let refused = raw.answer();
    assert_eq!((refused.status, refused.code().as_str()), (403, "action_denied"), "{}", refused.text());
    assert_eq!(egret.outcome()["code"], "action_denied");
}
