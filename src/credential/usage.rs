//! A credential in use: what the upstream's answer says about it, and what follows.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, uri::PathAndQuery};
use serde_json::Value;

use super::{
    engine::{Engine, Refused, Work},
    failure::{Failure, Seen, Verdict},
    live::{Live, Ready},
    placement::Static,
};
use crate::{
    audit,
    plan::{ErrorClass, ErrorRule},
    refusal::Reason,
    scrub::Needles,
};

/// A credential in use. Travels with its request to the answer.
pub struct Usage(Kind);

enum Kind {
    Static(Arc<Static>),
    Token { engine: Arc<Engine>, work: Work, live: Arc<Live> },
}

/// What follows from an answer.
#[derive(Debug)]
pub enum Consequence {
    /// It goes to the client.
    Pass,
    /// It goes to the client, who should wait.
    Wait(std::time::Duration),
    /// The token has ended: another one may help.
    Renew,
    /// The request is refused: the credential is no good.
    Refuse(Reason),
}

impl Usage {
    pub(super) fn of_static(fixed: Arc<Static>) -> Self {
        Self(Kind::Static(fixed))
    }

    /// The token of this work: one that is good, or one that is had now.
    pub(super) async fn of_token(engine: Arc<Engine>, work: Work) -> Result<Self, Failure> {
        let live = match engine.live(&work.key, &work.spec) {
            Some(live) if engine.is_current(&work, &live).await => live,
            _ => engine.obtain(work.clone()).await?,
        };
        Ok(Self(Kind::Token { engine, work, live }))
    }

    /// What is attached, and what the decision log says of it.
    pub(super) fn attached(&self) -> (Ready, audit::Credential) {
        match &self.0 {
            Kind::Static(fixed) => (Ready::Token(fixed.prepared.clone()), fixed.prepared.record()),
            Kind::Token { live, .. } => (live.ready.clone(), live.using()),
        }
    }

    /// Whether the request may be sent once more with another token. What signs covers the old one.
    pub(crate) fn can_renew(&self) -> bool {
        matches!(&self.0, Kind::Token { live, .. } if matches!(live.ready, Ready::Token(_)))
    }

    /// What an answer says, by the service's rules and, where none of them fits, by its status.
    pub(crate) async fn judge(
        &self,
        rules: &[ErrorRule],
        status: StatusCode,
        headers: &HeaderMap,
        json: Option<&Value>,
    ) -> Consequence {
        let seen = Seen { status, headers, json };
        let Some(verdict) = seen.judge(rules) else {
            return match (status, &self.0) {
                (StatusCode::UNAUTHORIZED, Kind::Token { live, .. }) if !live.is_proven() => {
                    Consequence::Renew
                }
                (StatusCode::UNAUTHORIZED, _) => {
                    Consequence::Refuse(Reason::CredentialRejected { code: None })
                }
                _ => Consequence::Pass,
            };
        };
        match (verdict.class, &self.0) {
            (ErrorClass::Expired, Kind::Token { live, .. }) if !live.is_renewable() => {
                Consequence::Refuse(Reason::CredentialRejected { code: verdict.code })
            }
            (ErrorClass::Expired, Kind::Token { .. }) => Consequence::Renew,
            (ErrorClass::Revoked | ErrorClass::Expired, _) => {
                self.condemn(&verdict).await;
                Consequence::Refuse(Reason::AuthRevoked { code: verdict.code, connect: None })
            }
            (ErrorClass::Interaction, _) => {
                Consequence::Refuse(Reason::AuthRevoked { code: verdict.code, connect: None })
            }
            (ErrorClass::Misconfigured, _) => {
                Consequence::Refuse(Reason::CredentialRejected { code: verdict.code })
            }
            (ErrorClass::RateLimited, _) => verdict.wait.map_or(Consequence::Pass, Consequence::Wait),
            _ => Consequence::Pass,
        }
    }

    /// A credential that is dead is remembered, and not sent again.
    async fn condemn(&self, verdict: &Verdict) {
        match &self.0 {
            Kind::Static(fixed) => fixed.reject(verdict.code.clone()),
            Kind::Token { engine, work, live } => engine.condemn(work, live, verdict).await,
        }
    }

    /// Puts another token in the place of one that was refused. Path, query and headers are the request's, with the old
    /// one in them.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn renew(
        &mut self,
        headers: &mut HeaderMap,
        path: &str,
        query: Option<&str>,
    ) -> Result<(PathAndQuery, Option<Arc<Needles>>), Reason> {
        let Kind::Token { engine, work, live } = &mut self.0 else {
            return Err(Reason::CredentialRejected { code: None });
        };
        *live = engine.obtain(after(work, live)).await.map_err(|failure| failure.reason())?;
        let Ready::Token(prepared) = &live.ready else {
            return Err(Reason::CredentialRejected { code: None });
        };
        Ok((prepared.apply(headers, path, query)?, prepared.needles()))
    }

    /// Asks for another token in the place of one that was refused, without waiting for it.
    pub(crate) fn renew_later(&self) {
        if let Kind::Token { engine, work, live } = &self.0 {
            let (engine, work) = (engine.clone(), after(work, live));
            // The next request is told what came of it.
            tokio::spawn(async move { engine.obtain(work).await.is_ok() });
        }
    }
}

fn after(work: &Work, live: &Live) -> Work {
    let generation = live.stored.as_ref().map(|stored| stored.generation);
    Work { refused: Some(Refused { serial: live.serial, generation }), ..work.clone() }
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Usage(..)")
    }
}
