//! `egret run`: one command behind a private proxy.
//!
//! The proxy lives inside this process, on a loopback port that opens only with a secret made for this run;
//! the agent's tokens are minted here, so the command holds nothing that is worth stealing.

use std::{
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{SettingsArgs, env, exit, message, serve, token::Who};
use crate::{
    ca::CertificateAuthority,
    identify::{DevIssuer, Mint},
    listen::{self, Ambient, Form, ListenerSettings, TokenSource, UnverifiedToken},
    secret::{Secret, hex},
    serve::{DEVELOPMENT_AUDIENCE, Parts, Running, StartError, open_audit},
    settings::SecretSource,
    telemetry,
    tls::Trust,
};

/// How long a token of the session lives, and after how long it is replaced.
const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
const TOKEN_FRESH: Duration = Duration::from_secs(10 * 60);
/// As shells have it: the command cannot be run, or is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The identity of the command
    #[arg(long = "as", value_name = "TENANT/AGENT")]
    who: Who,
    /// The person behind the agent
    #[arg(long)]
    user: Option<String>,
    /// Write decisions to standard error; without it they go where `audit.sinks` says, or nowhere
    #[arg(long)]
    log_decisions: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(args: &RunArgs) -> Result<u8, StartError> {
    let (mut settings, shown) = args.settings.load()?;
    // Standard output belongs to the command: decisions go there only when the operator said so.
    let said = shown.iter().any(|s| s.key == "audit.sinks" && s.origin != crate::settings::Origin::Default);
    if !said {
        settings.sinks = if args.log_decisions { vec![crate::audit::SinkKind::Stderr] } else { Vec::new() };
    }
    // The private listener is the only one.
    (settings.proxy, settings.gateway, settings.admin) = (None, None, None);
    settings.ambient.clear();
    settings.drain_timeout = Duration::from_secs(1);
    telemetry::start(&if settings.log == "info" { "warn".to_owned() } else { settings.log.clone() })
        .map_err(StartError::Configuration)?;
    serve::runtime(settings.workers)?.block_on(async {
        let user = args
            .user
            .as_deref()
            .map(crate::context::UserId::parse)
            .transpose()
            .map_err(|e| StartError::Configuration(e.to_string()))?;
        let issuer = DevIssuer::ephemeral().map_err(|e| StartError::Configuration(e.to_string()))?;
        let config = issuer.config(DEVELOPMENT_AUDIENCE);
        let mint = Mint {
            tenant: args.who.tenant.clone(),
            agent: Some(args.who.agent.clone()),
            user,
            audience: DEVELOPMENT_AUDIENCE.into(),
            lifetime: TOKEN_LIFE,
            scopes: Vec::new(),
            extra: serde_json::Map::new(),
        };
        let (audit, metrics) = open_audit(&settings)?;
        let policy = serve::load_policy(&settings, &audit, &metrics)?;
        let authority = CertificateAuthority::open_or_create(&settings.ca_dir)
            .map_err(|e| StartError::Configuration(format!("ca: {e}")))?;
        let trust_files = env::TrustFiles::write(&settings.ca_dir, &authority)?;
        let trust = Trust::load(&settings.upstream.extra_ca)
            .map_err(|e| StartError::Configuration(format!("upstream.extra_ca: {e}")))?;
        let (secret, password) = session_secret()?;
        let socket = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(|e| StartError::Unavailable(format!("no private port: {e}")))?;
        let source = TokenSource::Minted(Arc::new(Renewed { issuer, mint, kept: Mutex::default() }));
        let listener = ListenerSettings {
            form: Form::Proxy,
            ambient: Some(Ambient::Session { secret, source }),
            connections: settings.max_connections,
            header_timeout: settings.header_timeout,
            stall_timeout: settings.upstream.idle_timeout,
        };
        let parts = Parts {
            policy: policy.clone(),
            metrics: metrics.clone(),
            audit: audit.clone(),
            authority: Arc::new(authority),
            trust,
            issuers: vec![config],
            listeners: vec![(socket, listener)],
        };
        let running = Running::start(&settings, parts).await?;
        tokio::spawn(policy.clone().watch(audit, metrics));
        let Some(address) = running.addresses.others.first().copied() else {
            return Err(StartError::Unavailable("the private listener did not open".into()));
        };
        let mut variables = env::variables(address, Some((args.who.agent.as_str(), &password)), &trust_files);
        // The command inherits this process's environment, and that may hold the very secrets it must not have.
        let mut hidden: Vec<String> =
            policy.current().secret_variables().into_iter().map(str::to_owned).collect();
        hidden.extend(settings.secret_sources().filter_map(|source| match source {
            SecretSource::Env(name) => Some(name.clone()),
            SecretSource::File(_) | SecretSource::Exec(_) => None,
        }));
        hidden.extend(settings.sources.inherited().map(str::to_owned));
        variables.extend(hidden.into_iter().map(|name| (name, env::PLACEHOLDER.to_owned())));
        let code = supervise(&args.command, variables).await;
        running.stop().await;
        Ok(code)
    })
}

/// Runs the command, passes signals on, and gives back its code: `128 + signal` when one ended it.
async fn supervise(command: &[String], variables: Vec<(String, String)>) -> u8 {
    let Some((program, arguments)) = command.split_first() else { return exit::FINDINGS };
    let child = Command::new(program).args(arguments).envs(variables).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            message(format_args!("egret: {program}: {error}"));
            return if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
        }
    };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return exit::UNAVAILABLE };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return exit::UNAVAILABLE };
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return exit::UNAVAILABLE };
    loop {
        tokio::select! {
            ended = child.wait() => {
                let Ok(status) = ended else { return exit::UNAVAILABLE };
                let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
                return u8::try_from(code).unwrap_or(u8::MAX);
            }
            _ = terminate.recv() => pass_on(&child, "TERM"),
            _ = hangup.recv() => pass_on(&child, "HUP"),
            // A terminal sends it to the command as well; waiting for its end is all there is to do.
            _ = interrupt.recv() => {}
        }
    }
}

/// Sends the command a signal. Through `kill(1)`: this crate has no unsafe code to call `kill(2)` with.
fn pass_on(child: &Child, name: &str) {
    let Some(pid) = child.id() else { return };
    if let Err(error) = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status() {
        tracing::warn!(%error, "cannot pass the signal on");
    }
}

/// A secret for this session: 32 random bytes in hex.
fn session_secret() -> Result<(Secret, String), StartError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StartError::Unavailable("no randomness".into()))?;
    let password = hex(&bytes);
    Ok((Secret::new(password.clone().into_bytes()), password))
}

/// Tokens of the session: minted anew before they end.
#[derive(Debug)]
struct Renewed {
    issuer: DevIssuer,
    mint: Mint,
    kept: Mutex<Option<(Arc<UnverifiedToken>, Instant)>>,
}

impl listen::Mint for Renewed {
    fn token(&self) -> Result<Arc<UnverifiedToken>, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, since)) = &*kept
            && since.elapsed() < TOKEN_FRESH
        {
            return Ok(token.clone());
        }
        let token = self.issuer.mint(&self.mint).map_err(|e| e.to_string())?;
        let token = Arc::new(UnverifiedToken::new(&token));
        *kept = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}
