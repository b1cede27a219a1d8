//! Credentials that are no token but a signature of each request: AWS Signature Version 4, and those of templates.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};

use super::{
    engine::Work,
    failure::Failure,
    live::{Live, Ready, Span},
    source::{Read, Sources},
    values::Values,
    workshop::Workshop,
};
use crate::{
    decide::Grant,
    fetch::{Call, FetchUrl},
    message::{Message, RequestBody, Room, RoomSize},
    plan::{AwsKeys, AwsRole, AwsSigV4, Half, SecretRef, Signature, WebIdentity},
    refusal::Reason,
    scrub::Needles,
    secret::{Secret, sha256_hex},
    sigv4::{self, Chain, Keys, Payload, Resigned, Scope, Seen, sts},
};

/// How long keys and secrets that are read as they are may be used before they are read again: what an operator takes
/// away is gone a moment later.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// How long a role's keys are asked for, where the policy does not say.
const SESSION: Duration = Duration::from_secs(3600);
/// The largest answer of the token service.
const LARGEST: usize = 256 * 1024;
/// The largest body that a signature covers, in bytes, where the service does not say less.
const LARGEST_BODY: u64 = 16 << 20;
/// Bodies that are held at the same time for their signatures. Others wait for their place.
pub(super) const ROOM: RoomSize = RoomSize { agent: 32 << 10, tenant: 64 << 10, all: 256 << 10 };

/// What signs requests.
pub(super) enum Signer {
    /// Keys of AWS.
    Aws(Keys),
    /// What templates name.
    Values(Values),
}

impl Workshop {
    /// Keys of AWS: as they are read, or those of a role.
    pub(super) async fn aws(&self, how: &AwsSigV4, work: &Work) -> Result<Live, Failure> {
        let sources = Sources { origins: &self.origins, tenant: &work.key.connection.tenant };
        let own = match &how.keys {
            None => None,
            Some(keys) => Some(read_keys(keys, sources).await?),
        };
        let (keys, lifetime) = match (&how.role, own) {
            (None, Some(keys)) => (keys, READ_AGAIN),
            (Some(role), own) => self.assume(role, own, work, sources).await?,
            (None, None) => return Err(Failure::Missing("there are neither keys nor a role".to_owned())),
        };
        let needles = needles(keys.session_token.iter().chain([&keys.secret_access_key]));
        let ready = Ready::Signer(Arc::new(Signer::Aws(keys)), needles);
        Ok(Live::signing(work, ready, Span::of(lifetime, None)))
    }

    /// What the templates of a signature name.
    pub(super) async fn signature(&self, how: &Signature, work: &Work) -> Result<Live, Failure> {
        let sources = Sources { origins: &self.origins, tenant: &work.key.connection.tenant };
        let mut values = Values::new(SystemTime::now());
        let mut secrets = Vec::new();
        let references: Vec<&SecretRef> = how.values.iter().filter_map(|(_, half)| half.secret()).collect();
        let mut read = sources.read_all(&references).await?.into_iter();
        for (name, half) in &how.values {
            match half {
                Half::Constant(text) => values.set_text(name, text),
                Half::Secret(_) => {
                    if let Some(Read { secret, .. }) = read.next() {
                        values.set(name, secret.clone());
                        secrets.push(secret);
                    }
                }
            }
        }
        let needles = needles(secrets.iter().map(AsRef::as_ref));
        let ready = Ready::Signer(Arc::new(Signer::Values(values)), needles);
        Ok(Live::signing(work, ready, Span::of(READ_AGAIN, None)))
    }

