//! YAML as a tree in which every key and value knows its place.
//!
//! The policy is read from this tree instead of by derived `Deserialize`s for one reason: a derived one stops
//! at its first complaint, and a policy author should see all mistakes at once. What YAML itself allows but a
//! policy should not (duplicate keys, anchors, merge keys) is refused here or by the reader.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Spanned};

use super::source::Span;

/// A value and its place.
#[derive(Debug, Clone)]
pub(in crate::decide) struct Node {
    pub(in crate::decide) value: Value,
    pub(in crate::decide) span: Span,
}

/// A key and its place.
#[derive(Debug, Clone)]
pub(in crate::decide) struct Key {
    pub(in crate::decide) text: String,
    pub(in crate::decide) span: Span,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(in crate::decide) enum Value {
    /// Nothing: `key:`.
    Null,
    /// `true` or `false`, not quoted.
    Bool(bool),
    /// Text or a number, as it is written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; a key may stand twice.
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The value of a key, where this is a mapping that has it. For a look ahead: what is wrong is not reported.
    pub(in crate::decide) fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    /// The entries, where this is a mapping.
    pub(in crate::decide) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text, where it is one.
    pub(in crate::decide) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Why a file is no YAML.
#[derive(Debug)]
pub(in crate::decide) struct Malformed {
    pub(in crate::decide) message: String,
    pub(in crate::decide) hint: Option<&'static str>,
    pub(in crate::decide) span: Span,
}

/// Parses the text of file number `file`.
pub(in crate::decide) fn parse(text: &str, file: u32) -> Result<Node, Malformed> {
    if text.starts_with('\u{feff}') {
        return Err(Malformed {
            message: "the file begins with a byte-order mark".to_owned(),
            hint: Some("save it as UTF-8 without one"),
            span: Span::start_of(file),
        });
    }
    let options = serde_yaml::options! {
        strict_booleans: true,
        with_snippet: false,
        // Passed through so that the reader reports all of them, each with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        // Enough for 10,000 tenants; the size of the text is bounded before.
        budget: serde_yaml::budget! {
            max_nodes: 5_000_000,
            max_events: 10_000_000,
            // The grammar is ten levels deep, and each level costs stack.
            max_depth: 24,
            max_aliases: 0,
            max_anchors: 0,
        },
    };
    let tree = serde_yaml::from_str_with_options(text, options)
        .map_err(|error| malformed(error.without_snippet(), text, file))?;
    let mut tree = node(tree);
    place(&mut tree, text, file);
    match tab(&tree, text) {
        Some(at) => Err(tabbed(text, at, file)),
        None => Ok(tree),
    }
}

/// Where a tab stands outside of quoted texts, block scalars and comments. YAML takes some of those for spaces;
/// a reader sees something else than what is there.
fn tab(tree: &Node, text: &str) -> Option<usize> {
    if !text.contains('\t') {
        return None;
    }
    let mut set_off = Vec::new();
    quoted(tree, text, &mut set_off);
    let mut from = 0;
    set_off.push((text.len(), text.len()));
    for (start, end) in set_off {
        let mut last = '\n';
        let mut comment = false;
        for (at, c) in text.get(from..start).unwrap_or_default().char_indices() {
            match c {
                '\n' | '\r' => comment = false,
                '#' if last.is_whitespace() => comment = true,
                '\t' if !comment => return Some(from + at),
                _ => {}
            }
            last = c;
        }
        from = end.max(from);
    }
    None
}

/// Where quoted texts and block scalars stand, in order.
fn quoted(node: &Node, text: &str, found: &mut Vec<(usize, usize)>) {
    let is_quoted = |span: Span| {
        span.text(text).is_some_and(|text| text.starts_with(['"', '\''])) || is_block_scalar(span, text)
    };
    match &node.value {
        Value::Text(_) | Value::Bool(_) | Value::Null if is_quoted(node.span) => {
            found.push((node.span.start as usize, node.span.end()));
        }
        Value::Text(_) | Value::Bool(_) | Value::Null => {}
        Value::List(items) => items.iter().for_each(|item| quoted(item, text, found)),
        Value::Map(entries) => {
            for (key, value) in entries {
                if is_quoted(key.span) {
                    found.push((key.span.start as usize, key.span.end()));
                }
                quoted(value, text, found);
            }
        }
    }
}

/// Whether a value is the text of a block scalar: it begins a line, and the line with text before it ends with `|` or
/// `>` and what may follow those.
fn is_block_scalar(span: Span, text: &str) -> bool {
    let before = text.get(..span.start as usize).unwrap_or_default().trim_end_matches([' ', '\t']);
    if !before.ends_with(['\n', '\r']) {
        return false;
    }
    let header = before.split(['\n', '\r']).rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut comments = header.match_indices('#').map(|(at, _)| header.split_at(at).0);
    let header = comments.find(|before| before.ends_with([' ', '\t'])).unwrap_or(header);
    let style = header.trim_end().trim_end_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
    style.ends_with(['|', '>'])
}

fn tabbed(text: &str, at: usize, file: u32) -> Malformed {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Malformed {
        message: "a tab stands where YAML has spaces".to_owned(),
        hint: Some("write a space; within a text a tab stands in double quotes, as `\\t`"),
        span: Span { file, line: number(line), column: number(column), start: number(at), length: 1 },
    }
}

/// A value as the deserializer gives it, its children in their places already: two whole trees of a large policy
/// would not be held side by side.
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Self)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Raw::deserialize(deserializer).map(|raw| raw.0)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, mut value: String) -> Result<Value, E> {
        value.shrink_to_fit();
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(node(item));
        }
        list.shrink_to_fit();
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let (span, mut text) = (span_of(key.referenced, 0), key.value);
            text.shrink_to_fit();
            let key = Key { text, span };
            map.push((key, node(entries.next_value()?)));
        }
        map.shrink_to_fit();
        Ok(Value::Map(map))
    }
}

