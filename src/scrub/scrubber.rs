//! Takes the needles out of a stream.

use std::{mem, ops::Range, sync::Arc};

use aho_corasick::{
    Anchored,
    automaton::{Automaton as _, StateID},
};
use bytes::Bytes;

use super::needles::{Needles, REDACTED};

/// Whether a secret's place must keep its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Yes: the length of the whole was announced already (`Content-Length`).
    Kept,
    /// No.
    Free,
}

/// Replaces secrets in a stream that comes in chunks.
///
/// The result is that of replacing in the whole, however the chunks are cut. Only a suffix that may be the
/// beginning of a secret is held back, so an event that ends with a newline goes out at once. A chunk in which
/// nothing begins is passed on as it is, without a copy, and no byte is read again for a later chunk.
#[derive(Debug)]
pub struct Scrubber {
    needles: Arc<Needles>,
    length: Length,
    /// The suffix of what was pushed that may begin a needle. Shorter than the longest needle.
    held: Vec<u8>,
    /// Where the automaton stands after `held`.
    state: StateID,
    /// The needle in `held` that may turn out to be the beginning of a longer one.
    found: Option<Range<usize>>,
    /// How many secrets were replaced.
    replaced: u64,
}

/// What came of one window of text.
struct Passed {
    /// The text to hand on, where it is not simply the window's beginning.
    rewritten: Option<Vec<u8>>,
    /// What of the window is held back.
    held_from: usize,
}

impl Scrubber {
    /// A scrubber for one stream.
    pub fn new(needles: Arc<Needles>, length: Length) -> Self {
        let state = start(&needles);
        Self { needles, length, held: Vec::new(), state, found: None, replaced: 0 }
    }

    /// Takes the next chunk and gives what is safe to hand on; empty when all may belong to a secret.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        if self.held.is_empty() {
            let Passed { rewritten, held_from } = self.scan(&chunk, 0);
            self.held.extend_from_slice(chunk.get(held_from..).unwrap_or_default());
            return rewritten.map_or_else(
                || {
                    chunk.truncate(held_from);
                    chunk
                },
                Bytes::from,
            );
        }
        let mut window = mem::take(&mut self.held);
        let from = window.len();
        window.extend_from_slice(&chunk);
        let Passed { rewritten, held_from } = self.scan(&window, from);
        if rewritten.is_none() && held_from == 0 {
            self.held = window;
            return Bytes::new();
        }
        self.held.extend_from_slice(window.get(held_from..).unwrap_or_default());
        rewritten
            .unwrap_or_else(|| {
                window.truncate(held_from);
                window
            })
            .into()
    }

    /// Says that nothing more comes, and gives what was held back.
    pub fn finish(&mut self) -> Bytes {
        let mut window = mem::take(&mut self.held);
        let mut out = Vec::new();
        // What was found stands, as nothing can make it longer. What follows it may hold another.
        while let Some(found) = self.found.take() {
            out.extend_from_slice(window.get(..found.start).unwrap_or_default());
            self.redact(&mut out, found.len());
            window.drain(..found.end);
            self.state = start(&self.needles);
            let Passed { rewritten, held_from } = self.scan(&window, 0);
            out.extend_from_slice(rewritten.as_deref().or(window.get(..held_from)).unwrap_or_default());
            window.drain(..held_from);
        }
        self.state = start(&self.needles);
        if out.is_empty() {
            return window.into();
        }
        out.append(&mut window);
        out.into()
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many secrets were replaced.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Reads `window` from `at` on; what stands before was read already, and led to `state` and `found`.
    fn scan(&mut self, window: &[u8], mut at: usize) -> Passed {
        let needles = self.needles.clone();
        let start = start(&needles);
        let mut rewritten: Option<Vec<u8>> = None;
        let mut copied = 0;
        loop {
            if self.state == start {
                at = next_beginning(&needles, window, at);
            }
            let Some(&byte) = window.get(at) else { break };
            self.state = needles.automaton.next_state(Anchored::No, self.state, byte);
            at += 1;
            if needles.automaton.is_match(self.state) {
                let length = needles.automaton.pattern_len(needles.automaton.match_pattern(self.state, 0));
                self.found = Some(at.saturating_sub(length)..at);
                if needles.places.get(&self.state).is_some_and(|place| place.grows) {
                    continue;
                }
            } else if !needles.automaton.is_dead(self.state) {
                continue;
            }
            // The longest needle that begins here is known.
            self.state = start;
            if let Some(found) = self.found.take() {
                let out = rewritten.get_or_insert_with(|| Vec::with_capacity(window.len()));
                out.extend_from_slice(window.get(copied..found.start).unwrap_or_default());
                self.redact(out, found.len());
                copied = found.end;
                at = found.end;
            }
        }
        let begun = needles.places.get(&self.state).map_or(0, |place| place.depth);
        let held_from = (window.len().saturating_sub(begun))
            .min(self.found.as_ref().map_or(window.len(), |found| found.start));
        if let Some(out) = &mut rewritten {
            out.extend_from_slice(window.get(copied..held_from).unwrap_or_default());
        }
        self.found = self.found.take().map(|found| found.start - held_from..found.end - held_from);
        Passed { rewritten, held_from }
    }

    fn redact(&mut self, out: &mut Vec<u8>, length: usize) {
        self.replaced += 1;
        match self.length {
            Length::Free => out.extend_from_slice(REDACTED),
            Length::Kept => {
                let word = if length < REDACTED.len() { &[][..] } else { REDACTED };
                out.extend_from_slice(word);
                out.resize(out.len() + length - word.len(), b'*');
            }
        }
    }
}

/// A place at or after `at` before which no needle begins.
fn next_beginning(needles: &Needles, window: &[u8], at: usize) -> usize {
    // A needle that begins before this place ends in this window: the fast search finds it or there is none.
    let decided = window.len().saturating_sub(needles.longest.saturating_sub(1));
    let from = if at < decided {
        match needles.find(window, at) {
            Some(found) if found.start < decided => return found.start,
            _ => decided,
        }
    } else {
        at
    };
    let rest = window.get(from..).unwrap_or_default();
    let begins = |byte: &u8| needles.first.get(usize::from(*byte)).copied().unwrap_or(true);
    from + rest.iter().position(begins).unwrap_or(rest.len())
}

fn start(needles: &Needles) -> StateID {
    // Unanchored starts are supported by every automaton that is built with the default `StartKind`.
    needles.automaton.start_state(Anchored::No).unwrap_or_default()
}
