//! What is wrong with a policy: every mistake with its place, an excerpt and a hint, all of them at once.

use std::{fmt, ops::Range, path::Path};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::{
    reader,
    source::{Mark, Sources, Span, Unreadable},
    veil,
};

/// Problems shown of one policy; the rest is counted.
const SHOWN: usize = 100;
/// Problems kept of one policy, to be sorted before they are shown. A file that is nothing but mistakes says no more
/// in the next thousand.
const KEPT: usize = 1_000;
/// Words of which one may have been meant.
const CHOICE: usize = 2_000;
/// Characters of a line that an excerpt shows.
const WIDTH: usize = 160;
/// Characters of a line that are looked at for an excerpt: so many that a word which is cut is too long to be shown.
const SEEN: usize = 480;
/// Values that say nothing, in a place for secrets, too.
const NO_SECRET: [&str; 4] = ["true", "false", "null", "~"];

/// One mistake.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Another place that belongs to it, such as the first of two equal keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also: Option<Mark>,
    /// The lines, with everything that may be a secret blotted out.
    #[serde(skip)]
    excerpts: Vec<Excerpt>,
}

#[derive(Debug, Clone)]
struct Excerpt {
    mark: Mark,
    line: String,
    range: Range<usize>,
    label: &'static str,
}

/// Everything that is wrong with a policy. Never empty.
#[derive(Debug, Clone)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The problems, in the order of files and lines, at most a hundred.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are, also those that are not listed.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }

    /// The problems with excerpts and carets, for a terminal.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text: Vec<String> = self.list.iter().map(|problem| problem.render(&renderer)).collect();
        if self.more > 0 {
            text.push(format!("and {} more", self.more));
        }
        text.join("\n\n")
    }

    /// The problems as JSON values, without excerpts.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.list)
    }

    /// Nothing could be read.
    pub(in crate::decide) fn unreadable(error: &Unreadable) -> Self {
        let mut this = Self::whole_file(&error.path, &error.why);
        for problem in &mut this.list {
            [problem.line, problem.column] = error.at.unwrap_or_default();
        }
        this
    }

    /// A file is not a policy, and nothing more is known.
    pub(in crate::decide) fn nothing(name: &str) -> Self {
        Self::whole_file(Path::new(name), "this is not a policy")
    }

    fn whole_file(path: &Path, message: &str) -> Self {
        let problem = Problem {
            file: path.display().to_string(),
            line: 0,
            column: 0,
            message: message.to_owned(),
            hint: None,
            also: None,
            excerpts: Vec::new(),
        };
        Self { list: vec![problem], more: 0 }
    }
}

/// One line for each problem, without excerpts: what goes to a log.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(also) = &self.also {
            write!(f, " (also {also})")?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; hint: {hint}"))
    }
}

impl Problem {
    fn render(&self, renderer: &Renderer) -> String {
        let mut error = Group::with_title(Level::ERROR.primary_title(self.title()));
        for excerpt in &self.excerpts {
            error = error.element(excerpt.snippet());
        }
        let mut report = vec![error];
        if let Some(hint) = &self.hint {
            report.push(Group::with_title(Level::HELP.secondary_title(hint.as_str())));
        }
        renderer.render(&report)
    }

    fn title(&self) -> String {
        match self.excerpts.is_empty() {
            true if self.line > 0 => format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message),
            true => format!("{}: {}", self.file, self.message),
            false => self.message.clone(),
        }
    }
}

impl Excerpt {
    fn snippet(&self) -> Snippet<'_, Annotation<'_>> {
        let kind = if self.label.is_empty() { AnnotationKind::Primary } else { AnnotationKind::Context };
        Snippet::source(self.line.as_str())
            .path(&*self.mark.file)
            .line_start(self.mark.line as usize)
            .annotation(kind.span(self.range.clone()).label(self.label))
    }
}

