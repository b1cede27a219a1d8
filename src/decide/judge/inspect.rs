//! Looking into a request's body, where its service is one whose requests say there what they do.
//!
//! A body is read whole or not at all: a decision over a part of it is a decision over another request. What was
//! read is what is sent on, byte for byte.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    audit::Rpc,
    context::{AgentId, Identity, TenantId},
    decide::parts::{act::Seen, protocol::Look},
    graphql, mcp,
    message::{Message, RequestBody},
    refusal::{Dialect, MCP_MISMATCH, Reason},
};

/// The largest body that is looked into, in bytes, where the service does not say.
const LARGEST: u64 = 4 << 20;
/// How long a client may take to send a body that is looked into.
const PATIENCE: Duration = Duration::from_secs(60);
/// A body up to this size takes no room, in bytes: a connection's own buffers are as large.
const SMALL: u64 = 16 << 10;
/// Bodies held at the same time, of one agent, of one tenant and of all, in KiB. Others wait for their place.
const ROOM_OF_AGENT: u32 = 8 << 10;
const ROOM_OF_TENANT: u32 = 16 << 10;
const ROOM_OF_ALL: u32 = 128 << 10;
/// Rooms that are remembered before the empty ones are looked for.
const FEW: usize = 1024;
/// Fields of GraphQL in a record, those that write first.
const MOST_FIELDS: usize = 100;
/// The longest name in a record, in characters.
const LONGEST_NAME: usize = 200;

/// The room in memory for bodies that are looked into. A tenant that fills its own waits for itself alone, and so does
/// an agent.
#[derive(Debug)]
pub(in crate::decide) struct Room {
    all: Arc<Semaphore>,
    /// Those that somebody is in, and a few more.
    others: Mutex<HashMap<Owner, Weak<Semaphore>>>,
}

/// Whose room it is: a tenant's, or one agent's of a tenant.
type Owner = (TenantId, Option<AgentId>);

impl Default for Room {
    fn default() -> Self {
        Self { all: semaphore(ROOM_OF_ALL), others: Mutex::default() }
    }
}

fn semaphore(kib: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(kib as usize))
}

impl Room {
    /// Waits for room for so many bytes.
    async fn take(&self, tenant: &TenantId, agent: &AgentId, bytes: u64) -> Vec<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, ROOM_OF_AGENT);
        let agent = self.of((tenant.clone(), Some(agent.clone())), ROOM_OF_AGENT);
        let tenant = self.of((tenant.clone(), None), ROOM_OF_TENANT);
        let mut held = Vec::with_capacity(3);
        // The narrow door first: who waits there stands in nobody's way.
        for semaphore in [agent, tenant, self.all.clone()] {
            // None is ever closed.
            held.extend(semaphore.acquire_many_owned(kib).await.ok());
        }
        held
    }

    fn of(&self, owner: Owner, kib: u32) -> Arc<Semaphore> {
        // Every critical section leaves the map whole, also when it panics.
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(&owner).and_then(Weak::upgrade) {
            return known;
        }
        if others.len() >= FEW && others.len() == others.capacity() {
            others.retain(|_, room| room.strong_count() > 0);
        }
        let new = semaphore(kib);
        others.insert(owner, Arc::downgrade(&new));
        new
    }
}

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
            let body = read(message, limit, room, identity).await?;
            let body = mcp::Body::read(&body, &message.headers).map_err(malformed)?;
            let waiting = body.waiting();
            let in_session = look == Look::McpInSession;
            message.manner.dialect =
                Dialect::Mcp(if in_session { waiting.in_session(mailbox) } else { waiting });
            message.entry.rpc(record(&body));
            Seen::Mcp(body)
        }
        Look::GraphQl => {
            let body = read(message, limit, room, identity).await?;
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
                return Err(broken("only a `POST` to an MCP server has a body"));
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

/// Reads the body whole and puts it back.
async fn read(message: &mut Message, limit: u64, room: &Room, identity: &Identity) -> Result<Bytes, Reason> {
    use http_body::Body as _;
    let too_large = || Reason::BodyTooLarge { limit };
    let counter = message.entry.request_bytes();
    let body = &mut message.body;
    if body.size_hint().lower() > limit {
        return Err(too_large());
    }
    let expected = body.size_hint().upper().unwrap_or(limit).min(limit);
    let whole = async {
        let mut held = Vec::new();
        let mut whole = BytesMut::new();
        if body.size_hint().lower() > SMALL {
            held = room.take(&identity.tenant_id, &identity.agent_id, expected).await;
        }
        while let Some(frame) = body.frame().await {
            // Trailers are dropped: no MCP or GraphQL client sends any.
            let Ok(data) = frame.map_err(|_| broken("the client broke off"))?.into_data() else { continue };
            let arrived = (whole.len() + data.len()) as u64;
            counter.store(arrived, Ordering::Relaxed);
            if arrived > limit {
                return Err(too_large());
            }
            if arrived > SMALL && held.is_empty() {
                held = room.take(&identity.tenant_id, &identity.agent_id, expected).await;
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), held))
    };
    let (whole, held) =
        timeout(PATIENCE, whole).await.map_err(|_| broken("the body did not arrive in time"))??;
    // It is counted again on its way out.
    counter.store(0, Ordering::Relaxed);
    message.body = RequestBody::Whole(Full::new(whole.clone()), held);
    Ok(whole)
}

fn broken(what: &'static str) -> Reason {
    Reason::RequestMalformed { what, token: "malformed-body", status: 400 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_fills_a_room_waits_for_itself_alone() {
        let room = Room::default();
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let agent = |name: &str| AgentId::parse(name).unwrap();
        let (greedy, other) = (tenant("greedy"), tenant("other"));
        let moment = Duration::from_millis(1);
        let first = room.take(&greedy, &agent("a"), 1 << 40).await;
        assert!(
            timeout(moment, room.take(&greedy, &agent("a"), 1)).await.is_err(),
            "the agent's room is full"
        );
        let second = timeout(moment, room.take(&greedy, &agent("b"), 1 << 40)).await.unwrap();
        assert!(
            timeout(moment, room.take(&greedy, &agent("c"), 1)).await.is_err(),
            "the tenant's room is full"
        );
        assert_eq!(timeout(moment, room.take(&other, &agent("a"), 1)).await.unwrap().len(), 3);
        drop(first);
        timeout(moment, room.take(&greedy, &agent("a"), 1)).await.unwrap();
        drop(second);
    }

    #[tokio::test]
    async fn rooms_that_nobody_is_in_are_forgotten() {
        let (room, tenant) = (Room::default(), TenantId::parse("t").unwrap());
        for number in 0..10 * FEW {
            drop(room.take(&tenant, &AgentId::parse(&format!("a{number}")).unwrap(), 1).await);
        }
        assert!(room.others.lock().unwrap().len() < 4 * FEW);
    }
}
