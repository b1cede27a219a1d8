// E0382: what was refused is gone.
use egret::{decide::Granted, limit::Limits, refusal::Reason};

pub fn admit(limits: &Limits, granted: Granted) {
    let _ = granted.refuse(Reason::TenantUnknown);
    let _ = limits.admit(granted);
}
