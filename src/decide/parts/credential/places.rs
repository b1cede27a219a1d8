//! Where the parts of a credential go: one grammar for an integration's `static`, where the secrets are references,
//! and for a service's `attach`, where they are placeholders.

use std::path::Path;

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use super::super::shape;
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields, list},
        source::Span,
        yaml::{Node, Value},
    },
    plan::{Half, Placement, SecretRef},
    store::SecretName,
};

/// Schemes of references.
const SCHEMES: [&str; 7] = ["env", "file", "secret", "vault", "aws-sm", "exec", "remote"];

/// What stands where a secret goes.
pub(super) trait Slots {
    /// What is kept of it.
    type Slot;
    /// The key that holds the places.
    const WHAT: &'static str;
    /// In a sentence.
    const SLOT: &'static str;
    const EXAMPLE: &'static str;

    /// Whether a text means to be one, well formed or not.
    fn is_slot(&self, text: &str) -> bool;
    /// A text that ends in one: what stands before it, and the slot.
    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)>;
    /// Reads one. A plain value is never repeated: it may be a secret.
    fn parse(&self, text: &str, span: Span, findings: &mut Findings) -> Option<Self::Slot>;
}

/// Reads the places; empty where there are problems.
pub(super) fn read<S: Slots>(node: &Node, slots: &S, findings: &mut Findings) -> Vec<Placement<S::Slot>> {
    let before = findings.count();
    let mut places = Places { slots, placements: Vec::new() };
    places.read(node, findings);
    if findings.count() > before { Vec::new() } else { places.placements }
}

/// References to secrets.
pub(super) struct References<'b> {
    /// Relative `file:` references start here.
    pub(super) base: &'b Path,
}

impl Slots for References<'_> {
    type Slot = SecretRef;
    const WHAT: &'static str = "`static`";
    const SLOT: &'static str = "a reference to a secret";
    const EXAMPLE: &'static str = "env:GITHUB_TOKEN";

    fn is_slot(&self, text: &str) -> bool {
        is_reference(text)
    }

    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let space = text.rfind(' ')?;
        Some(text.split_at(space + 1)).filter(|(_, last)| is_reference(last))
    }

    fn parse(&self, text: &str, span: Span, findings: &mut Findings) -> Option<SecretRef> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let (body, field) = rest.split_once('#').map_or((rest, None), |(body, field)| (body, Some(field)));
        let wrong = match scheme {
            "env" if is_variable(rest) => return Some(SecretRef::Env(rest.to_owned())),
            "env" => "`env:` is followed by the name of an environment variable",
            "file" if !rest.is_empty() && !rest.contains('\0') => {
                return Some(SecretRef::File(self.base.join(rest)));
            }
            "file" => "`file:` is followed by a path",
            "secret" => match SecretName::parse(rest) {
                Ok(name) => return Some(SecretRef::Store(name)),
                Err(_) => "`secret:` is followed by a name of letters, digits, `_`, `.`, `/` and `-`",
            },
            "vault" if is_name(body) && field.is_some_and(is_name) => {
                return field.map(|field| SecretRef::Vault { path: body.into(), field: field.into() });
            }
            "vault" => "`vault:` is followed by `PATH#FIELD`",
            "aws-sm" if is_arn(body) && field.is_none_or(is_name) => {
                let (name, field) = (body.into(), field.map(Into::into));
                return Some(SecretRef::AwsSecretsManager { name, field });
            }
            "aws-sm" => "`aws-sm:` is followed by a name or an ARN, and `#KEY` where the secret is JSON",
            "exec" if is_name(rest) => return Some(SecretRef::Exec(rest.to_owned())),
            "exec" => "`exec:` is followed by the name that the settings give to a program",
            "remote" if is_name(rest) => return Some(SecretRef::Remote(rest.to_owned())),
            "remote" => "`remote:` is followed by the name that the settings give to a token exchange",
            _ => {
                findings.secret(span);
                findings
                    .report(span, "a plain value stands where a reference to a secret must stand")
                    .hint("use `env:NAME` or `file:PATH`; if the value is a secret, take it out of the file and replace it at the provider");
                return None;
            }
        };
        findings.secret(span);
        findings.report(span, wrong);
        None
    }
}

/// Whether a text means to be a reference.
pub(super) fn is_reference(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

fn is_variable(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b))
}

fn is_arn(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-:+=@!".contains(&b))
}

/// Placeholders of a service: `"{secret}"`, `"{NAME}"`.
pub(super) struct Placeholders;

