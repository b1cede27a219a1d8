//! An authorization server as the policy describes it.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::{HeaderName, HeaderValue};

use super::{credential::is_word, service, shape};
use crate::{
    decide::{
        catalog,
        files::{
            problem::Findings,
            reader::{self, Fields, closest, short},
            source::Span,
            yaml::{Key, Node, Value},
        },
    },
    plan::{
        AnswerShape, BodyForm, ClientAuthentication, ErrorClass, ErrorRule, Expected, JsonPath, PrivateReach,
        Provider, Rotation, Template, Wait, WaitPlace, WaitUnit,
    },
};

/// The providers that a policy may name: its own, and those that egret knows.
#[derive(Debug, Default)]
pub(in crate::decide) struct Providers {
    /// The policy's own.
    own: HashMap<String, Arc<Provider>>,
    /// Those that have problems of their own: a reference to them is no second problem.
    broken: HashSet<String>,
    /// Of the catalogue, those that were asked for.
    known: RefCell<HashMap<String, Option<Arc<Provider>>>>,
}

impl Providers {
    /// Reads the policy's own.
    pub(in crate::decide) fn read(entries: &[(&Key, &Node)], findings: &mut Findings) -> Self {
        let mut all = Self::default();
        for (key, node) in entries {
            if let Some(provider) = read(key, node, findings) {
                all.own.insert(key.text.clone(), Arc::new(provider));
            } else {
                all.broken.insert(key.text.clone());
            }
        }
        all
    }

    /// The provider of this name. A name that is nearly one of them is reported; another one may be described later.
    pub(in crate::decide) fn get(
        &self,
        name: &str,
        span: Span,
        findings: &mut Findings,
    ) -> Option<Arc<Provider>> {
        let found = self.known(name);
        if found.is_none() && !self.broken.contains(name) {
            let names = self.own.keys().map(String::as_str).chain(catalog::providers());
            if let Some(meant) = closest(name, names) {
                let hint = format!("did you mean `{meant}`?");
                findings.report(span, format!("there is no provider `{}`", short(name))).hint(hint);
            }
        }
        found
    }

    /// The provider of this name.
    pub(in crate::decide) fn known(&self, name: &str) -> Option<Arc<Provider>> {
        if let Some(own) = self.own.get(name) {
            return Some(own.clone());
        }
        let mut known = self.known.borrow_mut();
        known.entry(name.to_owned()).or_insert_with(|| catalog::provider(name).map(Arc::new)).clone()
    }
}

/// Reads a provider. None where nothing can be built from it; the reasons are in `findings`.
pub(in crate::decide) fn read(key: &Key, node: &Node, findings: &mut Findings) -> Option<Provider> {
    let before = findings.count();
    if !is_name(&key.text) {
        findings.report(
            key.span,
            "the name of a provider has letters, digits, `_`, `.` and `-`, 64 at most, and begins with a letter or digit",
        );
    }
    let fields = Fields::read(node, "a provider", shape::PROVIDER.keys, findings)?;
    let mut keys = Keys { fields: &fields, findings };
    let token_url = keys.url("token_url");
    let (refresh_url, authorize_url) = (keys.url("refresh_url"), keys.url("authorize_url"));
    let (device_url, revoke_url) = (keys.url("device_url"), keys.url("revoke_url"));
    let issuer = keys.text("issuer");
    let pkce = keys.word("pkce", &[("s256", true), ("off", false)]).unwrap_or(true);
    let scope_param = keys.text("scope_param").unwrap_or_else(|| "scope".into());
    let scope_separator = keys.text("scope_separator").unwrap_or_else(|| " ".into());
    let scopes = keys.scopes();
    let authorize_params = keys.pairs("authorize_params");
    let (token_params, refresh_params) = (keys.pairs("token_params"), keys.refresh_params());
    let headers = keys.headers();
    let client_auth = keys.word("client_auth", &ClientAuthentication::WORDS);
    let body = keys.word("body", &[("form", BodyForm::Form), ("json", BodyForm::Json)]).unwrap_or_default();
    let rotation = keys.word("rotation", &Rotation::WORDS).unwrap_or_default();
    let reuse_grace = fields.get("reuse_grace").and_then(|n| reader::duration(n, "`reuse_grace`", findings));
    let ahead = fields.get("ahead").and_then(|n| reader::duration(n, "`ahead`", findings));
    let answer = fields.get("response").map_or_else(AnswerShape::default, |n| read_answer(n, findings));
    let errors = fields.get("errors").map(|n| read_errors(n, findings)).unwrap_or_default();
    let private = fields
        .get("allow_private_addresses")
        .map_or(PrivateReach::Nowhere, |n| service::read_private(n, findings));
    if token_url.is_none() && fields.get("token_url").is_none() {
        findings
            .report(key.span, format!("the provider `{}` has no `token_url`", short(&key.text)))
            .hint("name its token endpoint: `token_url: https://auth.example.com/oauth/token`");
    }
    let provider = Provider {
        name: key.text.as_str().into(),
        issuer,
        token_url: token_url?,
        refresh_url,
        authorize_url,
        device_url,
        revoke_url,
        pkce,
        scope_param,
        scope_separator,
        scopes,
        authorize_params,
        token_params,
        refresh_params,
        headers,
        client_auth,
        body,
        answer,
        rotation,
        reuse_grace,
        ahead,
        errors,
        private,
    };
    (findings.count() == before).then_some(provider)
}

