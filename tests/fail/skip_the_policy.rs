// E0308: an identified request is not a granted one.
use egret::{identify::Identified, limit::Limits};

pub fn admit(limits: &Limits, identified: Identified) {
    let _ = limits.admit(identified);
}
