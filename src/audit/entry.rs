//! The entry of one request: opened with it, filled by the rooms, written exactly once on every way out.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{Audit, Unrecorded, line};
use crate::{
    context::{CorrelationId, Identity, IntegrationId, Purpose, RoleId, ServiceId, Tier, ulid},
    refusal::{Manner, Reason, Refusal, Refused},
    target::{Method, Scheme, Target},
};

/// What is known when the request's head has arrived.
#[derive(Debug)]
pub struct Arrived {
    /// Which listener took it: `proxy`, `tunnel`, `gateway`, `ambient`, `session`.
    pub listener: &'static str,
    /// The client's socket.
    pub peer: Option<SocketAddr>,
    /// HTTP version of the client's side: `1.0`, `1.1`, `2`.
    pub protocol: &'static str,
    /// The client's `User-Agent`, capped.
    pub user_agent: Option<String>,
}

/// What the policy said.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The integration.
    pub integration_id: IntegrationId,
    /// The service behind it.
    pub service: ServiceId,
    /// How the service is reached.
    pub upstream_scheme: Scheme,
    /// The agent's role, when it has one.
    pub role: Option<RoleId>,
    /// As whom.
    pub tier: Tier,
    /// The line that matched: `services.github.roles.writer[1]`.
    pub rule: Option<Arc<str>>,
    /// The grant: `tenants.t_acme.agents.triage-bot.github-acme`.
    pub grant: Option<Arc<str>>,
    /// The path pattern that matched.
    pub route: Option<Arc<str>>,
}

/// What a request asks an MCP server for: its first message that names something, or its first.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Rpc {
    /// The JSON-RPC method.
    pub method: String,
    /// The tool, where one is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The resource or prompt, where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Messages in the request.
    pub messages: usize,
    /// What each of several messages asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batch: Vec<String>,
}

/// What was attached.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `static`, …
    pub kind: &'static str,
    /// The reference in the policy, without a value: `env:OPENAI_API_KEY`.
    pub reference: Arc<str>,
    /// SHA-256 of the sorted, space-joined scopes, when it has scopes.
    pub scopes_hash: Option<Arc<str>>,
    /// `0-5m`, `5-30m`, `30m+` or `static`.
    pub token_age_bucket: &'static str,
    /// The last characters, when it is long enough to show them.
    pub masked: Option<Arc<str>>,
}

/// The state of the tightest limit.
#[derive(Debug, Clone)]
pub struct LimitState {
    /// Which quota.
    pub policy: Arc<str>,
    /// Requests left in it.
    pub remaining: u32,
}

/// Where it went.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// The dialled address.
    pub address: Option<SocketAddr>,
    /// `1.2`, `1.3`, or none for cleartext.
    pub tls: Option<&'static str>,
    /// HTTP version: `1.1`, `2`.
    pub protocol: Option<&'static str>,
    /// Connections tried.
    pub attempts: u32,
    /// Whether the connection was there already.
    pub reused: bool,
}

/// How far the entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No decision yet.
    Open,
    /// The decision is written; the outcome is due.
    Decided,
    /// Nothing more is due.
    Closed,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client, or whoever held the answer, went away.
    Abandoned,
    /// All of it was handed over.
    Complete,
    /// It broke off.
    Broken,
}

/// The entry of one request. A small handle: it travels in every door type and in refusals.
///
/// Purposefully not `Clone`: one request, one entry.
pub struct Entry(Box<Open>);

pub(super) struct Open {
    pub(super) audit: Audit,
    pub(super) arrived: Arrived,
    pub(super) at: SystemTime,
    started: Instant,
    stage: Stage,
    pub(super) decision_id: String,
    pub(super) correlation_id: Option<CorrelationId>,
    pub(super) purpose: Option<Purpose>,
    pub(super) idempotency_key_hash: Option<String>,
    pub(super) trace: Option<(String, String)>,
    pub(super) method: Option<String>,
    pub(super) target: Option<Target>,
    /// Stands in for the target's path, where that holds something of the client's that must not be recorded.
    pub(super) shown_path: Option<String>,
    pub(super) request_bytes: Option<Arc<AtomicU64>>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) policy: Option<(Arc<str>, Arc<str>)>,
    pub(super) granted: Option<Granted>,
    pub(super) guards: Vec<Arc<str>>,
    pub(super) rpc: Option<Rpc>,
    pub(super) graphql: Vec<String>,
    pub(super) graphql_more: usize,
    pub(super) shadowed: Option<(&'static str, String)>,
    pub(super) credential: Option<Credential>,
    pub(super) stripped: Vec<String>,
    pub(super) limit: Option<LimitState>,
    pub(super) refused: Option<(Reason, u16)>,
    pub(super) upstream: Option<Upstream>,
    pub(super) upstream_error: Option<String>,
    pub(super) provider_error_code: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) response_bytes: u64,
    pub(super) ending: Ending,
    pub(super) decided_in: Duration,
    pub(super) credential_in: Duration,
    pub(super) connected_in: Option<Duration>,
    pub(super) answered_in: Option<Duration>,
}

