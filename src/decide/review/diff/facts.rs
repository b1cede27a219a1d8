//! What changes of a tenant and its integrations beside who may do what: modes, tiers, credentials, the gateway.

use std::sync::Arc;

use super::{About, Access, Attached, Change, Kind, Side};
use crate::{
    decide::{
        files::{
            outline::{entries, items, text},
            yaml::Node,
        },
        judge::Mode,
        parts::{
            credential,
            host::{HostName, HostPattern},
            tenant::{Integration, TierKind},
        },
    },
    plan::{CredentialSpec, SecretRef},
};

impl Change {
    /// The same, of an integration.
    pub(super) fn on(self, integration: &Integration) -> Self {
        let service = Some(integration.service.plan.id.as_str().into());
        Self { integration: Some(integration.id.as_str().into()), service, ..self }
    }
}

impl Side<'_> {
    /// An integration's credential, by its references alone.
    pub(super) fn attached(&self, tenant: &str, integration: &Integration) -> Attached {
        let spec = integration.plan.credential.as_ref();
        let shown = |secret: &SecretRef| self.shown(tenant, integration, secret);
        Attached {
            tier: integration.tier.as_str(),
            kind: spec.map_or("none", CredentialSpec::kind),
            references: spec.into_iter().flat_map(CredentialSpec::secrets).map(shown).collect(),
            text: credential::describe_as(spec, &shown),
        }
    }

    /// A reference as the policy writes it: without the policy's directory, where a relative one begins.
    fn shown(&self, tenant: &str, integration: &Integration, secret: &SecretRef) -> String {
        let SecretRef::File(path) = secret else { return secret.to_string() };
        match path.strip_prefix(&self.root) {
            // Below a directory with an absolute name, both kinds look alike once they are read.
            Ok(_) if self.root.is_absolute() && self.writes(tenant, integration, &secret.to_string()) => {
                secret.to_string()
            }
            Ok(rest) => format!("file:{}", rest.display()),
            Err(_) => secret.to_string(),
        }
    }

    /// Whether the credential of an integration has this very reference.
    fn writes(&self, tenant: &str, integration: &Integration, reference: &str) -> bool {
        fn has(node: &Node, reference: &str) -> bool {
            text(node).is_some_and(|text| text.ends_with(reference))
                || entries(node).any(|(_, value)| has(value, reference))
                || items(node).iter().any(|item| has(item, reference))
        }
        let keys = ["tenants", tenant, "integrations", integration.id.as_str(), "credential"];
        self.outline.find(&keys).is_some_and(|node| has(node, reference))
    }
}

/// Everything about an integration's credential, to tell whether it is the same. Never shown.
pub(super) fn spec(side: &Side<'_>, tenant: &str, integration: &Integration) -> String {
    let plain = |mut text: String| {
        for secret in integration.plan.secrets() {
            if let SecretRef::File(path) = secret {
                let shown = format!("File({:?})", side.shown(tenant, integration, secret));
                let written = format!("{:?}", SecretRef::File(path.clone()));
                text = text.replace(&written, &shown);
            }
        }
        text
    };
    let certificate = &integration.plan.certificate;
    let certificate = certificate.as_ref().map(|shown| plain(format!("{shown:?}"))).unwrap_or_default();
    let Some(spec) = &integration.plan.credential else { return format!("none{certificate}") };
    let spec = match spec {
        // In which order the places are written makes no difference.
        CredentialSpec::Static(places) => {
            let mut places: Vec<String> = places.iter().map(|place| plain(format!("{place:?}"))).collect();
            places.sort();
            places.join("\n")
        }
        CredentialSpec::Obtained(_) => plain(format!("{spec:?}")),
    };
    spec + &certificate
}

/// The mode of a tenant; none where there is no such tenant, or it is switched off.
pub(super) fn of_modes(tenant: &Arc<str>, old: Option<Mode>, new: Option<Mode>, changes: &mut Vec<Change>) {
    let (kind, what) = match (old, new) {
        (Some(Mode::Enforce) | None, Some(Mode::Shadow)) => {
            let what =
                "is in shadow mode: no role and no guard is enforced, what no role covers goes out, too";
            (Kind::Gain, what)
        }
        (Some(Mode::Shadow), Some(Mode::Enforce)) => {
            (Kind::Stricter, "is in shadow mode no longer: its roles and guards are enforced")
        }
        (Some(Mode::Shadow), None) => {
            (Kind::Stricter, "is in shadow mode no longer: it is gone or switched off, and nothing goes out")
        }
        _ => return,
    };
    let change = Change::of_tenant(tenant, kind, About::Mode, what, "");
    let enforced = new != Some(Mode::Shadow);
    changes.push(Change { access: Some(Access::Write), enforced, ..change });
}

/// What comes with an integration.
pub(super) fn of_integrations(
    tenant: &Arc<str>,
    (old_side, old): (&Side<'_>, &Integration),
    (new_side, new): (&Side<'_>, &Integration),
    changes: &mut Vec<Change>,
) {
    let name = &new.id;
    let mut say = |about: About, what: &str, with: &str| {
        changes.push(Change::of_tenant(tenant, Kind::Changed, about, what, with).on(new));
    };
    if old.tier != new.tier {
        let what = match new.tier {
            TierKind::App => "acts as APP: no user is needed",
            TierKind::User => "acts as USER: the token must name a user",
        };
        say(About::Tier, what, &format!(" on {name}, was {}", old.tier.as_str()));
    }
    let (was, is) = (first_host(old), first_host(new));
    if was != is {
        let (what, with) = match (was, is) {
            (_, None) => ("refuses what comes to the gateway".to_owned(), String::new()),
            (None, Some(is)) => {
                (format!("sends what comes to the gateway to {is}"), ", it was refused".to_owned())
            }
            (Some(was), Some(is)) => {
                (format!("sends what comes to the gateway to {is}"), format!(", was {was}"))
            }
        };
        say(About::Gateway, &what, &format!(" for {name}{with}"));
    }
    if spec(old_side, tenant, old) == spec(new_side, tenant, new) {
        return;
    }
    let (was, is) = (old_side.attached(tenant, old), new_side.attached(tenant, new));
    let (what, with) = match (was.kind, is.kind) {
        ("none", _) => ("attaches a credential", format!(" on {name}: {}, was none", is.text)),
        (_, "none") => ("attaches no credential now", format!(" on {name}, was {}", was.text)),
        _ if was.text == is.text => {
            ("attaches another credential", format!(" on {name}: {}, with other details", is.text))
        }
        _ => ("attaches another credential", format!(" on {name}: {}, was {}", is.text, was.text)),
    };
    let change = Change::of_tenant(tenant, Kind::Changed, About::Credential, what, &with).on(new);
    changes.push(Change { credential: Some(is.into()), old_credential: Some(was.into()), ..change });
}

/// The host that the gateway goes to: the first that is no wildcard.
fn first_host(integration: &Integration) -> Option<String> {
    let exact = |host: &&HostPattern| matches!(host.name, HostName::Exact(_));
    integration.hosts().iter().find(exact).map(HostPattern::to_string)
}
