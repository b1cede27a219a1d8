//! The refresh engine: one task that owns who fetches which token when.
//!
//! Requests that need a token ask it and wait; many that ask for one token wait for one fetch. What a request needs now
//! comes before what will be needed soon. A fetch is a task of its own, so a request that goes away takes nothing with
//! it. A failure is told again for a while, longer each time; a token that is good is used until its own end, whatever
//! fails meanwhile.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    failure::{Failure, Verdict},
    live::Live,
    workshop::Workshop,
};
use crate::{
    plan::{ErrorClass, Obtained},
    secret::Secret,
    store::{ConnectionKey, Status, StoreError},
};

/// Tokens that are kept. One that is pushed out is fetched again, or read from the store.
const MOST_LIVE: usize = 100_000;
/// Failures that are remembered.
const MOST_FAILURES: usize = 50_000;
/// Fetches at the same time.
const FETCHES: usize = 64;
/// How long a request waits for a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pauses between tries, by what went wrong: the first, and the longest.
const PAUSE_TRANSIENT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(150));
const PAUSE_REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// What only asks the store again, and nobody else.
const PAUSE_STORE: Duration = Duration::from_millis(500);

/// Which token: of which connection, and for which caller's own token where that is exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TokenKey {
    pub(super) connection: ConnectionKey,
    /// SHA-256 of the caller's token.
    pub(super) caller: Option<[u8; 32]>,
}

/// What has to be done for a token.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) key: TokenKey,
    pub(super) spec: Arc<Obtained>,
    /// The caller's own token, where it is exchanged.
    pub(super) caller: Option<Arc<Secret>>,
    /// A token that was refused: another one is wanted.
    pub(super) refused: Option<Refused>,
}

/// A token that the upstream refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    pub(super) serial: u64,
    /// Of which generation of the stored connection it was.
    pub(super) generation: Option<i64>,
}

pub(super) type Outcome = Result<Arc<Live>, Failure>;

/// The way to the engine.
pub(super) struct Engine {
    live: Arc<Cache<TokenKey, Arc<Live>>>,
    failures: Arc<Cache<TokenKey, Past>>,
    orders: mpsc::UnboundedSender<Order>,
    workshop: Arc<Workshop>,
}

struct Order {
    work: Work,
    reply: oneshot::Sender<Outcome>,
}

impl Engine {
    /// Starts the engine's task; it ends when nobody can ask any more. Its fetches are on `tasks`, so that a stop waits
    /// for them.
    pub(super) fn start(workshop: Arc<Workshop>, tasks: TaskTracker) -> Self {
        let live = Arc::new(Cache::new(MOST_LIVE));
        let failures = Arc::new(Cache::new(MOST_FAILURES));
        let (orders, inbox) = mpsc::unbounded_channel();
        let (finished, results) = mpsc::unbounded_channel();
        let desk = Desk {
            live: live.clone(),
            workshop: workshop.clone(),
            tasks,
            slots: HashMap::new(),
            now: VecDeque::new(),
            soon: VecDeque::new(),
            running: 0,
            due: BinaryHeap::new(),
            failures: failures.clone(),
            finished,
        };
        tokio::spawn(desk.run(inbox, results));
        Self { live, failures, orders, workshop }
    }

    /// A token that can be sent, if there is one.
    pub(super) fn live(&self, key: &TokenKey, spec: &Arc<Obtained>) -> Option<Arc<Live>> {
        self.live.get(key).filter(|live| live.serves(spec))
    }

    /// Whether a token is still the one that the store has: another process may have renewed it, or an operator taken
    /// it back. The store is asked now and then, and by one request of many.
    pub(super) async fn is_current(&self, work: &Work, live: &Live) -> bool {
        let Some(stamp) = &live.stored else { return true };
        let key = &work.key.connection;
        let is = stamp.is_fresh(|| async {
            let store = self.workshop.origins.store.get().await?;
            let state = store.connection_state(key).await?;
            Ok(state.filter(|(_, status)| *status != Status::Revoked).map(|(generation, _)| generation))
        });
        let is = is.await;
        if !is {
            self.live.remove(&work.key);
        }
        is
    }

