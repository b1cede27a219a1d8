//! Refusals: egret's own "no", as a value (RFC 9110, RFC 9209, RFC 9457).
//!
//! A refusal is not an error: an error is a fault of ours or the upstream's, a refusal is a decision that the
//! client can read, act on, and find again in the decision log by its `decision_id`.

mod reason;
mod render;

pub use reason::{Facts, Reason};
pub use render::{MCP_MISMATCH, REALM, retry_after_seconds};

use std::sync::Arc;

use http::Response;

use crate::{context::CorrelationId, mcp::Waiting, message::AuditedBody};

/// Where the client meets the refusal: decides between 407, 401 and 403, and what a client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The answer to `CONNECT` itself.
    Connect,
    /// An absolute-form request to the proxy.
    Absolute,
    /// A request inside a tunnel, where a client believes it talks to the origin.
    Tunnel,
    /// The gateway form, where 401 means what it says.
    Gateway,
}

/// Which language the client reads.
#[derive(Debug, Clone)]
pub enum Dialect {
    /// Problem details (RFC 9457) that also carry `message` and `error`.
    Json,
    /// `text/plain`, which git shows to its user.
    Git,
    /// Trailers-only (gRPC over HTTP/2).
    Grpc,
    /// JSON-RPC of the Model Context Protocol: the result of a tool, or an error, for each who waits.
    Mcp(Waiting),
}

/// How a refusal of this request must be spoken.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Where the client meets it.
    pub door: Door,
    /// Which language it reads.
    pub dialect: Dialect,
}

impl Manner {
    /// The status that a client gets for a reason.
    pub fn status(&self, reason: &Reason) -> http::StatusCode {
        match &self.dialect {
            Dialect::Mcp(waiting) => waiting.status().unwrap_or_else(|| reason.status(self.door)),
            _ => reason.status(self.door),
        }
    }
}

/// Who was refused, as far as egret knew by then.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    /// The decision's id, also in the log.
    pub decision_id: String,
    /// The step's id.
    pub correlation_id: Option<CorrelationId>,
    /// The verified tenant.
    pub tenant_id: Option<Arc<str>>,
    /// The verified agent.
    pub agent_id: Option<Arc<str>>,
    /// The integration that would have served it.
    pub integration_id: Option<Arc<str>>,
}

/// A refused request. Its audit entry is closed already.
#[derive(Debug)]
pub struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    reason: Reason,
    manner: Manner,
    refused: Refused,
}

impl Refusal {
    /// Makes the refusal. Called by `Message::refuse`, which closes the entry.
    pub(crate) fn new(reason: Reason, manner: Manner, refused: Refused) -> Self {
        Self(Box::new(Parts { reason, manner, refused }))
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The status that the client gets.
    pub fn status(&self) -> http::StatusCode {
        self.0.manner.status(&self.0.reason)
    }

    /// The answer for the client.
    pub fn into_response(self) -> Response<AuditedBody> {
        render::response(&self.0.reason, &self.0.manner, &self.0.refused)
    }
}
