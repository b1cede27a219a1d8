//! Credentials that are obtained for a time. Each kind comes down to steps that are data (`plan::Recipe`).

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header};

use super::{
    super::{provider, service, shape},
    Around, Attach,
    places::{self, Placeholders, References, Slots as _, is_reference, is_word},
};
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields, list, short},
        source::Span,
        yaml::{Key, Node, Value},
    },
    fetch::FetchUrl,
    plan::{
        BodyForm, CertificateRef, Half, How, JsonTemplate, Obtained, Placement, PrivateReach, Provider,
        SecretRef, Step, StepBody, Template, TokenPlaces,
    },
};

mod accounts;
mod aws;
mod client;
mod grants;
mod steps;

/// What templates may name.
type Values = Vec<(Box<str>, Half)>;
/// Parameters of a request.
type Params = Vec<(Box<str>, Template)>;

/// Reads a credential of one kind. None where something is wrong with it.
pub(super) fn read(
    kind: &'static str,
    node: &Node,
    around: Around<'_>,
    findings: &mut Findings,
) -> Option<Obtained> {
    let before = findings.count();
    let record = shape::obtained(kind)?;
    let fields = Fields::read(node, &format!("`{kind}`"), record.keys, findings)?;
    require(kind, record.required, &fields, node, findings);
    let mut keys = Keys { kind, node, fields, around, findings };
    let how = match kind {
        "oauth" => keys.oauth(),
        "client_credentials" => keys.client_credentials(),
        "jwt_bearer" => keys.jwt_bearer(),
        "token_exchange" => keys.token_exchange(),
        "jwt" => keys.jwt(),
        "github_app" => keys.github_app(),
        "service_account" => keys.service_account(),
        "workload_identity" => keys.workload_identity(),
        "aws_sigv4" => keys.aws_sigv4(),
        "login" => keys.login(),
        "signature" => Some(keys.signature()),
        _ => Some(keys.byok()),
    };
    let places = keys.places(how.as_ref());
    let (how, places) = (how?, places?);
    (findings.count() == before).then_some(Obtained { kind, how, places })
}

/// Of two keys in a group exactly one must be there, of more at least one.
fn require(kind: &str, groups: &[&[&str]], fields: &Fields<'_>, node: &Node, findings: &mut Findings) {
    for group in groups {
        let found: Vec<&str> = group.iter().filter(|key| fields.get(key).is_some()).copied().collect();
        match (group, found.as_slice()) {
            ([one], []) => {
                findings.report(node.span, format!("`{kind}` has no `{one}`"));
            }
            (group, []) => {
                let either: Vec<String> = group.iter().map(|key| format!("`{key}`")).collect();
                findings.report(node.span, format!("`{kind}` has neither {}", either.join(" nor ")));
            }
            ([_, _], [one, other]) => {
                findings.report(node.span, format!("`{kind}` has `{one}` or `{other}`, not both"));
            }
            _ => {}
        }
    }
}

/// The keys of one credential, and how each of them is read. Every getter reports what is wrong with its key.
struct Keys<'s, 'n> {
    kind: &'static str,
    node: &'n Node,
    fields: Fields<'n>,
    around: Around<'s>,
    findings: &'s mut Findings,
}

