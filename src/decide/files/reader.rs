//! Reading the tree: keys that must be known, shapes that must fit, and every deviation reported.

use std::{collections::HashMap, time::Duration};

use super::{
    problem::Findings,
    source::Span,
    veil,
    yaml::{Key, Node, Value},
};
use crate::context::BadIdentifier;

/// The entries of a mapping, each key once.
pub(in crate::decide) type Entries<'n> = Vec<(&'n Key, &'n Node)>;

/// The entries of a mapping with fixed keys.
pub(in crate::decide) struct Fields<'n> {
    entries: Entries<'n>,
    span: Span,
}

impl<'n> Fields<'n> {
    /// Reads a mapping whose keys are `known`. Unknown and duplicate keys are reported; `what` names the mapping.
    pub(in crate::decide) fn read(
        node: &'n Node,
        what: &str,
        known: &[&str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let entries = mapping(node, what, findings)?;
        for (key, value) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            // A misspelt key may hide a credential.
            hide(value, findings);
            unknown_key(key, value, what, known, findings);
        }
        Some(Self { entries, span: node.span })
    }

    pub(in crate::decide) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node)
    }

    pub(in crate::decide) fn entry(&self, key: &str) -> Option<(&'n Key, &'n Node)> {
        self.entries.iter().find(|(k, _)| k.text == key).copied()
    }

    pub(in crate::decide) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the mapping stands.
    pub(in crate::decide) fn span(&self) -> Span {
        self.span
    }
}

/// Reports a key that a mapping does not have. In `{bearer:KEY}` and `{bearer KEY}` all of it is a key to YAML, and
/// none of it is shown.
fn unknown_key(key: &Key, value: &Node, what: &str, known: &[&str], findings: &mut Findings) {
    let meant = findings.closest(&key.text, known.iter().copied());
    if meant.is_none() && (matches!(value.value, Value::Null) || !veil::is_name(&key.text)) {
        findings.secret(key.span);
        findings.report(key.span, format!("{what} has no such key"));
        let first = key.text.split([':', ' ']).next().unwrap_or_default();
        if known.contains(&first) {
            findings.hint(format!("a colon and a space stand between a key and its value: `{first}: …`"));
            return;
        }
    } else {
        findings.report(key.span, format!("{what} has no key `{}`", short(&key.text)));
    }
    match meant {
        Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
        None => findings.hint(format!("its keys are {}", list(known.iter().copied()))),
    };
}

/// The entries of a mapping with free keys. Merge keys and repeated keys are reported, and left out.
pub(in crate::decide) fn mapping<'n>(
    node: &'n Node,
    what: &str,
    findings: &mut Findings,
) -> Option<Entries<'n>> {
    let Value::Map(all) = &node.value else {
        hide(node, findings);
        findings.report(node.span, format!("{what} is a mapping of `key: value`"));
        return None;
    };
    let mut seen = HashMap::with_capacity(all.len());
    let mut entries = Vec::with_capacity(all.len());
    for (key, value) in all {
        if key.text == "<<" {
            hide(value, findings);
            findings
                .report(key.span, "merge keys are not allowed in a policy")
                .hint("write the keys out; what is granted must be readable in its place");
        } else if let Some(first) = seen.insert(key.text.as_str(), key.span) {
            hide(value, findings);
            findings
                .report(key.span, format!("`{}` stands twice", short(&key.text)))
                .also(first, "first here");
        } else {
            entries.push((key, value));
        }
    }
    Some(entries)
}

/// The items of a list that must not be empty.
pub(in crate::decide) fn items<'n>(
    node: &'n Node,
    what: &str,
    findings: &mut Findings,
) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            findings.report(node.span, format!("{what} is an empty list")).hint(
                "leave the key out, or say what it holds: an empty list could mean everything or nothing",
            );
            None
        }
        Value::List(items) => Some(items),
        _ => {
            hide(node, findings);
            findings.report(node.span, format!("{what} is a list"));
            None
        }
    }
}

/// A key that is an identifier.
pub(in crate::decide) fn identifier<T>(
    key: &Key,
    parse: impl Fn(&str) -> Result<T, BadIdentifier>,
    findings: &mut Findings,
) -> Option<T> {
    match parse(&key.text) {
        Ok(identifier) => Some(identifier),
        Err(bad) => {
            findings.report(key.span, bad.to_string());
            None
        }
    }
}

