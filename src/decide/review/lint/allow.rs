//! `# egret: allow CODE`: what stands here is meant.

use super::Code;
use crate::decide::files::{
    allow,
    source::{Sources, Span},
};

/// Whether a comment at the end of the line, or in the comment above it, allows a lint.
pub(super) fn is_allowed(sources: &Sources, at: Span, code: Code) -> bool {
    let Some(source) = sources.files.get(at.file as usize) else { return false };
    // Files are large: lines are not counted.
    let start = (at.start as usize).min(source.text.len());
    let (Some(before), Some(from)) = (source.text.get(..start), source.text.get(start..)) else {
        return false;
    };
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line_end = from.find('\n').map_or(source.text.len(), |at| start + at);
    let own = source.text.get(line_start..line_end).unwrap_or_default();
    let above = source.text.get(..line_start).unwrap_or_default().lines().rev();
    let above = above.take_while(|line| allow::is_above(line));
    std::iter::once(own).chain(above).any(|line| allows(line, code))
}

fn allows(line: &str, code: Code) -> bool {
    allow::codes(line).is_some_and(|codes| {
        codes.split(|c: char| c == ',' || c.is_whitespace()).any(|word| word == code.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_allows_the_codes_that_it_names() {
        for (line, allowed) in [
            ("- DELETE /x # egret: allow unguarded-delete", true),
            ("# egret: allow unused-role, unguarded-delete", true),
            ("# egret: allow unguarded-delete because people asked for it", true),
            ("- DELETE /x # egret: allow unused-role", false),
            ("- DELETE /x # unguarded-delete", false),
            ("- DELETE /x egret: allow unguarded-delete", false),
        ] {
            assert_eq!(allows(line, Code::UnguardedDelete), allowed, "{line}");
        }
    }
}