fn node(raw: Spanned<Raw>) -> Node {
    Node { span: span_of(raw.referenced, 0), value: raw.value.0 }
}

/// Says in which file everything stands, and takes numbers as they are written: a tenant `007` is not `7`.
fn place(node: &mut Node, text: &str, file: u32) {
    node.span.file = file;
    match &mut node.value {
        Value::Text(value) => {
            // Only of a number can the value differ from what stands there without quotes and as a number.
            let written = node.span.text(text).filter(|written| !written.starts_with(['"', '\'', '|', '>']));
            if let Some(written) = written.filter(|written| *written != value && is_number(value)) {
                written.clone_into(value);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| place(item, text, file)),
        Value::Map(entries) => {
            for (key, value) in entries {
                key.span.file = file;
                place(value, text, file);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

fn span_of(location: Location, file: u32) -> Span {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        file,
        line: number(location.line()).max(1),
        column: number(location.column()).max(1),
        start: number(location.span().byte_offset().unwrap_or(0)),
        length: number(location.span().byte_len().unwrap_or(0)),
    }
}

/// Says what is wrong without repeating any value: it may be a secret.
fn malformed(error: &serde_yaml::Error, text: &str, file: u32) -> Malformed {
    use serde_yaml::{Error, budget::BudgetBreach};
    let span = error.location().map_or_else(|| Span::start_of(file), |location| span_of(location, file));
    let at_star = span.rest_of_line(text).is_some_and(|rest| rest.starts_with('*'));
    let (message, hint) = match error {
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. }
            if at_star =>
        {
            ("`*` begins an alias in YAML".to_owned(), Some("quote it: \"*.example.com\""))
        }
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => (
            "anchors and aliases are not allowed in a policy".to_owned(),
            Some("write the value out; what is granted must be readable in its place"),
        ),
        Error::Budget { .. } => ("the file is nested too deeply or too large".to_owned(), None),
        Error::UnknownAnchor { .. } | Error::AliasError { .. } => {
            ("`*` begins an alias in YAML".to_owned(), Some("quote it: \"*.example.com\""))
        }
        Error::MultipleDocuments { .. } => {
            ("a policy file holds one YAML document".to_owned(), Some("use one file for each document"))
        }
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => {
            (first_line(msg), at_star.then_some("quote it: \"*.example.com\""))
        }
        Error::NullIntoString { .. } => ("a key is empty".to_owned(), None),
        Error::Eof { .. } => ("the file is empty".to_owned(), Some("a policy begins with `version: 1`")),
        _ => ("this is not a value that a policy can hold".to_owned(), None),
    };
    Malformed { message, hint, span }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "tenants:\n  t_acme: {limit: 007, on: yes, x: [a, \"b\"]}\n";
        let tree = parse(text, 3).unwrap();
        let Value::Map(top) = &tree.value else { panic!("{tree:?}") };
        let Value::Map(tenants) = &top[0].1.value else { panic!("{tree:?}") };
        assert_eq!(
            (tenants[0].0.text.as_str(), tenants[0].0.span.line, tenants[0].0.span.column),
            ("t_acme", 2, 3)
        );
        let Value::Map(acme) = &tenants[0].1.value else { panic!("{tree:?}") };
        assert_eq!(acme[0].0.span.text(text), Some("limit"));
        assert!(matches!(&acme[0].1.value, Value::Text(t) if t == "007"), "{acme:?}");
        assert!(matches!(&acme[1].1.value, Value::Text(t) if t == "yes"), "{acme:?}");
        let Value::List(items) = &acme[2].1.value else { panic!("{acme:?}") };
        assert_eq!(items[0].span.text(text), Some("a"));
        assert_eq!(items[1].span.text(text), Some("\"b\""), "{items:?}");
    }

    #[test]
    fn a_tab_stands_in_quotes_block_scalars_and_comments_alone() {
        for (text, at) in [
            ("a:\tb\n", (1, 3)),
            ("a: b\t# c\n", (1, 5)),
            ("a: !!str\tb\n", (1, 9)),
            ("a: [b,\tc]\n", (1, 7)),
            ("a: {b:\tc}\n", (1, 7)),
            ("a: b\tc\n", (1, 5)),
            ("ä: b\n\t\nc: d\n", (2, 1)),
            ("ä: \"x\ty\"\t\n", (1, 9)),
            ("- a\n-\tb\n", (2, 2)),
            ("a: x#\ty\n", (1, 6)),
            ("a: |\n  x\ty\nb:\tc\n", (3, 3)),
        ] {
            let error = parse(text, 0).expect_err(text);
            assert!(error.message.contains("tab"), "{text:?}: {error:?}");
            assert_eq!((error.span.line, error.span.column), at, "{text:?}");
        }
        for text in [
            "a: \"ä\tb\" #\tc\n#\td\n",
            "a: 'b\tc'\n\"d\te\": f # g\n",
            "ä: |+\n  b\tc\n  \td\n\n# e\tf\ng: >-\n  h\t\n",
            "a: [\"b\tc\", 'd\te'] # f\n",
            "a: |2 #\tb\n   c\td\n",
        ] {
            assert!(parse(text, 0).is_ok(), "{text:?}: {:?}", parse(text, 0).err());
        }
    }

    #[test]
    fn what_yaml_allows_and_a_policy_does_not() {
        for (text, word) in [
            ("a: &x 1\nb: *x\n", "anchors"),
            ("hosts: *.example.com\n", "alias"),
            ("hosts: [*.example.com]\n", "alias"),
            ("a: 1\n---\nb: 2\n", "one YAML document"),
            ("a:\n\tb: 1\n", "tab"),
            ("a: {\n\tb: 1}\n", "tab"),
            ("\u{feff}a: 1\n", "byte-order mark"),
            ("a: [1\n", ""),
        ] {
            let error = parse(text, 0).expect_err(text);
            assert!(error.message.contains(word), "{text:?}: {error:?}");
        }
        let twice = parse("a: 1\na: 2\n<<: {b: 1}\n", 0).unwrap();
        assert!(matches!(twice.value, Value::Map(m) if m.len() == 3));
    }
}
