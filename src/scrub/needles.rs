//! The forms of the secrets of one request, and the automaton that finds them.

use std::{collections::HashMap, fmt};

use aho_corasick::{
    Input, MatchKind,
    automaton::{Automaton as _, StateID},
    nfa::contiguous::NFA,
};
use http::{HeaderMap, HeaderValue};

use super::forms::forms;

/// What stands in the place of a secret.
pub(super) const REDACTED: &[u8] = b"[redacted]";

/// The forms of the secrets of one request.
///
/// A secret of less than four bytes is not looked for, and one of less than eight only as it is: shorter ones
/// would be found by chance in answers that do not hold them.
pub struct Needles {
    /// Finds the leftmost of the longest needles.
    pub(super) automaton: NFA,
    /// Where each state stands. Only the beginnings of needles are here, so the start state is not.
    pub(super) places: HashMap<StateID, Place>,
    /// The bytes that needles begin with.
    pub(super) first: [bool; 256],
    /// The length of the longest needle.
    pub(super) longest: usize,
}

/// How far into a needle a state of the automaton is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// So many bytes of it were read.
    pub(super) depth: usize,
    /// Whether more of it is to come; otherwise what was found here cannot grow.
    pub(super) grows: bool,
}

impl Needles {
    /// All forms of these secrets; none when no secret is long enough to be looked for.
    pub fn of(secrets: &[&[u8]]) -> Option<Self> {
        let mut needles: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        needles.sort_unstable();
        needles.dedup();
        let longest = needles.iter().map(Vec::len).max()?;
        // Building fails only for more than two thousand million states.
        let automaton = NFA::builder().match_kind(MatchKind::LeftmostLongest).build(&needles).ok()?;
        let places = places(&automaton, &needles);
        let mut first = [false; 256];
        for byte in needles.iter().filter_map(|needle| needle.first()) {
            if let Some(begins) = first.get_mut(usize::from(*byte)) {
                *begins = true;
            }
        }
        Some(Self { automaton, places, first, longest })
    }

    /// The value without secrets, when there were any in it.
    pub fn scrub_header(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let bytes = value.as_bytes();
        let mut found = self.find(bytes, 0)?;
        let mut clean = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        loop {
            clean.extend_from_slice(bytes.get(copied..found.start).unwrap_or_default());
            clean.extend_from_slice(REDACTED);
            copied = found.end;
            match self.find(bytes, copied) {
                Some(next) => found = next,
                None => break,
            }
        }
        clean.extend_from_slice(bytes.get(copied..).unwrap_or_default());
        // Parts of a valid value and ASCII letters make a valid value.
        Some(HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static("[redacted]")))
    }

    /// Takes the secrets out of all values; gives how many values held one.
    pub fn scrub_headers(&self, headers: &mut HeaderMap) -> usize {
        let mut scrubbed = 0;
        for value in headers.values_mut() {
            if let Some(clean) = self.scrub_header(value) {
                *value = clean;
                scrubbed += 1;
            }
        }
        scrubbed
    }

    /// The leftmost longest needle at or after `from`.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
        if from >= text.len() {
            return None;
        }
        self.automaton.try_find(&Input::new(text).range(from..)).ok().flatten().map(|found| found.range())
    }
}

/// Walks every needle through the automaton and notes where its states stand.
fn places(automaton: &NFA, needles: &[Vec<u8>]) -> HashMap<StateID, Place> {
    let anchored = aho_corasick::Anchored::No;
    let mut places = HashMap::new();
    let Ok(start) = automaton.start_state(anchored) else { return places };
    for needle in needles {
        let mut state = start;
        for (index, byte) in needle.iter().enumerate() {
            state = automaton.next_state(anchored, state, *byte);
            let depth = index + 1;
            let place = places.entry(state).or_insert(Place { depth, grows: false });
            place.grows |= depth < needle.len();
        }
    }
    places
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles(..)")
    }
}
