//! Connections kept for the next request of the same tenant to the same place.
//!
//! The key begins with the tenant and holds everything that a connection was bound to when it was opened; it
//! is compared in full. A request is handed to a connection at most once: it comes back only unwritten.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};

use super::body::OutgoingBody;
use crate::{
    context::{ServiceId, TenantId},
    target::{Authority, Scheme},
};

/// Idle connections kept for one key.
const IDLE_PER_KEY: usize = 64;
/// Idle connections kept in all.
const IDLE: usize = 4096;
/// Keys kept in all; above it, unused ones are forgotten.
const KEYS: usize = 16_384;

/// What a connection is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantId,
    pub(super) authority: Authority,
    pub(super) scheme: Scheme,
    /// The service, whose reach decided which addresses could be dialled. None in shadow mode.
    pub(super) service: Option<ServiceId>,
    /// Whether only HTTP/1.1 was offered, as an upgrade needs it.
    pub(super) http1_only: bool,
    /// SHA-256 of the certificate that was shown in the handshake.
    pub(super) certificate: Option<[u8; 32]>,
}

/// What is known of an open connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) peer: Option<SocketAddr>,
    pub(super) tls: Option<&'static str>,
}

/// A connection that takes a request.
pub(super) enum Sender {
    Http1(http1::SendRequest<OutgoingBody>),
    Http2(http2::SendRequest<OutgoingBody>),
}

/// What is known about how a place speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Unknown,
    Http1,
    Http2,
}

struct Idle {
    sender: http1::SendRequest<OutgoingBody>,
    link: Link,
    since: Instant,
}

struct Place {
    idle: Vec<Idle>,
    shared: Option<(http2::SendRequest<OutgoingBody>, Link)>,
    speaks: Speaks,
    gate: Arc<tokio::sync::Mutex<()>>,
    used: Instant,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            shared: None,
            speaks: Speaks::Unknown,
            gate: Arc::default(),
            used: Instant::now(),
        }
    }
}

/// The pool. All its work is short and done under one lock that is never held over an `.await`.
pub(super) struct Pool {
    places: Mutex<HashMap<Arc<Key>, Place>>,
    idle_time: Duration,
}

impl Pool {
    pub(super) fn new(idle_time: Duration) -> Arc<Self> {
        Arc::new(Self { places: Mutex::default(), idle_time })
    }

    /// An open connection, if there is one.
    pub(super) fn take(&self, key: &Arc<Key>) -> Option<(Sender, Link)> {
        let mut places = self.lock();
        let place = places.get_mut(key)?;
        place.used = Instant::now();
        if let Some((shared, link)) = &place.shared {
            if !shared.is_closed() {
                return Some((Sender::Http2(shared.clone()), *link));
            }
            place.shared = None;
        }
        // The most recent one: the others may rest until they are closed.
        while let Some(idle) = place.idle.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < self.idle_time {
                return Some((Sender::Http1(idle.sender), idle.link));
            }
        }
        None
    }

    /// How the place speaks, and the gate to stand at while nobody knows or while one connection serves all.
    pub(super) fn gate(&self, key: &Arc<Key>) -> (Speaks, Arc<tokio::sync::Mutex<()>>) {
        let mut places = self.lock();
        if places.len() >= KEYS && !places.contains_key(key) {
            places.retain(|_, place| {
                !place.idle.is_empty() || place.shared.is_some() || Arc::strong_count(&place.gate) > 1
            });
        }
        let place = places.entry(key.clone()).or_default();
        (place.speaks, place.gate.clone())
    }

    /// The place speaks HTTP/1.1.
    pub(super) fn speaks_http1(&self, key: &Arc<Key>) {
        self.lock().entry(key.clone()).or_default().speaks = Speaks::Http1;
    }

    /// Shares an HTTP/2 connection.
    pub(super) fn share(&self, key: &Arc<Key>, sender: &http2::SendRequest<OutgoingBody>, link: Link) {
        let mut places = self.lock();
        let place = places.entry(key.clone()).or_default();
        place.speaks = Speaks::Http2;
        place.shared = Some((sender.clone(), link));
    }

    /// Keeps an HTTP/1.1 connection whose answer is complete.
    pub(super) fn keep(&self, key: &Arc<Key>, sender: http1::SendRequest<OutgoingBody>, link: Link) {
        if sender.is_closed() {
            return;
        }
        let mut places = self.lock();
        let place = places.entry(key.clone()).or_default();
        place.used = Instant::now();
        if place.idle.len() < IDLE_PER_KEY {
            place.idle.push(Idle { sender, link, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long, every now and then, for as long as the pool lives.
    pub(super) async fn sweep(pool: Weak<Self>) {
        loop {
            let Some(pause) = pool.upgrade().map(|p| p.idle_time / 2) else { return };
            tokio::time::sleep(pause).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut places = pool.lock();
            let mut left = IDLE;
            for place in places.values_mut() {
                place.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < pool.idle_time);
                let surplus = place.idle.len().saturating_sub(left);
                place.idle.drain(..surplus);
                left -= place.idle.len();
                if place
                    .shared
                    .as_ref()
                    .is_some_and(|(s, _)| s.is_closed() || place.used.elapsed() >= pool.idle_time)
                {
                    place.shared = None;
                }
            }
            places.retain(|_, place| {
                !place.idle.is_empty() || place.shared.is_some() || place.used.elapsed() < pool.idle_time * 10
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<Key>, Place>> {
        // Every critical section leaves the map whole, also when it panics.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