impl Keys<'_, '_> {
    fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some()
    }

    /// A text that is not secret.
    fn text(&mut self, key: &str) -> Option<String> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            self.findings.report(node.span, format!("`{key}` is empty or has control characters"));
            return None;
        }
        if is_reference(text) && !text.contains("://") {
            self.findings.report(node.span, format!("`{key}` is not secret: it stands in the policy itself"));
            return None;
        }
        Some(text.to_owned())
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.fields.get(key) else { return Vec::new() };
        reader::each(node, &format!("`{key}`"), self.findings, |text| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            plain
                .then(|| text.to_owned())
                .ok_or_else(|| "an item of it has visible characters only".to_owned())
        })
    }

    fn flag(&mut self, key: &str) -> bool {
        let node = self.fields.get(key);
        node.and_then(|node| reader::flag(node, &format!("`{key}`"), self.findings)).unwrap_or(false)
    }

    fn word<T: Clone>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let node = self.fields.get(key)?;
        reader::word(node, &format!("`{key}`"), words, self.findings)
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let node = self.fields.get(key)?;
        reader::duration(node, &format!("`{key}`"), self.findings)
    }

    fn number(&mut self, key: &str) -> Option<u64> {
        let node = self.fields.get(key)?;
        let number = match &node.value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.findings.report(node.span, format!("`{key}` is a whole number, such as `12345`"));
        }
        number
    }

    fn reference(&mut self, key: &str) -> Option<SecretRef> {
        let node = self.fields.get(key)?;
        read_reference(node, self.around, self.findings)
    }

    /// A reference, or a value that is not secret with this provider.
    fn half(&mut self, key: &str) -> Option<Half> {
        match self.fields.get(key).map(|node| &node.value) {
            Some(Value::Text(text)) if is_reference(text) => self.reference(key).map(Half::Secret),
            _ => self.text(key).map(Half::Constant),
        }
    }

    /// Which private addresses may be dialled for it.
    fn private(&mut self) -> PrivateReach {
        let node = self.fields.get("allow_private_addresses");
        node.map_or(PrivateReach::Nowhere, |node| service::read_private(node, self.findings))
    }

    fn certificate(&mut self) -> Option<CertificateRef> {
        let node = self.fields.get("certificate")?;
        super::read_certificate(node, self.around, self.findings)
    }

    /// A URL without variables.
    fn url(&mut self, key: &str) -> Option<FetchUrl> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        self.parse_url(text, node.span, key)
    }

    fn parse_url(&mut self, text: &str, span: Span, what: &str) -> Option<FetchUrl> {
        let url = FetchUrl::parse(text).ok().filter(provider::is_callable);
        if url.is_none() {
            self.findings
                .report(span, format!("`{what}` is a URL that begins with `https://`"))
                .hint("for example `https://auth.example.com/oauth/token`");
        }
        url
    }

    /// A URL of a provider with the values that the credential or its integration gives the variables.
    fn filled(&mut self, text: &str, what: &str) -> Option<FetchUrl> {
        let filled = self.fill(text)?;
        self.parse_url(&filled, self.node.span, what)
    }

    fn fill(&mut self, text: &str) -> Option<String> {
        let own = self.fields.get("vars");
        let value = |name: &str| {
            let nodes = [own, self.around.vars];
            let found = nodes.into_iter().flatten().find_map(|vars| vars.get(name)?.as_text());
            // A host may have a port.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            found.filter(|text| !text.is_empty() && text.chars().all(plain)).map(ToOwned::to_owned)
        };
        let filled = provider::fill(text, value);
        if filled.is_none() {
            let names = list(provider::variables(text).into_iter());
            self.findings
                .report(self.node.span, format!("a URL has variables that have no value here: {names}"))
                .hint(
                    "write `vars: {NAME: VALUE}` in the credential: letters, digits, `-`, `_`, `.` and `:`",
                );
        }
        filled
    }

    /// The provider that a key names. None where there is none of this name: the policy loads, and requests are
    /// refused until it is described.
    fn provider(&mut self, key: &str) -> Option<Arc<Provider>> {
        let node = self.fields.get(key)?;
        let name = reader::text(node, &format!("`{key}`"), self.findings)?.to_owned();
        if !provider::is_name(&name) {
            self.findings.report(node.span, format!("`{key}` is the name of a provider"));
            return None;
        }
        self.around.providers.get(&name, node.span, self.findings)
    }

    /// What is issued by whom: the provider that `key` names, or one that only has a token endpoint.
    fn issuer(&mut self, key: &str) -> Option<Arc<Provider>> {
        if self.has(key) {
            return self.provider(key);
        }
        let node = self.fields.get("token_url")?;
        self.url("token_url")?;
        Some(Arc::new(Provider::at(node.as_text()?)))
    }

    /// Further parameters, without secrets.
    fn params(&mut self, key: &str) -> Params {
        let Some(node) = self.fields.get(key) else { return Vec::new() };
        let entries = reader::mapping(node, &format!("`{key}`"), self.findings).unwrap_or_default();
        let pair = |(key, node): (&Key, &Node)| {
            let text = reader::text(node, "a parameter", self.findings)?;
            Some((key.text.as_str().into(), Template::text(text)))
        };
        entries.into_iter().filter_map(pair).collect()
    }

    /// Texts with holes, by name. Each hole must be one of `names`.
    fn templates(&mut self, node: Option<&Node>, what: &str, names: &[&str]) -> Params {
        let Some(node) = node else { return Vec::new() };
        let entries = reader::mapping(node, what, self.findings).unwrap_or_default();
        let pair = |(key, node): (&Key, &Node)| {
            Some((key.text.as_str().into(), template(node, names, self.findings)?))
        };
        entries.into_iter().filter_map(pair).collect()
    }

    /// Where the token goes: as the credential says, or the service; otherwise to `Authorization: Bearer`.
    fn places(&mut self, how: Option<&How>) -> Option<TokenPlaces> {
        if matches!(how, Some(How::Aws(_) | How::Signature(_))) {
            return Some(Arc::default());
        }
        let kept: Vec<&str> = how.map(How::kept).unwrap_or_default();
        if let Some(node) = self.fields.get("attach") {
            reader::hide_but(node, &|text| Placeholders.is_slot(text), self.findings);
            let placements = places::read(node, &Placeholders, self.findings);
            if placements.is_empty() {
                return None;
            }
            let known = |name: &str| name == "token" || kept.contains(&name);
            for name in placements.iter().flat_map(Placement::secrets).filter(|name| !known(name)) {
                self.findings
                    .report(node.span, format!("a token has no part `{}`", short(name)))
                    .hint("its parts are `token` and what `keep` keeps of the answer");
            }
            return Some(placements.into());
        }
        let service = self.around.token_places.map(Attach::places);
        Some(service.unwrap_or_else(|| Arc::new([Placement::Bearer("token".into())])))
    }
}

