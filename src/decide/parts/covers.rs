//! Whether what one line covers lies in what another one covers, told from the patterns alone.
//!
//! The question comes down to matching: the alphabet of paths is larger than any pattern, so a `*` of the inner
//! pattern can stand for a text that no other pattern spells out, and only a `*` of the outer one matches it.

use std::fmt;

use super::{
    guard::{Guard, Matched},
    pattern::{Case, Glob, Methods, Pattern, Segment, bit, without_tail},
    protocol::Protocol,
    role::Grants,
    service::Service,
};
use crate::{graphql, mcp, target::Method};

/// What stands for any text: no pattern can hold it.
const ANYTHING: &str = "\u{1}";

impl Methods {
    /// The methods, in the order of `ANY`.
    pub(in crate::decide) fn each(self) -> impl Iterator<Item = Method> {
        Method::NAMED.into_iter().filter(move |method| self.contains(*method))
    }

    /// This method alone.
    pub(in crate::decide) fn only(method: Method) -> Self {
        Self(bit(method))
    }

    pub(in crate::decide) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// As a policy writes them: `HEAD` goes without saying beside `GET`.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("ANY");
        }
        let said = self.each().filter(|method| *method != Method::Head || !self.contains(Method::Get));
        f.write_str(&said.map(Method::as_str).collect::<Vec<_>>().join("|"))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Glob(parts) => f.write_str(&parts.join("*")),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        f.write_str(if self.rest { "/**" } else { "" })
    }
}

impl Segment {
    /// A text of this segment that is in another one exactly if all of its texts are.
    fn hardest(&self) -> String {
        match self {
            Self::Literal(text) => text.to_string(),
            Self::Glob(parts) => parts.join(ANYTHING),
            Self::Any => ANYTHING.to_owned(),
        }
    }

    /// Whether every text of `other` is one of this segment's.
    pub(in crate::decide) fn includes(&self, other: &Self, case: Case) -> bool {
        match (self, other) {
            (Self::Literal(_), Self::Glob(_) | Self::Any) => false,
            (own, Self::Literal(text)) => own.matches(text, case),
            (own, _) => own.matches(&other.hardest(), case),
        }
    }

    /// Whether some text may be in both, without case. Two globs are compared at their ends only.
    fn overlaps(&self, other: &Self) -> bool {
        let tail = |text: &str, glob: &Self| {
            glob.matches(text, Case::Insensitive) || glob.matches(without_tail(text), Case::Insensitive)
        };
        match (self, other) {
            (Self::Literal(text), glob) | (glob, Self::Literal(text)) => {
                tail(text, glob)
                    || matches!(glob, Self::Literal(own) if tail(own, &Self::Literal(text.clone())))
            }
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Glob(one), Self::Glob(other)) => {
                let ends = |one: Option<&Box<str>>, other: Option<&Box<str>>, back: bool| {
                    let (one, other) = (one.map_or("", |part| part), other.map_or("", |part| part));
                    let length = one.len().min(other.len());
                    let cut = |text: &str| {
                        let range = if back { text.len() - length..text.len() } else { 0..length };
                        text.as_bytes().get(range).map(<[u8]>::to_ascii_lowercase)
                    };
                    cut(one) == cut(other)
                };
                ends(one.first(), other.first(), false) && ends(one.last(), other.last(), true)
            }
        }
    }
}

impl Glob {
    /// Whether every name of `other` is one of this glob's.
    pub(in crate::decide) fn includes(&self, other: &Self, case: Case) -> bool {
        self.0.includes(&other.0, case)
    }

    /// Whether some name may be in both, without case.
    pub(in crate::decide) fn overlaps(&self, other: &Self) -> bool {
        self.0.overlaps(&other.0)
    }
}

impl Pattern {
    /// Whether every path of `other` is one of this pattern's, as roles read them.
    pub(in crate::decide) fn includes(&self, other: &Self) -> bool {
        let fits = if self.rest {
            other.segments.len() >= self.segments.len()
        } else {
            !other.rest && other.segments.len() == self.segments.len()
        };
        let mut pairs = self.segments.iter().zip(&other.segments);
        fits && pairs.all(|(own, theirs)| own.includes(theirs, Case::Sensitive))
    }

