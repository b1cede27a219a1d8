//! `egret check` and `egret explain`.

use std::path::PathBuf;

use clap::Args;

use super::{SettingsArgs, exit};
use crate::serve::StartError;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The policy; `policy.dir` when not given
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn check(_: &CheckArgs) -> Result<u8, StartError> {
    Ok(exit::OK)
}

pub(super) fn explain(_: &ExplainArgs) -> Result<u8, StartError> {
    Ok(exit::OK)
}
