//! Room 4. How often: governor's cells, each under a key that begins with the tenant.
//!
//! Keys are bounded. A cell is forgotten only when it is full again, so forgetting never gives a request back;
//! when a policy changes a quota, the old cell still counts until its window has passed.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};

use crate::{
    audit::LimitState,
    context::{AgentId, IntegrationId, TenantId, UserId},
    decide::{Grant, Granted},
    message::Message,
    plan::{LimitRule, LimitScope, Quota},
    refusal::{Reason, Refusal},
};

/// Cells kept at the same time.
const CELLS: usize = 262_144;

/// A request within its quotas.
#[derive(Debug)]
pub struct Admitted {
    message: Message,
    grant: Grant,
}

impl Admitted {
    /// Hands the parts to `approve`.
    pub(crate) fn into_parts(self) -> (Message, Grant) {
        (self.message, self.grant)
    }
}

/// Whose requests a cell counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    whose: Whose,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Tenant,
    Integration(IntegrationId),
    Agent(IntegrationId, AgentId),
    User(IntegrationId, UserId),
}

type Direct = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// One governor limiter and what it was made for.
struct Cell {
    quota: Quota,
    limiter: Direct,
    /// The cell of the quota before the last change, until its window has passed.
    before: Option<(Box<Cell>, Instant)>,
}

/// What a cell says to one request.
enum Verdict {
    Fits { remaining: u32 },
    Full { quota: Quota, wait: Duration },
}

/// The quotas in use. They outlive policies: a reload never gives requests back.
#[derive(Default)]
pub struct Limits {
    cells: Mutex<HashMap<Key, Cell>>,
    clock: DefaultClock,
    most: Option<usize>,
}

impl Limits {
    /// Counts the request against every quota that concerns it, the most specific first.
    ///
    /// # Errors
    /// `rate_limited` when a quota is used up; in shadow mode this is only noted.
    pub fn admit(&self, granted: Granted) -> Result<Admitted, Refusal> {
        let (mut message, _caller, grant) = granted.into_parts();
        let rules = grant.plan().map_or(&[][..], |plan| &plan.limits);
        let mut tightest: Option<LimitState> = None;
        for rule in rules {
            let Some(key) = key(rule.scope, &grant) else { continue };
            match self.count(key, rule.quota) {
                Verdict::Fits { remaining } => {
                    if tightest.as_ref().is_none_or(|t| remaining < t.remaining) {
                        tightest = Some(LimitState { policy: rule.name.clone(), remaining });
                    }
                }
                Verdict::Full { quota, wait } => {
                    message.entry.limited(LimitState { policy: rule.name.clone(), remaining: 0 });
                    let reason = refused(rule, quota, wait);
                    if grant.enforced() {
                        return Err(message.refuse(reason));
                    }
                    message.entry.shadowed(&reason);
                }
            }
        }
        if let Some(state) = tightest {
            message.entry.limited(state);
        }
        Ok(Admitted { message, grant })
    }

    fn count(&self, key: Key, quota: Quota) -> Verdict {
        // Every critical section leaves the map whole, also when it panics.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.len() >= self.most.unwrap_or(CELLS) && !cells.contains_key(&key) {
            cells.retain(|_, cell| !cell.is_unused());
            if cells.len() >= self.most.unwrap_or(CELLS) {
                return Verdict::Full { quota, wait: Duration::from_secs(1) };
            }
        }
        let cell = cells.entry(key).or_insert_with(|| Cell::new(quota));
        if cell.quota != quota {
            let old = std::mem::replace(cell, Cell::new(quota));
            let until = Instant::now() + old.quota.window;
            cell.before = Some((Box::new(Cell { before: None, ..old }), until));
        }
        cell.count(&self.clock)
    }
}

impl Cell {
    fn new(quota: Quota) -> Self {
        // One request each `window / count`, at most `count` at once: `120/min` is governor's `per_minute(120)`.
        let each = (quota.window / quota.count.get()).max(Duration::from_nanos(1));
        let limit = governor::Quota::with_period(each).map(|q| q.allow_burst(quota.count));
        let limit = limit.unwrap_or_else(|| governor::Quota::per_second(NonZeroU32::MIN));
        Self { quota, limiter: RateLimiter::direct(limit).with_middleware(), before: None }
    }

