//! What an operator sees: starting, ending, health, limits of the machine, and the commands beside `serve`.

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
    io::Write as _,
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use http_body_util::BodyExt as _;
use support::{
    Egret, House, Live, PATIENCE, Raw, Upstream,
    egret::BINARY,
    live::{H2, Pen, eventually, h2_in_tunnel, next, pipe, request, runtime},
};

const POLICY: &str = "version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true
    roles:
      reader: [GET /**]
  closed:
    hosts: [closed.good.test]
    intercept: never
    allow_private_addresses: true
    roles:
      caller: [connect]
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: 'env:KEY'}}}
      closed: {credential: none}
    agents:
      bot: {good: reader, closed: caller}
";

fn house(upstream: std::net::SocketAddr) -> House {
    House::new(POLICY)
        .env("KEY", "sk-live-4f8a2c19d7e6b305")
        .resolve("api.good.test", upstream)
        .resolve("closed.good.test", upstream)
}

fn get(egret: &Egret) -> String {
    let token = egret.token("acme/bot");
    format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\n\r\n"
    )
}

fn identity(egret: &Egret) -> String {
    format!("proxy-authorization: Bearer {}\r\n", egret.token("acme/bot"))
}

/// An upstream whose answers the test writes.
fn piped() -> (Live, Receiver<Pen>) {
    let (sender, pens) = mpsc::channel();
    let upstream = Live::https("api.good.test", move |_| {
        let (pen, body) = pipe();
        sender.send(pen).unwrap();
        async move { http::Response::new(body) }
    });
    (upstream, pens)
}

// --- ending ---------------------------------------------------------------------------------------------------

#[expect(clippy::disallowed_methods, reason = "a client of the proxy")]
#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    let (upstream, pens) = piped();
    let mut egret = house(upstream.address).start();
    let mut running = egret.raw();
    running.send(get(&egret));
    let pen = pens.recv_timeout(PATIENCE).unwrap();
    pen.write("half\n");
    running.until("half\n");
    let mut idle = egret.raw();
    idle.send("GET http://evil.test/ HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    assert_eq!(idle.answer().status, 407);
    let mut silent = egret.raw();
    let mut unused = egret.raw();
    assert_eq!(unused.connect_to("api.good.test:443", &identity(&egret)).status, 200);
    assert_eq!(egret.page("/readyz").0, 200);
    let told = Instant::now();
    egret.signal("TERM");
    egret.message("draining");
    eventually("not ready any more", || {
        (egret.page("/readyz") == (503, "pending: draining\n".into())).then_some(())
    });
    assert_eq!(egret.page("/healthz").0, 200, "it is going down, not ill");
    let proxy = egret.proxy();
    eventually("no new connection", || TcpStream::connect(proxy).is_err().then_some(()));
    for resting in [&mut idle, &mut silent, &mut unused] {
        assert!(resting.rest().is_empty());
    }
    assert!(told.elapsed() < PATIENCE / 2, "who rests is sent home at once");
    pen.write("whole\n");
    drop(pen);
    assert!(running.until("0\r\n\r\n").contains("whole\n"));
    assert_eq!(egret.wait().code(), Some(0));
    egret.record(|r| r["event"] == "outcome" && r["upstream"]["ending"] == "complete");
    egret.record(|r| r["event"] == "stopped" && r["audit_dropped"] == 0);
}

#[test]
fn draining_says_goaway_and_finishes_open_streams() {
    let (upstream, pens) = piped();
    let mut egret = house(upstream.address).start();
    let token = egret.token("acme/bot");
    runtime().block_on(async {
        let mut client: H2 = h2_in_tunnel(&egret, "api.good.test", &token).await;
        let asked = request("GET", "https://api.good.test/a", &[], "");
        let mut body = client.send_request(asked).await.unwrap().into_body();
        let pen = pens.recv_timeout(PATIENCE).unwrap();
        pen.write("half\n");
        assert_eq!(next(&mut body).await, "half\n");
        egret.signal("TERM");
        let told = async {
            // Each of these would be refused at once, were it still taken.
            let asked = || request("POST", "https://api.good.test/a", &[], "");
            while client.send_request(asked()).await.is_ok() {}
        };
        tokio::time::timeout(PATIENCE, told).await.expect("nobody said GOAWAY");
        pen.write("whole\n");
        drop(pen);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole\n");
    });
    assert_eq!(egret.wait().code(), Some(0));
}

#[test]
fn draining_takes_no_longer_than_it_may() {
    let (upstream, pens) = piped();
    let mut egret = house(upstream.address).settings("drain_timeout: 300ms\n").start();
    let mut endless = egret.raw();
    endless.send(get(&egret));
    let _pen = pens.recv_timeout(PATIENCE).unwrap();
    assert_eq!(endless.head().status, 200);
    let mut tunnel = egret.raw();
    assert_eq!(tunnel.connect_to("closed.good.test:443", &identity(&egret)).status, 200);
    egret.signal("TERM");
    assert!(!String::from_utf8_lossy(&endless.rest()).contains("0\r\n\r\n"));
    assert!(tunnel.rest().is_empty());
    assert_eq!(egret.wait().code(), Some(0));
    for _ in 0..2 {
        assert_ne!(egret.outcome()["upstream"]["ending"], "complete");
    }
    egret.record(|r| r["event"] == "stopped");
}

#[test]
fn a_second_signal_does_not_wait() {
    for signal in ["TERM", "INT"] {
        let (upstream, pens) = piped();
        let mut egret = house(upstream.address).settings("drain_timeout: 1h\n").start();
        let mut endless = egret.raw();
        endless.send(get(&egret));
        let _pen = pens.recv_timeout(PATIENCE).unwrap();
        assert_eq!(endless.head().status, 200);
        egret.signal("TERM");
        egret.message("draining");
        egret.signal(signal);
        assert_eq!(egret.wait().code(), Some(130));
    }
}

// --- starting -------------------------------------------------------------------------------------------------

#[test]
fn what_is_wrong_at_the_start_is_said_with_its_place() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let fresh = || house("127.0.0.1:9".parse().unwrap());
    let with_policy = |text: &str| fresh().file("policies/policy.yaml", text);
    let broken_ca = {
        let house = fresh();
        fs::create_dir(house.path("certs")).unwrap();
        house.file("certs/ca.pem", "no certificate").file("certs/ca.key", "no key")
    };
    let without_policy = {
        let house = fresh();
        fs::remove_file(house.path("policies/policy.yaml")).unwrap();
        house
    };
    for (what, house, code, said) in [
        ("an unknown setting", fresh().settings("surprise: 1\n"), 78, "egret.yaml:12:1"),
        ("a setting without sense", fresh().settings("drain_timeout: soon\n"), 78, "egret.yaml:12:16"),
        ("settings that are no YAML", fresh().settings("{{{\n"), 78, "egret.yaml:1"),
        (
            "an unknown key in the policy",
            with_policy(&format!("{POLICY}surprise: 1\n")),
            78,
            "policy.yaml:21:1",
        ),
        ("a policy that is no YAML", with_policy("version: 1\n  tenants: {"), 78, "policy.yaml:2"),
        ("no policy", without_policy, 78, "policies"),
        ("a broken authority", broken_ca, 78, "ca:"),
        ("a broken extra authority", fresh().file("upstream-ca.pem", "nothing"), 78, "upstream.extra_ca"),
        ("a port that is taken", fresh().env("EGRET_LISTEN_PROXY", &taken), 69, taken.as_str()),
        ("an admin port that is taken", fresh().env("EGRET_LISTEN_ADMIN", &taken), 69, taken.as_str()),
    ] {
        let (exit, text) = house.fail();
        assert_eq!(exit, Some(code), "{what}: {text}");
        assert!(text.contains(said), "{what}: `{said}` is not in: {text}");
    }
}

// --- the machine's limits -------------------------------------------------------------------------------------

#[test]
fn out_of_descriptors_egret_waits_and_goes_on() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).descriptors(40).start();
    let (proxy, head) = (egret.proxy(), get(&egret));
    let many: Vec<Raw> = (0..60).map(|_| Raw::connect(proxy)).collect();
    egret.message("cannot accept connections just now");
    drop(many);
    let mut raw = egret.raw();
    raw.send(head);
    assert_eq!(raw.answer().status, 200);
    assert_eq!(egret.page("/healthz").0, 200);
}

#[test]
fn who_does_not_get_to_the_point_is_sent_away() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(upstream.address).env("EGRET_LISTEN_HEADER_TIMEOUT", "300ms").start();
    for (what, bytes) in [
        ("says nothing", ""),
        ("begins like HTTP/2 and stops", "PRI * HT"),
        ("stops in its first line", "GET http://api.good"),
        ("never ends its head", "GET http://api.good.test/ HTTP/1.1\r\nhost: api.good.test\r\nx-a: 1\r\n"),
    ] {
        let mut raw = egret.raw();
        raw.send(bytes);
        assert!(!String::from_utf8_lossy(&raw.rest()).contains("200 OK"), "{what}");
    }
    let mut resting = egret.raw();
    resting.send(get(&egret));
    assert_eq!(resting.answer().status, 200);
    assert!(resting.rest().is_empty());
    for alpn in [&["h2"][..], &["http/1.1"], &[]] {
        let mut raw = egret.raw();
        assert_eq!(raw.connect_to("api.good.test:443", &identity(&egret)).status, 200);
        let mut inside = raw.try_tls("api.good.test", &egret.authority(), alpn).unwrap();
        // HTTP/2 greets with its settings; nothing more comes.
        inside.rest();
    }
    eventually("all are gone", || (egret.metric("egret_connections") == 0.0).then_some(()));
    eventually("and their tunnels", || (egret.metric("egret_tunnels") == 0.0).then_some(()));
}

#[test]
fn what_never_became_a_request_is_counted_and_logged() {
    let upstream = Upstream::echo("api.good.test");
    let mut egret = house(upstream.address).start();
    let long = format!("GET http://a/ HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET http://a/ HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(200));
    for (what, bytes, kind) in [
        ("no HTTP at all", "\u{1}\u{2}\u{3}\r\n\r\n", "http"),
        ("another version", "GET http://a/ HTTP/9.9\r\n\r\n", "http"),
        ("a space in a header's name", "GET http://a/ HTTP/1.1\r\nhost : a\r\n\r\n", "http"),
        ("a head that is too long", &long, "http_too_large"),
        ("too many headers", &many, "http_too_large"),
        ("HTTP/2 and then not", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n", "http2"),
    ] {
        let name = format!("egret_malformed_requests_total{{kind=\"{kind}\"}}");
        let before = egret.metric(&name);
        let mut raw = egret.raw();
        raw.send(bytes);
        raw.rest();
        let event = egret.record(|r| r["event"] == "malformed");
        assert_eq!(event["kind"], kind, "{what}");
        assert!(event["peer"].is_string() && event["reason"].is_string(), "{what}: {event}");
        assert_eq!(egret.metric(&name), before + 1.0, "{what}");
    }
    for (what, bytes, kind) in [
        ("neither TLS nor HTTP", &b"\x00\x01\x02"[..], "tunnel_protocol"),
        ("HTTP on the TLS port", b"GET / HTTP/1.1\r\n\r\n", "tunnel_protocol"),
        ("TLS that is none", b"\x16\x03\x01\x00\x05hello", "tls"),
    ] {
        let mut raw = egret.raw();
        assert_eq!(raw.connect_to("api.good.test:443", &identity(&egret)).status, 200);
        raw.send(bytes);
        raw.rest();
        let event = egret.record(|r| r["event"] == "malformed");
        assert_eq!(
            (&event["kind"], &event["authority"]),
            (&kind.into(), &"api.good.test:443".into()),
            "{what}"
        );
    }
    let mut raw = egret.raw();
    assert_eq!(raw.connect_to("api.good.test:443", &identity(&egret)).status, 200);
    assert!(raw.try_tls("api.evil.test", &egret.authority(), &[]).is_err());
    assert_eq!(egret.record(|r| r["event"] == "malformed")["kind"], "sni_mismatch");
    let mut raw = egret.raw();
    assert_eq!(raw.connect_to("api.good.test:443", &identity(&egret)).status, 200);
    assert!(
        raw.try_tls("api.good.test", Upstream::authority(), &[]).is_err(),
        "another authority is trusted"
    );
    assert_eq!(egret.record(|r| r["event"] == "malformed")["kind"], "client_tls_rejected");
    assert_eq!(egret.metric("egret_client_tls_rejected_total"), 1.0);
    egret.message("egret env");
}

#[test]
fn the_metrics_have_the_names_that_dashboards_use() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(upstream.address).start();
    let mut raw = egret.raw();
    raw.send(get(&egret));
    assert_eq!(raw.answer().status, 200);
    raw.send("GET http://evil.test/ HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    assert_eq!(raw.answer().status, 407);
    let decided = |tenant: &str, integration: &str, decision: &str, code: &str| {
        egret.metric(&format!(
            "egret_decisions_total{{tenant=\"{tenant}\",integration=\"{integration}\",decision=\"{decision}\",code=\"{code}\"}}"
        ))
    };
    assert_eq!(decided("acme", "good", "allow", ""), 1.0);
    assert_eq!(decided("", "", "deny", "identity_missing"), 1.0);
    assert_eq!(egret.metric("egret_policy_reload_total{result=\"ok\"}"), 1.0);
    assert_eq!(egret.metric("egret_connections"), 1.0);
    assert_eq!(egret.metric("egret_audit_dropped_total"), 0.0);
    eventually("the duration", || {
        (egret.metric("egret_request_duration_seconds_count") == 2.0).then_some(())
    });
    let (_, text) = egret.page("/metrics");
    for name in [
        "egret_policy_info{",
        "egret_policy_age_seconds ",
        "egret_jwks_age_seconds{issuer=",
        "egret_build_info{version=\"",
        "egret_leaf_certificates_minted_total",
        "egret_tunnels",
    ] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(egret.page("/elsewhere").0, 404);
}

// --- commands -------------------------------------------------------------------------------------------------

/// Runs a command of egret in a directory, with this environment alone.
fn command(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn health_tells_alive_from_ready_from_gone() {
    let server = Live::http(|_| std::future::pending());
    let source = format!("url: 'http://{}/jwks.json'", server.address);
    let egret = house("127.0.0.1:9".parse().unwrap()).keys(&source).start();
    let admin = egret.admin().to_string();
    let dir = egret.dir().to_path_buf();
    let ask = |more: &[&str]| {
        let output = command(&dir, &[], &[&["health", "--admin", &admin], more].concat());
        (output.status.code().unwrap(), err(&output))
    };
    assert_eq!(ask(&[]), (0, String::new()));
    let (code, said) = ask(&["--ready"]);
    assert_eq!(code, 1);
    assert!(said.starts_with("pending: "), "{said}");
    let held = egret;
    drop(held.page("/healthz"));
    let mut gone = held;
    gone.kill();
    assert_eq!(ask(&[]).0, 69);
}

#[test]
fn the_authority_is_made_shown_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| command(dir.path(), &[], args);
    assert_eq!(run(&["ca", "show"]).status.code(), Some(78), "there is none yet");
    let made = run(&["ca", "init"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    let pem = fs::read_to_string(dir.path().join(out(&made).trim())).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    let key = fs::metadata(dir.path().join("certs/ca.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    assert_eq!(run(&["ca", "init"]).status.code(), Some(78), "what is there is never replaced");
    let shown = out(&run(&["ca", "show"]));
    let fingerprint = err(&made).lines().find_map(|l| l.strip_prefix("sha256 ").map(str::to_owned)).unwrap();
    assert!(shown.contains(&fingerprint) && shown.contains("ends"), "{shown}");
    assert_eq!(out(&run(&["ca", "export"])).trim(), pem.trim());
    assert_eq!(run(&["ca", "export", "--bundle", "-o", "bundle.pem"]).status.code(), Some(0));
    assert!(fs::read_to_string(dir.path().join("bundle.pem")).unwrap().contains(pem.trim()));
}

#[test]
fn the_variables_are_written_for_each_shell() {
    let dir = tempfile::tempdir().unwrap();
    let development = [("EGRET_IDENTITY_DEVELOPMENT", "dev")];
    for (shell, line) in [
        ("sh", "export HTTPS_PROXY='http://bot:"),
        ("fish", "set -gx HTTPS_PROXY 'http://bot:"),
        ("powershell", "$env:HTTPS_PROXY = 'http://bot:"),
        ("dotenv", "HTTPS_PROXY=\"http://bot:"),
        ("docker", "HTTPS_PROXY=http://bot:"),
    ] {
        let output = command(dir.path(), &development, &["env", "--shell", shell, "--as", "acme/bot"]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let text = out(&output);
        assert!(text.lines().any(|l| l.starts_with(line)), "{shell}: {text}");
        for name in ["http_proxy", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "GIT_SSL_CAINFO"] {
            assert!(text.contains(name), "{shell}: {name}");
        }
    }
    // A shell takes it back.
    let script =
        format!("eval \"$({BINARY} env)\" && test -f \"$SSL_CERT_FILE\" && printf %s \"$HTTP_PROXY\"");
    let output =
        Command::new("/bin/sh").args(["-c", &script]).current_dir(dir.path()).env_clear().output().unwrap();
    assert_eq!(out(&output), "http://127.0.0.1:8080", "{}", err(&output));
    assert_eq!(
        command(dir.path(), &[], &["env", "--as", "acme/bot"]).status.code(),
        Some(78),
        "no development issuer"
    );
}

#[test]
fn a_minted_token_opens_a_proxy_with_the_development_issuer() {
    let upstream = Upstream::echo("api.good.test");
    let egret = house(upstream.address).keys("").env("EGRET_IDENTITY_DEVELOPMENT", "dev").start();
    let minted = command(
        egret.dir(),
        &[("EGRET_IDENTITY_DEVELOPMENT", "dev")],
        &["token", "mint", "--as", "acme/bot"],
    );
    assert_eq!(minted.status.code(), Some(0), "{}", err(&minted));
    let mut raw = egret.raw();
    raw.send(format!(
        "GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\nproxy-authorization: Bearer {}\r\n\r\n",
        out(&minted).trim()
    ));
    assert_eq!(raw.answer().status, 200);
    for (args, code) in [
        (&["token", "mint", "--as", "nobody"][..], 2),
        (&["token", "mint", "--as", "acme/bot"], 78),
        (&["token", "mint", "--as", "acme/bot", "--dir", "dev", "--lifetime", "soon"], 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(command(dir.path(), &[], args).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn run_gives_a_command_a_private_proxy_and_ends_like_it() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address)
        .keys("")
        .settings("store: {url: 'env:STORE_URL', key: 'env:STORE_KEY', old_keys: ['env:OLD_KEY']}\n");
    house.write_settings();
    let run = |script: &str| {
        let args = ["run", "--as", "acme/bot", "--", "/bin/sh", "-c", script];
        let names = ["KEY", "STORE_URL", "STORE_KEY", "OLD_KEY"];
        command(house.dir.path(), &names.map(|name| (name, "sk-live-4f8a2c19d7e6b305")), &args)
    };
    let output = run("echo $HTTPS_PROXY; echo $KEY; cat $NODE_EXTRA_CA_CERTS; exit 7");
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
    let text = out(&output);
    assert!(text.starts_with("http://bot:") && text.contains("@127.0.0.1:"), "{text}");
    assert!(text.contains("-----BEGIN CERTIFICATE-----"), "{text}");
    assert!(!text.contains("eyJ"), "the command holds no token: {text}");
    let hidden = ["egret-placeholder"; 4].join(" ");
    assert_eq!(out(&run("echo $KEY $STORE_URL $STORE_KEY $OLD_KEY")).trim(), hidden);
    assert_eq!(run("kill -TERM $$").status.code(), Some(128 + 15));
    for (program, code) in [("no-such-program", 127), ("/", 126)] {
        let output = command(
            house.dir.path(),
            &[("KEY", "x-0123456789")],
            &["run", "--as", "acme/bot", "--", program],
        );
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
    }
    assert_eq!(command(house.dir.path(), &[], &["run", "--as", "acme/bot"]).status.code(), Some(2));
}

/// What runs inside sends a request with nothing but its environment; who knows only the port gets nothing.
#[test]
fn a_command_reaches_its_upstream_through_its_private_proxy() {
    let upstream = Upstream::echo("api.good.test");
    let house = house(upstream.address).keys("");
    house.write_settings();
    let mut child = Command::new(BINARY)
        .args(["run", "--as", "acme/bot", "--", "/bin/sh", "-c", "echo $HTTP_PROXY; read wait"])
        .current_dir(house.dir.path())
        .env_clear()
        .env("KEY", "sk-live-4f8a2c19d7e6b305")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let (login, address) = line.trim().strip_prefix("http://").unwrap().split_once('@').unwrap();
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, login);
    for (header, status) in [
        (format!("proxy-authorization: Basic {basic}\r\n"), 200),
        (String::new(), 407),
        ("proxy-authorization: Basic Ym90Omd1ZXNz\r\n".to_owned(), 407),
    ] {
        let mut raw = Raw::connect(address.parse().unwrap());
        raw.send(format!("GET http://api.good.test/a HTTP/1.1\r\nhost: api.good.test\r\n{header}\r\n"));
        assert_eq!(raw.answer().status, status);
    }
    assert_eq!(upstream.last().header("authorization").as_deref(), Some("Bearer sk-live-4f8a2c19d7e6b305"));
    child.stdin.take().unwrap().write_all(b"done\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_settings_say_where_they_come_from() {
    let house = house("127.0.0.1:9".parse().unwrap()).settings("drain_timeout: 5s\n");
    house.write_settings();
    let env = [("EGRET_LISTEN_ADMIN", "127.0.0.1:7777")];
    let shown = command(house.dir.path(), &env, &["config", "show", "--origin", "--set", "log=debug"]);
    assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
    let text = out(&shown);
    for (key, value, origin) in [
        ("drain_timeout", "5s", "egret.yaml:"),
        ("listen.admin", "127.0.0.1:7777", "environment EGRET_LISTEN_ADMIN"),
        ("log", "debug", "command line"),
        ("audit.durability", "best_effort", "default"),
        ("listen.header_timeout", "60s", "default"),
    ] {
        let line = text
            .lines()
            .find(|l| l.split_whitespace().next() == Some(key))
            .unwrap_or_else(|| panic!("{key}: {text}"));
        assert!(line.contains(value) && line.contains(origin), "{line}");
    }
    let json = command(house.dir.path(), &env, &["config", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.as_array().unwrap().iter().any(|s| s["key"] == "drain_timeout" && s["value"] == "5s"));
    assert_eq!(
        command(house.dir.path(), &[], &["config", "show", "--set", "surprise=1"]).status.code(),
        Some(78)
    );
}

#[test]
fn completions_are_printed_for_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let bash = command(dir.path(), &[], &["completions", "bash"]);
    assert_eq!(bash.status.code(), Some(0));
    assert!(out(&bash).contains("complete -F _egret"), "{}", out(&bash));
    assert_eq!(command(dir.path(), &[], &["no-such-command"]).status.code(), Some(2));
}