/// Gathers problems while a policy is read, and what no excerpt may show.
#[derive(Debug, Default)]
pub(in crate::decide) struct Findings {
    found: Vec<Finding>,
    /// Problems beyond those that are kept.
    beyond: usize,
    /// Values that may be secrets.
    secrets: Vec<Span>,
}

#[derive(Debug)]
struct Finding {
    span: Span,
    message: String,
    hint: Option<String>,
    also: Option<(Span, &'static str)>,
    shape: Shape,
}

/// Whether the file's tree is known, and with it which of its values may be secrets.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Known,
    Unknown,
}

impl Findings {
    pub(in crate::decide) fn report(&mut self, span: Span, message: impl Into<String>) -> &mut Self {
        if self.found.len() >= KEPT {
            self.beyond += 1;
            return self;
        }
        self.found.push(Finding {
            span,
            message: message.into(),
            hint: None,
            also: None,
            shape: Shape::Known,
        });
        self
    }

    /// Adds what to do to the problem reported last.
    pub(in crate::decide) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        if let Some(last) = self.last() {
            last.hint = Some(hint.into());
        }
        self
    }

    /// Adds another place to the problem reported last.
    pub(in crate::decide) fn also(&mut self, span: Span, label: &'static str) -> &mut Self {
        if let Some(last) = self.last() {
            last.also = Some((span, label));
        }
        self
    }

    /// The problem reported last is in a file whose tree is not known.
    pub(in crate::decide) fn unparsed(&mut self) -> &mut Self {
        if let Some(last) = self.last() {
            last.shape = Shape::Unknown;
        }
        self
    }

    /// No excerpt shows this value.
    pub(in crate::decide) fn secret(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// The nearest of some words, when it is near enough to be a slip. Nobody is told of the second hundred slips, and
    /// not all of many thousand words are looked at: a file may be nothing but both.
    pub(in crate::decide) fn closest<'w>(
        &self,
        text: &str,
        words: impl Iterator<Item = &'w str>,
    ) -> Option<&'w str> {
        if self.found.len() > SHOWN { None } else { reader::closest(text, words.take(CHOICE)) }
    }

    pub(in crate::decide) fn count(&self) -> usize {
        self.found.len() + self.beyond
    }

    /// The problem reported last, when it is kept.
    fn last(&mut self) -> Option<&mut Finding> {
        if self.beyond > 0 { None } else { self.found.last_mut() }
    }

    /// The problems, or none.
    pub(in crate::decide) fn into_problems(mut self, sources: &Sources) -> Option<Problems> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|f| (f.span.file, f.span.line, f.span.column));
        self.secrets = joined(self.secrets);
        let more = self.found.len().saturating_sub(SHOWN) + self.beyond;
        let list = self.found.iter().take(SHOWN).map(|finding| self.problem(finding, sources)).collect();
        Some(Problems { list, more })
    }

    fn problem(&self, finding: &Finding, sources: &Sources) -> Problem {
        let mark = sources.place(finding.span);
        let mut excerpts: Vec<Excerpt> =
            self.excerpt(finding, finding.span, "", sources).into_iter().collect();
        if let Some((span, label)) = finding.also {
            excerpts.extend(self.excerpt(finding, span, label, sources));
        }
        Problem {
            file: mark.file.to_string(),
            line: mark.line,
            column: mark.column,
            message: veil::veil(&finding.message),
            hint: finding.hint.as_deref().map(veil::veil),
            also: finding.also.map(|(span, _)| sources.place(span)),
            excerpts,
        }
    }

    /// The line around a place: without comments, and with everything blotted out that may be a secret. Where the
    /// tree is not known, that is all but keys and what stands behind harmless ones.
    fn excerpt(
        &self,
        finding: &Finding,
        span: Span,
        label: &'static str,
        sources: &Sources,
    ) -> Option<Excerpt> {
        let text = sources.text_of(span.file)?;
        let place = match finding.shape {
            Shape::Known => span.start as usize,
            Shape::Unknown => span.start_by_number(text)?,
        };
        // A file may be one line of megabytes: only what is near is looked at.
        let near = near(text, place)?;
        let (start, column) = (near.start, place - near.start);
        let mut shown = text.get(near)?.to_owned();
        let end = (column + span.length as usize).min(shown.len()).max(column);
        let marked = if finding.shape == Shape::Known { column..end } else { 0..0 };
        let comment = comment(&shown, marked.end);
        self.blot_secrets(&mut shown, span.file, start);
        blot_tags(&mut shown, &marked);
        shown.truncate(comment);
        let mut shown = match finding.shape {
            Shape::Known => veil::veil(&shown),
            Shape::Unknown => veil::veil_unparsed(&shown),
        };
        let column = column.min(shown.len());
        let cut = window(&shown, column, WIDTH);
        shown = shown.get(cut.clone())?.trim_end().to_owned();
        let end = end.min(cut.end).max(column) - cut.start;
        let from = (column - cut.start).min(shown.len());
        if shown.is_empty() {
            return None;
        }
        let range = from..end.min(shown.len()).max(from);
        Some(Excerpt { mark: sources.place(span), line: shown, range, label })
    }

    /// Blots out the secrets in a part of a file that begins at `start`.
    fn blot_secrets(&self, shown: &mut String, file: u32, start: usize) {
        let end = start + shown.len();
        let first = self.secrets.partition_point(|s| (s.file, s.end()) <= (file, start));
        for secret in self.secrets.iter().skip(first) {
            if (secret.file, secret.start as usize) >= (file, end) {
                break;
            }
            let from = (secret.start as usize).max(start) - start;
            let until = secret.end().saturating_sub(start).min(shown.len());
            if !shown.get(from..until).is_some_and(|text| NO_SECRET.contains(&text)) {
                veil::blot(shown, from, until);
            }
        }
    }
}

