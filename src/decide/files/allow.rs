//! `# egret: allow CODE`: what stands here is meant.

use super::yaml::{Node, Value};

/// What the comment of a line allows: the text behind `# egret: allow`.
pub(in crate::decide) fn codes(line: &str) -> Option<&str> {
    line.split_once("# egret: allow ").map(|(_, codes)| codes)
}

/// Whether a comment allows something for the lines below it: it has its line for itself.
pub(in crate::decide) fn is_above(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// What is allowed for each key and value of a tree, in their order.
pub(super) fn of_all(tree: &Node, text: &str) -> Vec<Vec<String>> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut above: Vec<String> = Vec::new();
    for line in text.lines() {
        let own = codes(line).map(|codes| codes.trim_end().to_owned());
        let all = own.iter().chain(&above).cloned().collect();
        lines.push(all);
        match own {
            _ if !is_above(line) => above.clear(),
            Some(own) => above.insert(0, own),
            None => {}
        }
    }
    let mut found = Vec::new();
    gather(tree, &lines, &mut found);
    found
}

fn gather(node: &Node, lines: &[Vec<String>], found: &mut Vec<Vec<String>>) {
    let at = |line: u32| lines.get(line as usize - 1).cloned().unwrap_or_default();
    match &node.value {
        Value::Null => {}
        Value::Bool(_) | Value::Text(_) => found.push(at(node.span.line)),
        Value::List(items) => items.iter().for_each(|item| gather(item, lines, found)),
        Value::Map(entries) => {
            for (key, value) in entries {
                found.push(at(key.span.line));
                gather(value, lines, found);
            }
        }
    }
}
