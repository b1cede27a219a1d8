//! The whole way of a request beside a bare hyper forwarder, in one run on one machine.
//!
//! What is reported is CPU time per request (user and system, from the kernel's accounting of the process) and
//! resident memory: on a shared machine latencies are orders of magnitude only. The forwarder checks nothing and
//! records nothing: it is the floor that egret's work is measured against.
//!
//! `cargo bench --bench way [-- REQUESTS]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on fails"
)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that prints figures"
)]

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use egret::{
    ca::CertificateAuthority,
    context::{AgentId, TenantId},
    identify::{DevIssuer, Mint},
    target::Host,
    tls::{self, Trust},
};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    pki_types::ServerName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;
const HOST: &str = "api.bench.test";

fn main() {
    tls::install();
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.get(1).map(String::as_str) {
        Some("upstream") => runtime.block_on(upstream(&args[2])),
        Some("floor") => runtime.block_on(floor(args[2].parse().unwrap())),
        _ => {
            let requests = args.iter().skip(1).find_map(|a| a.parse().ok()).unwrap_or(20_000);
            runtime.block_on(measure(requests));
        }
    }
}

/// One way to send requests through one process.
struct Workload {
    name: &'static str,
    process: &'static str,
    to: SocketAddr,
    request: String,
    tunnel: Option<(String, TlsConnector)>,
}

async fn measure(requests: usize) {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::create(&dir.path().join("outside")).unwrap();
    let issuer = DevIssuer::ephemeral().unwrap();
    let upstreams = Process::start(
        Command::new(std::env::current_exe().unwrap()).arg("upstream").arg(dir.path().join("outside")),
    );
    let (plain, secure) = (upstreams.addresses[0], upstreams.addresses[1]);
    let floor =
        Process::start(Command::new(std::env::current_exe().unwrap()).arg("floor").arg(plain.to_string()));
    let egret = Process::start(house(dir.path(), &issuer, plain, secure));
    let token = issuer
        .mint(&Mint {
            tenant: TenantId::parse("acme").unwrap(),
            agent: Some(AgentId::parse("bot").unwrap()),
            user: None,
            audience: "egret".into(),
            lifetime: Duration::from_secs(3600),
            scopes: vec![],
            extra: serde_json::Map::new(),
        })
        .unwrap();
    println!("idle RSS: egret {:.1} MB, bare hyper {:.1} MB\n", egret.rss(), floor.rss());
    let inside = CertificateAuthority::open(&dir.path().join("certs")).unwrap();
    let config = Trust::only(inside.certificate().clone()).unwrap().client().config(true).unwrap();
    let identity = format!("proxy-authorization: Bearer {token}\r\n");
    let common = "user-agent: bench/1\r\naccept: */*\r\n";
    let workloads = [
        Workload {
            name: "plain HTTP to HTTP",
            process: "bare hyper",
            to: floor.addresses[0],
            request: format!(
                "GET http://plain.bench.test/v1/items HTTP/1.1\r\nhost: plain.bench.test\r\n{common}\r\n"
            ),
            tunnel: None,
        },
        Workload {
            name: "plain HTTP to HTTP, whole mission",
            process: "egret",
            to: egret.addresses[0],
            request: format!(
                "GET http://plain.bench.test/v1/items HTTP/1.1\r\nhost: plain.bench.test\r\n{identity}{common}\r\n"
            ),
            tunnel: None,
        },
        Workload {
            name: "plain HTTP to TLS, whole mission",
            process: "egret",
            to: egret.addresses[0],
            request: format!("GET http://{HOST}/v1/items HTTP/1.1\r\nhost: {HOST}\r\n{identity}{common}\r\n"),
            tunnel: None,
        },
        Workload {
            name: "CONNECT and interception, whole mission",
            process: "egret",
            to: egret.addresses[0],
            request: format!("GET /v1/items HTTP/1.1\r\nhost: {HOST}\r\n{common}\r\n"),
            tunnel: Some((identity.clone(), TlsConnector::from(config))),
        },
    ];
    let mut figures: Vec<Vec<(f64, u64, u64)>> = workloads.iter().map(|_| Vec::new()).collect();
    // Interleaved rounds: what disturbs the machine disturbs all.
    for _ in 0..ROUNDS {
        for (workload, figures) in workloads.iter().zip(&mut figures) {
            let process = if workload.process == "egret" { &egret } else { &floor };
            load(workload, requests / 10).await; // warm
            let before = process.cpu();
            let mut latencies = load(workload, requests).await;
            let cpu = process.cpu().saturating_sub(before).as_secs_f64() * 1e6 / requests as f64;
            latencies.sort_unstable();
            figures.push((cpu, latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]));
        }
    }
    println!(
        "{:42} {:>12} {:>8} {:>9} {:>9}",
        "workload (16 keep-alive connections, 1 KiB)", "CPU us/req", "ratio", "p50 us", "p99 us"
    );
    let median = |figures: &[(f64, u64, u64)]| {
        let mut sorted = figures.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted[sorted.len() / 2]
    };
    let base = median(&figures[0]).0;
    for (workload, figures) in workloads.iter().zip(&figures) {
        let (cpu, p50, p99) = median(figures);
        println!(
            "{:42} {cpu:>12.1} {:>8.2} {p50:>9} {p99:>9}",
            format!("{}: {}", workload.process, workload.name),
            cpu / base
        );
    }
    println!("\nRSS after: egret {:.1} MB, bare hyper {:.1} MB", egret.rss(), floor.rss());
}

