//! What the formatter must not touch is put aside while it works: a name stands in its place, and it comes back
//! afterwards, moved to where its line is then.

use std::ops::Range;

use yaml_parser::{SyntaxKind, SyntaxNode};

use super::allow;

/// Which flow mappings and lists stay as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    None,
    /// Those in whose lines something is allowed, also by the comment above: broken or joined, another line would be.
    Allowed,
}

/// A text with names in the place of what was put aside.
pub(super) struct Aside {
    pub(super) text: String,
    parts: Vec<(String, Part)>,
}

enum Part {
    /// A block scalar: what stands behind `|` or `>`, and its lines without their indentation.
    Block { header: String, lines: Vec<String> },
    /// A flow mapping or list, and the indentation of its first line.
    Flow { text: String, indent: usize },
}

impl Aside {
    /// Puts aside all block scalars, and the flow collections that are to be kept. The line ends are `\n`.
    pub(super) fn of(text: &str, keep: Keep) -> Option<Self> {
        let tree = yaml_parser::parse(text).ok()?;
        let mut found: Vec<(Range<usize>, Part)> = Vec::new();
        for node in tree.descendants() {
            let range = range(&node);
            if found.last().is_some_and(|(last, _)| range.start < last.end) {
                continue;
            }
            match node.kind() {
                SyntaxKind::BLOCK_SCALAR => found.extend(block(&node, text)),
                SyntaxKind::FLOW_MAP | SyntaxKind::FLOW_SEQ if keep == Keep::Allowed => {
                    found.extend(flow(text, range));
                }
                _ => {}
            }
        }
        let mut name = "aside".to_owned();
        while text.contains(&name) {
            name.push('x');
        }
        let mut this =
            Self { text: String::with_capacity(text.len()), parts: Vec::with_capacity(found.len()) };
        let mut done = 0;
        for (number, (range, part)) in found.into_iter().enumerate() {
            let name = format!("{name}{number}y");
            this.text.push_str(text.get(done..range.start)?);
            this.text.push_str(&name);
            if let Part::Block { .. } = part {
                // A comment behind the header stays in its line.
                let first = text.get(range.clone())?.split('\n').next()?;
                this.text.push_str(first.find(" #").and_then(|at| first.get(at..)).unwrap_or_default());
            }
            this.parts.push((name, part));
            done = range.end;
        }
        this.text.push_str(text.get(done..)?);
        Some(this)
    }

    /// Puts everything back into the formatted text.
    pub(super) fn back(self, formatted: &str) -> Option<String> {
        let mut text = String::with_capacity(formatted.len());
        let mut rest = formatted;
        for (name, part) in &self.parts {
            let (before, after) = rest.split_once(name.as_str())?;
            text.push_str(before);
            let line = text.get(text.rfind('\n').map_or(0, |at| at + 1)..)?.to_owned();
            rest = match part {
                Part::Flow { text: own, indent } => {
                    text.push_str(&moved(own, *indent, indentation(&line)));
                    after
                }
                Part::Block { header, lines } => {
                    let (comment, after) = after.split_at(after.find('\n')?);
                    let column = content_column(&line);
                    let indicated = lines.iter().find(|l| !l.is_empty()).is_some_and(|l| l.starts_with(' '));
                    let (style, chomping) = header.split_at_checked(1)?;
                    text.push_str(style);
                    text.push_str(if indicated { "2" } else { "" });
                    text.push_str(chomping);
                    text.push_str(comment);
                    for line in lines {
                        text.push('\n');
                        if !line.is_empty() {
                            text.extend(std::iter::repeat_n(' ', column));
                            text.push_str(line);
                        }
                    }
                    after
                }
            };
        }
        text.push_str(rest);
        Some(text)
    }
}

fn range(node: &SyntaxNode) -> Range<usize> {
    let range = node.text_range();
    usize::from(range.start())..usize::from(range.end())
}

