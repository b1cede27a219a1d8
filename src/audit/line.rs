//! The wire form of an entry: one JSON object a line, the field names of the `AuthContext` at top level.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::entry::{Ending, Open, Rpc};
use crate::{
    context::{Actor, AgentSource, Channel},
    refusal::Reason,
};

/// Longest path in a record, in bytes; what is longer is cut.
const LONGEST_PATH: usize = 1024;
/// Most query keys in a record.
const MOST_KEYS: usize = 32;

#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    ts: String,
    event: &'static str,
    decision_id: &'a str,
    seq: u64,
    tenant_id: Option<&'a str>,
    agent_id: Option<&'a str>,
    agent_id_source: Option<AgentSource>,
    user_id: Option<&'a str>,
    oauth_subject: Option<&'a str>,
    correlation_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    span_id: Option<&'a str>,
    idempotency_key_hash: Option<&'a str>,
    purpose: Option<&'a str>,
    scopes: &'a [Arc<str>],
    delegation: &'a [Actor],
    identity: Option<IdentityLine<'a>>,
    decision: &'static str,
    enforced: bool,
    code: Option<&'static str>,
    reason: Option<&'a str>,
    policy: Option<PolicyLine<'a>>,
    integration_id: Option<&'a str>,
    service: Option<&'a str>,
    upstream_scheme: Option<&'static str>,
    auth_tier: Option<&'static str>,
    role: Option<&'a str>,
    credential: Option<CredentialLine<'a>>,
    stripped: &'a [String],
    http: HttpLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<&'a Rpc>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    graphql: &'a [String],
    #[serde(skip_serializing_if = "is_none")]
    graphql_more: usize,
    upstream: Option<UpstreamLine<'a>>,
    provider_error_code: Option<&'a str>,
    approval: Option<ApprovalLine<'a>>,
    limit: Option<LimitLine<'a>>,
    duration_ms: DurationLine,
    client: ClientLine<'a>,
}

#[derive(Serialize)]
struct IdentityLine<'a> {
    issuer: &'a str,
    method: &'static str,
    jti_hash: Option<&'a str>,
    expires_in_s: i64,
    channel: Channel,
}

#[derive(Serialize)]
struct PolicyLine<'a> {
    revision: &'a str,
    hash: &'a str,
    rule: Option<&'a str>,
    grant: Option<&'a str>,
    guards: &'a [Arc<str>],
}

#[derive(Serialize)]
struct CredentialLine<'a> {
    kind: &'static str,
    #[serde(rename = "ref")]
    reference: &'a str,
    scopes_hash: Option<&'a str>,
    token_age_bucket: &'static str,
    masked: Option<&'a str>,
}

#[derive(Serialize)]
struct HttpLine<'a> {
    request_method: Option<&'a str>,
    scheme: Option<&'static str>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<&'a str>,
    route: Option<&'a str>,
    query_keys: Vec<String>,
    request_body_size: u64,
    response_status_code: Option<u16>,
    response_body_size: u64,
    protocol: &'static str,
}

#[derive(Serialize)]
struct UpstreamLine<'a> {
    address: Option<String>,
    tls: Option<&'static str>,
    protocol: Option<&'static str>,
    attempts: u32,
    reused: bool,
    error: Option<&'a str>,
    ending: &'static str,
}

#[derive(Serialize)]
struct ApprovalLine<'a> {
    state: &'static str,
    guard: &'a str,
}

#[derive(Serialize)]
struct LimitLine<'a> {
    policy: &'a str,
    remaining: u32,
}

#[derive(Serialize)]
struct DurationLine {
    total: f64,
    decide: f64,
    credential: f64,
    connect: Option<f64>,
    upstream: Option<f64>,
}

#[derive(Serialize)]
struct ClientLine<'a> {
    listener: &'static str,
    peer: Option<String>,
    user_agent: Option<&'a str>,
}

/// The line written before anything leaves, or instead of it.
pub(super) fn decision(open: &Open) -> Vec<u8> {
    write(&line(open, "decision"))
}

/// The line written when the answer is over.
pub(super) fn outcome(open: &Open) -> Vec<u8> {
    let mut line = line(open, "outcome");
    line.upstream = Some(UpstreamLine {
        address: open.upstream.as_ref().and_then(|u| u.address).map(|a| a.to_string()),
        tls: open.upstream.as_ref().and_then(|u| u.tls),
        protocol: open.upstream.as_ref().and_then(|u| u.protocol),
        attempts: open.upstream.as_ref().map_or(0, |u| u.attempts),
        reused: open.upstream.as_ref().is_some_and(|u| u.reused),
        error: open.upstream_error.as_deref(),
        ending: match open.ending {
            Ending::Complete => "complete",
            Ending::Abandoned => "abandoned",
            Ending::Broken => "broken",
        },
    });
    write(&line)
}

pub(super) fn write(line: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::with_capacity(2048);
    if serde_json::to_writer(&mut text, line).is_err() {
        text.clear();
        text.extend_from_slice(b"{\"event\":\"unwritable\"}");
    }
    text.push(b'\n');
    text
}