impl Slots for Placeholders {
    type Slot = Box<str>;
    const WHAT: &'static str = "`attach`";
    const SLOT: &'static str = "a placeholder for a secret";
    const EXAMPLE: &'static str = "{secret}";

    fn is_slot(&self, text: &str) -> bool {
        text.contains('{')
    }

    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let brace = text.rfind('{').filter(|brace| *brace > 0 && text.ends_with('}'))?;
        Some(text.split_at(brace))
    }

    fn parse(&self, text: &str, span: Span, findings: &mut Findings) -> Option<Box<str>> {
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = name.filter(|name| is_word(name)) {
            return Some(name.into());
        }
        findings.secret(span);
        findings
            .report(span, "a placeholder such as `\"{secret}\"` must stand where a secret goes")
            .hint("a service holds no secrets and no references; an integration says where they are read");
        None
    }
}

/// A name in braces: `secret`, `account_sid`.
pub(in crate::decide) fn is_word(name: &str) -> bool {
    name.len() <= 32
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The places of one credential while they are read.
struct Places<'s, S: Slots> {
    slots: &'s S,
    placements: Vec<Placement<S::Slot>>,
}

impl<S: Slots> Places<'_, S> {
    fn read(&mut self, node: &Node, findings: &mut Findings) {
        let before = findings.count();
        let Some(fields) = Fields::read(node, S::WHAT, shape::STATIC.keys, findings) else { return };
        if fields.is_empty() {
            findings
                .report(node.span, format!("{} is empty", S::WHAT))
                .hint(format!("it holds {}", list(shape::STATIC.keys.iter().copied())));
        }
        if let Some(node) = fields.get("bearer")
            && let Some(secret) = self.slot(node, findings)
        {
            self.placements.push(Placement::Bearer(secret));
        }
        if let Some(node) = fields.get("basic") {
            self.basic(node, findings);
        }
        for (name, node) in entries(fields.get("header"), "`header`", findings) {
            self.header(name, node, findings);
        }
        for (name, node) in entries(fields.get("headers"), "`headers`", findings) {
            self.constant(name, node, findings);
        }
        for (key, node) in entries(fields.get("query"), "`query`", findings) {
            if let Some(secret) = self.slot(node, findings) {
                self.placements.push(Placement::Query { name: key.0.to_owned(), secret });
            }
        }
        for (pattern, node) in entries(fields.get("path"), "`path`", findings) {
            self.path(pattern, node, findings);
        }
        if findings.count() > before {
            return;
        }
        if self.placements.iter().all(|place| matches!(place, Placement::Constant { .. })) {
            findings
                .report(node.span, "the credential holds no secret")
                .hint("`headers` are constants; a secret goes to `header`");
        }
        if let Some(twice) = self.header_set_twice() {
            findings.report(node.span, format!("two parts of the credential go to `{twice}`"));
        }
    }

    fn header_set_twice(&self) -> Option<HeaderName> {
        let mut seen = Vec::new();
        for place in &self.placements {
            let name = match place {
                Placement::Bearer(_) | Placement::Basic { .. } => &AUTHORIZATION,
                Placement::Header { name, .. } | Placement::Constant { name, .. } => name,
                Placement::Query { .. } | Placement::Path { .. } => continue,
            };
            if seen.contains(&name) {
                return Some(name.clone());
            }
            seen.push(name);
        }
        None
    }

    fn basic(&mut self, node: &Node, findings: &mut Findings) {
        let Some(fields) = Fields::read(node, "`basic`", shape::BASIC.keys, findings) else { return };
        let user = self.half(fields.get("user"), findings);
        let password = self.half(fields.get("password"), findings);
        let (Some(user), Some(password)) = (user, password) else { return };
        if matches!((&user, &password), (Half::Constant(_), Half::Constant(_))) {
            findings
                .report(node.span, format!("one half of `basic` is {}", S::SLOT))
                .hint(format!("for example `{{user: x-access-token, password: \"{}\"}}`", S::EXAMPLE));
            return;
        }
        self.placements.push(Placement::Basic { user, password });
    }

    /// A half that is no reference is a constant such as `x-access-token`. A missing half is empty.
    fn half(&self, node: Option<&Node>, findings: &mut Findings) -> Option<Half<S::Slot>> {
        let Some(node) = node else { return Some(Half::Constant(String::new())) };
        match &node.value {
            Value::Text(text) if !self.slots.is_slot(text) => {
                if text.chars().any(char::is_control) {
                    findings.report(node.span, "a half of `basic` has no control characters");
                    return None;
                }
                Some(Half::Constant(text.clone()))
            }
            _ => self.slot(node, findings).map(Half::Secret),
        }
    }

    /// `Name: "env:X"`, `Name: "Token env:X"` (in a service `"Token token={secret}"`) or
    /// `Name: {prefix: "Token ", secret: "env:X"}`.
    fn header(&mut self, (name, span): (&str, Span), node: &Node, findings: &mut Findings) {
        let Some(name) = header_name(name, span, findings) else { return };
        let (prefix, secret) = match &node.value {
            Value::Map(_) => {
                let Some(fields) = Fields::read(node, "a header", shape::HEADER.keys, findings) else {
                    return;
                };
                let prefix = fields.get("prefix").and_then(|n| reader::text(n, "`prefix`", findings));
                let Some(secret) = fields.get("secret") else {
                    findings.report(node.span, "the header has no `secret`");
                    return;
                };
                (prefix.unwrap_or_default().to_owned(), self.slot(secret, findings))
            }
            Value::Text(text) => match self.slots.split(text) {
                Some((prefix, last)) => (prefix.to_owned(), self.slots.parse(last, node.span, findings)),
                None => (String::new(), self.slot(node, findings)),
            },
            _ => (String::new(), self.slot(node, findings)),
        };
        if HeaderValue::from_str(&prefix).is_err() {
            findings.report(node.span, "the prefix cannot stand in a header");
        } else if let Some(secret) = secret {
            self.placements.push(Placement::Header { name, prefix, secret });
        }
    }

    fn constant(&mut self, (name, span): (&str, Span), node: &Node, findings: &mut Findings) {
        let name = header_name(name, span, findings);
        let Some(text) = reader::text(node, "the value of a header", findings) else { return };
        if self.slots.is_slot(text) {
            findings
                .report(node.span, "`headers` are constants")
                .hint(format!("{} goes to `header`", S::SLOT));
            return;
        }
        match (name, HeaderValue::from_str(text)) {
            (Some(name), Ok(value)) => self.placements.push(Placement::Constant { name, value }),
            (Some(_), Err(_)) => {
                findings.report(node.span, "this cannot stand in a header");
            }
            (None, _) => {}
        }
    }

    /// `/bot*: REF`: the secret stands for the one `*`, in the last segment of the pattern.
    fn path(&mut self, (pattern, span): (&str, Span), node: &Node, findings: &mut Findings) {
        let secret = self.slot(node, findings);
        let parsed = crate::target::Path::parse(pattern).ok().and_then(|path| {
            let mut before: Vec<String> = path.segments().map(ToOwned::to_owned).collect();
            let last = before.pop()?;
            let (prefix, suffix) = last.split_once('*')?;
            let plain = !suffix.contains('*') && before.iter().all(|segment| !segment.contains('*'));
            plain.then(|| (before, prefix.to_owned(), suffix.to_owned()))
        });
        match (parsed, secret) {
            (Some((before, prefix, suffix)), Some(secret)) => {
                self.placements.push(Placement::Path { before, prefix, suffix, secret });
            }
            (None, _) => {
                findings
                    .report(span, "a `path` has one `*`, in its last segment, where the secret goes")
                    .hint("for example `/bot*`");
            }
            (Some(_), None) => {}
        }
    }

    /// What stands where a secret goes.
    fn slot(&self, node: &Node, findings: &mut Findings) -> Option<S::Slot> {
        let Value::Text(text) = &node.value else {
            reader::hide(node, findings);
            findings.report(node.span, format!("{} is a text such as `\"{}\"`", S::SLOT, S::EXAMPLE));
            return None;
        };
        self.slots.parse(text, node.span, findings)
    }
}

type Named<'n> = ((&'n str, Span), &'n Node);

fn entries<'n>(node: Option<&'n Node>, what: &str, findings: &mut Findings) -> Vec<Named<'n>> {
    let Some(node) = node else { return Vec::new() };
    let Some(entries) = reader::mapping(node, what, findings) else { return Vec::new() };
    if entries.is_empty() {
        findings.report(node.span, format!("{what} is empty"));
    }
    entries.into_iter().map(|(key, value)| ((key.text.as_str(), key.span), value)).collect()
}

/// Headers that frame or route a message are the connection's, not the credential's.
pub(super) fn header_name(text: &str, span: Span, findings: &mut Findings) -> Option<HeaderName> {
    const RESERVED: [&str; 12] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "via",
    ];
    let Ok(name) = HeaderName::try_from(text) else {
        findings.report(span, "this is not the name of a header");
        return None;
    };
    if RESERVED.contains(&name.as_str()) {
        findings.report(span, format!("`{name}` is not a credential's to set"));
        return None;
    }
    Some(name)
}
