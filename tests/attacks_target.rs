//! Attacks on where a request goes and on what it is said to be: hosts, ports, paths, methods, through every door.

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

use attacks::{DOORS, Door, H2, Outcome, SECRET, Scene};
use support::{Raw, Upstream};

/// What must come of a path, whatever door it comes through.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Expected {
    /// It goes on, in this spelling.
    As(&'static str),
    /// It does not go on.
    No,
}
use Expected::{As, No};

const PATHS: &[(&str, &str, Expected)] = &[
    // V-P01
    ("dots up", "/v1/public/../admin", No),
    ("dots up after a dot", "/v1/public/./../admin", No),
    ("dots up twice", "/v1/public/a/../../admin", No),
    ("a final dot", "/v1/public/.", No),
    ("final dots", "/v1/public/..", No),
    // V-P02
    ("encoded dots", "/v1/public/%2e%2e/admin", No),
    ("encoded dots in upper case", "/v1/public/%2E%2E/admin", No),
    ("one dot encoded", "/v1/public/.%2e/admin", No),
    // V-P03
    ("encoded slashes", "/v1/public%2f..%2fadmin", No),
    ("an encoded slash", "/v1/public/a%2Fb", No),
    // V-P04
    ("dots encoded twice", "/v1/public/%252e%252e/admin", No),
    ("dots whose escape is itself escaped", "/v1/public/%25%32%65%25%32%65/admin", No),
    ("dots with half of the escape escaped", "/v1/public/%252%65%252%65/admin", No),
    ("dots with the other half escaped", "/v1/public/%25%32e%25%32e/admin", No),
    ("a slash whose escape is escaped", "/v1/public/..%25%32%66admin", No),
    ("a backslash whose escape is escaped", "/v1/public/..%25%35%63admin", No),
    ("a NUL whose escape is escaped", "/v1/public/a%25%30%30", No),
    ("parameters whose escape is escaped", "/v1/public/a%25%33%62b", No),
    ("encoded three times", "/v1/public/%25252e%25252e/admin", No),
    ("encoded three times and mixed", "/v1/public/%25%32%35%32%65/admin", No),
    // V-P05
    ("two slashes", "//v1/admin", No),
    ("two slashes within", "/v1//public/a", No),
    ("two slashes before dots", "/v1/public//../admin", No),
    // V-P06
    ("parameters of dots", "/v1/public/..;/admin", No),
    ("parameters", "/v1/public/a;x=1", No),
    ("encoded parameters of dots", "/v1/public/..%3b/admin", No),
    // V-P07
    ("a backslash", "/v1/public/..\\admin", No),
    ("an encoded backslash", "/v1/public/..%5cadmin", No),
    // V-P08
    ("overlong dots", "/v1/public/%c0%ae%c0%ae/admin", No),
    ("not UTF-8", "/v1/public/%ff", No),
    ("raw UTF-8", "/v1/public/\u{e9}", No),
    // V-P09
    ("an encoded NUL", "/v1/public/a%00", No),
    ("encoded CR LF", "/v1/public/a%0d%0aX-Evil:1", No),
    ("an encoded tab", "/v1/public/a%09", No),
    ("an encoded DEL", "/v1/public/a%7f", No),
    ("a raw control", "/v1/public/a\u{1}", No),
    // V-P10
    ("another case", "/V1/Public/a", No),
    ("another path", "/v1/admin", No),
    ("dots and a blank", "/v1/public/..%20/admin", No),
    ("dots and an encoded question mark", "/v1/public/..%3f/admin", No),
    ("dots and an encoded fragment", "/v1/public/..%23/admin", No),
    ("a look-alike", "/v1/publicity", No),
    ("a final slash", "/v1/public/", As("/v1/public/")),
    // V-P11
    ("an escaped letter", "/v1/%61dmin", No),
    ("an escaped letter of an allowed path", "/v1/p%75blic/%7euser", As("/v1/public/~user")),
    // V-P12
    ("dots in the query", "/v1/public/a?x=/../admin", As("/v1/public/a?x=/../admin")),
    ("an encoded question mark before dots", "/v1/public/a%3f/../admin", No),
    ("an encoded question mark", "/v1/public/a%3fb", As("/v1/public/a%3Fb")),
    ("a broken escape", "/v1/public/%zz", No),
    ("half an escape", "/v1/public/%4", No),
    ("the escapes of IIS", "/v1/public/%u002e%u002e/admin", No),
    ("a percent sign", "/v1/public/100%25", As("/v1/public/100%25")),
];

