//! `egret check`: is this policy sound, and does it keep its promises?

use std::{collections::HashSet, path::Path};

use serde::Serialize;

use super::{
    bundle::Verification,
    guard::{Guard, Matched},
    policy::Policy,
    problem::Problems,
    role::{Grants, Role},
    service::Service,
    source::Mark,
    tenant::Tenant,
};
use crate::target::Method;

/// What `check` found.
#[derive(Debug)]
pub struct Report {
    /// What keeps the policy from being loaded; none where it loads.
    pub problems: Option<Problems>,
    /// What loads but may not be meant. Errors under `--strict`.
    pub warnings: Vec<Warning>,
    /// What the policy holds, when it loads.
    pub counts: Counts,
}

/// What loads but may not be meant.
#[derive(Debug, Clone, Serialize)]
pub struct Warning {
    /// Where.
    pub at: Mark,
    /// What.
    pub message: String,
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
    /// The report as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": self.problems.is_none(),
            "problems": self.problems.as_ref().map_or_else(|| serde_json::json!([]), Problems::to_json),
            "warnings": self.warnings,
            "counts": self.counts,
        })
    }
}

/// Checks a file or a directory.
pub fn check(path: &Path) -> Report {
    check_verified(path, None)
}

/// As [`check`], and verified where that is demanded.
pub fn check_verified(path: &Path, verification: Option<&Verification>) -> Report {
    match Policy::load_verified(path, verification) {
        Ok(policy) => Report { problems: None, warnings: warnings(&policy), counts: counts(&policy) },
        Err(problems) => Report { problems: Some(problems), warnings: Vec::new(), counts: Counts::default() },
    }
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

/// Looks at every role that somebody has.
fn warnings(policy: &Policy) -> Vec<Warning> {
    let mut seen: HashSet<*const Role> = HashSet::new();
    let mut warnings = Vec::new();
    for (integration, grant) in policy.tenants().flat_map(Tenant::grants) {
        if seen.insert(std::ptr::from_ref(&*grant.role)) {
            look(policy, &integration.service, &grant.role, &mut warnings);
        }
    }
    warnings.sort_by(|a, b| (&a.at.file, a.at.line, a.at.column).cmp(&(&b.at.file, b.at.line, b.at.column)));
    // A line that several roles include is one line.
    warnings.dedup_by(|a, b| a.at == b.at && a.message == b.message);
    warnings
}

fn look(policy: &Policy, service: &Service, role: &Role, warnings: &mut Vec<Warning>) {
    for line in &role.lines {
        let Grants::Http(methods, _) = &line.grants else { continue };
        let mut warn = |message: String| warnings.push(Warning { at: policy.mark(line.span), message });
        let looks = |guard: &Guard| matches!(&guard.matched, Matched::Http(methods, _) if methods.contains(Method::Delete));
        let guarded = service.guards.iter().any(|guard| looks(guard) && !guard.shadow);
        if methods.contains(Method::Delete) && !guarded {
            warn(format!(
                "`{}` of `{}` may be deleted, and no guard looks at it",
                line.route, service.plan.id
            ));
        }
        if methods.contains(Method::Post) && line.route.ends_with("/graphql") {
            warn(format!("`POST {}` grants every GraphQL mutation", line.route));
        }
    }
}
