//! `egret config`.

use clap::Subcommand;

use super::{ListenArgs, data, exit};
use crate::serve::StartError;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key and its value
    Show {
        #[command(flatten)]
        settings: ListenArgs,
        /// Say for each value where it comes from
        #[arg(long)]
        origin: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn config(
    ConfigCommand::Show { settings, origin, json }: &ConfigCommand,
) -> Result<u8, StartError> {
    let (checked, shown) = settings.load()?;
    if *json {
        let text =
            serde_json::to_string_pretty(&shown).map_err(|e| StartError::Unavailable(e.to_string()))?;
        data(text);
        return Ok(exit::OK);
    }
    let width = shown.iter().map(|s| s.key.len()).max().unwrap_or(0);
    for one in &shown {
        let value = if one.value.is_empty() { "-" } else { &one.value };
        if *origin {
            data(format_args!("{:width$}  {value}  ({})", one.key, one.origin));
        } else {
            data(format_args!("{:width$}  {value}", one.key));
        }
    }
    for issuer in &checked.issuers {
        data(format_args!("{:width$}  {}", "identity.issuers", issuer.issuer));
    }
    Ok(exit::OK)
}
