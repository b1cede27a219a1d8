//! `egret policy learn`: a policy drafted from what the decision log saw.

mod draft;
mod lines;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{data, exit, message, records::LogArgs};
use crate::{
    decide::{Catalogue, Policy},
    serve::StartError,
};
use draft::Draft;

/// The largest policy file.
const LONGEST: usize = 8 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret policy learn /var/log/egret/decisions.jsonl --out policies/draft.yaml
  egret policy learn --since 7d < decisions.jsonl")]
pub(super) struct LearnArgs {
    #[command(flatten)]
    log: LogArgs,
    /// Write the draft here instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "out")]
    force: bool,
}

pub(super) fn learn(args: &LearnArgs) -> Result<u8, StartError> {
    let catalogue = Catalogue::read();
    let mut draft = Draft::default();
    let tally = args.log.read(|decision| draft.saw(&decision))?;
    let Some(text) = draft.write(&catalogue, &tally) else {
        message("no request left egret in this time: there is nothing to learn from");
        return Ok(exit::FINDINGS);
    };
    if text.len() > LONGEST {
        return Err(StartError::Configuration(
            "the draft is larger than a policy file may be (8 MiB); take a shorter time with `--since`"
                .into(),
        ));
    }
    // What is handed out loads, whatever stood in the log.
    if let Err(problems) = Policy::from_text("(draft)", &text) {
        let problems = problems.render(false);
        return Err(StartError::Configuration(format!(
            "BUG: the draft does not load; please report it\n{problems}"
        )));
    }
    match &args.out {
        None => data(text.trim_end()),
        Some(path) => {
            write(path, &text, args.force).map_err(|error| failed(path, &error))?;
            message(format_args!("wrote {}; read it, and decide the credentials", path.display()));
        }
    }
    Ok(exit::OK)
}

fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

fn failed(path: &Path, error: &io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            StartError::Configuration(format!("{} exists; `--force` writes over it", path.display()))
        }
        io::ErrorKind::PermissionDenied => StartError::NotPermitted(format!("{}: {error}", path.display())),
        _ => StartError::Unavailable(format!("{}: {error}", path.display())),
    }
}
