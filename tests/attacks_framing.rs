//! Attacks on where one message ends and the next begins, from both sides.

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

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use attacks::{H2, Outcome, Scene};
use rustls::{ServerConnection, StreamOwned};
use support::{Raw, Upstream};

/// What may come of an upload.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Nothing reaches the upstream.
    No,
    /// Nothing, or exactly this body.
    AtMost(&'static str),
    /// Exactly this body.
    Body(&'static str),
}
use Expected::{AtMost, Body, No};

/// Header lines and body after `POST … HTTP/1.1`, `Host` and identity. `{next}` is a request that must never be
/// taken for one.
const UPLOADS: &[(&str, &str, Expected)] = &[
    // V-F01, V-F02
    ("CL.TE", "content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{next}", AtMost("")),
    ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{next}", AtMost("")),
    // V-F03
    ("two lengths", "content-length: 5\r\ncontent-length: 10\r\n\r\nhello{next}", No),
    ("the same length twice", "content-length: 5\r\ncontent-length: 5\r\n\r\nhello", AtMost("hello")),
    ("a list of lengths", "content-length: 5, 10\r\n\r\nhello{next}", No),
    ("a list of the same length", "content-length: 5, 5\r\n\r\nhello{next}", No),
    // V-F04
    ("a sign", "content-length: +5\r\n\r\nhello{next}", No),
    ("a negative length", "content-length: -1\r\n\r\nhello{next}", No),
    ("hexadecimal", "content-length: 0x5\r\n\r\nhello{next}", No),
    ("two numbers", "content-length: 5 5\r\n\r\nhello{next}", No),
    ("other digits", "content-length: \u{665}\r\n\r\nhello{next}", No),
    ("twenty digits", "content-length: 18446744073709551621\r\n\r\nhello{next}", No),
    ("an underscore", "content-length: 1_0\r\n\r\nhello{next}", No),
    ("no number", "content-length:\r\n\r\n{next}", No),
    ("leading zeros", "content-length: 005\r\nconnection: close\r\n\r\nhello", AtMost("hello")),
    // V-F05
    ("another coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{next}", No),
    ("chunked and then gzip", "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n{next}", No),
    ("gzip and then chunked", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("a folded line", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("a parameter", "transfer-encoding: chunked;a=b\r\n\r\n0\r\n\r\n{next}", No),
    ("two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("an empty member", "transfer-encoding: , chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("twice in one line", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("identity", "transfer-encoding: identity\r\ncontent-length: 5\r\n\r\nhello{next}", No),
    ("a vertical tab", "transfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("quotes", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n{next}", No),
    ("another case", "transfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Body("hello")),
    (
        "an underscore in the name",
        "transfer_encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        AtMost("0\r\n\r\n"),
    ),
    // V-F06
    ("a blank before the colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("a tab before the colon", "transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n{next}", No),
    ("a bare CR", "x: y\rtransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello{next}", No),
    ("a NUL in a value", "x: y\0z\r\ncontent-length: 5\r\n\r\nhello{next}", No),
    // V-F07
    ("a chunk in 0x", "transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", No),
    ("a negative chunk", "transfer-encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n", No),
    ("an underscore in a chunk", "transfer-encoding: chunked\r\n\r\n1_0\r\nhello\r\n0\r\n\r\n", No),
    ("the largest chunk", "transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", No),
    ("a chunk after a blank", "transfer-encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", AtMost("hello")),
    ("a chunk before a blank", "transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", AtMost("hello")),
    ("a chunk that ends in LF", "transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", AtMost("hello")),
    ("a chunk longer than it says", "transfer-encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", No),
    // V-F08
    (
        "an extension with lines in it",
        "transfer-encoding: chunked\r\n\r\n5;a=\"\r\nhello\r\n0\r\n\r\n",
        AtMost("hello"),
    ),
    ("an extension", "transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", AtMost("hello")),
    ("an extension with LF", "transfer-encoding: chunked\r\n\r\n5;\nhello\r\n0\r\n\r\n", AtMost("hello")),
];

/// Both ways to the good upstream, and how a target is written there.
fn ways(scene: &Scene) -> [(Raw, &'static str, String); 2] {
    [(scene.egret.raw(), "http://api.good.test", scene.identity()), (scene.inside(), "", String::new())]
}

#[test]
fn a_body_ends_where_its_one_length_says() {
    let scene = Scene::new();
    let mut refused = Vec::new();
    for (name, rest, expected) in UPLOADS {
        for (mut raw, base, identity) in ways(&scene) {
            let before = scene.good.seen().len();
            let next =
                format!("GET {base}/v1/public/smuggled HTTP/1.1\r\nhost: api.good.test\r\n{identity}\r\n");
            let rest = rest.replace("{next}", &next);
            raw.send(format!("POST {base}/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{identity}{rest}"));
            let first = raw.try_answer();
            let outcome = first.as_ref().map_or(Outcome::Closed, Outcome::of);
            refused.push(outcome.decision());
            // If the connection goes on, what is left in it comes before this.
            raw.send(format!(
                "GET {base}/v1/public/after HTTP/1.1\r\nhost: api.good.test\r\nconnection: close\r\n{identity}\r\n"
            ));
            raw.rest();
            let seen = &scene.good.seen()[before..];
            assert!(
                seen.iter().all(|s| !s.target.contains("smuggled")),
                "{name}: a body was taken for a request"
            );
            let bodies: Vec<&[u8]> =
                seen.iter().filter(|s| s.target == "/v1/public/a").map(|s| &*s.body).collect();
            match expected {
                No => assert!(bodies.is_empty(), "{name}: {bodies:?}"),
                AtMost(body) => assert!(bodies.iter().all(|b| *b == body.as_bytes()), "{name}: {bodies:?}"),
                Body(body) => assert_eq!(bodies, [body.as_bytes()], "{name}"),
            }
            for header in seen.iter().flat_map(|s| s.headers.keys()) {
                assert!(!header.as_str().contains('_'), "{name}: {header} was passed on");
            }
        }
        scene.still_works(name);
    }
    scene.holds(&refused);
}

/// V-F08: an extension of any length is bounded, and goes nowhere.
#[test]
fn a_chunk_extension_is_bounded() {
    let scene = Scene::new();
    for (mut raw, base, identity) in ways(&scene) {
        raw.send(format!(
            "POST {base}/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{identity}transfer-encoding: chunked\r\n\r\n5;{}\r\nhello\r\n0\r\n\r\n",
            "a".repeat(64 * 1024)
        ));
        assert!(raw.try_answer().is_none_or(|a| a.status != 200));
    }
    assert!(scene.good.seen().is_empty());
    scene.still_works("a long extension");
}

/// V-F10, V-F12, V-F15: what follows a request on its connection is the next request, and is judged.
#[test]
fn the_next_request_is_judged_like_the_first() {
    let scene = Scene::new();
    for (name, lines, body) in [
        ("a body of GET", "content-length: 5\r\n", "hello"),
        ("a premature upgrade", "connection: upgrade\r\nupgrade: websocket\r\n", ""),
        ("h2c", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n", ""),
        ("an unknown upgrade", "connection: upgrade\r\nupgrade: tls/1.0, websocket\r\n", ""),
    ] {
        for (mut raw, base, identity) in ways(&scene) {
            let before = scene.good.seen().len();
            raw.send(format!(
                "GET {base}/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{identity}{lines}\r\n{body}\
                 GET {base}/v1/admin HTTP/1.1\r\nhost: api.good.test\r\n{identity}\r\n"
            ));
            assert_eq!(raw.answer().status, 200, "{name}");
            assert_eq!(raw.answer().code(), "action_denied", "{name}");
            let seen = scene.good.seen();
            assert_eq!(seen.len(), before + 1, "{name}");
            let last = scene.good.last();
            assert_eq!(last.body, body, "{name}");
            for gone in ["http2-settings", "connection", "upgrade"] {
                let websocket = name == "a premature upgrade";
                assert!(websocket || !last.headers.contains_key(gone), "{name}: {}", last.everything());
            }
        }
    }
    scene.still_works("upgrades");
}

/// V-F11: a refused upload is never read as requests.
#[test]
fn the_rest_of_a_refused_upload_is_no_request() {
    let scene = Scene::new();
    for (mut raw, base, identity) in ways(&scene) {
        let inner =
            format!("GET {base}/v1/public/smuggled HTTP/1.1\r\nhost: api.good.test\r\n{identity}\r\n");
        let body = inner.repeat(10_000_000 / inner.len() / 4);
        raw.send(format!(
            "POST {base}/v1/admin HTTP/1.1\r\nhost: api.good.test\r\n{identity}content-length: {}\r\n\r\n",
            body.len()
        ));
        raw.send(&body);
        raw.send(&inner);
        // The refusal may be lost when the connection is reset under the rest of the upload.
        raw.rest();
    }
    assert!(scene.good.seen().is_empty());
    scene.still_works("a refused upload");
}

/// V-F14: early bytes of a tunnel belong to the tunnel; those of a refused one to nobody.
#[test]
fn early_bytes_of_a_tunnel_are_in_the_tunnel() {
    let scene = Scene::new();
    let identity = scene.identity();
    let smuggled = format!(
        "GET http://api.good.test/v1/public/smuggled HTTP/1.1\r\nhost: api.good.test\r\n{identity}\r\n"
    );
    for target in ["evil.test:443", "api.good.test:22", "api.good.test"] {
        for extra in ["", "content-type: application/grpc\r\n"] {
            let mut raw = scene.egret.raw();
            raw.send(format!(
                "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{identity}{extra}\r\n{smuggled}"
            ));
            let answer = raw.answer();
            assert!(answer.status >= 400, "{target}");
            assert!(raw.rest().is_empty());
        }
    }
    // Accepted: cleartext on the TLS port is neither TLS nor judged; on port 80 it is the tunnel's first request.
    let mut raw = scene.egret.raw();
    raw.send(format!(
        "CONNECT api.good.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\n{identity}\r\n{smuggled}"
    ));
    assert_eq!(raw.head().status, 200);
    assert!(raw.rest().is_empty());
    assert!(scene.good.seen().is_empty());
    let mut raw = scene.egret.raw();
    raw.send(format!("CONNECT api.good.test:80 HTTP/1.1\r\nhost: api.good.test:80\r\n{identity}\r\nGET /v1/public/early HTTP/1.1\r\nhost: api.good.test\r\n\r\n"));
    assert_eq!(raw.head().status, 200);
    assert_eq!(raw.answer().status, 200);
    assert_eq!(scene.good.last().target, "/v1/public/early");
}

/// V-F09, V-F16, V-F19, and heads that no two parsers read alike.
#[test]
fn a_head_that_two_parsers_read_differently_goes_nowhere() {
    let scene = Scene::new();
    let identity = scene.identity();
    let mut refused = Vec::new();
    for (name, request, code) in [
        (
            "HTTP/1.0 in chunks",
            "POST http://api.good.test/v1/public/a HTTP/1.0\r\nhost: api.good.test\r\nconnection: keep-alive\r\n{id}transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "",
        ),
        ("HTTP/1.2", "GET http://api.good.test/v1/public/a HTTP/1.2\r\nhost: api.good.test\r\n{id}\r\n", ""),
        ("HTTP/0.9", "GET http://api.good.test/v1/public/a\r\nhost: api.good.test\r\n{id}\r\n", ""),
        (
            "a tab in the line",
            "GET\thttp://api.good.test/v1/public/a\tHTTP/1.1\r\nhost: api.good.test\r\n{id}\r\n",
            "",
        ),
        (
            "two blanks in the line",
            "GET  http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{id}\r\n",
            "",
        ),
        (
            "a request in the line",
            "GET http://api.good.test/v1/public/a HTTP/1.1 HTTP/1.1\r\nhost: api.good.test\r\n{id}\r\n",
            "",
        ),
        (
            "an unknown expectation",
            "POST http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{id}expect: 200-ok\r\ncontent-length: 2\r\n\r\nok",
            "request_malformed",
        ),
        (
            "two expectations",
            "POST http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{id}expect: 100-continue, x\r\ncontent-length: 2\r\n\r\nok",
            "request_malformed",
        ),
    ] {
        let mut raw = scene.egret.raw();
        raw.send(request.replace("{id}", &identity));
        let outcome = raw.try_answer().map_or(Outcome::Closed, |a| Outcome::of(&a));
        assert!(!outcome.passed(), "{name}");
        assert_eq!(outcome.code(), code, "{name}");
        refused.push(outcome.decision());
        scene.still_works(name);
    }
    // Bare line feeds are read, and written anew.
    let mut raw = scene.egret.raw();
    raw.send(format!(
        "GET http://api.good.test/v1/public/lf HTTP/1.1\nhost: api.good.test\n{}\n",
        identity.replace('\r', "")
    ));
    assert_eq!(raw.answer().status, 200);
    // The upstream never sends 100: egret does, once it wants the body. A refused upload never travels.
    let mut raw = scene.egret.raw();
    let head = |path: &str| {
        format!(
            "POST http://api.good.test{path} HTTP/1.1\r\nhost: api.good.test\r\n{identity}expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
    };
    raw.send(head("/v1/public/expect"));
    assert_eq!(raw.head().status, 100);
    raw.send("ok");
    assert_eq!(raw.answer().status, 200);
    let mut raw = scene.egret.raw();
    raw.send(head("/v1/admin"));
    assert_eq!(raw.head().status, 403);
    scene.holds(&refused);
}

/// V-F17, V-F18: what HTTP/2 forbids is forbidden, and nothing of it becomes HTTP/1.1.
#[test]
fn http2_carries_no_other_message_inside() {
    let good = Upstream::https1("api.good.test", |_| support::upstream::full(200, &[], "{}"));
    let scene = Scene::with(good);
    let path = (":path", "/v1/public/a");
    let base = [(":method", "POST"), (":scheme", "https"), (":authority", "api.good.test"), path];
    let with = |extra: &[(&'static str, &'static str)]| [&base[..], extra].concat();
    let instead = |name: &str, value: &'static str| {
        base.map(|(n, v)| if n == name { (n, value) } else { (n, v) }).to_vec()
    };
    let without = |name: &str| base.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<(&str, &str)>, Option<&[u8]>)> = vec![
        ("connection", with(&[("connection", "close")]), None),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            Some(b"0\r\n\r\nGET /v1/admin HTTP/1.1\r\n\r\n"),
        ),
        ("upgrade", with(&[("upgrade", "websocket")]), None),
        ("te: gzip", with(&[("te", "gzip")]), None),
        ("upper case", with(&[("X-Upper", "1")]), None),
        ("CR LF in a value", with(&[("x-a", "b\r\ntransfer-encoding: chunked")]), None),
        ("LF in a value", with(&[("x-a", "b\nx-b: c")]), None),
        ("NUL in a value", with(&[("x-a", "b\0c")]), None),
        ("a blank in a name", with(&[("x a", "b")]), None),
        ("a colon in a name", with(&[("x-a: b", "c")]), None),
        ("CR LF in a name", with(&[("x-a\r\nx-b", "c")]), None),
        ("an empty name", with(&[("", "c")]), None),
        ("a length that is too large", with(&[("content-length", "50")]), Some(b"hello")),
        ("a length that is too small", with(&[("content-length", "2")]), Some(b"hello GET /v1/admin")),
        ("two lengths", with(&[("content-length", "5"), ("content-length", "50")]), Some(b"hello")),
        ("a pseudo-header after a header", with(&[("x-a", "b"), (":path", "/v1/admin")]), None),
        ("two paths", with(&[(":path", "/v1/public/b")]), None),
        ("two methods", with(&[(":method", "GET")]), None),
        ("an unknown pseudo-header", with(&[(":evil", "1")]), None),
        ("a response's pseudo-header", with(&[(":status", "200")]), None),
        ("a protocol without CONNECT", with(&[(":protocol", "websocket")]), None),
        ("no path", without(":path"), None),
        ("no method", without(":method"), None),
        ("an empty path", instead(":path", ""), None),
        ("a path without a slash", instead(":path", "v1/public/a"), None),
        ("a URL for a path", instead(":path", "http://evil.test/"), None),
        ("an asterisk", instead(":path", "*"), None),
        ("a request in the path", instead(":path", "/v1/public/a HTTP/1.1\r\nx: y"), None),
        ("a request in the method", instead(":method", "GET /v1/admin HTTP/1.1\r\nx:"), None),
        ("a request in the authority", instead(":authority", "api.good.test\r\nx: y"), None),
        ("two hosts", with(&[("host", "api.good.test"), ("host", "evil.test")]), None),
        ("no host at all", without(":authority"), None),
    ];
    let mut refused = Vec::new();
    for (name, fields, body) in cases {
        let before = scene.good.seen().len();
        let mut h2 = scene.inside_h2();
        let outcome = h2.exchange(&fields, body).outcome();
        refused.push(outcome.decision());
        let seen = &scene.good.seen()[before..];
        // Without an authority the tunnel's is the only one there is.
        let harmless = matches!(name, "te: gzip" | "no host at all" | "an empty path");
        if harmless && outcome.passed() {
            assert!(seen.iter().all(|s| !s.headers.contains_key("te")), "{name}");
        } else {
            assert!(!outcome.passed() && seen.is_empty(), "{name}: {outcome:?} {seen:?}");
        }
    }
    // CONNECT over HTTP/2 inside a tunnel is no tunnel, and an unfinished stream is no request.
    let mut h2 = scene.inside_h2();
    let connect = h2.exchange(&[(":method", "CONNECT"), (":authority", "evil.test:443")], None);
    assert!(!connect.outcome().passed());
    let before = scene.good.seen().len();
    let mut h2 = scene.inside_h2();
    let stream = h2.begin(&with(&[]), false);
    h2.data(stream, b"half", false);
    h2.frame(3, 0, stream, &[0, 0, 0, 8]);
    drop(h2);
    scene.still_works("HTTP/2");
    assert!(scene.good.seen()[before..].iter().all(|s| s.target != "/v1/public/a"));
}

/// An upstream that writes exactly what it is told to.
struct Script {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Answers each request with what `answer` gives; the connection is cut after an answer that says so.
    fn new(answer: impl Fn(usize) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        egret::tls::install();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (count, remember, answer) = (connections.clone(), requests.clone(), Arc::new(answer));
        let config = Arc::new(attacks::server_config("api.good.test"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let (config, remember, answer) = (config.clone(), remember.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    while let Some(head) = head(&mut tls) {
                        let number = {
                            let mut requests = remember.lock().unwrap();
                            requests.push(head);
                            requests.len()
                        };
                        let (bytes, cut) = answer(number);
                        if tls.write_all(&bytes).and_then(|()| tls.flush()).is_err() || cut {
                            return; // without `close_notify`
                        }
                    }
                });
            }
        });
        Self { address, connections, requests }
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Reads a head and the body that its `Content-Length` announces.
fn head(stream: &mut impl Read) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn scene_with_script(script: &Script) -> Scene {
    let (good, evil) = (Upstream::echo("api.good.test"), Upstream::echo("evil.test"));
    let egret = attacks::house(&good, &evil).resolve("api.good.test", script.address).start();
    let token = egret.token("acme/bot");
    Scene { egret, good, evil, token }
}

fn get(scene: &Scene, raw: &mut Raw, method: &str) {
    raw.send(format!(
        "{method} http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{}content-length: 0\r\n\r\n",
        scene.identity()
    ));
}

/// V-F20: bytes after an answer are never the next answer.
#[test]
fn what_follows_an_answer_is_not_the_next_one() {
    let script = Script::new(|_| {
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged".to_vec(), false)
    });
    let scene = scene_with_script(&script);
    let mut raw = scene.egret.raw();
    for round in 0..20 {
        get(&scene, &mut raw, "GET");
        assert_eq!(raw.answer().text(), "ok", "{round}");
    }
    assert_eq!(script.connections.load(Ordering::SeqCst), 20, "such a connection is not used again");
}

/// V-F21: one framing reaches the client, whatever the upstream wrote.
#[test]
fn an_answer_has_one_length() {
    for (name, answer, expected) in [
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\nhello", None),
        ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2, 5\r\n\r\nhello", None),
        ("a sign", "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", None),
        (
            "chunks and a length",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Some("hello"),
        ),
        (
            "chunks of gzip",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            None,
        ),
        ("an unknown coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: x\r\n\r\nhello", None),
        (
            "chunked and then gzip",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            None,
        ),
        (
            "two lines of codings",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            None,
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
        ("another version", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n", None),
        (
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            None,
        ),
        (
            "a demand of a proxy",
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n",
            None,
        ),
    ] {
        let script = Script::new(move |_| (answer.as_bytes().to_vec(), true));
        let scene = scene_with_script(&script);
        let mut raw = scene.egret.raw();
        get(&scene, &mut raw, "GET");
        let got = raw.answer();
        match expected {
            Some(text) => {
                assert_eq!((got.status, got.text().as_str()), (200, text), "{name}");
                assert!(got.header("content-length").is_none() || got.header("transfer-encoding").is_none());
            }
            None => assert_eq!(got.status, 502, "{name}: {}", got.text()),
        }
        assert_eq!(script.requests(), 1, "{name}");
    }
}

/// V-F13: only the switch that was asked for is made, and its head is cleaned like any other.
#[test]
fn a_switch_is_only_to_what_was_asked() {
    for (name, answer, status) in [
        (
            "as asked",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-echo: {secret}\r\nset-cookie: session=stolen\r\nalt-svc: h3=\":1\"\r\n\r\nframes",
            101,
        ),
        (
            "to another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nframes",
            502,
        ),
        ("to no protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\nframes", 502),
        (
            "no switch",
            "HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 6\r\n\r\nframes",
            200,
        ),
        ("a talkative reason", "HTTP/1.1 403 {secret}\r\ncontent-length: 6\r\n\r\nframes", 403),
    ] {
        let script = Script::new(move |_| (answer.replace("{secret}", attacks::SECRET).into_bytes(), true));
        let scene = scene_with_script(&script);
        let mut raw = scene.egret.raw();
        raw.send(format!(
            "GET http://api.good.test/v1/public/ws HTTP/1.1\r\nhost: api.good.test\r\n{}connection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
            scene.identity()
        ));
        let got = raw.head();
        assert_eq!(got.status, status, "{name}");
        assert!(!got.reason.contains(attacks::SECRET), "{name}");
        let upgraded = got.header("upgrade").is_some();
        assert_eq!(upgraded, status == 101, "{name}: {:?}", got.headers);
        assert!(
            got.headers
                .iter()
                .all(|(n, v)| n != "alt-svc" && !v.contains("stolen") && !v.contains(attacks::SECRET)),
            "{name}: {:?}",
            got.headers
        );
        if status == 101 {
            assert_eq!(raw.until("frames"), "frames");
        }
    }
}

/// V-F22: a part is never taken for the whole.
#[test]
fn a_truncated_answer_is_seen_to_be_truncated() {
    for (name, answer) in [
        ("in the middle of a length", "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello"),
        ("in the middle of a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\nhello"),
        ("between chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("before the last line", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
        ("TLS without a goodbye", "HTTP/1.1 200 OK\r\n\r\nhello"),
    ] {
        let script = Script::new(move |_| (answer.as_bytes().to_vec(), true));
        let mut scene = scene_with_script(&script);
        let mut raw = scene.egret.raw();
        get(&scene, &mut raw, "GET");
        assert!(raw.try_answer().is_none_or(|answer| !answer.complete), "{name}");
        assert_eq!(scene.egret.outcome()["upstream"]["ending"], "broken", "{name}");
    }
}

/// V-F23: interim answers, few or many, end with the final one.
#[test]
fn a_thousand_interim_answers_are_one_answer() {
    for interim in
        ["100 Continue", "102 Processing", "103 Early Hints\r\nlink: </x>; rel=preload\r\nset-cookie: a=b"]
    {
        let script = Script::new(move |_| {
            let mut bytes = format!("HTTP/1.1 {interim}\r\n\r\n").repeat(1000).into_bytes();
            bytes.extend(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            (bytes, false)
        });
        let scene = scene_with_script(&script);
        let mut raw = scene.egret.raw();
        get(&scene, &mut raw, "GET");
        assert_eq!(raw.answer().text(), "ok", "{interim}");
    }
}

/// V-F24: what may have been read is not sent again.
#[test]
fn a_request_that_was_read_is_never_repeated() {
    for method in ["POST", "PUT", "GET"] {
        let script = Script::new(|number| match number {
            1 => (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), false),
            _ => (Vec::new(), true),
        });
        let scene = scene_with_script(&script);
        let mut raw = scene.egret.raw();
        get(&scene, &mut raw, "GET");
        assert_eq!(raw.answer().text(), "ok");
        get(&scene, &mut raw, method);
        let answer = raw.answer();
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"), "{method}");
        assert_eq!(script.requests(), 2, "{method}");
    }
}

/// The clear preface of HTTP/2 on the proxy's own port is HTTP/2, and is judged like everything else.
#[test]
fn prior_knowledge_is_no_way_around() {
    let scene = Scene::new();
    let bearer = format!("Bearer {}", scene.token);
    let mut h2 = H2::open(scene.egret.raw());
    for (path, code) in [("/v1/public/a", ""), ("/v1/admin", "action_denied"), ("/v1/public/b", "")] {
        let outcome = h2
            .exchange(
                &[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "api.good.test"),
                    (":path", path),
                    ("proxy-authorization", &bearer),
                ],
                None,
            )
            .outcome();
        assert_eq!(outcome.code(), code, "{path}: {outcome:?}");
    }
    // Without its own token a request has no identity: the connection gives it none.
    let outcome = h2
        .exchange(
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "api.good.test"),
                (":path", "/v1/public/a"),
            ],
            None,
        )
        .outcome();
    assert_eq!(outcome.code(), "identity_missing");
    drop(h2);
    scene.holds(&[]);
}
