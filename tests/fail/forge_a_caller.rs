// E0423: a caller is made by a verified token alone.
use std::sync::Arc;

use egret::{context::Identity, identify::Caller};

pub fn forge(identity: Arc<Identity>) -> Caller {
    Caller(identity)
}
