//! Attacks on what is taken away from a request, and on the secret that is put in its place.

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

use std::io::Write;

use attacks::{DOORS, H2, Outcome, SECRET, Scene};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use support::{House, Raw, Seen, Upstream, upstream::full};

/// What the client puts into every slot: it must reach nobody.
const CANARY: &str = "canary-7f31c2";

/// Headers in which clients were seen to authenticate, name what asks, or route.
#[rustfmt::skip]
const SLOTS: &[&str] = &[
    // V-A01, V-A02
    "authorization", "Authorization", "AUTHORIZATION", "x-api-key", "X-API-Key", "api-key", "apikey", "x-apikey",
    "x-goog-api-key", "x-auth-token", "private-token", "x-amz-security-token", "x-functions-key",
    "ocp-apim-subscription-key", "cookie", "x-access-token", "x-auth-key", "x-vault-token", "x-gitlab-token",
    "x-github-token", "x-some-api-key", "x-anything-auth-token", "my-secret-key", "dpop", "signature",
    // underscore twins
    "x_api_key", "api_key", "x_auth_token", "x_goog_api_key", "proxy_connection",
    // V-A05, V-A11
    "via", "x-forwarded-for", "x-forwarded-host", "x-proxy-decision", "forwarded", "x-real-ip", "proxy",
    "x-original-url", "baggage", "tracestate",
    // hop by hop
    "keep-alive", "proxy-connection", "trailer",
];

#[test]
fn nothing_in_any_header_slot_gets_through() {
    let scene = Scene::new();
    for door in DOORS {
        for slot in SLOTS {
            let h2 = format!("{door:?}").starts_with("H2");
            // HTTP/2 itself refuses these.
            if h2
                && (["keep-alive", "proxy-connection"].contains(slot) || slot.chars().any(char::is_uppercase))
            {
                continue;
            }
            // At the gateway, `Authorization` is where the agent's own token stands.
            if format!("{door:?}") == "Gateway" && slot.eq_ignore_ascii_case("authorization") {
                continue;
            }
            let value = if *slot == "cookie" { format!("session={CANARY}") } else { CANARY.to_owned() };
            let outcome = door.send(&scene, "GET", "/v1/public/a", &[(*slot, &value), (*slot, &value)]);
            // Where it could be the agent's token, two of it are ambiguous.
            let twice = format!("{door:?}") == "Gateway" && outcome.code() == "request_malformed";
            assert!(outcome.passed() || twice, "{slot} at {door:?}: {outcome:?}");
            let seen = scene.good.last();
            assert!(!seen.everything().contains(CANARY), "{slot} at {door:?}: {}", seen.everything());
        }
    }
    scene.holds(&[]);
}

/// V-A08: naming headers in `Connection` removes the client's own, never what is attached later.
#[test]
fn connection_takes_nothing_of_ours_away() {
    let scene = Scene::new();
    let mut raw = scene.egret.raw();
    raw.send(format!(
        "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{}\
         connection: authorization, host, via, x-custom, close\r\nConnection: Keep-Alive\r\nx-custom: {CANARY}\r\nx-kept: 1\r\n\r\n",
        scene.identity()
    ));
    assert_eq!(raw.answer().status, 200);
    let seen = scene.good.last();
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(seen.header("via").as_deref(), Some("1.1 egret"));
    assert_eq!(seen.header("x-kept").as_deref(), Some("1"));
    assert!(!seen.everything().contains(CANARY) && !seen.headers.contains_key("connection"));
    // `Proxy-Authorization` named there is still read, and still removed.
    let mut raw = scene.egret.raw();
    raw.send(format!(
        "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{}connection: proxy-authorization\r\n\r\n",
        scene.identity()
    ));
    assert_eq!(raw.answer().status, 200);
    scene.holds(&[]);
}