    /// Whether a guard with this pattern covers every path of a line.
    pub(in crate::decide) fn guards_all(&self, line: &Self) -> bool {
        let (own, theirs) = (self.without_end(), line.without_end());
        let fits =
            if self.rest { theirs.len() >= own.len() } else { !line.rest && theirs.len() == own.len() };
        fits && own.iter().zip(theirs).all(|(own, theirs)| own.includes(theirs, Case::Insensitive))
    }

    /// Whether a guard with this pattern may cover some path of a line.
    pub(in crate::decide) fn guards_some(&self, line: &Self) -> bool {
        let (own, theirs) = (self.without_end(), line.without_end());
        let fits = (self.rest || own.len() >= theirs.len()) && (line.rest || theirs.len() >= own.len());
        fits && own.iter().zip(theirs).all(|(own, theirs)| own.overlaps(theirs))
    }

    /// The segments without the empty one that a final `/` leaves: guards do not see it.
    fn without_end(&self) -> &[Segment] {
        match self.segments.as_slice() {
            [segments @ .., Segment::Literal(text)] if text.is_empty() => segments,
            segments => segments,
        }
    }
}

/// The smallest part of a line that is compared: one method with its paths, or one kind of name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum Unit {
    Http(Method, Pattern),
    Named(mcp::Named, Glob),
    GraphQl(graphql::Kind, Glob),
    Connect,
}

impl Unit {
    /// The parts of a line.
    pub(in crate::decide) fn of(grants: &Grants) -> Vec<Self> {
        match grants {
            Grants::Http(methods, pattern) => {
                methods.each().map(|method| Self::Http(method, pattern.clone())).collect()
            }
            Grants::Named(kind, glob) => vec![Self::Named(*kind, glob.clone())],
            Grants::GraphQl(kind, glob) => vec![Self::GraphQl(*kind, glob.clone())],
            Grants::Connect => vec![Self::Connect],
        }
    }

    /// Whether everything in `other` is in here.
    pub(in crate::decide) fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(own, pattern), Self::Http(theirs, inner)) => own == theirs && pattern.includes(inner),
            (Self::Named(own, glob), Self::Named(theirs, inner)) => {
                own == theirs && glob.includes(inner, Case::Sensitive)
            }
            (Self::GraphQl(own, glob), Self::GraphQl(theirs, inner)) => {
                own == theirs && glob.includes(inner, Case::Sensitive)
            }
            (Self::Connect, Self::Connect) => true,
            _ => false,
        }
    }
}

/// How much of a unit a guard looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) enum Hold {
    /// Nothing.
    None,
    /// Some of it, or all of it under a condition.
    Part,
    /// All of it.
    Whole,
}

impl Guard {
    /// How much of a unit of a service this guard looks at, whatever it does then.
    pub(in crate::decide) fn hold(&self, unit: &Unit, service: &Service) -> Hold {
        let hold = self.matched.hold(unit, service);
        if self.when.is_some() { hold.min(Hold::Part) } else { hold }
    }
}

