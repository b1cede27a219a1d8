//! The keys of one issuer as they are known now: kept fresh, kept when the source fails, given up when too old.

mod file;
mod remote;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio_util::sync::CancellationToken;

use self::{
    file::{KeyFile, Look},
    remote::Remote,
};
use super::{
    clock::Clock,
    keys::{BadKeySet, KeySet},
    settings::{Algorithm, IssuerConfig, KeySource},
};
use crate::{
    audit::{Audit, Event},
    fetch::Fetch,
    metrics::Metrics,
};

/// What an issuer's keys are kept with, shared by all issuers.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) audit: Audit,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: Arc<str>,
    /// Keys that fit none of these are left out of the set.
    allowed: Vec<Algorithm>,
    max_stale: Duration,
    source: Source,
    /// The last good set. None until there has been one.
    held: ArcSwapOption<Held>,
    /// Held while `held` is replaced, so that generations only rise.
    history: Mutex<History>,
    around: Surroundings,
}

#[derive(Debug)]
enum Source {
    File(KeyFile),
    Url(Remote),
    Inline,
}

/// A good set.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) set: Arc<KeySet>,
    /// Rises with every change of the keys. What was verified with an older generation no longer counts.
    pub(super) generation: u64,
    /// When it is too old to be used, by the steady clock.
    good_until: Duration,
}

#[derive(Debug, Default)]
struct History {
    generation: u64,
    /// Whether the source has failed since it last answered.
    outage: bool,
}

/// What a second look at the source gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// What is held is what the source says, or said some seconds ago.
    Known,
    /// The source did not answer, so nobody can say whether it has other keys.
    Failed,
}

impl Keys {
    /// The keys of `config`'s issuer. A file is read at once; a URL is fetched by [`Keys::keep_fresh`], or when
    /// the first token comes.
    pub(super) fn new(config: &IssuerConfig, issuer: Arc<str>, around: Surroundings) -> Self {
        let source = match &config.keys {
            KeySource::File(path) => Source::File(KeyFile::new(path.clone())),
            KeySource::Url(url) => Source::Url(Remote::new(url.clone())),
            KeySource::Inline(_) => Source::Inline,
        };
        let keys = Self {
            issuer,
            allowed: config.algorithms.clone(),
            max_stale: config.max_stale,
            source,
            held: ArcSwapOption::empty(),
            history: Mutex::default(),
            around,
        };
        match &config.keys {
            KeySource::File(_) => keys.look_at_file(true),
            KeySource::Inline(text) => _ = keys.answered(text.as_bytes()),
            KeySource::Url(_) => {}
        }
        keys
    }

    /// The keys to verify with, unless there are none or they are too old.
    pub(super) fn current(&self) -> Option<Guard<Option<Arc<Held>>>> {
        self.look_at_file(false);
        let held = self.held.load();
        let inline = matches!(self.source, Source::Inline);
        let usable = held.as_ref().is_some_and(|h| inline || self.around.clock.steady() < h.good_until);
        usable.then_some(held)
    }

    /// Asks the source whether it has other keys by now. Waits for a fetch that is under way, starts one where
    /// the last is long enough ago, and otherwise answers at once.
    pub(super) async fn look_again(self: &Arc<Self>) -> Looked {
        match &self.source {
            Source::File(_) => self.look_at_file(true),
            Source::Url(remote) => match remote.ask(self).await {
                Looked::Known => {}
                Looked::Failed => return Looked::Failed,
            },
            Source::Inline => {}
        }
        if self.history().outage { Looked::Failed } else { Looked::Known }
    }

    /// Fetches the keys now and ahead of every expiry, until `stop`. Ends at once where there is no URL.
    pub(super) async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        if let Source::Url(remote) = &self.source {
            // Dropping the loop gives up waiting; a fetch under way lands by itself.
            stop.run_until_cancelled(remote.keep_fresh(&self)).await;
        }
    }

    fn look_at_file(&self, at_once: bool) {
        let Source::File(file) = &self.source else { return };
        match file.look(self.around.clock.steady(), at_once) {
            Look::NotNow => {}
            Look::Same => self.confirmed(),
            Look::Changed(text) => _ = self.answered(&text),
            Look::Failed(why) => _ = self.failed(&why),
        }
    }

    /// The source gave a document. One without usable keys is a failure: the last good set stays.
    fn answered(&self, text: &[u8]) -> Looked {
        match self.accept(text) {
            Ok(()) => Looked::Known,
            Err(bad) => {
                if let Source::File(file) = &self.source {
                    file.forget();
                }
                self.failed(&bad.to_string())
            }
        }
    }

    fn accept(&self, text: &[u8]) -> Result<(), BadKeySet> {
        let set = KeySet::parse(text, &self.allowed)?;
        let mut history = self.history();
        let known = self.held.load_full().filter(|held| held.set.same(&set));
        let set = known.map_or_else(
            || {
                history.generation += 1;
                tracing::info!(issuer = %self.issuer, skipped = set.skipped, "the issuer's keys have changed");
                Arc::new(set)
            },
            |held| held.set.clone(),
        );
        self.hold(&mut history, set);
        self.around.metrics.jwks_fetched(&self.issuer);
        Ok(())
    }

    /// The source says that what it said last is still so.
    fn confirmed(&self) {
        let mut history = self.history();
        if let Some(held) = self.held.load_full() {
            self.hold(&mut history, held.set.clone());
        }
    }

    fn hold(&self, history: &mut History, set: Arc<KeySet>) {
        history.outage = false;
        let good_until = self.around.clock.steady().saturating_add(self.max_stale);
        self.held.store(Some(Arc::new(Held { set, generation: history.generation, good_until })));
    }

    /// The source failed. Said once for each outage.
    fn failed(&self, why: &str) -> Looked {
        if std::mem::replace(&mut self.history().outage, true) {
            return Looked::Failed;
        }
        tracing::warn!(issuer = %self.issuer, reason = why, "the issuer's keys cannot be had");
        self.around.audit.event(&Event::JwksStale { issuer: &self.issuer, reason: why });
        Looked::Failed
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A panic while it was held leaves two plain values, each of them true.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Keys {
    /// What the background task does when it wakes.
    pub(super) async fn refresh_if_due(self: &Arc<Self>) {
        if let Source::Url(remote) = &self.source
            && remote.due_in(self).is_zero()
        {
            remote.refresh(self).await;
        }
    }

    /// When the background task would wake next.
    pub(super) fn due_in(self: &Arc<Self>) -> Option<Duration> {
        match &self.source {
            Source::Url(remote) => Some(remote.due_in(self)),
            Source::File(_) | Source::Inline => None,
        }
    }
}