/// V-A03: keys go from the query, and every other byte stays where it is.
#[test]
fn nothing_in_any_query_slot_gets_through() {
    let scene = Scene::new();
    for (query, left) in [
        ("key=C", ""),
        ("api_key=C&x=1", "?x=1"),
        ("x=1&apiKey=C", "?x=1"),
        ("x=1&access_token=C&y=%7E+z", "?x=1&y=%7E+z"),
        ("token=C&token=C", ""),
        ("sig=C", ""),
        ("API_KEY=C", ""),
        ("api%5Fkey=C", ""),
        ("%61pi_key=C", ""),
        ("api-key=C", ""),
        ("api.key=C", ""),
        ("api_key[]=C", ""),
        ("api_key%5B0%5D=C", ""),
        ("+api_key=C", ""),
        ("%09api_key=C", ""),
        ("api_key%00=C", ""),
        ("api_key%00x=C", ""),
        ("x=1;api_key=C", "?x=1"),
        ("X-Amz-Signature=C&X-Amz-Credential=C", ""),
        ("&&x=1&api_key=C&", "?&x=1&"),
        ("page_token=5&monkey=1", "?page_token=5&monkey=1"),
    ] {
        for door in DOORS {
            let path = format!("/v1/public/a?{}", query.replace('C', CANARY));
            assert!(door.send(&scene, "GET", &path, &[]).passed(), "{query} at {door:?}");
            let target = scene.good.last().target;
            assert!(!target.contains(CANARY), "{query} at {door:?}: {target}");
            if !query.contains("&&") {
                assert_eq!(target, format!("/v1/public/a{left}"), "{query} at {door:?}");
            }
        }
    }
    scene.holds(&[]);
}

/// V-A07: trailers repeat headers' names, and servers merge the two.
#[test]
fn nothing_in_a_trailer_gets_through() {
    let scene = Scene::new();
    let names =
        ["authorization", "x-api-key", "cookie", "proxy-authorization", "host", "x-plain", "content-type"];
    let trailers: Vec<(&str, &str)> = names.iter().map(|n| (*n, CANARY)).collect();
    let mut inside = scene.inside();
    let lines: String = names.iter().map(|n| format!("{n}: {CANARY}\r\n")).collect();
    inside.send(format!(
        "POST /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\ntrailer: {}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{lines}\r\n",
        names.join(", ")
    ));
    assert_eq!(inside.answer().status, 200);
    let seen = scene.good.last();
    assert!(!seen.everything().contains(CANARY), "{}", seen.everything());
    let mut h2 = scene.inside_h2();
    let stream = h2.begin(
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "api.good.test"),
            (":path", "/v1/public/h2"),
        ],
        false,
    );
    h2.data(stream, b"ok", false);
    h2.trailers(stream, &trailers);
    assert!(h2.read(stream).outcome().passed());
    let seen = scene.good.last();
    assert_eq!(seen.target, "/v1/public/h2");
    assert!(!seen.everything().contains(CANARY), "{}", seen.everything());
    drop(h2);
    scene.holds(&[]);
}

/// V-A05, V-A06: who asks is egret's business alone, in a tunnel too.
#[test]
fn who_asks_stays_with_egret() {
    let scene = Scene::new();
    let token = scene.token.clone();
    let lines = [
        format!("proxy-authorization: Bearer {token}"),
        format!("x-agent-authorization: Bearer {token}"),
        "x-agent-id: bot".into(),
        "agent_id: bot".into(),
        "x-tenant-id: acme".into(),
        "x-correlation-id: run-canary".into(),
        "x-agent-purpose: reading".into(),
        "x-agent-anything: run-canary".into(),
        "x_agent_id: bot".into(),
        "x-approval-id: run-canary".into(),
    ]
    .map(|l| l + "\r\n")
    .concat();
    let (mut plain, mut inside) = (scene.egret.raw(), scene.inside());
    for (raw, base) in [(&mut plain, "http://api.good.test"), (&mut inside, "")] {
        raw.send(format!("GET {base}/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n{lines}\r\n"));
        assert_eq!(raw.answer().status, 200);
        let seen = scene.good.last();
        for absent in [&*token, "bot", "acme", "run-canary", "reading"] {
            assert!(!seen.everything().contains(absent), "{absent}: {}", seen.everything());
        }
    }
    scene.holds(&[]);
}

