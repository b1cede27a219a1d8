//! Looking into a request's body, where its service is one whose requests say there what they do.
//!
//! A body is read whole or not at all: a decision over a part of it is a decision over another request. What was
//! read is what is sent on, byte for byte.

use crate::{
    audit::Rpc,
    context::Identity,
    decide::parts::{act::Seen, protocol::Look},
    graphql, mcp,
    message::{Message, Room, RoomSize},
    refusal::{Dialect, MCP_MISMATCH, Reason},
};

/// The largest body that is looked into, in bytes, where the service does not say.
const LARGEST: u64 = 4 << 20;
/// Bodies that are looked into and held at the same time. Others wait for their place.
pub(in crate::decide) const ROOM: RoomSize = RoomSize { agent: 8 << 10, tenant: 16 << 10, all: 128 << 10 };
/// Fields of GraphQL in a record, those that write first.
const MOST_FIELDS: usize = 100;
/// The longest name in a record, in characters.
const LONGEST_NAME: usize = 200;

/// Looks for what the policy needs to know.
///
/// # Errors
/// Where the body is too large, broken, late, or means nothing to an MCP server.
///
/// `mailbox` is where a refusal is told to whoever waits in a session.
pub(in crate::decide) async fn look(
    message: &mut Message,
    look: Look,
    limit: Option<u64>,
    mailbox: Option<mcp::Mailbox>,
    (room, identity): (&Room, &Identity),
) -> Result<Seen, Reason> {
    let limit = limit.unwrap_or(LARGEST);
    let seen = match look {
        Look::Nothing => Seen::Nothing,
        Look::Mcp | Look::McpInSession => {
            // Whoever speaks to such a server reads its language, also in a refusal of what cannot be read.
            message.manner.dialect = Dialect::Mcp(mcp::Waiting::nobody());
            let body = message.read_whole(limit, room, identity).await?;
            let body = mcp::Body::read(&body, &message.headers).map_err(malformed)?;
            let waiting = body.waiting();
            let in_session = look == Look::McpInSession;
            message.manner.dialect =
                Dialect::Mcp(if in_session { waiting.in_session(mailbox) } else { waiting });
            message.entry.rpc(record(&body));
            Seen::Mcp(body)
        }
        Look::GraphQl => {
            let body = message.read_whole(limit, room, identity).await?;
            let url = message.target.query.as_ref();
            graphql::read_body(&body, &message.headers, url).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
        Look::GraphQlInQuery if has_body(message) => Seen::Unclear("a `GET` has a body"),
        Look::GraphQlInQuery => {
            graphql::read_query(message.target.query.as_ref()).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
        Look::McpWithoutBody => {
            message.manner.dialect = Dialect::Mcp(mcp::Waiting::nobody());
            if has_body(message) {
                return Err(Reason::malformed_body("only a `POST` to an MCP server has a body"));
            }
            Seen::Nothing
        }
    };
    if let Seen::GraphQl(fields) = &seen {
        // What writes comes first.
        let first = fields.iter().take(MOST_FIELDS);
        let list = first.map(|(kind, field)| format!("{} {}", kind.as_str(), shown(field))).collect();
        message.entry.graphql(list, fields.len().saturating_sub(MOST_FIELDS));
    }
    if seen.is_something() {
        // Another protocol could not be looked into; a server may answer as if none had been asked for.
        message.upgrade = None;
    }
    Ok(seen)
}

fn has_body(message: &Message) -> bool {
    use http_body::Body as _;
    !message.body.is_end_stream()
}

fn malformed(unclear: mcp::Unclear) -> Reason {
    let token = if unclear.mismatch { MCP_MISMATCH } else { "malformed-body" };
    Reason::RequestMalformed { what: unclear.what, token, status: 400 }
}

/// What a record says of messages: the first that names something, or the first; of a batch, all of them.
fn record(body: &mcp::Body) -> Rpc {
    let named = |item: &&mcp::Item| matches!(item.ask, mcp::Ask::Named(..));
    let item = body.items().iter().find(named).or(body.items().first());
    let (tool, name) = match item.map(|item| &item.ask) {
        Some(mcp::Ask::Named(mcp::Named::Tool, name)) => (Some(shown(name)), None),
        Some(mcp::Ask::Named(kind @ (mcp::Named::Resource | mcp::Named::Prompt), name)) => {
            (None, Some(recorded(*kind, name)))
        }
        _ => (None, None),
    };
    let method = item.map(|item| shown(&item.method)).unwrap_or_default();
    let batch = body.items().iter().map(|item| match &item.ask {
        mcp::Ask::Named(kind, name) => format!("{} {}", kind.as_str(), recorded(*kind, name)),
        mcp::Ask::List(_) | mcp::Ask::Plumbing => shown(&item.method),
    });
    let batch = if body.items().len() > 1 { batch.collect() } else { Vec::new() };
    Rpc { method, tool, name, messages: body.items().len(), batch }
}

/// A name as it may be written down: the query of a resource may hold anything.
fn recorded(kind: mcp::Named, name: &str) -> String {
    match kind {
        mcp::Named::Resource => shown(name.split(['?', '#']).next().unwrap_or_default()),
        _ => shown(name),
    }
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}
