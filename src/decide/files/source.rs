//! The policy's files: which they are, what they hold, and where in them something stands.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;

use super::{bundle::Bundle, git};
use crate::{decide::catalog, secret::hex};

/// The largest policy file.
const FILE_LIMIT: u64 = 8 << 20;
/// The largest policy, all files together.
const TOTAL_LIMIT: u64 = 16 << 20;
/// How deep below the policy's directory files are looked for.
const DEPTH: usize = 8;

/// A place in one of the policy's files. Small: every compiled line keeps its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) struct Span {
    pub(in crate::decide) file: u32,
    pub(in crate::decide) line: u32,
    pub(in crate::decide) column: u32,
    pub(in crate::decide) start: u32,
    pub(in crate::decide) length: u32,
}

impl Span {
    pub(in crate::decide) fn start_of(file: u32) -> Self {
        Self { file, line: 1, column: 1, start: 0, length: 0 }
    }

    /// The text that stands here.
    pub(in crate::decide) fn text<'a>(&self, file: &'a str) -> Option<&'a str> {
        file.get(self.start as usize..self.end()).filter(|text| !text.is_empty())
    }

    /// The byte after it.
    pub(in crate::decide) fn end(&self) -> usize {
        self.start as usize + self.length as usize
    }

    /// The byte where it begins, where there is no byte offset, as in syntax errors: lines and characters are counted.
    pub(in crate::decide) fn start_by_number(&self, file: &str) -> Option<usize> {
        let breaks = file.match_indices(['\n', '\r']).map(|(at, _)| at);
        let ends = breaks.filter(|at| !file.get(*at..).is_some_and(|rest| rest.starts_with("\r\n")));
        let line = std::iter::once(0).chain(ends.map(|at| at + 1)).nth(self.line as usize - 1)?;
        let text = file.get(line..)?.split(['\n', '\r']).next()?;
        let column = text.char_indices().nth(self.column as usize - 1);
        Some(line + column.map_or(text.len(), |(at, _)| at))
    }

    /// From here to the end of the line, where there is no byte offset.
    pub(in crate::decide) fn rest_of_line<'a>(&self, file: &'a str) -> Option<&'a str> {
        file.get(self.start_by_number(file)?..)?.split(['\n', '\r']).next()
    }
}

/// One file.
#[derive(Debug)]
pub(in crate::decide) struct Source {
    /// As shown in problems and explanations.
    pub(in crate::decide) name: Arc<str>,
    /// Its name below the policy's directory: the same files mounted elsewhere are the same policy.
    pub(in crate::decide) key: PathBuf,
    /// What relative `file:` references are relative to.
    pub(in crate::decide) base: PathBuf,
    pub(in crate::decide) text: String,
}

/// All files of one policy. Those of the catalogue have numbers of their own.
#[derive(Debug)]
pub(in crate::decide) struct Sources {
    pub(in crate::decide) files: Vec<Source>,
    /// SHA-256 over names and texts of the policy's own files, in hex.
    pub(in crate::decide) hash: Arc<str>,
    pub(in crate::decide) version: Version,
}

/// What is known of a policy's version beside what its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum Version {
    /// Nothing.
    Plain,
    /// The commit that is checked out, where the files lie in a work tree of git.
    Commit(Arc<str>),
    /// A bundle that was verified.
    Bundle(Bundle),
}

/// A file or directory that could not be read.
#[derive(Debug)]
pub(in crate::decide) struct Unreadable {
    pub(in crate::decide) path: PathBuf,
    pub(in crate::decide) why: String,
    /// Line and column, where it is known.
    pub(in crate::decide) at: Option<[u32; 2]>,
}

