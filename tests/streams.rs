//! What flows: events, large bodies, trailers, upgrades, tunnels, and every form of HTTP that clients speak.

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
    io::Write as _,
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use support::{
    Egret, House, Live, PATIENCE, Raw,
    live::{H2, Pen, drain, h2_in_tunnel, h2_to_proxy, next, pipe, request, runtime, with_body, zeros},
    upstream::{Body, full},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECRET: &str = "sk-live-4f8a2c19d7e6b305";

const POLICY: &str = "version: 1
services:
  live:
    hosts: [api.live.test]
    allow_private_addresses: true
    keep: {trailers: [x-checksum]}
    roles:
      caller: [GET|HEAD|POST|PUT /open/**, POST /pkg.Service/*]
  clear:
    hosts: [clear.live.test]
    scheme: http
    allow_private_addresses: true
    roles:
      caller: [GET|POST|PUT /open/**]
  closed:
    hosts: [closed.live.test]
    intercept: never
    allow_private_addresses: true
    roles:
      caller: [connect]
tenants:
  acme:
    integrations:
      live: {credential: {static: {bearer: 'env:KEY'}}}
      clear: {credential: {static: {bearer: 'env:KEY'}}}
      closed: {credential: none}
    agents:
      bot: {live: caller, clear: caller, closed: caller}
";

fn house(upstream: &Live) -> House {
    House::new(POLICY)
        .env("KEY", SECRET)
        .resolve("api.live.test", upstream.address)
        .resolve("clear.live.test", upstream.address)
        .resolve("closed.live.test", upstream.address)
}

/// A request in absolute-form with an identity; `more` ends in CRLF or is empty.
fn absolute(egret: &Egret, line: &str, more: &str) -> String {
    let host = line.split('/').nth(2).unwrap();
    let token = egret.token("acme/bot");
    format!("{line} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n{more}\r\n")
}

/// The inside of an intercepted tunnel.
fn tunnel(egret: &Egret, host: &str) -> Raw {
    let mut raw = egret.raw();
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    assert_eq!(raw.connect_to(&format!("{host}:443"), &identity).status, 200);
    raw.tls(host, &egret.authority())
}

fn answer(status: u16, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body).unwrap()
}

/// An upstream that answers every request with a body whose pen the test gets.
fn piped(name: &str, headers: &'static [(&'static str, &'static str)]) -> (Live, Receiver<Pen>) {
    let (sender, pens) = mpsc::channel();
    let live = Live::https(name, move |_| {
        let (pen, body) = pipe();
        sender.send(pen).unwrap();
        async move { answer(200, headers, body) }
    });
    (live, pens)
}

fn event(number: usize) -> String {
    format!("id: {number}\ndata: {{\"delta\":\"word {number}\"}}\n\n")
}

// --- events ---------------------------------------------------------------------------------------------------

/// The next event is written only when the client has the last one: nothing on the way may wait for more.
#[test]
fn an_event_arrives_before_the_next_is_sent() {
    let (upstream, pens) = piped("api.live.test", &[("content-type", "text/event-stream")]);
    let mut egret = house(&upstream).start();
    for inside in [false, true] {
        let mut raw = if inside { tunnel(&egret, "api.live.test") } else { egret.raw() };
        let head = if inside {
            "GET /open/events HTTP/1.1\r\nhost: api.live.test\r\n\r\n".to_owned()
        } else {
            absolute(&egret, "GET http://api.live.test/open/events", "")
        };
        raw.send(head);
        let pen = pens.recv_timeout(PATIENCE).unwrap();
        let head = raw.head();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        for number in 0..50 {
            assert!(pen.write(event(number)));
            raw.until(&event(number));
        }
        drop(pen);
        assert!(raw.until("0\r\n\r\n").ends_with("0\r\n\r\n"));
        assert_eq!(egret.outcome()["upstream"]["ending"], "complete");
    }
}

#[test]
fn an_event_in_a_flushed_gzip_stream_arrives_before_the_next_is_sent() {
    let (upstream, pens) =
        piped("api.live.test", &[("content-type", "text/event-stream"), ("content-encoding", "gzip")]);
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/events", "accept-encoding: gzip\r\n"));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    assert_eq!(raw.head().header("content-encoding"), None, "what is scrubbed was opened");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    for number in 0..20 {
        gzip.write_all(event(number).as_bytes()).unwrap();
        gzip.flush().unwrap();
        assert!(pen.write(std::mem::take(gzip.get_mut())));
        raw.until(&event(number));
    }
    // A secret in the stream is taken out, also over the border of two pieces.
    let (half, rest) = SECRET.split_at(9);
    for part in [format!("data: {half}"), format!("{rest}\n\n")] {
        gzip.write_all(part.as_bytes()).unwrap();
        gzip.flush().unwrap();
        assert!(pen.write(std::mem::take(gzip.get_mut())));
    }
    assert!(raw.until("\n\n").contains("data: "));
    pen.write(gzip.finish().unwrap());
    drop(pen);
    assert!(!raw.until("0\r\n\r\n").contains(rest));
}

#[test]
fn events_arrive_over_http2_as_they_are_sent() {
    let (upstream, pens) = piped("api.live.test", &[("content-type", "text/event-stream")]);
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    runtime().block_on(async {
        let mut client = h2_in_tunnel(&egret, "api.live.test", &token).await;
        let asked = request("GET", "https://api.live.test/open/events", &[], "");
        let answer = client.send_request(asked).await.unwrap();
        let mut body = answer.into_body();
        let pen = pens.recv_timeout(PATIENCE).unwrap();
        for number in 0..50 {
            assert!(pen.write(event(number)));
            assert_eq!(next(&mut body).await, event(number));
        }
        drop(pen);
        assert!(body.collect().await.unwrap().to_bytes().is_empty(), "and then it ends");
    });
}

#[test]
fn a_client_that_goes_away_ends_the_upstreams_answer() {
    let (upstream, pens) = piped("api.live.test", &[("content-type", "text/event-stream")]);
    let mut egret = house(&upstream).start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/events", ""));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write(event(0));
    raw.until(&event(0));
    drop(raw);
    pen.abandoned();
    assert_eq!(egret.outcome()["upstream"]["ending"], "abandoned");
}

#[test]
fn an_answer_that_breaks_off_does_not_look_complete() {
    let (upstream, pens) = piped("api.live.test", &[]);
    let mut egret = house(&upstream).start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/events", ""));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write("half of it");
    assert_eq!(raw.head().status, 200);
    raw.until("half of it");
    pen.fail();
    assert!(!String::from_utf8_lossy(&raw.rest()).contains("0\r\n\r\n"));
    assert_eq!(egret.outcome()["upstream"]["ending"], "broken");
}

#[test]
fn an_answer_that_stands_still_for_too_long_is_cut() {
    let (upstream, pens) = piped("api.live.test", &[]);
    let egret = house(&upstream).env("EGRET_UPSTREAM_IDLE_TIMEOUT", "200ms").start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/events", ""));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write("then silence");
    raw.until("then silence");
    assert!(!String::from_utf8_lossy(&raw.rest()).contains("0\r\n\r\n"));
    pen.abandoned();
}

// --- large bodies ---------------------------------------------------------------------------------------------

const MIB: u64 = 1024 * 1024;
/// How much egret may grow while a body of any size passes, in KiB.
const GROWTH: u64 = 40 * 1024;

/// `EGRET_TEST_BODY_MIB` asks for more, or less, than the usual size.
fn large() -> u64 {
    let asked = std::env::var("EGRET_TEST_BODY_MIB").ok().map(|mib| mib.parse::<u64>().unwrap());
    asked.unwrap_or(1024) * MIB
}

#[test]
fn a_large_download_leaves_no_trace_in_memory() {
    let size = large();
    let upstream = Live::https1("api.live.test", move |_| async move {
        answer(200, &[("content-length", &size.to_string())], zeros(size))
    });
    let egret = house(&upstream).start();
    let before = egret.memory("VmRSS");
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/large", ""));
    assert_eq!(raw.head().header("content-length"), Some(size.to_string().as_str()));
    assert_eq!(raw.skim(size), size);
    let grown = egret.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "egret grew by {grown} KiB");
}

#[test]
fn a_large_upload_leaves_no_trace_in_memory() {
    let size = large();
    let (sender, lengths) = mpsc::channel();
    let upstream = Live::https1("api.live.test", move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            sender.send(drain(request.into_body()).await).unwrap();
            full(200, &[], "taken")
        }
    });
    let egret = house(&upstream).start();
    let before = egret.memory("VmRSS");
    let mut raw = egret.raw();
    let length = format!("content-length: {size}\r\n");
    raw.send(absolute(&egret, "PUT http://api.live.test/open/large", &length));
    assert_eq!(raw.press(size, PATIENCE), size);
    assert_eq!(raw.answer().text(), "taken");
    assert_eq!(lengths.recv_timeout(PATIENCE).unwrap(), Some(size));
    let grown = egret.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "egret grew by {grown} KiB");
}

/// Back-pressure reaches the client: what the upstream does not read is not taken from it either.
#[test]
fn an_upstream_that_reads_nothing_holds_the_client_back() {
    let upstream = Live::http(|request: Request<Incoming>| async move {
        let _unread = request;
        std::future::pending().await
    });
    let egret = house(&upstream).start();
    let before = egret.memory("VmRSS");
    let mut raw = egret.raw();
    let length = format!("content-length: {}\r\n", 1024 * MIB);
    raw.send(absolute(&egret, "PUT http://clear.live.test/open/large", &length));
    let taken = raw.press(1024 * MIB, Duration::from_secs(1));
    assert!(taken < 64 * MIB, "{taken} bytes were taken");
    let grown = egret.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "egret grew by {grown} KiB");
}

#[test]
fn a_client_that_reads_nothing_holds_the_upstream_back() {
    let upstream = Live::https("api.live.test", |_| async { answer(200, &[], zeros(1024 * MIB)) });
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    let before = egret.memory("VmRSS");
    runtime().block_on(async {
        let mut client = h2_in_tunnel(&egret, "api.live.test", &token).await;
        let mut unread = Vec::new();
        for _ in 0..8 {
            let asked = request("GET", "https://api.live.test/open/large", &[], "");
            unread.push(client.send_request(asked).await.unwrap());
        }
        // All that flow control lets through is on its way by the time another stream has come and gone.
        for _ in 0..20 {
            let asked = request("GET", "https://api.live.test/none", &[], "");
            assert_eq!(client.send_request(asked).await.unwrap().status(), 403);
        }
    });
    let grown = egret.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "egret grew by {grown} KiB");
}

// --- trailers and expectations --------------------------------------------------------------------------------

#[test]
fn response_trailers_pass_and_request_trailers_by_the_list() {
    let (sender, seen) = mpsc::channel();
    let upstream = Live::https("api.live.test", move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let body = request.into_body().collect().await.unwrap();
            sender.send(body.trailers().cloned().unwrap_or_default()).unwrap();
            let (pen, body) = pipe();
            pen.write("text");
            pen.trailers(&[("x-digest", "abc"), ("x-leak", SECRET), ("set-cookie", "session=1")]);
            answer(200, &[("trailer", "x-digest, x-leak, set-cookie")], body)
        }
    });
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    let chunked = "transfer-encoding: chunked\r\nte: trailers\r\ntrailer: x-checksum\r\n";
    raw.send(absolute(&egret, "POST http://api.live.test/open/sum", chunked));
    raw.send("4\r\nbody\r\n0\r\nx-checksum: 77\r\nauthorization: Bearer smuggled\r\nx-other: 1\r\n\r\n");
    let answered = raw.answer();
    assert_eq!((answered.text().as_str(), answered.header("x-digest")), ("text", Some("abc")));
    assert_eq!(answered.header("x-leak"), Some("[redacted]"), "{:?}", answered.headers);
    assert_eq!(answered.header("set-cookie"), None);
    let trailers = seen.recv_timeout(PATIENCE).unwrap();
    let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"]);
}

#[test]
fn a_refused_upload_never_travels_and_an_allowed_one_is_asked_for() {
    let upstream = Live::https("api.live.test", |request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        full(200, &[], body)
    });
    let egret = house(&upstream).start();
    let expecting = "expect: 100-continue\r\ncontent-length: 5\r\n";
    let mut refused = egret.raw();
    refused.send(absolute(&egret, "POST http://api.live.test/closed", expecting));
    let answer = refused.head();
    assert_eq!(answer.status, 403, "the answer comes without the body");
    let mut allowed = egret.raw();
    allowed.send(absolute(&egret, "POST http://api.live.test/open/echo", expecting));
    assert_eq!(allowed.head().status, 100);
    allowed.send("hello");
    let answer = allowed.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(upstream.asked(), 1);
}

// --- upgrades -------------------------------------------------------------------------------------------------

const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// "Hello" from a client, masked, and from a server (RFC 6455 §5.7).
const MASKED: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const UNMASKED: [u8; 7] = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];

/// A WebSocket server that echoes short text frames, and reports how its connection ended.
fn websocket(ends: Sender<&'static str>) -> Live {
    Live::https("api.live.test", move |mut request: Request<Incoming>| {
        let ends = ends.clone();
        async move {
            assert_eq!(request.headers()["authorization"], format!("Bearer {SECRET}"));
            let key = request.headers()["sec-websocket-key"].clone();
            assert_eq!(
                (key, request.version()),
                ("dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap(), http::Version::HTTP_11)
            );
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut frame = [0; 11];
                while io.read_exact(&mut frame).await.is_ok() {
                    let (mask, text) = (&frame[2..6], &frame[6..]);
                    let mut echo = vec![frame[0], frame[1] & 0x7f];
                    echo.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
                    io.write_all(&echo).await.unwrap();
                }
                let _ = ends.send("ended");
            });
            answer(
                101,
                &[
                    ("connection", "Upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                ],
                full(200, &[], "").into_body(),
            )
        }
    })
}

#[test]
fn a_websocket_talks_through_the_proxy_and_through_a_tunnel() {
    let (sender, ends) = mpsc::channel();
    let upstream = websocket(sender);
    let mut egret = house(&upstream).start();
    for inside in [false, true] {
        let mut raw = if inside { tunnel(&egret, "api.live.test") } else { egret.raw() };
        raw.send(if inside {
            format!("GET /open/socket HTTP/1.1\r\nhost: api.live.test\r\n{HANDSHAKE}\r\n")
        } else {
            absolute(&egret, "GET http://api.live.test/open/socket", HANDSHAKE)
        });
        let switched = raw.head();
        assert_eq!(switched.status, 101);
        assert_eq!(switched.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for _ in 0..3 {
            raw.send(MASKED);
            assert_eq!(raw.exactly(UNMASKED.len()), UNMASKED);
        }
        drop(raw);
        assert_eq!(ends.recv_timeout(PATIENCE), Ok("ended"), "the client's end reaches the upstream");
        let outcome = egret.outcome();
        assert_eq!(outcome["http"]["response_status_code"], 101);
        assert_eq!(outcome["http"]["request_body_size"], 3 * MASKED.len());
    }
}

#[test]
fn an_upgrade_that_is_not_granted_is_refused() {
    let (sender, _ends) = mpsc::channel();
    let upstream = websocket(sender);
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/closed", HANDSHAKE));
    let refused = raw.answer();
    assert_eq!((refused.status, refused.code().as_str()), (403, "action_denied"));
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn a_websocket_on_which_nothing_moves_is_closed() {
    let (sender, ends) = mpsc::channel();
    let upstream = websocket(sender);
    let mut egret = house(&upstream).env("EGRET_UPSTREAM_IDLE_TIMEOUT", "200ms").start();
    let mut raw = egret.raw();
    raw.send(absolute(&egret, "GET http://api.live.test/open/socket", HANDSHAKE));
    assert_eq!(raw.head().status, 101);
    raw.send(MASKED);
    assert_eq!(raw.exactly(UNMASKED.len()), UNMASKED);
    assert!(raw.rest().is_empty());
    assert_eq!(ends.recv_timeout(PATIENCE), Ok("ended"));
    assert_eq!(egret.outcome()["upstream"]["ending"], "broken");
}

// --- gRPC and HTTP/2 ------------------------------------------------------------------------------------------

/// A message in gRPC's framing: not compressed, four bytes of length.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A gRPC service that echoes each message as it comes.
fn grpc() -> Live {
    Live::https("api.live.test", |request: Request<Incoming>| async move {
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["authorization"], format!("Bearer {SECRET}"));
        let (pen, body) = pipe();
        tokio::spawn(async move {
            let mut messages = request.into_body();
            while let Some(Ok(frame)) = messages.frame().await {
                if let Ok(data) = frame.into_data() {
                    pen.write(data);
                }
            }
            pen.trailers(&[("grpc-status", "0"), ("grpc-message", "fine")]);
        });
        answer(200, &[("content-type", "application/grpc")], body)
    })
}

#[test]
fn grpc_unary_and_streaming_calls_pass_with_their_status_in_the_trailers() {
    let upstream = grpc();
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    runtime().block_on(async {
        let mut client = h2_in_tunnel(&egret, "api.live.test", &token).await;
        let unary = request("POST", "https://api.live.test/pkg.Service/Unary", &GRPC, framed(b"ping"));
        let answer = client.send_request(unary).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), framed(b"ping"));
        // Both directions at once: each message is answered before the next is sent.
        let (pen, body) = pipe();
        let stream = with_body("POST", "https://api.live.test/pkg.Service/Chat", &GRPC, body);
        let mut body = client.send_request(stream).await.unwrap().into_body();
        for number in 0..10u8 {
            let message = framed(&[number, b'\n']);
            assert!(pen.write(message.clone()));
            assert_eq!(next(&mut body).await.as_bytes(), message);
        }
        drop(pen);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"0".parse().unwrap(), &"fine".parse().unwrap())
        );
    });
}

#[test]
fn a_refused_grpc_call_ends_with_its_first_headers() {
    let upstream = grpc();
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    runtime().block_on(async {
        let mut client = h2_in_tunnel(&egret, "api.live.test", &token).await;
        let call = request("POST", "https://api.live.test/other.Service/Unary", &GRPC, framed(b"ping"));
        let answer = client.send_request(call).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"7".parse().unwrap())
        );
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(http_body::Body::is_end_stream(answer.body()), "trailers-only: no frame follows the headers");
    });
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn streams_of_one_http2_connection_do_not_wait_for_each_other() {
    let (upstream, pens) = piped("api.live.test", &[]);
    let egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    runtime().block_on(async {
        let mut client = h2_in_tunnel(&egret, "api.live.test", &token).await;
        let mut open = Vec::new();
        for number in 0..20 {
            let asked = request("GET", &format!("https://api.live.test/open/{number}"), &[], "");
            let body = client.send_request(asked).await.unwrap().into_body();
            open.push((pens.recv_timeout(PATIENCE).unwrap(), body));
        }
        // The last opened is served first.
        for (number, (pen, body)) in open.iter_mut().enumerate().rev() {
            assert!(pen.write(format!("answer {number}\n")));
            assert_eq!(next(body).await, format!("answer {number}\n"));
        }
        // A refusal ends its own stream and no other.
        let refused = request("GET", "https://api.live.test/closed", &[], "");
        assert_eq!(client.send_request(refused).await.unwrap().status(), 403);
        let (pen, body) = &mut open[0];
        assert!(pen.write("still here\n"));
        assert_eq!(next(body).await, "still here\n");
    });
    assert_eq!(upstream.accepted(), 1, "one connection carries all streams");
}

#[test]
fn http2_in_the_clear_on_the_proxys_port() {
    let upstream = Live::https("api.live.test", |_| async { full(200, &[], "hello") });
    let egret = house(&upstream).start();
    let identity = format!("Bearer {}", egret.token("acme/bot"));
    runtime().block_on(async {
        let mut client: H2 = h2_to_proxy(&egret).await;
        let named = [("proxy-authorization", identity.as_str())];
        let asked = request("GET", "http://api.live.test/open/a", &named, "");
        let answer = client.send_request(asked).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
        let anonymous = request("GET", "http://api.live.test/open/a", &[], "");
        assert_eq!(client.send_request(anonymous).await.unwrap().status(), 407);
        // CONNECT over HTTP/2 (RFC 9113 §8.5): one stream is the tunnel.
        let mut connect = request("CONNECT", "closed.live.test:443", &named, "");
        connect.headers_mut().remove(header::HOST);
        let mut opened = client.send_request(connect).await.unwrap();
        assert_eq!(opened.status(), 200);
        assert!(hyper::upgrade::on(&mut opened).await.is_ok());
    });
}

// --- older and odder HTTP -------------------------------------------------------------------------------------

/// One upstream for the odd forms: what it answers depends on the path.
fn odd() -> Live {
    Live::https1("api.live.test", |request: Request<Incoming>| async move {
        let method = request.method().clone();
        match request.uri().path() {
            "/open/none" => answer(204, &[("x-here", "1")], full(200, &[], "").into_body()),
            "/open/same" => answer(304, &[("etag", "\"1\"")], full(200, &[], "").into_body()),
            "/open/unknown-length" => {
                let (pen, body) = pipe();
                pen.write("piece by piece");
                answer(200, &[], body)
            }
            _ if method == "HEAD" => {
                answer(200, &[("content-length", "12345")], full(200, &[], "").into_body())
            }
            path => full(200, &[], path.to_owned()),
        }
    })
}

#[test]
fn an_http_1_0_client_gets_what_it_can_read() {
    let upstream = odd();
    let mut egret = house(&upstream).start();
    let token = egret.token("acme/bot");
    for (path, text) in [("/open/a", "/open/a"), ("/open/unknown-length", "piece by piece")] {
        let mut raw = egret.raw();
        raw.send(format!(
            "GET http://api.live.test{path} HTTP/1.0\r\nproxy-authorization: Bearer {token}\r\n\r\n"
        ));
        let answered = raw.head();
        assert_eq!((answered.status, answered.header("transfer-encoding")), (200, None));
        assert_eq!(raw.rest(), text.as_bytes(), "the answer ends with the connection");
        assert_eq!(egret.decision("")["http"]["protocol"], "1.0");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = odd();
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    let all: String = ["/open/1", "/closed", "/open/2", "/open/unknown-length", "/open/3"]
        .iter()
        .map(|path| absolute(&egret, &format!("GET http://api.live.test{path}"), ""))
        .collect();
    raw.send(all);
    let answers: Vec<_> = (0..5).map(|_| raw.answer()).map(|a| (a.status, a.text())).collect();
    let (statuses, texts): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    assert_eq!(statuses, [200, 403, 200, 200, 200]);
    assert_eq!(
        (texts[0].as_str(), texts[2].as_str(), texts[3].as_str(), texts[4].as_str()),
        ("/open/1", "/open/2", "piece by piece", "/open/3")
    );
}

#[test]
fn answers_without_a_body_keep_their_headers_and_the_connection() {
    let upstream = odd();
    let mut egret = house(&upstream).start();
    let mut raw = egret.raw();
    for (line, status, header, value) in [
        ("HEAD http://api.live.test/open/a", 200, "content-length", "12345"),
        ("GET http://api.live.test/open/none", 204, "x-here", "1"),
        ("GET http://api.live.test/open/same", 304, "etag", "\"1\""),
    ] {
        raw.send(absolute(&egret, line, ""));
        let answered = raw.head();
        assert_eq!((answered.status, answered.header(header)), (status, Some(value)), "{line}");
        assert_eq!(egret.outcome()["upstream"]["ending"], "complete", "{line}");
    }
    raw.send(absolute(&egret, "GET http://api.live.test/open/last", ""));
    assert_eq!(raw.answer().text(), "/open/last");
    assert_eq!(upstream.accepted(), 1, "the upstream's connection is kept, too");
}

/// Node's fetch opens a tunnel for `http://` URLs as well.
#[test]
fn http_in_the_clear_inside_a_tunnel_is_judged_like_any_other() {
    let upstream = odd();
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    assert_eq!(raw.connect_to("api.live.test:80", &identity).status, 200);
    for (path, status) in [("/open/a", 200), ("/closed", 403), ("/open/b", 200)] {
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: api.live.test\r\n\r\n"));
        assert_eq!(raw.answer().status, status, "{path}");
    }
    assert_eq!(upstream.asked(), 2);
}

// --- opaque tunnels -------------------------------------------------------------------------------------------

/// Speaks no protocol: gives back what it read, in capitals, after the other side has finished.
fn shouting() -> Live {
    Live::socket(|mut stream| async move {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        text.make_ascii_uppercase();
        let _ = stream.write_all(&text).await;
    })
}

#[test]
fn an_opaque_tunnel_copies_bytes_and_passes_on_the_end_of_each_side() {
    let upstream = shouting();
    let mut egret = house(&upstream).start();
    let mut raw = egret.raw();
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    assert_eq!(raw.connect_to("closed.live.test:443", &identity).status, 200);
    raw.send("no protocol that egret knows").finish();
    assert_eq!(raw.rest(), b"NO PROTOCOL THAT EGRET KNOWS");
    let outcome = egret.outcome();
    assert_eq!(
        (
            &outcome["upstream"]["ending"],
            &outcome["http"]["request_body_size"],
            &outcome["http"]["response_body_size"]
        ),
        (&"complete".into(), &28.into(), &28.into())
    );
}

#[test]
fn bytes_that_follow_a_connect_at_once_are_not_lost() {
    let upstream = shouting();
    let egret = house(&upstream).start();
    let mut raw = egret.raw();
    let token = egret.token("acme/bot");
    raw.send(format!(
        "CONNECT closed.live.test:443 HTTP/1.1\r\nhost: closed.live.test:443\r\nproxy-authorization: Bearer {token}\r\n\r\neager"
    ));
    assert_eq!(raw.head().status, 200);
    raw.finish();
    assert_eq!(raw.rest(), b"EAGER");
}

#[test]
fn an_opaque_tunnel_is_cut_when_the_policy_no_longer_grants_it() {
    let (sender, ends) = mpsc::channel();
    let upstream = Live::socket(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                let _ = stream.write_all(&byte).await;
            }
            let _ = sender.send(());
        }
    });
    let mut egret = house(&upstream).start();
    let mut raw = egret.raw();
    let identity = format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"));
    assert_eq!(raw.connect_to("closed.live.test:443", &identity).status, 200);
    raw.send("x");
    assert_eq!(raw.exactly(1), b"x");
    // A change that leaves the grant alone leaves the tunnel alone.
    egret.replace("policies/policy.yaml", &POLICY.replace("live: caller, ", ""));
    egret.record(|r| r["event"] == "policy_loaded");
    egret.record(|r| r["event"] == "policy_loaded");
    raw.send("y");
    assert_eq!(raw.exactly(1), b"y");
    egret.replace("policies/policy.yaml", &POLICY.replace(", closed: caller", ""));
    assert!(raw.rest().is_empty());
    ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(egret.outcome()["upstream"]["ending"], "broken");
    let refused = egret.raw().connect_to("closed.live.test:443", &identity);
    assert_eq!(refused.status, 403);
}