    /// Keys of a role (AWS Security Token Service).
    async fn assume(
        &self,
        role: &AwsRole,
        own: Option<Keys>,
        work: &Work,
        sources: Sources<'_>,
    ) -> Result<(Keys, Duration), Failure> {
        let connection = &work.key.connection;
        let named = match &role.session_name {
            Some(name) => name.to_string(),
            None => format!("{}.{}", connection.tenant, connection.integration),
        };
        let named: String = named.chars().take(64).collect();
        let session =
            sts::SessionName::parse(&named).map_err(|problem| Failure::Missing(problem.to_string()))?;
        let asked = sts::Role {
            arn: &role.arn,
            session: &session,
            policy: role.policy.as_deref(),
            duration: Some(role.duration.unwrap_or(SESSION)),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sts::CONTENT_TYPE));
        let form = if let Some(identity) = &role.web_identity {
            let token = match identity {
                WebIdentity::Read(reference) => sources.read(reference).await?.secret,
                WebIdentity::Caller => work
                    .caller
                    .clone()
                    .ok_or_else(|| Failure::Missing("the caller's token is not at hand".to_owned()))?,
            };
            asked.assume_with_web_identity(&token)
        } else {
            let form = asked.assume(role.external_id.as_deref());
            let keys = own.ok_or_else(|| Failure::Missing("a role without keys or a token".to_owned()))?;
            let scope = Scope::of_host(&role.url.authority.host)
                .unwrap_or_else(|| Scope { region: "us-east-1".to_owned(), service: "sts".to_owned() });
            let authority = role.url.authority.host_header(role.url.scheme());
            let request = sigv4::Request {
                method: &http::Method::POST,
                authority: &authority,
                path: role.url.path.as_str(),
                query: None,
            };
            let payload = Payload::undeclared(&scope, role.url.scheme(), Seen::Whole(form.as_bytes()));
            let payload = payload.map_err(|_| Failure::Missing("BUG: the form is whole".to_owned()))?;
            let signed = sigv4::sign(&request, &mut headers, &payload, &scope, &keys, SystemTime::now());
            signed.map_err(|bad| Failure::Missing(bad.to_string()))?;
            Secret::new(form.into_bytes())
        };
        let call = call(&role.url, headers, &form, &role.private);
        let answer = self
            .calls
            .call(call)
            .await
            .map_err(|error| Failure::Unreachable { what: error.what, maybe_done: error.maybe_taken })?;
        let session = sts::answer(answer.status, &answer.body).map_err(|fault| {
            let class = if fault.is_transient {
                crate::plan::ErrorClass::Transient
            } else {
                crate::plan::ErrorClass::Misconfigured
            };
            Failure::Refused(super::failure::Verdict {
                class,
                code: Some(fault.code),
                status: answer.status,
                wait: None,
            })
        })?;
        let lifetime = session.expires.duration_since(SystemTime::now()).unwrap_or_default();
        Ok((session.keys, lifetime))
    }
}

#[expect(clippy::disallowed_methods, reason = "the form holds a token, and is sent")]
fn call<'c>(
    url: &'c FetchUrl,
    headers: HeaderMap,
    form: &Secret,
    reach: &'c crate::plan::PrivateReach,
) -> Call<'c> {
    Call {
        method: http::Method::POST,
        url,
        headers,
        body: Bytes::copy_from_slice(form.expose()),
        most: LARGEST,
        timeout: super::step::PATIENCE,
        reach,
        certificate: None,
    }
}

/// Reads keys as they are: all of one version, where they lie together.
async fn read_keys(keys: &AwsKeys, sources: Sources<'_>) -> Result<Keys, Failure> {
    let id = keys.access_key_id.secret().into_iter();
    let references: Vec<&SecretRef> =
        id.chain([&keys.secret_access_key]).chain(&keys.session_token).collect();
    let mut read = sources.read_all(&references).await?.into_iter().map(Read::into_secret);
    let mut next =
        || read.next().ok_or_else(|| Failure::Missing("BUG: fewer secrets than references".to_owned()));
    Ok(Keys {
        access_key_id: match &keys.access_key_id {
            Half::Constant(id) => id.clone(),
            Half::Secret(_) => text(&next()?)?,
        },
        secret_access_key: next()?,
        session_token: keys.session_token.as_ref().map(|_| next()).transpose()?,
    })
}