    /// Remembers that a token is dead, and that only a person can bring it back.
    pub(super) async fn condemn(&self, work: &Work, live: &Live, verdict: &Verdict) {
        self.live.remove(&work.key);
        let failure = Failure::Refused(verdict.clone());
        let until = Instant::now() + pause(&failure, 0);
        let past = Past { failure, spec: work.spec.clone(), count: 0, until };
        self.failures.insert(work.key.clone(), past);
        if let Some(stored) = &live.stored {
            let written = async {
                let store = self.workshop.origins.store.get().await?;
                store.set_status(&work.key.connection, stored.generation, Status::Revoked).await?;
                Ok::<_, Arc<StoreError>>(())
            };
            if let Err(error) = written.await {
                tracing::warn!(%error, "a revoked connection could not be marked");
            }
        }
    }

    /// A token, fetched if need be. Dropped, the fetch goes on.
    pub(super) async fn obtain(&self, work: Work) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::Unavailable("egret is stopping".to_owned());
        self.orders.send(Order { work, reply }).map_err(|_| gone())?;
        match timeout(PATIENCE, answer).await {
            Ok(outcome) => outcome.map_err(|_| gone())?,
            Err(_) => Err(Failure::Unreachable { what: "no token in time".to_owned(), maybe_done: false }),
        }
    }
}

/// A token that is being had.
struct Slot {
    work: Work,
    waiting: Vec<Order>,
    running: bool,
}

/// A failure that is told again for a while.
#[derive(Clone)]
struct Past {
    failure: Failure,
    spec: Arc<Obtained>,
    count: u32,
    until: Instant,
}

/// What the engine's task holds.
struct Desk {
    live: Arc<Cache<TokenKey, Arc<Live>>>,
    workshop: Arc<Workshop>,
    tasks: TaskTracker,
    slots: HashMap<TokenKey, Slot>,
    /// What requests wait for.
    now: VecDeque<TokenKey>,
    /// What will be needed.
    soon: VecDeque<TokenKey>,
    running: usize,
    /// When which token is to be renewed: the serial tells whether it still is the one.
    due: BinaryHeap<Reverse<(Instant, u64, TokenKey)>>,
    failures: Arc<Cache<TokenKey, Past>>,
    finished: mpsc::UnboundedSender<(TokenKey, Work, Outcome)>,
}

