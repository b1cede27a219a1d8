//! Promises: the `tests` of a policy. A policy that breaks one of its own is not loaded.

use std::{sync::Arc, time::SystemTime};

use super::{act::Seen, role::named_kind, shape};
use crate::{
    context::{AgentId, IntegrationId, Selection, TenantId, UserId},
    decide::{
        files::{
            problem::Findings,
            reader::{self, Fields, short},
            source::Span,
            yaml::Node,
        },
        judge::{Ask, Question},
        policy::Policy,
    },
    graphql, mcp,
    target::{Authority, Method, Path, Query, Scheme, Target},
};

/// One line of `tests`.
#[derive(Debug)]
pub(in crate::decide) struct Promise {
    tenant: TenantId,
    agent: AgentId,
    user: Option<UserId>,
    request: Request,
    via: Option<IntegrationId>,
    at: Option<SystemTime>,
    expected: Expected,
    text: String,
    span: Span,
}

/// What a test says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Allowed,
    Denied,
    /// Allowed, once a human agrees.
    Approved,
}

/// A request as tests and `explain` write it: `METHOD URL`, `tool NAME @ URL`, `graphql mutation FIELD @ URL`.
#[derive(Debug, Clone)]
pub(in crate::decide) struct Request {
    pub(in crate::decide) ask: Ask,
    pub(in crate::decide) method: Method,
    pub(in crate::decide) target: Target,
    pub(in crate::decide) seen: Arc<Seen>,
}

impl Request {
    /// Parses a request in one text.
    pub(in crate::decide) fn read(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [kind, name, "@", url] if named_kind(kind).is_some() => {
                let kind = named_kind(kind).unwrap_or(mcp::Named::Method);
                let seen = Seen::Mcp(mcp::Body::asking(kind, name));
                Ok(Self { seen: seen.into(), ..Self::parse("POST", url)? })
            }
            ["graphql", kind, field, "@", url] => {
                let kind = match *kind {
                    "query" => graphql::Kind::Query,
                    "mutation" => graphql::Kind::Mutation,
                    _ => return Err("`graphql` is followed by `query` or `mutation`".to_owned()),
                };
                let fields = graphql::Fields::from([(kind, (*field).to_owned())]);
                Ok(Self { seen: Seen::GraphQl(fields).into(), ..Self::parse("POST", url)? })
            }
            ["grpc", path, "@", url] => Self::parse("POST", &format!("{}{path}", url.trim_end_matches('/'))),
            [method, url] => Self::parse(method, url),
            _ => Err("this is no request: write `METHOD URL` or `tool NAME @ URL`".to_owned()),
        }
    }

    /// Parses `GET https://api.example.com/x?y` or `CONNECT host:443`.
    pub(in crate::decide) fn parse(method: &str, url: &str) -> Result<Self, String> {
        if method == "CONNECT" {
            let authority = Authority::parse(url, None).map_err(|bad| bad.to_string())?;
            let path = Path::parse("/").map_err(|bad| bad.to_string())?;
            let target = Target { scheme: Scheme::Https, authority, path, query: None };
            let seen = Seen::nothing();
            return Ok(Self { ask: Ask::Tunnel, method: Method::Other, target, seen });
        }
        let named = Method::named(method);
        if named == Method::Other {
            return Err(format!("`{}` is not a method", short(method)));
        }
        let seen = Seen::nothing();
        Ok(Self { ask: Ask::Request, method: named, target: parse_url(url)?, seen })
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
pub(in crate::decide) fn read(
    node: &Node,
    promises: &mut Vec<Promise>,
    findings: &mut Findings,
) -> Option<()> {
    let fields = Fields::read(node, "a test", shape::TEST.keys, findings)?;
    let at = match fields.get("at") {
        Some(node) => Some(read_time(node, findings)?),
        None => None,
    };
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
        findings.report(node.span, "the test says nothing").hint("add `allow`, `deny` or `approve`");
    }
    let lists = [("allow", Expected::Allowed), ("deny", Expected::Denied), ("approve", Expected::Approved)];
    for (key, expected) in lists {
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
                    at,
                    expected,
                    text: text.to_owned(),
                    span: item.span,
                }),
                Err(message) => {
                    findings
                        .report(item.span, message)
                        .hint("a line is `METHOD URL` or `tool NAME @ URL`, then `via INTEGRATION` where it matters");
                }
            }
        }
    }
    Some(())
}

/// A moment such as `2026-11-24T22:30:00Z` (RFC 3339).
fn read_time(node: &Node, findings: &mut Findings) -> Option<SystemTime> {
    let text = reader::text(node, "`at`", findings)?;
    let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    if parsed.is_err() {
        findings.report(node.span, "`at` is a moment such as `2026-11-24T22:30:00Z`");
    }
    parsed.ok().map(SystemTime::from)
}

fn parse_line(text: &str) -> Result<(Request, Option<IntegrationId>), String> {
    let (request, via) = match text.rsplit_once(" via ") {
        Some((request, via)) => {
            (request, Some(IntegrationId::parse(via.trim()).map_err(|bad| bad.to_string())?))
        }
        None => (text, None),
    };
    Ok((Request::read(request)?, via))
}

impl Promise {
    /// Reports the promise when the policy does not keep it.
    pub(in crate::decide) fn prove(&self, policy: &Policy, findings: &mut Findings) {
        let selection = Selection { integration: self.via.clone(), tier: None };
        let question = Question {
            tenant: &self.tenant,
            agent: &self.agent,
            user: self.user.as_ref(),
            ask: self.request.ask,
            method: self.request.method,
            target: &self.request.target,
            seen: &self.request.seen,
            selection: &selection,
            token: None,
            at: self.at,
        };
        // A promise is about the rules, so shadow mode makes no difference to it.
        let judgement = policy.judge_strictly(&question);
        let who = format!("{}/{}", self.tenant, self.agent);
        let text = short(&self.text);
        match (self.expected, judgement.permit()) {
            (Expected::Allowed | Expected::Approved, Err(reason)) => {
                findings
                    .report(self.span, format!("this test fails: {who} is refused `{text}`"))
                    .hint(format!("{}: {}", reason.facts().code, reason.detail()));
            }
            (Expected::Allowed, Ok(permit)) if permit.approval.is_some() => {
                let message = format!("this test fails: `{text}` of {who} needs an approval");
                findings.report(self.span, message).hint("write it under `approve`");
                if let Some(guard) = judgement.guards().first() {
                    findings.also(guard.span, "by this guard");
                }
            }
            (Expected::Approved, Ok(permit)) if permit.approval.is_none() => {
                let message = format!("this test fails: {who} is allowed `{text}` without an approval");
                findings.report(self.span, message);
                if let Some(line) = judgement.line() {
                    findings.also(line.span, "by this line");
                }
            }
            (Expected::Denied, Ok(_)) => {
                findings.report(self.span, format!("this test fails: {who} is allowed `{text}`"));
                if let Some(line) = judgement.line() {
                    findings.also(line.span, "by this line");
                }
            }
            (Expected::Denied, Err(_)) | (Expected::Allowed | Expected::Approved, Ok(_)) => {}
        }
    }
}
