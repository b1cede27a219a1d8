//! The real binary.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use ::egret::{ca::CertificateAuthority, identify::DevIssuer};
use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, Raw, Upstream, token_with};

/// What a test says before egret starts.
pub struct House {
    pub dir: TempDir,
    pub issuer: DevIssuer,
    pub settings: String,
    keys: String,
    descriptors: Option<u32>,
    resolve: Vec<(String, SocketAddr)>,
    listen: String,
    env: HashMap<String, String>,
}

impl House {
    /// A house with this policy. Its upstreams' authority is trusted, `api.good.test` and the like are resolved
    /// with [`House::resolve`].
    pub fn new(policy: &str) -> Self {
        egret::tls::install();
        let dir = tempfile::tempdir().unwrap();
        let issuer = DevIssuer::ephemeral().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        fs::write(dir.path().join("policies/policy.yaml"), policy).unwrap();
        fs::write(dir.path().join("jwks.json"), issuer.jwks()).unwrap();
        fs::write(dir.path().join("upstream-ca.pem"), Upstream::authority().pem()).unwrap();
        Self {
            dir,
            issuer,
            settings: String::new(),
            keys: "file: jwks.json".into(),
            descriptors: None,
            resolve: Vec::new(),
            listen: String::new(),
            env: HashMap::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the house's directory.
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Sends a name to an address; the last word counts.
    pub fn resolve(mut self, host: &str, to: SocketAddr) -> Self {
        self.resolve.retain(|(known, _)| known != host);
        self.resolve.push((host.into(), to));
        self
    }

    /// More listeners, as entries of `listen`.
    pub fn listen(mut self, entries: &str) -> Self {
        self.listen = format!(", {entries}");
        self
    }

    /// Sets a variable of egret's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// More lines for `egret.yaml` (top-level keys other than `listen`, `identity`, `policy`, `ca`, `upstream`).
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings.push_str(lines);
        self
    }

    /// Where the issuer's keys are: `file: …` or `url: …`; no issuer at all when empty.
    pub fn keys(mut self, source: &str) -> Self {
        self.keys = source.into();
        self
    }

    /// How many descriptors egret may have open.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Writes `egret.yaml`; `start` does it by itself.
    pub fn write_settings(&self) {
        let mut text = format!(
            "listen: {{proxy: '127.0.0.1:0', gateway: '127.0.0.1:0', admin: '127.0.0.1:0'{}}}\n",
            self.listen
        );
        if !self.keys.is_empty() {
            let issuer = [
                "identity:\n  issuers:\n    - issuer: ",
                DevIssuer::NAME,
                "\n      jwks: {",
                &self.keys,
                "}\n      audience: egret\n",
            ];
            text.push_str(&issuer.concat());
        }
        text.push_str("upstream:\n  extra_ca: [upstream-ca.pem]\n");
        if !self.resolve.is_empty() {
            text.push_str("  resolve:\n");
            for (host, to) in &self.resolve {
                text.extend(["    '", host, "': '", &to.to_string(), "'\n"]);
            }
        }
        text.push_str(&self.settings);
        fs::write(self.path("egret.yaml"), text).unwrap();
    }

    /// Starts egret and waits until it listens.
    pub fn start(self) -> Egret {
        self.write_settings();
        let mut child = self.command().spawn().unwrap();
        let messages = lines(child.stderr.take().unwrap());
        let log = lines(child.stdout.take().unwrap());
        let mut addresses = HashMap::new();
        let mut said = Vec::new();
        while let Ok(line) = messages.recv_timeout(PATIENCE) {
            said.push(line.clone());
            if let Some(list) = line.strip_prefix(concat!("egret ", env!("CARGO_PKG_VERSION"), ": ")) {
                for one in list.split(", ") {
                    if let Some((name, address)) = one.split_once(' ')
                        && let Ok(address) = address.parse()
                    {
                        addresses.insert(name.to_owned(), address);
                    }
                }
                break;
            }
        }
        assert!(!addresses.is_empty(), "egret did not start:\n{}", said.join("\n"));
        Egret { child, addresses, messages, log, house: self, seen: Vec::new() }
    }

    /// Starts egret where it must not start, and gives back its exit code and messages.
    pub fn fail(self) -> (Option<i32>, String) {
        self.write_settings();
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(BINARY),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), BINARY]);
                shell
            }
        };
        command.args(["serve", "--config"]).arg(self.path("egret.yaml")).current_dir(self.dir.path());
        command
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_egret");

/// Runs a command of egret's in a directory with an empty environment, and this on standard input.
pub fn command(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A running egret. Killed when dropped.
pub struct Egret {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
    messages: Receiver<String>,
    log: Receiver<String>,
    pub house: House,
    seen: Vec<Value>,
}

impl Egret {
    pub fn proxy(&self) -> SocketAddr {
        self.addresses["proxy"]
    }

    pub fn gateway(&self) -> SocketAddr {
        self.addresses["gateway"]
    }

    pub fn admin(&self) -> SocketAddr {
        self.addresses["admin"]
    }

    pub fn ambient(&self) -> SocketAddr {
        self.addresses["ambient"]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A token for `tenant/agent`.
    pub fn token(&self, who: &str) -> String {
        token_with(&self.house.issuer, who, Some("alice@acme.example"), Value::Null)
    }

    /// The authority that signs tunnels' certificates.
    pub fn authority(&self) -> CertificateAuthority {
        CertificateAuthority::open(&self.house.path("certs")).unwrap()
    }

    /// A raw connection to the proxy.
    pub fn raw(&self) -> Raw {
        Raw::connect(self.proxy())
    }

    /// The next record of the decision log that `wanted` likes; those before it are kept in `seen`.
    pub fn record(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .log
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("no such record; seen: {:#?}", self.seen));
            let record: Value =
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("not a JSON line: {e}: {line}"));
            self.seen.push(record.clone());
            if wanted(&record) {
                return record;
            }
        }
    }

    /// The next decision with this code; an empty code for an allowed request.
    pub fn decision(&mut self, code: &str) -> Value {
        self.record(|r| r["event"] == "decision" && r["code"].as_str().unwrap_or("") == code)
    }

    /// The next outcome.
    pub fn outcome(&mut self) -> Value {
        self.record(|r| r["event"] == "outcome")
    }

    /// Waits for a message on standard error.
    pub fn message(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.messages.recv_timeout(left).unwrap_or_else(|_| panic!("nobody said `{part}`"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Everything that egret wrote so far, to any output, after it has ended.
    pub fn everything(mut self) -> String {
        self.signal("TERM");
        let _ = self.wait();
        let mut all: Vec<String> = self.seen.iter().map(ToString::to_string).collect();
        all.extend(self.log.iter());
        all.extend(self.messages.iter());
        all.join("\n")
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Ends it as the kernel would, without a word.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A figure of `/proc/<pid>/status`, in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// A sample of `/metrics`: the value of the line that begins with `name`, labels included; zero without one.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.page("/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "egret did not end");
            std::thread::yield_now();
        }
    }

    /// Changes a file of the house by renaming a new one into place.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.house.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.house.path(name)).unwrap();
    }

    pub fn dir(&self) -> &Path {
        self.house.dir.path()
    }

    /// The body of an admin page.
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut raw = Raw::connect(self.admin());
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"));
        let answer = raw.answer();
        (answer.status, answer.text())
    }
}

impl Drop for Egret {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a stream, read by a thread of their own.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
