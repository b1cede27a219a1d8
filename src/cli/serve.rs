//! `egret serve`.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ListenArgs, env, exit, message};
use crate::{
    audit::Audit,
    ca::CertificateAuthority,
    decide::Policies,
    metrics::Metrics,
    serve::{DEVELOPMENT_AUDIENCE, Parts, Running, StartError, development_issuer, open_audit, verification},
    settings::{Settings, Verify},
    telemetry,
    tls::Trust,
};

/// What a second signal exits with.
const IMPATIENT: u8 = 130;

pub(super) fn serve(args: &ListenArgs) -> Result<u8, StartError> {
    let (settings, _) = args.load()?;
    telemetry::start(&settings.log).map_err(StartError::Configuration)?;
    let runtime = runtime(settings.workers)?;
    let code = runtime.block_on(until_signalled(&settings));
    // A name lookup that still runs holds nobody up.
    runtime.shutdown_background();
    code
}

/// A runtime with this many workers; as many as there are cores when zero.
pub(super) fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder
        .enable_all()
        .thread_name("egret")
        .build()
        .map_err(|e| StartError::Unavailable(format!("no runtime: {e}")))
}

/// Loads the policy, or says all that is wrong with it.
pub(super) fn load_policy(
    settings: &Settings,
    audit: &Audit,
    metrics: &Metrics,
) -> Result<Policies, StartError> {
    let signed = &settings.signed;
    match signed.verify {
        Verify::Off if !signed.keys.is_empty() => {
            tracing::warn!("`policy.keys` has no effect: `policy.verify` is `off`");
        }
        Verify::Required if signed.state.is_none() => {
            tracing::warn!("without `policy.state`, a restart forgets which bundle was the newest");
        }
        Verify::Off | Verify::Required => {}
    }
    let verification = verification(settings)?;
    let policy = Policies::load_verified(&settings.policy, verification).map_err(|problems| {
        metrics.policy_rejected();
        StartError::Configuration(problems.render(false))
    })?;
    policy.announce(audit, metrics);
    Ok(policy)
}

async fn until_signalled(settings: &Settings) -> Result<u8, StartError> {
    let (audit, metrics) = open_audit(settings)?;
    let policy = load_policy(settings, &audit, &metrics)?;
    let authority = CertificateAuthority::open_or_create(&settings.ca_dir)
        .map_err(|e| StartError::Configuration(format!("ca: {e}")))?;
    // For clients whose variables replace their roots. Nothing of egret's own needs it.
    if let Err(error) = env::TrustFiles::write(&settings.ca_dir, &authority) {
        tracing::warn!(%error, "cannot write the bundle of roots beside the CA certificate");
    }
    let trust = Trust::load(&settings.upstream.extra_ca)
        .map_err(|e| StartError::Configuration(format!("upstream.extra_ca: {e}")))?;
    let mut issuers = Vec::new();
    if let Some(dir) = &settings.development {
        let issuer = development_issuer(dir)?;
        tracing::warn!(dir = %dir.display(), "the development issuer is on: whoever reads its key can mint any identity");
        issuers.push(issuer.config(DEVELOPMENT_AUDIENCE));
    }
    let parts = Parts {
        policy: policy.clone(),
        metrics: metrics.clone(),
        audit: audit.clone(),
        authority: Arc::new(authority),
        trust,
        issuers,
        listeners: Vec::new(),
    };
    let mut signals = Signals::listen()?;
    let running = Running::start(settings, parts).await?;
    tokio::spawn(policy.clone().watch(audit.clone(), metrics.clone()));
    announce(&running);
    signals.wait(&policy, &audit, &metrics).await;
    message("egret: draining; a second signal exits at once");
    tokio::select! {
        () = running.stop() => Ok(exit::OK),
        () = signals.impatient() => Ok(IMPATIENT),
    }
}

/// Says where egret listens: ports may have been chosen by the system.
fn announce(running: &Running) {
    let named = [
        ("proxy", running.addresses.proxy),
        ("gateway", running.addresses.gateway),
        ("admin", running.addresses.admin),
    ];
    let mut open: Vec<String> =
        named.iter().filter_map(|(name, address)| Some(format!("{name} {}", (*address)?))).collect();
    open.extend(running.addresses.others.iter().map(|address| format!("ambient {address}")));
    message(format_args!("egret {}: {}", env!("CARGO_PKG_VERSION"), open.join(", ")));
}

/// SIGTERM and SIGINT end, SIGHUP reloads the policy.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, StartError> {
        let one = |kind| signal(kind).map_err(|e| StartError::Unavailable(format!("no signals: {e}")));
        Ok(Self {
            terminate: one(SignalKind::terminate())?,
            interrupt: one(SignalKind::interrupt())?,
            hangup: one(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self, policy: &Policies, audit: &Audit, metrics: &Metrics) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: reading the policy again");
                    policy.reload(audit, metrics);
                }
            }
        }
    }

    async fn impatient(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
