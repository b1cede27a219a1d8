//! Limits as a policy writes them: `120/min`, or a list of rates and whom they count.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::shape;
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields},
        yaml::{Node, Value},
    },
    plan::{LimitRule, LimitScope, Quota},
};

/// Reads the `limit` of an integration; the most specific rule comes first.
pub(in crate::decide) fn of_integration(
    node: &Node,
    integration: &str,
    findings: &mut Findings,
) -> Vec<LimitRule> {
    let words =
        [("tenant", LimitScope::Integration), ("agent", LimitScope::Agent), ("user", LimitScope::User)];
    let mut rules: Vec<LimitRule> = read(node, &words, LimitScope::Integration, findings)
        .into_iter()
        .map(|(scope, quota)| LimitRule { name: name(scope, integration), scope, quota })
        .collect();
    rules.sort_by_key(|rule| order(rule.scope));
    rules
}

/// Reads the `limit` of a tenant: it counts everything that the tenant sends.
pub(in crate::decide) fn of_tenant(node: &Node, findings: &mut Findings) -> Vec<LimitRule> {
    let words = [("tenant", LimitScope::Tenant)];
    read(node, &words, LimitScope::Tenant, findings)
        .into_iter()
        .map(|(scope, quota)| LimitRule { name: "tenant".into(), scope, quota })
        .collect()
}

fn name(scope: LimitScope, integration: &str) -> Arc<str> {
    match scope {
        LimitScope::Tenant => "tenant".into(),
        LimitScope::Integration => format!("tenant-{integration}").into(),
        LimitScope::Agent => format!("agent-{integration}").into(),
        LimitScope::User => format!("user-{integration}").into(),
    }
}

fn order(scope: LimitScope) -> u8 {
    match scope {
        LimitScope::User => 0,
        LimitScope::Agent => 1,
        LimitScope::Integration => 2,
        LimitScope::Tenant => 3,
    }
}

fn read(
    node: &Node,
    words: &[(&str, LimitScope)],
    default: LimitScope,
    findings: &mut Findings,
) -> Vec<(LimitScope, Quota)> {
    if !matches!(node.value, Value::List(_)) {
        return rate(node, findings).map(|quota| (default, quota)).into_iter().collect();
    }
    let mut rules: Vec<(LimitScope, Quota)> = Vec::new();
    for item in reader::items(node, "`limit`", findings).unwrap_or_default() {
        let Some(fields) = Fields::read(item, "a limit", shape::LIMIT_RULE.keys, findings) else { continue };
        let scope = match fields.get("per") {
            Some(per) => reader::word(per, "`per`", words, findings),
            None => Some(default),
        };
        let Some(quota_node) = fields.get("rate") else {
            findings.report(item.span, "the limit has no `rate`").hint("for example `rate: 120/min`");
            continue;
        };
        let (Some(scope), Some(quota)) = (scope, rate(quota_node, findings)) else { continue };
        // One key is counted in one bucket: two rates for the same scope would need a second.
        if rules.iter().any(|(known, _)| *known == scope) {
            findings.report(item.span, "two limits count the same requests").hint("keep the smaller one");
        } else {
            rules.push((scope, quota));
        }
    }
    rules
}

fn rate(node: &Node, findings: &mut Findings) -> Option<Quota> {
    let Value::Text(text) = &node.value else {
        reader::hide(node, findings);
        findings.report(node.span, "a limit is a rate such as `120/min`");
        return None;
    };
    let (count, unit) = text.split_once('/').unwrap_or((text, ""));
    let window = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => {
            reader::hide_long(node, findings);
            findings
                .report(node.span, "a limit is a rate such as `120/min`")
                .hint("the units are `s`, `min`, `h` and `d`");
            return None;
        }
    };
    match count.parse::<u32>().map(NonZeroU32::new) {
        Ok(Some(count)) => Some(Quota { count, window: Duration::from_secs(window) }),
        Ok(None) => {
            findings
                .report(node.span, "a limit of zero allows nothing")
                .hint("to switch an integration off, say `disabled: true`");
            None
        }
        Err(_) => {
            reader::hide_long(node, findings);
            findings.report(node.span, format!("a limit counts 1 to {} requests", u32::MAX));
            None
        }
    }
}
