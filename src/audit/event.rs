//! Management events in the decision log: the same envelope, no request.

use std::time::SystemTime;

use serde::Serialize;

use super::line;

/// Something an auditor must know that is not a request.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A policy is in force.
    PolicyLoaded {
        /// Its revision.
        revision: &'a str,
        /// SHA-256 over its files.
        hash: &'a str,
    },
    /// A policy was refused; the last good one stays.
    PolicyRejected {
        /// How many problems it has.
        problems: usize,
    },
    /// The policy in force, a signed bundle, has ended; it stays.
    PolicyExpired {
        /// Its revision.
        revision: &'a str,
        /// When it ended.
        expired_at: &'a str,
    },
    /// A tunnel that was open is closed: a new policy no longer lets it be.
    TunnelClosed {
        /// Whose it was.
        tenant_id: &'a str,
        /// Which agent's.
        agent_id: &'a str,
        /// Where it led: `host:port`.
        authority: &'a str,
        /// What `CONNECT` would be refused with now.
        code: &'a str,
        /// In words.
        reason: &'a str,
    },
    /// An issuer's keys could not be fetched.
    JwksStale {
        /// The issuer.
        issuer: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// egret takes requests.
    Started {
        /// The version.
        version: &'a str,
    },
    /// egret stops.
    Stopped {
        /// Records lost since the start.
        audit_dropped: u64,
    },
    /// A sink takes records again.
    AuditResumed {
        /// Records that it did not take.
        dropped: u64,
    },
    /// Messages that never became a request: the HTTP parser or the TLS handshake refused them.
    Malformed {
        /// `http`, `http_too_large`, `http2`, `tls`, `sni_mismatch`, `tunnel_protocol`, `client_tls_rejected`.
        kind: &'a str,
        /// What happened, without anything the client sent.
        reason: &'a str,
        /// The client's socket.
        peer: &'a str,
        /// The tunnel's authority, when there is a tunnel.
        authority: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Envelope<'a> {
    v: u8,
    ts: String,
    seq: u64,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Event<'_> {
    pub(super) fn line(&self, seq: u64) -> Vec<u8> {
        line::write(&Envelope { v: 1, ts: line::rfc3339(SystemTime::now()), seq, event: self })
    }
}
