//! Every reason for a refusal, with its code, status and words, in one table.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Door;
use crate::context::IntegrationId;

/// Why egret refuses. Data inside a reason is what the client may read; what only the operator reads goes to
/// the audit entry (`Reason::for_operator`).
#[derive(Debug, Clone)]
pub enum Reason {
    /// No identity was presented.
    IdentityMissing,
    /// The token has ended.
    TokenExpired {
        /// Seconds since the epoch.
        expired_at: u64,
    },
    /// The token is for someone else.
    TokenAudienceMismatch {
        /// The audience that egret expects.
        expected: Arc<str>,
    },
    /// The token is not acceptable; the check that failed is for the operator only.
    TokenInvalid {
        /// Which check failed.
        check: String,
    },
    /// The keys to verify tokens cannot be had just now.
    IdentityUnavailable {
        /// What is missing.
        what: String,
    },
    /// The policy has no such tenant, or it is disabled.
    TenantUnknown,
    /// The tenant has no such agent, or it is disabled.
    AgentUnknown,
    /// The client names another agent or user than its token does.
    AgentMismatch,
    /// No integration of the tenant covers the destination.
    DestinationNotAllowed {
        /// The host as the client wrote it, normalised.
        host: String,
        /// Whether the host is covered, only not on this port.
        port: bool,
    },
    /// The destination resolves to an address that is out of reach.
    DestinationIpProhibited {
        /// Which address, for the operator.
        address: String,
    },
    /// The agent's role does not cover the request, or a guard takes it away.
    ActionDenied {
        /// One sentence for the agent.
        detail: String,
        /// The smallest role that covers the request, when the service has one.
        needed_role: Option<Arc<str>>,
        /// The role that the agent has.
        granted_role: Option<Arc<str>>,
    },
    /// A guard asks for a human's yes, and nobody has given it.
    ApprovalRequired {
        /// The guard: `guards[2]`.
        guard: Arc<str>,
        /// What the yes is needed for.
        action: String,
    },
    /// A quota is used up.
    RateLimited {
        /// Which quota: `tenant`, `tenant-openai`, `agent-openai`.
        policy: String,
        /// Requests per window.
        quota: u32,
        /// The window in seconds.
        window: u64,
        /// When the next request fits.
        retry_after: Duration,
    },
    /// There is no credential to attach.
    CredentialMissing {
        /// What is missing, for the operator.
        what: String,
        /// Where the person can connect it, where a person can.
        connect: Option<Arc<str>>,
    },
    /// There may be a credential, but where it is kept cannot be reached.
    CredentialUnavailable {
        /// What is wrong, for the operator.
        what: String,
    },
    /// The upstream answered 401 to the credential that egret attached, or the provider does not accept the client.
    CredentialRejected {
        /// The provider's own code.
        code: Option<String>,
    },
    /// The grant was taken back: only a person can help.
    AuthRevoked {
        /// The provider's own code.
        code: Option<String>,
        /// Where the person can connect it anew.
        connect: Option<Arc<str>>,
    },
    /// The provider gives no token just now.
    TokenRefreshFailed {
        /// The provider's own code.
        code: Option<String>,
        /// When to try again.
        retry_after: Duration,
        /// What happened, for the operator.
        error: String,
    },
    /// A USER integration, and the token names no user.
    UserMissing,
    /// Several integrations of the tenant cover the destination.
    IntegrationAmbiguous {
        /// Which; the client chooses with `X-Agent-Integration`.
        candidates: Vec<IntegrationId>,
    },
    /// The name does not resolve.
    UpstreamDnsFailed {
        /// Whether the resolver timed out.
        timeout: bool,
        /// What the resolver said, for the operator.
        error: String,
    },
    /// The upstream cannot be connected to, or it broke off.
    UpstreamUnreachable {
        /// Whether the connection was there and ended.
        terminated: bool,
        /// Whether a repeated request is no second action.
        idempotent: bool,
        /// What happened, for the operator.
        error: String,
    },
    /// The upstream took too long.
    UpstreamTimeout {
        /// Whether it was the connection or the answer.
        connecting: bool,
        /// Whether a repeated request is no second action.
        idempotent: bool,
    },
    /// The TLS connection to the upstream failed; no request byte was sent.
    UpstreamTlsFailed {
        /// Whether it was the certificate.
        certificate: bool,
        /// What happened, for the operator.
        error: String,
    },
    /// The upstream's answer cannot be passed on safely.
    UpstreamUnscrubbable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The request came around to egret again.
    LoopDetected,
    /// The body is over the service's limit.
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The request has no single meaning.
    RequestMalformed {
        /// What is wrong, safe to show.
        what: &'static str,
        /// The token for `Proxy-Status` (agents.net registry where one fits).
        token: &'static str,
        /// 400, 417 or 431 outside a tunnel.
        status: u16,
    },
    /// The audit sink is required and did not take the record.
    NotRecorded {
        /// What happened, for the operator.
        error: String,
    },
    /// A fault of egret's own.
    InternalError {
        /// What happened, for the operator.
        error: String,
    },
}

