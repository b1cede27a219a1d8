//! The door out of `listen`: one message, one target, and what the client presented as its identity.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{
    context::{AgentId, Channel, Identity, IntegrationId, TenantId},
    message::Message,
    refusal::{Reason, Refusal},
};

/// A token as it came: nobody has looked into it yet.
pub struct UnverifiedToken {
    text: Zeroizing<String>,
    digest: [u8; 32],
}

impl UnverifiedToken {
    /// Takes a token over. Its digest is the key of every cache.
    pub fn new(text: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self { text: Zeroizing::new(text.to_owned()), digest: bytes }
    }

    /// The token's text.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(..)")
    }
}

/// What the client presented, unverified.
#[derive(Debug, Default)]
pub struct Presented {
    /// The tokens, in the order of preference. Usually one; several must agree.
    pub tokens: Vec<(Channel, Arc<UnverifiedToken>)>,
    /// The agent that the client names (`X-Agent-Id`, or the user of a proxy URL). Narrows the token, never widens it.
    pub agent: Option<AgentId>,
    /// The tenant that the client names (`X-Tenant-Id`). Must equal the token's.
    pub tenant: Option<TenantId>,
    /// The identity under which the tunnel around this request was opened. Must stay the same.
    pub tunnel: Option<Arc<Identity>>,
}

/// What the client chose among what it may have.
#[derive(Debug, Default, Clone)]
pub struct Selection {
    /// `X-Agent-Integration`.
    pub integration: Option<IntegrationId>,
    /// `X-Agent-Tier`: `APP` or `USER`; must be the integration's.
    pub tier: Option<&'static str>,
}

/// A request that has one meaning. The audit entry is open from here on.
#[derive(Debug)]
pub struct Received {
    pub(super) message: Message,
    pub(super) presented: Presented,
    pub(super) selection: Selection,
}

impl Received {
    /// Hands the parts to `identify`.
    pub(crate) fn into_parts(self) -> (Message, Presented, Selection) {
        (self.message, self.presented, self.selection)
    }

    /// Ends the way here.
    pub fn refuse(self, reason: Reason) -> Refusal {
        self.message.refuse(reason)
    }
}

/// Proof that a `CONNECT` was let through: the name that may be intercepted, and who opened the tunnel.
#[derive(Debug, Clone)]
pub struct Tunnelled {
    /// Who opened it.
    pub identity: Arc<Identity>,
    /// The token it was opened with; each inner request is verified with it again.
    pub token: Option<(Channel, Arc<UnverifiedToken>)>,
}
