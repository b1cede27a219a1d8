//! Guards: what holds for every tenant and agent. A guard can only take away.

use std::sync::Arc;

use super::{
    act::Act,
    pattern::{Case, Glob, Methods, Pattern},
    role::{method_hint, named_kind, parse_graphql, parse_grpc},
    shape,
    when::{Patience, When},
};
use crate::{
    decide::{
        files::{
            problem::Findings,
            reader::{self, Fields, closest, short},
            source::Span,
            yaml::Node,
        },
        judge::Question,
    },
    graphql, mcp,
};

/// A guard, ready to be asked.
#[derive(Debug)]
pub(in crate::decide) struct Guard {
    /// Only for this service.
    pub(in crate::decide) service: Option<String>,
    pub(in crate::decide) matched: Matched,
    /// Only where this is true.
    pub(in crate::decide) when: Option<When>,
    pub(in crate::decide) effect: Effect,
    /// Whether it only writes down that it would have held.
    pub(in crate::decide) shadow: bool,
    /// `guards[2]`.
    pub(in crate::decide) label: Arc<str>,
    /// The guard as it is written: `linear tool delete_*`.
    pub(in crate::decide) text: Arc<str>,
    pub(in crate::decide) span: Span,
}

/// What a guard takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum Matched {
    Http(Methods, Pattern),
    Named(mcp::Named, Glob),
    GraphQl(graphql::Kind, Glob),
}

/// What a guard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum Effect {
    /// Refuses, with this sentence for the agent.
    Deny(Arc<str>),
    /// Asks a human.
    Approval,
}

impl Guard {
    /// Whether it holds for an act. Where `when` cannot be told, it holds.
    pub(in crate::decide) fn holds(
        &self,
        act: &Act<'_>,
        question: &Question<'_>,
        patience: &Patience,
    ) -> bool {
        self.matched.covers(act)
            && self.when.as_ref().is_none_or(|when| when.is_true(act, question, patience))
    }
}

impl Matched {
    /// Whether it looks at an act.
    fn covers(&self, act: &Act<'_>) -> bool {
        match (self, act) {
            (Self::Http(methods, pattern), Act::Http(method, path)) => {
                methods.contains(*method) && pattern.guards(path)
            }
            (Self::Named(kind, glob), Act::Named { kind: asked, name, .. }) => {
                kind == asked && glob.matches(name, Case::Insensitive)
            }
            (Self::Named(mcp::Named::Method, glob), Act::List { method, .. }) => {
                glob.matches(method, Case::Insensitive)
            }
            (Self::GraphQl(kind, glob), Act::Field(asked, field)) => {
                kind == asked && glob.matches(field, Case::Insensitive)
            }
            // What cannot be read may be anything.
            (Self::GraphQl(..), Act::Unreadable(_)) => true,
            _ => false,
        }
    }
}

/// Reads guard number `index`.
pub(in crate::decide) fn read(node: &Node, index: usize, findings: &mut Findings) -> Option<Guard> {
    let fields = Fields::read(node, "a guard", shape::GUARD.keys, findings)?;
    let shadow = fields.get("shadow").and_then(|n| reader::flag(n, "`shadow`", findings)).unwrap_or(false);
    let when = fields.get("when").map(|node| When::read(node, findings));
    let effect = read_effect(node, &fields, findings);
    let Some(matched) = fields.get("match") else {
        findings.report(node.span, "the guard has no `match`").hint("for example `match: DELETE **`");
        return None;
    };
    let (service, what) = parse_match(matched, findings)?;
    let text = reader::text(matched, "`match`", findings)?.into();
    let missing: &[&str] = match &what {
        Matched::Http(..) => &["tool", "arguments", "operation", "field"],
        Matched::Named(..) => &["field"],
        Matched::GraphQl(..) => &["tool", "arguments"],
    };
    if let Some(Some(when)) = &when
        && when.asks_for(missing)
    {
        findings
            .report(matched.span, "the condition asks for what no request that this guard matches has")
            .hint("match `tool NAME` for `request.tool` and `request.arguments`, `graphql …` for `request.field`");
    }
    let label = format!("guards[{index}]").into();
    let when = match when {
        Some(when) => Some(when?),
        None => None,
    };
    Some(Guard { service, matched: what, when, effect: effect?, shadow, label, text, span: matched.span })
}

