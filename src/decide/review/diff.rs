//! `egret diff`: what changes in reach between two policies. Who gains or loses what, where, with whose credential.
//!
//! Two policies are compared by what they mean: for each agent of each tenant and each integration, the lines of its
//! role, and what guards make of each (`lines`), then what comes with an integration and a service (`facts`). How a
//! policy is written, what roles are called and in which order anything stands makes no difference.

mod facts;
mod lines;
mod render;
mod tenants;

use std::{path::Path, sync::Arc};

use serde::Serialize;

use crate::decide::{
    files::{outline::Outline, problem::Problems, source::Sources},
    policy::Policy,
};

/// What is different between two policies.
#[derive(Debug)]
pub struct Diff {
    /// The most important first.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of which kind.
    pub kind: Kind,
    /// Whether it is about something that writes.
    pub write: bool,
    /// Whose; none where the whole policy, a service or a guard is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// The agent; `*` is every agent that has nothing else of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// Through which integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration: Option<Arc<str>>,
    /// What happens, as a sentence goes on after the name.
    pub what: Arc<str>,
    /// Through which integration and with which credential, or the details.
    pub with: Arc<str>,
    /// What guards make of it, and what there is beside.
    pub note: Arc<str>,
}

/// What kind of difference it is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody may do more.
    Gain,
    /// It goes elsewhere, or with another credential, or otherwise.
    Changed,
    /// A guard takes away less.
    Weaker,
    /// Somebody may do less.
    Loss,
    /// A guard takes away more.
    Stricter,
}

/// One of the two policies.
struct Side<'p> {
    policy: &'p Policy,
    outline: &'p Outline,
    /// The directory that the policy stands in, as it begins references to files.
    root: String,
}

/// Compares two policies, each a file or a directory.
///
/// # Errors
/// Where one of them does not load: everything that is wrong with it.
pub fn diff(old: &Path, new: &Path) -> Result<Diff, Problems> {
    let ((old_policy, old_outline), (new_policy, new_outline)) = (load(old)?, load(new)?);
    let old = Side { policy: &old_policy, outline: &old_outline, root: root(old) };
    let new = Side { policy: &new_policy, outline: &new_outline, root: root(new) };
    Ok(compare(&old, &new))
}

fn compare(old: &Side<'_>, new: &Side<'_>) -> Diff {
    let mut changes = Vec::new();
    tenants::compare(old, new, &mut changes);
    facts::of_policies(old, new, &mut changes);
    changes.sort_by(|a, b| a.order().cmp(&b.order()));
    Diff { changes }
}

fn load(path: &Path) -> Result<(Policy, Outline), Problems> {
    let sources = Sources::read(path).map_err(|error| Problems::unreadable(&error))?;
    Policy::compile_with_outline(&sources)
}

/// The directory that references to files begin with.
fn root(path: &Path) -> String {
    let directory = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    format!("{}/", directory.display())
}

impl Change {
    fn order(&self) -> impl Ord + '_ {
        (self.kind, !self.write, &self.tenant, &self.agent, &self.what, &self.note, &self.with)
    }
}

#[cfg(test)]
mod tests;
