//! Where tokens are had: minted anew, or taken from the store and renewed (`renewal.rs`).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quick_cache::sync::Cache;

use super::{
    assertion::{self, Unsigned},
    engine::{Outcome, TokenKey, Work},
    failure::Failure,
    live::{Live, Material, Span},
    renewal::Unsaved,
    source::{Origins, Read, Sources},
    step::{self, Brought},
    values::Values,
};
use crate::{
    context::TenantId,
    fetch::Calls,
    metrics::Metrics,
    plan::{CertificateRef, Half, How, Owned, Recipe, SecretRef},
    secret::Secret,
    store::ConnectionKey,
    tls::ClientCertificate,
};

/// Connections whose doubtful refusals are counted.
const MOST_DOUBTS: usize = 10_000;
/// How long a token is used whose end nobody says.
const UNSAID: Duration = Duration::from_secs(300);

/// What it takes to have a token.
pub(super) struct Workshop {
    pub(super) calls: Arc<dyn Calls>,
    pub(super) origins: Origins,
    pub(super) metrics: Arc<Metrics>,
    /// This process, for leases.
    pub(super) holder: String,
    pub(super) unsaved: Unsaved,
    /// Refusals without a meaning, by connection and generation.
    doubts: Cache<(ConnectionKey, i64), u32>,
}

impl Workshop {
    pub(super) fn new(calls: Arc<dyn Calls>, origins: Origins, metrics: Arc<Metrics>) -> Self {
        let holder = crate::context::ulid(SystemTime::now());
        Self { calls, origins, metrics, holder, unsaved: Unsaved::default(), doubts: Cache::new(MOST_DOUBTS) }
    }

    /// Has a token.
    pub(super) async fn make(&self, work: &Work) -> Outcome {
        let live = match &work.spec.how {
            How::Minted(recipe) => self.mint(recipe, work).await.map_err(Failure::of_no_grant)?,
            How::Authorized(authorization) => self.authorized(authorization, work).await?,
            How::Deposited => self.deposited(work).await?,
            How::Undescribed(name) => {
                return Err(Failure::Missing(format!("the policy does not describe the provider `{name}`")));
            }
            How::Aws(aws) => self.aws(aws, work).await?,
            How::Signature(signature) => self.signature(signature, work).await?,
        };
        Ok(Arc::new(live))
    }

    /// Counts a refusal that says nothing. Gives how many there were.
    pub(super) fn doubt(&self, key: &ConnectionKey, generation: i64) -> u32 {
        let key = (key.clone(), generation);
        let count = self.doubts.get(&key).unwrap_or(0) + 1;
        self.doubts.insert(key, count);
        count
    }

    /// Counts what came of it.
    pub(super) fn count(&self, key: &TokenKey, outcome: Result<(), &Failure>) {
        let result = outcome.err().map_or("ok", Failure::outcome);
        let (tenant, integration) = (&key.connection.tenant, &key.connection.integration);
        self.metrics.refreshed(integration.shared(), result);
        if let Err(failure) = outcome {
            let owner = &key.connection.owner;
            tracing::warn!(%tenant, %integration, %owner, result, ?failure, "no token");
        }
    }

    async fn mint(&self, recipe: &Recipe, work: &Work) -> Result<Live, Failure> {
        let tools = self.prepare(recipe, &work.key.connection.tenant, work.caller.as_ref()).await?;
        let Tools { mut values, certificate } = tools;
        let mut kept = Vec::new();
        let Some((last, before)) = recipe.steps.split_last() else {
            let token = values.get("token").cloned();
            let token = token.ok_or_else(|| Failure::Missing("nothing brings a token".to_owned()))?;
            let lifetime = recipe.assertions.first().map_or(UNSAID, |(_, assertion)| assertion.lifetime);
            let span = Some(Span::of(lifetime, recipe.ahead));
            let material = Material { token, kept, span, scopes: None, stored: None };
            return Live::new(work.spec.clone(), material, work.refused.is_some());
        };
        for step in before {
            let brought = step::run(step, &values, certificate.as_ref(), &*self.calls).await?;
            for (name, value) in brought.kept {
                values.set(&name, value.clone());
                kept.push((name, value));
            }
        }
        let brought = step::run(last, &values, certificate.as_ref(), &*self.calls).await?;
        let Brought { access_token, lifetime, scope, kept: more, .. } = brought;
        kept.extend(more);
        let token = access_token.ok_or_else(|| Failure::Unreachable {
            what: format!("the answer of {} has no token", last.url.authority),
            maybe_done: true,
        })?;
        // It can be had again at any time, so one whose end is not told is not used for long.
        let lifetime = lifetime.unwrap_or(UNSAID);
        let span = Some(Span::of(lifetime, recipe.ahead));
        let material = Material { token: Arc::new(token), kept, span, scopes: scope, stored: None };
        Live::new(work.spec.clone(), material, work.refused.is_some())
    }

    /// Reads the secrets and signs the assertions of a recipe.
    pub(super) async fn prepare(
        &self,
        recipe: &Recipe,
        tenant: &TenantId,
        caller: Option<&Arc<Secret>>,
    ) -> Result<Tools, Failure> {
        let sources = Sources { origins: &self.origins, tenant };
        let mut values = Values::new(SystemTime::now());
        let secret: Vec<&SecretRef> = recipe.values.iter().filter_map(|(_, half)| half.secret()).collect();
        let mut read = sources.read_all(&secret).await?.into_iter();
        for (name, half) in &recipe.values {
            match half {
                Half::Constant(text) => values.set_text(name, text),
                Half::Secret(_) => {
                    if let Some(Read { secret, .. }) = read.next() {
                        values.set(name, secret);
                    }
                }
            }
        }
        if recipe.owner == Owned::Caller {
            let token = caller
                .cloned()
                .ok_or_else(|| Failure::Missing("the caller's token is not at hand".to_owned()))?;
            values.set("caller_token", token);
        }
        for (name, assertion) in &recipe.assertions {
            let signed = assertion::sign(assertion, &values)?;
            values.set(name, Arc::new(signed));
        }
        let certificate = match &recipe.certificate {
            None => None,
            Some(reference) => Some(certificate(reference, sources).await?),
        };
        Ok(Tools { values, certificate })
    }
}

/// What the steps of a recipe need.
pub(super) struct Tools {
    pub(super) values: Values,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

/// Reads a client's certificate.
#[expect(clippy::disallowed_methods, reason = "the key is handed to TLS")]
pub(super) async fn certificate(
    reference: &CertificateRef,
    sources: Sources<'_>,
) -> Result<Arc<ClientCertificate>, Failure> {
    let both = sources.read_all(&[&reference.chain, &reference.key]).await?;
    let [chain, key] = <[Read; 2]>::try_from(both)
        .map_err(|_| Failure::Missing("BUG: a certificate has two parts".to_owned()))?
        .map(|read| read.secret);
    ClientCertificate::parse(chain.expose(), key.expose()).map(Arc::new).map_err(|bad| {
        let which = if matches!(bad, crate::tls::BadCertificate::Certificate) {
            &reference.chain
        } else {
            &reference.key
        };
        Failure::Missing(format!("`{which}` {bad}"))
    })
}

impl From<super::source::Missing> for Failure {
    fn from(missing: super::source::Missing) -> Self {
        let what = missing.to_string();
        if missing.is_transient() { Self::Unavailable(what) } else { Self::Missing(what) }
    }
}

impl From<Unsigned> for Failure {
    fn from(error: Unsigned) -> Self {
        Self::Missing(error.to_string())
    }
}
