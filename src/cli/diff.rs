//! `egret diff`.

use std::path::PathBuf;

use clap::Args;

use super::{data, exit};
use crate::{decide, serve::StartError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret diff policies.main policies
  git worktree add /tmp/main main && egret diff /tmp/main/policies policies

Exit codes: 0 no change in reach, 1 changes, 78 one of the policies is not valid.")]
pub(super) struct DiffArgs {
    /// The policy as it was: a directory or a file
    old: PathBuf,
    /// The policy as it is to be
    new: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn diff(args: &DiffArgs) -> Result<u8, StartError> {
    let diff = decide::diff(&args.old, &args.new)
        .map_err(|problems| StartError::Configuration(problems.render(false)))?;
    if args.json {
        data(diff.to_json());
    } else {
        data(diff.to_string().trim_end());
    }
    Ok(if diff.changes.is_empty() { exit::OK } else { exit::FINDINGS })
}