/// What a name of a provider is.
pub(in crate::decide) fn is_name(text: &str) -> bool {
    crate::context::ServiceId::parse(text).is_ok()
}

/// The names of the variables in a URL: `https://{shop}.example.com/token`.
pub(in crate::decide) fn variables(url: &str) -> Vec<&str> {
    url.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

/// A URL whose variables have values. None where one of them has none.
pub(in crate::decide) fn fill(url: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut parts = url.split('{');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        text.push_str(&value(name)?);
        text.push_str(rest);
    }
    Some(text)
}

/// Whether egret calls such a URL: `https`, or in clear on this machine.
pub(in crate::decide) fn is_callable(url: &crate::fetch::FetchUrl) -> bool {
    url.tls || url.is_loopback()
}

struct Keys<'s, 'n> {
    fields: &'s Fields<'n>,
    findings: &'s mut Findings,
}

impl Keys<'_, '_> {
    fn text(&mut self, key: &str) -> Option<Box<str>> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            self.findings.report(node.span, format!("`{key}` is empty or has control characters"));
            return None;
        }
        Some(text.into())
    }

    fn word<T: Clone>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let node = self.fields.get(key)?;
        reader::word(node, &format!("`{key}`"), words, self.findings)
    }

    /// A URL, with variables. What it becomes with their values is checked where they have some.
    fn url(&mut self, key: &str) -> Option<Box<str>> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        let example = fill(text, |name| is_word(name).then(|| "x".to_owned()));
        let url = example.and_then(|text| crate::fetch::FetchUrl::parse(&text).ok());
        if !url.is_some_and(|url| is_callable(&url)) {
            self.findings.report(node.span, format!("`{key}` is a URL that begins with `https://`")).hint(
                "for example `https://auth.example.com/oauth/token` or `https://{shop}.example.com/token`",
            );
            return None;
        }
        Some(text.into())
    }

    fn pairs(&mut self, key: &str) -> Box<[(Box<str>, Box<str>)]> {
        let Some(node) = self.fields.get(key) else { return Box::default() };
        let entries = reader::mapping(node, &format!("`{key}`"), self.findings).unwrap_or_default();
        let pair = |(key, node): (&Key, &Node)| {
            let text = reader::text(node, "a parameter", self.findings)?;
            Some((key.text.as_str().into(), text.into()))
        };
        entries.into_iter().filter_map(pair).collect()
    }

    fn scopes(&mut self) -> Box<[Box<str>]> {
        let Some(node) = self.fields.get("scopes") else { return Box::default() };
        let scope = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            plain.then(|| text.into()).ok_or_else(|| "a scope has visible characters only".to_owned())
        };
        reader::each(node, "`scopes`", self.findings, scope).into()
    }

    fn refresh_params(&mut self) -> Box<[(Box<str>, Template)]> {
        let mut parsed = Vec::new();
        for (name, text) in self.pairs("refresh_params") {
            let template = Template::parse(&text).and_then(|template| {
                let is_known = template.names().iter().all(|name| *name == "scope");
                is_known
                    .then_some(template)
                    .ok_or_else(|| "`refresh_params` may name `scope` only".to_owned())
            });
            match (template, self.fields.get("refresh_params")) {
                (Ok(template), _) => parsed.push((name, template)),
                (Err(message), Some(node)) => {
                    self.findings.report(node.span, message);
                }
                (Err(_), None) => {}
            }
        }
        parsed.into()
    }

    fn headers(&mut self) -> Box<[(HeaderName, HeaderValue)]> {
        let Some(node) = self.fields.get("headers") else { return Box::default() };
        let entries = reader::mapping(node, "`headers`", self.findings).unwrap_or_default();
        let header = |(key, node): (&Key, &Node)| {
            let text = reader::text(node, "the value of a header", self.findings)?;
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(key.text.as_str()), HeaderValue::from_str(text))
            {
                return Some((name, value));
            }
            self.findings.report(key.span, "this cannot be a header");
            None
        };
        entries.into_iter().filter_map(header).collect()
    }
}

