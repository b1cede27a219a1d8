//! One issuer: its rules and its keys, and the way of a token past both.

use std::sync::Arc;

use super::{
    check,
    claims::Said,
    clock::Clock,
    jwks::{Keys, Looked, Surroundings},
    keys::Unproven,
    settings::IssuerConfig,
    token::{Jws, invalid},
};
use crate::refusal::Reason;

/// An issuer whose tokens are accepted.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) config: IssuerConfig,
    pub(super) keys: Arc<Keys>,
    clock: Clock,
}

/// A token that was verified, and with which keys.
pub(super) struct Proven {
    pub(super) said: Said,
    pub(super) generation: u64,
}

/// What one set of keys said to a signature.
#[derive(Clone, Copy)]
struct Attempt {
    verdict: Result<(), Unproven>,
    generation: u64,
}

impl Issuer {
    pub(super) fn new(config: IssuerConfig, around: Surroundings) -> Self {
        let name: Arc<str> = config.issuer.as_str().into();
        let clock = around.clock.clone();
        Self { keys: Arc::new(Keys::new(&config, name.clone(), around)), name, config, clock }
    }

    /// Verifies a token of this issuer: its form first, then its signature, and only then what it says.
    pub(super) async fn verify(&self, jws: &Jws<'_>) -> Result<Proven, Reason> {
        if !self.config.algorithms.contains(&jws.algorithm) {
            return Err(invalid(format!("`alg` {} is not one of this issuer's", jws.algorithm.as_str())));
        }
        check::typ(&self.config, jws.typ.as_deref())?;
        let generation = self.signature(jws).await?;
        let expires_at = check::claims(&self.config, &jws.claims, self.clock.wall())?;
        let said = Said::read(&self.config, self.name.clone(), &jws.claims, expires_at)?;
        Ok(Proven { said, generation })
    }

    /// Verifies the signature. Gives the generation of the keys that did.
    async fn signature(&self, jws: &Jws<'_>) -> Result<u64, Reason> {
        let first = self.attempt(jws, None);
        if let Some(Attempt { verdict: Ok(()), generation }) = first {
            return Ok(generation);
        }
        // Either there are no keys yet, or the issuer may have changed them, even under the same name.
        let looked = self.keys.look_again().await;
        let Some(Attempt { verdict, generation }) = self.attempt(jws, first) else {
            return Err(self.unavailable());
        };
        match verdict {
            Ok(()) => Ok(generation),
            // The issuer could not be asked, and the key that is missing may be its newest.
            Err(Unproven::NoKey) if looked == Looked::Failed => Err(self.unavailable()),
            Err(Unproven::NoKey) => Err(invalid("the issuer has no such key for this `alg`")),
            Err(Unproven::Signature) => Err(invalid("the signature does not verify")),
        }
    }

    /// Tries the keys of this moment, unless `before` has tried the very same. None when there are none.
    fn attempt(&self, jws: &Jws<'_>, before: Option<Attempt>) -> Option<Attempt> {
        let current = self.keys.current()?;
        let held = current.as_ref()?;
        let same = before.filter(|b| b.generation == held.generation);
        Some(same.unwrap_or_else(|| Attempt { verdict: held.set.verify(jws), generation: held.generation }))
    }

    /// The refusal while there are no keys: the token may be good, so it is never called bad.
    pub(super) fn unavailable(&self) -> Reason {
        Reason::IdentityUnavailable { what: format!("the keys of issuer `{}`", self.name) }
    }
}