/// A text.
pub(in crate::decide) fn text<'n>(node: &'n Node, what: &str, findings: &mut Findings) -> Option<&'n str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    findings.report(node.span, format!("{what} is a text"));
    None
}

/// `true` or `false`.
pub(in crate::decide) fn flag(node: &Node, what: &str, findings: &mut Findings) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    hide_long(node, findings);
    findings.report(node.span, format!("{what} is `true` or `false`"));
    None
}

/// A time such as `30s`.
pub(in crate::decide) fn duration(node: &Node, what: &str, findings: &mut Findings) -> Option<Duration> {
    let text = text(node, what, findings)?;
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let millis = units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*factor)
    });
    if millis.is_none_or(|millis| millis == 0) {
        findings.report(node.span, format!("{what} is a time such as `30s` or `10m`"));
        return None;
    }
    millis.map(Duration::from_millis)
}

/// One of a few words.
pub(in crate::decide) fn word<T: Clone>(
    node: &Node,
    what: &str,
    words: &[(&str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let all = || list(words.iter().map(|(word, _)| *word));
    let Value::Text(text) = &node.value else {
        findings.report(node.span, format!("{what} is one of {}", all()));
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(value.clone());
    }
    hide_long(node, findings);
    findings.report(node.span, format!("{what} is one of {}", all()));
    if let Some(meant) = findings.closest(text, words.iter().map(|(word, _)| *word)) {
        findings.hint(format!("did you mean `{meant}`?"));
    }
    None
}

/// A list of texts, or one text, each through `parse`; what does not parse is reported with `parse`'s message.
pub(in crate::decide) fn each<T>(
    node: &Node,
    what: &str,
    findings: &mut Findings,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let Some(items) = items(node, what, findings) else { return Vec::new() };
    let mut parsed = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = text(item, "an item of it", findings) else { continue };
        match parse(text) {
            Ok(value) => parsed.push(value),
            Err(message) => {
                // `X-Api-Key: KEY` where names of headers stand.
                if text.contains(": ") {
                    hide(item, findings);
                }
                findings.report(item.span, message);
            }
        }
    }
    parsed
}

/// Keeps every value below a node out of excerpts, and keys that are no names.
pub(in crate::decide) fn hide(node: &Node, findings: &mut Findings) {
    hide_but(node, &|_| false, findings);
}

/// As [`hide`], but texts that are `plain` stay readable.
pub(in crate::decide) fn hide_but(node: &Node, plain: &dyn Fn(&str) -> bool, findings: &mut Findings) {
    match &node.value {
        Value::Text(text) if plain(text) => {}
        // Also what a tag makes nothing of: `!!null KEY`.
        Value::Text(_) | Value::Null | Value::Bool(_) => findings.secret(node.span),
        Value::List(items) => items.iter().for_each(|item| hide_but(item, plain, findings)),
        Value::Map(entries) => {
            for (key, value) in entries {
                if !veil::is_name(&key.text) {
                    findings.secret(key.span);
                }
                hide_but(value, plain, findings);
            }
        }
    }
}

/// As [`hide`], but where a secret is unlikely and a slip is not: short texts stay readable.
pub(in crate::decide) fn hide_long(node: &Node, findings: &mut Findings) {
    match &node.value {
        Value::Text(text) if text.len() < 16 => {}
        _ => hide(node, findings),
    }
}

/// The nearest of some words, when it is near enough to be a slip.
pub(in crate::decide) fn closest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let allowed = (text.chars().count() / 3).clamp(1, 3);
    words
        .map(|word| (distance(text, word, allowed), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, word)| word)
}

/// The edit distance, where a swap of neighbours is one edit; `limit + 1` where it is over the limit.
fn distance(from: &str, to: &str, limit: usize) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().take(64).collect());
    if from.len().abs_diff(to.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (cell(&last, j) + usize::from(a != b)).min(cell(&last, j + 1) + 1).min(cell(&row, j) + 1);
            if i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a) {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(limit + 1)
}

/// Words in backticks, with commas.
pub(in crate::decide) fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A name that the author wrote, cut and cleaned for a message.
pub(in crate::decide) fn short(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let keys = ["match", "deny", "require", "shadow"];
        for (slip, meant) in [
            ("requires", Some("require")),
            ("mtach", Some("match")),
            ("dney", Some("deny")),
            ("reader", None),
            ("x", None),
        ] {
            assert_eq!(closest(slip, keys.into_iter()), meant, "{slip}");
        }
    }
}
