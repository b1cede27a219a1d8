//! What an integration attaches: references to secrets and where they go. Never a value.

use std::path::Path;

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use super::{
    problem::Findings,
    reader::{self, Fields, list, short},
    source::Span,
    yaml::{Node, Value},
};
use crate::plan::{CredentialSpec, Half, Placement, SecretRef};

/// Kinds that the design names and that come later.
const LATER: [&str; 8] = [
    "oauth",
    "github_app",
    "token_exchange",
    "jwt_bearer",
    "client_credentials",
    "aws_sigv4",
    "service_account",
    "byok",
];
/// Schemes of references that come with the credential store.
const STORES: [&str; 4] = ["secret", "vault", "aws-sm", "exec"];
const PLACES: [&str; 6] = ["bearer", "basic", "header", "headers", "query", "path"];

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// `none`.
    None,
    Static(CredentialSpec),
}

/// Reads a credential. `base` is the directory of the file: relative `file:` references start there.
pub(super) fn read(node: &Node, base: &Path, findings: &mut Findings) -> Option<Credential> {
    // Whatever stands here may be a secret by mistake: no excerpt shows a value that is not a reference.
    conceal(node, findings);
    if let Value::Text(text) = &node.value {
        if text == "none" {
            return Some(Credential::None);
        }
        findings
            .report(node.span, "a credential is `none` or names how it is attached")
            .hint("for example `{static: {bearer: \"env:OPENAI_API_KEY\"}}`");
        return None;
    }
    let known: Vec<&str> = ["static"].into_iter().chain(LATER).collect();
    let fields = Fields::read(node, "a credential", &known, findings)?;
    if let Some((key, _)) = LATER.iter().find_map(|kind| fields.entry(kind)) {
        findings
            .report(key.span, format!("`{}` credentials are not supported yet", key.text))
            .hint("use `static` with a reference for now");
        return None;
    }
    let Some(places) = fields.get("static") else {
        if fields.is_empty() {
            findings
                .report(fields.span(), "the credential is empty")
                .hint("write `credential: none` where none is needed");
        }
        return None;
    };
    let mut reader = Places { base, placements: Vec::new() };
    reader.read(places, findings);
    (!reader.placements.is_empty())
        .then(|| Credential::Static(CredentialSpec { placements: reader.placements }))
}

/// Hides values that are no references from excerpts.
fn conceal(node: &Node, findings: &mut Findings) {
    match &node.value {
        Value::Text(text) => {
            if !is_reference(text) && text != "none" {
                findings.secret(node.span);
            }
        }
        Value::List(items) => items.iter().for_each(|item| conceal(item, findings)),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| conceal(value, findings)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_reference(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(scheme, _)| scheme == "env" || scheme == "file" || STORES.contains(&scheme))
}

struct Places<'b> {
    base: &'b Path,
    placements: Vec<Placement>,
}