/// What a reason says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The one canonical code, in snake case: body, log, metric label.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// The status outside a tunnel.
    pub status: u16,
    /// `error=` of `Proxy-Status` (RFC 9209 §2.3).
    pub error: &'static str,
    /// `reason=` of `Proxy-Status`.
    pub token: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl Reason {
    /// A request whose body has no single meaning, and what is wrong with it.
    pub fn malformed_body(what: &'static str) -> Self {
        Self::RequestMalformed { what, token: "malformed-body", status: 400 }
    }

    /// Code, status and words of this reason.
    #[rustfmt::skip]
    pub fn facts(&self) -> Facts {
        const DENIED: &str = "http_request_denied";
        const CLIENT: &str = "http_request_error";
        const OURS: &str = "proxy_internal_error";
        let (code, title, status, error, token, retryable) = match self {
            Self::IdentityMissing => ("identity_missing", "Identity missing", 407, DENIED, "identity-missing", false),
            Self::TokenExpired { .. } => ("token_expired", "Token expired", 407, DENIED, "token-expired", false),
            Self::TokenAudienceMismatch { .. } => ("token_audience_mismatch", "Token is for another audience", 407, DENIED, "token-audience-mismatch", false),
            Self::TokenInvalid { .. } => ("token_invalid", "Token not acceptable", 407, DENIED, "token-invalid", false),
            Self::IdentityUnavailable { .. } => ("identity_unavailable", "Identity cannot be verified now", 503, OURS, "identity-unavailable", true),
            Self::TenantUnknown => ("tenant_unknown", "Tenant unknown", 403, DENIED, "tenant-unknown", false),
            Self::AgentUnknown => ("agent_unknown", "Agent unknown", 403, DENIED, "identity-unknown", false),
            Self::AgentMismatch => ("agent_mismatch", "Agent does not match the token", 403, DENIED, "agent-mismatch", false),
            Self::DestinationNotAllowed { port: true, .. } => ("destination_not_allowed", "Destination not allowed", 403, DENIED, "port-not-allowed", false),
            Self::DestinationNotAllowed { .. } => ("destination_not_allowed", "Destination not allowed", 403, DENIED, "not-on-allowlist", false),
            Self::DestinationIpProhibited { .. } => ("destination_ip_prohibited", "Destination address prohibited", 403, "destination_ip_prohibited", "resolved-address-denied", false),
            Self::ActionDenied { .. } => ("action_denied", "Action not allowed", 403, DENIED, "action-denied", false),
            Self::ApprovalRequired { .. } => ("approval_required", "Approval required", 403, DENIED, "approval-required", false),
            Self::RateLimited { .. } => ("rate_limited", "Rate limited", 429, CLIENT, "rate-limited", true),
            Self::CredentialMissing { .. } => ("credential_missing", "Credential missing", 403, DENIED, "credential-missing", false),
            Self::CredentialUnavailable { .. } => ("credential_unavailable", "Credential cannot be read now", 503, OURS, "credential-unavailable", true),
            Self::CredentialRejected { .. } => ("credential_rejected", "Credential rejected", 403, DENIED, "credential-rejected", false),
            Self::AuthRevoked { .. } => ("auth_revoked", "Authorization revoked", 403, DENIED, "auth-revoked", false),
            Self::TokenRefreshFailed { .. } => ("token_refresh_failed", "Token cannot be refreshed now", 503, OURS, "token-refresh-failed", true),
            Self::UserMissing => ("user_missing", "User missing", 403, DENIED, "user-missing", false),
            Self::IntegrationAmbiguous { .. } => ("integration_ambiguous", "Integration ambiguous", 403, DENIED, "integration-ambiguous", false),
            Self::UpstreamDnsFailed { timeout: true, .. } => ("upstream_dns_failed", "Upstream name does not resolve", 504, "dns_timeout", "resolve-failed", true),
            Self::UpstreamDnsFailed { .. } => ("upstream_dns_failed", "Upstream name does not resolve", 502, "dns_error", "resolve-failed", true),
            Self::UpstreamUnreachable { terminated: true, idempotent, .. } => ("upstream_unreachable", "Upstream unreachable", 502, "connection_terminated", "dial-failed", *idempotent),
            Self::UpstreamUnreachable { .. } => ("upstream_unreachable", "Upstream unreachable", 502, "connection_refused", "dial-failed", true),
            Self::UpstreamTimeout { connecting: true, .. } => ("upstream_timeout", "Upstream timed out", 504, "connection_timeout", "dial-failed", true),
            Self::UpstreamTimeout { idempotent, .. } => ("upstream_timeout", "Upstream timed out", 504, "http_response_timeout", "upstream-timeout", *idempotent),
            Self::UpstreamTlsFailed { certificate: true, .. } => ("upstream_tls_failed", "Upstream TLS failed", 502, "tls_certificate_error", "upstream-tls-failed", false),
            Self::UpstreamTlsFailed { .. } => ("upstream_tls_failed", "Upstream TLS failed", 502, "tls_protocol_error", "upstream-tls-failed", false),
            Self::UpstreamUnscrubbable { .. } => ("upstream_unscrubbable", "Upstream answer cannot be passed on", 502, "http_response_transfer_coding", "upstream-unscrubbable", false),
            Self::LoopDetected => ("proxy_loop_detected", "Proxy loop", 502, "proxy_loop_detected", "proxy-loop-detected", false),
            Self::BodyTooLarge { .. } => ("body_too_large", "Body too large", 413, CLIENT, "body-too-large", false),
            Self::RequestMalformed { token, status, .. } => ("request_malformed", "Request malformed", *status, CLIENT, *token, false),
            Self::NotRecorded { .. } => ("not_recorded", "Decision could not be recorded", 503, OURS, "not-recorded", true),
            Self::InternalError { .. } => ("internal_error", "Internal error", 500, OURS, "internal-error", false),
        };
        Facts { code, title, status, error, token, retryable }
    }

    /// The status at this door. Inside a tunnel only 403, 413, 429 and 5xx: clients take 401, 407, 409 and 421
    /// there for the origin's and act on them.
    pub fn status(&self, door: Door) -> StatusCode {
        let status = self.facts().status;
        let status = match (door, status) {
            (Door::Gateway, 407) => 401,
            (Door::Tunnel, 400..=499) if !matches!(status, 413 | 429) => 403,
            _ => status,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)
    }

    /// Whether this is a policy's "no" (`deny`), a human's yes that is due (`approve_pending`), or something that
    /// was missing or broke (`fail`).
    pub fn decision(&self) -> &'static str {
        match self {
            Self::ApprovalRequired { .. } => "approve_pending",
            _ if self.facts().status >= 500 => "fail",
            _ => "deny",
        }
    }

    /// One sentence for the agent.
    pub fn detail(&self) -> String {
        match self {
            Self::IdentityMissing => "no identity: send the organisation's JWT as `Proxy-Authorization: Bearer`, as the password of the proxy URL, or to the gateway as `Authorization: Bearer`".into(),
            Self::TokenExpired { .. } => "the token has expired: get a new one from your identity provider".into(),
            Self::TokenAudienceMismatch { expected } => format!("the token's `aud` does not name `{expected}`"),
            Self::TokenInvalid { .. } => "the token is not acceptable".into(),
            Self::IdentityUnavailable { .. } => "the token cannot be verified just now: try again".into(),
            Self::TenantUnknown => "the token's tenant is not in the policy".into(),
            Self::AgentUnknown => "this agent is not in its tenant's policy".into(),
            Self::AgentMismatch => "the request names another agent or user than its token".into(),
            Self::DestinationNotAllowed { host, port: true } => format!("`{host}` is not allowed on this port"),
            Self::DestinationNotAllowed { host, .. } => format!("no integration of this tenant covers `{host}`"),
            Self::DestinationIpProhibited { .. } => "the destination resolves to an address that is out of reach; for a local address, add it to NO_PROXY".into(),
            Self::ActionDenied { detail, .. } => detail.clone(),
            Self::ApprovalRequired { action, .. } => format!("{action} needs a human's approval, which cannot be given yet: do something else, or ask a person to do it"),
            Self::RateLimited { policy, quota, window, .. } => format!("the limit `{policy}` of {quota} requests in {window} s is used up"),
            Self::CredentialMissing { connect: Some(_), .. } => "this integration is not connected yet: a person can do it at `connect_url`".into(),
            Self::CredentialMissing { .. } => "the credential of this integration is not set up".into(),
            Self::CredentialUnavailable { .. } => "the credential of this integration cannot be read just now: try again".into(),
            Self::AuthRevoked { connect: Some(_), .. } => "the authorization of this integration was revoked or has ended: a person can connect it again at `reconnect_url`".into(),
            Self::AuthRevoked { .. } => "the authorization of this integration was revoked or has ended: a person must connect it again".into(),
            Self::TokenRefreshFailed { .. } => "the provider of this integration gives no token just now: try again".into(),
            Self::CredentialRejected { .. } => "the upstream did not accept the credential of this integration: it must be set anew".into(),
            Self::UserMissing => "this integration acts for a user, and the token names none".into(),
            Self::IntegrationAmbiguous { .. } => "several integrations cover this destination: name one in `X-Agent-Integration`".into(),
            Self::UpstreamDnsFailed { .. } => "the upstream's name does not resolve".into(),
            Self::UpstreamUnreachable { terminated: true, .. } => "the upstream ended the connection".into(),
            Self::UpstreamUnreachable { .. } => "the upstream cannot be reached".into(),
            Self::UpstreamTimeout { connecting: true, .. } => "the upstream did not accept a connection in time".into(),
            Self::UpstreamTimeout { .. } => "the upstream did not answer in time".into(),
            Self::UpstreamTlsFailed { .. } => "no trusted TLS connection to the upstream; the credential was not sent".into(),
            Self::UpstreamUnscrubbable { what } => format!("the upstream's answer was held back: {what}"),
            Self::LoopDetected => "the request came back to the proxy that sent it".into(),
            Self::BodyTooLarge { limit } => format!("the request body is larger than {limit} bytes"),
            Self::RequestMalformed { what, .. } => (*what).into(),
            Self::NotRecorded { .. } => "the decision could not be recorded, so the request was not sent".into(),
            Self::InternalError { .. } => "a fault inside the proxy; the request was not sent".into(),
        }
    }

    /// What only the operator reads, where there is more to say than the detail.
    pub fn for_operator(&self) -> Option<&str> {
        match self {
            Self::TokenInvalid { check } => Some(check),
            Self::IdentityUnavailable { what }
            | Self::CredentialMissing { what, .. }
            | Self::CredentialUnavailable { what } => Some(what),
            Self::DestinationIpProhibited { address } => Some(address),
            Self::UpstreamDnsFailed { error, .. }
            | Self::UpstreamUnreachable { error, .. }
            | Self::UpstreamTlsFailed { error, .. }
            | Self::TokenRefreshFailed { error, .. }
            | Self::NotRecorded { error }
            | Self::InternalError { error } => Some(error),
            Self::RequestMalformed { what, .. } | Self::UpstreamUnscrubbable { what } => Some(what),
            Self::ApprovalRequired { guard, .. } => Some(guard),
            Self::ActionDenied { detail, .. } => Some(detail),
            _ => None,
        }
    }

    /// Where a person can set things right.
    pub fn connect_url(&self) -> Option<&str> {
        match self {
            Self::CredentialMissing { connect, .. } | Self::AuthRevoked { connect, .. } => connect.as_deref(),
            _ => None,
        }
    }

    /// The provider's own code for what went wrong.
    pub fn provider_error_code(&self) -> Option<&str> {
        match self {
            Self::CredentialRejected { code }
            | Self::AuthRevoked { code, .. }
            | Self::TokenRefreshFailed { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Members of the body beyond those that every refusal has.
    pub fn members(&self) -> Map<String, Value> {
        let value = match self {
            Self::TokenExpired { expired_at } => json!({ "expired_at": expired_at }),
            Self::TokenAudienceMismatch { expected } => json!({ "expected_audience": expected }),
            Self::DestinationNotAllowed { host, .. } => json!({ "host": host }),
            Self::ActionDenied { needed_role, granted_role, .. } => {
                json!({ "needed_role": needed_role, "granted_role": granted_role })
            }
            Self::ApprovalRequired { action, .. } => json!({ "action": action }),
            Self::RateLimited { policy, .. } => json!({ "violated-policies": [policy] }),
            Self::CredentialMissing { connect: Some(url), .. } => json!({ "connect_url": url }),
            Self::CredentialRejected { code: Some(code) }
            | Self::TokenRefreshFailed { code: Some(code), .. } => {
                json!({ "provider_error_code": code })
            }
            Self::AuthRevoked { code, connect } => {
                let both = [("provider_error_code", code.as_deref()), ("reconnect_url", connect.as_deref())];
                let there =
                    both.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
                Value::Object(there.collect())
            }
            Self::CredentialMissing { .. } => {
                json!({ "admin_hint": "set the secret that this integration's `credential` refers to" })
            }
            Self::IntegrationAmbiguous { candidates } => json!({ "candidates": candidates }),
            Self::BodyTooLarge { limit } => json!({ "limit_bytes": limit }),
            _ => Value::Null,
        };
        match value {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}
