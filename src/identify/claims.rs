//! From verified claims to an identity: whose agent, for whom, with which scopes.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    settings::{AgentClaim, Delegation, IssuerConfig},
    token::invalid,
};
use crate::{
    context::{self, Actor, AgentId, AgentSource, BadIdentifier, Channel, Identity, TenantId, UserId},
    refusal::Reason,
    secret::sha256_hex,
};

type Claims = Map<String, Value>;

/// Parties in `act`. Longer chains do not occur, and each party is a line in every record.
const LONGEST_CHAIN: usize = 8;
/// Scopes of one token.
const MOST_SCOPES: usize = 256;
/// The longest `oauth_subject`.
const LONGEST_SUBJECT: usize = 256;

/// For whom a token speaks.
#[derive(Debug)]
enum SpeaksFor {
    /// Exactly this agent.
    Agent(AgentId),
    /// Each of these agents; the client says which.
    OneOf(Vec<AgentId>),
    /// The organisation, so any of its agents; the client says which, and the policy must know it.
    Organisation,
}

/// What a verified token says, before the client's own words are added.
#[derive(Debug)]
pub(super) struct Said {
    tenant_id: TenantId,
    speaks_for: SpeaksFor,
    user_id: Option<UserId>,
    oauth_subject: Option<Arc<str>>,
    scopes: Arc<[Arc<str>]>,
    /// The parties that the token lists, the principal first.
    parties: Vec<Arc<str>>,
    issuer: Arc<str>,
    jti_hash: Option<Arc<str>>,
    /// `exp`.
    pub(super) expires_at: u64,
    all: context::Claims,
}

impl Said {
    /// Reads the claims of a token that is verified and checked.
    pub(super) fn read(
        config: &IssuerConfig,
        issuer: Arc<str>,
        claims: &Claims,
        expires_at: u64,
    ) -> Result<Self, Reason> {
        let map = &config.claims;
        let Some(tenant_id) = first(&map.tenant, claims) else {
            return Err(invalid("no claim names the tenant"));
        };
        let speaks_for = match first(&map.agent, claims) {
            Some(claim) => agents(claim)?,
            None if config.agent_claim == AgentClaim::Required => {
                return Err(invalid("no claim names the agent, and this issuer's tokens must"));
            }
            None => SpeaksFor::Organisation,
        };
        let user_id =
            first(&map.user, claims).map(|claim| identifier("user", claim, UserId::parse)).transpose()?;
        Ok(Self {
            tenant_id: identifier("tenant", tenant_id, TenantId::parse)?,
            speaks_for,
            user_id,
            oauth_subject: oauth_subject(claims)?,
            scopes: scopes(claims)?,
            parties: parties(config.delegation, claims)?,
            issuer,
            jti_hash: jti_hash(claims)?,
            expires_at,
            all: context::Claims(Arc::new(claims.clone())),
        })
    }

    /// The tenant that the token belongs to.
    pub(super) fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }

    /// The agent that asks: the token's, narrowed by the one that the client names.
    pub(super) fn agent<'a>(&'a self, named: Option<&'a AgentId>) -> Result<&'a AgentId, Reason> {
        match (&self.speaks_for, named) {
            (SpeaksFor::Agent(agent), None) => Ok(agent),
            (SpeaksFor::Agent(agent), Some(named)) if agent == named => Ok(agent),
            (SpeaksFor::OneOf(agents), Some(named)) if agents.contains(named) => Ok(named),
            (SpeaksFor::Organisation, Some(named)) => Ok(named),
            (SpeaksFor::OneOf(_) | SpeaksFor::Organisation, None) => Err(Reason::AgentUnknown),
            (SpeaksFor::Agent(_) | SpeaksFor::OneOf(_), Some(_)) => Err(Reason::AgentMismatch),
        }
    }

    /// The identity of `agent`, which [`Said::agent`] chose.
    pub(super) fn identity(&self, channel: Channel, agent: &AgentId) -> Identity {
        // A subject that is the agent or the organisation itself is no person behind it.
        let user_id = self.user_id.clone().filter(|user| {
            let user = user.as_str();
            user != agent.as_str() && user != self.tenant_id.as_str()
        });
        Identity {
            tenant_id: self.tenant_id.clone(),
            agent_id: agent.clone(),
            agent_source: match self.speaks_for {
                SpeaksFor::Agent(_) => AgentSource::Token,
                SpeaksFor::OneOf(_) | SpeaksFor::Organisation => AgentSource::Client,
            },
            delegation: self.delegation(agent, user_id.as_ref()),
            user_id,
            oauth_subject: self.oauth_subject.clone(),
            scopes: self.scopes.clone(),
            issuer: self.issuer.clone(),
            jti_hash: self.jti_hash.clone(),
            expires_at: self.expires_at,
            channel,
            claims: self.all.clone(),
        }
    }

    /// The chain of parties, the principal first, the agent that acts now last.
    fn delegation(&self, agent: &AgentId, user: Option<&UserId>) -> Arc<[Actor]> {
        let tenant = self.tenant_id.as_str();
        let mut chain: Vec<Actor> = Vec::with_capacity(self.parties.len() + 1);
        for party in self.parties.iter().filter(|p| ***p != *tenant) {
            let person = user.is_some_and(|u| u.as_str() == &**party);
            chain.push(Actor { sub: party.clone(), kind: if person { "user" } else { "agent" } });
        }
        if chain.last().is_none_or(|last| *last.sub != *agent.as_str()) {
            chain.push(Actor { sub: agent.shared(), kind: "agent" });
        }
        chain.into()
    }
}

