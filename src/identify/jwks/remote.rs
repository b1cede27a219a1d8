//! Keys behind a URL: one fetch at a time, ahead of expiry, and rarely on demand.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Keys, Looked, Source};
use crate::{
    fetch::{FetchError, FetchUrl},
    identify::keys::LARGEST,
};

/// How long keys are fresh when the answer does not say.
const USUAL_LIFE: Duration = Duration::from_secs(15 * 60);
/// Bounds of what the answer may say.
const SHORTEST_LIFE: Duration = Duration::from_secs(5 * 60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Tokens may cause one fetch in this time, whatever comes of it. Keys are rotated over hours; whoever sends
/// made-up key names must not be able to make us hammer the issuer.
const WINDOW: Duration = Duration::from_secs(10);
/// How long a request waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const LONGEST_FETCH: Duration = Duration::from_secs(10);

const ACCEPT: &str = "application/jwk-set+json, application/json";

/// A JWK set behind a URL.
#[derive(Debug)]
pub(super) struct Remote {
    url: FetchUrl,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The fetch under way; cancelled when it has landed.
    flight: Option<CancellationToken>,
    /// When tokens may cause a fetch again.
    window_ends: Duration,
    /// When the background fetches next.
    next: Duration,
    /// Failures since the last success.
    failures: u32,
}

impl Remote {
    pub(super) fn new(url: FetchUrl) -> Self {
        Self { url, state: Mutex::default() }
    }

    /// A token asks for keys that are not there. `Failed` when the fetch did not land while we
    /// waited for it. When the request is dropped the fetch goes on: others wait for it.
    pub(super) async fn ask(&self, keys: &Arc<Keys>) -> Looked {
        let flight = {
            let mut state = self.state();
            match under_way(&state) {
                Some(flight) => flight,
                None if keys.around.clock.steady() < state.window_ends => return Looked::Known,
                None => self.take_off(&mut state, keys),
            }
        };
        match timeout(PATIENCE, flight.cancelled()).await {
            Ok(()) => Looked::Known,
            Err(_) => Looked::Failed,
        }
    }

    /// Fetches whenever it is due, for ever.
    pub(super) async fn keep_fresh(&self, keys: &Arc<Keys>) {
        loop {
            let wait = self.due_in(keys);
            if wait.is_zero() {
                self.refresh(keys).await;
            } else {
                sleep(wait).await;
            }
        }
    }

    /// Fetches, or waits for the fetch under way.
    pub(super) async fn refresh(&self, keys: &Arc<Keys>) {
        let flight = {
            let mut state = self.state();
            under_way(&state).unwrap_or_else(|| self.take_off(&mut state, keys))
        };
        flight.cancelled().await;
    }

    /// How long until the background fetches.
    pub(super) fn due_in(&self, keys: &Keys) -> Duration {
        self.state().next.saturating_sub(keys.around.clock.steady())
    }

    fn take_off(&self, state: &mut State, keys: &Arc<Keys>) -> CancellationToken {
        let now = keys.around.clock.steady();
        let flight = CancellationToken::new();
        state.flight = Some(flight.clone());
        state.window_ends = now.saturating_add(WINDOW);
        // Only a fetch that panics leaves this as it is.
        state.next = now.saturating_add(LONGEST_WAIT);
        tokio::spawn(fly(keys.clone(), self.url.clone(), flight.clone()));
        flight
    }

    /// Plans the next fetch.
    fn landed(&self, keys: &Keys, looked: Looked, max_age: Option<Duration>) {
        let now = keys.around.clock.steady();
        let mut state = self.state();
        let wait = match looked {
            Looked::Known => {
                state.failures = 0;
                let life = max_age.unwrap_or(USUAL_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
                // Ahead of expiry, and not all proxies of a fleet at once.
                life.mul_f64(0.7 + 0.2 * fastrand::f64())
            }
            Looked::Failed => {
                let doubled = FIRST_WAIT.saturating_mul(1 << state.failures.min(6));
                state.failures = state.failures.saturating_add(1);
                doubled.min(LONGEST_WAIT).mul_f64(0.75 + 0.25 * fastrand::f64())
            }
        };
        state.next = now.saturating_add(wait);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves at worst a fetch planned too early.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn under_way(state: &State) -> Option<CancellationToken> {
    state.flight.clone().filter(|flight| !flight.is_cancelled())
}

/// One fetch. A task of its own, so that no client can break it off for the others.
async fn fly(keys: Arc<Keys>, url: FetchUrl, flight: CancellationToken) {
    // Lands on every way out, also when the fetch panics.
    let _lands = flight.drop_guard();
    let fetching = keys.around.fetch.get(&url, ACCEPT, LARGEST, LONGEST_FETCH);
    // The fetch keeps its own time; a second watch makes sure that no flight lasts for ever.
    let answer =
        timeout(LONGEST_FETCH, fetching).await.unwrap_or_else(|_| Err(FetchError("timed out".into())));
    let (looked, max_age) = match answer {
        Ok(fetched) => (keys.answered(&fetched.body), fetched.max_age),
        Err(error) => (keys.failed(&error.to_string()), None),
    };
    if let Source::Url(remote) = &keys.source {
        remote.landed(&keys, looked, max_age);
    }
}
