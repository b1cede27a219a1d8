//! Policy files: from bytes to a tree in which everything has its place, and what is wrong with them.

pub(super) mod allow;
mod aside;
pub(super) mod bundle;
pub(super) mod format;
pub(super) mod git;
pub(super) mod outline;
pub(super) mod problem;
pub(super) mod reader;
pub(super) mod sign;
pub(super) mod source;
pub(super) mod veil;
pub(super) mod yaml;