/// A block scalar, with the empty lines behind it that belong to it.
fn block(node: &SyntaxNode, text: &str) -> Option<(Range<usize>, Part)> {
    let Range { start, end } = range(node);
    let (header, body) = text.get(start..end)?.split_once('\n')?;
    let header = header.split([' ', '\t']).next()?;
    let digit = header.chars().find_map(|c| c.to_digit(10));
    let column = match digit {
        Some(digit) => parent_column(node, text)? + digit as usize,
        None => indentation(body.split('\n').find(|line| !line.trim().is_empty())?),
    };
    // The parser ends a scalar at its last line with text.
    let behind = text.get(end..)?.split('\n').skip(1).take_while(|line| line.trim_matches(' ').is_empty());
    let mut behind: Vec<&str> = behind.collect();
    // The text may end in the middle of the last line, which is then none.
    if text.get(end..)?.trim_matches([' ', '\n']).is_empty() && behind.last().is_some_and(|l| l.is_empty()) {
        behind.pop();
    }
    let kept = |line: &&str| header.contains('+') || line.len() > column;
    let own = behind.iter().rposition(kept).map_or(0, |at| at + 1);
    let length: usize = behind.iter().take(own).map(|line| line.len() + 1).sum();
    let until = if own == 0 { end } else { end + text.get(end..)?.find('\n')? + length };
    let inner = |line: &str| line.get(column..).unwrap_or_default().to_owned();
    let lines = body.split('\n').chain(behind.into_iter().take(own)).map(inner).collect();
    let header = header.chars().filter(|c| !c.is_ascii_digit()).collect();
    Some((start..until, Part::Block { header, lines }))
}

/// The column of the entry that a block scalar is the value of.
fn parent_column(node: &SyntaxNode, text: &str) -> Option<usize> {
    let entries = [SyntaxKind::BLOCK_MAP_ENTRY, SyntaxKind::BLOCK_SEQ_ENTRY];
    let entry = node.ancestors().find(|node| entries.contains(&node.kind()))?;
    let before = text.get(..range(&entry).start)?;
    Some(before.len() - before.rfind('\n').map_or(0, |at| at + 1))
}

/// A flow mapping or list, where something is allowed in one of its lines.
fn flow(text: &str, range: Range<usize>) -> Option<(Range<usize>, Part)> {
    let start = text.get(..range.start)?.rfind('\n').map_or(0, |at| at + 1);
    let end = text.get(range.end..)?.find('\n').map_or(text.len(), |at| range.end + at);
    let above = text.get(..start)?.lines().rev().take_while(|line| allow::is_above(line));
    if !text.get(start..end)?.lines().chain(above).any(|line| allow::codes(line).is_some()) {
        return None;
    }
    let indent = indentation(text.get(start..)?);
    let text = text.get(range.clone())?.to_owned();
    Some((range, Part::Flow { text, indent }))
}

/// The lines of a flow collection after its first, as far to the right as the first has come.
fn moved(text: &str, from: usize, to: usize) -> String {
    let mut lines = text.split('\n').map(|line| line.trim_end_matches(' '));
    let mut moved = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        moved.push('\n');
        let inner = line.trim_start_matches(' ');
        if !inner.is_empty() {
            let column = (line.len() - inner.len() + to).saturating_sub(from);
            moved.extend(std::iter::repeat_n(' ', column));
            moved.push_str(inner);
        }
    }
    moved
}

/// Where the lines of a block scalar begin whose header stands behind `line`: two columns into its entry.
fn content_column(line: &str) -> usize {
    let mut column = indentation(line);
    while let Some(rest) = line.get(column..).and_then(|rest| rest.strip_prefix('-')) {
        let next = column + 1 + indentation(rest);
        if next == line.len() {
            break;
        }
        column = next;
    }
    // A header in a line of its own stands two columns into its entry already.
    if column == line.len() { column } else { column + 2 }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}