/// Subprotocols are the only headers that a browser's WebSocket can set.
#[test]
fn no_key_travels_as_a_subprotocol() {
    let scene = Scene::new();
    for protocols in [
        "chat, token, canary-7f31c2",
        "chat, bearer.canary-7f31c2",
        "chat, base64url.bearer.canary-7f31c2",
        "openai-insecure-api-key.canary-7f31c2, chat",
        "chat, Authorization, canary-7f31c2",
    ] {
        for mut raw in [scene.egret.raw(), scene.inside()] {
            let plain = raw.certificates().is_empty();
            let (base, identity) =
                if plain { ("http://api.good.test", scene.identity()) } else { ("", String::new()) };
            raw.send(format!(
                "GET {base}/v1/public/ws HTTP/1.1\r\nhost: api.good.test\r\n{identity}connection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: {protocols}\r\n\r\n"
            ));
            assert_eq!(raw.answer().status, 200, "the upstream declines");
            let seen = scene.good.last();
            assert!(!seen.everything().contains(CANARY), "{protocols}: {}", seen.everything());
            assert_eq!(seen.header("sec-websocket-protocol").as_deref(), Some("chat"), "{protocols}");
        }
    }
}

/// V-A04, V-A09, V-A15, V-A16.
#[test]
fn exactly_one_credential_is_attached_or_nothing_is_sent() {
    let good = Upstream::echo("api.good.test");
    let policy = "version: 1
services:
  good: {hosts: [api.good.test], allow_private_addresses: true, roles: {r: [GET /**]}}
tenants:
  header: {integrations: {good: {credential: {static: {header: {X-Key-Of-Ours: 'env:KEY'}}}}}, agents: {bot: {good: r}}}
  query: {integrations: {good: {credential: {static: {query: {appid: 'env:KEY'}}}}}, agents: {bot: {good: r}}}
  missing: {integrations: {good: {credential: {static: {bearer: 'env:NO_SUCH'}}}}, agents: {bot: {good: r}}}
  control: {integrations: {good: {credential: {static: {bearer: 'file:../bad'}}}}, agents: {bot: {good: r}}}
  newline: {integrations: {good: {credential: {static: {bearer: 'file:../line'}}}}, agents: {bot: {good: r}}}
  prefixed: {integrations: {good: {credential: {static: {bearer: 'file:../prefixed'}}}}, agents: {bot: {good: r}}}
";
    let egret = House::new(policy)
        .env("KEY", SECRET)
        .file("bad", "one\r\nx-evil: two")
        .file("line", "trimmed-secret-123456\n")
        .file("prefixed", "Bearer prefixed-secret-123456")
        .resolve("api.good.test", good.address)
        .start();
    let ask = |tenant: &str, extra: &str, path: &str| {
        let token = egret.token(&format!("{tenant}/bot"));
        let mut raw = egret.raw();
        raw.send(format!("GET http://api.good.test{path} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n{extra}\r\n"));
        raw.answer()
    };
    // Both slots are emptied, whatever the spelling.
    let extra = format!("authorization: {CANARY}\r\nx-key-of-ours: {CANARY}\r\nX-Key_Of-Ours: {CANARY}\r\n");
    let answer = ask("header", &extra, "/a");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(good.last().header("x-key-of-ours").as_deref(), Some(SECRET));
    assert!(!good.last().everything().contains(CANARY));
    let path = format!("/a?APPID={CANARY}&appid%5B%5D={CANARY}&x=1");
    assert_eq!(ask("query", "", &path).status, 200);
    assert_eq!(good.last().target, "/a?x=1&appid=sk-live-4f8a2c19d7e6b305%2F%2Bx");
    let before = good.seen().len();
    for tenant in ["missing", "control"] {
        let answer = ask(tenant, "", "/a");
        assert_eq!((answer.status, answer.code().as_str()), (403, "credential_missing"), "{tenant}");
    }
    assert_eq!(good.seen().len(), before, "nothing goes out without its credential");
    for tenant in ["newline", "prefixed"] {
        assert_eq!(ask(tenant, "", "/a").status, 200);
        let secret = if tenant == "newline" { "trimmed-secret-123456" } else { "prefixed-secret-123456" };
        assert_eq!(good.last().header("authorization"), Some(format!("Bearer {secret}")));
    }
    // V-A16: a head filled to the brim still carries the credential, or is refused as a whole.
    for lines in [60, 100, 122, 126, 130] {
        let extra: String = (0..lines).map(|n| format!("x-fill-{n}: 1\r\n")).collect();
        let before = good.seen().len();
        let answer = ask("header", &extra, "/a");
        let sent = good.seen().len() > before;
        assert_eq!(sent, answer.status == 200, "{lines}: {}", answer.status);
        assert!(!sent || good.last().header("x-key-of-ours").as_deref() == Some(SECRET), "{lines}");
    }
}

/// An upstream that tells the secret back in the way that the path asks for.
fn telltale() -> Upstream {
    Upstream::https("api.good.test", |seen: &Seen| {
        let secret = seen.header("authorization").unwrap_or_default();
        let bare = secret.trim_start_matches("Bearer ").to_owned();
        let text = format!("{{\"you sent\": \"{secret}\"}}\n").repeat(3);
        let how = seen.target.rsplit('/').next().unwrap();
        let coded = |coding: &str, body: Vec<u8>| full(200, &[("content-encoding", coding)], body);
        match how {
            "plain" => full(200, &[], text),
            "gzip" => coded("gzip", gzip(&text)),
            "x-gzip" => coded("X-GZIP", gzip(&text)),
            "two-gzips" => coded("gzip", [gzip(&text), gzip(&text)].concat()),
            "deflate" => {
                let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                to.write_all(text.as_bytes()).unwrap();
                coded("deflate", to.finish().unwrap())
            }
            "raw-deflate" => {
                let mut to = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                to.write_all(text.as_bytes()).unwrap();
                coded("deflate", to.finish().unwrap())
            }
            "br" => {
                let mut out = Vec::new();
                brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text.as_bytes()).unwrap();
                coded("br", out)
            }
            "zstd" => coded("zstd", zstd::encode_all(text.as_bytes(), 3).unwrap()),
            "identity" => coded("identity", text.into_bytes()),
            "unknown" => coded("compress", text.into_bytes()),
            "twice" => coded("gzip, gzip", gzip(&text)),
            "liar" => coded("gzip", text.into_bytes()),
            "base64" => full(200, &[], STANDARD.encode(&secret)),
            "base64-bare" => full(200, &[], STANDARD.encode(&bare)),
            "base64-inside" => full(200, &[], STANDARD.encode(format!("xy{bare}z"))),
            "percent" => full(200, &[], percent(&bare)),
            "json" => full(
                200,
                &[],
                serde_json::to_string(&serde_json::json!({ "a": bare.replace('/', "\\/") })).unwrap(),
            ),
            "unicode" => {
                full(200, &[], bare.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<String>())
            }
            "hex" => full(200, &[], bare.bytes().map(|b| format!("{b:02x}")).collect::<String>()),
            "header" => full(
                200,
                &[
                    ("x-echo", &secret),
                    ("x-base64", &STANDARD.encode(&bare)),
                    ("location", &format!("https://evil.test/?k={}", percent(&bare))),
                ],
                "",
            ),
            "error" => full(500, &[("content-type", "text/plain")], text),
            "bytes" => stream(text.bytes().map(|b| Bytes::from(vec![b])).collect(), "text/plain", None),
            "sse" => stream(
                text.lines().map(|l| Bytes::from(format!("data: {l}\n\n"))).collect(),
                "text/event-stream",
                None,
            ),
            "trailers" => {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-echo", secret.parse().unwrap());
                trailers.insert("set-cookie", "session=stolen".parse().unwrap());
                stream(vec![Bytes::from("ok")], "text/plain", Some(trailers))
            }
            _ => full(404, &[], ""),
        }
    })
}

fn gzip(text: &str) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    to.write_all(text.as_bytes()).unwrap();
    to.finish().unwrap()
}

fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn stream(
    pieces: Vec<Bytes>,
    kind: &str,
    trailers: Option<http::HeaderMap>,
) -> http::Response<support::upstream::Body> {
    let frames = pieces.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    let body = Frames(frames.collect::<Vec<_>>().into_iter());
    http::Response::builder()
        .header("content-type", kind)
        .header("trailer", "x-echo, set-cookie")
        .body(body.boxed())
        .unwrap()
}

/// Frames that are all there.
struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

/// Whether the secret can be read in this, in any of the ways in which it was told.
fn tells(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let spellings = [
        SECRET.to_owned(),
        STANDARD.encode(SECRET).trim_end_matches('=').to_owned(),
        STANDARD.encode(format!("Bearer {SECRET}")).trim_end_matches('=').to_owned(),
        percent(SECRET),
        SECRET.replace('/', "\\/"),
        SECRET.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
        SECRET.bytes().map(|b| format!("{b:02x}")).collect(),
    ];
    spellings.iter().any(|s| text.contains(s.as_str()))
        // The middle of it, whatever stands around it.
        || text.contains("4f8a2c19d7e6b305")
        || STANDARD.decode(text.trim()).is_ok_and(|plain| tells_plainly(&plain))
}

fn tells_plainly(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("4f8a2c19d7e6")
}

/// V-X01, V-X02: what the upstream tells back is taken out, or not handed on.
#[test]
fn an_echo_never_holds_the_secret() {
    let scene = Scene::with(telltale());
    for (how, passes) in [
        ("plain", true),
        ("gzip", true),
        ("x-gzip", true),
        ("two-gzips", true),
        ("deflate", true),
        ("raw-deflate", true),
        ("br", true),
        ("zstd", true),
        ("identity", true),
        ("unknown", false),
        ("twice", false),
        ("liar", false),
        ("base64", true),
        ("base64-bare", true),
        ("base64-inside", true),
        ("percent", true),
        ("json", true),
        ("unicode", true),
        ("hex", true),
        ("header", true),
        ("error", true),
        ("bytes", true),
        ("sse", true),
        ("trailers", true),
    ] {
        for mut raw in [scene.egret.raw(), scene.inside()] {
            let plain = raw.certificates().is_empty();
            let (base, identity) =
                if plain { ("http://api.good.test", scene.identity()) } else { ("", String::new()) };
            raw.send(format!(
                "GET {base}/v1/public/{how} HTTP/1.1\r\nhost: api.good.test\r\n{identity}te: trailers\r\naccept-encoding: gzip, compress, *\r\n\r\n"
            ));
            let answer = raw.try_answer();
            let good = answer.as_ref().is_some_and(|a| a.complete && matches!(a.status, 200 | 500));
            assert_eq!(good, passes, "{how}: {answer:?}");
            let Some(answer) = answer else { continue };
            assert!(!tells(&answer.body), "{how}: {}", answer.text());
            let headers = answer.headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect::<String>();
            assert!(!tells(headers.as_bytes()), "{how}: {headers}");
            assert!(!headers.contains("stolen"), "{how}: a session in a trailer");
            let told = matches!(how, "header" | "trailers");
            assert!(!good || told || answer.text().contains("[redacted]"), "{how}: {}", answer.text());
        }
        assert_eq!(scene.good.last().header("accept-encoding").as_deref(), Some("gzip"), "{how}");
    }
}

/// V-X03, V-X04, V-X13: what the upstream hands out besides the answer stays here.
#[test]
fn an_answer_opens_no_session_and_no_other_way() {
    let good = Upstream::https("api.good.test", |seen: &Seen| {
        let status: u16 = seen.target.rsplit('/').next().unwrap().parse().unwrap();
        full(
            status,
            &[
                ("location", "http://evil.test/collect"),
                ("refresh", "0; url=http://evil.test/"),
                ("set-cookie", "session=stolen"),
                ("set-cookie2", "session=stolen"),
                ("www-authenticate", "Bearer realm=\"stolen\""),
                ("proxy-authenticate", "Basic realm=\"stolen\""),
                ("proxy-authentication-info", "stolen"),
                ("authentication-info", "stolen"),
                ("proxy-status", "egret; error=stolen"),
                ("alt-svc", "h3=\"stolen:443\""),
                ("x-custom", "kept"),
            ],
            "body",
        )
    });
    let scene = Scene::with(good);
    for status in [200, 302, 307, 403, 500] {
        let mut raw = scene.egret.raw();
        raw.send(format!(
            "GET http://api.good.test/v1/public/{status} HTTP/1.1\r\nhost: api.good.test\r\n{}\r\n",
            scene.identity()
        ));
        let answer = raw.answer();
        assert_eq!(answer.status, status, "redirects are the client's to follow");
        assert!(answer.headers.iter().all(|(_, v)| !v.contains("stolen")), "{:?}", answer.headers);
        assert_eq!(answer.header("x-custom"), Some("kept"));
        assert_eq!(answer.header("location"), Some("http://evil.test/collect"));
    }
    for (status, code, answered) in [(401, "credential_rejected", 403), (407, "upstream_unscrubbable", 502)] {
        for mut raw in [scene.egret.raw(), scene.inside()] {
            let plain = raw.certificates().is_empty();
            let (base, identity) =
                if plain { ("http://api.good.test", scene.identity()) } else { ("", String::new()) };
            raw.send(format!(
                "GET {base}/v1/public/{status} HTTP/1.1\r\nhost: api.good.test\r\n{identity}\r\n"
            ));
            let answer = raw.answer();
            assert_eq!((answer.status, answer.code().as_str()), (answered, code));
            assert!(answer.headers.iter().all(|(_, v)| !v.contains("stolen")));
        }
    }
    assert_eq!(scene.evil.connections(), 0, "no redirect was followed");
}

/// V-X07, V-X08: a tunnel holds TLS with HTTP in it, or nothing.
#[test]
fn a_tunnel_is_never_copied_blindly() {
    let mut scene = Scene::new();
    let random: Vec<u8> =
        (0..512u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 0x80).collect();
    for (name, port, bytes) in [
        ("SSH", 443, b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        ("SSH on 80", 80, b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        ("random bytes", 443, random.clone()),
        ("random bytes on 80", 80, random),
        (
            "cleartext HTTP on the TLS port",
            443,
            b"GET /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n\r\n".to_vec(),
        ),
        ("half a handshake", 443, vec![0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]),
        ("a record that is too long", 443, [vec![0x16, 3, 1, 0xff, 0xff], vec![0; 100]].concat()),
        ("an alert", 443, vec![0x15, 3, 1, 0, 2, 2, 40]),
        ("HTTP/2 without TLS", 443, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a SOCKS greeting", 443, vec![5, 1, 0]),
    ] {
        let mut raw = scene.tunnel(&format!("api.good.test:{port}"));
        raw.send(bytes).finish();
        let back = raw.rest();
        assert!(!String::from_utf8_lossy(&back).contains("200 OK"), "{name}: {back:?}");
        scene.still_works(name);
    }
    let event = scene.egret.record(|r| r["kind"] == "tunnel_protocol");
    assert_eq!(event["authority"], "api.good.test:443");
    assert!(scene.good.seen().iter().all(|s| s.target == "/v1/public/alive"));
}

/// S7, V-X14: drive everything at the most talkative setting; nothing that is secret is said.
#[test]
fn nothing_secret_is_ever_said() {
    let (good, evil) = (telltale(), Upstream::echo("evil.test"));
    let mut egret =
        attacks::house(&good, &evil).env("EGRET_LOG", "egret=trace").env("RUST_LOG", "trace").start();
    let token = egret.token("acme/bot");
    let bad = format!("{}x", &token[..token.len() - 2]);
    let basic = STANDARD.encode(format!("bot+run-1:{token}"));
    for (identity, target, extra) in [
        (format!("Bearer {token}"), "api.good.test/v1/public/plain", ""),
        (format!("Basic {basic}"), "api.good.test/v1/public/gzip", ""),
        (format!("Bearer {bad}"), "api.good.test/v1/public/plain", ""),
        (
            format!("Bearer {token}"),
            "api.good.test/v1/public/header?api_key=canary-7f31c2&canary-7f31c2-canary-7f31c2",
            "authorization: Bearer canary-7f31c2\r\ncookie: a=canary-7f31c2\r\n",
        ),
        (
            format!("Bearer {token}"),
            "api.good.test/v1/public/plain?eyJjYW5hcnktN2YzMWMyIjoxfQ==",
            "x-custom: canary-7f31c2\r\n",
        ),
        (format!("Bearer {token}"), "evil.test/v1", "idempotency-key: canary-7f31c2\r\n"),
        (format!("Bearer {token}"), "u:canary-7f31c2@api.good.test/v1", ""),
        (format!("Digest canary-7f31c2, {token}"), "api.good.test/v1/public/plain", ""),
        (
            format!("Bearer {token}"),
            "api.good.test/v1/public/error",
            "x-agent-authorization: Bearer canary-7f31c2\r\n",
        ),
    ] {
        let mut raw = egret.raw();
        let host = target.split('/').next().unwrap();
        raw.send(format!("POST http://{target} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: {identity}\r\n{extra}content-length: 13\r\n\r\ncanary-7f31c2"));
        let answer = raw.answer();
        assert!(!answer.text().contains(CANARY) && !answer.text().contains(&token), "{}", answer.text());
    }
    let mut raw = egret.raw();
    raw.connect_to("api.good.test:443", &format!("proxy-authorization: Basic {basic}\r\n"));
    let mut inside = raw.tls("api.good.test", &egret.authority());
    inside.send("GET /v1/public/bytes HTTP/1.1\r\nhost: api.good.test\r\nx-api-key: canary-7f31c2\r\n\r\n");
    assert_eq!(inside.answer().status, 200);
    drop(inside);
    egret.decision("destination_not_allowed");
    let metrics = egret.page("/metrics").1;
    let everything = egret.everything() + &metrics;
    for absent in [CANARY, SECRET, &token, &bad, &basic, &STANDARD.encode(SECRET), &percent(SECRET), "eyJ"] {
        assert!(!everything.contains(absent), "{absent} was said:\n{everything}");
    }
}

/// An outcome that is neither passed nor refused, at the gateway, for what is no token.
#[test]
fn a_clients_own_key_at_the_gateway_is_no_identity() {
    let scene = Scene::new();
    for slot in [
        "authorization: Bearer sk-canary-7f31c2",
        "x-api-key: sk-canary-7f31c2",
        "api-key: eyJ.canary-7f31c2.x",
    ] {
        let mut raw = Raw::connect(scene.egret.gateway());
        raw.send(format!("GET /good/v1/public/a HTTP/1.1\r\nhost: gateway.local\r\n{slot}\r\n\r\n"));
        let answer = raw.answer();
        assert_eq!(answer.status, 401, "{slot}");
        assert!(!answer.text().contains(CANARY));
    }
    // Beside a good token it is only stripped.
    let mut raw = Raw::connect(scene.egret.gateway());
    raw.send(format!("GET /good/v1/public/a HTTP/1.1\r\nhost: gateway.local\r\nauthorization: Bearer {}\r\nx-api-key: sk-canary-7f31c2\r\n\r\n", scene.token));
    assert_eq!(Outcome::of(&raw.answer()), Outcome::Passed);
    assert!(!scene.good.last().everything().contains(CANARY));
    scene.holds(&[]);
}

/// Ports other than those of HTTP, and HTTP/2's own tunnels.
#[test]
fn no_other_tunnel_is_opened() {
    let scene = Scene::new();
    let bearer = format!("Bearer {}", scene.token);
    for authority in ["api.good.test:22", "evil.test:443", "127.0.0.1:22", "api.good.test"] {
        let mut h2 = H2::open(scene.egret.raw());
        let outcome = h2
            .exchange(
                &[(":method", "CONNECT"), (":authority", authority), ("proxy-authorization", &bearer)],
                None,
            )
            .outcome();
        assert!(!outcome.passed(), "{authority}: {outcome:?}");
    }
    scene.holds(&[]);
}
