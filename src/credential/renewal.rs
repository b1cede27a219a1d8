//! Tokens that are kept in the store, and how they are renewed so that none is ever lost.
//!
//! A refresh token may be good for one use only, and one that is presented twice may take all of its family with it. So:
//! who renews holds a lease on the connection; writes down that the refresh token is being spent, before it is sent; and
//! keeps the new tokens before anybody uses them. A connection that is found half way says so: its refresh token is not
//! sent again, unless the provider's rotation allows that, and it waits for a person as `unknown`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

use super::{
    engine::Work,
    failure::Failure,
    live::{Live, Material, Span},
    step,
    workshop::{Tools, Workshop},
};
use crate::{
    context::ulid,
    plan::{Authorization, ErrorClass, Rotation},
    secret::Secret,
    store::{self, Connection, ConnectionKey, Facts, Lease, Status, Store, StoreError, Tokens},
};

/// How long a lease is good, in seconds: longer than a token endpoint may take, and than saving may be tried.
const LEASE: i64 = 45;
/// How long another process is waited for.
const WAIT: Duration = Duration::from_secs(25);
/// When a token that is good and could not be renewed is tried again, in seconds.
const LATER: i64 = 30;
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(100);
/// How long saving is tried before a request is refused; later requests try again.
const SAVING: Duration = Duration::from_secs(10);
/// How often a refusal without a meaning is met with another try, until the grant counts as gone.
const DOUBTS: u32 = 3;

/// Tokens that were got and could not be kept yet. They are used by nobody until they are.
#[derive(Default)]
pub(super) struct Unsaved(Mutex<HashMap<ConnectionKey, Held>>);

/// What could not be kept yet.
struct Held {
    /// In the place of which generation.
    generation: i64,
    tokens: Tokens,
    facts: Facts,
}

impl Unsaved {
    fn take(&self, key: &ConnectionKey) -> Option<Held> {
        // Every critical section is one change of the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn put(&self, key: ConnectionKey, held: Held) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, held);
    }
}

/// Moments of a renewal. Tests end the process at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Read,
    Leased,
    ReadAgain,
    Prepared,
    WrittenAhead,
    Sending,
    Answered,
    Understood,
    Saving,
    Saved,
    Refused,
    Marked,
}

#[cfg(not(test))]
fn at(_: Point) {}
#[cfg(test)]
use super::tests::kill::at;

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        let what = error.to_string();
        if error.is_transient() { Self::Unavailable(what) } else { Self::Missing(what) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<StoreError>> for Failure {
    fn from(error: Arc<StoreError>) -> Self {
        Self::from(&*error)
    }
}

impl Workshop {
    /// A key that its owner deposited.
    pub(super) async fn deposited(&self, work: &Work) -> Result<Live, Failure> {
        let store = self.origins.store.get().await?;
        let row = store.connection(&work.key.connection).await?.ok_or(Failure::NotConnected)?;
        if row.status != Status::Active {
            return Err(Failure::Gone { code: None });
        }
        // There is no other: the owner may deposit one.
        if work.refused.is_some_and(|refused| refused.generation == Some(row.generation)) {
            return Err(Failure::NotAccepted);
        }
        live(work, row)
    }

    /// The token of a grant: as it is kept, or renewed.
    pub(super) async fn authorized(&self, how: &Authorization, work: &Work) -> Result<Live, Failure> {
        let store = self.origins.store.get().await?;
        let lease = Lease { holder: format!("{}/{}", self.holder, ulid(SystemTime::now())) };
        let renewal = Renewal { workshop: self, store, how, work, key: &work.key.connection, lease };
        renewal.run().await
    }
}

/// One renewal.
struct Renewal<'w> {
    workshop: &'w Workshop,
    store: &'w Store,
    how: &'w Authorization,
    work: &'w Work,
    key: &'w ConnectionKey,
    lease: Lease,
}