impl Entry {
    pub(super) fn open(audit: Audit, arrived: Arrived) -> Self {
        let at = SystemTime::now();
        Self(Box::new(Open {
            audit,
            arrived,
            at,
            started: Instant::now(),
            stage: Stage::Open,
            decision_id: ulid(at),
            correlation_id: None,
            purpose: None,
            idempotency_key_hash: None,
            trace: None,
            method: None,
            target: None,
            shown_path: None,
            request_bytes: None,
            identity: None,
            policy: None,
            granted: None,
            guards: Vec::new(),
            rpc: None,
            graphql: Vec::new(),
            graphql_more: 0,
            shadowed: None,
            credential: None,
            stripped: Vec::new(),
            limit: None,
            refused: None,
            upstream: None,
            upstream_error: None,
            provider_error_code: None,
            status: None,
            response_bytes: 0,
            ending: Ending::Abandoned,
            decided_in: Duration::ZERO,
            credential_in: Duration::ZERO,
            connected_in: None,
            answered_in: None,
        }))
    }

    /// The decision's id.
    pub fn decision_id(&self) -> &str {
        &self.0.decision_id
    }

    /// The step's id, once it is known.
    pub fn correlation_id(&self) -> Option<&CorrelationId> {
        self.0.correlation_id.as_ref()
    }

    /// What the agent means to do, in its own word.
    pub fn purpose(&self) -> Option<&Purpose> {
        self.0.purpose.as_ref()
    }

    /// `listen`: what is asked for. `method` is the token as sent, capped by the caller.
    pub fn asked(&mut self, method: Method, as_sent: &str, target: Option<&Target>) {
        let name = if method == Method::Other {
            as_sent.chars().take(32).collect()
        } else {
            method.as_str().to_owned()
        };
        self.0.method = Some(name);
        self.0.target = target.cloned();
    }

    /// `decide`: the path as it may be recorded.
    pub fn shown_path(&mut self, path: String) {
        self.0.shown_path = Some(path);
    }

    /// `listen`: ties it to a step.
    pub fn correlated(&mut self, id: CorrelationId, purpose: Option<Purpose>) {
        self.0.correlation_id = Some(id);
        self.0.purpose = purpose;
    }

    /// `listen`: the client's trace context (W3C `traceparent`), as trace id and parent span id.
    pub fn traced(&mut self, trace_id: String, span_id: String) {
        self.0.trace = Some((trace_id, span_id));
    }

    /// `listen`: the client's `Idempotency-Key`, hashed.
    pub fn idempotency_key(&mut self, hash: String) {
        self.0.idempotency_key_hash = Some(hash);
    }

    /// `identify`: who asks.
    pub fn identified(&mut self, identity: Arc<Identity>) {
        self.0.identity = Some(identity);
    }

    /// `decide`: under which policy, as revision and hash.
    pub fn under_policy(&mut self, revision: Arc<str>, hash: Arc<str>) {
        self.0.policy = Some((revision, hash));
    }

    /// `decide`: what the policy said.
    pub fn granted(&mut self, granted: Granted) {
        self.0.granted = Some(granted);
        self.0.decided_in = self.0.started.elapsed();
    }

    /// `decide`: a guard that held.
    pub fn guarded(&mut self, guard: Arc<str>) {
        self.0.guards.push(guard);
    }

    /// `decide`: what the request's messages ask an MCP server for.
    pub fn rpc(&mut self, rpc: Rpc) {
        self.0.rpc = Some(rpc);
    }

    /// `decide`: what the request's GraphQL asks for: `mutation issueCreate`; and how much more.
    pub fn graphql(&mut self, fields: Vec<String>, more: usize) {
        self.0.graphql = fields;
        self.0.graphql_more = more;
    }

    /// What enforcing would have refused, in shadow mode. The first one counts.
    pub fn shadowed(&mut self, reason: &Reason) {
        self.0.shadowed.get_or_insert_with(|| (reason.facts().code, reason.detail()));
    }

    /// `limit`: the state of the tightest quota.
    pub fn limited(&mut self, state: LimitState) {
        self.0.limit = Some(state);
    }

