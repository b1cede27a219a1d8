//! Whether secrets are where the policy says. Never what they are.

use std::collections::{HashMap, hash_map::Entry};

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
    plan::{CredentialSpec, SecretRef},
};

pub(super) fn look(look: &mut Look<'_>) {
    let mut known: HashMap<&SecretRef, Option<String>> = HashMap::new();
    let mut missing = Vec::new();
    for (tenant, integration) in integrations(look.policy) {
        for secret in integration.plan.credential.iter().flat_map(CredentialSpec::secrets) {
            let why = match known.entry(secret) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(place) => place.insert(secret.resolves().err()).clone(),
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
