//! A refusal as an HTTP answer.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{Dialect, Door, Manner, Reason, Refused};
use crate::message::AuditedBody;

/// The protection space of egret's challenges (RFC 9110 §11.5).
pub const REALM: &str = "egret";

/// Where each code is explained; `docs/refusals.md` holds the same text.
const DOCS: &str = "https://egret.dev/refusals";

/// The token of a request whose MCP headers contradict its body.
pub const MCP_MISMATCH: &str = "mcp-header-mismatch";

/// What gRPC escapes in `grpc-message`: everything but visible ASCII, and `%`.
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

pub(super) fn response(reason: &Reason, manner: &Manner, refused: &Refused) -> Response<AuditedBody> {
    let facts = reason.facts();
    let status = reason.status(manner.door);
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CACHE_CONTROL.as_str(), "no-store");
    let received =
        if matches!(reason, Reason::CredentialRejected { .. }) { "; received-status=401" } else { "" };
    put(
        &mut headers,
        "proxy-status",
        &format!("egret; error={}{received}; reason={}", facts.error, facts.token),
    );
    if let Some(id) = &refused.correlation_id {
        put(&mut headers, "x-correlation-id", id.as_str());
    }
    if !facts.retryable {
        put(&mut headers, "x-should-retry", "false");
    }
    put(&mut headers, "link", &format!("<{DOCS}/{}>; rel=\"help\"", facts.code));
    if let Some(url) = reason.connect_url() {
        let relation = if matches!(reason, Reason::AuthRevoked { .. }) { "reconnect" } else { "connect" };
        append(&mut headers, &header::LINK, &format!("<{url}>; rel=\"{relation}\""));
    }
    challenges(&mut headers, reason, manner.door);
    retry(&mut headers, reason);
    if closes(reason, manner.door) {
        put(&mut headers, "connection", "close");
    }
    let (status, body) = match &manner.dialect {
        // To `CONNECT`, a 200 would say that the tunnel is open.
        Dialect::Grpc if manner.door != Door::Connect => {
            put(&mut headers, "content-type", "application/grpc");
            put(&mut headers, "grpc-status", grpc_status(status));
            put(
                &mut headers,
                "grpc-message",
                &utf8_percent_encode(&reason.detail(), GRPC_MESSAGE).to_string(),
            );
            (StatusCode::OK, String::new())
        }
        Dialect::Git => {
            put(&mut headers, "content-type", "text/plain; charset=utf-8");
            (status, format!("Denied by egret: {} ({})\n", reason.detail(), facts.code))
        }
        Dialect::Mcp(waiting) => {
            put(&mut headers, "content-type", "application/json");
            let problem = problem(reason, status, refused);
            let status = manner.status(reason);
            (status, waiting.tell(facts.code, &reason.detail(), &problem, facts.token == MCP_MISMATCH))
        }
        Dialect::Json | Dialect::Grpc => {
            put(&mut headers, "content-type", "application/problem+json");
            (status, problem(reason, status, refused).to_string())
        }
    };
    let mut response = Response::new(AuditedBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if manner.door == Door::Connect && status == StatusCode::FORBIDDEN {
        let phrase = format!("Denied by egret: {}", facts.code);
        if let Ok(phrase) = ReasonPhrase::try_from(phrase.into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
    }
    response
}

/// Whether the connection ends with the refusal: after a refused `CONNECT` its early bytes must never be read
/// as a request; an unread body must not be either; a lapsed token ends its tunnel.
fn closes(reason: &Reason, door: Door) -> bool {
    match reason {
        Reason::BodyTooLarge { .. } | Reason::RequestMalformed { .. } => true,
        Reason::TokenExpired { .. } | Reason::TokenInvalid { .. } if door == Door::Tunnel => true,
        _ => door == Door::Connect,
    }
}

fn challenges(headers: &mut HeaderMap, reason: &Reason, door: Door) {
    let name = match (reason.facts().status, door) {
        (407, Door::Connect | Door::Absolute) => header::PROXY_AUTHENTICATE,
        (407, Door::Gateway) => header::WWW_AUTHENTICATE,
        _ => return,
    };
    let described = match reason {
        Reason::TokenExpired { .. } => Some("The token expired"),
        Reason::TokenAudienceMismatch { .. } => Some("The token is for another audience"),
        Reason::TokenInvalid { .. } => Some("The token is not acceptable"),
        _ => None,
    };
    let mut bearer = format!("Bearer realm=\"{REALM}\"");
    if let Some(described) = described {
        let _ = write!(bearer, ", error=\"invalid_token\", error_description=\"{described}\"");
    }
    // Basic first: git, Java and curl answer the first challenge they know.
    if door != Door::Gateway {
        append(headers, &name, &format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""));
    }
    append(headers, &name, &bearer);
}

