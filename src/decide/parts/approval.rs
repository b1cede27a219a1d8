//! Who is asked where a guard requires an approval, and for how long a yes is good.

use std::{sync::Arc, time::Duration};

use super::shape;
use crate::decide::files::{
    problem::Findings,
    reader::{self, Fields},
    yaml::Node,
};

/// `approvals` of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) struct Approvals {
    /// `group:NAME` or `user:NAME`; none where the policy does not say.
    pub(in crate::decide) by: Option<Arc<str>>,
    /// For how long a yes is good.
    pub(in crate::decide) within: Duration,
    /// How long a request is held while a human decides; zero: it is refused at once.
    pub(in crate::decide) hold: Duration,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { by: None, within: Duration::from_secs(15 * 60), hold: Duration::ZERO }
    }
}

/// Reads `approvals`.
pub(in crate::decide) fn read(node: &Node, findings: &mut Findings) -> Option<Approvals> {
    let fields = Fields::read(node, "`approvals`", shape::APPROVALS.keys, findings)?;
    let Some(by) = fields.get("by") else {
        findings
            .report(node.span, "`approvals` does not say who approves")
            .hint("for example `by: group:platform-oncall`");
        return None;
    };
    let usual = Approvals::default();
    let within = fields.get("within").map(|node| reader::duration(node, "`within`", findings));
    let hold = fields.get("hold").map(|node| reader::duration(node, "`hold`", findings));
    let text = reader::text(by, "`by`", findings)?;
    let named = text.split_once(':').filter(|(kind, name)| {
        matches!(*kind, "group" | "user") && !name.is_empty() && !name.chars().any(char::is_whitespace)
    });
    if named.is_none() {
        findings.report(by.span, "`by` is `group:NAME` or `user:NAME`");
        return None;
    }
    Some(Approvals {
        by: Some(text.into()),
        within: within.unwrap_or(Some(usual.within))?,
        hold: hold.unwrap_or(Some(usual.hold))?,
    })
}
