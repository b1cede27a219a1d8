//! Whether somebody describes who issues tokens.

use super::{Code, Look, secrets::integrations};
use crate::plan::{CredentialSpec, How};

pub(super) fn look(look: &mut Look<'_>) {
    let mut unknown = Vec::new();
    for (tenant, integration) in integrations(look.policy) {
        let Some(CredentialSpec::Obtained(obtained)) = &integration.plan.credential else { continue };
        let How::Undescribed(name) = &obtained.how else { continue };
        let place = |key| {
            let id = integration.id.as_str();
            let keys = ["tenants", tenant, "integrations", id, "credential", obtained.kind, key];
            look.outline.find(&keys).map(|node| node.span)
        };
        let at = place("provider").or_else(|| place("idp")).unwrap_or(integration.span);
        unknown.push((at, name.clone()));
    }
    for (at, name) in unknown {
        look.report(Code::UnknownProvider, at, format!("nobody describes the provider `{name}`")).hint(format!(
            "requests that need it are refused with `credential_missing` until `providers` has it: `{name}: {{token_url: …}}`"
        ));
    }
}
