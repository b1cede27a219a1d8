//! What attacks are made of: one scene, every door into it, and a client that writes HTTP/2 frames by hand.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::HashMap;

use serde_json::Value;

use crate::support::{Answer, Egret, House, Raw, Upstream};

/// The secret of the one integration that the attacker's agent may use.
pub const SECRET: &str = "sk-live-4f8a2c19d7e6b305/+x";
/// The secret of an integration that it may not use.
pub const OTHER: &str = "other-live-9b1c77aa0d2e4f68";

/// `GET|POST|PUT /v1/public/**` on `api.good.test`; nothing else anywhere is granted to `acme/bot`.
pub const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles:
      writer: [GET|POST|PUT /v1/public/**]
  wild:
    hosts: ['*.wild.test']
    allow_private_addresses: true
    roles:
      reader: [GET /**]
  far:
    hosts: [metadata.test, loopback.test, private.test, '127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', localhost]
    roles:
      reader: [GET /**]
  near:
    hosts: [own.test]
    allow_private_addresses: true
    roles:
      reader: [GET /**]
  other:
    hosts: [api.other.test]
    allow_private_addresses: true
    roles:
      reader: [GET /**]
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: 'env:GOOD_KEY'}}}
      wild: {credential: {static: {bearer: 'env:GOOD_KEY'}}}
      far: {credential: {static: {bearer: 'env:GOOD_KEY'}}}
      near: {credential: {static: {bearer: 'env:GOOD_KEY'}}}
    agents:
      bot: {good: writer, wild: reader, far: reader, near: reader}
  zeta:
    integrations:
      other: {credential: {static: {bearer: 'env:OTHER_KEY'}}}
    agents:
      bot: {other: reader}
";

/// An egret, the upstream that its agent may use, and one that it may not.
pub struct Scene {
    pub egret: Egret,
    pub good: Upstream,
    pub evil: Upstream,
    pub token: String,
}

/// Names that lead to the upstream that must never hear of the secret.
pub const ELSEWHERE: [&str; 8] = [
    "evil.test",
    "api.other.test",
    "api.good.test.evil.test",
    "evilapi.good.test",
    "xapi.good.test",
    "api-good.test",
    "good.test",
    "wild.test",
];

pub fn house(good: &Upstream, evil: &Upstream) -> House {
    let mut house = House::new(POLICY)
        .env("GOOD_KEY", SECRET)
        .env("OTHER_KEY", OTHER)
        .resolve("api.good.test", good.address);
    for name in ELSEWHERE {
        house = house.resolve(name, evil.address);
    }
    house
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Upstream::echo("api.good.test"))
    }

    pub fn with(good: Upstream) -> Self {
        let evil = Upstream::echo("evil.test");
        let egret = house(&good, &evil).start();
        let token = egret.token("acme/bot");
        Self { egret, good, evil, token }
    }

    /// The header that says who asks.
    pub fn identity(&self) -> String {
        format!("proxy-authorization: Bearer {}\r\n", self.token)
    }

    /// A tunnel to `authority`, before anything is spoken inside.
    pub fn tunnel(&self, authority: &str) -> Raw {
        let mut raw = self.egret.raw();
        let opened = raw.connect_to(authority, &self.identity());
        assert_eq!(opened.status, 200, "{authority}: {}", opened.text());
        raw
    }

    /// Inside the TLS of a tunnel to the good upstream.
    pub fn inside(&self) -> Raw {
        self.tunnel("api.good.test:443").tls("api.good.test", &self.egret.authority())
    }

    /// An HTTP/2 connection inside a tunnel to the good upstream.
    pub fn inside_h2(&self) -> H2 {
        let raw = self.tunnel("api.good.test:443");
        H2::open(raw.try_tls("api.good.test", &self.egret.authority(), &["h2"]).unwrap())
    }

    /// A well-behaved request succeeds on a fresh connection: the last attack did no lasting harm.
    pub fn still_works(&self, after: &str) {
        let mut raw = self.egret.raw();
        raw.send(format!(
            "GET http://api.good.test/v1/public/alive HTTP/1.1\r\nhost: api.good.test\r\n{}\r\n",
            self.identity()
        ));
        let answer = raw.answer();
        assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
    }

    /// What must hold whatever was sent: the secret went to the good upstream alone, nothing reached it that the
    /// policy would refuse if it were read leniently, and every request was decided about once.
    pub fn holds(self, refused: &[String]) {
        assert_eq!(self.evil.connections(), 0, "somebody was dialled who must not be");
        for seen in self.good.seen() {
            assert!(["GET", "HEAD", "POST", "PUT"].contains(&&*seen.method), "{}", seen.everything());
            let path = leniently(seen.target.split(['?', '#']).next().unwrap());
            assert!(
                path.starts_with("/v1/public/") || path == "/v1/public",
                "{} is {path} to somebody",
                seen.target
            );
            let hosts = seen.headers.get_all("host").iter().count();
            assert!(hosts <= 1 && seen.header("host").is_none_or(|h| h == "api.good.test"));
            assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
            assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}")));
        }
        let received = self.good.seen().len();
        let everything = self.egret.everything();
        assert!(!everything.contains(SECRET) && !everything.contains(&self.token), "the log holds a secret");
        let mut decisions: HashMap<String, usize> = HashMap::new();
        let mut allowed = 0;
        for line in everything.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            if line["event"] == "decision" {
                *decisions.entry(line["decision_id"].as_str().unwrap().to_owned()).or_default() += 1;
                // Addresses are checked when they are known: after the decision.
                let held_back = refused.iter().any(|id| line["decision_id"] == **id);
                allowed += usize::from(line["decision"] == "allow" && !held_back);
            }
        }
        assert!(decisions.values().all(|n| *n == 1), "a request has two decisions");
        assert_eq!(allowed, received, "every request that left was decided about, and no other was");
        for id in refused.iter().filter(|id| !id.is_empty()) {
            assert_eq!(decisions.get(id), Some(&1), "the refusal {id} was not written down");
        }
    }
}

/// What an upstream of this name says in a TLS handshake, for HTTP/1.1 alone.
pub fn server_config(name: &str) -> rustls::ServerConfig {
    #[derive(Debug)]
    struct Always(std::sync::Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Always {
        fn resolve(
            &self,
            _: rustls::server::ClientHello<'_>,
        ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    let host = egret::target::Host::parse(name).unwrap();
    let (certificate, _) = Upstream::authority().mint(&host).unwrap();
    let mut config = egret::tls::server(std::sync::Arc::new(Always(certificate))).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A path as the most lenient upstream reads it.
pub fn leniently(path: &str) -> String {
    let mut text = path.to_owned();
    for _ in 0..4 {
        text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
    }
    let text = text.replace('\\', "/");
    let text = text.split(['?', '#', '\0']).next().unwrap();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap().trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            plain => segments.push(plain),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Every way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Absolute,
    TunnelTls,
    TunnelClear,
    Gateway,
    H2Clear,
    H2Tls,
}

pub const DOORS: [Door; 6] =
    [Door::Absolute, Door::TunnelTls, Door::TunnelClear, Door::Gateway, Door::H2Clear, Door::H2Tls];

/// What came of an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It went through to the upstream.
    Passed,
    /// egret said no, with this code and decision.
    Refused { code: String, decision: String },
    /// The parser said no, or the connection ended.
    Closed,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }

    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Passed | Self::Closed => "",
        }
    }

    pub fn decision(&self) -> String {
        match self {
            Self::Refused { decision, .. } => decision.clone(),
            Self::Passed | Self::Closed => String::new(),
        }
    }

    fn of_body(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Self::Closed };
        match body["code"].as_str() {
            Some(code) => {
                Self::Refused { code: code.into(), decision: body["decision_id"].as_str().unwrap().into() }
            }
            None => Self::Passed,
        }
    }

    pub fn of(answer: &Answer) -> Self {
        match answer.status {
            200 if answer.complete => Self::of_body(&answer.body),
            _ if answer.body.is_empty() => Self::Closed,
            _ => Self::of_body(&answer.body),
        }
    }
}

impl Door {
    /// Sends `METHOD http://api.good.test<path>` through this door.
    pub fn send(self, scene: &Scene, method: &str, path: &str, headers: &[(&str, &str)]) -> Outcome {
        let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let identity = scene.identity();
        let h1 = |mut raw: Raw, target: String, host: &str, identity: &str| {
            raw.send(format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{identity}{lines}\r\n"));
            raw.try_answer().map_or(Outcome::Closed, |answer| Outcome::of(&answer))
        };
        let h2 = |mut h2: H2, scheme: &str, token: Option<&str>| {
            let bearer = token.map(|t| format!("Bearer {t}"));
            let mut fields = vec![
                (":method", method),
                (":scheme", scheme),
                (":authority", "api.good.test"),
                (":path", path),
            ];
            fields.extend(bearer.as_deref().map(|b| ("proxy-authorization", b)));
            fields.extend(headers);
            h2.exchange(&fields, None).outcome()
        };
        match self {
            Self::Absolute => {
                h1(scene.egret.raw(), format!("http://api.good.test{path}"), "api.good.test", &identity)
            }
            Self::TunnelTls => h1(scene.inside(), path.to_owned(), "api.good.test", ""),
            Self::TunnelClear => h1(scene.tunnel("api.good.test:80"), path.to_owned(), "api.good.test", ""),
            Self::Gateway => {
                let raw = Raw::connect(scene.egret.gateway());
                h1(raw, format!("/good{path}"), "gateway.local", &identity)
            }
            Self::H2Clear => h2(H2::open(scene.egret.raw()), "http", Some(&scene.token)),
            Self::H2Tls => h2(scene.inside_h2(), "https", None),
        }
    }
}

/// A connection on which HTTP/2 frames are written by hand, so that they can say what no library would.
pub struct H2 {
    raw: Raw,
    stream: u32,
}

/// What came back on one stream.
#[derive(Debug, Default)]
pub struct H2Answer {
    pub headers: usize,
    pub body: Vec<u8>,
    pub reset: bool,
    pub closed: bool,
}

impl H2Answer {
    pub fn outcome(&self) -> Outcome {
        if self.reset || self.closed || self.headers == 0 {
            return Outcome::Closed;
        }
        Outcome::of_body(&self.body)
    }
}

impl H2 {
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    pub fn open(mut raw: Raw) -> Self {
        raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut this = Self { raw, stream: 1 };
        this.frame(4, 0, 0, &[]);
        this
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.raw.send(frame);
    }

    /// Literal fields without indexing (RFC 7541 §6.2.2), neither compressed nor checked.
    pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                let mut length = text.len();
                if length < 127 {
                    block.push(u8::try_from(length).unwrap());
                } else {
                    block.push(127);
                    length -= 127;
                    while length >= 128 {
                        block.push(u8::try_from(length % 128).unwrap() | 128);
                        length /= 128;
                    }
                    block.push(u8::try_from(length).unwrap());
                }
                block.extend(text.as_bytes());
            }
        }
        block
    }

    /// Begins a request on the next stream.
    pub fn begin(&mut self, fields: &[(&str, &str)], ends: bool) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        let flags = Self::END_HEADERS | if ends { Self::END_STREAM } else { 0 };
        self.frame(1, flags, stream, &Self::fields(fields));
        stream
    }

    pub fn data(&mut self, stream: u32, data: &[u8], ends: bool) {
        self.frame(0, u8::from(ends), stream, data);
    }

    pub fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.frame(1, Self::END_HEADERS | Self::END_STREAM, stream, &Self::fields(fields));
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, fields: &[(&str, &str)], body: Option<&[u8]>) -> H2Answer {
        let stream = self.begin(fields, body.is_none());
        if let Some(body) = body {
            self.data(stream, body, true);
        }
        self.read(stream)
    }

    /// Reads until the stream or the connection ends.
    pub fn read(&mut self, stream: u32) -> H2Answer {
        let mut answer = H2Answer::default();
        loop {
            let Some(head) = self.raw.try_exactly(9) else {
                answer.closed = true;
                return answer;
            };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = self.raw.try_exactly(length) else {
                answer.closed = true;
                return answer;
            };
            match head[3] {
                0 if of == stream => answer.body.extend(&payload),
                1 if of == stream => answer.headers += 1,
                3 if of == stream => answer.reset = true,
                7 if payload[4..8] != [0; 4] => answer.closed = true,
                _ => continue,
            }
            if answer.reset || answer.closed || (head[3] < 2 && head[4] & Self::END_STREAM != 0) {
                return answer;
            }
        }
    }
}
