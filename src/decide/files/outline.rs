//! A policy as it is written: where in its files something stands that no compiled part remembers.

use std::collections::HashMap;

use super::{
    source::Span,
    yaml::{Key, Node, Value},
};

/// The trees of a policy's own files.
pub(in crate::decide) struct Outline {
    trees: Vec<Node>,
    /// The entries of `services` and `tenants`: the tree, the number in it, the number below. There may be thousands.
    named: HashMap<(String, String), [usize; 3]>,
}

impl Outline {
    /// Takes the trees of the policy's own files.
    pub(in crate::decide) fn of(trees: Vec<Node>) -> Self {
        let mut named = HashMap::new();
        for (tree, node) in trees.iter().enumerate() {
            for (top, (key, inner)) in entries(node).enumerate() {
                for (number, (name, _)) in entries(inner).enumerate() {
                    named.insert((key.text.clone(), name.text.clone()), [tree, top, number]);
                }
            }
        }
        Self { trees, named }
    }

    /// An entry of `services` or `tenants`.
    fn entry(&self, top: &str, name: &str) -> Option<(&Key, &Node)> {
        let [tree, outer, inner] = *self.named.get(&(top.to_owned(), name.to_owned()))?;
        let (_, node) = entries(self.trees.get(tree)?).nth(outer)?;
        entries(node).nth(inner)
    }

    /// What stands below a path of keys that begins with `services` or `tenants` and a name.
    pub(in crate::decide) fn find(&self, keys: &[&str]) -> Option<&Node> {
        let [top, name, rest @ ..] = keys else { return None };
        below(self.entry(top, name)?.1, rest)
    }

    /// Where the last key of such a path stands.
    pub(in crate::decide) fn key(&self, keys: &[&str]) -> Option<Span> {
        let (last, before) = keys.split_last()?;
        entries(self.find(before)?).find(|(key, _)| key.text == *last).map(|(key, _)| key.span)
    }

    /// What stands below a key of the top level, in each file that has it.
    pub(in crate::decide) fn all<'o>(&'o self, key: &'o str) -> impl Iterator<Item = &'o Node> {
        self.trees.iter().filter_map(move |tree| below(tree, &[key]))
    }

    /// Where the policy begins.
    pub(in crate::decide) fn start(&self) -> Span {
        self.trees.first().map_or_else(|| Span::start_of(0), |tree| tree.span)
    }
}

fn below<'n>(node: &'n Node, keys: &[&str]) -> Option<&'n Node> {
    let mut node = node;
    for key in keys {
        node = entries(node).find(|(own, _)| own.text == *key).map(|(_, value)| value)?;
    }
    Some(node)
}

/// The entries of a mapping; none of anything else.
pub(in crate::decide) fn entries(node: &Node) -> impl Iterator<Item = (&Key, &Node)> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(key, value)| (key, value))
}

/// The items of a list; none of anything else.
pub(in crate::decide) fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// The text of a text.
pub(in crate::decide) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
