//! `egret fmt`.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{SettingsArgs, data, exit, message};
use crate::{
    decide::{self, Problems, Unformatted},
    serve::StartError,
};

/// The longest text that is read from standard input, as of a policy file.
const LONGEST: u64 = 8 << 20;
/// What standard input is called in problems.
const STANDARD_INPUT: &str = "(standard input)";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret fmt                      format the files of `policy.dir`
  egret fmt --check policies     in CI: list what is not formatted, and exit with 1
  egret fmt - < policy.yaml      from standard input to standard output")]
pub(super) struct FmtArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Files, directories, or `-` for standard input; `policy.dir` when not given
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Change nothing; list the files that would change, and exit with 1 when there are any
    #[arg(long)]
    check: bool,
}

pub(super) fn fmt(args: &FmtArgs) -> Result<u8, StartError> {
    let paths = match args.paths.as_slice() {
        [] => vec![args.settings.load()?.0.policy],
        given => given.to_vec(),
    };
    let mut findings = false;
    for path in &paths {
        if path.as_os_str() == "-" {
            findings |= standard_input(args.check)?;
            continue;
        }
        match decide::policy_files(path) {
            Ok(files) => {
                for file in files {
                    findings |= one(&file, args.check)?;
                }
            }
            Err(problems) => findings |= say(&problems),
        }
    }
    Ok(if findings { exit::FINDINGS } else { exit::OK })
}

fn standard_input(check: bool) -> Result<bool, StartError> {
    let failed = |error: io::Error| StartError::Unavailable(format!("standard input: {error}"));
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > LONGEST {
        return Err(StartError::Configuration("standard input: larger than 8 MiB".into()));
    }
    let text = match decide::policy_text(Path::new(STANDARD_INPUT), bytes) {
        Ok(text) => text,
        Err(problems) => return Ok(say(&problems)),
    };
    let formatted = match decide::format(STANDARD_INPUT, &text) {
        Ok(formatted) => formatted,
        Err(error) => return Ok(unformatted(&error)),
    };
    if check {
        let changes = formatted != text;
        if changes {
            data(STANDARD_INPUT);
        }
        return Ok(changes);
    }
    // Whoever stops reading has seen enough.
    let _ = io::stdout().lock().write_all(formatted.as_bytes());
    Ok(false)
}

/// Formats one file. Whether there is something to say about it.
fn one(file: &Path, check: bool) -> Result<bool, StartError> {
    let name = file.display().to_string();
    let bytes = match fs::metadata(file).map(|meta| meta.len()) {
        Ok(size) if size > LONGEST => Err(io::Error::other("larger than 8 MiB")),
        _ => fs::read(file),
    };
    let text = match decide::policy_text(file, bytes.map_err(|error| failed(file, &error))?) {
        Ok(text) => text,
        Err(problems) => return Ok(say(&problems)),
    };
    let formatted = match decide::format(&name, &text) {
        Ok(formatted) => formatted,
        Err(error) => return Ok(unformatted(&error)),
    };
    if formatted == text {
        return Ok(false);
    }
    if check {
        data(name);
        return Ok(true);
    }
    replace(file, &formatted).map_err(|error| failed(file, &error))?;
    message(format_args!("formatted {name}"));
    Ok(false)
}

/// Puts a text in a file's place, whole or not at all: a running egret may read it at any moment.
/// A link stays a link; what it leads to is replaced, and keeps its mode.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    let written = (|| {
        let mut to = fs::OpenOptions::new().write(true).create_new(true).open(&new)?;
        to.set_permissions(fs::metadata(&file)?.permissions())?;
        to.write_all(text.as_bytes())?;
        to.sync_all()?;
        fs::rename(&new, &file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn unformatted(error: &Unformatted) -> bool {
    match error {
        Unformatted::Malformed(problems) => say(problems),
        Unformatted::Changed(_) | Unformatted::Moved(_) => {
            message(error);
            true
        }
    }
}

/// As `egret check` shows them.
fn say(problems: &Problems) -> bool {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    message(problems.render(colour).trim_end());
    true
}

fn failed(file: &Path, error: &io::Error) -> StartError {
    let text = format!("{}: {error}", file.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        StartError::NotPermitted(text)
    } else {
        StartError::Unavailable(text)
    }
}