impl Renewal<'_> {
    async fn run(&self) -> Result<Live, Failure> {
        self.save_held().await?;
        let deadline = Instant::now() + WAIT;
        loop {
            let row = self.store.connection(self.key).await?.ok_or(Failure::NotConnected)?;
            at(Point::Read);
            if self.is_usable(&row).await? {
                return live(self.work, row);
            }
            // It is only due: what is good is used, whoever renews it and whatever comes of that.
            let is_good = self.is_good(&row);
            if self.store.lease(self.key, &self.lease, LEASE).await? {
                at(Point::Leased);
                match self.renew().await {
                    Ok(Some(live)) => return Ok(live),
                    // It changed while the lease was taken: all is looked at anew.
                    Ok(None) => {}
                    Err(failure) => {
                        // Where the status was set, or the mark taken back, this finds nothing to do.
                        let _ = self.store.release(self.key, &self.lease).await;
                        return if is_good && failure.is_transient() {
                            self.for_now().await
                        } else {
                            Err(failure)
                        };
                    }
                }
            }
            if is_good {
                return self.for_now().await;
            }
            if Instant::now() > deadline {
                let what = "another process is renewing it, and is not done yet".to_owned();
                return Err(Failure::Unreachable { what, maybe_done: false });
            }
            sleep(LOOK.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    /// Whether its token can still be sent, and was not refused.
    fn is_good(&self, row: &Connection) -> bool {
        let is_refused = self.work.refused.is_some_and(|refused| refused.generation == Some(row.generation));
        row.facts.expires_at.is_none_or(|ends| store::now() < ends) && !is_refused
    }

    /// The token as it is, to be renewed a little later.
    async fn for_now(&self) -> Result<Live, Failure> {
        let mut row = self.store.connection(self.key).await?.ok_or(Failure::NotConnected)?;
        if row.status == Status::Revoked {
            return Err(Failure::Gone { code: None });
        }
        row.facts.renew_at = Some(store::now() + LATER);
        live(self.work, row)
    }

    /// Whether its token can be used as it is; otherwise it has to be renewed, and can be.
    async fn is_usable(&self, row: &Connection) -> Result<bool, Failure> {
        let is_good = self.is_good(row);
        let can_renew = match self.how.rotation {
            Rotation::None => false,
            Rotation::AccessExchange => is_good,
            _ => row.tokens.refresh_token.is_some(),
        };
        match row.status {
            // The token may outlive the grant that nobody knows of.
            Status::Unknown | Status::Expired if is_good => return Ok(true),
            Status::Unknown => return Err(Failure::Gone { code: Some("outcome_unknown".to_owned()) }),
            Status::Revoked | Status::Expired => return Err(Failure::Gone { code: None }),
            Status::Active => {}
        }
        let is_due = row.facts.renew_at.is_some_and(|due| store::now() >= due);
        if is_good && !(is_due && can_renew) {
            return Ok(true);
        }
        if !can_renew {
            // Nothing to renew it with. A token without an end that was refused was taken back.
            let has_ended = row.facts.expires_at.is_some_and(|ends| store::now() >= ends);
            let status = if has_ended { Status::Expired } else { Status::Revoked };
            self.store.set_status(self.key, row.generation, status).await?;
            return Err(Failure::Gone { code: None });
        }
        Ok(false)
    }

    /// Renews it, under the lease. None where it changed meanwhile.
    async fn renew(&self) -> Result<Option<Live>, Failure> {
        let row = self.store.connection(self.key).await?.ok_or(Failure::NotConnected)?;
        at(Point::ReadAgain);
        let generation = row.generation;
        if self.is_usable(&row).await? {
            self.store.release(self.key, &self.lease).await?;
            return live(self.work, row).map(Some);
        }
        if let Some(since) = row.spending
            && !self.may_be_sent_again(since)
        {
            // Whoever sent it did not live to tell.
            self.store.set_status(self.key, generation, Status::Unknown).await?;
            at(Point::Marked);
            return if self.is_good(&row) {
                live(self.work, row).map(Some)
            } else {
                Err(Failure::Gone { code: Some("outcome_unknown".to_owned()) })
            };
        }
        let Tools { mut values, certificate } =
            self.workshop.prepare(&self.how.recipe, &self.key.tenant, None).await?;
        let Connection { tokens, facts, .. } = row;
        let old_refresh = tokens.refresh_token.map(Arc::new);
        if let Some(token) = &old_refresh {
            values.set("refresh_token", token.clone());
        }
        values.set("access_token", Arc::new(tokens.access_token));
        let scope = facts.scopes.replace(' ', &self.how.scope_separator);
        values.set_text("scope", &scope);
        at(Point::Prepared);
        if !self.store.spend(self.key, generation, &self.lease).await? {
            return Ok(None);
        }
        at(Point::WrittenAhead);
        let step = &self.how.refresh;
        at(Point::Sending);
        let answer = step::send(step, &values, certificate.as_ref(), &*self.workshop.calls).await;
        at(Point::Answered);
        let brought = answer.and_then(|answer| step::understand(step, &answer));
        at(Point::Understood);
        let brought = match brought {
            Ok(brought) => brought,
            Err(failure) => return Err(self.failed(generation, failure).await),
        };
        let Some(access_token) = brought.access_token else {
            let what = format!("the answer of {} has no token", step.url.authority);
            return Err(self.failed(generation, Failure::Unreachable { what, maybe_done: true }).await);
        };
        let mut kept: Vec<(Box<str>, Secret)> = tokens.kept;
        for (name, value) in brought.kept {
            kept.retain(|(other, _)| *other != name);
            kept.extend(Arc::into_inner(value).map(|value| (name, value)));
        }
        // No new one means that the old one stays good (RFC 6749 §6).
        let refresh_token = brought.refresh_token.or_else(|| {
            drop(values);
            old_refresh.and_then(Arc::into_inner)
        });
        let tokens = Tokens { access_token, refresh_token, kept };
        let facts = facts_of(brought.lifetime, self.how, brought.scope.unwrap_or(facts.scopes));
        at(Point::Saving);
        let saved = self.save(generation, tokens, facts).await?;
        at(Point::Saved);
        let Some(row) = (match saved {
            Some(_) => self.store.connection(self.key).await?,
            // A person connected it anew meanwhile, or took it back: that counts.
            None => return Ok(None),
        }) else {
            return Err(Failure::NotConnected);
        };
        live(self.work, row).map(Some)
    }

    /// Whether a refresh token may be presented that was already, nobody knows with what outcome.
    fn may_be_sent_again(&self, since: i64) -> bool {
        let within = |grace: Duration| {
            store::now().saturating_sub(since) < i64::try_from(grace.as_secs()).unwrap_or(0)
        };
        !self.how.rotation.is_single_use() || self.how.reuse_grace.is_some_and(within)
    }

    /// Writes down what a failure means for the connection.
    async fn failed(&self, generation: i64, failure: Failure) -> Failure {
        at(Point::Refused);
        let status = match &failure {
            Failure::Refused(verdict) => match verdict.class {
                ErrorClass::Revoked | ErrorClass::Expired => Some(Status::Revoked),
                ErrorClass::Other if self.workshop.doubt(self.key, generation) >= DOUBTS => {
                    Some(Status::Revoked)
                }
                _ => None,
            },
            Failure::Unreachable { maybe_done: true, .. } if self.how.rotation.is_single_use() => {
                Some(Status::Unknown)
            }
            _ => None,
        };
        let written = match status {
            Some(status) => self.store.set_status(self.key, generation, status).await,
            None => self.store.unspent(self.key, generation).await,
        };
        at(Point::Marked);
        if let Err(error) = written {
            tracing::warn!(%error, "what became of a connection could not be written down");
        }
        match (status, failure) {
            (Some(Status::Revoked), Failure::Refused(verdict)) => Failure::Gone { code: verdict.code },
            (_, failure) => failure,
        }
    }

    /// Keeps the new tokens. A store that does not take them is tried for a while; then they are held until it does.
    async fn save(&self, generation: i64, tokens: Tokens, facts: Facts) -> Result<Option<i64>, Failure> {
        let deadline = Instant::now() + SAVING;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.store.renewed(self.key, generation, &tokens, &facts).await {
                Ok(saved) => return Ok(saved),
                Err(error) if Instant::now() + pause < deadline => {
                    tracing::warn!(%error, "new tokens could not be kept yet");
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => {
                    self.workshop.unsaved.put(self.key.clone(), Held { generation, tokens, facts });
                    return Err(error.into());
                }
            }
        }
    }

    /// Keeps what an earlier renewal could not.
    async fn save_held(&self) -> Result<(), Failure> {
        let Some(Held { generation, tokens, facts }) = self.workshop.unsaved.take(self.key) else {
            return Ok(());
        };
        match self.store.renewed(self.key, generation, &tokens, &facts).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.workshop.unsaved.put(self.key.clone(), Held { generation, tokens, facts });
                Err(error.into())
            }
        }
    }
}