fn line<'a>(open: &'a Open, event: &'static str) -> Line<'a> {
    let identity = open.identity.as_deref();
    let granted = open.granted.as_ref();
    let refused = open.refused.as_ref();
    let (decision, code, reason) = match (refused, &open.shadowed) {
        // An outcome keeps its decision: what failed after it is told by `code` and `upstream`.
        (Some((reason, _)), _) => {
            let decision = if event == "outcome" { "allow" } else { reason.decision() };
            (decision, Some(reason.facts().code), reason.for_operator())
        }
        (None, Some((code, detail))) => ("deny", Some(*code), Some(detail.as_str())),
        (None, None) if granted.is_none() => ("fail", Some("client_gone"), None),
        (None, None) => ("allow", None, None),
    };
    Line {
        v: 1,
        ts: rfc3339(if event == "outcome" { SystemTime::now() } else { open.at }),
        event,
        decision_id: &open.decision_id,
        seq: open.audit.next(),
        tenant_id: identity.map(|i| i.tenant_id.as_str()),
        agent_id: identity.map(|i| i.agent_id.as_str()),
        agent_id_source: identity.map(|i| i.agent_source),
        user_id: identity.and_then(|i| i.user_id.as_ref()).map(crate::context::UserId::as_str),
        oauth_subject: identity.and_then(|i| i.oauth_subject.as_deref()),
        correlation_id: open.correlation_id.as_ref().map(crate::context::CorrelationId::as_str),
        trace_id: open.trace.as_ref().map(|t| t.0.as_str()),
        span_id: open.trace.as_ref().map(|t| t.1.as_str()),
        idempotency_key_hash: open.idempotency_key_hash.as_deref(),
        purpose: open.purpose.as_ref().map(crate::context::Purpose::as_str),
        scopes: identity.map_or(&[], |i| &i.scopes),
        delegation: identity.map_or(&[], |i| &i.delegation),
        identity: identity.map(|i| IdentityLine {
            issuer: &i.issuer,
            method: "jwt",
            jti_hash: i.jti_hash.as_deref(),
            expires_in_s: i64::try_from(i.expires_at)
                .unwrap_or(i64::MAX)
                .saturating_sub(epoch_seconds(open.at)),
            channel: i.channel,
        }),
        decision,
        // What was refused after all was not let through, whatever shadow mode noted before.
        enforced: open.shadowed.is_none() || (event == "decision" && refused.is_some()),
        code,
        reason,
        policy: open.policy.as_ref().map(|(revision, hash)| PolicyLine {
            revision,
            hash,
            rule: granted.and_then(|g| g.rule.as_deref()),
            grant: granted.and_then(|g| g.grant.as_deref()),
            guards: &open.guards,
        }),
        integration_id: granted.map(|g| g.integration_id.as_str()),
        service: granted.map(|g| g.service.as_str()),
        upstream_scheme: granted.map(|g| g.upstream_scheme.as_str()),
        auth_tier: granted.map(|g| g.tier.as_str()),
        role: granted.and_then(|g| g.role.as_ref()).map(crate::context::RoleId::as_str),
        credential: open.credential.as_ref().map(|c| CredentialLine {
            kind: c.kind,
            reference: &c.reference,
            scopes_hash: c.scopes_hash.as_deref(),
            token_age_bucket: c.token_age_bucket,
            masked: c.masked.as_deref(),
        }),
        stripped: &open.stripped,
        http: http(open),
        mcp: open.rpc.as_ref(),
        graphql: &open.graphql,
        graphql_more: open.graphql_more,
        upstream: None,
        provider_error_code: open.provider_error_code.as_deref(),
        approval: match open.refused.as_ref() {
            Some((Reason::ApprovalRequired { guard, .. }, _)) => {
                Some(ApprovalLine { state: "required", guard })
            }
            _ => None,
        },
        limit: open.limit.as_ref().map(|l| LimitLine { policy: &l.policy, remaining: l.remaining }),
        duration_ms: DurationLine {
            total: millis(open.elapsed()),
            decide: millis(open.decided_in),
            credential: millis(open.credential_in),
            connect: open.connected_in.map(millis),
            upstream: open.answered_in.map(millis),
        },
        client: ClientLine {
            listener: open.arrived.listener,
            peer: open.arrived.peer.map(|p| p.to_string()),
            user_agent: open.arrived.user_agent.as_deref(),
        },
    }
}

fn http(open: &Open) -> HttpLine<'_> {
    let target = open.target.as_ref();
    HttpLine {
        request_method: open.method.as_deref(),
        scheme: target.map(|t| t.scheme.as_str()),
        host: target.map(|t| t.authority.host.to_string()),
        port: target.map(|t| t.authority.port),
        path: open
            .shown_path
            .as_deref()
            .or(target.map(|t| t.path.as_str()))
            .map(|path| cut(path, LONGEST_PATH)),
        route: open.granted.as_ref().and_then(|g| g.route.as_deref()),
        query_keys: target.and_then(|t| t.query.as_ref()).map_or_else(Vec::new, |q| q.keys(MOST_KEYS)),
        request_body_size: open.request_body_size(),
        response_status_code: open.status.or(open.refused.as_ref().map(|r| r.1)),
        response_body_size: open.response_bytes,
        protocol: open.arrived.protocol,
    }
}

/// At most `longest` bytes of `text`, ending at a character's border.
pub(super) fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Milliseconds with three decimals.
fn millis(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

fn epoch_seconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// RFC 3339 in UTC with microseconds.
pub(super) fn rfc3339(at: SystemTime) -> String {
    let t = time::OffsetDateTime::from(at);
    let (year, month, day) = t.to_calendar_date();
    let (hour, minute, second, micro) = t.to_hms_micro();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 3), "");
    }

    #[test]
    fn a_time_is_rfc_3339() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_123);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.000123Z");
    }
}