impl Places<'_> {
    fn read(&mut self, node: &Node, findings: &mut Findings) {
        let before = findings.count();
        let Some(fields) = Fields::read(node, "`static`", &PLACES, findings) else { return };
        if fields.is_empty() {
            findings
                .report(node.span, "`static` is empty")
                .hint(format!("it holds {}", list(PLACES.into_iter())));
        }
        if let Some(node) = fields.get("bearer")
            && let Some(secret) = self.reference(node, findings)
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
            if let Some(secret) = self.reference(node, findings) {
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
        let Some(fields) = Fields::read(node, "`basic`", &["user", "password"], findings) else { return };
        let user = self.half(fields.get("user"), findings);
        let password = self.half(fields.get("password"), findings);
        let (Some(user), Some(password)) = (user, password) else { return };
        if matches!((&user, &password), (Half::Constant(_), Half::Constant(_))) {
            findings
                .report(node.span, "one half of `basic` is a reference to a secret")
                .hint("for example `{user: x-access-token, password: \"env:GITHUB_TOKEN\"}`");
            return;
        }
        self.placements.push(Placement::Basic { user, password });
    }

    /// A half that is no reference is a constant such as `x-access-token`. A missing half is empty.
    fn half(&self, node: Option<&Node>, findings: &mut Findings) -> Option<Half> {
        let Some(node) = node else { return Some(Half::Constant(String::new())) };
        match &node.value {
            Value::Text(text) if !is_reference(text) => {
                if text.chars().any(char::is_control) {
                    findings.report(node.span, "a half of `basic` has no control characters");
                    return None;
                }
                Some(Half::Constant(text.clone()))
            }
            _ => self.reference(node, findings).map(Half::Secret),
        }
    }

    /// `Name: "env:X"`, `Name: "Token env:X"` or `Name: {prefix: "Token ", secret: "env:X"}`.
    fn header(&mut self, (name, span): (&str, Span), node: &Node, findings: &mut Findings) {
        let Some(name) = header_name(name, span, findings) else { return };
        let (prefix, secret) = match &node.value {
            Value::Map(_) => {
                let Some(fields) = Fields::read(node, "a header", &["prefix", "secret"], findings) else {
                    return;
                };
                let prefix = fields.get("prefix").and_then(|n| reader::text(n, "`prefix`", findings));
                let Some(secret) = fields.get("secret") else {
                    findings.report(node.span, "the header has no `secret`");
                    return;
                };
                (prefix.unwrap_or_default().to_owned(), self.reference(secret, findings))
            }
            Value::Text(text) => match text.rsplit_once(' ').filter(|(_, last)| is_reference(last)) {
                Some((prefix, last)) => (format!("{prefix} "), self.parse(last, node.span, findings)),
                None => (String::new(), self.reference(node, findings)),
            },
            _ => (String::new(), self.reference(node, findings)),
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
        if is_reference(text) {
            findings
                .report(node.span, "`headers` are constants")
                .hint("a reference to a secret goes to `header`");
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
        let secret = self.reference(node, findings);
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

    /// A reference to a secret. A plain value is never repeated: it may be one.
    fn reference(&self, node: &Node, findings: &mut Findings) -> Option<SecretRef> {
        let Value::Text(text) = &node.value else {
            reader::hide(node, findings);
            findings.report(node.span, "a reference to a secret is a text such as `env:NAME` or `file:PATH`");
            return None;
        };
        self.parse(text, node.span, findings)
    }

    fn parse(&self, text: &str, span: Span, findings: &mut Findings) -> Option<SecretRef> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme {
            "env" if is_variable(rest) => return Some(SecretRef::Env(rest.to_owned())),
            "env" => {
                findings.secret(span);
                findings.report(span, "`env:` is followed by the name of an environment variable");
            }
            "file" if !rest.is_empty() && !rest.contains('\0') => {
                return Some(SecretRef::File(self.base.join(rest)));
            }
            "file" => {
                findings.report(span, "`file:` is followed by a path");
            }
            _ if STORES.contains(&scheme) => {
                findings
                    .report(span, format!("`{scheme}:` references are not supported yet: they come with the credential store"))
                    .hint("use `env:NAME` or `file:PATH` for now");
            }
            _ => {
                findings.secret(span);
                findings
                    .report(span, "a plain value stands where a reference to a secret must stand")
                    .hint("use `env:NAME` or `file:PATH`; if the value is a secret, take it out of the file and replace it at the provider");
            }
        }
        None
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
fn header_name(text: &str, span: Span, findings: &mut Findings) -> Option<HeaderName> {
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

fn is_variable(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// For `explain`: what goes where, by reference only.
pub(super) fn describe(credential: Option<&CredentialSpec>) -> String {
    let Some(credential) = credential else { return "none".to_owned() };
    let half = |half: &Half| match half {
        Half::Constant(text) => short(text),
        Half::Secret(secret) => secret.to_string(),
    };
    let places = credential.placements.iter().map(|place| match place {
        Placement::Bearer(secret) => format!("`Authorization: Bearer` from {secret}"),
        Placement::Basic { user, password } => {
            format!("`Authorization: Basic` from {} and {}", half(user), half(password))
        }
        Placement::Header { name, secret, .. } => format!("`{name}` from {secret}"),
        Placement::Constant { name, .. } => format!("`{name}`, a constant"),
        Placement::Query { name, secret } => format!("`?{name}=` from {secret}"),
        Placement::Path { before, prefix, suffix, secret } => {
            let before: String = before.iter().flat_map(|segment| ["/", segment]).collect();
            format!("`{before}/{prefix}*{suffix}` from {secret}")
        }
    });
    places.collect::<Vec<_>>().join(", ")
}