    fn count(&mut self, clock: &DefaultClock) -> Verdict {
        if let Some((before, until)) = &mut self.before {
            if Instant::now() >= *until {
                self.before = None;
            } else if let full @ Verdict::Full { .. } = before.count(clock) {
                return full;
            }
        }
        match self.limiter.check() {
            Ok(state) => Verdict::Fits { remaining: state.remaining_burst_capacity() },
            Err(not_yet) => Verdict::Full { quota: self.quota, wait: not_yet.wait_time_from(clock.now()) },
        }
    }

    /// Whether forgetting it gives nothing back: all its requests fit at once, so none is counted any more.
    fn is_unused(&self) -> bool {
        self.before.as_ref().is_none_or(|(_, until)| Instant::now() >= *until)
            && matches!(self.limiter.check_n(self.quota.count), Ok(Ok(_)))
    }
}

fn key(scope: LimitScope, grant: &Grant) -> Option<Key> {
    let context = grant.context();
    let identity = &context.identity;
    let integration = || context.integration_id.clone();
    let whose = match scope {
        LimitScope::Tenant => Whose::Tenant,
        LimitScope::Integration => Whose::Integration(integration()?),
        LimitScope::Agent => Whose::Agent(integration()?, identity.agent_id.clone()),
        // Without a user, a quota for users counts the agent: it must not be a way around it.
        LimitScope::User => match &identity.user_id {
            Some(user) => Whose::User(integration()?, user.clone()),
            None => Whose::Agent(integration()?, identity.agent_id.clone()),
        },
    };
    Some(Key { tenant: identity.tenant_id.clone(), whose })
}

fn refused(rule: &LimitRule, quota: Quota, wait: Duration) -> Reason {
    Reason::RateLimited {
        policy: rule.name.to_string(),
        quota: quota.count.get(),
        window: quota.window.as_secs(),
        retry_after: wait,
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(count: u32, seconds: u64) -> Quota {
        Quota { count: count.try_into().unwrap(), window: Duration::from_secs(seconds) }
    }

    fn tenant(name: &str, whose: Whose) -> Key {
        Key { tenant: TenantId::parse(name).unwrap(), whose }
    }

    fn fits(limits: &Limits, key: &Key, quota: Quota) -> bool {
        matches!(limits.count(key.clone(), quota), Verdict::Fits { .. })
    }

    #[test]
    fn the_window_holds_so_many_and_then_says_when() {
        let limits = Limits::default();
        let key = tenant("acme", Whose::Tenant);
        assert!(fits(&limits, &key, quota(2, 60)) && fits(&limits, &key, quota(2, 60)));
        let Verdict::Full { wait, .. } = limits.count(key, quota(2, 60)) else {
            panic!("a third request in a quota of two")
        };
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
    }

    #[test]
    fn tenants_do_not_share_a_cell_whatever_their_names() {
        let limits = Limits::default();
        let integration = IntegrationId::parse("i").unwrap();
        let agent = |name: &str| Whose::Agent(integration.clone(), AgentId::parse(name).unwrap());
        let keys = [
            tenant("a.b", agent("c")),
            tenant("a", agent("b.c")),
            tenant("a", agent("c")),
            tenant("a.b", Whose::Tenant),
        ];
        for key in &keys {
            assert!(fits(&limits, key, quota(1, 3600)), "{key:?}");
        }
        for key in &keys {
            assert!(!fits(&limits, key, quota(1, 3600)), "{key:?}");
        }
    }

    #[test]
    fn a_changed_quota_gives_nothing_back() {
        let limits = Limits::default();
        let key = tenant("acme", Whose::Tenant);
        assert!(fits(&limits, &key, quota(1, 3600)));
        assert!(!fits(&limits, &key, quota(100, 3600)), "the old quota still counts");
    }

    #[test]
    fn a_full_table_forgets_only_what_is_unused() {
        let limits = Limits { most: Some(2), ..Limits::default() };
        let used = tenant("used", Whose::Tenant);
        assert!(fits(&limits, &used, quota(1, 3600)));
        let unused = tenant("unused", Whose::Tenant);
        limits.cells.lock().unwrap().insert(unused, Cell::new(quota(1, 3600)));
        assert!(fits(&limits, &tenant("new", Whose::Tenant), quota(1, 3600)), "the unused cell made room");
        assert!(!fits(&limits, &tenant("newer", Whose::Tenant), quota(1, 3600)), "no room, no request");
        assert!(!fits(&limits, &used, quota(1, 3600)), "the used cell was not forgotten");
    }
}
