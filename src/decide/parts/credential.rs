//! What an integration attaches: references to secrets and where they go. Never a value.

use std::{path::Path, sync::Arc};

use super::{provider::Providers, shape};
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields, list, short},
        source::Span,
        yaml::{Node, Value},
    },
    plan::{CertificateRef, CredentialSpec, Half, Placement, SecretRef, TokenPlaces},
};

mod obtained;
mod places;

pub(in crate::decide) use places::is_word;
use places::{Placeholders, References, Slots as _, is_reference};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::decide) enum Credential {
    /// `none`.
    None,
    Attached(CredentialSpec),
}

/// Where a service wants its secrets: an integration then only says where they are read.
#[derive(Debug)]
pub(in crate::decide) struct Attach {
    placements: Vec<Placement<Box<str>>>,
}

impl Attach {
    /// Reads a service's `attach`.
    pub(in crate::decide) fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        // A secret may stand here by mistake: no excerpt shows what is no placeholder.
        reader::hide_but(node, &|text| Placeholders.is_slot(text), findings);
        let placements = places::read(node, &Placeholders, findings);
        (!placements.is_empty()).then_some(Self { placements })
    }

    /// The names of its placeholders, each once, in the order of their places.
    pub(in crate::decide) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.placements.iter().flat_map(Placement::secrets) {
            if !names.contains(&&**name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether it is only ever the user beside a secret password (RFC 7617): an account, an address. That may stand
    /// in the policy itself, and then answers are not scrubbed of it.
    pub(in crate::decide) fn is_user(&self, name: &str) -> bool {
        self.placements.iter().all(|place| match place {
            Placement::Basic { password: Half::Secret(password), .. } => **password != *name,
            place => place.secrets().all(|other| **other != *name),
        })
    }

    /// The places themselves.
    fn places(&self) -> TokenPlaces {
        self.placements.as_slice().into()
    }

    fn fill(&self, parts: &[(&str, Half)]) -> Option<CredentialSpec> {
        let fill = |place: &Placement<Box<str>>| {
            place.fill(|name| {
                let found = parts.iter().find(|(known, _)| **known == **name);
                found.map(|(_, part)| part.clone())
            })
        };
        self.placements.iter().map(fill).collect::<Option<_>>().map(CredentialSpec::Static)
    }
}

/// What an integration's credential may lean on.
#[derive(Debug, Clone, Copy)]
pub(in crate::decide) struct Around<'a> {
    /// The directory of the file: relative `file:` references start there.
    pub(in crate::decide) base: &'a Path,
    /// The service's name and where it wants its secrets; none where the service is not known.
    pub(in crate::decide) service: Option<(&'a str, Option<&'a Attach>)>,
    /// Where the service wants a token.
    pub(in crate::decide) token_places: Option<&'a Attach>,
    /// Who issues tokens.
    pub(in crate::decide) providers: &'a Providers,
    /// What the integration gives to variables.
    pub(in crate::decide) vars: Option<&'a Node>,
}

/// Reads what egret shows in a handshake.
pub(in crate::decide) fn read_certificate(
    node: &Node,
    around: Around<'_>,
    findings: &mut Findings,
) -> Option<CertificateRef> {
    reader::hide_but(node, &|text| is_reference(text), findings);
    let fields = Fields::read(node, "`certificate`", shape::CERTIFICATE.keys, findings)?;
    for key in shape::CERTIFICATE.keys.iter().filter(|key| fields.get(key).is_none()) {
        findings.report(node.span, format!("`certificate` has no `{key}`"));
    }
    let mut part = |key: &str| obtained::reference(fields.get(key)?, around, findings);
    let (chain, key) = (part("chain"), part("key"));
    Some(CertificateRef { chain: chain?, key: key? })
}

/// Reads a credential.
pub(in crate::decide) fn read(
    node: &Node,
    around: Around<'_>,
    findings: &mut Findings,
) -> Option<Credential> {
    // Whatever stands here may be a secret by mistake: no excerpt shows a value that is not a reference.
    reader::hide_but(node, &|text| is_reference(text) || text == "none", findings);
    let references = References { base: around.base };
    if let Value::Text(text) = &node.value {
        if text == "none" {
            return Some(Credential::None);
        }
        if is_reference(text) {
            let secret = references.parse(text, node.span, findings);
            return attach_one(node.span, secret, around, findings).map(Credential::Attached);
        }
        findings
            .report(node.span, "a credential is `none`, a reference to a secret, or names how it is attached")
            .hint("for example `\"env:OPENAI_API_KEY\"` or `{static: {bearer: \"env:OPENAI_API_KEY\"}}`");
        return None;
    }
    let known = shape::CREDENTIAL_KINDS.keys;
    let fields = Fields::read(node, "a credential", known, findings)?;
    let mut kinds = known.iter().filter_map(|kind| fields.entry(kind));
    let Some((kind, value)) = kinds.next() else {
        if fields.is_empty() {
            findings
                .report(fields.span(), "the credential is empty")
                .hint("write `credential: none` where none is needed");
        }
        return None;
    };
    if let Some((second, _)) = kinds.next() {
        findings
            .report(second.span, format!("a credential is of one kind: `{}` or `{}`", kind.text, second.text))
            .also(kind.span, "the other");
        return None;
    }
    let spec = match kind.text.as_str() {
        "static" => Some(places::read(value, &references, findings))
            .filter(|placements| !placements.is_empty())
            .map(|placements| CredentialSpec::Static(placements.into())),
        "secrets" => attach_named(value, &references, around, findings),
        _ => {
            // As the grammar writes it, which lives as long as egret.
            let kind = known.iter().find(|known| **known == kind.text).copied().unwrap_or_default();
            obtained::read(kind, value, around, findings)
                .map(|obtained| CredentialSpec::Obtained(Arc::new(obtained)))
        }
    };
    spec.map(Credential::Attached)
}

