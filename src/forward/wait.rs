//! Waiting for the head of an answer: not for ever, and not longer than the request is granted.

use std::{sync::atomic::Ordering, time::Duration};

use super::body::Progress;
use crate::{decide::Grant, standing::Withdrawn};

/// How long most answers take at most. A request that takes longer is watched: its grant may be lost.
const QUICK: Duration = Duration::from_secs(1);

/// Why an answer is not waited for any longer.
pub(super) enum GivenUp {
    /// It did not come in time.
    Late,
    /// The policy no longer grants the request.
    Lost(Withdrawn),
}

/// Waits for the answer. The time counts from the last byte of the upload, not from its first. A request that
/// takes longer than most asks from then on whether it is still granted.
pub(super) async fn within<F: Future>(
    patience: Duration,
    progress: &Progress,
    grant: &mut Grant,
    answer: F,
) -> Result<F::Output, GivenUp> {
    let mut answer = std::pin::pin!(answer);
    let mut seen = progress.bytes.load(Ordering::Relaxed);
    let first = patience.min(QUICK);
    if let Ok(answered) = tokio::time::timeout(first, &mut answer).await {
        return Ok(answered);
    }
    let mut lost = std::pin::pin!(grant.standing().lost());
    let mut wait = patience.saturating_sub(first);
    loop {
        tokio::select! {
            answered = &mut answer => return Ok(answered),
            withdrawn = &mut lost => return Err(GivenUp::Lost(withdrawn)),
            () = tokio::time::sleep(wait) => {
                let now = progress.bytes.load(Ordering::Relaxed);
                if now == seen {
                    return Err(GivenUp::Late);
                }
                (seen, wait) = (now, patience);
            }
        }
    }
}