/// Reads where in an answer what stands.
pub(in crate::decide) fn read_answer(node: &Node, findings: &mut Findings) -> AnswerShape {
    let usual = AnswerShape::default();
    let Some(fields) = Fields::read(node, "`response`", shape::RESPONSE.keys, findings) else { return usual };
    let mut paths = |key: &str, usual: Box<[JsonPath]>| match fields.get(key) {
        None => usual,
        Some(node) => read_paths(node, key, findings),
    };
    let (access_token, refresh_token) =
        (paths("access_token", usual.access_token), paths("refresh_token", usual.refresh_token));
    let (expires_in, expires_at) =
        (paths("expires_in", usual.expires_in), paths("expires_at", usual.expires_at));
    let scope = paths("scope", usual.scope);
    let keep = fields.get("keep").map(|node| read_keep(node, findings)).unwrap_or_default();
    let ok = fields.get("ok").and_then(|node| {
        let found = read_expected(node, "`ok`", findings);
        if found.len() > 1 {
            findings.report(node.span, "`ok` names one place and what stands there: `{ok: true}`");
        }
        found.into_vec().pop()
    });
    AnswerShape {
        ok,
        access_token,
        refresh_token,
        expires_in,
        expires_at,
        lifetime: fields.get("lifetime").and_then(|n| reader::duration(n, "`lifetime`", findings)),
        scope,
        keep,
    }
}

/// One path, or several of which the first that leads to something counts.
fn read_paths(node: &Node, key: &str, findings: &mut Findings) -> Box<[JsonPath]> {
    if let Value::Text(text) = &node.value {
        return path(text, node, findings).into_iter().collect();
    }
    reader::each(node, &format!("`{key}`"), findings, |text| JsonPath::parse(text).ok_or_else(not_a_path))
        .into()
}

fn path(text: &str, node: &Node, findings: &mut Findings) -> Option<JsonPath> {
    let path = JsonPath::parse(text);
    if path.is_none() {
        findings.report(node.span, not_a_path());
    }
    path
}

fn not_a_path() -> String {
    "a place in an answer is names and numbers with dots between: `data.0.token`, `errors.*.code`; `$` is the whole of it"
        .to_owned()
}

/// What is kept of an answer, by name.
pub(in crate::decide) fn read_keep(node: &Node, findings: &mut Findings) -> Box<[(Box<str>, JsonPath)]> {
    let entries = reader::mapping(node, "`keep`", findings).unwrap_or_default();
    let kept = |(key, node): (&Key, &Node)| {
        if !is_word(&key.text) || RESERVED.contains(&key.text.as_str()) {
            findings.report(
                key.span,
                "a name in `keep` is a word of lower case, and none that egret uses itself",
            );
            return None;
        }
        let text = reader::text(node, "a place in an answer", findings)?;
        Some((key.text.as_str().into(), path(text, node, findings)?))
    };
    entries.into_iter().filter_map(kept).collect()
}

/// Names that templates have by themselves.
pub(in crate::decide) const RESERVED: [&str; 13] = [
    "token",
    "access_token",
    "refresh_token",
    "caller_token",
    "code",
    "code_verifier",
    "device_code",
    "redirect_uri",
    "method",
    "host",
    "path",
    "query",
    "body_sha256",
];

