//! What people read about a policy before and after it is in force.

pub(super) mod check;
pub(super) mod diff;
pub(super) mod explain;
pub(super) mod lint;
pub(super) mod schema;
mod words;
