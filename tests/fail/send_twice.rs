// E0382: one decision, one request.
use egret::{forward::Upstream, record::Recorded};

pub async fn forward(upstream: &Upstream, recorded: Recorded) {
    let _ = upstream.forward(recorded).await;
    let _ = upstream.forward(recorded).await;
}
