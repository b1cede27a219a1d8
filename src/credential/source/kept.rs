//! What sources outside of egret gave, kept as long as it counts. Many that ask for one thing wait for one answer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use tokio::{sync::Mutex as Gate, time::Instant};

use super::Flaw;
use crate::secret::Secret;

/// Things that are kept. One that is pushed out is asked for again.
const MOST: usize = 10_000;
/// How long what has no end of its own is used when its source cannot be asked, beyond the time it is taken as it is.
const GRACE: Duration = Duration::from_secs(60);
/// How long a failure is told again without another try.
const PAUSE: Duration = Duration::from_secs(2);
/// What ends is asked for again this long before, or a tenth of its time if that is less.
const MARGIN: Duration = Duration::from_secs(60);
/// What ends is not sent any more this long before, or a tenth of its time if that is less.
const SKEW: Duration = Duration::from_secs(5);

/// Why a source gave nothing; goes after the reference in a sentence. Never holds what the source said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::credential) enum Fault {
    /// Somebody must do something.
    #[error("{0}")]
    Missing(String),
    /// It may pass by itself.
    #[error("{0}")]
    Unavailable(String),
}

impl Fault {
    pub(super) fn missing(what: impl Into<String>) -> Self {
        Self::Missing(what.into())
    }

    pub(super) fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable(what.into())
    }
}

/// A secret that is one text, or has named parts, or both: AWS's are JSON or not.
pub(super) struct Parts {
    whole: Option<Arc<Secret>>,
    fields: HashMap<Box<str>, Arc<Secret>>,
    /// Of all of it: tells another version from the same one read again.
    digest: [u8; 32],
}

impl Parts {
    pub(super) fn new(whole: Option<Secret>, fields: HashMap<Box<str>, Arc<Secret>>) -> Arc<Self> {
        let whole = whole.map(Arc::new);
        let mut context = digest::Context::new(&digest::SHA256);
        let sorted: BTreeMap<_, _> = fields.iter().collect();
        for secret in whole.iter().chain(sorted.values().copied()) {
            context.update(&secret.sha256());
        }
        for name in sorted.keys() {
            context.update(name.as_bytes());
            context.update(&[0]);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Arc::new(Self { whole, fields, digest })
    }

    pub(super) fn whole(secret: Secret) -> Arc<Self> {
        Self::new(Some(secret), HashMap::new())
    }

    /// The part that a reference names.
    pub(super) fn part(&self, field: Option<&str>) -> Result<Arc<Secret>, Flaw> {
        let found = match field {
            None => self.whole.as_ref().ok_or(Flaw::Empty)?,
            Some(_) if self.fields.is_empty() => {
                return Err(Fault::missing("has no fields: it is no JSON object").into());
            }
            Some(field) => self
                .fields
                .get(field)
                .ok_or_else(|| Flaw::Outside(Fault::missing(format!("has no field `{field}`"))))?,
        };
        if found.is_empty() { Err(Flaw::Empty) } else { Ok(found.clone()) }
    }
}

/// How long something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// It is taken as it is.
    pub(super) fresh: Duration,
    /// It is used when its source cannot say more.
    pub(super) usable: Duration,
    /// Its source said when it ends: until then it is good, and nobody waits while it is asked for again.
    pub(super) is_said: bool,
}

impl Times {
    /// Something that nobody said the end of.
    pub(super) fn unsaid(fresh: Duration) -> Self {
        Self { fresh, usable: fresh + GRACE, is_said: false }
    }

    /// Something that ends.
    pub(super) fn ending(lifetime: Duration) -> Self {
        let fresh = lifetime.saturating_sub(MARGIN.min(lifetime / 10));
        Self { fresh, usable: lifetime.saturating_sub(SKEW.min(lifetime / 10)), is_said: true }
    }

    /// Something that ends and can be made to last at half its time.
    pub(super) fn leased(lifetime: Duration) -> Self {
        Self { fresh: lifetime / 2, ..Self::ending(lifetime) }
    }
}

/// What a source gave.
pub(super) struct Given {
    pub(super) parts: Arc<Parts>,
    pub(super) times: Times,
    /// By which it can be made to last.
    pub(super) lease: Option<Arc<super::vault::Lease>>,
}

