//! `egret diff`: what changes in reach between two policies. Who gains or loses what, where, with whose credential.
//!
//! Two policies are compared by what they mean: for each agent of each tenant and each integration, the lines of its
//! role, and what guards make of each (`lines`), then what comes with an integration, a service and the policy
//! (`facts`, `limits`, `services`, `policies`). How a policy is written, what roles are called and in which order
//! anything stands makes no difference, but for the first host of a service: the gateway goes there.

mod choice;
mod facts;
mod hosts;
mod index;
mod limits;
mod lines;
mod policies;
mod render;
mod services;
mod tenants;
mod units;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

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

/// One difference: its facts, and the parts of its sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of which kind.
    pub kind: Kind,
    /// What it is about.
    pub about: About,
    /// Whether it is about something that writes; none where that makes no sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Whether the new policy enforces it: false where the tenant is in shadow mode.
    pub enforced: bool,
    /// Whose; none where the whole policy, a service or a guard is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// The agent; `*` is every agent that has nothing else of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// Through which integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration: Option<Arc<str>>,
    /// Of which service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// What is done there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Where, all of them.
    #[serde(skip_serializing_if = "is_empty")]
    pub hosts: Arc<[String]>,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Arc<Attached>>,
    /// As whom before, where that is what changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_credential: Option<Arc<Attached>>,
    /// The guards that look at it, or that look at it no longer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guarding>,
    /// What happens, as a sentence goes on after the name.
    #[serde(skip)]
    pub what: Arc<str>,
    /// Through which integration and with which credential, or the details.
    #[serde(skip)]
    pub with: Arc<str>,
    /// What guards make of it, and what there is beside.
    #[serde(skip)]
    pub note: Arc<str>,
}

fn is_empty(hosts: &Arc<[String]>) -> bool {
    hosts.is_empty()
}

/// What kind of difference it is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody may do more.
    Gain,
    /// What took something away takes less away.
    Weaker,
    /// It goes elsewhere, or with another credential, or otherwise.
    Changed,
    /// Somebody may do less.
    Loss,
    /// Something takes more away.
    Stricter,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// What an agent may do.
    Reach,
    /// Which integration a request of an agent goes through.
    Choice,
    /// `mode`.
    Mode,
    /// `limit`.
    Limit,
    /// `tier`.
    Tier,
    /// `credential`.
    Credential,
    /// What an integration is called.
    Name,
    /// Where the gateway goes.
    Gateway,
    /// How a service is reached.
    Service,
    /// A guard as such.
    Guard,
    /// `approvals`.
    Approvals,
    /// `tests`.
    Test,
}

/// Whether something is changed where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It is, or it may be.
    Write,
    /// It is only read.
    Read,
}

/// What is done: the line of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `http`, `tool`, `resource`, `prompt`, `method`, `query`, `mutation`, `connect`; `any` is whatever there is.
    pub kind: &'static str,
    /// Of `http`. `HEAD` goes without saying beside `GET`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<&'static str>,
    /// Of `http`: `/repos/**`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of the others: `delete_*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A credential, by its references alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// `APP` or `USER`.
    pub tier: &'static str,
    /// `none`, `static`, or what is obtained: `oauth`.
    pub kind: &'static str,
    /// Where its secrets are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What goes where.
    pub text: String,
}

/// A guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guarding {
    /// As it is written.
    #[serde(rename = "match")]
    pub matched: Arc<str>,
    /// `deny` or `approval`.
    pub effect: &'static str,
    /// Its condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// One of the two policies.
struct Side<'p> {
    policy: &'p Policy,
    outline: &'p Outline,
    /// The directory that the policy stands in: relative references to files begin there.
    root: PathBuf,
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
    policies::compare(old, new, &mut changes);
    changes.sort_by(|a, b| a.order().cmp(&b.order()));
    Diff { changes }
}

fn load(path: &Path) -> Result<(Policy, Outline), Problems> {
    let sources = Sources::read(path).map_err(|error| Problems::unreadable(&error))?;
    Policy::compile_with_outline(&sources)
}

/// The directory that relative references to files begin with.
fn root(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_path_buf() } else { path.parent().map(Path::to_path_buf).unwrap_or_default() }
}

impl Change {
    /// A change of the whole policy.
    fn of_policy(kind: Kind, about: About, what: &str) -> Self {
        Self {
            kind,
            about,
            access: None,
            enforced: true,
            tenant: None,
            agent: None,
            integration: None,
            service: None,
            action: None,
            hosts: Arc::default(),
            credential: None,
            old_credential: None,
            guards: Vec::new(),
            what: what.into(),
            with: "".into(),
            note: "".into(),
        }
    }

    /// A change of a tenant, whatever its agents may do.
    fn of_tenant(tenant: &Arc<str>, kind: Kind, about: About, what: &str, with: &str) -> Self {
        Self { tenant: Some(tenant.clone()), with: with.into(), ..Self::of_policy(kind, about, what) }
    }

    /// Whether it is about something that writes.
    pub fn writes(&self) -> bool {
        self.access == Some(Access::Write)
    }

    fn order(&self) -> impl Ord + '_ {
        let gives = match self.kind {
            Kind::Gain | Kind::Weaker => 0,
            Kind::Changed => 1,
            Kind::Loss | Kind::Stricter => 2,
        };
        let what = (&self.tenant, &self.agent, &self.what, &self.note, &self.with);
        (gives, !self.writes(), self.kind, what)
    }
}

impl Access {
    fn of(writes: bool) -> Self {
        if writes { Self::Write } else { Self::Read }
    }
}

#[cfg(test)]
mod tests;
