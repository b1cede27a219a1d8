//! What a line of a role or a guard says: some methods and a path pattern.

use crate::target::{Method, Path};

/// A set of methods, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) struct Methods(pub(in crate::decide) u8);

impl Methods {
    /// `ANY`: every method that a policy can name.
    pub(in crate::decide) const ANY: Self = Self(0b0111_1111);
    /// `POST`.
    pub(in crate::decide) const POST: Self = Self(1 << (Method::Post as u8));

    pub(in crate::decide) fn contains(self, method: Method) -> bool {
        method != Method::Other && self.0 & bit(method) != 0
    }

    pub(in crate::decide) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Parses `GET`, `POST|PATCH`, `ANY`. `GET` implies `HEAD`: it is the same question without the answer's body.
    pub(in crate::decide) fn parse(text: &str) -> Result<Self, String> {
        let mut bits = 0;
        for name in text.split('|') {
            bits |= match (name, Method::named(name)) {
                ("ANY", _) => Self::ANY.0,
                (_, Method::Other) => {
                    return Err(format!("`{}` is not a method", crate::decide::files::reader::short(name)));
                }
                (_, Method::Get) => bit(Method::Get) | bit(Method::Head),
                (_, method) => bit(method),
            };
        }
        Ok(Self(bits))
    }

    /// The names of methods that `parse` knows.
    pub(in crate::decide) fn names() -> impl Iterator<Item = &'static str> {
        Method::NAMED.into_iter().map(Method::as_str).chain(["ANY"])
    }
}

pub(in crate::decide) fn bit(method: Method) -> u8 {
    1 << (method as u8)
}

/// A path pattern: `/repos/*/*/issues/**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) struct Pattern {
    pub(in crate::decide) segments: Vec<Segment>,
    /// Whether it ends in `**`: that segment stands for zero or more segments.
    pub(in crate::decide) rest: bool,
}

/// A pattern for a name that is no path: `list_*`. `*` stands for any text, also for none beside other text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) struct Glob(pub(in crate::decide) Segment);

impl Glob {
    /// Parses a name with or without `*`.
    pub(in crate::decide) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("a name is one word; `*` in it stands for any text".to_owned());
        }
        Ok(Self(match text {
            _ if text.bytes().all(|byte| byte == b'*') => Segment::Any,
            _ if text.contains('*') => Segment::Glob(text.split('*').map(Into::into).collect()),
            _ => Segment::Literal(text.into()),
        }))
    }

    pub(in crate::decide) fn matches(&self, name: &str, case: Case) -> bool {
        self.0.matches(name, case)
    }
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) enum Segment {
    /// Exactly this.
    Literal(Box<str>),
    /// Some text with `*` in it: `messages.*`. Between the parts stands any text, also none.
    Glob(Box<[Box<str>]>),
    /// `*`: any one segment, but not an empty one.
    Any,
}

impl Segment {
    pub(in crate::decide) fn matches(&self, segment: &str, case: Case) -> bool {
        match self {
            Self::Literal(literal) => case.equal(literal, segment),
            Self::Any => !segment.is_empty(),
            Self::Glob(parts) => glob(parts, segment, case),
        }
    }
}

/// How letters are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Case {
    /// As they are: roles.
    Sensitive,
    /// Without case: guards, because some upstreams do not tell `/Admin` from `/admin`.
    Insensitive,
}

impl Case {
    fn equal(self, one: &str, other: &str) -> bool {
        match self {
            Self::Sensitive => one == other,
            Self::Insensitive => one.eq_ignore_ascii_case(other),
        }
    }

    fn find(self, text: &str, part: &str) -> Option<usize> {
        match self {
            Self::Sensitive => text.find(part),
            Self::Insensitive => {
                let (text, part) = (text.as_bytes(), part.as_bytes());
                text.windows(part.len().max(1)).position(|window| window.eq_ignore_ascii_case(part))
            }
        }
    }
}

/// The first part is a prefix, the last a suffix, the ones between are found from left to right: linear.
fn glob(parts: &[Box<str>], segment: &str, case: Case) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    if segment.is_empty() {
        return false;
    }
    let starts = segment.get(..first.len()).is_some_and(|start| case.equal(start, first));
    let Some(mut rest) = segment.get(first.len()..).filter(|_| starts) else { return false };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        let Some(after) = case.find(rest, part).and_then(|at| rest.get(at + part.len()..)) else {
            return false;
        };
        rest = after;
    }
    rest.len() >= last.len() && rest.get(rest.len() - last.len()..).is_some_and(|end| case.equal(end, last))
}

/// A segment without final dots and blanks, which some file systems do not see.
pub(in crate::decide) fn without_tail(mut segment: &str) -> &str {
    while let Some(rest) = segment.strip_suffix('.').or_else(|| segment.strip_suffix("%20")) {
        segment = rest;
    }
    segment
}

