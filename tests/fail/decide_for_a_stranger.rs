// E0308: nobody decides about a caller that was not verified.
use egret::{decide::Policies, listen::Received};

pub fn decide(policies: &Policies, received: Received) {
    let _ = policies.decide(received);
}