/// `credential: REF`: the one secret of a service that says where it goes.
fn attach_one(
    span: Span,
    secret: Option<SecretRef>,
    around: Around<'_>,
    findings: &mut Findings,
) -> Option<CredentialSpec> {
    let attach = attach_of(span, around, findings)?;
    match (attach.names().as_slice(), secret) {
        ([name], Some(secret)) => attach.fill(&[(name, Half::Secret(secret))]),
        ([_], None) => None,
        (names, _) => {
            let value = |name: &&str| if attach.is_user(name) { "TEXT" } else { "REF" };
            let example: Vec<String> = names.iter().map(|name| format!("{name}: {}", value(name))).collect();
            findings
                .report(
                    span,
                    format!("the service attaches several secrets: {}", list(names.iter().copied())),
                )
                .hint(format!("write `credential: {{secrets: {{{}}}}}`", example.join(", ")));
            None
        }
    }
}

/// `credential: {secrets: {NAME: REF, …}}`.
fn attach_named(
    node: &Node,
    references: &References<'_>,
    around: Around<'_>,
    findings: &mut Findings,
) -> Option<CredentialSpec> {
    let attach = attach_of(node.span, around, findings);
    let entries = reader::mapping(node, "`secrets`", findings)?;
    let mut parts = Vec::with_capacity(entries.len());
    let names = attach.map(Attach::names).unwrap_or_default();
    for (key, value) in entries {
        let Value::Text(text) = &value.value else {
            reader::hide(value, findings);
            findings.report(value.span, "a reference to a secret is a text such as `\"env:NAME\"`");
            continue;
        };
        if attach.is_some() && !names.contains(&key.text.as_str()) {
            findings.report(key.span, format!("the service attaches no secret `{}`", short(&key.text)));
            match findings.closest(&key.text, names.iter().copied()) {
                Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
                None => findings.hint(format!("it attaches {}", list(names.iter().copied()))),
            };
        }
        if !is_reference(text) && attach.is_some_and(|attach| attach.is_user(&key.text)) {
            if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
                findings.report(value.span, "a user is a text without `:` and control characters (RFC 7617)");
            }
            parts.push((key.text.as_str(), Half::Constant(text.clone())));
        } else if let Some(secret) = references.parse(text, value.span, findings) {
            parts.push((key.text.as_str(), Half::Secret(secret)));
        }
    }
    let attach = attach?;
    let Value::Map(written) = &node.value else { return None };
    for name in names.iter().filter(|name| !written.iter().any(|(key, _)| key.text == **name)) {
        findings
            .report(node.span, format!("the secret `{name}` is missing"))
            .hint(format!("add `{name}: REF`, such as `{name}: \"env:NAME\"`"));
    }
    attach.fill(&parts)
}

/// Where the service wants its secrets. A service that is not known was reported elsewhere.
fn attach_of<'a>(span: Span, around: Around<'a>, findings: &mut Findings) -> Option<&'a Attach> {
    let (service, attach) = around.service?;
    if attach.is_none() {
        findings
            .report(span, format!("the service `{}` does not say where a secret goes", short(service)))
            .hint("write how it is attached, such as `{static: {bearer: \"env:NAME\"}}`, or give the service `attach`");
    }
    attach
}

/// For `explain`: what goes where, by reference only.
pub(in crate::decide) fn describe(credential: Option<&CredentialSpec>) -> String {
    describe_as(credential, &SecretRef::to_string)
}

/// As `describe`, with references as they are to be shown. No constant is: it may be a secret by mistake.
pub(in crate::decide) fn describe_as(
    credential: Option<&CredentialSpec>,
    shown: &dyn Fn(&SecretRef) -> String,
) -> String {
    match credential {
        None => "none".to_owned(),
        Some(CredentialSpec::Static(placements)) => {
            placements.iter().map(|place| describe_place(place, shown)).collect::<Vec<_>>().join(", ")
        }
        Some(spec @ CredentialSpec::Obtained(obtained)) => {
            let secrets: Vec<String> = spec.secrets().into_iter().map(shown).collect();
            let with =
                if secrets.is_empty() { String::new() } else { format!(" with {}", secrets.join(", ")) };
            format!("`{}`{with}", obtained.kind)
        }
    }
}

fn describe_place(place: &Placement, shown: &dyn Fn(&SecretRef) -> String) -> String {
    let half = |half: &Half| match half {
        Half::Constant(text) if text.is_empty() => "nothing".to_owned(),
        Half::Constant(_) => "a constant".to_owned(),
        Half::Secret(secret) => shown(secret),
    };
    match place {
        Placement::Bearer(secret) => format!("`Authorization: Bearer` from {}", shown(secret)),
        Placement::Basic { user, password } => {
            format!("`Authorization: Basic` from {} and {}", half(user), half(password))
        }
        Placement::Header { name, secret, .. } => format!("`{name}` from {}", shown(secret)),
        Placement::Constant { name, .. } => format!("`{name}`, a constant"),
        Placement::Query { name, secret } => format!("`?{name}=` from {}", shown(secret)),
        Placement::Path { before, prefix, suffix, secret } => {
            let before: String = before.iter().flat_map(|segment| ["/", segment]).collect();
            format!("`{before}/{prefix}*{suffix}` from {}", shown(secret))
        }
    }
}
