// E0308: a request that was not recorded cannot be forwarded.
use egret::{credential::Outbound, forward::Upstream};

pub async fn forward(upstream: &Upstream, outbound: Outbound) {
    let _ = upstream.forward(outbound).await;
}
