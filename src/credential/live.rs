//! A token that can be used now.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    engine::Work,
    failure::Failure,
    placement::Prepared,
    signing::{self, Signer},
    source::{Moment, StoredStamp},
};
use crate::{
    audit,
    plan::Obtained,
    scrub::Needles,
    secret::{Secret, sha256_hex},
};

/// How long before its end a token is renewed, where nobody says otherwise.
const AHEAD: Duration = Duration::from_secs(600);
/// A token that was refused is fetched anew at most once in this time.
const FORCED_EVERY: Duration = Duration::from_secs(60);
/// A token that ends so soon is not sent any more: it would have ended when it arrives.
const SKEW: Duration = Duration::from_secs(5);

/// A token that can be used now, formatted for its places.
pub(super) struct Live {
    pub(super) ready: Ready,
    /// What it was obtained by; a reload may bring another under the same name.
    spec: Arc<Obtained>,
    born: Instant,
    /// From when on it is not sent any more.
    ends: Option<Instant>,
    /// From when on it is renewed.
    pub(super) renews: Option<Instant>,
    /// Tells it from all others of this process.
    pub(super) serial: u64,
    /// Which version of the stored connection it is.
    pub(super) stored: Option<StoredStamp>,
    /// Whether it was asked for because its predecessor was refused.
    forced: bool,
    /// Whether anybody used it: what nobody uses is not renewed.
    used: AtomicBool,
}

/// What is attached.
#[derive(Clone)]
pub(super) enum Ready {
    /// A token, formatted for its places.
    Token(Arc<Prepared>),
    /// What signs each request, and what must not come back.
    Signer(Arc<Signer>, Option<Arc<Needles>>),
}

/// How long a token is good, and from when on it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) lifetime: Duration,
    pub(super) renew_after: Duration,
}

impl Span {
    /// Renewed some time before the end, a little earlier here and there, so that not all are renewed at once.
    pub(super) fn of(lifetime: Duration, ahead: Option<Duration>) -> Self {
        let ahead = ahead.unwrap_or(AHEAD).min(lifetime / 2);
        let jitter = 0.9 + 0.1 * fastrand::f64();
        Self { lifetime, renew_after: lifetime.saturating_sub(ahead).mul_f64(jitter) }
    }
}

/// What a token is made of.
pub(super) struct Material {
    pub(super) token: Arc<Secret>,
    /// What else may go somewhere, by name.
    pub(super) kept: Vec<(Box<str>, Arc<Secret>)>,
    /// None where it does not end.
    pub(super) span: Option<Span>,
    pub(super) scopes: Option<String>,
    pub(super) stored: Option<i64>,
}

impl Live {
    pub(super) fn new(spec: Arc<Obtained>, material: Material, forced: bool) -> Result<Self, Failure> {
        let Material { token, kept, span, scopes, stored } = material;
        let mut found: HashMap<Box<str>, Arc<Secret>> = kept.into_iter().collect();
        found.insert("token".into(), token);
        let record = audit::Credential {
            kind: spec.kind,
            reference: spec.kind.into(),
            scopes_hash: scopes.map(|scopes| hash(&scopes).into()),
            token_age_bucket: bucket(Duration::ZERO),
            masked: None,
        };
        let prepared = Prepared::make(&spec.places, found, record);
        let prepared = prepared.map_err(|missing| Failure::Missing(missing.to_string()))?;
        Ok(Self::made(spec, Ready::Token(Arc::new(prepared)), span, stored, forced))
    }

    /// What signs requests, for so long.
    pub(super) fn signing(work: &Work, ready: Ready, span: Span) -> Self {
        Self::made(work.spec.clone(), ready, Some(span), None, work.refused.is_some())
    }

    fn made(
        spec: Arc<Obtained>,
        ready: Ready,
        span: Option<Span>,
        stored: Option<i64>,
        forced: bool,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let born = Instant::now();
        let ends = span.map(|span| {
            let skew = SKEW.min(span.lifetime / 10);
            born + span.lifetime.saturating_sub(skew)
        });
        Self {
            ready,
            spec,
            born,
            ends,
            renews: span.map(|span| born + span.renew_after),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            stored: stored.map(StoredStamp::now),
            forced,
            used: AtomicBool::new(false),
        }
    }

    /// Whether it may be sent, for this plan.
    pub(super) fn serves(&self, spec: &Arc<Obtained>) -> bool {
        self.is_good() && self.is_of(spec)
    }

    pub(super) fn is_of(&self, spec: &Arc<Obtained>) -> bool {
        Arc::ptr_eq(&self.spec, spec) || self.spec == *spec
    }

    pub(super) fn spec(&self) -> &Arc<Obtained> {
        &self.spec
    }

    pub(super) fn is_good(&self) -> bool {
        self.ends.is_none_or(|ends| Instant::now() < ends)
    }

    /// Whether it was fetched just now because its predecessor was refused: if it is refused, too, another would not
    /// help. So a token that is refused is fetched anew at most once in a while.
    pub(super) fn is_proven(&self) -> bool {
        self.forced && self.age() < FORCED_EVERY
    }

    /// Whether another one may help where it is refused. Signatures are new for each request as it is.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.ready, Ready::Token(_)) && !self.is_proven()
    }

    fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Notes that it is used, and tells what the decision log says of it.
    pub(super) fn using(&self) -> audit::Credential {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let record = match &self.ready {
            Ready::Token(prepared) => prepared.record(),
            Ready::Signer(signer, _) => audit::Credential {
                kind: self.spec.kind,
                reference: self.spec.kind.into(),
                scopes_hash: None,
                token_age_bucket: "",
                masked: match &**signer {
                    Signer::Aws(keys) => signing::shown(keys),
                    Signer::Values(_) => None,
                },
            },
        };
        audit::Credential { token_age_bucket: bucket(self.age()), ..record }
    }

    pub(super) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl StoredStamp {
    fn now(generation: i64) -> Self {
        Self { generation, asked: Moment::now(), confirmed: Moment::now() }
    }
}

fn bucket(age: Duration) -> &'static str {
    match age.as_secs() {
        0..300 => "0-5m",
        300..1800 => "5-30m",
        _ => "30m+",
    }
}

/// SHA-256 of the sorted scopes with spaces between.
fn hash(scopes: &str) -> String {
    let mut all: Vec<&str> = scopes.split([' ', ',']).filter(|scope| !scope.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    sha256_hex(all.join(" ").as_bytes())
}
