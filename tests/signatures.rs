//! Requests that are signed by templates of the policy: through the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use support::{Answer, Egret, House, Upstream};

const KEY: &str = "hmac-planted-0123456789";

/// As Cisco Duo wants it, with the hash of the body.
const POLICY: &str = r#"version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    max_body: 1KiB
    roles: {writer: [GET /**, POST /**]}
tenants:
  acme:
    integrations:
      good:
        credential:
          signature:
            secrets: {key: "file:key", id: DIXXXX}
            let: {moment: "{now('unix')}"}
            headers:
              X-Moment: "{moment}"
              Authorization: "Basic {base64(id ':' hex(hmac_sha1(key, moment '\\n' method '\\n' lower(host) '\\n' path '\\n' query '\\n' body_sha256)))}"
            query: {api_id: "{id}"}
    agents: {bot: {good: writer}}
"#;

fn send(egret: &Egret, request: &str, body: &str) -> Answer {
    let mut raw = egret.raw();
    raw.send(format!(
        "{request} HTTP/1.1\r\nhost: api.good.test\r\nauthorization: Basic dXNlcjpvd24=\r\n\
         proxy-authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        egret.token("acme/bot"),
        body.len()
    ));
    raw.answer()
}

#[test]
fn a_signature_covers_the_request_as_it_is_sent() {
    let upstream = Upstream::echo("api.good.test");
    let house = House::new(POLICY).resolve("api.good.test", upstream.address);
    let egret = house.file("policies/key", KEY).start();
    for (method, path, query, body) in [
        ("GET", "/a/b", "", ""),
        ("POST", "/admin/v1/users", "a=1&b=%20x", "hello"),
        ("POST", "/again", "", ""),
    ] {
        let mark = if query.is_empty() { "" } else { "?" };
        let answer = send(&egret, &format!("{method} http://api.good.test{path}{mark}{query}"), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = upstream.last();
        let moment = seen.header("x-moment").unwrap();
        let digest = egret::secret::sha256_hex(body.as_bytes());
        let signed = format!("{moment}\n{method}\napi.good.test\n{path}\n{query}\n{digest}");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, KEY.as_bytes());
        let signature = egret::secret::hex(hmac::sign(&key, signed.as_bytes()).as_ref());
        let expected = format!("Basic {}", STANDARD.encode(format!("DIXXXX:{signature}")));
        assert_eq!(seen.header("authorization"), Some(expected), "{signed}");
        let and = if query.is_empty() { "" } else { "&" };
        assert_eq!(seen.target, format!("{path}?{query}{and}api_id=DIXXXX"));
        assert_eq!(seen.body, body);
        assert!(!seen.everything().contains("planted"));
    }
    let before = upstream.seen().len();
    let refused = send(&egret, "POST http://api.good.test/large", &"x".repeat(2000));
    assert_eq!((refused.status, refused.code().as_str()), (413, "body_too_large"));
    assert_eq!(upstream.seen().len(), before, "nothing left");
    assert!(!egret.everything().contains("planted"));
}