#[test]
fn a_path_means_the_same_at_every_door() {
    let scene = Scene::new();
    let mut refused = Vec::new();
    for (name, path, expected) in PATHS {
        for door in DOORS {
            let before = scene.good.seen().len();
            let outcome = door.send(&scene, "GET", path, &[]);
            match expected {
                As(spelling) => {
                    assert!(outcome.passed(), "{name} at {door:?}: {outcome:?}");
                    assert_eq!(scene.good.last().target, *spelling, "{name} at {door:?}");
                }
                No => {
                    assert!(!outcome.passed(), "{name} at {door:?} went on as {}", scene.good.last().target);
                    assert_eq!(scene.good.seen().len(), before, "{name} at {door:?}");
                }
            }
            refused.push(outcome.decision());
        }
        scene.still_works(name);
    }
    scene.holds(&refused);
}

#[test]
fn a_method_means_the_same_at_every_door() {
    let scene = Scene::new();
    let mut refused = Vec::new();
    for (method, allowed) in [
        ("GET", true),
        ("get", false),
        ("Get", false),
        ("DELETE", false),
        ("PROPFIND", false),
        ("TRACE", false),
        ("TRACK", false),
        ("PATCH", false),
        ("OPTIONS", false),
        ("FOOBAR", false),
        ("GETX", false),
    ] {
        for door in DOORS {
            let outcome = door.send(&scene, method, "/v1/public/a", &[]);
            assert_eq!(outcome.passed(), allowed, "{method} at {door:?}: {outcome:?}");
            refused.push(outcome.decision());
        }
    }
    // V-P13: no tunnel in a tunnel, none at the gateway.
    let mut inside = scene.inside();
    inside.send("CONNECT api.good.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\n\r\n");
    refused.push(inside.answer().json()["decision_id"].as_str().unwrap().to_owned());
    let mut raw = Raw::connect(scene.egret.gateway());
    assert_eq!(raw.connect_to("api.good.test:443", &scene.identity()).status, 400);
    scene.still_works("methods");
    scene.holds(&refused);
}

/// V-P14: what asks the upstream to read another method or path does not reach it.
#[test]
fn nothing_overrides_what_was_judged() {
    let scene = Scene::new();
    let names = [
        "x-http-method-override",
        "x_http_method_override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-method",
        "http-method-override",
        "x-http-path-override",
        "x-override-url",
        "x-request-uri",
        "x-waws-unencoded-url",
        "x-original-host",
        "x-forwarded-host",
        "x_forwarded_host",
        "x-forwarded-prefix",
        "x-host",
        "forwarded",
        "x-upstream-https-proxy",
        "x-envoy-original-path",
    ];
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, "/v1/admin")).collect();
    for door in DOORS {
        let outcome =
            door.send(&scene, "POST", "/v1/public/a?x=1&_method=DELETE&%5Fmethod=PUT&y=2", &headers);
        assert!(outcome.passed(), "{door:?}: {outcome:?}");
        let seen = scene.good.last();
        for name in names {
            assert!(!seen.headers.contains_key(name), "{name} at {door:?}: {}", seen.everything());
        }
        assert_eq!(seen.target, "/v1/public/a?x=1&y=2", "{door:?}");
    }
    scene.holds(&[]);
}