impl Unreadable {
    pub(in crate::decide) fn of(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into(), at: None }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)?;
        if let Some([line, column]) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Sources {
    /// Reads a file, or all `*.yaml` and `*.yml` below a directory, in the order of their names.
    pub(in crate::decide) fn read(path: &Path) -> Result<Self, Unreadable> {
        let mut texts = Vec::new();
        let mut total = 0;
        for file in files(path)? {
            let text = read_text(&file)?;
            total += text.len() as u64;
            if total > TOTAL_LIMIT {
                return Err(too_large(&file));
            }
            let base = file.parent().map(Path::to_path_buf).unwrap_or_default();
            let key = file.strip_prefix(path).ok().filter(|key| !key.as_os_str().is_empty());
            let key = key.map_or_else(|| "policy".into(), Path::to_path_buf);
            texts.push(Source { name: file.display().to_string().into(), key, base, text });
        }
        let version = git::commit(path).map_or(Version::Plain, Version::Commit);
        Ok(Self::of(texts, version))
    }

    /// A policy that is a text, for tests and for policies that egret makes itself.
    pub(in crate::decide) fn text(name: &str, text: &str) -> Self {
        let own = Source { name: name.into(), key: name.into(), base: PathBuf::new(), text: text.to_owned() };
        Self::of(vec![own], Version::Plain)
    }

    fn of(own: Vec<Source>, version: Version) -> Self {
        Self { hash: hash(&own), files: own, version }
    }

    /// What every record calls the policy's version. `own` is the policy's own word for it; a signed bundle's
    /// revision cannot be overruled by its files.
    pub(in crate::decide) fn revision(&self, own: Option<&str>) -> Arc<str> {
        match (&self.version, own) {
            (Version::Bundle(bundle), _) => format!("bundle:{}", bundle.revision).into(),
            (_, Some(own)) => own.into(),
            (Version::Commit(commit), None) => format!("git:{commit}").into(),
            (Version::Plain, None) => self.hash.get(..12).unwrap_or_default().into(),
        }
    }

    /// Tells these sources from others: the same files under another commit or manifest are another policy.
    pub(in crate::decide) fn identity(&self) -> Arc<str> {
        match &self.version {
            Version::Plain => self.hash.clone(),
            Version::Commit(commit) => format!("{} {commit}", self.hash).into(),
            Version::Bundle(bundle) => format!("{} {}", self.hash, bundle.manifest).into(),
        }
    }

    /// `file:line:column`.
    pub(in crate::decide) fn place(&self, span: Span) -> Mark {
        let own = self.files.get(span.file as usize).map(|file| file.name.clone());
        Mark { file: name_of(own, span), line: span.line, column: span.column }
    }

    /// The text of a file, by number.
    pub(in crate::decide) fn text_of(&self, number: u32) -> Option<&str> {
        let own = self.files.get(number as usize).map(|file| file.text.as_str());
        own.or_else(|| catalog::file(number).map(|(_, text)| text))
    }

    /// The names of the files, by number.
    pub(in crate::decide) fn names(&self) -> Arc<[Arc<str>]> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }
}

/// A place, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mark {
    /// The file.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The name of a file: a policy's own, or one of the catalogue.
pub(in crate::decide) fn name_of(own: Option<Arc<str>>, span: Span) -> Arc<str> {
    own.or_else(|| catalog::file(span.file).map(|(name, _)| name.into())).unwrap_or_else(|| "".into())
}

/// The policy's files: the one that `path` is, or all `*.yaml` and `*.yml` below it, in the order of their names.
pub(in crate::decide) fn files(path: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let mut paths = Vec::new();
    if fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_dir() {
        collect(path, DEPTH, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            let why = "the directory holds no `*.yaml` or `*.yml` file".to_owned();
            return Err(Unreadable::of(path, why));
        }
    } else {
        paths.push(path.into());
    }
    Ok(paths)
}

/// Reads one of them, unless it is too large.
pub(in crate::decide) fn read_text(file: &Path) -> Result<String, Unreadable> {
    let said = |why: &str| Unreadable::of(file, why);
    // Bundles list names as texts, and two names must not be one.
    if file.to_str().is_none() {
        return Err(said("its name is not UTF-8"));
    }
    let metadata = fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    if !metadata.is_file() {
        return Err(said("it is no regular file"));
    }
    // Read to one byte beyond the limit: what is said of a size need not be true.
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    opened.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(file, &error))?;
    if bytes.len() as u64 > FILE_LIMIT { Err(too_large(file)) } else { utf8(file, bytes) }
}

/// A file's text; where it is none, the place of the first byte that is not UTF-8.
pub(in crate::decide) fn utf8(file: &Path, bytes: Vec<u8>) -> Result<String, Unreadable> {
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let at = [line, column].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Unreadable { at: Some(at), ..Unreadable::of(file, "this is not UTF-8") }
    })
}

fn too_large(file: &Path) -> Unreadable {
    let why = "a policy file has at most 8 MiB, all of them together 16 MiB".to_owned();
    Unreadable::of(file, why)
}

fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    Unreadable::of(path, plain(error))
}

/// Hidden entries are skipped: Kubernetes keeps the versions of a `ConfigMap` in `..2026_11_24…` and `..data`,
/// beside links to their files. Links to files are followed. What could hold more of the policy and is not looked
/// into is a mistake: a guard in there would be lost without a word.
fn collect(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Unreadable> {
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, &error))? {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let said = |why: &str| Unreadable::of(path.clone(), why);
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            if depth == 0 {
                return Err(said(&format!("policy files stand at most {DEPTH} directories deep")));
            }
            collect(&path, depth - 1, found)?;
        } else if path.is_dir() {
            return Err(said("it is a link to a directory: links are followed to files alone"));
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            found.push(path);
        }
    }
    Ok(())
}

fn hash(files: &[Source]) -> Arc<str> {
    let mut context = digest::Context::new(&digest::SHA256);
    for file in files {
        // Lengths first, so that no text can pass for a border between two files.
        for part in [file.key.as_os_str().as_encoded_bytes(), file.text.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    hex(context.finish().as_ref()).into()
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
