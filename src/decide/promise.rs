//! Promises: the `tests` of a policy. A policy that breaks one of its own is not loaded.

use super::{
    judge::{Ask, Mode, Question},
    policy::Policy,
    problem::Findings,
    reader::{self, Fields, short},
    source::Span,
    yaml::Node,
};
use crate::{
    context::{AgentId, IntegrationId, Selection, TenantId, UserId},
    target::{Authority, Method, Path, Query, Scheme, Target},
};

/// One line of `tests`.
#[derive(Debug)]
pub(super) struct Promise {
    tenant: TenantId,
    agent: AgentId,
    user: Option<UserId>,
    request: Request,
    via: Option<IntegrationId>,
    allowed: bool,
    text: String,
    span: Span,
}

/// A request as tests and `explain` write it: `METHOD URL`.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) method: Method,
    pub(super) target: Target,
}

impl Request {
    /// Parses `GET https://api.example.com/x?y` or `CONNECT host:443`.
    pub(super) fn parse(method: &str, url: &str) -> Result<Self, String> {
        if method == "CONNECT" {
            let authority = Authority::parse(url, None).map_err(|bad| bad.to_string())?;
            let path = Path::parse("/").map_err(|bad| bad.to_string())?;
            let target = Target { scheme: Scheme::Https, authority, path, query: None };
            return Ok(Self { ask: Ask::Tunnel, method: Method::Other, target });
        }
        let named = Method::named(method);
        if named == Method::Other {
            return Err(format!("`{}` is not a method", short(method)));
        }
        Ok(Self { ask: Ask::Request, method: named, target: parse_url(url)? })
    }
}

fn parse_url(url: &str) -> Result<Target, String> {
    let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (_, Some(rest)) => (Scheme::Http, rest),
        _ => return Err("a URL begins with `https://` or `http://`".to_owned()),
    };
    if rest.contains('#') {
        return Err("a URL has no fragment here".to_owned());
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let path = if path.is_empty() { "/" } else { path };
    let bad = |bad: crate::target::BadTarget| bad.to_string();
    Ok(Target {
        scheme,
        authority: Authority::parse(authority, Some(scheme.default_port())).map_err(bad)?,
        path: Path::parse(path).map_err(bad)?,
        query: query.map(Query::parse).transpose().map_err(bad)?,
    })
}

/// Reads one item of `tests`.
pub(super) fn read(node: &Node, promises: &mut Vec<Promise>, findings: &mut Findings) -> Option<()> {
    let keys = ["as", "user", "allow", "deny", "approve"];
    let fields = Fields::read(node, "a test", &keys, findings)?;
    if let Some((approve, _)) = fields.entry("approve") {
        findings
            .report(approve.span, "approvals come with a later release")
            .hint("write `deny` while a guard denies it");
    }
    let user = match fields.get("user") {
        Some(node) => {
            let user = UserId::parse(reader::text(node, "`user`", findings)?);
            Some(user.map_err(|bad| _ = findings.report(node.span, bad.to_string())).ok()?)
        }
        None => None,
    };
    let Some(who) = fields.get("as") else {
        findings.report(node.span, "the test has no `as`").hint("for example `as: t_acme/triage-bot`");
        return None;
    };
    let parsed = reader::text(who, "`as`", findings)?
        .split_once('/')
        .and_then(|(tenant, agent)| Some((TenantId::parse(tenant).ok()?, AgentId::parse(agent).ok()?)));
    let Some((tenant, agent)) = parsed else {
        findings.report(who.span, "`as` is `TENANT/AGENT`");
        return None;
    };
    if ["allow", "deny", "approve"].iter().all(|key| fields.get(key).is_none()) {
        findings.report(node.span, "the test says nothing").hint("add `allow` or `deny`");
    }
    for (key, allowed) in [("allow", true), ("deny", false)] {
        let Some(list) = fields.get(key) else { continue };
        for item in reader::items(list, &format!("`{key}`"), findings).unwrap_or_default() {
            let Some(text) = reader::text(item, "a line of a test", findings) else { continue };
            match parse_line(text) {
                Ok((request, via)) => promises.push(Promise {
                    tenant: tenant.clone(),
                    agent: agent.clone(),
                    user: user.clone(),
                    request,
                    via,
                    allowed,
                    text: text.to_owned(),
                    span: item.span,
                }),
                Err(message) => {
                    findings
                        .report(item.span, message)
                        .hint("a line is `METHOD URL`, then `via INTEGRATION` where it matters");
                }
            }
        }
    }
    Some(())
}

fn parse_line(text: &str) -> Result<(Request, Option<IntegrationId>), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (method, url, via) = match words.as_slice() {
        ["tool" | "graphql" | "grpc", ..] => return Err("tests of tools are not supported yet".to_owned()),
        [method, url] => (method, url, None),
        [method, url, "via", via] => {
            (method, url, Some(IntegrationId::parse(via).map_err(|bad| bad.to_string())?))
        }
        _ => return Err("this is not a line of a test".to_owned()),
    };
    Ok((Request::parse(method, url)?, via))
}

impl Promise {
    /// Reports the promise when the policy does not keep it.
    pub(super) fn prove(&self, policy: &Policy, findings: &mut Findings) {
        let selection = Selection { integration: self.via.clone(), tier: None };
        let question = Question {
            tenant: &self.tenant,
            agent: &self.agent,
            user: self.user.as_ref(),
            ask: self.request.ask,
            method: self.request.method,
            target: &self.request.target,
            selection: &selection,
        };
        // A promise is about the rules, so shadow mode makes no difference to it.
        let judgement = policy.judge(&question, Mode::Enforce);
        let who = format!("{}/{}", self.tenant, self.agent);
        match (self.allowed, judgement.permit()) {
            (true, Err(reason)) => {
                findings
                    .report(self.span, format!("this test fails: {who} is refused `{}`", short(&self.text)))
                    .hint(format!("{}: {}", reason.facts().code, reason.detail()));
            }
            (false, Ok(_)) => {
                findings
                    .report(self.span, format!("this test fails: {who} is allowed `{}`", short(&self.text)));
                if let Some(line) = judgement.line() {
                    findings.also(line.span, "by this line");
                }
            }
            _ => {}
        }
    }
}
