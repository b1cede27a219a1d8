//! Whether secrets are where the policy says. Never what they are.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    super::{
        outline::{entries, items, text},
        policy::Policy,
        source::Span,
        yaml::Node,
    },
    Code, Look,
};
use crate::plan::{CredentialSpec, SecretRef};

pub(super) fn look(look: &mut Look<'_>) {
    let mut known: HashMap<&SecretRef, Option<&'static str>> = HashMap::new();
    let mut missing = Vec::new();
    for (tenant, integration) in integrations(look.policy) {
        for secret in integration.plan.credential.iter().flat_map(CredentialSpec::secrets) {
            let why = match known.entry(secret) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(lacks(secret)),
            };
            let Some(why) = why else { continue };
            let keys = ["tenants", tenant, "integrations", integration.id.as_str(), "credential"];
            let found = look.outline.find(&keys).and_then(|node| mention(node, secret));
            missing.push((found.unwrap_or(integration.span), format!("`{secret}` {why}")));
        }
    }
    for (at, message) in missing {
        look.report(Code::UnresolvedSecret, at, message)
            .hint("requests that need it are refused with `credential_missing` until it is there");
    }
}

fn integrations(policy: &Policy) -> impl Iterator<Item = (&str, &super::Integration)> {
    policy
        .named_tenants()
        .flat_map(|(id, tenant)| tenant.integrations.iter().map(|integration| (id.as_str(), integration)))
}

/// What is wrong with the place of a secret; none where something is there.
fn lacks(secret: &SecretRef) -> Option<&'static str> {
    match secret {
        SecretRef::Env(name) => match std::env::var_os(name) {
            None => Some("is not set"),
            Some(value) if value.is_empty() => Some("is set but empty"),
            Some(_) => None,
        },
        SecretRef::File(path) => match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist"),
            Err(_) => Some("cannot be read"),
            Ok(file) if file.is_dir() => Some("is a directory"),
            Ok(file) if file.len() == 0 => Some("is empty"),
            Ok(_) if std::fs::File::open(path).is_err() => Some("cannot be read"),
            Ok(_) => None,
        },
    }
}

/// Where a credential mentions a secret. A text may hold words before the reference.
fn mention(node: &Node, secret: &SecretRef) -> Option<Span> {
    if let Some(text) = text(node) {
        let reference = text.rsplit(' ').next().unwrap_or_default();
        let same = match secret {
            SecretRef::File(path) => reference.strip_prefix("file:").is_some_and(|rest| path.ends_with(rest)),
            SecretRef::Env(_) => reference == secret.to_string(),
        };
        return same.then_some(node.span);
    }
    let inside = entries(node).map(|(_, value)| value).chain(items(node));
    inside.into_iter().find_map(|node| mention(node, secret))
}