/// The places in order, those that touch or overlap as one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.file, span.start));
    spans.dedup_by(|next, before| {
        let touches = next.file == before.file && next.start as usize <= before.end();
        if touches {
            before.length = before.length.max(next.start - before.start + next.length);
        }
        touches
    });
    spans
}

/// A value that begins with `!` is a tag to YAML, and so in no tree: a secret may begin like that. What follows a tag
/// may be read as something else than what stands there. Within the marked value, `!` is a character like others.
fn blot_tags(line: &mut String, marked: &Range<usize>) {
    let mut last = ' ';
    let tag = line.char_indices().find(|(at, c)| {
        let inside = *at > marked.start && *at < marked.end;
        let begins = *c == '!' && " \t:,[{".contains(last) && !inside;
        last = *c;
        begins
    });
    if let Some((at, _)) = tag {
        let end = line.len();
        veil::blot(line, at, end);
    }
}

/// Where the comment of a line begins that ends after `from`. A `#` in quotes counts, too: what follows is not shown
/// either.
fn comment(line: &str, from: usize) -> usize {
    let mut last = ' ';
    let found = line.char_indices().find(|(at, c)| {
        let begins = *c == '#' && last.is_whitespace() && *at >= from;
        last = *c;
        begins
    });
    found.map_or(line.len(), |(at, _)| at)
}

/// What is near a place, in its line.
fn near(text: &str, place: usize) -> Option<Range<usize>> {
    let wide = window(text, place, SEEN);
    let before = text.get(wide.start..place)?.rfind(['\n', '\r']);
    let after = text.get(place..wide.end)?.find(['\n', '\r']);
    Some(before.map_or(wide.start, |at| wide.start + at + 1)..after.map_or(wide.end, |at| place + at))
}

/// At most `width` bytes of a line, around a place.
fn window(line: &str, place: usize, width: usize) -> Range<usize> {
    if line.len() <= width {
        return 0..line.len();
    }
    let mut from = place.saturating_sub(width / 2);
    while !line.is_char_boundary(from) {
        from -= 1;
    }
    let mut until = (from + width).min(line.len());
    while !line.is_char_boundary(until) {
        until -= 1;
    }
    from..until
}
