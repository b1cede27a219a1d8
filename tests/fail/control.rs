// This one compiles: it proves that the others fail for their own reasons.
use egret::{approve::Approved, forward::Upstream, limit::{Admitted, Limits}, approve::Approvals, decide::Granted, refusal::Refusal, record::Recorded, strip::{self, Stripped}};

pub fn admit(limits: &Limits, granted: Granted) -> Result<Admitted, Refusal> {
    limits.admit(granted)
}

pub async fn approve(approvals: &Approvals, admitted: Admitted) -> Result<Approved, Refusal> {
    approvals.wait(admitted).await
}

pub fn strip(approved: Approved) -> Stripped {
    strip::client_credentials(approved)
}

pub async fn forward(upstream: &Upstream, recorded: Recorded) {
    let _ = upstream.forward(recorded).await;
}
