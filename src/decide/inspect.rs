//! Looking into a request's body, where its service is one whose requests say there what they do.
//!
//! A body is read whole or not at all: a decision over a part of it is a decision over another request. What was
//! read is what is sent on, byte for byte.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::{
    act::{Act, Seen},
    protocol::Look,
};
use crate::{
    audit::Rpc,
    graphql, mcp,
    message::{Message, RequestBody},
    refusal::{Dialect, MCP_MISMATCH, Reason},
};

/// The largest body that is looked into, in bytes, where the service does not say.
const LARGEST: u64 = 4 << 20;
/// How long a client may take to send a body that is looked into.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fields of GraphQL in a record.
const MOST_FIELDS: usize = 20;
/// The longest name in a record, in characters.
const LONGEST_NAME: usize = 200;

/// Looks for what the policy needs to know.
///
/// # Errors
/// Where the body is too large, broken, late, or means nothing to an MCP server.
///
/// `mailbox` is where a refusal is told to whoever waits in a session.
pub(super) async fn look(
    message: &mut Message,
    look: Look,
    limit: Option<u64>,
    mailbox: Option<mcp::Mailbox>,
) -> Result<Seen, Reason> {
    let limit = limit.unwrap_or(LARGEST);
    let seen = match look {
        Look::Nothing => Seen::Nothing,
        Look::Mcp | Look::McpInSession => {
            // Whoever speaks to such a server reads its language, also in a refusal of what cannot be read.
            message.manner.dialect = Dialect::Mcp(mcp::Waiting::nobody());
            let body = read(message, limit).await?;
            let body = mcp::Body::read(&body, &message.headers).map_err(malformed)?;
            let waiting = body.waiting();
            let in_session = look == Look::McpInSession;
            message.manner.dialect =
                Dialect::Mcp(if in_session { waiting.in_session(mailbox) } else { waiting });
            message.entry.rpc(record(&body));
            Seen::Mcp(body)
        }
        Look::GraphQl => {
            let body = read(message, limit).await?;
            graphql::read_body(&body, &message.headers).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
        Look::GraphQlInQuery => {
            graphql::read_query(message.target.query.as_ref()).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
    };
    if let Seen::GraphQl(operations) = &seen {
        let fields = super::act::fields(operations).take(MOST_FIELDS).map(|act| match act {
            Act::Field(kind, field) => format!("{} {}", kind.as_str(), shown(field)),
            other => other.to_string(),
        });
        message.entry.graphql(fields.collect());
    }
    Ok(seen)
}

/// Reads the body whole and puts it back.
async fn read(message: &mut Message, limit: u64) -> Result<Bytes, Reason> {
    use http_body::Body as _;
    let too_large = || Reason::BodyTooLarge { limit };
    let counter = message.entry.request_bytes();
    let body = &mut message.body;
    if body.size_hint().lower() > limit {
        return Err(too_large());
    }
    let whole = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Trailers are dropped: no MCP or GraphQL client sends any.
            let Ok(data) = frame.map_err(|_| broken("the client broke off"))?.into_data() else { continue };
            counter.store((whole.len() + data.len()) as u64, Ordering::Relaxed);
            if (whole.len() + data.len()) as u64 > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    let whole = timeout(PATIENCE, whole).await.map_err(|_| broken("the body did not arrive in time"))??;
    // It is counted again on its way out.
    counter.store(0, Ordering::Relaxed);
    message.body = RequestBody::Whole(Full::new(whole.clone()));
    Ok(whole)
}

fn broken(what: &'static str) -> Reason {
    Reason::RequestMalformed { what, token: "malformed-body", status: 400 }
}

fn malformed(unclear: mcp::Unclear) -> Reason {
    let token = if unclear.mismatch { MCP_MISMATCH } else { "malformed-body" };
    Reason::RequestMalformed { what: unclear.what, token, status: 400 }
}

/// What a record says of messages: the first that names something, or the first.
fn record(body: &mcp::Body) -> Rpc {
    let named = |item: &&mcp::Item| matches!(item.ask, mcp::Ask::Named(..));
    let item = body.items().iter().find(named).or(body.items().first());
    let (tool, name) = match item.map(|item| &item.ask) {
        Some(mcp::Ask::Named(mcp::Named::Tool, name)) => (Some(shown(name)), None),
        // The query of a resource may hold anything.
        Some(mcp::Ask::Named(mcp::Named::Resource, uri)) => (None, uri.split(['?', '#']).next().map(shown)),
        Some(mcp::Ask::Named(mcp::Named::Prompt, name)) => (None, Some(shown(name))),
        _ => (None, None),
    };
    let method = item.map(|item| shown(&item.method)).unwrap_or_default();
    Rpc { method, tool, name, messages: body.items().len() }
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}