/// Places and what stands there.
fn read_expected(node: &Node, what: &str, findings: &mut Findings) -> Box<[(JsonPath, Expected)]> {
    let entries = reader::mapping(node, what, findings).unwrap_or_default();
    let place = |(key, node): (&Key, &Node)| {
        let Some(path) = JsonPath::parse(&key.text) else {
            findings.report(key.span, not_a_path());
            return None;
        };
        let expected = match &node.value {
            Value::Bool(flag) => Expected::Flag(*flag),
            Value::Text(text) if text == "*" => Expected::Present,
            Value::Text(text) => Expected::OneOf(Box::new([text.as_str().into()])),
            _ => Expected::OneOf(reader::each(node, "what stands there", findings, |t| Ok(t.into())).into()),
        };
        Some((path, expected))
    };
    entries.into_iter().filter_map(place).collect()
}

/// Reads what errors look like and mean.
pub(in crate::decide) fn read_errors(node: &Node, findings: &mut Findings) -> Box<[ErrorRule]> {
    let items = reader::items(node, "`errors`", findings).unwrap_or_default();
    items.iter().filter_map(|node| read_error(node, findings)).collect()
}

fn read_error(node: &Node, findings: &mut Findings) -> Option<ErrorRule> {
    let before = findings.count();
    let fields = Fields::read(node, "an error", shape::ERROR.keys, findings)?;
    let status = fields.get("status").map(|node| {
        let number = |text: &str| match text.parse() {
            Ok(status @ 200..=599) => Ok(status),
            _ => Err("a status is a number such as `401`".to_owned()),
        };
        match &node.value {
            Value::Text(text) => number(text).map_or_else(
                |message| {
                    findings.report(node.span, message);
                    Vec::new()
                },
                |status| vec![status],
            ),
            _ => reader::each(node, "`status`", findings, number),
        }
    });
    let json = fields.get("json").map(|node| read_expected(node, "`json`", findings)).unwrap_or_default();
    let header = fields.get("header").map(|node| read_header(node, findings)).unwrap_or_default();
    let class = fields.get("class").and_then(|n| reader::word(n, "`class`", &ErrorClass::WORDS, findings));
    let wait = fields.get("wait").and_then(|node| read_wait(node, findings));
    let code = fields.get("code").and_then(|node| {
        let text = reader::text(node, "`code`", findings)?;
        path(text, node, findings)
    });
    if class.is_none() && fields.get("class").is_none() {
        findings.report(node.span, "the error has no `class`: it does not say what it means");
    }
    let status: Box<[u16]> = status.unwrap_or_default().into();
    if status.is_empty() && json.is_empty() && header.is_empty() {
        if findings.count() == before {
            findings
                .report(node.span, "the error fits everything")
                .hint("say by what it is known: `status`, `json` or `header`");
        }
        return None;
    }
    Some(ErrorRule { status, json, header, class: class?, wait, code })
}

fn read_header(node: &Node, findings: &mut Findings) -> Box<[(HeaderName, Box<str>)]> {
    let entries = reader::mapping(node, "`header`", findings).unwrap_or_default();
    let header = |(key, node): (&Key, &Node)| {
        let text = reader::text(node, "what stands in a header", findings)?;
        let Ok(name) = HeaderName::try_from(key.text.as_str()) else {
            findings.report(key.span, "this is not the name of a header");
            return None;
        };
        Some((name, text.to_ascii_lowercase().into()))
    };
    entries.into_iter().filter_map(header).collect()
}

fn read_wait(node: &Node, findings: &mut Findings) -> Option<Wait> {
    let fields = Fields::read(node, "`wait`", shape::WAIT.keys, findings)?;
    let unit = fields.get("unit").and_then(|n| reader::word(n, "`unit`", &WaitUnit::WORDS, findings));
    let header = fields.get("header").and_then(|node| {
        let text = reader::text(node, "`header`", findings)?;
        let name = HeaderName::try_from(text).ok();
        if name.is_none() {
            findings.report(node.span, "this is not the name of a header");
        }
        name.map(WaitPlace::Header)
    });
    let json = fields.get("json").and_then(|node| {
        let text = reader::text(node, "`json`", findings)?;
        path(text, node, findings).map(WaitPlace::Json)
    });
    if fields.get("header").is_some() == fields.get("json").is_some() {
        findings.report(node.span, "`wait` has `header` or `json`: where the number stands");
        return None;
    }
    Some(Wait { place: header.or(json)?, unit: unit.unwrap_or(WaitUnit::Seconds) })
}
