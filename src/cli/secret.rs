//! `egret secret` and `egret store`.

use std::{
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{SettingsArgs, data, exit, message, serve::runtime};
use crate::{
    context::TenantId,
    secret::Secret,
    serve::StartError,
    settings::StoreSettings,
    store::{SecretName, Store, StoreError, Stored},
};

/// The largest secret, in bytes.
const LARGEST: usize = 64 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Keep a secret, new or in place of an old one; it is read from standard input
    Set(SetArgs),
    /// Put another in the place of a secret that is there; it is read from standard input
    Rotate(SetArgs),
    /// List names, ends of long values, and when they changed; never a value
    List {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Only this tenant's
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON, one object for each line
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret
    Remove(NamedArgs),
}

#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// What policies call it: `secret:NAME`
    name: String,
    /// Whose it is
    #[arg(long, value_name = "TENANT")]
    tenant: String,
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Read it from this file instead
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Make the store, and with `store.key: file:…` its key; the first `egret secret set` does it by itself
    Init(SettingsArgs),
    /// Lock the store with the new `store.key`; the one before it stands in `store.old_keys`
    Rekey {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Make a new data key, too, and seal everything with it
        #[arg(long)]
        data: bool,
    },
}

pub(super) fn secret(command: &SecretCommand) -> Result<u8, StartError> {
    match command {
        SecretCommand::Set(args) => set(args, false),
        SecretCommand::Rotate(args) => set(args, true),
        SecretCommand::List { settings, tenant, json } => {
            let tenant = tenant.as_deref().map(tenant_id).transpose()?;
            let settings = settings.load()?.0.store;
            let all = with_store(async { Store::open(&settings).await?.secrets(tenant.as_ref()).await })?;
            for stored in &all {
                show(stored, *json);
            }
            Ok(exit::OK)
        }
        SecretCommand::Remove(args) => {
            let (settings, tenant, name) = args.read()?;
            let removed =
                with_store(async { Store::open(&settings).await?.remove_secret(&tenant, &name).await })?;
            if !removed {
                message(format_args!("tenant `{tenant}` has no secret `{name}`"));
                return Ok(exit::FINDINGS);
            }
            message(format_args!(
                "removed `{name}` of tenant `{tenant}`; running egrets stop using it within a second"
            ));
            Ok(exit::OK)
        }
    }
}

pub(super) fn store(command: &StoreCommand) -> Result<u8, StartError> {
    match command {
        StoreCommand::Init(settings) => {
            let settings = settings.load()?.0.store;
            with_store(async { Store::open_or_create(&settings).await.map(drop) })?;
            made(&settings);
        }
        StoreCommand::Rekey { settings, data } => {
            let settings = settings.load()?.0.store;
            let (keys, rows) = with_store(async {
                let store = Store::open(&settings).await?;
                let keys = store.rekey().await?;
                Ok((keys, if *data { Some(store.renew().await?) } else { None }))
            })?;
            message(format_args!("data keys that are newly locked with `{}`: {keys}", settings.key));
            if let Some(rows) = rows {
                message(format_args!("rows that are sealed with a new data key: {rows}"));
            }
        }
    }
    Ok(exit::OK)
}

impl NamedArgs {
    fn read(&self) -> Result<(StoreSettings, TenantId, SecretName), StartError> {
        let name = SecretName::parse(&self.name).map_err(|expected| {
            StartError::Configuration(format!("`{}` is no name of a secret: it is {expected}", self.name))
        })?;
        Ok((self.settings.load()?.0.store, tenant_id(&self.tenant)?, name))
    }
}

fn set(args: &SetArgs, must_be_there: bool) -> Result<u8, StartError> {
    let (settings, tenant, name) = args.named.read()?;
    let value = read_secret(args.file.as_deref())?;
    let done = with_store(async {
        let store = match Store::open(&settings).await {
            Err(StoreError::Absent(_)) if !must_be_there => {
                let store = Store::open_or_create(&settings).await?;
                made(&settings);
                store
            }
            opened => opened?,
        };
        if must_be_there && store.secret_generation(&tenant, &name).await?.is_none() {
            return Ok(None);
        }
        store.set_secret(&tenant, &name, &value).await.map(Some)
    })?;
    match done {
        None => {
            message(format_args!(
                "tenant `{tenant}` has no secret `{name}` to rotate; `egret secret set` makes it"
            ));
            return Ok(exit::FINDINGS);
        }
        Some(true) => {
            message(format_args!(
                "replaced `{name}` of tenant `{tenant}`; running egrets use the new one within a second"
            ));
        }
        Some(false) => {
            message(format_args!("kept `{name}` of tenant `{tenant}`: `secret:{name}` in a policy"));
        }
    }
    Ok(exit::OK)
}

fn made(settings: &StoreSettings) {
    message(format_args!("the store is `{}`, its key `{}`", settings.url, settings.key));
    message(
        "keep a copy of the key apart from copies of the store: without it, nothing of the store can be read",
    );
}

/// The value: from a file, a pipe, or a person who types it unseen.
pub(super) fn read_secret(file: Option<&Path>) -> Result<Secret, StartError> {
    let unreadable =
        |error: io::Error| StartError::Unavailable(format!("the secret cannot be read: {error}"));
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    let limit = LARGEST as u64 + 1;
    match file {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| StartError::Unavailable(format!("{}: {error}", path.display())))?;
            file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        None if io::stdin().is_terminal() => {
            let typed = rpassword::prompt_password("The secret (it is not shown): ").map_err(unreadable)?;
            bytes.extend_from_slice(zeroize::Zeroizing::new(typed).as_bytes());
        }
        None => {
            io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        }
    }
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() || trimmed.len() > LARGEST {
        let what = if trimmed.is_empty() {
            "is empty".to_owned()
        } else {
            format!("is larger than {LARGEST} bytes")
        };
        return Err(StartError::Configuration(format!("the secret {what}; nothing was changed")));
    }
    Ok(Secret::new(trimmed.to_vec()))
}

fn show(stored: &Stored, as_json: bool) {
    let changed =
        OffsetDateTime::from_unix_timestamp(stored.changed_at).ok().and_then(|at| at.format(&Rfc3339).ok());
    let changed = changed.unwrap_or_default();
    if as_json {
        data(json!({
            "tenant_id": stored.tenant.as_str(),
            "name": stored.name.as_str(),
            "masked": stored.masked,
            "changed_at": changed,
        }));
    } else {
        let masked = stored.masked.as_deref().unwrap_or("…");
        data(format_args!(
            "{:<16} {:<32} {masked:<6} {changed}",
            stored.tenant.as_str(),
            stored.name.as_str()
        ));
    }
}

pub(super) fn tenant_id(text: &str) -> Result<TenantId, StartError> {
    TenantId::parse(text)
        .map_err(|problem| StartError::Configuration(format!("`{text}` is no tenant: {problem}")))
}

/// Does something with the store.
pub(super) fn with_store<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StartError> {
    runtime(1)?.block_on(work).map_err(|error| {
        if error.is_transient() {
            StartError::Unavailable(error.to_string())
        } else {
            StartError::Configuration(error.to_string())
        }
    })
}