fn retry(headers: &mut HeaderMap, reason: &Reason) {
    match reason {
        Reason::RateLimited { policy, quota, window, retry_after } => {
            let seconds = retry_after_seconds(*retry_after);
            put(headers, "retry-after", &seconds.to_string());
            put(headers, "ratelimit-policy", &format!("\"{policy}\";q={quota};w={window}"));
            put(headers, "ratelimit", &format!("\"{policy}\";r=0;t={seconds}"));
        }
        Reason::IdentityUnavailable { .. }
        | Reason::CredentialUnavailable { .. }
        | Reason::NotRecorded { .. } => put(headers, "retry-after", "5"),
        Reason::TokenRefreshFailed { retry_after, .. } => {
            put(headers, "retry-after", &retry_after_seconds(*retry_after).to_string());
        }
        _ => {}
    }
}

/// Whole seconds to wait, rounded up, at least one (RFC 9110 §10.2.3).
pub fn retry_after_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn problem(reason: &Reason, status: StatusCode, refused: &Refused) -> Value {
    let facts = reason.facts();
    let detail = reason.detail();
    let kind = match reason {
        Reason::RateLimited { .. } => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
        }
        _ => format!("{DOCS}/{}", facts.code),
    };
    let mut body = Map::new();
    let mut add = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    add("type", json!(kind));
    add("title", json!(facts.title));
    add("status", json!(status.as_u16()));
    add("detail", json!(detail));
    add("code", json!(facts.code));
    add("retryable", json!(facts.retryable));
    add("decision_id", json!(refused.decision_id));
    for (key, value) in [
        ("correlation_id", refused.correlation_id.as_ref().map(crate::context::CorrelationId::as_str)),
        ("tenant_id", refused.tenant_id.as_deref()),
        ("agent_id", refused.agent_id.as_deref()),
        ("integration_id", refused.integration_id.as_deref()),
    ] {
        if let Some(value) = value {
            add(key, json!(value));
        }
    }
    for (key, value) in reason.members() {
        add(&key, value);
    }
    add("message", json!(detail));
    // OpenAI-style SDKs show this object and nothing else; a plain string here is dropped by them.
    add("error", json!({ "message": detail, "type": "egret_denied", "code": facts.code, "param": null }));
    Value::Object(body)
}

/// gRPC status codes: 16 is avoided, clients take it for their own credential.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 417 | 431 => "3",
        413 | 429 => "8",
        500 => "13",
        502..=599 => "14",
        _ => "7",
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn append(headers: &mut HeaderMap, name: &header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner(door: Door) -> Manner {
        Manner { door, dialect: Dialect::Json }
    }

    #[test]
    fn inside_a_tunnel_only_403_413_429_and_5xx() {
        let malformed = Reason::RequestMalformed { what: "x", token: "malformed-target", status: 431 };
        for (reason, status) in [
            (Reason::IdentityMissing, 403),
            (Reason::TokenExpired { expired_at: 0 }, 403),
            (malformed, 403),
            (Reason::BodyTooLarge { limit: 1 }, 413),
            (Reason::LoopDetected, 502),
        ] {
            let answer = response(&reason, &manner(Door::Tunnel), &Refused::default());
            assert_eq!(answer.status(), status, "{reason:?}");
            assert!(
                !answer.headers().contains_key("proxy-authenticate")
                    && !answer.headers().contains_key("www-authenticate")
            );
        }
    }

    #[test]
    fn a_407_has_two_challenges_and_basic_is_first() {
        let answer = response(&Reason::IdentityMissing, &manner(Door::Connect), &Refused::default());
        let challenges: Vec<_> = answer.headers().get_all("proxy-authenticate").iter().collect();
        assert_eq!(answer.status(), 407);
        assert_eq!(challenges, ["Basic realm=\"egret\", charset=\"UTF-8\"", "Bearer realm=\"egret\""]);
        assert_eq!(answer.headers()["connection"], "close");
    }

    #[test]
    fn the_gateway_answers_401() {
        let answer = response(&Reason::IdentityMissing, &manner(Door::Gateway), &Refused::default());
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"egret\"");
    }

    #[test]
    fn grpc_reads_its_refusal_in_headers() {
        let manner = Manner { door: Door::Tunnel, dialect: Dialect::Grpc };
        let answer = response(&Reason::TenantUnknown, &manner, &Refused::default());
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &HeaderValue::from_static("7"))
        );
    }

    #[test]
    fn a_refused_connect_is_never_a_200() {
        let manner = Manner { door: Door::Connect, dialect: Dialect::Grpc };
        let answer = response(&Reason::TenantUnknown, &manner, &Refused::default());
        assert_eq!(answer.status(), 403);
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(retry_after_seconds(Duration::from_millis(1)), 1);
        assert_eq!(retry_after_seconds(Duration::from_millis(12_001)), 13);
        assert_eq!(retry_after_seconds(Duration::ZERO), 1);
    }
}
