//! The units of a role by what they may lie in: a role may have thousands of lines.

use std::collections::{HashMap, HashSet};

use crate::decide::parts::{
    covers::Unit,
    matcher::Matcher,
    pattern::{Glob, Methods, Pattern, Segment},
};

/// Finds the units that include another one.
pub(super) struct Index<'u> {
    units: &'u [Unit],
    /// Over the different patterns of paths.
    paths: Matcher,
    /// For each of them, the units with it: one for each method.
    of_path: Vec<Vec<usize>>,
    /// Units of names, by their kind and the text that they begin with.
    names: HashMap<(&'static str, &'u str), Vec<usize>>,
    others: Vec<usize>,
}

impl<'u> Index<'u> {
    pub(super) fn of(units: &'u [Unit]) -> Self {
        let (mut names, mut others): (HashMap<_, Vec<usize>>, _) = (HashMap::new(), Vec::new());
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut patterns: Vec<&Pattern> = Vec::new();
        let mut of_path: Vec<Vec<usize>> = Vec::new();
        for (number, unit) in units.iter().enumerate() {
            if let Unit::Http(_, pattern) = unit {
                let place = *numbers.entry(format!("{pattern:?}")).or_insert(patterns.len());
                if place == patterns.len() {
                    patterns.push(pattern);
                    of_path.push(Vec::new());
                }
                if let Some(those) = of_path.get_mut(place) {
                    those.push(number);
                }
            } else if let Some((kind, glob)) = named(unit) {
                names.entry((kind, beginning(glob))).or_default().push(number);
            } else {
                others.push(number);
            }
        }
        let paths = Matcher::new(patterns.iter().enumerate().map(|(n, pattern)| (n, Methods::ANY, *pattern)));
        Self { units, paths, of_path, names, others }
    }

    /// The numbers of the units that include this one.
    pub(super) fn around<'i>(&'i self, unit: &'i Unit) -> impl Iterator<Item = usize> + 'i {
        let mut found: Vec<usize> = Vec::new();
        if let Unit::Http(_, pattern) = unit {
            let places = self.paths.covering(pattern);
            found.extend(places.into_iter().filter_map(|place| self.of_path.get(place)).flatten());
        } else if let Some((kind, glob)) = named(unit) {
            // What includes it begins with a part of what it begins with.
            let text = beginning(glob);
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let parts = ends.filter_map(|end| self.names.get(&(kind, text.get(..end)?)));
            found.extend(parts.flatten());
        } else {
            found.extend(&self.others);
        }
        found.into_iter().filter(|number| self.units.get(*number).is_some_and(|outer| outer.includes(unit)))
    }

    /// Whether some unit includes this one.
    pub(super) fn covers(&self, unit: &Unit) -> bool {
        self.around(unit).next().is_some()
    }

    /// Whether this very unit is here.
    pub(super) fn has(&self, unit: &Unit) -> bool {
        self.around(unit).any(|number| self.units.get(number) == Some(unit))
    }
}

/// Units without those that lie in others, each once.
pub(super) fn outermost(units: impl Iterator<Item = Unit>) -> Vec<Unit> {
    let mut seen = HashSet::new();
    let all: Vec<Unit> = units.filter(|unit| seen.insert(format!("{unit:?}"))).collect();
    let index = Index::of(&all);
    let within = |at: usize, unit: &Unit| {
        index.around(unit).any(|other| {
            let outer = all.get(other);
            other != at && outer.is_some_and(|outer| other < at || !unit.includes(outer))
        })
    };
    all.iter().enumerate().filter(|(at, unit)| !within(*at, unit)).map(|(_, unit)| unit.clone()).collect()
}

fn named(unit: &Unit) -> Option<(&'static str, &Glob)> {
    match unit {
        Unit::Named(kind, glob) => Some((kind.as_str(), glob)),
        Unit::GraphQl(kind, glob) => Some((kind.as_str(), glob)),
        Unit::Http(..) | Unit::Connect => None,
    }
}

/// The text before the first `*`.
fn beginning(glob: &Glob) -> &str {
    match &glob.0 {
        Segment::Literal(text) => text,
        Segment::Glob(parts) => parts.first().map(|part| &**part).unwrap_or_default(),
        Segment::Any => "",
    }
}