/// Authorities that an absolute target, a `CONNECT` line or an `:authority` may name.
const AUTHORITIES: &[(&str, &str)] = &[
    // V-H06, userinfo
    ("userinfo", "api.good.test@evil.test"),
    ("userinfo with the good host", "evil.test@api.good.test"),
    ("userinfo with a password", "bot:pass@api.good.test"),
    ("an empty userinfo", "@api.good.test"),
    ("a fragment", "evil.test#@api.good.test"),
    ("a backslash", "evil.test\\@api.good.test"),
    // V-H08, V-D14
    ("a bracketed name", "[api.good.test]"),
    ("a wildcard", "*.good.test"),
    ("a blank", "api.good .test"),
    // V-H09
    ("a longer name", "api.good.test.evil.test"),
    ("a longer label", "evilapi.good.test"),
    ("another character", "api-good.test"),
    ("no such name", "evil.test"),
    ("another tenant's", "api.other.test"),
    // V-H10
    ("the wildcard's parent", "wild.test"),
    ("two labels under a wildcard", "a.b.wild.test"),
    ("the wildcard itself", "*.wild.test"),
    ("an empty label", ".wild.test"),
    ("two empty labels", "..wild.test"),
    ("two final dots", "api.good.test.."),
    // V-H11
    ("Cyrillic", "\u{430}pi.good.test"),
    ("full width", "\u{ff41}\u{ff50}\u{ff49}.good.test"),
    ("an ideographic dot", "api\u{3002}good.test"),
    ("another name in punycode", "xn--pi-8cd.good.test"),
    // V-H12
    ("IPv4 as a number", "2130706433"),
    ("IPv4 in hexadecimal", "0x7f000001"),
    ("IPv4 in octal", "0177.0.0.1"),
    ("IPv4 with zeros", "010.0.0.5"),
    ("IPv4 in short", "127.1"),
    ("IPv4 in mixed spelling", "0x7f.1"),
    ("IPv4 with a final dot", "127.0.0.1."),
    ("zero", "0"),
    ("loopback", "127.0.0.1"),
    ("unspecified", "0.0.0.0"),
    ("metadata by number", "169.254.169.254"),
    // V-H13
    ("IPv6 loopback", "[::1]"),
    ("mapped IPv4", "[::ffff:127.0.0.1]"),
    ("link-local", "[fe80::1]"),
    ("a zone", "[fe80::1%25lo]"),
    ("unique local", "[fc00::1]"),
    ("multicast", "[ff02::1]"),
    ("no brackets", "::1"),
    ("IPv6 unspecified", "[::]"),
    // V-H15, V-H17
    ("an encoded dot", "api%2egood.test"),
    ("an encoded NUL", "api.good.test%00"),
    ("an encoded slash", "api.good.test%2f@evil.test"),
    // V-D01
    ("a name of metadata", "metadata.test"),
    ("a name of loopback", "loopback.test"),
    ("a name of a private network", "private.test"),
    ("localhost", "localhost"),
];

const PORTS: &[&str] =
    &[":22", ":25", ":0", ":65536", ":+443", ":0443", ":", ":https", ":443,80", ":-1", ":443:443"];

fn scene_with_addresses() -> Scene {
    let (good, evil) = (Upstream::echo("api.good.test"), Upstream::echo("evil.test"));
    let egret = attacks::house(&good, &evil)
        .resolve("metadata.test", "169.254.169.254:443".parse().unwrap())
        .resolve("loopback.test", evil.address)
        .resolve("private.test", "10.255.255.1:443".parse().unwrap())
        .start();
    let token = egret.token("acme/bot");
    Scene { egret, good, evil, token }
}

#[test]
fn nothing_but_the_granted_host_is_dialled() {
    let scene = scene_with_addresses();
    let mut refused = Vec::new();
    let long_label = format!("{}.good.test", "a".repeat(64));
    let long_name = format!("{}test", "a.".repeat(125));
    let longest = "a".repeat(10_000);
    let ports = PORTS.iter().map(|port| (*port, format!("api.good.test{port}")));
    let long = [("a long label", long_label), ("a long name", long_name), ("a very long name", longest)];
    let all = AUTHORITIES.iter().map(|(n, a)| (*n, (*a).to_owned())).chain(ports).chain(long);
    for (name, authority) in all {
        let identity = scene.identity();
        let mut raw = scene.egret.raw();
        raw.send(format!(
            "GET http://{authority}/v1/public/a HTTP/1.1\r\nhost: {authority}\r\n{identity}\r\n"
        ));
        let outcome = raw.try_answer().map_or(Outcome::Closed, |a| Outcome::of(&a));
        assert!(!outcome.passed(), "{name} in absolute form");
        refused.push(outcome.decision());

        let port = if PORTS.contains(&name) { "" } else { ":443" };
        let mut raw = scene.egret.raw();
        raw.send(format!("CONNECT {authority}{port} HTTP/1.1\r\nhost: {authority}{port}\r\n{identity}\r\n"));
        // A covered name is let through, and refused inside.
        let answer = raw.try_head();
        if answer.is_some_and(|answer| answer.status == 200) {
            let host = authority.trim_matches(['[', ']']);
            let mut inside = raw.tls(host, &scene.egret.authority());
            inside.send(format!("GET /v1/public/a HTTP/1.1\r\nhost: {authority}\r\n\r\n"));
            let outcome = Outcome::of(&inside.answer());
            assert!(
                matches!(outcome.code(), "destination_ip_prohibited" | "action_denied"),
                "{name}: {outcome:?}"
            );
            refused.push(outcome.decision());
        }

        let mut h2 = H2::open(scene.egret.raw());
        let bearer = format!("Bearer {}", scene.token);
        let outcome = h2
            .exchange(
                &[
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":authority", &authority),
                    (":path", "/v1/public/a"),
                    ("proxy-authorization", &bearer),
                ],
                None,
            )
            .outcome();
        assert!(!outcome.passed(), "{name} in HTTP/2");
        refused.push(outcome.decision());
    }
    scene.still_works("authorities");
    scene.holds(&refused);
}

