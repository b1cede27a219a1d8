//! A person connects an integration, and requests carry the person's token: through the real binary.

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
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use support::{
    Answer, Egret, House, Seen, Upstream, egret::BINARY, egret::command as egret, live::eventually,
    token_with, upstream::full,
};

/// A provider that issues numbered tokens, and an API that takes the newest.
#[derive(Default)]
struct Provider {
    /// The newest access token's number.
    newest: Mutex<u32>,
    /// The one that the API takes, where that is not the first.
    wants: Mutex<u32>,
    /// How many looks a device's code needs.
    looks: Mutex<u32>,
    calls: Mutex<Vec<BTreeMap<String, String>>>,
}

fn params(text: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned()
    };
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    text.split('&').filter_map(pair).collect()
}

impl Provider {
    fn issue(&self) -> Value {
        let mut newest = self.newest.lock().unwrap();
        *newest += 1;
        json!({
            "access_token": format!("at-planted-{newest}"), "refresh_token": format!("rt-planted-{newest}"),
            "token_type": "Bearer", "expires_in": 3600, "scope": "mail.read mail.send",
        })
    }

    fn answer(&self, seen: &Seen) -> (u16, Value) {
        let form = params(&String::from_utf8_lossy(&seen.body));
        self.calls.lock().unwrap().push(form.clone());
        match (seen.target.as_str(), form.get("grant_type").map(String::as_str)) {
            ("/device", _) => (
                200,
                json!({
                    "device_code": "dc-planted", "user_code": "WDJB-MJHT", "interval": 0, "expires_in": 60,
                    "verification_uri": "https://idp.example/device",
                }),
            ),
            ("/revoke", _) => (200, json!({})),
            (_, Some("urn:ietf:params:oauth:grant-type:device_code")) => {
                let mut looks = self.looks.lock().unwrap();
                *looks += 1;
                if *looks < 3 {
                    (400, json!({"error": "authorization_pending"}))
                } else {
                    (200, self.issue())
                }
            }
            (_, Some("refresh_token")) => {
                let good = format!("rt-planted-{}", self.newest.lock().unwrap());
                if form["refresh_token"] == good {
                    (200, self.issue())
                } else {
                    (400, json!({"error": "invalid_grant"}))
                }
            }
            (_, Some("authorization_code")) if form["code"] == "c0de" => (200, self.issue()),
            _ => (400, json!({"error": "invalid_grant"})),
        }
    }

    fn calls(&self) -> Vec<BTreeMap<String, String>> {
        self.calls.lock().unwrap().clone()
    }
}

struct Scene {
    provider: Arc<Provider>,
    _idp: Upstream,
    api: Upstream,
    house: House,
}