impl Provider {
    /// A provider that is nothing but an endpoint that answers as RFC 6749 has it.
    fn at(token_url: &str) -> Self {
        Self {
            name: "".into(),
            issuer: None,
            token_url: token_url.into(),
            refresh_url: None,
            authorize_url: None,
            device_url: None,
            revoke_url: None,
            pkce: true,
            scope_param: "scope".into(),
            scope_separator: " ".into(),
            scopes: Box::default(),
            authorize_params: Box::default(),
            token_params: Box::default(),
            refresh_params: Box::default(),
            headers: Box::default(),
            client_auth: None,
            body: BodyForm::Form,
            answer: crate::plan::AnswerShape::default(),
            rotation: crate::plan::Rotation::default(),
            reuse_grace: None,
            ahead: None,
            errors: Box::default(),
            private: PrivateReach::Nowhere,
        }
    }

    /// A request to one of its endpoints.
    fn step(&self, url: FetchUrl, params: Params, headers: &[(HeaderName, Template)]) -> Step {
        let constant = |value: &HeaderValue| Template::text(value.to_str().unwrap_or_default());
        let mut all = vec![(header::ACCEPT, Template::text("application/json"))];
        let own = self.headers.iter().map(|(name, value)| (name.clone(), constant(value)));
        for (name, value) in own.chain(headers.iter().cloned()) {
            all.retain(|(other, _)| *other != name);
            all.push((name, value));
        }
        let body = match self.body {
            BodyForm::Form => StepBody::Form(params.into()),
            BodyForm::Json => {
                let member = |(name, value)| (name, JsonTemplate::Text(value));
                StepBody::Json(JsonTemplate::Object(params.into_iter().map(member).collect()))
            }
        };
        Step {
            method: http::Method::POST,
            url,
            private: self.private.clone(),
            headers: all.into(),
            query: Box::default(),
            body,
            answer: self.answer.clone(),
            errors: self.errors.clone(),
        }
    }

    /// Scopes as it wants them; none for none.
    fn scopes(&self, scopes: &[String]) -> Option<(Box<str>, Template)> {
        let joined = scopes.join(&self.scope_separator);
        (!scopes.is_empty()).then(|| (self.scope_param.clone(), Template::text(&joined)))
    }

    fn constants(params: &[(Box<str>, Box<str>)]) -> impl Iterator<Item = (Box<str>, Template)> {
        params.iter().map(|(name, value)| (name.clone(), Template::text(value)))
    }
}

/// Puts parameters together; a later one takes the place of an earlier one with its name.
fn joined(parts: impl IntoIterator<Item = (Box<str>, Template)>) -> Params {
    let mut all = Params::new();
    for (name, value) in parts {
        match all.iter_mut().find(|(other, _)| *other == name) {
            Some(slot) => slot.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

fn read_reference(node: &Node, around: Around<'_>, findings: &mut Findings) -> Option<SecretRef> {
    let Value::Text(text) = &node.value else {
        reader::hide(node, findings);
        findings.report(node.span, "a reference to a secret is a text such as `\"env:NAME\"`");
        return None;
    };
    References { base: around.base }.parse(text, node.span, findings)
}

pub(super) fn reference(node: &Node, around: Around<'_>, findings: &mut Findings) -> Option<SecretRef> {
    read_reference(node, around, findings)
}

/// A text with holes, each of which must be one of `names`. Nothing of it is repeated: a secret may stand in it.
fn template(node: &Node, names: &[&str], findings: &mut Findings) -> Option<Template> {
    let text = reader::text(node, "a text with holes", findings)?;
    match Template::parse(text) {
        Err(message) => {
            findings.report(node.span, message);
            None
        }
        Ok(template) => {
            let unknown = template.names().into_iter().find(|name| !names.contains(name));
            if let Some(name) = unknown {
                findings
                    .report(node.span, format!("a hole names `{}`, which is not known here", short(name)))
                    .hint(format!("known are {}", list(names.iter().copied())));
                return None;
            }
            Some(template)
        }
    }
}
