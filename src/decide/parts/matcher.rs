//! A role's lines as a trie over path segments: what a request costs does not grow with the role's length.

use super::pattern::{Case, Methods, Pattern, Segment};
use crate::target::{Method, Path};

/// Finds the most specific line for a method and a path.
///
/// A literal segment is more specific than one with `*` in it, that than `*`, and all of them than `**`. Every
/// node of the tree stands for one beginning of a path, so a look-up visits each at most once.
#[derive(Debug)]
pub(in crate::decide) struct Matcher {
    nodes: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    literals: Vec<(Box<str>, usize)>,
    globs: Vec<(Segment, usize)>,
    any: Option<usize>,
    /// Lines that end here.
    ends: Vec<(Methods, usize)>,
    /// Lines that go on with `**` from here.
    rest: Vec<(Methods, usize)>,
}

impl Matcher {
    /// Builds the trie over numbered lines.
    pub(in crate::decide) fn new<'p>(lines: impl Iterator<Item = (usize, Methods, &'p Pattern)>) -> Self {
        let mut this = Self { nodes: vec![Place::default()] };
        for (number, methods, pattern) in lines {
            let mut at = 0;
            for segment in &pattern.segments {
                at = this.child(at, segment);
            }
            if let Some(place) = this.nodes.get_mut(at) {
                let lines = if pattern.rest { &mut place.rest } else { &mut place.ends };
                lines.push((methods, number));
            }
        }
        this
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let Some(place) = self.nodes.get_mut(at) else { return at };
        let known = match segment {
            Segment::Literal(text) => match place.literals.binary_search_by(|(l, _)| l.cmp(text)) {
                Ok(index) => place.literals.get(index).map(|(_, node)| *node),
                Err(index) => {
                    place.literals.insert(index, (text.clone(), new));
                    None
                }
            },
            Segment::Glob(_) => {
                let known = place.globs.iter().find(|(glob, _)| glob == segment).map(|(_, node)| *node);
                if known.is_none() {
                    place.globs.push((segment.clone(), new));
                }
                known
            }
            Segment::Any => {
                let known = place.any;
                place.any = known.or(Some(new));
                known
            }
        };
        known.unwrap_or_else(|| {
            self.nodes.push(Place::default());
            new
        })
    }

    /// The number of the most specific line that covers the request.
    pub(in crate::decide) fn find(&self, method: Method, path: &Path) -> Option<usize> {
        self.walk(0, method, path.segments())
    }

    fn walk<'p>(
        &self,
        at: usize,
        method: Method,
        mut segments: impl Iterator<Item = &'p str> + Clone,
    ) -> Option<usize> {
        let place = self.nodes.get(at)?;
        let line = |lines: &[(Methods, usize)]| {
            lines.iter().find(|(methods, _)| methods.contains(method)).map(|(_, number)| *number)
        };
        let Some(segment) = segments.next() else { return line(&place.ends).or_else(|| line(&place.rest)) };
        let literal = place.literals.binary_search_by(|(l, _)| (**l).cmp(segment)).ok();
        let literal = literal.and_then(|index| place.literals.get(index)).map(|(_, node)| *node);
        let globs =
            place.globs.iter().filter(|(g, _)| g.matches(segment, Case::Sensitive)).map(|(_, node)| *node);
        let any = place.any.filter(|_| !segment.is_empty());
        literal
            .into_iter()
            .chain(globs)
            .chain(any)
            .find_map(|node| self.walk(node, method, segments.clone()))
            .or_else(|| line(&place.rest))
    }

    /// The numbers of the lines whose pattern covers every path of `inner`, whatever their methods.
    pub(in crate::decide) fn covering(&self, inner: &Pattern) -> Vec<usize> {
        let mut found = Vec::new();
        self.gather(0, &inner.segments, inner.rest, &mut found);
        found
    }

    fn gather(&self, at: usize, segments: &[Segment], open: bool, found: &mut Vec<usize>) {
        let Some(place) = self.nodes.get(at) else { return };
        found.extend(place.rest.iter().map(|(_, number)| number));
        let Some((segment, others)) = segments.split_first() else {
            if !open {
                found.extend(place.ends.iter().map(|(_, number)| number));
            }
            return;
        };
        let literal = match segment {
            Segment::Literal(text) => place.literals.binary_search_by(|(own, _)| own.cmp(text)).ok(),
            Segment::Glob(_) | Segment::Any => None,
        };
        let literal = literal.and_then(|index| place.literals.get(index)).map(|(_, node)| *node);
        let covers = |own: &Segment| own.includes(segment, Case::Sensitive);
        let globs = place.globs.iter().filter(|(glob, _)| covers(glob)).map(|(_, node)| *node);
        let any = place.any.filter(|_| covers(&Segment::Any));
        for node in literal.into_iter().chain(globs).chain(any) {
            self.gather(node, others, open, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(lines: &[(&str, &str)]) -> Matcher {
        let parsed: Vec<_> =
            lines.iter().map(|(m, p)| (Methods::parse(m).unwrap(), Pattern::parse(p).unwrap())).collect();
        Matcher::new(parsed.iter().enumerate().map(|(n, (m, p))| (n, *m, p)))
    }

    #[test]
    fn the_most_specific_line_is_named() {
        let lines = matcher(&[
            ("GET", "/repos/**"),
            ("GET", "/repos/*/*"),
            ("GET", "/repos/acme/*"),
            ("GET", "/repos/acme/app"),
            ("POST", "/repos/acme/ap*"),
        ]);
        for (method, path, line) in [
            (Method::Get, "/repos/acme/app", Some(3)),
            (Method::Get, "/repos/acme/web", Some(2)),
            (Method::Get, "/repos/x/web", Some(1)),
            (Method::Get, "/repos", Some(0)),
            (Method::Post, "/repos/acme/app", Some(4)),
            (Method::Post, "/repos/acme/web", None),
            (Method::Other, "/repos/acme/app", None),
        ] {
            assert_eq!(lines.find(method, &Path::parse(path).unwrap()), line, "{path}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just("ab"), Just("*"), Just("a*"), Just("*b"), Just("a*b")]
            .prop_map(ToOwned::to_owned)
    }

    fn pattern() -> impl Strategy<Value = String> {
        let end = prop_oneof![Just(""), Just("/**"), Just("/")];
        (prop::collection::vec(segment(), 1..5), end).prop_map(|(s, end)| format!("/{}{end}", s.join("/")))
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("aab"), Just("c")];
        (prop::collection::vec(segment, 0..6), prop_oneof![Just(""), Just("/")])
            .prop_map(|(s, end)| if s.is_empty() { "/".into() } else { format!("/{}{end}", s.join("/")) })
    }

    fn method() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("GET"), Just("POST"), Just("POST|DELETE"), Just("ANY")]
    }

    proptest! {
        #[test]
        fn what_covers_a_pattern_is_what_includes_it(
            lines in prop::collection::vec(pattern(), 0..12),
            inner in pattern(),
        ) {
            let lines: Vec<_> = lines.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let inner = Pattern::parse(&inner).unwrap();
            let matcher = Matcher::new(lines.iter().enumerate().map(|(n, p)| (n, Methods::ANY, p)));
            let mut found = matcher.covering(&inner);
            found.sort_unstable();
            let including: Vec<_> = (0..lines.len()).filter(|n| lines[*n].includes(&inner)).collect();
            prop_assert_eq!(found, including);
        }

        #[test]
        fn the_trie_agrees_with_reading_line_by_line(
            lines in prop::collection::vec((method(), pattern()), 0..12),
            asked in (0..8usize, path()),
        ) {
            let lines: Vec<_> = lines
                .iter()
                .map(|(m, p)| (Methods::parse(m).unwrap(), Pattern::parse(p).unwrap()))
                .collect();
            let method = *[&Method::NAMED[..], &[Method::Other]].concat().get(asked.0).unwrap();
            let path = Path::parse(&asked.1).unwrap();
            let found = Matcher::new(lines.iter().enumerate().map(|(n, (m, p))| (n, *m, p)));
            let found = found.find(method, &path);
            let fits = |(m, p): &(Methods, Pattern)| m.contains(method) && p.matches(&path);
            prop_assert_eq!(found.is_some(), lines.iter().any(fits));
            if let Some(number) = found {
                prop_assert!(fits(&lines[number]));
            }
        }
    }
}
