//! `egret demo`: the one-command proof, on a machine with nothing else.
//!
//! A real HTTPS upstream, an issuer and the proxy run in this process on loopback ports; requests go through
//! both doors. Nothing is pretended: what is printed as received was read by the upstream from its socket.

mod client;
mod upstream;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Answer, Client};
use upstream::DemoUpstream;

use super::{data, exit, message, serve};
use crate::{
    audit::SinkKind,
    ca::CertificateAuthority,
    context::{AgentId, TenantId, UserId},
    identify::{DevIssuer, Mint},
    serve::{DEVELOPMENT_AUDIENCE, Parts, Running, StartError, open_audit},
    settings::{Given, Settings},
    tls::Trust,
};

/// The upstream's name. Nobody else answers to it: `.test` is reserved (RFC 6761).
const HOST: &str = "api.example.test";
/// Its port on the outside; the settings send it to the demo's own.
const POLICY: &str = "\
version: 1
services:
  example:
    hosts: [api.example.test]
    allow_private_addresses: true     # the demo's upstream is on this machine
    roles:
      reader:
        - GET /v1/**
tenants:
  acme:
    integrations:
      example: {credential: {static: {bearer: \"file:secret\"}}}
    agents:
      triage-bot: {example: reader}
  tiny:
    integrations:
      example: {credential: {static: {bearer: \"file:secret\"}}, limit: 1/min}
    agents:
      triage-bot: {example: reader}
";

/// One step of the demo: what to send, and what must come back.
struct Step {
    title: &'static str,
    tenant: &'static str,
    expired: bool,
    method: &'static str,
    url: &'static str,
    expect: (u16, Option<&'static str>),
}

const STEPS: [Step; 7] = [
    Step {
        title: "An allowed request, as plain HTTP; egret speaks TLS to the upstream",
        tenant: "acme",
        expired: false,
        method: "GET",
        url: "http://api.example.test/v1/items",
        expect: (200, None),
    },
    Step {
        title: "The same through CONNECT, with egret's certificate inside",
        tenant: "acme",
        expired: false,
        method: "GET",
        url: "https://api.example.test/v1/items",
        expect: (200, None),
    },
    Step {
        title: "A destination that no integration covers",
        tenant: "acme",
        expired: false,
        method: "GET",
        url: "http://evil.example.test/v1/items",
        expect: (403, Some("destination_not_allowed")),
    },
    Step {
        title: "A method that the role does not have, inside a tunnel",
        tenant: "acme",
        expired: false,
        method: "DELETE",
        url: "https://api.example.test/v1/items",
        expect: (403, Some("action_denied")),
    },
    Step {
        title: "An expired token",
        tenant: "acme",
        expired: true,
        method: "GET",
        url: "http://api.example.test/v1/items",
        expect: (407, Some("token_expired")),
    },
    Step {
        title: "A tenant with one request in a minute: the first",
        tenant: "tiny",
        expired: false,
        method: "GET",
        url: "http://api.example.test/v1/items",
        expect: (200, None),
    },
    Step {
        title: "… and the second",
        tenant: "tiny",
        expired: false,
        method: "GET",
        url: "http://api.example.test/v1/items",
        expect: (429, Some("rate_limited")),
    },
];

pub(super) fn demo() -> Result<u8, StartError> {
    let scratch = Scratch::make()?;
    serve::runtime(2)?.block_on(show(&scratch.0))
}

async fn show(dir: &Path) -> Result<u8, StartError> {
    let secret = format!("sk-demo-{}", crate::context::ulid(std::time::SystemTime::now()).to_lowercase());
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).map_err(|e| StartError::Unavailable(format!("{name}: {e}")))
    };
    write("policy.yaml", POLICY)?;
    write("secret", &secret)?;
    let outside = CertificateAuthority::ephemeral().map_err(|e| StartError::Unavailable(e.to_string()))?;
    let upstream = DemoUpstream::start(&outside, HOST).await?;
    let issuer = DevIssuer::ephemeral().map_err(|e| StartError::Unavailable(e.to_string()))?;
    let inside =
        Arc::new(CertificateAuthority::ephemeral().map_err(|e| StartError::Unavailable(e.to_string()))?);
    let running = house(dir, &upstream, &outside, &issuer, inside.clone()).await?;
    let proxy = running.addresses.proxy.ok_or_else(|| StartError::Unavailable("no proxy address".into()))?;
    data(format_args!(
        "upstream  https://{HOST}  (this process, {}), with its own certificate",
        upstream.address
    ));
    data(format_args!("proxy     http://{proxy}"));
    data(format_args!("secret    known to egret alone, shown below as [redacted]\n"));
    let mut surprises = 0;
    for step in &STEPS {
        surprises += u32::from(!one(step, proxy, &inside, &issuer, &upstream, &secret).await?);
    }
    running.stop().await;
    surprises += u32::from(!show_log(&dir.join("decisions.jsonl"), &secret)?);
    if surprises == 0 {
        data("All of it went as it should. Next: README.md, \"A local agent\".");
        return Ok(exit::OK);
    }
    message(format_args!("{surprises} of it did not go as it should"));
    Ok(exit::FINDINGS)
}

async fn house(
    dir: &Path,
    upstream: &DemoUpstream,
    outside: &CertificateAuthority,
    issuer: &DevIssuer,
    inside: Arc<CertificateAuthority>,
) -> Result<Running, StartError> {
    let flags: BTreeMap<String, String> =
        [("listen.proxy", "127.0.0.1:0"), ("listen.gateway", "off"), ("listen.admin", "off")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    let given = Given { flags, ..Given::default() };
    let (mut settings, _) = Settings::load(&given).map_err(|e| StartError::Configuration(e.to_string()))?;
    settings.policy = dir.join("policy.yaml");
    settings.sinks = vec![SinkKind::File(dir.join("decisions.jsonl"))];
    settings.drain_timeout = Duration::from_secs(2);
    let host = crate::target::Host::parse(HOST).map_err(|e| StartError::Configuration(e.to_string()))?;
    settings.upstream.resolve.insert(host, (upstream.address.ip(), Some(upstream.address.port())));
    let (audit, metrics) = open_audit(&settings)?;
    let policy = serve::load_policy(&settings, &audit, &metrics)?;
    let trust =
        Trust::only(outside.certificate().clone()).map_err(|e| StartError::Configuration(e.to_string()))?;
    let issuers = vec![issuer.config(DEVELOPMENT_AUDIENCE)];
    Running::start(
        &settings,
        Parts { policy, metrics, audit, authority: inside, trust, issuers, listeners: Vec::new() },
    )
    .await
}

/// Takes one step, prints it, and says whether it went as it should.
async fn one(
    step: &Step,
    proxy: SocketAddr,
    authority: &CertificateAuthority,
    issuer: &DevIssuer,
    upstream: &DemoUpstream,
    secret: &str,
) -> Result<bool, StartError> {
    let token = token(issuer, step)?;
    let client = Client { proxy, token, authority: authority.certificate().clone() };
    let Answer { status, headers, body } = client
        .send(step.method, step.url)
        .await
        .map_err(|e| StartError::Unavailable(format!("{}: {e}", step.title)))?;
    data(format_args!("── {}", step.title));
    data(format_args!("   the agent sent     {} {}", step.method, step.url));
    data(
        "                      proxy-authorization: Bearer <JWT>, x-agent-id: triage-bot, authorization: Bearer agents-own-key",
    );
    let received = upstream.take();
    match &received {
        Some(received) => {
            data(format_args!("   upstream received  {} {}", received.method, received.path));
            for (name, value) in &received.headers {
                data(format_args!("                      {name}: {}", value.replace(secret, "[redacted]")));
            }
        }
        None => data("   upstream received  nothing"),
    }
    let code = headers.get("proxy-status").map(|s| format!(" ({s})")).unwrap_or_default();
    data(format_args!("   the agent got      {status}{code}"));
    data(format_args!("                      {}\n", body.trim_end()));
    let (expected, refusal) = step.expect;
    let told = refusal.is_none_or(|code| body.contains(&format!("\"code\":\"{code}\"")));
    let injected = received.as_ref().is_some_and(|r| {
        r.headers.iter().any(|(n, v)| n == "authorization" && *v == format!("Bearer {secret}"))
    });
    let clean = received.as_ref().is_none_or(|r| {
        !r.headers.iter().any(|(_, v)| v.contains("agents-own-key") || v.contains(&client.token))
    });
    let scrubbed = !body.contains(secret) && (refusal.is_some() || body.contains("[redacted]"));
    Ok(status == expected && told && (refusal.is_some() != injected) && clean && scrubbed)
}

fn token(issuer: &DevIssuer, step: &Step) -> Result<String, StartError> {
    let wrong = |e: &dyn std::fmt::Display| StartError::Configuration(e.to_string());
    let mut extra = serde_json::Map::new();
    if step.expired {
        let then =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
                - 3600;
        extra.insert("iat".into(), (then - 600).into());
        extra.insert("exp".into(), then.into());
    }
    let mint = Mint {
        tenant: TenantId::parse(step.tenant).map_err(|e| wrong(&e))?,
        agent: Some(AgentId::parse("triage-bot").map_err(|e| wrong(&e))?),
        user: Some(UserId::parse("alice@acme.example").map_err(|e| wrong(&e))?),
        audience: DEVELOPMENT_AUDIENCE.into(),
        lifetime: Duration::from_secs(600),
        scopes: Vec::new(),
        extra,
    };
    issuer.mint(&mint).map_err(|e| wrong(&e))
}

/// Prints the decision log in short, and says whether it holds what it must and no secret.
fn show_log(path: &Path, secret: &str) -> Result<bool, StartError> {
    let text =
        fs::read_to_string(path).map_err(|e| StartError::Unavailable(format!("{}: {e}", path.display())))?;
    data("── The decision log (in full one JSON object a line; here its main fields)");
    let mut decisions = 0;
    for line in text.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).map_err(|e| StartError::Unavailable(e.to_string()))?;
        let field = |pointer: &str| match line.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => "-".into(),
            Some(other) => other.to_string(),
        };
        decisions += u32::from(field("/event") == "decision");
        let kind = field("/event");
        if kind == "decision" || kind == "outcome" {
            data(format_args!(
                "   {kind:8} {:6} {:24} {}/{} {} {}{} rule={} status={}",
                field("/decision"),
                field("/code"),
                field("/tenant_id"),
                field("/agent_id"),
                field("/http/request_method"),
                field("/http/host"),
                field("/http/path"),
                field("/policy/rule"),
                field("/http/response_status_code")
            ));
        }
    }
    data("");
    Ok(decisions as usize == STEPS.len() && !text.contains(secret))
}

/// A directory for this run, removed after it.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, StartError> {
        let dir = std::env::temp_dir()
            .join(format!("egret-demo-{}", crate::context::ulid(std::time::SystemTime::now())));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|e| StartError::Unavailable(format!("{}: {e}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
