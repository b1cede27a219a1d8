//! The parts of a policy, each read from its piece of the tree and checked.

pub(super) mod act;
pub(super) mod approval;
pub(super) mod covers;
pub(super) mod credential;
pub(super) mod guard;
pub(super) mod host;
pub(super) mod matcher;
pub(super) mod pattern;
pub(super) mod promise;
pub(super) mod protocol;
pub(super) mod provider;
pub(super) mod quota;
pub(super) mod role;
pub(super) mod service;
pub(super) mod shape;
pub(super) mod tenant;
pub(super) mod when;