impl Pattern {
    /// Parses `/path` or `**`, by the rules that a request's path must follow, too: a pattern that no canonical
    /// path can match would be a line that grants nothing, or a guard that guards nothing.
    pub(in crate::decide) fn parse(text: &str) -> Result<Self, String> {
        if text == "**" {
            return Ok(Self { segments: Vec::new(), rest: true });
        }
        if text.contains('?') || text.contains('#') {
            return Err("a path pattern has no query: roles match method and path".to_owned());
        }
        let path = Path::parse(text).map_err(|bad| bad.to_string())?;
        let mut segments = Vec::new();
        let mut rest = false;
        for segment in path.segments() {
            if rest {
                return Err("`**` stands only at the end of a path".to_owned());
            }
            match segment {
                "**" => rest = true,
                "*" => segments.push(Segment::Any),
                _ if segment.contains("**") => return Err("`**` is a segment of its own".to_owned()),
                _ if segment.contains('*') => {
                    segments.push(Segment::Glob(segment.split('*').map(Into::into).collect()));
                }
                _ => segments.push(Segment::Literal(segment.into())),
            }
        }
        Ok(Self { segments, rest })
    }

    /// Whether a guard with this pattern covers the path. Wider than a role's, because upstreams differ and a
    /// guard can only take away: without case, and a final `/`, final dots and blanks, and what follows an
    /// encoded `?` or `#` make no difference.
    pub(in crate::decide) fn guards(&self, path: &Path) -> bool {
        let path = path.as_str();
        let cut = path.find("%3F").into_iter().chain(path.find("%23")).min();
        self.covers(path) || cut.and_then(|at| path.get(..at)).is_some_and(|path| self.covers(path))
    }

    fn covers(&self, path: &str) -> bool {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let mut own = self.segments.iter().filter(|s| !matches!(s, Segment::Literal(l) if l.is_empty()));
        let mut theirs = trimmed.split('/').skip(1);
        loop {
            match (own.next(), theirs.next()) {
                (Some(pattern), Some(segment))
                    if pattern.matches(segment, Case::Insensitive)
                        || pattern.matches(without_tail(segment), Case::Insensitive) => {}
                (None, None) => return true,
                (None, Some(_)) => return self.rest,
                (Some(_), _) => return false,
            }
        }
    }

    /// Whether it is this path itself, and not one below it.
    pub(in crate::decide) fn is_whole(&self, path: &Path) -> bool {
        let mut theirs = path.segments();
        let alike = |own: &Segment| theirs.next().is_some_and(|other| own.matches(other, Case::Sensitive));
        self.segments.iter().all(alike) && theirs.next().is_none()
    }

    /// The plain meaning, segment by segment: what the matcher must agree with.
    #[cfg(test)]
    pub(in crate::decide) fn matches(&self, path: &Path) -> bool {
        let segments: Vec<&str> = path.segments().collect();
        let fits = if self.rest {
            segments.len() >= self.segments.len()
        } else {
            segments.len() == self.segments.len()
        };
        fits && self.segments.iter().zip(&segments).all(|(p, s)| p.matches(s, Case::Sensitive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_means_what_the_reference_says() {
        for (text, fits, does_not) in [
            ("/user", &["/user"][..], &["/user/", "/users", "/", "/user/x", "/USER"][..]),
            ("/repos/**", &["/repos", "/repos/", "/repos/x", "/repos/x/y/"], &["/repo", "/", "/reposx"]),
            ("/repos/*/*", &["/repos/a/b"], &["/repos/a", "/repos/a/", "/repos/a/b/c", "/repos/a/b/"]),
            ("/v1/messages.*", &["/v1/messages.x", "/v1/messages."], &["/v1/messages", "/v1/xmessages.x"]),
            ("/*.git/info", &["/a.git/info", "/.git/info"], &["/a.gitx/info", "/a/b.git/info"]),
            ("/a*b*c", &["/abc", "/axxbxxc", "/abbcc"], &["/ac", "/ab", "/abcd"]),
            ("/**", &["/", "/x", "/x/y"], &[]),
            ("**", &["/", "/x", "/x/y/"], &[]),
            ("/", &["/"], &["/x"]),
            ("/%7euser", &["/~user"], &[]),
        ] {
            for yes in fits {
                assert!(pattern(text).matches(&path(yes)), "{text} should match {yes}");
            }
            for no in does_not {
                assert!(!pattern(text).matches(&path(no)), "{text} should not match {no}");
            }
        }
    }

    #[test]
    fn a_guard_reaches_wider_than_a_role() {
        for (text, path_) in [
            ("/Admin/*", "/admin/x/"),
            ("/admin", "/ADMIN/"),
            ("/admin/", "/admin"),
            ("/a/**", "/A"),
            ("/x.*", "/X.Y"),
            ("/admin", "/admin."),
            ("/admin", "/admin%20"),
            ("/admin/**", "/Admin.%20./x"),
            ("/admin", "/admin%3fx/y"),
            ("/admin/*", "/admin/x%23"),
        ] {
            assert!(pattern(text).guards(&path(path_)), "{text} {path_}");
        }
        assert!(!pattern("/admin").guards(&path("/admin/x")));
        assert!(!pattern("/admin/*").guards(&path("/admin")));
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for bad in ["repos/**", "/a/../b", "/a//b", "/a/**/b", "/a**", "/a?x=1", "/a;b", "/a%2fb", "", "/a b"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn get_implies_head_and_nothing_implies_other() {
        let get = Methods::parse("GET").unwrap();
        assert!(get.contains(Method::Head) && !get.contains(Method::Post));
        assert!(!Methods::parse("HEAD").unwrap().contains(Method::Get));
        assert!(Method::NAMED.into_iter().all(|m| Methods::ANY.contains(m)));
        assert!(!Methods::parse("ANY").unwrap().contains(Method::Other));
        assert!(
            Methods::parse("DELET").is_err() && Methods::parse("get").is_err() && Methods::parse("").is_err()
        );
    }
}
