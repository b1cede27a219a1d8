//! Room 7. The upstream credential of the granted tier, fresh, bound to the granted host.

use std::{fmt, sync::Arc, time::Instant};

use http::uri::PathAndQuery;
use quick_cache::sync::Cache;
use tokio_util::task::TaskTracker;

use crate::{
    context::{IntegrationId, TenantId, Tier},
    decide::Grant,
    fetch::Calls,
    message::Message,
    metrics::Metrics,
    plan::{CredentialSpec, How, Obtained, Owned, Placement, Plan},
    refusal::{Reason, Refusal},
    scrub::Needles,
    store::{ConnectionKey, LazyStore, Owner},
    strip::Stripped,
};

mod assertion;
mod connect;
mod consent;
mod engine;
mod failure;
mod live;
mod placement;
mod renewal;
mod source;
mod step;
mod usage;
mod values;
mod workshop;

pub use connect::{Connects, Links};
pub use consent::{Connected, Consents, DeviceCode, Look, NotConnected, Question, Reply};
use engine::{Engine, TokenKey, Work};
use failure::Failure;
use placement::Static;
use source::Sources;
pub use usage::{Consequence, Usage};
use workshop::Workshop;

/// Prepared credentials that are kept. One that is pushed out is read and prepared again.
const MOST_PREPARED: usize = 10_000;

/// A request that carries the upstream's credential, and what must not come back.
#[derive(Debug)]
pub struct Outbound {
    message: Message,
    grant: Grant,
    outgoing: Outgoing,
}

impl Outbound {
    /// Hands the parts to `record`.
    pub(crate) fn into_parts(self) -> (Message, Grant, Outgoing) {
        (self.message, self.grant, self.outgoing)
    }
}

/// What a credential made of a request, beside its headers. May hold secrets, so it does not print.
pub struct Outgoing {
    /// Path and query as they are sent. `Message::target` has them as they are matched and recorded.
    pub path_and_query: PathAndQuery,
    /// What the answer must not hold; none when nothing secret was attached.
    pub needles: Option<Arc<Needles>>,
    /// What the answer may say about the credential; none when none was attached.
    pub usage: Option<Usage>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing(..)")
    }
}

/// Resolves and attaches credentials.
pub struct Credentials {
    /// Ready to attach: values formatted and encoded, needles built. The tenant is the first part of the key.
    prepared: Cache<(TenantId, IntegrationId), Arc<Static>>,
    store: LazyStore,
    workshop: Arc<Workshop>,
    engine: Arc<Engine>,
    links: Links,
}

impl Credentials {
    /// Nothing is read yet: a secret is read when it is first needed. Call it inside a runtime: it starts the refresh
    /// engine, whose fetches are on `tasks`.
    pub fn new(
        store: LazyStore,
        calls: Arc<dyn Calls>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        links: Links,
    ) -> Self {
        let workshop = Arc::new(Workshop::new(calls, store.clone(), metrics));
        let engine = Arc::new(Engine::start(workshop.clone(), tasks));
        Self { prepared: Cache::new(MOST_PREPARED), store, workshop, engine, links }
    }

    /// Connects integrations for people.
    pub fn consents(&self) -> Consents {
        Consents::new(self.workshop.clone())
    }

    /// Attaches the credential that the grant names.
    ///
    /// # Errors
    /// `credential_missing` when there is none, `credential_unavailable` when it cannot be read just now,
    /// `auth_revoked` when only a person can help, `token_refresh_failed` when the provider gives none just now: the
    /// request is never sent without it. `action_denied` when the path has no place for it.
    pub async fn attach(&self, stripped: Stripped) -> Result<Outbound, Refusal> {
        let started = Instant::now();
        let (mut message, grant) = stripped.into_parts();
        if grant.upstream().1.host != message.target.authority.host {
            let error = "BUG: the grant is for another host than the request's target".to_owned();
            return Err(message.refuse(Reason::InternalError { error }));
        }
        match self.outgoing(&mut message, &grant, started).await {
            Ok(outgoing) => Ok(Outbound { message, grant, outgoing }),
            Err(reason) => {
                let reason = self.links.add(reason, &grant);
                Err(message.refuse(reason))
            }
        }
    }

    async fn outgoing(
        &self,
        message: &mut Message,
        grant: &Grant,
        started: Instant,
    ) -> Result<Outgoing, Reason> {
        let attached = match grant.plan().and_then(|plan| Some((plan, plan.credential.as_ref()?))) {
            None => None,
            Some((plan, CredentialSpec::Static(placements))) => {
                let tenant_id = &grant.context().identity.tenant_id;
                let fixed = self.fixed(tenant_id, plan, placements).await?;
                Some((fixed.prepared.clone(), fixed.prepared.record(), Usage::of_static(fixed)))
            }
            Some((plan, CredentialSpec::Obtained(obtained))) => {
                let usage = self.token(plan, obtained, grant, message).await?;
                let (prepared, record) = usage.token();
                Some((prepared, record, usage))
            }
        };
        let (path, query) = (message.target.path.as_str(), message.target.query.as_ref());
        let query = query.map(crate::target::Query::as_str);
        let Some((prepared, record, usage)) = attached else {
            return Ok(Outgoing {
                path_and_query: placement::without_secret(path, query)?,
                needles: None,
                usage: None,
            });
        };
        let path_and_query = prepared.apply(&mut message.headers, path, query)?;
        message.entry.credentialed(record, started.elapsed());
        Ok(Outgoing { path_and_query, needles: prepared.needles(), usage: Some(usage) })
    }

    /// Secrets that are attached as they are.
    async fn fixed(
        &self,
        tenant_id: &TenantId,
        plan: &Plan,
        placements: &[Placement],
    ) -> Result<Arc<Static>, Reason> {
        let key = (tenant_id.clone(), plan.integration_id.clone());
        let sources = Sources { store: &self.store, tenant: tenant_id };
        if let Some(fixed) = self.prepared.get(&key)
            && fixed.is_fresh(placements, sources).await
        {
            return fixed.unless_rejected();
        }
        // Requests that come at the same time may prepare the same twice; it is cheap enough.
        match Static::read(placements, sources).await {
            Ok(fixed) => {
                let fixed = Arc::new(fixed);
                self.prepared.insert(key, fixed.clone());
                Ok(fixed)
            }
            Err(missing) => {
                // A secret that was taken away is not used again, also when it comes back unchanged.
                self.prepared.remove(&key);
                Err(Failure::from(missing).reason())
            }
        }
    }

    /// The token of a connection, or of an exchange.
    async fn token(
        &self,
        plan: &Plan,
        spec: &Arc<Obtained>,
        grant: &Grant,
        message: &Message,
    ) -> Result<Usage, Reason> {
        let context = grant.context();
        let owner = match &context.tier {
            Tier::App => Owner::App,
            Tier::User(user) => Owner::User(user.clone()),
        };
        let connection = ConnectionKey {
            tenant: context.identity.tenant_id.clone(),
            integration: plan.integration_id.clone(),
            owner,
        };
        let exchanges = matches!(&spec.how, How::Minted(recipe) if recipe.owner == Owned::Caller);
        let caller = message.caller_token.clone().filter(|_| exchanges);
        let digest = caller.as_ref().map(|token| token.sha256());
        let key = TokenKey { connection, caller: digest };
        let work = Work { key, spec: spec.clone(), caller, refused: None };
        Usage::of_token(self.engine.clone(), work).await.map_err(|failure| failure.reason())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("prepared", &self.prepared.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
