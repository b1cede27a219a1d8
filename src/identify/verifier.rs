//! The door out of `identify`: tokens in, a caller out, and the cache between.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwapOption;
use quick_cache::{UnitWeighter, sync::Cache};
use tokio_util::sync::CancellationToken;

use super::{
    claims::Said,
    clock::Clock,
    issuer::{Issuer, Proven},
    jwks::Surroundings,
    settings::{BadIssuers, IssuerConfig, problems},
    token::{Jws, invalid},
};
use crate::{
    audit::Audit,
    context::{AgentId, Channel, Identity, Selection, TenantId},
    fetch::Fetch,
    listen::{Presented, Received, UnverifiedToken},
    message::Message,
    metrics::Metrics,
    refusal::{Reason, Refusal},
};

/// Verified tokens that are remembered. One costs about 1 KiB.
const MOST_REMEMBERED: u64 = 65_536;

/// A verified caller. Cannot be made outside this room: holding one proves that a token was verified.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Identity>);

impl Caller {
    /// What the token says.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.0
    }
}

/// A request whose caller is known.
#[derive(Debug)]
pub struct Identified {
    message: Message,
    caller: Caller,
    selection: Selection,
}

impl Identified {
    /// Hands the parts to `decide`.
    pub(crate) fn into_parts(self) -> (Message, Caller, Selection) {
        (self.message, self.caller, self.selection)
    }
}

/// What the client says beside its token. Narrows the token or equals it, never widens it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// The agent that the client names.
    pub agent: Option<&'a AgentId>,
    /// The tenant that the client names.
    pub tenant: Option<&'a TenantId>,
}

/// Verifies tokens.
pub struct Verifier {
    issuers: HashMap<Arc<str>, Arc<Issuer>>,
    /// By SHA-256 of the token: the token itself is kept nowhere.
    remembered: Cache<[u8; 32], Arc<Remembered>, UnitWeighter>,
    clock: Clock,
}

/// A token that was verified once.
struct Remembered {
    said: Said,
    issuer: Arc<Issuer>,
    /// The keys that it was verified with; other keys may no longer have the one that signed it.
    generation: u64,
    /// `exp` with leeway.
    ends_at: u64,
    /// The identity as last made of it. A client repeats itself, so the next request mostly wants the same.
    latest: ArcSwapOption<Identity>,
}

