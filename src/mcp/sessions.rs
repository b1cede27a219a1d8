//! Sessions of the transport of 2024-11-05, in which a server answers a `POST` on a stream that is open already.
//!
//! A refusal must be heard there, too: clients do not read the answer to the `POST`, and wait for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    context::{AgentId, IntegrationId, TenantId, UserId},
    target::{Path, Query, Target},
};

/// Refusals that wait for a stream to take them.
const MOST_WAITING: usize = 32;

/// The streams that are open now. An entry goes with its stream.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<Key, mpsc::Sender<String>>>);

/// Whose session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The integration.
    pub integration: IntegrationId,
    /// The agent.
    pub agent: AgentId,
    /// The person behind it.
    pub user: Option<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    owner: Owner,
    /// Where the session's messages go: path and query.
    address: String,
}

/// Where a refusal is put for a stream to take.
#[derive(Debug, Clone)]
pub struct Mailbox(mpsc::Sender<String>);

impl Mailbox {
    /// Whether the stream is still there and takes another message.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed() && self.0.capacity() > 0
    }

    /// Puts a message in. Two that come for the last place at once leave one client waiting, as for a server that
    /// is gone.
    pub(super) fn put(&self, message: String) {
        let _ = self.0.try_send(message);
    }
}

impl Sessions {
    /// The mailbox of the session that a message belongs to.
    pub fn of(&self, owner: Owner, target: &Target) -> Option<Mailbox> {
        let address = address(&target.path, target.query.as_ref());
        self.lock().get(&Key { owner, address }).cloned().map(Mailbox)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, mpsc::Sender<String>>> {
        // Every critical section leaves the map whole, also when it panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(path: &Path, query: Option<&Query>) -> String {
    query.map_or_else(|| path.as_str().to_owned(), |query| format!("{}?{}", path.as_str(), query.as_str()))
}

/// The stream of one session, from its beginning.
#[derive(Debug)]
pub struct Opening {
    sessions: Arc<Sessions>,
    owner: Owner,
    /// Where it is listened on.
    path: Path,
    entered: Option<Key>,
    sender: mpsc::Sender<String>,
    pub(super) receiver: mpsc::Receiver<String>,
}

impl Opening {
    /// A stream that is about to open.
    pub fn new(sessions: Arc<Sessions>, owner: Owner, path: Path) -> Self {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        Self { sessions, owner, path, entered: None, sender, receiver }
    }

    /// The server has told where messages go: `/message?sessionId=1`, or a URL.
    pub(super) fn told(&mut self, endpoint: &str) {
        let endpoint = endpoint.trim();
        let local = match endpoint.split_once("://") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").to_owned(),
            None if endpoint.starts_with('/') => endpoint.to_owned(),
            // Relative to where it is listened on (RFC 3986 §5.2.3).
            None => {
                let base = self.path.as_str();
                let base = base.rfind('/').and_then(|at| base.get(..=at)).unwrap_or("/");
                format!("{base}{}", endpoint.strip_prefix("./").unwrap_or(endpoint))
            }
        };
        let (path, query) =
            local.split_once('?').map_or((local.as_str(), None), |(path, query)| (path, Some(query)));
        let (Ok(path), Ok(query)) = (Path::parse(path), query.map(Query::parse).transpose()) else { return };
        let key = Key { owner: self.owner.clone(), address: address(&path, query.as_ref()) };
        self.leave();
        self.sessions.lock().insert(key.clone(), self.sender.clone());
        self.entered = Some(key);
    }

    fn leave(&mut self) {
        let Some(key) = self.entered.take() else { return };
        let mut sessions = self.sessions.lock();
        // Another stream may have taken the place.
        if sessions.get(&key).is_some_and(|sender| sender.same_channel(&self.sender)) {
            sessions.remove(&key);
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.leave();
    }
}
