//! `egret catalog`.

use clap::Args;

use super::{data, exit};
use crate::{
    decide::{self, Listing},
    serve::StartError,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret catalog             every service that egret knows
  egret catalog github      one of them, and a policy to start from")]
pub(super) struct CatalogArgs {
    /// The service; all of them when not given
    name: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn catalog(args: &CatalogArgs) -> Result<u8, StartError> {
    match &args.name {
        Some(name) => {
            let listing = decide::catalogued(name).map_err(StartError::Configuration)?;
            if args.json {
                data(one_as_json(&listing)?);
            } else {
                show(&listing);
            }
        }
        None if args.json => {
            let all = serde_json::to_string_pretty(&decide::catalogue());
            data(all.map_err(|error| StartError::Unavailable(error.to_string()))?);
        }
        None => list(&decide::catalogue()),
    }
    Ok(exit::OK)
}

/// Four columns: name, roles, hosts, what it is.
fn list(all: &[Listing]) {
    let rows: Vec<[String; 4]> = all
        .iter()
        .map(|listing| {
            let roles: Vec<&str> = listing.roles.iter().map(|role| role.name.as_str()).collect();
            [listing.name.to_owned(), roles.join(", "), listing.hosts.join(", "), listing.about.to_owned()]
        })
        .collect();
    let width =
        |column: fn(&[String; 4]) -> &String| rows.iter().map(|row| column(row).len()).max().unwrap_or(0);
    let (names, roles, hosts) = (width(|row| &row[0]), width(|row| &row[1]), width(|row| &row[2]));
    for [name, role, host, about] in &rows {
        data(format_args!("{name:names$}  {role:roles$}  {host:hosts$}  {about}"));
    }
}

fn show(listing: &Listing) {
    data(listing.yaml().trim_end());
    data("\n# A policy to start from:");
    data(listing.policy().trim_end());
    for role in listing.roles.iter().filter(|role| !role.scopes.is_empty()) {
        data(format_args!("# scopes of a token for {}: {}", role.name, role.scopes.join(" ")));
    }
}

fn one_as_json(listing: &Listing) -> Result<String, StartError> {
    let wrong = |error: serde_json::Error| StartError::Unavailable(error.to_string());
    let mut value = serde_json::to_value(listing).map_err(wrong)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("yaml".to_owned(), listing.yaml().into());
        fields.insert("policy".to_owned(), listing.policy().into());
    }
    serde_json::to_string_pretty(&value).map_err(wrong)
}
