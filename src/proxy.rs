//! The whole way of a request, in one place.

use http::Response;

use crate::{
    approve::Approvals,
    audit::Audit,
    credential::Credentials,
    decide::{Granted, Policies, TunnelWay},
    forward::{OpenTunnel, Upstream},
    identify::Verifier,
    limit::Limits,
    listen::{Arrival, Leaves, NoLeaf, Opened, Received, Rooms},
    message::AuditedBody,
    refusal::{Reason, Refusal},
    strip,
};

/// Everything a request may meet on its way. Built once from the settings, then only read.
#[derive(Debug)]
pub struct Proxy {
    /// The decision log.
    pub audit: Audit,
    /// Who asks.
    pub verifier: Verifier,
    /// Whether.
    pub policy: Policies,
    /// How often.
    pub limits: Limits,
    /// A human's yes.
    pub approvals: Approvals,
    /// The upstream credentials.
    pub credentials: Credentials,
    /// The way out.
    pub upstream: Upstream,
    /// Certificates for tunnels.
    pub leaves: Leaves,
}

impl Proxy {
    /// Takes a request through the rooms, in order.
    ///
    /// Each line consumes what the line above it made, and only that room can make it. So a request cannot
    /// skip a room, be sent twice, or go out after a refusal.
    async fn pass(&self, arrival: Arrival) -> Result<Response<AuditedBody>, Refusal> {
        let received = Received::open(arrival, &self.audit)?; //    one meaning; an audit entry is open from here on
        let identified = self.verifier.verify(received).await?; //  who
        let granted = self.policy.decide(identified).await?; //     whether
        let admitted = self.limits.admit(granted)?; //              how often
        let approved = self.approvals.wait(admitted).await?; //     a human's yes, where asked
        let stripped = strip::client_credentials(approved); //      nothing of the client's own
        let outbound = self.credentials.attach(stripped).await?; // the tier's upstream credential
        let recorded = self.audit.record(outbound).await?; //       written down before it leaves
        self.upstream.forward(recorded).await //                    the answer carries the entry
    }

    /// Lets a `CONNECT` through: who asks and whether the name is covered is decided here, everything else for
    /// each request inside.
    async fn open(&self, arrival: Arrival) -> Result<Opened, Refusal> {
        let received = Received::open(arrival, &self.audit)?;
        let brought = received.keep_for_tunnel();
        let identified = self.verifier.verify(received).await?;
        match self.policy.tunnel(identified)? {
            TunnelWay::Intercept(message, interception) => {
                match self.leaves.config(&interception.identity().tenant_id, interception.host()).await {
                    Ok(tls) => {
                        message.entry.let_through();
                        let opened = brought.verified(interception.identity().clone());
                        let (authority, standing) =
                            (interception.authority().clone(), interception.standing());
                        Ok(Opened::Intercept { authority, tls, opened, standing })
                    }
                    Err(NoLeaf::TooMany { quota, wait }) => Err(message.refuse(Reason::RateLimited {
                        policy: "tenant-certificates".into(),
                        quota,
                        window: 60,
                        retry_after: wait,
                    })),
                    // Without a certificate there is no tunnel: never a blind one instead.
                    Err(error) => Err(message.refuse(Reason::InternalError { error: error.to_string() })),
                }
            }
            TunnelWay::Opaque(granted) => {
                let tunnel = self.copy(*granted).await?;
                Ok(Opened::Opaque(Box::new(move |client| Box::pin(tunnel.splice(client)))))
            }
        }
    }

    /// An opaque tunnel walks the same rooms as a request; nothing is attached to it.
    async fn copy(&self, granted: Granted) -> Result<OpenTunnel, Refusal> {
        let admitted = self.limits.admit(granted)?;
        let approved = self.approvals.wait(admitted).await?;
        let stripped = strip::client_credentials(approved);
        let outbound = self.credentials.attach(stripped).await?;
        let recorded = self.audit.record(outbound).await?;
        self.upstream.tunnel(recorded).await
    }
}

impl Rooms for Proxy {
    /// Answers one request: every request gets one answer and one audit entry.
    async fn handle(&self, arrival: Arrival) -> Response<AuditedBody> {
        self.pass(arrival).await.unwrap_or_else(Refusal::into_response)
    }

    async fn connect(&self, arrival: Arrival) -> Result<Opened, Response<AuditedBody>> {
        self.open(arrival).await.map_err(Refusal::into_response)
    }
}
