//! Where a person connects an integration: the links in refusals.

use std::sync::Arc;

use crate::{
    decide::Grant,
    plan::{CredentialSpec, How},
    refusal::Reason,
};

/// Makes links to where a person connects an integration.
#[derive(Clone, Default)]
pub struct Links(Option<Arc<dyn Connects>>);

/// Knows where a person connects an integration.
pub trait Connects: Send + Sync {
    /// The URL for this grant's connection.
    fn url(&self, grant: &Grant) -> Option<Arc<str>>;
}

impl Links {
    /// Links that `connects` makes.
    pub fn new(connects: Arc<dyn Connects>) -> Self {
        Self(Some(connects))
    }

    /// Adds the link to a reason that a person can do something about.
    pub(crate) fn add(&self, reason: Reason, grant: &Grant) -> Reason {
        let url = || {
            let credential = grant.plan()?.credential.as_ref()?;
            let CredentialSpec::Obtained(obtained) = credential else { return None };
            matches!(obtained.how, How::Authorized(_) | How::Deposited).then_some(())?;
            self.0.as_ref()?.url(grant)
        };
        match reason {
            Reason::CredentialMissing { what, connect: None } => {
                Reason::CredentialMissing { what, connect: url() }
            }
            Reason::AuthRevoked { code, connect: None } => Reason::AuthRevoked { code, connect: url() },
            reason => reason,
        }
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links(..)")
    }
}