    /// `strip`: what was taken away, by name.
    pub fn stripped(&mut self, names: Vec<String>) {
        self.0.stripped = names;
    }

    /// `credential`: what was attached.
    pub fn credentialed(&mut self, credential: Credential, took: Duration) {
        self.0.credential = Some(credential);
        self.0.credential_in = took;
    }

    /// The counter of request body bytes, to be filled while the body streams.
    pub fn request_bytes(&mut self) -> Arc<AtomicU64> {
        self.0.request_bytes.get_or_insert_with(Arc::default).clone()
    }

    /// `record`: writes the decision. After this, `Ok` means it may leave.
    ///
    /// # Errors
    /// When records are required and this one was not written.
    pub async fn record(&mut self) -> Result<(), Unrecorded> {
        let open = &mut *self.0;
        let text = line::decision(open);
        open.audit.0.writer.record(text).await?;
        open.stage = Stage::Decided;
        open.count(
            if open.shadowed.is_some() { "deny" } else { "allow" },
            open.shadowed.as_ref().map_or("", |s| s.0),
        );
        Ok(())
    }

    /// `forward`: where it went.
    pub fn connected(&mut self, upstream: Upstream, took: Option<Duration>) {
        self.0.upstream = Some(upstream);
        self.0.connected_in = took;
    }

    /// `forward`: the upstream answered.
    pub fn answered(&mut self, status: u16) {
        self.0.status = Some(status);
        self.0.answered_in = Some(self.0.started.elapsed());
    }

    /// Bytes of the answer went towards the client.
    pub fn sent(&mut self, bytes: usize) {
        self.0.response_bytes += bytes as u64;
    }

    /// The answer broke off.
    pub fn broke(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.0.ending = Ending::Broken;
        self.0.upstream_error = Some(chain(error));
    }

    /// The answer is complete.
    pub fn complete(&mut self) {
        if self.0.ending == Ending::Abandoned {
            self.0.ending = Ending::Complete;
        }
    }

    /// Closes the entry of a `CONNECT` that was let through, without a line: every request inside has its own.
    pub(crate) fn let_through(mut self) {
        self.0.stage = Stage::Closed;
    }

    /// Closes the entry with a refusal.
    pub(crate) fn refuse(mut self, reason: Reason, manner: Manner) -> Refusal {
        let open = &mut *self.0;
        // Also what was refused before it could say to which step it belongs can be found again.
        open.correlation_id.get_or_insert_with(CorrelationId::fresh);
        let refused = Refused {
            decision_id: open.decision_id.clone(),
            correlation_id: open.correlation_id.clone(),
            tenant_id: open.identity.as_ref().map(|i| i.tenant_id.as_str().into()),
            agent_id: open.identity.as_ref().map(|i| i.agent_id.as_str().into()),
            integration_id: open.granted.as_ref().map(|g| g.integration_id.as_str().into()),
        };
        open.refused = Some((reason.clone(), manner.status(&reason).as_u16()));
        open.ending = Ending::Complete;
        drop(self);
        Refusal::new(reason, manner, refused)
    }
}

impl Open {
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn request_body_size(&self) -> u64 {
        self.request_bytes.as_ref().map_or(0, |b| b.load(Ordering::Relaxed))
    }

    fn count(&self, decision: &'static str, code: &'static str) {
        let (tenant, integration) = self.labels();
        self.audit.0.metrics.decided(&tenant, &integration, decision, code);
    }

    fn labels(&self) -> (Arc<str>, Arc<str>) {
        let nobody = &self.audit.0.nobody;
        let tenant = self.identity.as_ref().map_or_else(|| nobody.clone(), |i| i.tenant_id.shared());
        let integration = self.granted.as_ref().map_or_else(|| nobody.clone(), |g| g.integration_id.shared());
        (tenant, integration)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let open = &mut *self.0;
        match open.stage {
            Stage::Open => {
                let (decision, code) = open
                    .refused
                    .as_ref()
                    .map_or(("fail", "client_gone"), |(r, _)| (r.decision(), r.facts().code));
                open.count(decision, code);
                open.audit.0.writer.write(line::decision(open));
            }
            Stage::Decided => {
                if let Some((reason, _)) = &open.refused {
                    let (tenant, integration) = open.labels();
                    open.audit.0.metrics.failed(&tenant, &integration, reason.facts().code);
                }
                open.audit.0.writer.write(line::outcome(open));
            }
            Stage::Closed => return,
        }
        open.stage = Stage::Closed;
        open.audit.0.metrics.finished(open.elapsed());
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.0.decision_id).finish()
    }
}

/// An error with its causes, in one line of at most 300 characters.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
