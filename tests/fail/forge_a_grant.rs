// E0451: a grant is made by the policy alone.
use egret::{context::AuthContext, decide::Grant};

pub fn forge(grant: Grant, context: AuthContext) -> Grant {
    Grant { context, ..grant }
}
