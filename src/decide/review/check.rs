//! `egret check`: is this policy sound, and does it keep its promises?

use std::path::Path;

use serde::Serialize;

use super::lint::{self, Around, Code, Level, Lint};
use crate::decide::{
    files::{bundle::Verification, problem::Problems},
    policy::Policy,
};

/// What `check` found.
#[derive(Debug)]
pub struct Report {
    /// What keeps the policy from being loaded; none where it loads.
    pub problems: Option<Problems>,
    /// What loads but may not be meant.
    pub lints: Vec<Lint>,
    /// What the policy holds, when it loads.
    pub counts: Counts,
}

/// What is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Problems.
    Problems,
    /// Problems and warnings.
    Warnings,
}

/// How much a policy holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Files read.
    pub files: usize,
    /// Services of its own.
    pub services: usize,
    /// Guards.
    pub guards: usize,
    /// Tenants.
    pub tenants: usize,
    /// Integrations of all tenants.
    pub integrations: usize,
    /// Lines of `tests`, all of them kept.
    pub tests: usize,
}

impl Report {
    /// Whether nothing speaks against the policy.
    pub fn is_ok(&self, strictness: Strictness) -> bool {
        let counts = |lint: &Lint| strictness == Strictness::Warnings && lint.level == Level::Warning;
        self.problems.is_none() && !self.lints.iter().any(counts)
    }

    /// Leaves lints of some kinds out.
    pub fn allow(&mut self, codes: &[Code]) {
        self.lints.retain(|lint| !codes.contains(&lint.code));
    }

    /// The report as JSON.
    pub fn to_json(&self, strictness: Strictness) -> serde_json::Value {
        serde_json::json!({
            "ok": self.is_ok(strictness),
            "problems": self.problems.as_ref().map_or_else(|| serde_json::json!([]), Problems::to_json),
            "lints": self.lints,
            "counts": self.counts,
        })
    }
}

/// Checks a file or a directory, verified where that is demanded. What is around is asked for when the policy names a secret
/// that lies there.
pub fn check(path: &Path, verification: Option<&Verification>, around: Around<'_>) -> Report {
    let checked = Policy::sources(path, verification).and_then(|sources| {
        let (policy, outline) = Policy::compile_with_outline(&sources)?;
        let lints = lint::lint(&policy, outline, &sources, around);
        Ok(Report { problems: None, lints, counts: counts(&policy) })
    });
    checked.unwrap_or_else(|problems| Report {
        problems: Some(problems),
        lints: Vec::new(),
        counts: Counts::default(),
    })
}

fn counts(policy: &Policy) -> Counts {
    Counts {
        files: policy.files(),
        services: policy.own_services(),
        guards: policy.guards().len(),
        tenants: policy.tenants().count(),
        integrations: policy.tenants().map(|tenant| tenant.integrations.len()).sum(),
        tests: policy.promises(),
    }
}