#[expect(clippy::disallowed_methods, reason = "the id of a key is sent as it is")]
fn text(secret: &Secret) -> Result<String, Failure> {
    let text = std::str::from_utf8(secret.expose());
    text.map(ToOwned::to_owned)
        .map_err(|_| Failure::Missing("the id of the access key is no text".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the scrub must know what it looks for")]
fn needles<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Option<Arc<Needles>> {
    let all: Vec<&[u8]> = secrets.map(Secret::expose).collect();
    Needles::of(&all).map(Arc::new)
}

/// Signs a request for AWS. The body goes along: its hash, or the signatures in it.
pub(super) async fn sign_for_aws(
    how: &AwsSigV4,
    keys: &Keys,
    message: &mut Message,
    grant: &Grant,
    room: &Room,
) -> Result<PathAndQuery, Reason> {
    let (scheme, authority) = grant.upstream();
    let scope = scope(how, grant)?;
    let malformed =
        |what: &'static str| Reason::RequestMalformed { what, token: "malformed-signature", status: 400 };
    let declared = Payload::declared(&message.headers).map_err(|bad| {
        malformed(match bad {
            sigv4::BadPayload::Asymmetric => "the body is signed with SigV4A, which egret does not speak",
            _ => "`x-amz-content-sha256` is neither 64 hexadecimal digits nor a known word, once",
        })
    })?;
    let payload = if let Some(payload) = declared {
        payload
    } else {
        let is_empty = http_body::Body::is_end_stream(&message.body);
        let seen = if is_empty { Seen::Empty } else { Seen::Stream };
        if let Ok(payload) = Payload::undeclared(&scope, scheme, seen) {
            payload
        } else {
            let whole = read_body(message, grant, room).await?;
            Payload::undeclared(&scope, scheme, Seen::Whole(&whole))
                .map_err(|_| Reason::InternalError { error: "BUG: the body is whole".to_owned() })?
        }
    };
    let path_and_query = super::placement::without_secret(
        message.target.path.as_str(),
        message.target.query.as_ref().map(crate::target::Query::as_str),
    )?;
    let authority = authority.host_header(scheme);
    let method: http::Method = message.method.into();
    let request = sigv4::Request {
        method: &method,
        authority: &authority,
        path: path_and_query.path(),
        query: path_and_query.query(),
    };
    let signed = sigv4::sign(&request, &mut message.headers, &payload, &scope, keys, SystemTime::now());
    let chain: Option<Chain> =
        signed.map_err(|bad| Reason::CredentialMissing { what: bad.to_string(), connect: None })?;
    if let Some(chain) = chain {
        let body = std::mem::replace(&mut message.body, RequestBody::nothing());
        message.body = RequestBody::Made(Box::pin(Resigned::new(body, chain)));
    }
    Ok(path_and_query)
}

/// Reads the body that a signature covers.
async fn read_body(message: &mut Message, grant: &Grant, room: &Room) -> Result<Bytes, Reason> {
    let said = grant.plan().and_then(|plan| plan.service.max_body);
    let limit = said.map_or(LARGEST_BODY, |said| said.min(LARGEST_BODY));
    message.read_whole(limit, room, &grant.context().identity).await
}

/// For which region and service: as the policy says, or the host's name.
fn scope(how: &AwsSigV4, grant: &Grant) -> Result<Scope, Reason> {
    let host = Scope::of_host(&grant.upstream().1.host);
    let region = how.region.as_deref().or(host.as_ref().map(|scope| &*scope.region));
    let service = how.service.as_deref().or(host.as_ref().map(|scope| &*scope.service));
    let (Some(region), Some(service)) = (region, service) else {
        let what =
            "the host does not tell its region and service: write `region` and `service` in `aws_sigv4`";
        return Err(Reason::CredentialMissing { what: what.to_owned(), connect: None });
    };
    Ok(Scope { region: region.to_owned(), service: service.to_owned() })
}

/// Signs a request by templates.
pub(super) async fn sign_by_template(
    how: &Signature,
    values: &Values,
    message: &mut Message,
    grant: &Grant,
    room: &Room,
) -> Result<PathAndQuery, Reason> {
    let digest =
        if how.reads_body { sha256_hex(&read_body(message, grant, room).await?) } else { String::new() };
    let (scheme, authority) = grant.upstream();
    let path = message.target.path.as_str();
    let query = message.target.query.as_ref().map_or("", crate::target::Query::as_str);
    let mut values = values.at(SystemTime::now());
    for (name, value) in [
        ("method", message.method.as_str()),
        ("host", &authority.host_header(scheme)),
        ("path", path),
        ("query", query),
        ("body_sha256", &digest),
    ] {
        values.set_text(name, value);
    }
    let missing =
        |error: super::values::Unfilled| Reason::CredentialMissing { what: error.to_string(), connect: None };
    for (name, template) in &how.lets {
        let value = values.fill(template).map_err(missing)?;
        values.set(name, Arc::new(Secret::new(value.to_vec())));
    }
    let mut added = query.to_owned();
    for (name, template) in &how.query {
        let value = values.fill(template).map_err(missing)?;
        let and = if added.is_empty() { "" } else { "&" };
        let name = super::values::uri_encoded(name.as_bytes());
        added.extend([and, &name, "=", &super::values::uri_encoded(&value)]);
    }
    for (name, template) in &how.headers {
        let text = values.fill(template).map_err(missing)?;
        let mut value = HeaderValue::from_bytes(&text).map_err(|_| Reason::CredentialMissing {
            what: format!("what goes to `{name}` holds a line break or another control character"),
            connect: None,
        })?;
        value.set_sensitive(true);
        message.headers.insert(name.clone(), value);
    }
    super::placement::without_secret(path, Some(&*added).filter(|query| !query.is_empty()))
}

/// What is shown of an AWS key: its id is no secret, but its end is enough to find it.
pub(super) fn shown(keys: &Keys) -> Option<Arc<str>> {
    crate::secret::masked(keys.access_key_id.as_bytes()).map(Into::into)
}
