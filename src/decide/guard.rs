//! Guards: what holds for every tenant and agent. A guard can only take away.

use std::sync::Arc;

use super::{
    pattern::{Methods, Pattern},
    problem::Findings,
    reader::{self, Fields, closest, short},
    role::method_hint,
    source::Span,
    yaml::{Node, Value},
};
use crate::target::{Method, Path};

/// A guard, ready to be asked.
#[derive(Debug)]
pub(super) struct Guard {
    /// Only for this service.
    pub(super) service: Option<String>,
    methods: Methods,
    pattern: Pattern,
    /// The sentence for the agent.
    pub(super) deny: Arc<str>,
    /// Whether it only writes down that it would have held.
    pub(super) shadow: bool,
    /// `guards[2]`.
    pub(super) label: Arc<str>,
    pub(super) span: Span,
}

impl Guard {
    /// Whether it holds for this method on some path.
    pub(super) fn looks_at(&self, method: Method) -> bool {
        self.methods.contains(method)
    }

    pub(super) fn covers(&self, method: Method, path: &Path) -> bool {
        self.methods.contains(method) && self.pattern.guards(path)
    }
}

/// Reads guard number `index`.
pub(super) fn read(node: &Node, index: usize, findings: &mut Findings) -> Option<Guard> {
    let keys = ["match", "deny", "require", "when", "shadow"];
    let fields = Fields::read(node, "a guard", &keys, findings)?;
    let shadow = fields.get("shadow").and_then(|n| reader::flag(n, "`shadow`", findings)).unwrap_or(false);
    if let Some((when, _)) = fields.entry("when") {
        findings.report(when.span, "`when` is not supported yet").hint("match methods and paths for now");
    }
    if let Some((require, value)) = fields.entry("require") {
        if matches!(&value.value, Value::Text(text) if text == "approval") {
            findings
                .report(value.span, "approvals come with a later release")
                .hint("write `deny: \"SENTENCE FOR THE AGENT\"` until then");
        } else {
            findings
                .report(require.span, "`require` can only be `approval`, which comes with a later release");
        }
    }
    let deny = fields.get("deny").and_then(|n| reader::text(n, "`deny`", findings));
    if deny.is_none() && fields.get("deny").is_none() && fields.get("require").is_none() {
        findings.report(node.span, "the guard says nothing").hint("add `deny: \"SENTENCE FOR THE AGENT\"`");
    }
    if deny.is_some_and(|text| text.is_empty() || text.len() > 300 || text.chars().any(char::is_control)) {
        findings.report(node.span, "`deny` is one sentence of at most 300 characters");
    }
    let Some(matched) = fields.get("match") else {
        findings.report(node.span, "the guard has no `match`").hint("for example `match: DELETE **`");
        return None;
    };
    let (service, methods, pattern) = parse_match(matched, findings)?;
    let label = format!("guards[{index}]").into();
    Some(Guard { service, methods, pattern, deny: deny?.into(), shadow, label, span: matched.span })
}

/// Parses `[SERVICE] METHODS PATH`.
fn parse_match(node: &Node, findings: &mut Findings) -> Option<(Option<String>, Methods, Pattern)> {
    let text = reader::text(node, "`match`", findings)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (service, methods, path) = match words.as_slice() {
        [methods, path] => (None, *methods, *path),
        [service, methods, path] => (Some((*service).to_owned()), *methods, *path),
        _ => {
            findings
                .report(node.span, "`match` is `[SERVICE] METHODS PATH`")
                .hint("for example `DELETE **` or `github POST|PUT /repos/**`");
            return None;
        }
    };
    if [Some(methods), service.as_deref()]
        .iter()
        .flatten()
        .any(|word| ["tool", "graphql", "grpc"].contains(word))
    {
        findings
            .report(node.span, "guards on tools, GraphQL and gRPC are not supported yet")
            .hint("match methods and paths for now");
        return None;
    }
    let methods = Methods::parse(methods).map_err(|message| {
        findings.report(node.span, message);
        if let Some(hint) = method_hint(methods) {
            findings.hint(hint);
        }
    });
    let pattern = Pattern::parse(path).map_err(|message| {
        findings.report(node.span, message);
    });
    Some((service, methods.ok()?, pattern.ok()?))
}

/// Reports a guard whose service does not exist.
pub(super) fn unknown_service<'s>(
    guard: &Guard,
    name: &str,
    known: impl Iterator<Item = &'s str>,
    findings: &mut Findings,
) {
    findings.report(guard.span, format!("there is no service `{}`", short(name)));
    if let Some(meant) = closest(name, known) {
        findings.hint(format!("did you mean `{meant}`?"));
    }
}
