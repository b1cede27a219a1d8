//! Reading a request's body whole, where something depends on all of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Message, RequestBody};
use crate::{
    context::{AgentId, Identity, TenantId},
    refusal::Reason,
};

/// How long a client may take to send a body that is read whole.
const PATIENCE: Duration = Duration::from_secs(60);
/// A body up to this size takes no room, in bytes: a connection's own buffers are as large.
const SMALL: u64 = 16 << 10;
/// Rooms that are remembered before the empty ones are looked for.
const FEW: usize = 1024;

/// The room in memory for bodies that are read whole. A tenant that fills its own waits for itself alone, and so does
/// an agent.
#[derive(Debug)]
pub struct Room {
    size: RoomSize,
    all: Arc<Semaphore>,
    /// Those that somebody is in, and a few more.
    others: Mutex<HashMap<Owner, Weak<Semaphore>>>,
}

/// How much of a room is whose, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct RoomSize {
    /// One agent's.
    pub agent: u32,
    /// One tenant's.
    pub tenant: u32,
    /// All of it.
    pub all: u32,
}

/// Whose room it is: a tenant's, or one agent's of a tenant.
type Owner = (TenantId, Option<AgentId>);

fn semaphore(kib: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(kib as usize))
}

impl Room {
    /// An empty room.
    pub fn new(size: RoomSize) -> Self {
        Self { size, all: semaphore(size.all), others: Mutex::default() }
    }

    /// Waits for room for so many bytes.
    async fn take(&self, tenant: &TenantId, agent: &AgentId, bytes: u64) -> Vec<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.size.agent);
        let agent = self.of((tenant.clone(), Some(agent.clone())), self.size.agent);
        let tenant = self.of((tenant.clone(), None), self.size.tenant);
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

impl Message {
    /// Reads the body whole and puts it back: what was read is what is sent on, byte for byte. `limit` is in bytes.
    ///
    /// # Errors
    /// `body_too_large`; `request_malformed` where the body breaks off or is late.
    pub async fn read_whole(
        &mut self,
        limit: u64,
        room: &Room,
        identity: &Identity,
    ) -> Result<Bytes, Reason> {
        let too_large = || Reason::BodyTooLarge { limit };
        let counter = self.entry.request_bytes();
        let body = &mut self.body;
        if body.size_hint().lower() > limit {
            return Err(too_large());
        }
        if let RequestBody::Whole(whole, _) = body {
            let whole = whole.clone().collect().await.map_err(|never| match never {})?;
            return Ok(whole.to_bytes());
        }
        let expected = body.size_hint().upper().unwrap_or(limit).min(limit);
        let whole = async {
            let mut held = Vec::new();
            let mut whole = BytesMut::new();
            if body.size_hint().lower() > SMALL {
                held = room.take(&identity.tenant_id, &identity.agent_id, expected).await;
            }
            while let Some(frame) = body.frame().await {
                // Trailers are dropped: nobody sends any with a body that is read whole.
                let frame = frame.map_err(|_| Reason::malformed_body("the client broke off"))?;
                let Ok(data) = frame.into_data() else { continue };
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
        let late = |_| Reason::malformed_body("the body did not arrive in time");
        let (whole, held) = timeout(PATIENCE, whole).await.map_err(late)??;
        // It is counted again on its way out.
        counter.store(0, Ordering::Relaxed);
        self.body = RequestBody::Whole(Full::new(whole.clone()), held);
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: RoomSize = RoomSize { agent: 8 << 10, tenant: 16 << 10, all: 128 << 10 };

    #[tokio::test(start_paused = true)]
    async fn who_fills_a_room_waits_for_itself_alone() {
        let room = Room::new(SIZE);
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
        let (room, tenant) = (Room::new(SIZE), TenantId::parse("t").unwrap());
        for number in 0..10 * FEW {
            drop(room.take(&tenant, &AgentId::parse(&format!("a{number}")).unwrap(), 1).await);
        }
        assert!(room.others.lock().unwrap().len() < 4 * FEW);
    }
}
