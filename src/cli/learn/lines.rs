//! Many paths, few lines: siblings that are only names become `*`.

use std::collections::BTreeMap;

/// How many siblings with names of their own are kept apart.
const SIBLINGS: usize = 3;

/// The paths of one method, segment by segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    children: BTreeMap<String, Tree>,
    /// Whether a path ends here.
    ends: bool,
}

impl Tree {
    /// Adds a path's template.
    pub(super) fn add(&mut self, template: &str) {
        let mut here = self;
        for segment in segments(template) {
            here = here.children.entry(segment.to_owned()).or_default();
        }
        here.ends = true;
    }

    /// More than a few siblings become one `*`, with everything below them.
    pub(super) fn collapse(&mut self) {
        let literal = |name: &String| !matches!(name.as_str(), "" | "*" | "**");
        if self.children.keys().filter(|name| literal(name)).count() > SIBLINGS {
            let (names, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut self.children).into_iter().partition(|(name, _)| literal(name));
            self.children = kept;
            let any = self.children.entry("*".to_owned()).or_default();
            for child in names.into_values() {
                any.merge(child);
            }
        }
        self.children.values_mut().for_each(Tree::collapse);
    }

    fn merge(&mut self, other: Tree) {
        self.ends |= other.ends;
        for (name, child) in other.children {
            self.children.entry(name).or_default().merge(child);
        }
    }

    /// The patterns of all lines.
    pub(super) fn patterns(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.gather("", &mut found);
        found
    }

    fn gather(&self, before: &str, found: &mut Vec<String>) {
        if self.ends {
            found.push(before.to_owned());
        }
        for (name, child) in &self.children {
            child.gather(&format!("{before}/{name}"), found);
        }
    }

    /// The pattern that a template's path falls under.
    pub(super) fn pattern_of(&self, template: &str) -> Option<String> {
        let mut here = self;
        let mut pattern = String::new();
        for segment in segments(template) {
            let (name, child) =
                here.children.get_key_value(segment).or_else(|| here.children.get_key_value("*"))?;
            pattern.push('/');
            pattern.push_str(name);
            here = child;
        }
        here.ends.then_some(pattern)
    }
}

fn segments(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(templates: &[&str], expected: &[&str]) {
        let mut tree = Tree::default();
        for template in templates {
            tree.add(template);
        }
        tree.collapse();
        assert_eq!(tree.patterns(), expected);
        for template in templates {
            let pattern = tree.pattern_of(template).unwrap();
            assert!(expected.contains(&pattern.as_str()), "{template} is under {pattern}");
        }
    }

    #[test]
    fn a_few_siblings_stay_and_many_become_a_star() {
        check(&["/a", "/b", "/c"], &["/a", "/b", "/c"]);
        check(&["/a", "/b", "/c", "/d"], &["/*"]);
        check(
            &["/users/a/mail", "/users/b/mail", "/users/c/x", "/users/*/y", "/users/d"],
            &["/users/*", "/users/*/mail", "/users/*/x", "/users/*/y"],
        );
        check(&["/", "/a/", "/a", "/a/**"], &["/", "/a", "/a/", "/a/**"]);
    }

    #[test]
    fn what_meets_below_a_star_is_counted_together() {
        check(&["/u/a/1x", "/u/b/2x", "/u/c/3x", "/u/d/4x"], &["/u/*/*"]);
    }
}
