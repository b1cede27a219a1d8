//! Room 3. Whether: the policy, and the decision that it makes about one request of a verified caller.
//!
//! A policy is read from YAML (`files`), checked part by part (`parts`; every mistake at once), compiled (`policy`),
//! and asked (`judge`). `live` holds the one in force and is the room's door; `reload` swaps it for the next.
//! `catalog` are the known services, and `review` is what people are told about a policy.

mod catalog;
mod files;
mod grant;
mod judge;
mod live;
mod parts;
mod policy;
mod reload;
mod review;

pub use catalog::{Catalogue, ListedRole, Listing, catalogue, catalogued, providers};
pub use files::{
    bundle::{MANIFEST, SIGNATURE, Verification},
    format::{Unformatted, format, policy_files, policy_text},
    problem::{Problem, Problems},
    sign::{SignError, new_key, public_path, sign},
    source::Mark,
};
pub use grant::{Approval, Grant, Granted};
pub use judge::Mode;
pub use live::{Interception, Policies, TunnelWay};
pub use parts::act::Act;
pub use policy::Policy;
pub use reload::Reload;
pub use review::{
    check::{Counts, Report, Strictness, check},
    diff::{Change, Diff, Kind as ChangeKind, diff},
    explain::{Edit, Examined, Explanation, Inquiry, Op, Probe, Remedy, Step},
    lint::{Around, Code as LintCode, Kept, Level, Lint},
    schema::schema,
};

#[cfg(test)]
mod tests;

/// The credential that a policy describes, for tests of the rooms that have it.
#[cfg(test)]
pub(crate) fn test_credential(text: &str) -> crate::plan::CredentialSpec {
    test_credential_with(text, "")
}

/// What a policy with one integration of this text has for it.
#[cfg(test)]
pub(crate) fn test_plan(integration: &str) -> std::sync::Arc<crate::plan::Plan> {
    let text = format!(
        "version: 1\ntenants: {{acme: {{integrations: {{api: {integration}}}, agents: {{bot: {{}}}}}}}}\n"
    );
    let policy = Policy::from_text("policy.yaml", &text)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    policy.tenants().next().unwrap().integration("api").unwrap().plan.clone()
}

/// The same, with further top-level keys of the policy: `providers`.
#[cfg(test)]
pub(crate) fn test_credential_with(text: &str, more: &str) -> crate::plan::CredentialSpec {
    let text = format!(
        "version: 1\nservices: {{api: {{hosts: [api.example], roles: {{reader: [GET /**]}}}}}}\n{more}\n\
         tenants: {{acme: {{integrations: {{api: {{credential: {text}}}}}, agents: {{bot: {{api: reader}}}}}}}}\n"
    );
    let policy = Policy::from_text("policy.yaml", &text).unwrap();
    let tenant = policy.tenants().next().unwrap();
    tenant.integration("api").unwrap().plan.credential.clone().unwrap()
}