impl Desk {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut results: mpsc::UnboundedReceiver<(TokenKey, Work, Outcome)>,
    ) {
        loop {
            let next = self.due.peek().map(|Reverse((at, ..))| *at);
            let alarm = async move {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                Some((key, work, outcome)) = results.recv() => self.settle(&key, &work, &outcome),
                () = alarm => self.renew_due(),
            }
            self.pump();
        }
    }

    fn order(&mut self, order: Order) {
        let key = &order.work.key;
        let refused = order.work.refused.map(|refused| refused.serial);
        if let Some(live) = self.live.get(key)
            && live.serves(&order.work.spec)
        {
            if Some(live.serial) != refused {
                return answer(order, Ok(live));
            }
            // Refused, and fetched anew just now for that very reason: fetching again would not help.
            if live.is_proven() {
                return answer(order, Err(Failure::NotAccepted));
            }
        }
        if let Some(slot) = self.slots.get_mut(key) {
            // What is on its way before the refusal was known may bring the refused token once more.
            if refused.is_some() {
                slot.work.refused = slot.work.refused.or(order.work.refused);
            }
            let waits_already = !slot.waiting.is_empty() || slot.running;
            let key = key.clone();
            slot.waiting.push(order);
            if !waits_already {
                self.soon.retain(|other| *other != key);
                self.now.push_back(key);
            }
            return;
        }
        if let Some(past) = self.failures.get(key)
            && past.until > Instant::now()
            && past.spec == order.work.spec
        {
            return answer(order, Err(past.failure));
        }
        let (key, work) = (key.clone(), order.work.clone());
        self.slots.insert(key.clone(), Slot { work, waiting: vec![order], running: false });
        self.now.push_back(key);
    }

    /// Starts what may start.
    fn pump(&mut self) {
        while self.running < FETCHES {
            let Some(key) = self.now.pop_front().or_else(|| self.soon.pop_front()) else { return };
            let Some(slot) = self.slots.get_mut(&key).filter(|slot| !slot.running) else { continue };
            slot.running = true;
            self.running += 1;
            let (workshop, work, finished) =
                (self.workshop.clone(), slot.work.clone(), self.finished.clone());
            self.tasks.spawn(async move {
                // In a task of its own, so that a panic is a failure like others and the key is not stuck.
                let making = tokio::spawn({
                    let work = work.clone();
                    async move { workshop.make(&work).await }
                });
                let outcome = making.await.unwrap_or_else(|_| {
                    Err(Failure::Unavailable("BUG: obtaining the token panicked".to_owned()))
                });
                // Nobody listens any more only when egret stops.
                let _ = finished.send((key, work, outcome));
            });
        }
    }

    /// What a fetch brought.
    fn settle(&mut self, key: &TokenKey, work: &Work, outcome: &Outcome) {
        self.running -= 1;
        let Some(slot) = self.slots.remove(key) else { return };
        self.workshop.count(key, outcome.as_ref().map(|_| ()));
        match outcome {
            Ok(live) => {
                self.failures.remove(key);
                self.live.insert(key.clone(), live.clone());
                // A caller's own token is at its end by then.
                if let Some(renews) = live.renews.filter(|_| key.caller.is_none()) {
                    self.due.push(Reverse((renews, live.serial, key.clone())));
                }
            }
            Err(failure) => {
                let count = self.failures.get(key).map_or(0, |past| past.count.saturating_add(1));
                let until = Instant::now() + pause(failure, count);
                let past = Past { failure: failure.clone(), spec: work.spec.clone(), count, until };
                self.failures.insert(key.clone(), past);
                match self.live.get(key) {
                    // What is good stays in use to its end, and is tried again before that.
                    Some(live) if live.is_good() && failure.is_transient() => {
                        self.due.push(Reverse((until, live.serial, key.clone())));
                    }
                    Some(live) if !live.is_good() || failure.ends_use() => {
                        self.live.remove(key);
                    }
                    _ => {}
                }
            }
        }
        let mut others = Vec::new();
        for order in slot.waiting {
            let is_same = order.work.spec == work.spec;
            let is_refused_one = matches!((outcome, order.work.refused), (Ok(live), Some(refused)) if live.serial == refused.serial);
            if is_same && !is_refused_one { answer(order, outcome.clone()) } else { others.push(order) }
        }
        // The policy changed while the fetch was under way: they want another one.
        for order in others {
            self.order(order);
        }
    }

    /// Renews what is used and due.
    fn renew_due(&mut self) {
        while let Some(Reverse((at, ..))) = self.due.peek() {
            if *at > Instant::now() {
                return;
            }
            let Some(Reverse((_, serial, key))) = self.due.pop() else { return };
            let Some(live) = self.live.get(&key).filter(|live| live.serial == serial && live.was_used())
            else {
                continue;
            };
            if !self.slots.contains_key(&key) {
                let work = live.work(key.clone());
                self.slots.insert(key.clone(), Slot { work, waiting: Vec::new(), running: false });
                self.soon.push_back(key);
            }
        }
    }
}

/// A request that went away is no fault.
fn answer(order: Order, outcome: Outcome) {
    let _ = order.reply.send(outcome);
}

/// How long a failure is told again: doubled each time, within a fifth of it by chance.
fn pause(failure: &Failure, count: u32) -> Duration {
    let (first, longest) = match failure {
        Failure::Missing(_) | Failure::NotConnected | Failure::Gone { .. } | Failure::NotAccepted => {
            return PAUSE_STORE;
        }
        Failure::Unavailable(_) | Failure::Unreachable { .. } => PAUSE_TRANSIENT,
        Failure::Refused(verdict) => match verdict.class {
            ErrorClass::RateLimited | ErrorClass::Transient | ErrorClass::Other => PAUSE_TRANSIENT,
            _ => PAUSE_REFUSED,
        },
    };
    let doubled = first.saturating_mul(1 << count.min(16)).min(longest);
    doubled.mul_f64(0.8 + 0.4 * fastrand::f64()).max(failure.wait().unwrap_or_default())
}

impl Live {
    /// What has to be done to renew it.
    fn work(&self, key: TokenKey) -> Work {
        Work { key, spec: self.spec().clone(), caller: None, refused: None }
    }
}