/// Where `Host`, or the inner authority, disagrees with the target.
#[test]
fn the_host_header_never_decides() {
    let scene = Scene::new();
    let identity = scene.identity();
    let mut refused = Vec::new();
    // V-H01, V-H02, V-H16, V-H22
    for (name, request) in [
        (
            "a target that is not allowed",
            "GET http://evil.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n",
        ),
        ("another host", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: evil.test\r\n"),
        ("no host", "GET http://api.good.test/v1/public/a HTTP/1.1\r\n"),
        ("an empty host", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost:\r\n"),
        (
            "two hosts",
            "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\nhost: api.good.test\r\n",
        ),
        ("a list", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test, evil.test\r\n"),
        ("a path", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test/x\r\n"),
        ("userinfo", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: u@api.good.test\r\n"),
        ("a leading blank", "GET http://api.good.test/v1/public/a HTTP/1.1\r\n host: api.good.test\r\n"),
        (
            "a blank before the colon",
            "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost : api.good.test\r\n",
        ),
        ("a tab", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\tevil.test\r\n"),
        ("no authority", "GET /v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("an asterisk", "OPTIONS * HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("an empty authority", "GET http:///v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("ftp", "GET ftp://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("ws", "GET ws://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("a scheme alone", "GET http: HTTP/1.1\r\nhost: api.good.test\r\n"),
        // V-H19: it came around.
        (
            "via itself",
            "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\nvia: 1.0 x, 1.1 egret\r\n",
        ),
    ] {
        let mut raw = scene.egret.raw();
        raw.send(format!("{request}{identity}\r\n"));
        let outcome = raw.try_answer().map_or(Outcome::Closed, |a| Outcome::of(&a));
        assert!(!outcome.passed(), "{name}");
        refused.push(outcome.decision());
        scene.still_works(name);
    }
    // V-H03, V-X11
    for (name, request) in [
        ("another host", "GET /v1/public/a HTTP/1.1\r\nhost: evil.test\r\n"),
        ("another target", "GET https://evil.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("another scheme", "GET http://api.good.test/v1/public/a HTTP/1.1\r\nhost: api.good.test\r\n"),
        ("another port", "GET /v1/public/a HTTP/1.1\r\nhost: api.good.test:8443\r\n"),
        ("another path", "GET /v1/admin HTTP/1.1\r\nhost: api.good.test\r\n"),
    ] {
        let mut inside = scene.inside();
        inside.send("GET /v1/public/first HTTP/1.1\r\nhost: api.good.test\r\n\r\n");
        assert_eq!(inside.answer().status, 200);
        inside.send(format!("{request}\r\n"));
        let answer = inside.answer();
        assert_eq!(answer.status, 403, "{name} inside: only 403 is understood in a tunnel");
        refused.push(Outcome::of(&answer).decision());
    }
    // V-H05
    for (name, fields) in [
        ("another authority", vec![(":authority", "evil.test")]),
        ("another host beside the authority", vec![(":authority", "api.good.test"), ("host", "evil.test")]),
        ("another host alone", vec![("host", "evil.test")]),
        ("userinfo", vec![(":authority", "u@api.good.test")]),
    ] {
        let mut h2 = scene.inside_h2();
        let mut all = vec![(":method", "GET"), (":scheme", "https"), (":path", "/v1/public/a")];
        all.splice(2..2, fields.iter().copied().filter(|(n, _)| n.starts_with(':')));
        all.extend(fields.iter().copied().filter(|(n, _)| !n.starts_with(':')));
        let outcome = h2.exchange(&all, None).outcome();
        assert!(!outcome.passed(), "{name}: {outcome:?}");
        refused.push(outcome.decision());
    }
    scene.holds(&refused);
}

/// V-H07: spellings of one host are one host.
#[test]
fn case_and_a_final_dot_make_no_other_host() {
    let scene = Scene::new();
    for host in
        ["API.GOOD.TEST", "api.good.test.", "Api.Good.Test.", "api.good.test:80", "API.good.test.:443"]
    {
        let mut raw = scene.egret.raw();
        raw.send(format!(
            "GET HTTP://{host}/v1/public/a HTTP/1.1\r\nhost: {host}\r\n{}\r\n",
            scene.identity()
        ));
        assert_eq!(raw.answer().status, 200, "{host}");
    }
    assert_eq!(scene.good.connections(), 1, "one host, one connection");
    scene.holds(&[]);
}

/// V-H04, V-H24, V-F14: the line and the handshake of a tunnel name one host, and carry nothing else.
#[test]
fn a_tunnel_has_one_name() {
    let scene = Scene::new();
    let identity = scene.identity();
    for (name, request, status) in [
        ("no port", "CONNECT api.good.test HTTP/1.1\r\nhost: api.good.test\r\n", 400),
        ("a URL", "CONNECT https://api.good.test/ HTTP/1.1\r\nhost: api.good.test\r\n", 400),
        ("another host", "CONNECT api.good.test:443 HTTP/1.1\r\nhost: evil.test:443\r\n", 400),
        ("another target", "CONNECT evil.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\n", 400),
        ("another port", "CONNECT api.good.test:22 HTTP/1.1\r\nhost: api.good.test:22\r\n", 403),
        ("no host", "CONNECT api.good.test:443 HTTP/1.1\r\n", 400),
        (
            "two hosts",
            "CONNECT api.good.test:443 HTTP/1.1\r\nhost: api.good.test\r\nhost: api.good.test\r\n",
            400,
        ),
        (
            "a body",
            "CONNECT api.good.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\ncontent-length: 5\r\n",
            400,
        ),
        (
            "chunks",
            "CONNECT api.good.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\ntransfer-encoding: chunked\r\n",
            400,
        ),
        ("a path", "CONNECT api.good.test:443/v1 HTTP/1.1\r\nhost: api.good.test:443\r\n", 400),
        ("userinfo", "CONNECT u@api.good.test:443 HTTP/1.1\r\nhost: api.good.test:443\r\n", 400),
        ("a NUL", "CONNECT evil.test\0.good.test:443 HTTP/1.1\r\nhost: api.good.test\r\n", 400),
        (
            "a refusal in gRPC",
            "CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\ncontent-type: application/grpc\r\n",
            403,
        ),
        (
            "a refusal for git",
            "CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\nuser-agent: git/2.39\r\n",
            403,
        ),
    ] {
        let mut raw = scene.egret.raw();
        raw.send(format!("{request}{identity}\r\nhello"));
        let answer = raw.try_answer().expect(name);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(raw.rest().is_empty(), "{name}: the connection ends with the refusal");
    }
    // The handshake inside names another host: nothing is shown, nothing is sent.
    for sni in ["evil.test", "api.other.test", "xapi.good.test"] {
        let raw = scene.tunnel("api.good.test:443");
        assert!(raw.try_tls(sni, &scene.egret.authority(), &["http/1.1"]).is_err(), "{sni}");
    }
    scene.still_works("tunnels");
    let mut scene = scene;
    let event = scene.egret.record(|r| r["kind"] == "sni_mismatch");
    assert_eq!(event["authority"], "api.good.test:443");
    scene.holds(&[]);
}

/// V-H19: egret never talks to itself, not even where private addresses are allowed.
#[test]
fn egret_is_no_destination() {
    let mut scene = Scene::new();
    let own = [scene.egret.proxy(), scene.egret.gateway(), scene.egret.admin()].map(|a| a.port());
    let names = ["localhost", "127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]", "[::1]"];
    let hosts: Vec<String> =
        own.iter().flat_map(|port| names.iter().map(move |n| format!("{n}:{port}"))).collect();
    let list = hosts.iter().map(|h| format!("'{h}'")).collect::<Vec<_>>().join(", ");
    scene.egret.replace("policies/policy.yaml", &attacks::POLICY.replace("own.test", &list));
    // The first record says that the policy was loaded at the start, the second that it was again.
    for _ in 0..2 {
        scene.egret.record(|r| r["event"] == "policy_loaded");
    }
    for host in hosts {
        let mut raw = scene.egret.raw();
        raw.send(format!("GET http://{host}/metrics HTTP/1.1\r\nhost: {host}\r\n{}\r\n", scene.identity()));
        let answer = raw.answer();
        assert_eq!(answer.code(), "destination_ip_prohibited", "{host}: {}", answer.text());
    }
}

/// V-H26, V-H22: the client speaks cleartext, the credential never does.
#[test]
fn a_cleartext_request_goes_out_over_tls() {
    let scene = Scene::new();
    for door in [Door::Absolute, Door::TunnelClear, Door::H2Clear] {
        assert!(door.send(&scene, "GET", "/v1/public/a", &[]).passed());
        assert_eq!(scene.good.last().header("authorization"), Some(format!("Bearer {SECRET}")));
    }
    // An upstream that speaks no TLS gets nothing.
    let clear = Upstream::http(|_| support::upstream::full(200, &[], "clear"));
    let egret = attacks::house(&scene.good, &scene.evil).resolve("x.wild.test", clear.address).start();
    let token = egret.token("acme/bot");
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://x.wild.test/ HTTP/1.1\r\nhost: x.wild.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    ));
    assert_eq!(raw.answer().code(), "upstream_tls_failed");
    assert!(clear.seen().is_empty());
    scene.holds(&[]);
}

/// V-H10: a wildcard stands for exactly one label.
#[test]
fn a_wildcard_covers_one_label() {
    let (good, evil) = (Upstream::echo("x.wild.test"), Upstream::echo("evil.test"));
    let egret = attacks::house(&good, &evil)
        .resolve("x.wild.test", good.address)
        .resolve("x.y.wild.test", evil.address)
        .start();
    let token = egret.token("acme/bot");
    for (host, code) in [
        ("x.wild.test", ""),
        ("x.y.wild.test", "destination_not_allowed"),
        ("wild.test", "destination_not_allowed"),
        ("x-wild.test", "destination_not_allowed"),
        ("xwild.test", "destination_not_allowed"),
    ] {
        let mut raw = egret.raw();
        raw.send(format!(
            "GET http://{host}/a HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n\r\n"
        ));
        assert_eq!(raw.answer().code(), code, "{host}");
    }
    assert_eq!(evil.connections(), 0);
}

/// V-P10: an upstream that reads a path loosely is no way around a guard.
#[test]
fn a_guard_is_not_walked_around() {
    let good = Upstream::echo("api.good.test");
    let policy = "version: 1
services:
  good: {hosts: [api.good.test], allow_private_addresses: true, roles: {all: [ANY /**]}}
guards:
  - {match: ANY /v1/admin/**, deny: people do that}
tenants:
  acme: {integrations: {good: {credential: {static: {bearer: 'env:GOOD_KEY'}}}}, agents: {bot: {good: all}}}
";
    let egret =
        support::House::new(policy).env("GOOD_KEY", SECRET).resolve("api.good.test", good.address).start();
    let token = egret.token("acme/bot");
    let ask = |path: &str| {
        let mut raw = egret.raw();
        raw.send(format!("GET http://api.good.test{path} HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"));
        raw.answer()
    };
    for path in [
        "/v1/admin",
        "/v1/admin/x",
        "/V1/Admin/x",
        "/v1/%61dmin/x",
        "/v1/admin/",
        "/v1/admin.",
        "/v1/admin./x",
        "/v1/admin%20",
        "/v1/admin%20/x",
        "/v1/admin%3fx",
        "/v1/admin%23",
        "/v1/admin%3fx/y/z",
        "/v1./admin",
    ] {
        let answer = ask(path);
        assert_eq!(answer.code(), "action_denied", "{path}: {}", answer.text());
    }
    assert!(good.seen().is_empty());
    assert_eq!(ask("/v1/administration").status, 200);
}
