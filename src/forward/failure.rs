//! What went wrong on the way out, as refusals.

use std::sync::atomic::Ordering;

use super::exchange::Exchange;
use crate::{audit::chain, connect::DialError, refusal::Reason};

/// Whose fault it was that the exchange broke off.
pub(super) fn broken(error: &hyper::Error, exchange: &Exchange) -> Reason {
    let progress = &exchange.progress;
    if progress.over.load(Ordering::Acquire) {
        let limit = exchange.plan().and_then(|plan| plan.service.max_body).unwrap_or_default();
        return Reason::BodyTooLarge { limit };
    }
    if progress.broke.load(Ordering::Acquire) {
        return Reason::RequestMalformed {
            what: "the request body broke off or is malformed",
            token: "malformed-body",
            status: 400,
        };
    }
    Reason::UpstreamUnreachable {
        terminated: true,
        idempotent: exchange.method.is_idempotent(),
        error: chain(error),
    }
}

/// A connection that was not made, as a refusal.
pub(super) fn reason(error: DialError) -> Reason {
    match error {
        DialError::Dns { timeout, error } => Reason::UpstreamDnsFailed { timeout, error },
        DialError::Prohibited(address) => Reason::DestinationIpProhibited { address: address.to_string() },
        DialError::Unreachable(error) => {
            Reason::UpstreamUnreachable { terminated: false, idempotent: true, error }
        }
        DialError::Timeout => Reason::UpstreamTimeout { connecting: true, idempotent: true },
        DialError::Tls { certificate, error } => Reason::UpstreamTlsFailed { certificate, error },
    }
}
