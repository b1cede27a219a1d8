//! Sources outside of egret, which the settings describe: what they are asked for, and what is kept of it.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    aws_sm::AwsSm,
    exec,
    kept::{Fault, Held, Shelf},
    remote::Remote,
    vault::Vault,
};
use crate::{
    fetch::Calls,
    plan::SecretRef,
    settings::{Program, SourceSettings},
};

/// Programs, Vault, AWS Secrets Manager and token exchanges, with what they gave. Cheap to clone.
///
/// They are the operator's: all tenants whose policies name one reference have one secret, and one fetch.
#[derive(Clone, Default)]
pub struct Outside(Arc<Described>);

/// What the settings describe.
#[derive(Default)]
struct Described {
    exec: HashMap<String, Arc<Program>>,
    vault: Option<Arc<Vault>>,
    aws_sm: Option<Arc<AwsSm>>,
    remote: HashMap<String, Arc<Remote>>,
    shelf: Shelf,
}

impl Outside {
    /// Asks nobody yet: a source is asked when a secret of it is first needed.
    pub fn new(settings: &SourceSettings, calls: &Arc<dyn Calls>) -> Self {
        let remote = settings.remote.iter().map(|(name, settings)| {
            (name.clone(), Arc::new(Remote { settings: settings.clone(), calls: calls.clone() }))
        });
        Self(Arc::new(Described {
            exec: settings.exec.iter().map(|(name, program)| (name.clone(), program.clone())).collect(),
            vault: settings.vault.clone().map(|vault| Arc::new(Vault::new(vault, calls.clone()))),
            aws_sm: settings.aws_sm.clone().map(|aws| Arc::new(AwsSm::new(aws, calls.clone()))),
            remote: remote.collect(),
            shelf: Shelf::default(),
        }))
    }

    /// What a reference leads to, all fields of it; none where no settings describe its source.
    pub(super) async fn get(&self, reference: &SecretRef) -> Result<Option<Arc<Held>>, Fault> {
        let Described { exec, vault, aws_sm, remote, shelf } = &*self.0;
        let place = place(reference);
        let held = match reference {
            SecretRef::Exec(name) => {
                let Some(program) = exec.get(name).cloned() else { return Ok(None) };
                shelf.get(&place, |_| async move { exec::read(&program).await }).await
            }
            SecretRef::Vault { path, .. } => {
                let Some(vault) = vault.clone() else { return Ok(None) };
                let path = path.clone();
                shelf.get(&place, |before| async move { vault.read(&path, before).await }).await
            }
            SecretRef::AwsSecretsManager { name, .. } => {
                let Some(aws) = aws_sm.clone() else { return Ok(None) };
                let name = name.clone();
                shelf.get(&place, |_| async move { aws.read(&name).await }).await
            }
            SecretRef::Remote(name) => {
                let Some(remote) = remote.get(name).cloned() else { return Ok(None) };
                shelf.get(&place, |_| async move { remote.read().await }).await
            }
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::Store(_) => return Ok(None),
        };
        held.map(Some)
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside(..)")
    }
}

/// What a reference leads to, whichever field of it.
pub(super) fn place(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Vault { path, .. } => format!("vault:{path}"),
        SecretRef::AwsSecretsManager { name, .. } => format!("aws-sm:{name}"),
        other => other.to_string(),
    }
}

/// Which part of it.
pub(super) fn field(reference: &SecretRef) -> Option<&str> {
    match reference {
        SecretRef::Vault { field, .. } => Some(field),
        SecretRef::AwsSecretsManager { field, .. } => field.as_deref(),
        _ => None,
    }
}
