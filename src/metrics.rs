//! The counters of `/metrics` (`OpenMetrics`). Agent ids are no labels: a client could grow them without bound.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

/// Labels of a decision.
#[expect(clippy::struct_field_names, reason = "the field is the label's name")]
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    tenant: Arc<str>,
    integration: Arc<str>,
    decision: &'static str,
    code: &'static str,
}

/// Labels of a request that failed after it was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    tenant: Arc<str>,
    integration: Arc<str>,
    code: &'static str,
}

/// Labels of a token that was had, or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refresh {
    integration: Arc<str>,
    result: &'static str,
}

/// One label called `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// One label called `issuer`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Issuer {
    issuer: Arc<str>,
}

/// One label called `revision`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Revision {
    revision: Arc<str>,
}

/// When the policy and the keys in use were loaded.
#[derive(Debug, Default)]
struct Since {
    policy: Option<Instant>,
    jwks: HashMap<Arc<str>, Instant>,
}

/// One label called `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Everything that egret counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    failures: Family<Failure, Counter>,
    durations: Histogram,
    reloads: Family<Outcome, Counter>,
    refreshes: Family<Refresh, Counter>,
    policy: Family<Revision, Gauge>,
    policy_age: Gauge,
    policy_expires: Gauge,
    jwks_age: Family<Issuer, Gauge>,
    /// When something last happened; the ages are told when somebody asks.
    since: Mutex<Since>,
    audit_dropped: Counter,
    malformed: Family<Kind, Counter>,
    connections: Gauge,
    tunnels: Gauge,
    leaves: Counter,
    client_tls_rejected: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let buckets =
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
        let this = Self {
            decisions: Family::default(),
            failures: Family::default(),
            durations: Histogram::new(buckets),
            reloads: Family::default(),
            refreshes: Family::default(),
            policy: Family::default(),
            policy_age: Gauge::default(),
            policy_expires: Gauge::default(),
            jwks_age: Family::default(),
            since: Mutex::default(),
            audit_dropped: Counter::default(),
            malformed: Family::default(),
            connections: Gauge::default(),
            tunnels: Gauge::default(),
            leaves: Counter::default(),
            client_tls_rejected: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "egret_decisions",
            "Decisions by tenant, integration, decision and code",
            this.decisions.clone(),
        );
        registry.register(
            "egret_request_duration_seconds",
            "From the request's head to the end of its answer",
            this.durations.clone(),
        );
        registry.register(
            "egret_credential_refresh",
            "Tokens that were asked for, by integration and result",
            this.refreshes.clone(),
        );
        registry.register("egret_policy_reload", "Policy loads by result", this.reloads.clone());
        registry.register(
            "egret_failures",
            "Requests that failed after they were allowed",
            this.failures.clone(),
        );
        registry.register("egret_policy_info", "The revision of the policy in force", this.policy.clone());
        registry.register(
            "egret_policy_age_seconds",
            "Since the policy in force was loaded",
            this.policy_age.clone(),
        );
        registry.register(
            "egret_policy_expires_timestamp_seconds",
            "When the signed policy in force ends; 0 for never",
            this.policy_expires.clone(),
        );
        registry.register(
            "egret_jwks_age_seconds",
            "Since an issuer's keys were last fetched",
            this.jwks_age.clone(),
        );
        registry.register(
            "egret_audit_dropped",
            "Records that the audit sinks did not take",
            this.audit_dropped.clone(),
        );
        registry.register(
            "egret_malformed_requests",
            "Messages that the HTTP parser refused, by kind",
            this.malformed.clone(),
        );
        registry.register("egret_connections", "Open client connections", this.connections.clone());
        registry.register("egret_tunnels", "Open tunnels", this.tunnels.clone());
        registry.register("egret_leaf_certificates_minted", "Leaf certificates minted", this.leaves.clone());
        registry.register(
            "egret_client_tls_rejected",
            "Clients that did not accept egret's certificate",
            this.client_tls_rejected.clone(),
        );
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("egret_build", "The running version", build);
        Self { registry, ..this }
    }
}

impl Metrics {
    /// A token was had, or not.
    pub fn refreshed(&self, integration: Arc<str>, result: &'static str) {
        self.refreshes.get_or_create(&Refresh { integration, result }).inc();
    }

    /// One decision was made.
    pub fn decided(
        &self,
        tenant: &Arc<str>,
        integration: &Arc<str>,
        decision: &'static str,
        code: &'static str,
    ) {
        let labels = Decision { tenant: tenant.clone(), integration: integration.clone(), decision, code };
        self.decisions.get_or_create(&labels).inc();
    }

    /// One request failed after it was allowed.
    pub fn failed(&self, tenant: &Arc<str>, integration: &Arc<str>, code: &'static str) {
        let labels = Failure { tenant: tenant.clone(), integration: integration.clone(), code };
        self.failures.get_or_create(&labels).inc();
    }

    /// One request ended.
    pub fn finished(&self, duration: Duration) {
        self.durations.observe(duration.as_secs_f64());
    }

    /// A policy with this revision is in force, until then.
    pub fn policy_loaded(&self, revision: &Arc<str>, expires_at: Option<SystemTime>) {
        let seconds = expires_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        self.policy_expires.set(seconds.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)));
        self.reloads.get_or_create(&Outcome { result: "ok" }).inc();
        self.policy.clear();
        self.policy.get_or_create(&Revision { revision: revision.clone() }).set(1);
        self.since().policy = Some(Instant::now());
    }

    /// A policy was not loaded.
    pub fn policy_rejected(&self) {
        self.reloads.get_or_create(&Outcome { result: "error" }).inc();
    }

    /// An issuer's keys were fetched.
    pub fn jwks_fetched(&self, issuer: &Arc<str>) {
        self.since().jwks.insert(issuer.clone(), Instant::now());
    }

    fn since(&self) -> MutexGuard<'_, Since> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was lost.
    pub fn audit_dropped(&self) {
        self.audit_dropped.inc();
    }

    /// Records lost so far.
    pub fn audit_dropped_so_far(&self) -> u64 {
        self.audit_dropped.get()
    }

    /// The parser refused a message.
    pub fn malformed(&self, kind: &'static str) {
        self.malformed.get_or_create(&Kind { kind }).inc();
    }

    /// A leaf was minted.
    pub fn leaf_minted(&self) {
        self.leaves.inc();
    }

    /// A client refused egret's certificate.
    pub fn client_tls_rejected(&self) {
        self.client_tls_rejected.inc();
    }

    /// A client connection is open while the guard lives.
    pub fn connection(self: &Arc<Self>) -> Held {
        Held::new(self.connections.clone())
    }

    /// A tunnel is open while the guard lives.
    pub fn tunnel(self: &Arc<Self>) -> Held {
        Held::new(self.tunnels.clone())
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let seconds = |since: &Instant| i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX);
        let since = self.since();
        self.policy_age.set(since.policy.as_ref().map_or(0, seconds));
        for (issuer, fetched) in &since.jwks {
            self.jwks_age.get_or_create(&Issuer { issuer: issuer.clone() }).set(seconds(fetched));
        }
        drop(since);
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// Holds a gauge up by one while it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
