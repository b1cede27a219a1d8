//! Credentials from real servers, through the real binary. `tests/providers/run` starts the servers and runs these.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{Answer, Egret, House, egret::BINARY, live::eventually, token_with};

/// Where the servers are.
fn servers() -> Value {
    let path = std::env::var("EGRET_PROVIDERS").expect("run these with tests/providers/run");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Tells a server something, in clear on this machine, and gives its answer.
fn control(server: &Value, method: &str, path: &str, body: &Value) -> Value {
    let authority = text(server, "/control").strip_prefix("http://").unwrap().trim_end_matches('/');
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(authority).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") || head.contains(" 204 "), "{text}");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body.lines().nth(1).unwrap_or_default()
    } else {
        body
    };
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// A house whose names lead to the servers, and that trusts their authority.
fn house(servers: &Value, policy: &str) -> House {
    let mut house = House::new(policy);
    let own = fs::read_to_string(house.path("upstream-ca.pem")).unwrap();
    let theirs = fs::read_to_string(servers["ca"].as_str().unwrap()).unwrap();
    fs::write(house.path("upstream-ca.pem"), own + &theirs).unwrap();
    for (name, to) in servers["resolve"].as_object().unwrap() {
        house = house.resolve(name, to.as_str().unwrap().parse().unwrap());
    }
    house
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("servers.json has no {path}"))
}

const ANN: &str = "heron";

/// A request through the proxy, to one of the integrations of a host.
fn send(egret: &Egret, integration: &str, method: &str, url: &str, headers: &str, body: &[u8]) -> Answer {
    // For egret, and for the provider that exchanges it.
    let audiences = json!({"aud": ["egret", "https://op.test"]});
    let token = token_with(&egret.house.issuer, "acme/bot", Some(ANN), audiences);
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut raw = egret.raw();
    let length = if headers.contains("transfer-encoding") {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    raw.send(format!(
        "{method} {url} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Bearer {token}\r\n\
         x-agent-integration: {integration}\r\n{headers}{length}\r\n"
    ));
    raw.send(body);
    raw.answer()
}

fn get(egret: &Egret, integration: &str, url: &str) -> Answer {
    send(egret, integration, "GET", url, "", b"")
}

/// What the API of the provider `op` saw of a token.
#[track_caller]
fn echoed(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].clone()
}

const ECHO: &str = "http://api.op.test/api/echo";