/// When a token ends, and when it is renewed.
pub(super) fn facts_of(lifetime: Option<Duration>, how: &Authorization, scopes: String) -> Facts {
    let span = lifetime.map(|lifetime| Span::of(lifetime, how.recipe.ahead));
    let at =
        |after: Duration| store::now().saturating_add(i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
    Facts {
        expires_at: span.map(|span| at(span.lifetime)),
        renew_at: span.map(|span| at(span.renew_after)),
        scopes,
    }
}

/// A stored connection as a token that can be sent.
fn live(work: &Work, row: Connection) -> Result<Live, Failure> {
    let Connection { generation, facts, tokens, .. } = row;
    let until = |at: i64| Duration::from_secs(u64::try_from(at.saturating_sub(store::now())).unwrap_or(0));
    let span = facts.expires_at.map(|ends| Span {
        lifetime: until(ends),
        renew_after: facts.renew_at.map_or_else(|| until(ends), until),
    });
    let material = Material {
        token: Arc::new(tokens.access_token),
        kept: tokens.kept.into_iter().map(|(name, value)| (name, Arc::new(value))).collect(),
        span,
        scopes: Some(facts.scopes).filter(|scopes| !scopes.is_empty()),
        stored: Some(generation),
    };
    Live::new(work.spec.clone(), material, work.refused.is_some())
}