/// What is kept of it.
pub(super) struct Held {
    pub(super) parts: Arc<Parts>,
    pub(super) lease: Option<Arc<super::vault::Lease>>,
    /// Tells one version from another.
    pub(super) serial: u64,
    times: Times,
    since: Instant,
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.times.fresh
    }

    fn is_usable(&self) -> bool {
        self.since.elapsed() < self.times.usable
    }
}

/// All that is kept.
pub(super) struct Shelf(Cache<Box<str>, Arc<Slot>>);

impl Default for Shelf {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Shelf {
    /// What is kept under a name, or what `ask` brings. Of many that need it, one asks; dropped, it still does, and the
    /// next has what it brought. `ask` is told what was there before.
    pub(super) async fn get<F>(
        &self,
        name: &str,
        ask: impl FnOnce(Option<Arc<Held>>) -> F + Send + 'static,
    ) -> Result<Arc<Held>, Fault>
    where
        F: Future<Output = Result<Given, Fault>> + Send,
    {
        let slot = self.slot(name);
        if let Some(outcome) = slot.look() {
            return outcome;
        }
        let gate = match slot.gate.clone().try_lock_owned() {
            Ok(gate) => gate,
            // Somebody asks already: what is still good is good for this one.
            Err(_) => match slot.usable() {
                Some(held) => return Ok(held),
                None => slot.gate.clone().lock_owned().await,
            },
        };
        if let Some(outcome) = slot.look() {
            return outcome;
        }
        let asking = tokio::spawn({
            let slot = slot.clone();
            async move {
                let _gate = gate;
                let before = slot.now().held.clone();
                let outcome = ask(before).await;
                slot.settle(outcome)
            }
        });
        if let Some(held) = slot.usable()
            && held.times.is_said
        {
            return Ok(held);
        }
        asking.await.unwrap_or_else(|_| Err(Fault::unavailable("BUG: reading it panicked")))
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        if let Some(slot) = self.0.get(name) {
            return slot;
        }
        // Of two that make one at once, both take that of the first.
        let made: Result<_, std::convert::Infallible> =
            self.0.get_or_insert_with(&Box::from(name), || Ok(Arc::default()));
        made.unwrap_or_else(|never| match never {})
    }
}

/// One thing that is kept.
#[derive(Default)]
struct Slot {
    now: Mutex<Now>,
    /// Held by the one that asks.
    gate: Arc<Gate<()>>,
}

#[derive(Default)]
struct Now {
    held: Option<Arc<Held>>,
    failed: Option<(Instant, Fault)>,
}

impl Slot {
    fn now(&self) -> MutexGuard<'_, Now> {
        // Every critical section is one assignment or one look.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Option<Arc<Held>> {
        self.now().held.clone().filter(|held| held.is_usable())
    }

    /// What can be said without asking.
    fn look(&self) -> Option<Result<Arc<Held>, Fault>> {
        let now = self.now();
        if let Some(held) = now.held.as_ref().filter(|held| held.is_fresh()) {
            return Some(Ok(held.clone()));
        }
        let (at, fault) = now.failed.as_ref()?;
        if at.elapsed() >= PAUSE {
            return None;
        }
        let held = now.held.as_ref().filter(|held| held.is_usable());
        Some(held.map_or_else(|| Err(fault.clone()), |held| Ok(held.clone())))
    }

    fn settle(&self, outcome: Result<Given, Fault>) -> Result<Arc<Held>, Fault> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let mut now = self.now();
        match outcome {
            Ok(Given { parts, times, lease }) => {
                let same = now.held.as_ref().filter(|held| held.parts.digest == parts.digest);
                let serial = same.map_or_else(|| SERIAL.fetch_add(1, Ordering::Relaxed), |held| held.serial);
                let held = Arc::new(Held { parts, lease, serial, times, since: Instant::now() });
                *now = Now { held: Some(held.clone()), failed: None };
                Ok(held)
            }
            Err(fault) => {
                if matches!(fault, Fault::Missing(_)) {
                    // A secret that was taken away is not used again.
                    now.held = None;
                }
                now.failed = Some((Instant::now(), fault.clone()));
                match now.held.clone().filter(|held| held.is_usable()) {
                    Some(held) => {
                        tracing::warn!(%fault, "a secret cannot be read anew; the last one stays in use for a while");
                        Ok(held)
                    }
                    None => Err(fault),
                }
            }
        }
    }
}