impl Matched {
    fn hold(&self, unit: &Unit, service: &Service) -> Hold {
        let of = |all: bool, some: bool| match (all, some) {
            (true, _) => Hold::Whole,
            (false, true) => Hold::Part,
            (false, false) => Hold::None,
        };
        match (self, unit, &service.protocol) {
            (Self::Http(methods, pattern), Unit::Http(method, line), _) => {
                let looks = methods.contains(*method);
                of(looks && pattern.guards_all(line), looks && pattern.guards_some(line))
            }
            (Self::Named(kind, glob), Unit::Named(asked, line), _) => {
                let looks = kind == asked;
                of(looks && glob.includes(line, Case::Insensitive), looks && glob.overlaps(line))
            }
            (Self::GraphQl(kind, glob), Unit::GraphQl(asked, line), _) => {
                let looks = kind == asked;
                of(looks && glob.includes(line, Case::Insensitive), looks && glob.overlaps(line))
            }
            // Messages and operations are requests, too.
            (Self::Http(methods, pattern), Unit::Named(..), Protocol::Mcp(endpoint)) => {
                let looks = methods.contains(Method::Post) && pattern.guards(endpoint.posts_to());
                of(looks, looks)
            }
            (Self::Http(methods, pattern), Unit::GraphQl(..), Protocol::Http(Some(place))) => {
                let (post, get) = (methods.contains(Method::Post), methods.contains(Method::Get));
                let all = post && get && pattern.guards_all(place);
                of(all, (post || get) && pattern.guards_some(place))
            }
            // Some of what is sent there may be what the guard means.
            (Self::GraphQl(..), Unit::Http(method, line), Protocol::Http(Some(place))) => {
                let asks = matches!(method, Method::Post | Method::Get);
                of(false, asks && place.guards_some(line))
            }
            _ => Hold::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::Path;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn one_pattern_lies_in_another_or_not() {
        for (outer, inner, lies) in [
            ("/**", "/", true),
            ("/repos/**", "/repos", true),
            ("/repos/**", "/repos/*/*/issues/**", true),
            ("/repos/*", "/repos/**", false),
            ("/repos/*", "/repos/a*", true),
            ("/repos/a*", "/repos/*", false),
            ("/repos/a*c", "/repos/ab*bc", true),
            ("/repos/ab*bc", "/repos/a*c", false),
            ("/repos/*", "/repos/", false),
            ("/repos/**", "/repos/", true),
            ("/repos", "/Repos", false),
            ("/a*b*c", "/axbxc", true),
            ("/x/**", "/x/*/**", true),
            ("/x/*/**", "/x/**", false),
        ] {
            assert_eq!(pattern(outer).includes(&pattern(inner)), lies, "{inner} in {outer}");
        }
    }

    #[test]
    fn a_guard_covers_a_line_wholly_in_part_or_not() {
        for (guard, line, whole, some) in [
            ("**", "/repos/**", true, true),
            ("/repos/**", "/repos/*/*", true, true),
            ("/Repos/**", "/repos/x", true, true),
            ("/repos/*/secrets/**", "/repos/**", false, true),
            ("/orgs/**", "/repos/**", false, false),
            ("/repos/", "/repos", true, true),
            ("/repos/a*", "/repos/*b", false, true),
            ("/repos/a*", "/repos/b*", false, false),
            ("/repos/*", "/repos/*/*", false, false),
            ("/repos/*", "/repos/**", false, true),
            ("/admin", "/admin.", false, true),
        ] {
            let (guard_, line_) = (pattern(guard), pattern(line));
            assert_eq!(
                (guard_.guards_all(&line_), guard_.guards_some(&line_)),
                (whole, some),
                "{guard} {line}"
            );
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        let words = ["a", "b", "ab", "A", "*", "a*", "*b", "a*b", "*a*", "ab*b"];
        prop::sample::select(words.to_vec()).prop_map(ToOwned::to_owned)
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let end = prop_oneof![Just(""), Just("/**"), Just("/")];
        (prop::collection::vec(segment(), 1..4), end)
            .prop_map(|(segments, end)| pattern(&format!("/{}{end}", segments.join("/"))))
    }

    /// Paths that stand for all paths of a pattern: each `*` is a text that no other pattern spells out.
    fn witnesses(pattern: &Pattern) -> Vec<Path> {
        let segments: Vec<String> = pattern
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.to_string(),
                Segment::Glob(parts) => parts.join("zq"),
                Segment::Any => "zq".to_owned(),
            })
            .collect();
        let tails: &[&str] = if pattern.rest { &["", "/zq", "/zq/zq/zq/zq/zq"] } else { &[""] };
        let whole = format!("/{}", segments.join("/"));
        tails.iter().filter_map(|tail| Path::parse(&format!("{whole}{tail}")).ok()).collect()
    }

    fn path() -> impl Strategy<Value = Path> {
        let segment = prop::sample::select(vec!["a", "b", "ab", "aab", "AB", "c", "abb"]);
        (prop::collection::vec(segment, 1..6), prop_oneof![Just(""), Just("/")])
            .prop_map(|(segments, end)| Path::parse(&format!("/{}{end}", segments.join("/"))).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_included_matches_no_path_of_its_own(
            outer in any_pattern(), inner in any_pattern(), path in path(),
        ) {
            if outer.includes(&inner) {
                prop_assert!(!inner.matches(&path) || outer.matches(&path));
            } else {
                prop_assert!(witnesses(&inner).iter().any(|path| !outer.matches(path)));
            }
        }

        #[test]
        fn a_guard_that_covers_a_line_holds_for_each_of_its_paths(
            guard in any_pattern(), line in any_pattern(), path in path(),
        ) {
            if line.matches(&path) {
                prop_assert!(!guard.guards_all(&line) || guard.guards(&path));
                prop_assert!(!guard.guards(&path) || guard.guards_some(&line));
            }
        }
    }
}
