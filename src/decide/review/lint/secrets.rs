//! Whether secrets are where the policy says, and not in it. Never what they are.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet, hash_map::Entry},
};

use super::{Code, Look};
use crate::{
    decide::{
        files::{
            outline::{entries, items, text},
            source::Span,
            yaml::Node,
        },
        policy::Policy,
    },
    plan::{CredentialSpec, Half, Placement, SecretRef},
    settings::SourceSettings,
};

/// What providers want in the place of a password where the user is the secret.
const FILLERS: [&str; 6] = ["x", "X", "x-oauth-basic", "api_token", "api-token", "unused"];

/// What the store keeps, as far as a check may know.
#[derive(Debug)]
pub enum Kept {
    /// Tenants and names of its secrets.
    Names(HashSet<(String, String)>),
    /// Why it cannot be asked.
    Unknown(String),
}

impl Kept {
    /// What is wrong with a secret of the store, to go after the reference in a sentence.
    fn misses(&self, tenant: &str, name: &str) -> Option<String> {
        match self {
            Self::Names(names) if names.contains(&(tenant.to_owned(), name.to_owned())) => None,
            Self::Names(_) => {
                Some(format!("is not in the store: `egret secret set {name} --tenant {tenant}`"))
            }
            Self::Unknown(why) => Some(format!("cannot be looked for: {why}")),
        }
    }
}

/// What a check may know of where secrets are read. It asks nobody but the store.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Asked when the first secret of the store is met.
    pub kept: &'a dyn Fn() -> Kept,
    /// Asked when the first secret outside of egret is met: what the settings describe, or why they do not load.
    pub sources: &'a dyn Fn() -> Result<SourceSettings, String>,
}

pub(super) fn look(look: &mut Look<'_>, around: Around<'_>) {
    unresolved(look, around);
    constant_passwords(look);
}

/// Passwords that stand in the policy, of an integration or of its own service.
fn constant_passwords(look: &mut Look<'_>) {
    let is_constant = |place: &Placement| match place {
        Placement::Basic { password: Half::Constant(text), .. } => {
            !text.is_empty() && !FILLERS.contains(&text.as_str())
        }
        _ => false,
    };
    let mut found = Vec::new();
    for (tenant, integration) in integrations(look.policy) {
        if !integration.plan.credential.iter().flat_map(CredentialSpec::placements).any(is_constant) {
            continue;
        }
        let own = ["tenants", tenant, "integrations", integration.id.as_str(), "credential", "static"];
        let service = ["services", integration.service.plan.id.as_str(), "attach"];
        let at = [own.as_slice(), service.as_slice()].into_iter().find_map(|keys| {
            let keys = [keys, ["basic", "password"].as_slice()].concat();
            look.outline.find(&keys).map(|node| node.span)
        });
        found.push(at.unwrap_or(integration.span));
    }
    for at in found {
        look.report(Code::ConstantPassword, at, "a password stands in the policy as a text")
            .hint("write a reference such as `env:NAME`; if it was a secret, replace it at the provider");
    }
}

fn unresolved(look: &mut Look<'_>, around: Around<'_>) {
    let mut known: HashMap<&SecretRef, Option<String>> = HashMap::new();
    let kept = LazyCell::new(around.kept);
    let sources = LazyCell::new(around.sources);
    let mut missing = Vec::new();
    for (tenant, integration) in integrations(look.policy) {
        for secret in integration.plan.credential.iter().flat_map(CredentialSpec::secrets) {
            let why = match (secret, known.entry(secret)) {
                // The store's secrets are a tenant's own.
                (SecretRef::Store(name), _) => kept.misses(tenant, name.as_str()),
                (_, Entry::Occupied(known)) => known.get().clone(),
                (_, Entry::Vacant(place)) if secret.settings_key().is_some() => {
                    let lacks = match &*sources {
                        Ok(sources) => sources
                            .lacks(secret)
                            .map(|key| format!("is not described: the settings have no `{key}`")),
                        Err(why) => Some(format!("cannot be looked for: {why}")),
                    };
                    place.insert(lacks).clone()
                }
                (_, Entry::Vacant(place)) => place.insert(secret.resolves().err()).clone(),
            };
            let Some(why) = why else { continue };
            let hint = secret.settings_key().map_or_else(
                || "requests that need it are refused with `credential_missing` until it is there".to_owned(),
                |key| {
                    format!(
                        "describe it as `{key}` in the settings; requests that need it are refused with \
                         `credential_missing` until then"
                    )
                },
            );
            let keys = ["tenants", tenant, "integrations", integration.id.as_str(), "credential"];
            let found = look.outline.find(&keys).and_then(|node| mention(node, secret));
            missing.push((found.unwrap_or(integration.span), format!("`{secret}` {why}"), hint));
        }
    }
    for (at, message, hint) in missing {
        look.report(Code::UnresolvedSecret, at, message).hint(hint);
    }
}

pub(super) fn integrations(policy: &Policy) -> impl Iterator<Item = (&str, &super::Integration)> {
    policy
        .named_tenants()
        .flat_map(|(id, tenant)| tenant.integrations.iter().map(|integration| (id.as_str(), integration)))
}

/// Where a credential mentions a secret. A text may hold words before the reference.
fn mention(node: &Node, secret: &SecretRef) -> Option<Span> {
    if let Some(text) = text(node) {
        let reference = text.rsplit(' ').next().unwrap_or_default();
        let same = match secret {
            SecretRef::File(path) => reference.strip_prefix("file:").is_some_and(|rest| path.ends_with(rest)),
            _ => reference == secret.to_string(),
        };
        return same.then_some(node.span);
    }
    let inside = entries(node).map(|(_, value)| value).chain(items(node));
    inside.into_iter().find_map(|node| mention(node, secret))
}