fn house(dir: &std::path::Path, issuer: &DevIssuer, plain: SocketAddr, secure: SocketAddr) -> Command {
    let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    fs::create_dir(dir.join("policies")).unwrap();
    write(
        "policies/policy.yaml",
        format!(
            "version: 1\nservices:\n  secure: {{hosts: [{HOST}], allow_private_addresses: true, roles: {{reader: [GET /v1/**]}}}}\n  \
             plain: {{hosts: [plain.bench.test], scheme: http, allow_private_addresses: true, roles: {{reader: [GET /v1/**]}}}}\n\
             tenants:\n  acme:\n    integrations:\n      secure: {{credential: {{static: {{bearer: 'env:KEY'}}}}, limit: 100000000/min}}\n      \
             plain: {{credential: {{static: {{bearer: 'env:KEY'}}}}, limit: 100000000/min}}\n    agents:\n      bot: {{secure: reader, plain: reader}}\n"
        ),
    );
    write("jwks.json", issuer.jwks().to_owned());
    write(
        "egret.yaml",
        format!(
            "listen: {{proxy: '127.0.0.1:0', gateway: off, admin: off}}\nworkers: 1\n\
             identity: {{issuers: [{{issuer: '{}', jwks: {{file: jwks.json}}, audience: egret}}]}}\n\
             audit: {{sinks: ['file:decisions.jsonl']}}\n\
             upstream: {{extra_ca: [outside/ca.pem], resolve: {{{HOST}: '{secure}', plain.bench.test: '{plain}'}}}}\n",
            DevIssuer::NAME
        ),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    command
        .args(["serve", "--config"])
        .arg(dir.join("egret.yaml"))
        .current_dir(dir)
        .env("KEY", "sk-bench-0123456789abcdef");
    command
}

/// Sends `count` requests over kept connections, each as soon as the last was answered.
async fn load(workload: &Workload, count: usize) -> Vec<u64> {
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let local = tokio::task::LocalSet::new();
    for _ in 0..CONNECTIONS {
        let (latencies, request, to, tunnel) =
            (latencies.clone(), workload.request.clone(), workload.to, workload.tunnel.clone());
        local.spawn_local(async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            match tunnel {
                None => exchange(&mut stream, &request, count / CONNECTIONS, &latencies).await,
                Some((identity, connector)) => {
                    stream
                        .write_all(
                            format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n{identity}\r\n")
                                .as_bytes(),
                        )
                        .await
                        .unwrap();
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
                    let mut stream =
                        connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
                    exchange(&mut stream, &request, count / CONNECTIONS, &latencies).await;
                }
            }
        });
    }
    local.await;
    std::mem::take(&mut *latencies.lock().unwrap())
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &str,
    count: usize,
    latencies: &Mutex<Vec<u64>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..count {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut filled, mut needed) = (0, usize::MAX);
        while filled < needed {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&buffer[..filled]));
            filled += read;
            if needed == usize::MAX
                && let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n")
            {
                let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
                let length: usize = head
                    .split("content-length: ")
                    .nth(1)
                    .unwrap()
                    .split("\r\n")
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                needed = end + 4 + length;
            }
        }
        latencies.lock().unwrap().push(u64::try_from(started.elapsed().as_micros()).unwrap());
    }
}