fn scene() -> Scene {
    let provider = Arc::new(Provider::default());
    let answers = provider.clone();
    let idp = Upstream::http(move |seen| {
        let (status, body) = answers.answer(seen);
        full(status, &[("content-type", "application/json")], body.to_string())
    });
    let takes = provider.clone();
    let api = Upstream::https1("api.good.test", move |seen| {
        let wanted = format!("Bearer at-planted-{}", (*takes.wants.lock().unwrap()).max(1));
        let status = match seen.header("authorization") {
            _ if seen.target.ends_with("/revoked") => 403,
            Some(sent) if sent == wanted => 200,
            _ => 401,
        };
        full(status, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "done")
    });
    let idp_at = idp.address;
    let policy = format!(
        "version: 1
providers:
  idp:
    authorize_url: \"http://127.0.0.1:{port}/authorize?hd=x\"
    token_url: \"http://127.0.0.1:{port}/token\"
    device_url: \"http://127.0.0.1:{port}/device\"
    revoke_url: \"http://127.0.0.1:{port}/revoke\"
    authorize_params: {{prompt: consent}}
    allow_private_addresses: true
services:
  mail:
    hosts: [api.good.test]
    allow_private_addresses: true
    errors: [{{status: 403, class: revoked}}]
    roles:
      reader: [{{scopes: [mail.read]}}, GET /**]
      sender: [{{include: reader}}, {{scopes: [mail.send]}}, POST /**]
      admin: [{{include: sender}}, {{scopes: [mail.admin]}}, DELETE /**]
tenants:
  acme:
    integrations:
      mail: {{tier: USER, credential: {{oauth: {{provider: idp, client_id: \"cl 1\", client_secret: \"file:client\"}}}}}}
    agents: {{bot: {{mail: sender}}}}
  keys:
    integrations:
      mail: {{tier: USER, credential: {{byok: {{}}}}}}
    agents: {{bot: {{mail: sender}}}}
",
        port = idp_at.port()
    );
    let house = House::new(&policy).resolve("api.good.test", api.address);
    let house = house.file("policies/client", "cs-planted\n").file("client", "cs-planted\n");
    house.write_settings();
    Scene { provider, _idp: idp, api, house }
}

const ANN: &str = "ann@acme.example";

fn ask(egret: &Egret, user: Option<&str>, request: &str) -> Answer {
    let token = token_with(&egret.house.issuer, "acme/bot", user, Value::Null);
    let mut raw = egret.raw();
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    raw.send(format!(
        "{head}\r\nhost: api.good.test\r\nproxy-authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    raw.answer()
}

const GET: &str = "GET http://api.good.test/a HTTP/1.1";
const POST: &str = "POST http://api.good.test/a HTTP/1.1\r\n\r\nhello";

/// A command that waits for a person.
struct Waiting(Child);

impl Waiting {
    fn begin(dir: &Path, args: &[&str]) -> (Self, String) {
        let mut child = Command::new(BINARY)
            .args(args)
            .current_dir(dir)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            panic!("no URL: {text}");
        }
        (Self(child), line.trim_end().to_owned())
    }

    fn end(mut self) -> (i32, String) {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(!text.contains("planted"), "{text}");
        (self.0.wait().unwrap().code().unwrap(), text)
    }
}

/// A browser that comes back.
fn browse(redirect_uri: &str, query: &str) -> String {
    let rest = redirect_uri.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority.replace("localhost", "127.0.0.1")).unwrap();
    write!(stream, "GET /{path}?{query} HTTP/1.1\r\nhost: {authority}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn connect(dir: &Path, more: &[&str]) -> (Waiting, String, BTreeMap<String, String>) {
    let args = [&["connect", "mail", "--tenant", "acme", "--user", ANN][..], more].concat();
    let (waiting, url) = Waiting::begin(dir, &args);
    let (page, query) = url.split_once('?').unwrap();
    (waiting, page.to_owned(), params(query))
}

#[test]
fn a_person_agrees_and_requests_carry_that_person_s_token_and_no_other_s() {
    let Scene { provider, api, house, _idp } = scene();
    let dir = house.dir.path().to_owned();
    let mut egret_runs = house.start();
    let running = &mut egret_runs;
    assert_eq!(ask(running, None, GET).code(), "user_missing");
    let missing = ask(running, Some(ANN), GET);
    assert_eq!(missing.code(), "credential_missing");
    let url = missing.json()["connect_url"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("http://{}/connect/acme/mail?user=ann%40acme.example", running.admin()));
    assert!(
        missing.all("link").iter().any(|link| *link == format!("<{url}>; rel=\"connect\"")),
        "{:?}",
        missing.all("link")
    );

    let (waiting, page, asked) = connect(&dir, &[]);
    assert!(page.ends_with("/authorize"), "{page}");
    for (name, value) in [
        ("hd", "x"),
        ("response_type", "code"),
        ("client_id", "cl 1"),
        ("scope", "mail.read mail.send"),
        ("code_challenge_method", "S256"),
        ("prompt", "consent"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    let back = &asked["redirect_uri"];
    // Somebody who guesses is waited past.
    browse(back, "code=evil&state=guessed");
    assert!(browse(back, &format!("state={}&code=c0de", asked["state"])).contains("You can close this page"));
    let (code, text) = waiting.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("granted: mail.read mail.send"), "{text}");
    let redeemed = provider.calls().pop().unwrap();
    assert_eq!(redeemed["redirect_uri"], *back);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, redeemed["code_verifier"].as_bytes());
    let challenge = {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    };
    assert_eq!(asked["code_challenge"], challenge);

    eventually("the connection is found", || (ask(running, Some(ANN), GET).status == 200).then_some(()));
    assert_eq!(api.last().header("authorization"), Some("Bearer at-planted-1".to_owned()));
    assert_eq!(ask(running, Some("bob@acme.example"), GET).code(), "credential_missing");

    let (out, _) = listed(&dir);
    assert!(out.contains(ANN) && out.contains("active") && out.contains("mail.read mail.send"), "{out}");
    let done = egret(&dir, &["connections", "revoke", "mail", "--tenant", "acme", "--user", ANN], "");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(provider.calls().pop().unwrap()["token"], "rt-planted-1");
    eventually("the revocation is seen", || (ask(running, Some(ANN), GET).status != 200).then_some(()));
    let revoked = ask(running, Some(ANN), GET);
    assert_eq!((revoked.status, revoked.code().as_str()), (403, "auth_revoked"));
    assert_eq!(revoked.json()["reconnect_url"], *url);
    let everything = egret_runs.everything();
    assert!(!everything.contains("planted"), "{everything}");
}

fn listed(dir: &Path) -> (String, String) {
    let output = egret(dir, &["connections", "list", "--tenant", "acme"], "");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(!text(&output.stdout).contains("planted") && !text(&output.stderr).contains("planted"));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_token_that_the_upstream_refuses_is_renewed_and_the_request_sent_once_more() {
    let Scene { provider, api, house, _idp } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("state={}&code=c0de", asked["state"]));
    assert_eq!(waiting.end().0, 0);
    let running = house.start();
    assert_eq!(ask(&running, Some(ANN), GET).status, 200);

    // The API does not take it any more.
    *provider.wants.lock().unwrap() = 2;
    let answer = ask(&running, Some(ANN), GET);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("planted"));
    let carried =
        || -> Vec<String> { api.seen().iter().map(|seen| seen.header("authorization").unwrap()).collect() };
    assert_eq!(carried(), ["Bearer at-planted-1", "Bearer at-planted-1", "Bearer at-planted-2"]);
    // A body that streamed is gone: the agent sends it again, with the token that was had meanwhile.
    *provider.wants.lock().unwrap() = 3;
    let refused = ask(&running, Some(ANN), POST);
    assert_eq!(
        refused.code(),
        "credential_rejected",
        "a token that was had a moment ago for that very reason"
    );
    assert_eq!(carried().len(), 4);
}

#[test]
fn a_body_that_streamed_is_not_sent_again_but_the_next_request_has_another_token() {
    let Scene { provider, api, house, _idp } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("state={}&code=c0de", asked["state"]));
    assert_eq!(waiting.end().0, 0);
    let running = house.start();
    *provider.wants.lock().unwrap() = 2;
    let refused = ask(&running, Some(ANN), POST);
    assert_eq!((refused.status, refused.code().as_str()), (503, "credential_unavailable"));
    assert_eq!(refused.header("retry-after"), Some("5"));
    eventually("another token", || (ask(&running, Some(ANN), POST).status == 200).then_some(()));
    assert_eq!(api.last().header("authorization"), Some("Bearer at-planted-2".to_owned()));
    assert_eq!(api.last().body, "hello");
}

#[test]
fn who_hears_first_that_the_api_took_a_connection_back_is_told_where_to_connect_it_anew() {
    let Scene { api, house, _idp, .. } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("state={}&code=c0de", asked["state"]));
    assert_eq!(waiting.end().0, 0);
    let running = house.start();
    let page = format!("http://{}/connect/acme/mail?user=ann%40acme.example", running.admin());
    // The first is refused by what the API says, the second by what is known since then.
    for request in ["GET http://api.good.test/revoked HTTP/1.1", GET] {
        let refused = ask(&running, Some(ANN), request);
        assert_eq!((refused.status, refused.code().as_str()), (403, "auth_revoked"), "{request}");
        assert_eq!(refused.json()["reconnect_url"], *page, "{request}");
    }
    assert_eq!(api.seen().len(), 1);
}

#[test]
fn a_no_is_told_and_nothing_is_kept() {
    let Scene { house, _idp, .. } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("error=access_denied&state={}", asked["state"]));
    let (code, text) = waiting.end();
    assert_eq!((code, text.contains("the provider answered `access_denied`")), (69, true), "{text}");
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("code=other&state={}", asked["state"]));
    let (code, text) = waiting.end();
    assert_eq!((code, text.contains("`invalid_grant`")), (69, true), "{text}");
    assert_eq!(listed(&dir).0, "");
    for (args, part) in [
        (&["connect", "mail", "--tenant", "acme"][..], "say whom with `--user`"),
        (&["connect", "mial", "--tenant", "acme", "--user", ANN], "did you mean `mail`?"),
        (&["connect", "mail", "--tenant", "no", "--user", ANN], "no tenant `no`"),
        (&["connections", "revoke", "mail", "--tenant", "acme", "--user", ANN], "no such connection"),
    ] {
        let output = egret(&dir, args, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() != Some(0) && text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn a_device_s_code_connects_when_the_person_agreed() {
    let Scene { provider, api, house, _idp } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, url) =
        Waiting::begin(&dir, &["connect", "mail", "--tenant", "acme", "--user", ANN, "--device"]);
    assert_eq!(url, "https://idp.example/device");
    let (code, text) = waiting.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("WDJB-MJHT"), "{text}");
    let asked = &provider.calls()[0];
    assert_eq!((asked["client_id"].as_str(), asked["scope"].as_str()), ("cl 1", "mail.read mail.send"));
    let running = house.start();
    assert_eq!(ask(&running, Some(ANN), POST).status, 200);
    assert_eq!(api.last().header("authorization"), Some("Bearer at-planted-1".to_owned()));
}

#[test]
fn a_key_that_its_owner_deposits_is_that_person_s_alone() {
    let Scene { provider, api, house, _idp } = scene();
    let dir = house.dir.path().to_owned();
    let output = egret(&dir, &["connect", "mail", "--tenant", "keys", "--user", ANN], "at-planted-1\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let running = house.start();
    let token = |user| token_with(&running.house.issuer, "keys/bot", Some(user), Value::Null);
    let ask = |user| {
        let mut raw = running.raw();
        raw.send(format!(
            "{GET}\r\nhost: api.good.test\r\nproxy-authorization: Bearer {}\r\n\r\n",
            token(user)
        ));
        raw.answer()
    };
    assert_eq!(ask(ANN).status, 200);
    assert_eq!(api.last().header("authorization"), Some("Bearer at-planted-1".to_owned()));
    assert_eq!(ask("bob@acme.example").code(), "credential_missing");
    // There is nothing to renew it with, so it is not sent once more.
    *provider.wants.lock().unwrap() = 2;
    let before = api.seen().len();
    assert_eq!(ask(ANN).code(), "credential_rejected");
    assert_eq!(api.seen().len(), before + 1);
}

/// The forms in which a secret might stand somewhere.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    let bytes = secret.as_bytes();
    let hex = egret::secret::hex(bytes);
    let utf16 = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut all = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes(), utf16];
    for skip in 0..3 {
        // Somewhere in a longer text, so without the ends that its neighbours change.
        let encoded = [STANDARD.encode(&bytes[skip..]), URL_SAFE_NO_PAD.encode(&bytes[skip..])];
        all.extend(encoded.map(|text| text.trim_end_matches('=').as_bytes()[..12].to_vec()));
    }
    all.push(bytes.iter().rev().copied().collect());
    all
}

#[test]
fn nothing_of_a_connection_can_be_read_from_files_processes_or_outputs() {
    let Scene { provider, house, _idp, api: _api } = scene();
    let dir = house.dir.path().to_owned();
    let (waiting, _, asked) = connect(&dir, &[]);
    browse(&asked["redirect_uri"], &format!("state={}&code=c0de", asked["state"]));
    assert_eq!(waiting.end().0, 0);
    let secrets =
        ["at-planted-1", "rt-planted-1", &provider.calls()[0]["code_verifier"]].map(ToOwned::to_owned);
    let running = house.start();
    assert_eq!(ask(&running, Some(ANN), GET).status, 200);
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir.join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != "store.key") {
            texts.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(
        texts.iter().any(|(name, bytes)| name.contains("egret.db") && bytes.len() > 4096),
        "the store is there"
    );
    for file in ["cmdline", "environ", "status", "maps", "mountinfo"] {
        texts
            .push((file.to_owned(), fs::read(format!("/proc/{}/{file}", running.pid())).unwrap_or_default()));
    }
    let (out, err) = listed(&dir);
    let page = running.page("/metrics").1;
    texts.extend([("list".to_owned(), (out + &err).into_bytes()), ("metrics".to_owned(), page.into_bytes())]);
    texts.push(("log".to_owned(), running.everything().into_bytes()));
    for secret in &secrets {
        for form in forms(secret) {
            for (name, text) in &texts {
                assert!(!text.windows(form.len()).any(|window| window == form), "{secret} is in {name}");
            }
        }
    }
}

/// A browser that keeps its cookie.
struct Browser {
    to: std::net::SocketAddr,
    cookie: String,
}

impl Browser {
    fn send(&mut self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let mut raw = support::Raw::connect(self.to);
        let cookie =
            if self.cookie.is_empty() { String::new() } else { format!("cookie: a=b; {}\r\n", self.cookie) };
        raw.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\n{cookie}{headers}content-length: {}\r\n\r\n{body}",
            self.to,
            body.len()
        ));
        let answer = raw.answer();
        if let Some(set) = answer.header("set-cookie") {
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            set.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        answer
    }
}

#[test]
fn a_person_connects_on_the_pages_of_the_admin_listener_and_nobody_in_the_person_s_place() {
    let Scene { provider, house, _idp, api: _api } = scene();
    let running = house.start();
    let browser = || Browser { to: running.admin(), cookie: String::new() };
    let mut ann = browser();
    let page = ann.send("GET", "/connect/acme/mail?user=ann%40acme.example", "", "");
    let text = page.text();
    assert_eq!(page.status, 200);
    assert!(
        text.contains("ann@acme.example") && text.contains("mail.send") && !text.contains("mail.admin"),
        "{text}"
    );
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(
        browser()
            .send("GET", "/connect/acme/%3Cscript%3E?user=x", "", "")
            .text()
            .contains("an integration name")
    );
    assert_eq!(browser().send("GET", "/connect/acme/mail", "", "").status, 404);

    let form = "tenant=acme&integration=mail&user=ann%40acme.example";
    for headers in ["origin: https://evil.example\r\n", "sec-fetch-site: cross-site\r\n"] {
        assert_eq!(ann.send("POST", "/connect/start", headers, form).status, 403);
    }
    let sent = ann.send("POST", "/connect/start", "", form);
    assert_eq!(sent.status, 303);
    let asked = params(sent.header("location").unwrap().split_once('?').unwrap().1);
    assert_eq!(asked["redirect_uri"], format!("http://{}/connect/callback", running.admin()));
    let back = format!("/connect/callback?state={}&code=c0de", asked["state"]);
    // Another browser, a state that nobody asked for, and the same answer again.
    let mut other = browser();
    let twice = ann.send("POST", "/connect/start", "", form);
    let second = params(twice.header("location").unwrap().split_once('?').unwrap().1);
    assert_eq!(
        other.send("GET", &format!("/connect/callback?state={}&code=c0de", second["state"]), "", "").status,
        400
    );
    assert_eq!(ann.send("GET", "/connect/callback?state=guessed&code=c0de", "", "").status, 400);
    assert!(provider.calls().is_empty());

    // The second question took the first one's cookie: each browser has one.
    assert_eq!(ann.send("GET", &back, "", "").status, 400);
    let again = ann.send("POST", "/connect/start", "", form);
    let asked = params(again.header("location").unwrap().split_once('?').unwrap().1);
    let back = format!("/connect/callback?state={}&code=c0de", asked["state"]);
    let done = ann.send("GET", &back, "", "");
    assert!(done.status == 200 && done.text().contains("Connected"), "{}", done.text());
    assert_eq!(ann.send("GET", &back, "", "").status, 400, "an answer counts once");
    eventually("the connection is found", || (ask(&running, Some(ANN), GET).status == 200).then_some(()));
    // What is in use is not replaced from here.
    assert_eq!(ann.send("POST", "/connect/start", "", form).status, 409);
    let everything = running.everything();
    assert!(!everything.contains("planted"), "{everything}");
}
