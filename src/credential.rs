//! Room 7. The upstream credential of the granted tier, fresh, bound to the granted host.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use quick_cache::sync::Cache;
use tokio_util::task::TaskTracker;

use crate::{
    context::{IntegrationId, TenantId, Tier},
    decide::Grant,
    fetch::Calls,
    message::{Message, Room},
    metrics::Metrics,
    plan::{CertificateRef, CredentialSpec, How, Obtained, Owned, Placement, Plan, WebIdentity},
    refusal::{Reason, Refusal},
    scrub::Needles,
    secret::Secret,
    store::{ConnectionKey, Owner},
    strip::Stripped,
    tls::ClientCertificate,
};

mod assertion;
mod connect;
mod consent;
mod engine;
mod failure;
mod live;
mod placement;
mod renewal;
mod signing;
mod source;
mod step;
mod usage;
mod values;
mod workshop;

pub use connect::{Connects, Links};
pub use consent::{Connected, Consents, DeviceCode, Look, NotConnected, Question, Reply};
use engine::{Engine, TokenKey, Work};
use failure::Failure;
use live::Ready;
use placement::Static;
use signing::Signer;
use source::Sources;
pub use source::{Origins, Outside};
pub use usage::{Consequence, Usage};
use workshop::Workshop;

/// Prepared credentials that are kept. One that is pushed out is read and prepared again.
const MOST_PREPARED: usize = 10_000;

/// How long a certificate is used before it is read again.
const CERTIFICATE_READ_AGAIN: Duration = Duration::from_secs(10);

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
    /// Where a person connects it, for refusals that the answer leads to.
    pub links: Links,
    /// What egret shows in the handshake, where the upstream asks who connects.
    pub certificate: Option<Arc<ClientCertificate>>,
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
    origins: Origins,
    workshop: Arc<Workshop>,
    engine: Arc<Engine>,
    links: Links,
    certificates: Cache<(TenantId, IntegrationId), Arc<Shown>>,
    room: Room,
}

/// A client's certificate in use.
struct Shown {
    reference: CertificateRef,
    certificate: Arc<ClientCertificate>,
    since: Instant,
}

impl Credentials {
    /// Nothing is read yet: a secret is read when it is first needed. Call it inside a runtime: it starts the refresh
    /// engine, whose fetches are on `tasks`.
    pub fn new(
        origins: Origins,
        calls: Arc<dyn Calls>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        links: Links,
    ) -> Self {
        let workshop = Arc::new(Workshop::new(calls, origins.clone(), metrics));
        let engine = Arc::new(Engine::start(workshop.clone(), tasks));
        Self {
            prepared: Cache::new(MOST_PREPARED),
            origins,
            workshop,
            engine,
            links,
            certificates: Cache::new(MOST_PREPARED),
            room: Room::new(signing::ROOM),
        }
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
        let usage = match grant.plan().and_then(|plan| Some((plan, plan.credential.as_ref()?))) {
            None => None,
            Some((plan, CredentialSpec::Static(placements))) => {
                let tenant_id = &grant.context().identity.tenant_id;
                Some(Usage::of_static(self.fixed(tenant_id, plan, placements).await?))
            }
            Some((plan, CredentialSpec::Obtained(obtained))) => {
                let caller = message.caller_token.clone();
                Some(self.token(plan, obtained, grant, caller).await?)
            }
        };
        let certificate = match grant.plan().and_then(|plan| Some((plan, plan.certificate.as_ref()?))) {
            None => None,
            Some((plan, reference)) => {
                Some(self.certificate(&grant.context().identity.tenant_id, plan, reference).await?)
            }
        };
        let links = self.links.clone();
        let (path, query) = (message.target.path.as_str(), message.target.query.as_ref());
        let query = query.map(crate::target::Query::as_str);
        let Some(usage) = usage else {
            let path_and_query = placement::without_secret(path, query)?;
            return Ok(Outgoing { path_and_query, needles: None, usage: None, links, certificate });
        };
        let (ready, record) = usage.attached();
        let (path_and_query, needles) = match ready {
            Ready::Token(prepared) => {
                (prepared.apply(&mut message.headers, path, query)?, prepared.needles())
            }
            Ready::Signer(signer, needles) => (self.sign(&signer, message, grant).await?, needles),
        };
        message.entry.credentialed(record, started.elapsed());
        Ok(Outgoing { path_and_query, needles, usage: Some(usage), links, certificate })
    }

    /// Signs the request as it will be sent.
    async fn sign(
        &self,
        signer: &Signer,
        message: &mut Message,
        grant: &Grant,
    ) -> Result<PathAndQuery, Reason> {
        let how = grant.plan().and_then(|plan| match plan.credential.as_ref()? {
            CredentialSpec::Obtained(obtained) => Some(&obtained.how),
            CredentialSpec::Static(_) => None,
        });
        match (how, signer) {
            (Some(How::Aws(how)), Signer::Aws(keys)) => {
                signing::sign_for_aws(how, keys, message, grant, &self.room).await
            }
            (Some(How::Signature(how)), Signer::Values(values)) => {
                signing::sign_by_template(how, values, message, grant, &self.room).await
            }
            _ => Err(Reason::InternalError { error: "BUG: a signature of another kind".to_owned() }),
        }
    }

    /// What egret shows in the handshake with the upstream.
    async fn certificate(
        &self,
        tenant_id: &TenantId,
        plan: &Plan,
        reference: &CertificateRef,
    ) -> Result<Arc<ClientCertificate>, Reason> {
        let key = (tenant_id.clone(), plan.integration_id.clone());
        if let Some(shown) = self.certificates.get(&key)
            && shown.reference == *reference
            && shown.since.elapsed() < CERTIFICATE_READ_AGAIN
        {
            return Ok(shown.certificate.clone());
        }
        let sources = Sources { origins: &self.origins, tenant: tenant_id };
        let certificate =
            workshop::certificate(reference, sources).await.map_err(|failure| failure.reason())?;
        let shown =
            Shown { reference: reference.clone(), certificate: certificate.clone(), since: Instant::now() };
        self.certificates.insert(key, Arc::new(shown));
        Ok(certificate)
    }

    /// Secrets that are attached as they are.
    async fn fixed(
        &self,
        tenant_id: &TenantId,
        plan: &Plan,
        placements: &[Placement],
    ) -> Result<Arc<Static>, Reason> {
        let key = (tenant_id.clone(), plan.integration_id.clone());
        let sources = Sources { origins: &self.origins, tenant: tenant_id };
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
        caller: Option<Arc<Secret>>,
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
        let exchanges = match &spec.how {
            How::Minted(recipe) => recipe.owner == Owned::Caller,
            How::Aws(aws) => {
                aws.role.as_ref().is_some_and(|role| role.web_identity == Some(WebIdentity::Caller))
            }
            _ => false,
        };
        let caller = caller.filter(|_| exchanges);
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
