// E0308: a request that was not counted cannot be approved.
use egret::{approve::Approvals, decide::Granted};

pub async fn approve(approvals: &Approvals, granted: Granted) {
    let _ = approvals.wait(granted).await;
}