fn read_effect(node: &Node, fields: &Fields<'_>, findings: &mut Findings) -> Option<Effect> {
    let approval = fields
        .get("require")
        .map(|node| reader::word(node, "`require`", &[("approval", Effect::Approval)], findings));
    let deny = fields.get("deny").map(|node| (node, reader::text(node, "`deny`", findings)));
    match (approval, deny) {
        (Some(_), Some((deny, _))) => {
            findings
                .report(deny.span, "a guard either denies or requires an approval")
                .hint("a denial needs no approval: leave `require` out");
            None
        }
        (Some(approval), None) => approval,
        (None, Some((node, sentence))) => {
            let sentence = sentence?;
            if sentence.is_empty() || sentence.len() > 300 || sentence.chars().any(char::is_control) {
                findings.report(node.span, "`deny` is one sentence of at most 300 characters");
                return None;
            }
            Some(Effect::Deny(sentence.into()))
        }
        (None, None) => {
            findings
                .report(node.span, "the guard says nothing")
                .hint("add `require: approval` or `deny: \"SENTENCE FOR THE AGENT\"`");
            None
        }
    }
}

/// Parses `[SERVICE] METHODS PATH`, `[SERVICE] tool NAME`, `[SERVICE] graphql mutation [FIELD]` and the like.
fn parse_match(node: &Node, findings: &mut Findings) -> Option<(Option<String>, Matched)> {
    let text = reader::text(node, "`match`", findings)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_kind = |word: &str| named_kind(word).is_some() || word == "graphql" || word == "grpc";
    let (service, first, rest) = match words.as_slice() {
        [first, rest @ ..] if is_kind(first) && !rest.is_empty() => (None, *first, rest),
        [service, first, rest @ ..] if is_kind(first) => (Some((*service).to_owned()), *first, rest),
        [methods, rest @ ..] if rest.len() == 1 => (None, *methods, rest),
        [service, methods, rest @ ..] if rest.len() == 1 => (Some((*service).to_owned()), *methods, rest),
        _ => {
            findings
                .report(node.span, "`match` is `[SERVICE] METHODS PATH` or `[SERVICE] tool NAME`")
                .hint("for example `DELETE **`, `github POST|PUT /repos/**` or `linear tool delete_*`");
            return None;
        }
    };
    let wrong = |(message, hint): (String, Option<String>), findings: &mut Findings| {
        findings.report(node.span, message);
        if let Some(hint) = hint {
            findings.hint(hint);
        }
    };
    let rest = rest.join(" ");
    let matched = if let Some(kind) = named_kind(first) {
        Glob::parse(&rest).map(|glob| Matched::Named(kind, glob)).map_err(|message| (message, None))
    } else if first == "graphql" {
        parse_graphql(&rest).map(|(kind, glob)| Matched::GraphQl(kind, glob))
    } else if first == "grpc" {
        parse_grpc(&rest).map(|pattern| Matched::Http(Methods::POST, pattern))
    } else {
        let methods = Methods::parse(first).map_err(|message| {
            // A word that is no method may be a slip for `tool`.
            let kinds = ["tool", "resource", "prompt", "method", "graphql", "grpc"];
            let hint = closest(first, kinds.into_iter()).map(|meant| format!("did you mean `{meant}`?"));
            wrong((message, hint.or_else(|| method_hint(first))), findings);
        });
        let pattern = Pattern::parse(&rest).map_err(|message| wrong((message, None), findings));
        return Some((service, Matched::Http(methods.ok()?, pattern.ok()?)));
    };
    match matched {
        Ok(matched) => Some((service, matched)),
        Err(reason) => {
            wrong(reason, findings);
            None
        }
    }
}

/// Reports a guard whose service does not exist.
pub(in crate::decide) fn unknown_service<'s>(
    guard: &Guard,
    name: &str,
    known: impl Iterator<Item = &'s str>,
    findings: &mut Findings,
) {
    findings.report(guard.span, format!("there is no service `{}`", short(name)));
    if let Some(meant) = findings.closest(name, known) {
        findings.hint(format!("did you mean `{meant}`?"));
    }
}
