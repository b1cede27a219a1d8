//! Lints: what loads, and may still not be meant.
//!
//! Each has a code that never changes its meaning, a place, and a hint. `docs/lints.md` describes them; a comment
//! `# egret: allow CODE` at the end of a line or above it says that something there is meant.

mod allow;
mod code;
mod grants;
mod hosts;
mod providers;
mod secrets;
mod unused;

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

pub use super::lint::{
    code::{Code, Level},
    secrets::{Around, Kept},
};
use crate::decide::{
    files::{
        outline::Outline,
        source::{Mark, Sources, Span},
    },
    parts::{
        guard::Guard,
        role::{Role, RoleLine},
        service::Service,
        tenant::{Grant, Integration},
    },
    policy::Policy,
};

/// What loads but may not be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// Which kind.
    pub code: Code,
    /// Whether it is a finding under `--strict`.
    pub level: Level,
    /// Where.
    pub at: Mark,
    /// What.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Looks at a policy that loads. Those that a comment allows are left out.
pub(in crate::decide) fn lint(
    policy: &Policy,
    outline: Outline,
    sources: &Sources,
    around: Around<'_>,
) -> Vec<Lint> {
    let mut look = Look { policy, outline, roles: granted(policy), found: Vec::new() };
    grants::look(&mut look);
    hosts::look(&mut look);
    unused::look(&mut look);
    secrets::look(&mut look, around);
    providers::look(&mut look);
    let mut found = look.found;
    found.sort_by_key(|found| (found.at.file, found.at.line, found.at.column, found.code));
    // A line that several roles include, or a role that several agents have from `*`, is one place.
    found.dedup_by(|a, b| (a.at, a.code, &a.message) == (b.at, b.code, &b.message));
    found.retain(|found| !allow::is_allowed(sources, found.at, found.code));
    let lints = found.into_iter().map(|found| Lint {
        code: found.code,
        level: found.level,
        at: policy.mark(found.at),
        message: found.message,
        hint: found.hint,
    });
    lints.collect()
}

/// Everything that lints look at, and what they found.
struct Look<'p> {
    policy: &'p Policy,
    outline: Outline,
    /// The roles that somebody has, each once.
    roles: Vec<Given<'p>>,
    found: Vec<Found>,
}

/// A role that somebody has.
struct Given<'p> {
    service: &'p Arc<Service>,
    role: &'p Arc<Role>,
    /// The first place where it is given.
    first: Span,
}

struct Found {
    code: Code,
    level: Level,
    at: Span,
    message: String,
    hint: Option<String>,
}

impl Look<'_> {
    fn report(&mut self, code: Code, at: Span, message: impl Into<String>) -> &mut Found {
        let found = Found { code, level: code.level(), at, message: message.into(), hint: None };
        self.found.push(found);
        let last = self.found.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed just now")]
        &mut self.found[last]
    }
}

impl Found {
    fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    fn only_info(&mut self) {
        self.level = Level::Info;
    }
}

impl Given<'_> {
    /// Where a line of the role is reported: where it stands, or where the catalogue's role is given.
    fn place(&self, line: &RoleLine) -> Span {
        if is_own(line.span) { line.span } else { self.first }
    }

    /// How a line is called where it is reported.
    fn called(&self, line: &RoleLine) -> String {
        let text = written(line);
        let service = &self.service.plan.id;
        if is_own(line.span) {
            format!("`{text}` of `{service}`")
        } else {
            format!("`{text}`, which `{}` of `{service}` has,", self.role.id)
        }
    }
}

/// Whether something stands in the policy itself and not in the catalogue.
fn is_own(span: Span) -> bool {
    !crate::decide::catalog::holds(span)
}

/// A line as it is written.
pub(in crate::decide) fn written(line: &RoleLine) -> String {
    match &line.grants {
        crate::decide::parts::role::Grants::Http(methods, _) => format!("{methods} {}", line.route),
        _ => line.route.to_string(),
    }
}

/// The guards of a service that are in force.
fn in_force(service: &Service) -> impl Iterator<Item = &Guard> {
    service.guards.iter().map(|guard| &**guard).filter(|guard| !guard.shadow)
}

fn granted(policy: &Policy) -> Vec<Given<'_>> {
    let mut roles: HashMap<*const Role, Given<'_>> = HashMap::new();
    let all: Vec<(&Integration, &Grant)> =
        policy.tenants().flat_map(crate::decide::parts::tenant::Tenant::grants).collect();
    for (integration, grant) in all {
        let place = |span: Span| (span.file, span.start);
        let given = Given { service: &integration.service, role: &grant.role, first: grant.span };
        let known = roles.entry(Arc::as_ptr(&grant.role)).or_insert(given);
        if place(grant.span) < place(known.first) {
            known.first = grant.span;
        }
    }
    let mut roles: Vec<Given<'_>> = roles.into_values().collect();
    roles.sort_by_key(|given| (given.first.file, given.first.start));
    roles
}

#[cfg(test)]
mod tests;