/// 1 KiB of JSON, in the clear and over TLS, HTTP/1.1.
async fn upstream(authority: &str) {
    let authority = CertificateAuthority::open(authority.as_ref()).unwrap();
    let (certificate, _) = authority.mint(&Host::parse(HOST).unwrap()).unwrap();
    let mut config = tls::server(Arc::new(Always(certificate))).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (plain, secure) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    println!("listens {} {}", plain.local_addr().unwrap(), secure.local_addr().unwrap());
    let body = Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(1014)));
    let answer = move |_: Request<Incoming>| {
        let body = body.clone();
        async move {
            Ok::<_, Infallible>(
                Response::builder().header("content-type", "application/json").body(Full::new(body)).unwrap(),
            )
        }
    };
    loop {
        let answer = answer.clone();
        tokio::select! {
            accepted = plain.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move { server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await });
            }
            accepted = secure.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await
                });
            }
        }
    }
}

type Idle = Arc<Mutex<VecDeque<client::SendRequest<Incoming>>>>;

/// The floor: absolute-form in, one header replaced, kept connections out, nothing else.
async fn floor(upstream: SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listens {}", socket.local_addr().unwrap());
    let idle: Idle = Arc::default();
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let idle = idle.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(request, idle.clone(), upstream));
            server::Builder::new().serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn forward(
    mut request: Request<Incoming>,
    idle: Idle,
    upstream: SocketAddr,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::Error> {
    *request.uri_mut() =
        request.uri().path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer sk-bench-0123456789abcdef"));
    let kept = idle.lock().unwrap().pop_back();
    let mut sender = if let Some(sender) = kept {
        sender
    } else {
        let stream = TcpStream::connect(upstream).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender
    };
    let response = sender.send_request(request).await?;
    Ok(response.map(|inner| Returned { inner, back: Some((idle, sender)) }.boxed()))
}

/// Gives the connection back when the body is done.
struct Returned {
    inner: Incoming,
    back: Option<(Idle, client::SendRequest<Incoming>)>,
}

impl http_body::Body for Returned {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        std::pin::Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let Some((idle, sender)) = self.back.take() {
            idle.lock().unwrap().push_back(sender);
        }
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A process under measurement. Killed when dropped.
struct Process {
    child: Child,
    addresses: Vec<SocketAddr>,
    /// Held open: a program may say more.
    _said: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Process {
    /// Starts it and reads its addresses from the first line that has some.
    fn start(mut command: impl std::borrow::BorrowMut<Command>) -> Self {
        let mut child = command
            .borrow_mut()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines: Box<dyn Iterator<Item = std::io::Result<String>>> =
            Box::new(BufReader::new(child.stderr.take().unwrap()).lines());
        if command.borrow_mut().get_program() != env!("CARGO_BIN_EXE_egret") {
            lines = Box::new(BufReader::new(child.stdout.take().unwrap()).lines());
        }
        let addresses = lines
            .by_ref()
            .map_while(Result::ok)
            .map(|line| {
                line.split([' ', ',']).filter_map(|part| part.parse().ok()).collect::<Vec<SocketAddr>>()
            })
            .find(|addresses| !addresses.is_empty())
            .expect("it did not start");
        Self { child, addresses, _said: lines }
    }

    /// User and system time so far. The kernel counts in hundredths of a second.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in MB.
    fn rss(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