fn op_policy(servers: &Value, integrations: &str) -> String {
    let op = &servers["op"];
    format!(
        "version: 1
providers:
  op:
    issuer: {issuer}
    token_url: {token}
    authorize_url: {authorize}
    device_url: {device}
    revoke_url: {revoke}
    authorize_params: {{prompt: consent}}
    allow_private_addresses: true
services:
  echo: {{hosts: [api.op.test], allow_private_addresses: true, roles: {{reader: [{{scopes: [read, offline_access]}}, GET /**, POST /**]}}}}
tenants:
  acme:
    integrations:
{integrations}    agents: {{bot: {{GRANTS}}}}
",
        issuer = text(op, "/url"),
        token = text(op, "/token_url"),
        authorize = text(op, "/authorization_url"),
        device = text(op, "/device_authorization_url"),
        revoke = text(op, "/revocation_url"),
    )
}

/// A policy with these integrations of one service, each of which the agent may use.
fn op_house(servers: &Value, integrations: &[(&str, String)]) -> House {
    let mut lines = String::new();
    for (name, rest) in integrations {
        lines.extend(["      ", name, ": {service: echo, ", rest, "}\n"]);
    }
    let grants: Vec<String> = integrations.iter().map(|(name, _)| format!("{name}: reader")).collect();
    let policy = op_policy(servers, &lines).replace("GRANTS", &grants.join(", "));
    let op = &servers["op"]["clients"];
    let mut house = house(servers, &policy);
    for name in ["basic", "post", "exchange", "code"] {
        house = house.file(&format!("policies/{name}.secret"), text(op, &format!("/{name}/secret")));
    }
    house
}

#[test]
#[ignore = "needs real servers: tests/providers/run"]
fn clients_authenticate_in_every_way_that_an_openid_provider_knows() {
    let servers = servers();
    let op = &servers["op"];
    control(op, "POST", "/control", &json!({"reset": true}));
    let client = |name: &str| text(op, &format!("/clients/{name}/id"));
    let of = |name: &str, part: &str| text(op, &format!("/clients/{name}/{part}")).to_owned();
    let scope = "scopes: [read]";
    let key = |name: &str, algorithm: &str| {
        format!(
            "credential: {{client_credentials: {{provider: op, client_id: {}, private_key: \"file:{}\", key_id: \"{}\", algorithm: {algorithm}, {scope}}}}}",
            client(name),
            of(name, "key"),
            of(name, "kid")
        )
    };
    let certificate = format!(
        "certificate: {{chain: \"file:{}\", key: \"file:{}\"}}",
        of("mtls", "certificate"),
        of("mtls", "key")
    );
    let integrations = [
        (
            "basic",
            format!(
                "credential: {{client_credentials: {{provider: op, client_id: {}, client_secret: \"file:basic.secret\", {scope}}}}}",
                client("basic")
            ),
        ),
        (
            "post",
            format!(
                "credential: {{client_credentials: {{provider: op, client_auth: post, client_id: {}, client_secret: \"file:post.secret\", {scope}}}}}",
                client("post")
            ),
        ),
        ("es256", key("es256", "ES256")),
        ("ps256", key("ps256", "PS256")),
        (
            "mtls",
            format!(
                "{certificate}, credential: {{client_credentials: {{provider: op, client_id: {}, {certificate}, {scope}}}}}",
                client("mtls")
            ),
        ),
        // The token is bound to a certificate that is not shown here.
        (
            "unbound",
            format!(
                "credential: {{client_credentials: {{provider: op, client_id: {}, {certificate}, {scope}}}}}",
                client("mtls")
            ),
        ),
        (
            "wrong",
            format!(
                "credential: {{client_credentials: {{provider: op, client_id: {}, client_secret: \"file:post.secret\", {scope}}}}}",
                client("basic")
            ),
        ),
    ];
    let egret = op_house(&servers, &integrations).start();
    for name in ["basic", "post", "es256", "ps256", "mtls"] {
        for _ in 0..3 {
            let token = echoed(&get(&egret, name, ECHO));
            assert_eq!(
                (token["client_id"].as_str(), token["scope"].as_str()),
                (Some(client(name)), Some("read")),
                "{token}"
            );
        }
    }
    let bound = echoed(&get(&egret, "mtls", ECHO));
    assert!(bound["cnf"]["x5t#S256"].is_string(), "{bound}");
    let refused = get(&egret, "unbound", ECHO);
    assert_eq!(refused.code(), "credential_rejected", "{}", refused.text());
    let refused = get(&egret, "wrong", ECHO);
    assert_eq!(
        (refused.code().as_str(), refused.json()["provider_error_code"].as_str()),
        ("credential_rejected", Some("invalid_client"))
    );
    let counts = control(op, "GET", "/counts", &Value::Null);
    for name in ["basic", "post", "es256", "ps256"] {
        let times = counts["token"][client(name)]["client_credentials"].as_u64().unwrap();
        // `wrong` is `basic`, too.
        assert!(times == 1 || name == "basic" && times == 2, "{counts}");
    }
}

#[test]
#[ignore = "needs real servers: tests/providers/run"]
fn assertions_and_callers_tokens_become_tokens() {
    let servers = servers();
    let op = &servers["op"];
    let trusted = &op["trusted"];
    let exchange = text(op, "/clients/exchange/id");
    let integrations = [
        (
            "federated",
            format!(
                "credential: {{jwt_bearer: {{provider: op, issuer: \"{}\", subject: bot, audience: \"{}\", private_key: \"file:{}\", key_id: \"{}\", algorithm: {}, client_id: {exchange}, client_secret: \"file:exchange.secret\", client_auth: basic, scopes: [read]}}}}",
                text(trusted, "/issuer"),
                text(op, "/token_url"),
                text(trusted, "/key"),
                text(trusted, "/kid"),
                text(trusted, "/alg"),
            ),
        ),
        (
            "exchanged",
            format!(
                "credential: {{token_exchange: {{idp: op, client_id: {exchange}, client_secret: \"file:exchange.secret\", client_auth: basic, scopes: [read]}}}}"
            ),
        ),
    ];
    let house = op_house(&servers, &integrations);
    let jwks: Value = serde_json::from_str(house.issuer.jwks()).unwrap();
    let issuer = egret::identify::DevIssuer::NAME;
    control(op, "POST", "/control", &json!({"reset": true, "trust": [{"issuer": issuer, "jwks": jwks}]}));
    let egret = house.start();
    let token = echoed(&get(&egret, "federated", ECHO));
    assert_eq!(token["sub"], "bot", "{token}");
    let answer = get(&egret, "exchanged", ECHO);
    let token = echoed(&answer);
    assert_eq!(token["scope"], "read", "{token}");
}

/// `egret connect`, with a browser that logs in at the provider and agrees.
fn connect(op: &Value, dir: &Path, integration: &str, more: &[&str]) {
    let mut child = Command::new(BINARY)
        .args([&["connect", integration, "--tenant", "acme", "--user", ANN][..], more].concat())
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut url = String::new();
    out.read_line(&mut url).unwrap();
    if more.contains(&"--device") {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let code = line.trim().rsplit(' ').next().unwrap().to_owned();
        control(op, "POST", "/device", &json!({"user_code": code}));
    } else {
        let login = control(op, "POST", "/login", &json!({"url": url.trim()}));
        let back = text(&login, "/location").to_owned();
        let (authority, path) = back.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(authority.replace("localhost", "127.0.0.1")).unwrap();
        write!(stream, "GET /{path} HTTP/1.1\r\nhost: {authority}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
    }
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
}

#[test]
#[ignore = "needs real servers: tests/providers/run"]
fn a_person_s_grant_lives_through_rotation_and_dies_when_it_is_taken_back() {
    let servers = servers();
    let op = &servers["op"];
    let redirect = text(op, "/clients/code/redirect_uri").to_owned();
    let code = text(op, "/clients/code/id");
    let device = text(op, "/clients/device/id");
    let integrations = [
        (
            "code",
            format!(
                "tier: USER, credential: {{oauth: {{provider: op, client_id: {code}, client_secret: \"file:code.secret\", client_auth: basic}}}}"
            ),
        ),
        (
            "device",
            format!(
                "tier: USER, credential: {{oauth: {{provider: op, client_id: {device}, client_auth: none}}}}"
            ),
        ),
    ];
    let port = TcpListenerPort::free();
    let back = format!("http://127.0.0.1:{port}/callback");
    control(
        op,
        "POST",
        "/control",
        &json!({"reset": true, "access_token_ttl": 2, "redirect_uris": [back, redirect]}),
    );
    let house = op_house(&servers, &integrations);
    house.write_settings();
    let dir = house.dir.path().to_owned();
    connect(op, &dir, "code", &["--redirect-uri", &back]);
    connect(op, &dir, "device", &["--device"]);
    let mut egret = house.start();
    let mut seen = std::collections::BTreeSet::new();
    // Tokens live for two seconds: each refresh token is good for one use, and every one is followed by the next.
    eventually("four tokens", || {
        for name in ["code", "device"] {
            let token = echoed(&get(&egret, name, ECHO));
            assert_eq!(token["sub"], ANN, "{token}");
            seen.insert(format!("{name} {}", token["fingerprint"]));
        }
        let of = |name: &str| seen.iter().filter(|one| one.starts_with(name)).count();
        (of("code") >= 4 && of("device") >= 4).then_some(())
    });
    control(op, "POST", "/control", &json!({"revoke": code}));
    eventually("the revocation is seen", || {
        (get(&egret, "code", ECHO).code() == "auth_revoked").then_some(())
    });
    let refused = get(&egret, "code", ECHO);
    assert!(refused.json()["reconnect_url"].is_string());
    assert_eq!(echoed(&get(&egret, "device", ECHO))["sub"], ANN);
    egret.decision("auth_revoked");
}

/// A port that was free a moment ago.
struct TcpListenerPort;

impl TcpListenerPort {
    fn free() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }
}

fn aws_house(servers: &Value) -> House {
    let (moto, s3) = (&servers["moto"], &servers["s3"]);
    let region = text(moto, "/region");
    let policy = format!(
        "version: 1
services:
  sts: {{hosts: [sts.{region}.amazonaws.com], allow_private_addresses: true, roles: {{caller: [POST /]}}}}
  buckets: {{hosts: [s3.{region}.amazonaws.com], allow_private_addresses: true, roles: {{caller: [GET /**, PUT /**, DELETE /**]}}}}
  files: {{hosts: [s3.test], allow_private_addresses: true, roles: {{caller: [GET /**, PUT /**]}}}}
tenants:
  acme:
    integrations:
      sts: {{credential: {{aws_sigv4: {{access_key_id: {id}, secret_access_key: \"file:moto.secret\"}}}}}}
      sts-wrong: {{service: sts, credential: {{aws_sigv4: {{access_key_id: {id}, secret_access_key: \"file:s3.secret\"}}}}}}
      sts-role: {{service: sts, credential: {{aws_sigv4: {{access_key_id: {id}, secret_access_key: \"file:moto.secret\", role_arn: \"{role}\", sts_url: \"https://sts.{region}.amazonaws.com/\", allow_private_addresses: true}}}}}}
      buckets: {{credential: {{aws_sigv4: {{access_key_id: {id}, secret_access_key: \"file:moto.secret\", role_arn: \"{role}\", sts_url: \"https://sts.{region}.amazonaws.com/\", allow_private_addresses: true}}}}}}
      files: {{credential: {{aws_sigv4: {{access_key_id: {s3_id}, secret_access_key: \"file:s3.secret\", region: {s3_region}, service: s3}}}}}}
    agents: {{bot: {{sts: caller, sts-wrong: caller, sts-role: caller, buckets: caller, files: caller}}}}
",
        id = text(moto, "/user/access_key_id"),
        role = text(moto, "/role_arn"),
        s3_id = text(s3, "/access_key_id"),
        s3_region = text(s3, "/region"),
    );
    house(servers, &policy)
        .file("policies/moto.secret", text(moto, "/user/secret_access_key"))
        .file("policies/s3.secret", text(s3, "/secret_access_key"))
}

/// A body in the chunks that SDKs sign, with signatures of keys that nobody has.
fn chunked(data: &[u8], size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in data.chunks(size).chain([&b""[..]]) {
        write!(body, "{:x};chunk-signature={}\r\n", chunk.len(), "0".repeat(64)).unwrap();
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body
}

#[test]
#[ignore = "needs real servers: tests/providers/run"]
fn requests_are_signed_so_that_two_verifiers_of_aws_signatures_believe_them() {
    let servers = servers();
    let (region, bucket) = (text(&servers["moto"], "/region"), text(&servers["moto"], "/bucket"));
    let egret = aws_house(&servers).start();
    let sts = format!("http://sts.{region}.amazonaws.com/");
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let who = |integration: &str| {
        send(&egret, integration, "POST", &sts, form, b"Action=GetCallerIdentity&Version=2011-06-15")
    };
    let answer = who("sts");
    assert!(answer.status == 200 && answer.text().contains(":user/"), "{}", answer.text());
    let answer = who("sts-role");
    assert!(answer.status == 200 && answer.text().contains("assumed-role"), "{}", answer.text());
    let answer = who("sts-wrong");
    assert!(answer.status == 403 && answer.text().contains("SignatureDoesNotMatch"), "{}", answer.text());

    let dummy = "authorization: AWS4-HMAC-SHA256 Credential=AKIADUMMY/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00\r\nx-amz-date: 20260101T000000Z\r\n";
    let data: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for (integration, base, bucket) in [
        ("buckets", format!("http://s3.{region}.amazonaws.com"), bucket),
        ("files", "http://s3.test".to_owned(), text(&servers["s3"], "/bucket")),
    ] {
        for (name, headers, body) in [
            ("plain", String::new(), data.clone()),
            ("a%20b%2Bc/%C3%A9", format!("{dummy}x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"), data.clone()),
            (
                "streamed",
                format!(
                    "{dummy}x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nx-amz-decoded-content-length: {}\r\n",
                    data.len()
                ),
                chunked(&data, 65536),
            ),
        ] {
            let url = format!("{base}/{bucket}/{name}");
            let put = send(&egret, integration, "PUT", &url, &headers, &body);
            assert_eq!(put.status, 200, "{integration} {name}: {}", put.text());
            let back = get(&egret, integration, &url);
            assert_eq!(back.status, 200, "{integration} {name}: {}", back.text());
            assert!(back.body == data, "{integration} {name}: {} bytes", back.body.len());
        }
        let listed = get(&egret, integration, &format!("{base}/{bucket}?list-type=2&prefix=a%20b"));
        assert!(listed.status == 200 && listed.text().contains("a b+c"), "{integration}: {}", listed.text());
    }
}

#[test]
#[ignore = "needs real servers: tests/providers/run"]
fn git_pushes_with_a_token_for_its_password() {
    let servers = servers();
    let git = &servers["git"];
    let policy = "version: 1
services:
  forge: {hosts: [git.test], allow_private_addresses: true, attach: {basic: {user: x-access-token, password: '{token}'}}, roles: {writer: [GET /**, POST /**]}}
tenants:
  acme: {integrations: {forge: {credential: 'file:token'}}, agents: {bot: {forge: writer}}}
";
    let egret = house(&servers, policy).file("policies/token", text(git, "/token")).start();
    let token = token_with(&egret.house.issuer, "acme/bot", None, Value::Null);
    let place = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(place.path())
            .env("HTTPS_PROXY", format!("http://bot:{token}@{}", egret.proxy()))
            .env("GIT_SSL_CAINFO", egret.house.path("certs/ca.pem"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {args:?}: {text}");
    };
    let url = text(git, "/url");
    run(&["clone", "-q", url, "work"]);
    // Large enough to be sent in chunks.
    let seed = std::process::id();
    let noise = (0..3_000_000u32).map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    fs::write(place.path().join("work/file"), noise.collect::<Vec<u8>>()).unwrap();
    for args in [
        &["-C", "work", "add", "."][..],
        &["-C", "work", "-c", "user.name=a", "-c", "user.email=a@a.example", "commit", "-q", "-m", "one"],
        &["-C", "work", "push", "-q", "origin", "HEAD"],
        &["clone", "-q", url, "again"],
    ] {
        run(args);
    }
    assert_eq!(
        fs::read(place.path().join("work/file")).unwrap(),
        fs::read(place.path().join("again/file")).unwrap()
    );
}