impl Verifier {
    /// A verifier for the tokens of these issuers. Missing keys are no error: their tokens are refused with
    /// 503 until they are there.
    ///
    /// # Errors
    /// When issuers are configured so that no token could be accepted, or that one name means two; all such
    /// problems at once.
    pub fn new(
        issuers: Vec<IssuerConfig>,
        fetch: Arc<dyn Fetch>,
        audit: Audit,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BadIssuers> {
        Self::build(issuers, &Surroundings { fetch, audit, metrics, clock: Clock::system() })
    }

    pub(super) fn build(issuers: Vec<IssuerConfig>, around: &Surroundings) -> Result<Self, BadIssuers> {
        let problems = problems(&issuers);
        if !problems.is_empty() {
            return Err(BadIssuers(problems));
        }
        let clock = around.clock.clone();
        let issuers = issuers.into_iter().map(|config| Arc::new(Issuer::new(config, around.clone())));
        Ok(Self {
            issuers: issuers.map(|issuer| (issuer.name.clone(), issuer)).collect(),
            remembered: Cache::with_weighter(1024, MOST_REMEMBERED, UnitWeighter),
            clock,
        })
    }

    /// Starts to keep keys fresh, until `stop`. Needs the runtime.
    pub fn start(&self, stop: &CancellationToken) {
        for issuer in self.issuers.values() {
            tokio::spawn(issuer.keys.clone().keep_fresh(stop.clone()));
        }
    }

    /// The issuers without usable keys, for `/readyz`.
    pub fn pending(&self) -> Vec<String> {
        let without = self.issuers.values().filter(|issuer| issuer.keys.current().is_none());
        let mut names: Vec<String> = without.map(|issuer| issuer.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Finds out who asks. When it is dropped half way, nothing is remembered.
    ///
    /// # Errors
    /// A refusal when no token, a bad token, contradicting words, or no keys.
    pub async fn verify(&self, received: Received) -> Result<Identified, Refusal> {
        let (mut message, presented, selection) = received.into_parts();
        match self.identify(&presented).await {
            Ok(identity) => {
                message.entry.identified(identity.clone());
                message.caller_token = presented.tokens.first().map(|(_, token)| token.secret());
                Ok(Identified { message, caller: Caller(identity), selection })
            }
            Err(reason) => Err(message.refuse(reason)),
        }
    }

    /// Verifies all that was presented; it must name one caller.
    pub(crate) async fn identify(&self, presented: &Presented) -> Result<Arc<Identity>, Reason> {
        let tunnel = presented.tunnel.as_ref();
        // A request inside a tunnel need not repeat which agent opened it.
        let agent = presented.agent.as_ref().or(tunnel.map(|t| &t.agent_id));
        let hints = Hints { agent, tenant: presented.tenant.as_ref() };
        let mut caller = None;
        for (channel, token) in &presented.tokens {
            let identity = self.check(*channel, token, hints).await?;
            match &caller {
                None => caller = Some(identity),
                Some(first) if one_caller(first, &identity) => {}
                Some(_) => return Err(Reason::AgentMismatch),
            }
        }
        match (caller, tunnel) {
            (Some(caller), Some(tunnel)) if !one_caller(&caller, tunnel) => Err(Reason::AgentMismatch),
            (Some(caller), _) => Ok(caller),
            (None, Some(tunnel)) => self.still(tunnel, hints),
            (None, None) => Err(Reason::IdentityMissing),
        }
    }

    /// Verifies one token.
    ///
    /// # Errors
    /// The reason why it is not accepted, or why nobody can say just now.
    pub(crate) async fn check(
        &self,
        channel: Channel,
        token: &UnverifiedToken,
        hints: Hints<'_>,
    ) -> Result<Arc<Identity>, Reason> {
        let remembered = match self.recall(token)? {
            Some(remembered) => remembered,
            None => self.learn(token).await?,
        };
        remembered.identity(channel, hints)
    }

    /// A token that was verified before, if that still counts.
    fn recall(&self, token: &UnverifiedToken) -> Result<Option<Arc<Remembered>>, Reason> {
        let Some(remembered) = self.remembered.get(token.digest()) else { return Ok(None) };
        if self.clock.wall() >= remembered.ends_at {
            self.remembered.remove(token.digest());
            return Err(Reason::TokenExpired { expired_at: remembered.said.expires_at });
        }
        let current = remembered.issuer.keys.current();
        let generation = current.as_ref().and_then(|held| held.as_ref()).map(|held| held.generation);
        if generation == Some(remembered.generation) {
            return Ok(Some(remembered));
        }
        self.remembered.remove(token.digest());
        Ok(None)
    }

    /// Verifies a token and remembers it.
    async fn learn(&self, token: &UnverifiedToken) -> Result<Arc<Remembered>, Reason> {
        let jws = Jws::parse(token.expose())?;
        let issuer =
            self.issuers.get(jws.issuer.as_str()).ok_or_else(|| invalid("`iss` is no known issuer"))?;
        let Proven { said, generation } = issuer.verify(&jws).await?;
        let ends_at = said.expires_at.saturating_add(issuer.config.leeway.as_secs());
        let issuer = issuer.clone();
        let latest = ArcSwapOption::empty();
        let remembered = Arc::new(Remembered { said, issuer, generation, ends_at, latest });
        self.remembered.insert(*token.digest(), remembered.clone());
        Ok(remembered)
    }

    /// A request inside a tunnel without a token of its own: the tunnel's caller, while its token lasts.
    fn still(&self, tunnel: &Arc<Identity>, hints: Hints<'_>) -> Result<Arc<Identity>, Reason> {
        let leeway = self.issuers.get(&tunnel.issuer).map_or(0, |issuer| issuer.config.leeway.as_secs());
        if self.clock.wall() >= tunnel.expires_at.saturating_add(leeway) {
            return Err(Reason::TokenExpired { expired_at: tunnel.expires_at });
        }
        let contradicts = hints.agent.is_some_and(|agent| *agent != tunnel.agent_id)
            || hints.tenant.is_some_and(|tenant| *tenant != tunnel.tenant_id);
        if contradicts { Err(Reason::AgentMismatch) } else { Ok(tunnel.clone()) }
    }
}

impl Remembered {
    /// The identity under these hints.
    fn identity(&self, channel: Channel, hints: Hints<'_>) -> Result<Arc<Identity>, Reason> {
        if hints.tenant.is_some_and(|tenant| tenant != self.said.tenant_id()) {
            return Err(Reason::AgentMismatch);
        }
        let agent = self.said.agent(hints.agent)?;
        let latest = self.latest.load();
        if let Some(latest) = &*latest
            && latest.channel == channel
            && latest.agent_id == *agent
        {
            return Ok(latest.clone());
        }
        let identity = Arc::new(self.said.identity(channel, agent));
        self.latest.store(Some(identity.clone()));
        Ok(identity)
    }
}

#[cfg(test)]
impl Verifier {
    pub(super) fn keys(&self, issuer: &str) -> Option<Arc<super::jwks::Keys>> {
        self.issuers.get(issuer).map(|issuer| issuer.keys.clone())
    }

    pub(super) fn remembers(&self) -> usize {
        self.remembered.len()
    }
}

/// Whether two identities are the same agent of the same tenant for the same person.
fn one_caller(one: &Identity, other: &Identity) -> bool {
    one.tenant_id == other.tenant_id && one.agent_id == other.agent_id && one.user_id == other.user_id
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers.keys()).finish_non_exhaustive()
    }
}
