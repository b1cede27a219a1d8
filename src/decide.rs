//! Room 3. Whether: the policy, and the decision that it makes about one request of a verified caller.
//!
//! A policy is read from YAML (`yaml`, `reader`), checked part by part (`service`, `guard`, `tenant`, `promise`;
//! every mistake at once, `problem`), compiled (`policy`), and asked (`judge`). `live` holds the one in force and
//! is the room's door; `reload` swaps it for the next. `bundle` demands
//! signatures, `git` knows the commit.

mod act;
mod approval;
mod bundle;
mod catalog;
mod check;
mod covers;
mod credential;
mod diff;
mod explain;
mod format;
mod git;
mod grant;
mod guard;
mod host;
mod inspect;
mod judge;
mod lint;
mod live;
mod matcher;
mod outline;
mod pattern;
mod policy;
mod problem;
mod promise;
mod protocol;
mod push;
mod quota;
mod reader;
mod reload;
mod role;
mod schema;
mod service;
mod shape;
mod sign;
mod source;
mod tenant;
mod when;
mod words;
mod yaml;

pub use act::Act;
pub use bundle::{MANIFEST, SIGNATURE, Verification};
pub use catalog::{Catalogue, ListedRole, Listing, catalogue, catalogued};
pub use check::{Counts, Report, Strictness, check, check_verified};
pub use diff::{Change, Diff, Kind as ChangeKind, diff};
pub use explain::{Explanation, Inquiry, Probe, Step, explain};
pub use format::{Unformatted, format, policy_files};
pub use grant::{Approval, Grant, Granted};
pub use judge::Mode;
pub use lint::{Code as LintCode, Level, Lint};
pub use live::{Interception, Policies, TunnelWay};
pub use policy::Policy;
pub use problem::{Problem, Problems};
pub use reload::Reload;
pub use schema::schema;
pub use sign::{SignError, new_key, public_path, sign};
pub use source::Mark;

#[cfg(test)]
mod tests;
