//! The layers of settings, and which one each value came from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use serde_yaml::Spanned;

use super::{
    file::{File, List, Scalar},
    said::Said,
};

/// Largest settings file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// What the command line and the environment give.
#[derive(Debug, Default, Clone)]
pub struct Given {
    /// `--config`: this file instead of the usual places.
    pub config: Option<PathBuf>,
    /// Flags, by key.
    pub flags: BTreeMap<String, String>,
    /// The environment, by name.
    pub env: BTreeMap<String, String>,
    /// The usual places, in the order of precedence.
    pub places: Vec<PathBuf>,
}

impl Given {
    /// What this process was given: its environment, and the usual places.
    pub fn by_process(config: Option<PathBuf>, flags: BTreeMap<String, String>) -> Self {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let home = |name: &str| env.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let user = home("XDG_CONFIG_HOME").or_else(|| home("HOME").map(|h| h.join(".config")));
        let mut places = vec![PathBuf::from("egret.yaml")];
        places.extend(user.map(|dir| dir.join("egret/config.yaml")));
        places.push("/etc/egret/config.yaml".into());
        Self { config, flags, env, places }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Env(String),
    /// A file, with line and column.
    File(PathBuf, u64, u64),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::File(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value as `egret config show` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The key.
    pub key: String,
    /// The value. Never a secret: settings hold references only.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// One file that was read.
struct Layer {
    path: PathBuf,
    file: File,
}

/// All layers, being read.
pub(super) struct Layers {
    given: Given,
    files: Vec<Layer>,
    known: BTreeSet<String>,
    pub(super) shown: Vec<Shown>,
    pub(super) problems: Vec<String>,
}

impl Layers {
    pub(super) fn read(given: &Given) -> Self {
        let mut this = Self {
            given: given.clone(),
            files: Vec::new(),
            known: BTreeSet::new(),
            shown: Vec::new(),
            problems: Vec::new(),
        };
        let places = given.config.as_ref().map_or_else(|| given.places.clone(), |one| vec![one.clone()]);
        for path in places {
            match std::fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.config.is_none() => {}
                Err(error) => this.problems.push(format!("{}: {error}", path.display())),
                Ok(meta) if meta.len() > LARGEST => {
                    this.problems.push(format!("{}: larger than {LARGEST} bytes", path.display()));
                }
                Ok(_) => this.read_file(path),
            }
        }
        this
    }

    fn read_file(&mut self, path: PathBuf) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{}: {error}", path.display())),
        };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return self.files.push(Layer { path, file: File::default() });
        }
        let options = serde_yaml::options! {
            strict_booleans: true,
            duplicate_keys: serde_yaml::DuplicateKeyPolicy::Error,
            budget: serde_yaml::budget! { max_depth: 32, max_aliases: 0, max_anchors: 0 },
        };
        match serde_yaml::from_str_with_options(&text, options) {
            Ok(file) => self.files.push(Layer { path, file }),
            // Without the excerpt: a line of settings is not for a log.
            Err(error) => {
                let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column()));
                let place = place.unwrap_or_default();
                self.problems.push(format!("{}{place}: {}", path.display(), error.without_snippet()));
            }
        }
    }

    /// The text of one key, from the first layer that has it.
    pub(super) fn said(&mut self, key: &str, get: impl Fn(&File) -> &Scalar) -> Option<(String, Origin)> {
        self.known.insert(key.to_owned());
        if let Some(found) = self.outside(key) {
            return Some(found);
        }
        self.files.iter().find_map(|layer| {
            get(&layer.file).as_ref().map(|said| (said.value.0.clone(), place(&layer.path, said)))
        })
    }

    /// The texts of one list, from the first layer that has it. Outside of files they are divided by commas.
    pub(super) fn listed(
        &mut self,
        key: &str,
        get: impl Fn(&File) -> &List,
    ) -> Option<Vec<(String, Origin)>> {
        self.known.insert(key.to_owned());
        if let Some((text, origin)) = self.outside(key) {
            return Some(
                text.split(',')
                    .map(|part| (part.trim().to_owned(), origin.clone()))
                    .filter(|part| !part.0.is_empty())
                    .collect(),
            );
        }
        self.files.iter().find_map(|layer| {
            get(&layer.file).as_ref().map(|list| {
                list.iter().map(|said| (said.value.0.clone(), place(&layer.path, said))).collect()
            })
        })
    }

    /// A structure that only files can hold.
    pub(super) fn structure<T>(&self, get: impl Fn(&File) -> Option<&T>) -> Option<(&T, &Path)> {
        self.files.iter().find_map(|layer| get(&layer.file).map(|found| (found, layer.path.as_path())))
    }

    /// One value: said somewhere and parsed, or the default.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        get: impl Fn(&File) -> &Scalar,
        default: &str,
        parse: impl Fn(&str, &Origin) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self.said(key, get).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        let parsed = parse(&text, &origin);
        self.shown.push(Shown { key: key.to_owned(), value: text, origin: origin.clone() });
        match parsed {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{origin}: {key}: {problem}"));
                None
            }
        }
    }

    /// Shows a list as it was said.
    pub(super) fn show_list(&mut self, key: &str, said: &[(String, Origin)]) {
        let value = said.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
        let origin = said.first().map_or(Origin::Default, |(_, origin)| origin.clone());
        self.shown.push(Shown { key: key.to_owned(), value, origin });
    }

    /// Flags whose key nobody knows.
    pub(super) fn unknown_flags(&mut self) {
        let unknown: Vec<_> =
            self.given.flags.keys().filter(|key| !self.known.contains(*key)).cloned().collect();
        for key in unknown {
            self.problems.push(format!("command line: `{key}` is no key; `egret config show` lists them"));
        }
    }

    fn outside(&self, key: &str) -> Option<(String, Origin)> {
        if let Some(text) = self.given.flags.get(key) {
            return Some((text.clone(), Origin::Flag));
        }
        let name = format!("EGRET_{}", key.replace('.', "_").to_ascii_uppercase());
        self.given.env.get(&name).map(|text| (text.clone(), Origin::Env(name)))
    }
}

/// Where a scalar stands.
pub(super) fn place(path: &Path, said: &Spanned<Said>) -> Origin {
    Origin::File(path.to_owned(), said.referenced.line(), said.referenced.column())
}

/// A path as its origin means it: in a file, it counts from the file's directory.
pub(super) fn resolved(text: &str, origin: &Origin) -> PathBuf {
    match origin {
        Origin::File(file, ..) => file.parent().unwrap_or_else(|| Path::new("")).join(text),
        _ => PathBuf::from(text),
    }
}