/// The first of `paths` that leads to a claim.
fn first<'c>(paths: &[String], claims: &'c Claims) -> Option<&'c Value> {
    paths.iter().find_map(|path| follow(path, claims))
}

/// Follows a dotted path. A name may itself hold dots, so the longest name that exists is taken first.
fn follow<'c>(path: &str, claims: &'c Claims) -> Option<&'c Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        follow(rest, claims.get(name)?.as_object()?)
    })
}

fn identifier<T>(
    what: &str,
    claim: &Value,
    parse: impl Fn(&str) -> Result<T, BadIdentifier>,
) -> Result<T, Reason> {
    let text = claim.as_str().ok_or_else(|| invalid(format!("the {what} claim is not a string")))?;
    parse(text).map_err(|rule| invalid(format!("the {what} claim does not fit: {rule}")))
}

fn agents(claim: &Value) -> Result<SpeaksFor, Reason> {
    let parse = |claim| identifier("agent", claim, AgentId::parse);
    match claim {
        Value::Array(list) => match list.as_slice() {
            [] => Err(invalid("the agent claim is an empty list")),
            [only] => parse(only).map(SpeaksFor::Agent),
            several => several.iter().map(parse).collect::<Result<_, _>>().map(SpeaksFor::OneOf),
        },
        one => parse(one).map(SpeaksFor::Agent),
    }
}

/// The parties of `sub` and `act`, the principal first. Nested actors are for the record: only the outermost
/// counts for a decision (RFC 8693 §4.1).
fn parties(delegation: Delegation, claims: &Claims) -> Result<Vec<Arc<str>>, Reason> {
    let mut actors = Vec::new();
    let mut level = claims;
    while let Some(act) = level.get("act") {
        let Value::Object(act) = act else { return Err(invalid("`act` is not an object")) };
        if actors.len() == LONGEST_CHAIN {
            return Err(invalid(format!("`act` has more than {LONGEST_CHAIN} parties")));
        }
        let sub = act.get("sub").ok_or_else(|| invalid("`act` has no `sub`"))?;
        actors.push(identifier("`act.sub`", sub, UserId::parse)?.shared());
        level = act;
    }
    let subject = claims.get("sub").map(|sub| identifier("`sub`", sub, UserId::parse)).transpose()?;
    let subject = subject.map(|s| s.shared());
    Ok(match delegation {
        Delegation::Rfc8693 => subject.into_iter().chain(actors.into_iter().rev()).collect(),
        Delegation::AgentSubject => actors.into_iter().chain(subject).collect(),
    })
}

/// `scope` (RFC 8693 §4.2) or `scp`: sorted, each once.
fn scopes(claims: &Claims) -> Result<Arc<[Arc<str>]>, Reason> {
    let mut scopes: Vec<&str> = match claims.get("scope").or_else(|| claims.get("scp")) {
        None => Vec::new(),
        Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("the scope claim lists something other than strings"))?,
        Some(_) => return Err(invalid("the scope claim is neither a string nor a list of strings")),
    };
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.len() > MOST_SCOPES {
        return Err(invalid(format!("the token has more than {MOST_SCOPES} scopes")));
    }
    Ok(scopes.into_iter().map(Arc::from).collect())
}

fn oauth_subject(claims: &Claims) -> Result<Option<Arc<str>>, Reason> {
    match claims.get("oauth_subject").and_then(Value::as_str) {
        None => Ok(None),
        Some(text) if text.len() <= LONGEST_SUBJECT && !text.chars().any(char::is_control) => {
            Ok(Some(text.into()))
        }
        Some(_) => Err(invalid("`oauth_subject` is too long or has control characters")),
    }
}

/// `jti` is hashed: it identifies the token, and records must not help to find it elsewhere.
fn jti_hash(claims: &Claims) -> Result<Option<Arc<str>>, Reason> {
    match claims.get("jti") {
        None => Ok(None),
        Some(Value::String(jti)) => Ok(Some(format!("sha256:{}", sha256_hex(jti.as_bytes())).into())),
        Some(_) => Err(invalid("`jti` is not a string")),
    }
}
