//! One request on its way out, and what its answer will need.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::{
    body::{OutgoingBody, Progress},
    pool::Key,
};
use crate::{
    audit::Entry,
    credential::{Links, Outgoing, Usage},
    decide::Grant,
    mcp::Reading,
    message::Message,
    plan::{ErrorRule, Plan, PrivateReach},
    record::Recorded,
    refusal::{Manner, Reason, Refusal},
    scrub::{Needles, narrow_accept_encoding},
    target::{Method, Scheme},
    tls::ClientCertificate,
};

/// What remains of a message once its request is written.
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) upgrade: Option<OnUpgrade>,
    pub(super) entry: Entry,
    pub(super) grant: Grant,
    pub(super) needles: Option<Arc<Needles>>,
    /// What the answer may say about the credential.
    pub(super) usage: Option<Usage>,
    /// Where a person connects it.
    links: Links,
    /// What egret shows in the handshake, where the upstream asks who connects.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// What it takes to send the request once more with another token; none where it cannot be.
    pub(super) again: Option<Again>,
    /// Whether it was.
    pub(super) renewed: bool,
    /// What the answer has to be read for.
    pub(super) reading: Option<Reading>,
    pub(super) progress: Arc<Progress>,
    pub(super) manner: Manner,
}

/// A request that may be sent once more.
pub(super) struct Again {
    /// Its headers, with the old token in them.
    headers: HeaderMap,
    path: Box<str>,
    query: Option<Box<str>>,
    body: OutgoingBody,
}

impl Exchange {
    /// Writes the outgoing request from the grant.
    ///
    /// # Errors
    /// `body_too_large` when the client declared a body over the service's limit; nothing was sent by then.
    pub(super) fn begin(recorded: Recorded) -> Result<(Self, Request<OutgoingBody>), Refusal> {
        let (message, grant, outgoing) = recorded.into_parts();
        let limit = grant.plan().and_then(|plan| plan.service.max_body);
        if let Some(limit) = limit.filter(|limit| message.body.size_hint().lower() > *limit) {
            return Err(message.refuse(Reason::BodyTooLarge { limit }));
        }
        let Message { method, target, mut headers, body, upgrade, manner, mut entry, .. } = message;
        if outgoing.needles.is_some() {
            // What cannot be decoded could not be scrubbed.
            narrow_accept_encoding(&mut headers);
        }
        let reading = grant.reading();
        if reading.is_some() {
            // What is coded, or a part, could not be looked into.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
        // Only what was refused is sent again, so any method may be; but what streamed is gone.
        let can_renew = outgoing.usage.as_ref().is_some_and(Usage::can_renew);
        let repeated = if can_renew && upgrade.is_none() { body.again() } else { None };
        let rules =
            grant.plan().filter(|_| outgoing.usage.is_some()).map_or(&[][..], |plan| &plan.service.errors);
        if rules.iter().any(ErrorRule::reads_body) {
            // What is coded could not be looked into.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let progress = Arc::new(Progress { bytes: entry.request_bytes(), ..Progress::default() });
        let trailers: Arc<[HeaderName]> =
            grant.plan().map_or_else(|| Arc::from([]), |plan| plan.service.keep.trailers.as_slice().into());
        let mut request = Request::new(OutgoingBody::new(body, limit, trailers.clone(), progress.clone()));
        *request.method_mut() = method.into();
        *request.headers_mut() = headers;
        let Outgoing { path_and_query, needles, usage, links, certificate } = outgoing;
        *request.uri_mut() = Uri::from(path_and_query);
        let mut this = Self {
            method,
            upgrade,
            entry,
            grant,
            needles,
            usage,
            links,
            certificate,
            again: None,
            renewed: false,
            reading,
            progress,
            manner,
        };
        if this.plan().is_none_or(|plan| plan.service.via) {
            request.headers_mut().insert(header::VIA, HeaderValue::from_static("1.1 egret"));
        }
        if this.upgrade.is_some() {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        this.again = repeated.map(|body| Again {
            headers: request.headers().clone(),
            path: target.path.as_str().into(),
            query: target.query.as_ref().map(|query| query.as_str().into()),
            body: OutgoingBody::new(body, limit, trailers, this.progress.clone()),
        });
        Ok((this, request))
    }

    /// The request once more, with another token in the place of the one that was refused. Once.
    ///
    /// # Errors
    /// When there is no other token.
    pub(super) async fn renewed(&mut self) -> Result<Option<Request<OutgoingBody>>, Reason> {
        let (Some(Again { mut headers, path, query, body }), Some(usage)) =
            (self.again.take(), &mut self.usage)
        else {
            return Ok(None);
        };
        let (path_and_query, needles) = usage.renew(&mut headers, &path, query.as_deref()).await?;
        self.needles = needles;
        self.renewed = true;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.into();
        *request.headers_mut() = headers;
        *request.uri_mut() = Uri::from(path_and_query);
        Ok(Some(request))
    }

    pub(super) fn plan(&self) -> Option<&Arc<Plan>> {
        self.grant.plan()
    }

    /// Which private addresses may be dialled for it.
    pub(super) fn reach(&self) -> &PrivateReach {
        self.plan().map_or(&PrivateReach::Nowhere, |plan| &plan.service.private)
    }

    /// Whether a credential was attached, also one too short to be searched for in the answer.
    pub(super) fn is_credentialed(&self) -> bool {
        self.plan().is_some_and(|plan| plan.credential.is_some())
    }

    /// What errors of the service say about the credential.
    pub(super) fn rules(&self) -> &[ErrorRule] {
        self.plan().map_or(&[], |plan| &plan.service.errors)
    }

    /// Response headers that the service keeps.
    pub(super) fn kept_headers(&self) -> &[HeaderName] {
        self.plan().map_or(&[], |plan| &plan.service.keep.response_headers)
    }

    /// Which kept connections may serve it.
    pub(super) fn key(&self) -> Key {
        let (scheme, authority) = self.grant.upstream();
        Key {
            tenant: self.grant.context().identity.tenant_id.clone(),
            authority: authority.clone(),
            scheme,
            service: self.plan().map(|plan| plan.service.id.clone()),
            http1_only: self.upgrade.is_some(),
            certificate: self.certificate.as_ref().and_then(|certificate| certificate.thumbprint()),
        }
    }

    /// Ends it with a refusal.
    pub(super) fn refuse(self, reason: Reason) -> Refusal {
        let reason = self.links.add(reason, &self.grant);
        self.entry.refuse(reason, self.manner)
    }
}

/// Writes the authority in the form that the connection's protocol wants. Never the client's own.
pub(super) fn address(request: &mut Request<OutgoingBody>, key: &Key, h2: bool) {
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = path;
    request.headers_mut().remove(header::HOST);
    let host = key.authority.host_header(key.scheme);
    if h2 {
        parts.scheme = Some(if key.scheme == Scheme::Https {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        });
        parts.authority = host.parse().ok();
    } else if let Ok(value) = HeaderValue::from_str(&host) {
        // First, as RFC 9110 §7.2 asks.
        let headers = std::mem::take(request.headers_mut());
        let mut with_host = HeaderMap::with_capacity(headers.len() + 1);
        with_host.insert(header::HOST, value);
        with_host.extend(headers);
        *request.headers_mut() = with_host;
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
