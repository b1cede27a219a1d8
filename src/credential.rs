//! Room 7. The upstream credential of the granted tier, fresh, bound to the granted host.

use std::{fmt, sync::Arc, time::Instant};

use http::uri::PathAndQuery;
use quick_cache::sync::Cache;

use crate::{
    context::{IntegrationId, TenantId},
    decide::Grant,
    message::Message,
    plan::{CredentialSpec, Plan},
    refusal::{Reason, Refusal},
    scrub::Needles,
    store::LazyStore,
    strip::Stripped,
};

mod placement;
mod source;

use placement::Prepared;
use source::Sources;

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
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing(..)")
    }
}

/// Resolves and attaches credentials.
pub struct Credentials {
    /// Ready to attach: values formatted and encoded, needles built. The tenant is the first part of the key.
    prepared: Cache<(TenantId, IntegrationId), Arc<Prepared>>,
    store: LazyStore,
}

impl Credentials {
    /// Nothing is read yet: a secret is read when it is first needed.
    pub fn new(store: LazyStore) -> Self {
        Self { prepared: Cache::new(MOST_PREPARED), store }
    }

    /// Attaches the credential that the grant names.
    ///
    /// # Errors
    /// `credential_missing` when there is none, `credential_unavailable` when it cannot be read just now: the request
    /// is never sent without it. `action_denied` when the path has no place for it.
    pub async fn attach(&self, stripped: Stripped) -> Result<Outbound, Refusal> {
        let started = Instant::now();
        let (mut message, grant) = stripped.into_parts();
        if grant.upstream().1.host != message.target.authority.host {
            let error = "BUG: the grant is for another host than the request's target".to_owned();
            return Err(message.refuse(Reason::InternalError { error }));
        }
        let prepared = match grant.plan() {
            None => None,
            Some(plan) => match self.prepare(&grant.context().identity.tenant_id, plan).await {
                Ok(prepared) => prepared,
                Err(reason) => return Err(message.refuse(reason)),
            },
        };
        let (path, query) = (message.target.path.as_str(), message.target.query.as_ref());
        let query = query.map(crate::target::Query::as_str);
        let path_and_query = match &prepared {
            Some(prepared) => prepared.apply(&mut message.headers, path, query),
            None => placement::without_secret(path, query),
        };
        let path_and_query = match path_and_query {
            Ok(path_and_query) => path_and_query,
            Err(reason) => return Err(message.refuse(reason)),
        };
        let needles = prepared.as_ref().and_then(|prepared| prepared.needles());
        if let Some(prepared) = prepared {
            message.entry.credentialed(prepared.record(), started.elapsed());
        }
        Ok(Outbound { message, grant, outgoing: Outgoing { path_and_query, needles } })
    }

    /// The credential of this plan, ready to attach; none when it needs none.
    async fn prepare(&self, tenant_id: &TenantId, plan: &Plan) -> Result<Option<Arc<Prepared>>, Reason> {
        let placements = match &plan.credential {
            None => return Ok(None),
            Some(CredentialSpec::Static(placements)) => placements,
            Some(CredentialSpec::Obtained(obtained)) => {
                let what = format!("`{}` credentials cannot be obtained yet", obtained.kind());
                return Err(Reason::CredentialMissing { what });
            }
        };
        let key = (tenant_id.clone(), plan.integration_id.clone());
        let sources = Sources { store: &self.store, tenant: tenant_id };
        if let Some(prepared) = self.prepared.get(&key)
            && prepared.is_fresh(placements, sources).await
        {
            return Ok(Some(prepared));
        }
        // Requests that come at the same time may prepare the same twice; it is cheap enough.
        match Prepared::read(placements, sources).await {
            Ok(prepared) => {
                let prepared = Arc::new(prepared);
                self.prepared.insert(key, prepared.clone());
                Ok(Some(prepared))
            }
            Err(missing) => {
                // A secret that was taken away is not used again, also when it comes back unchanged.
                self.prepared.remove(&key);
                let what = missing.to_string();
                Err(if missing.is_transient() {
                    Reason::CredentialUnavailable { what }
                } else {
                    Reason::CredentialMissing { what }
                })
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("prepared", &self.prepared.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
