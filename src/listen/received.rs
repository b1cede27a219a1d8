//! The door out of `listen`: one message with one target, or a refusal.

use std::sync::Arc;

use http::{HeaderMap, Request, Version, header};
use hyper::body::Incoming;

use super::{
    Opener, Place,
    presented::{Introduction, Presented},
};
use crate::{
    audit::{Arrived, Audit, Entry},
    context::Selection,
    message::{Message, RequestBody},
    refusal::{Dialect, Door, Manner, Reason, Refusal},
    secret::sha256_hex,
    target::{Authority, BadTarget, Method, Path, Query, Scheme, Target},
};

/// A request as the HTTP parser gave it, and where it came in.
#[derive(Debug)]
pub struct Arrival {
    /// The request.
    pub request: Request<Incoming>,
    /// Where it came in.
    pub place: Arc<Place>,
}

/// A request that has one meaning. The audit entry is open from here on.
#[derive(Debug)]
pub struct Received {
    message: Message,
    presented: Presented,
    selection: Selection,
    correlation_named: bool,
}

impl Received {
    /// Gives the request its one meaning.
    ///
    /// # Errors
    /// A refusal when it has none, or more than one.
    pub fn open(arrival: Arrival, audit: &Audit) -> Result<Self, Refusal> {
        let Arrival { mut request, place } = arrival;
        let manner = Manner { door: door(&request, &place), dialect: dialect(request.headers()) };
        let mut entry = audit.open(arrived(&request, &place));
        let method = Method::named(request.method().as_str());
        let target = target(&request, &place);
        entry.asked(method, request.method().as_str(), target.as_ref().ok());
        let target = match target.and_then(|target| framing(&request, &place).map(|()| target)) {
            Ok(target) => target,
            Err(reason) => return Err(entry.refuse(reason, manner)),
        };
        let connecting = request.method() == http::Method::CONNECT && manner.door == Door::Connect;
        if method == Method::Other && !connecting {
            let detail =
                "egret passes GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, in exactly this spelling"
                    .into();
            return Err(
                entry.refuse(Reason::ActionDenied { detail, needed_role: None, granted_role: None }, manner)
            );
        }
        let introduction = match Introduction::read(request.headers(), &place) {
            Ok(introduction) => introduction,
            Err(reason) => return Err(entry.refuse(reason, manner)),
        };
        note(&mut entry, request.headers());
        let correlation_named = introduction.correlation_named;
        entry.correlated(introduction.correlation_id, introduction.purpose);
        let upgrade = wants_websocket(&request).then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for value in headers.values_mut() {
            // Nothing that a client sent is ever printed.
            value.set_sensitive(true);
        }
        let body = RequestBody::Stream(body);
        let message = Message { method, target, headers, body, upgrade, caller_token: None, manner, entry };
        Ok(Self {
            message,
            presented: introduction.presented,
            selection: introduction.selection,
            correlation_named,
        })
    }

    /// What a tunnel that is about to open has to remember.
    pub(crate) fn keep_for_tunnel(&self) -> Opener {
        let Presented { tokens, agent, .. } = &self.presented;
        Opener {
            tokens: tokens.clone(),
            agent: agent.clone(),
            correlation_id: self.message.entry.correlation_id().filter(|_| self.correlation_named).cloned(),
        }
    }

    /// Hands the parts to `identify`.
    pub(crate) fn into_parts(self) -> (Message, Presented, Selection) {
        (self.message, self.presented, self.selection)
    }

    /// Ends the way here.
    pub fn refuse(self, reason: Reason) -> Refusal {
        self.message.refuse(reason)
    }
}

fn door(request: &Request<Incoming>, place: &Place) -> Door {
    match (place.tunnel.is_some(), place.is_gateway(), request.method() == http::Method::CONNECT) {
        (true, ..) => Door::Tunnel,
        (_, true, _) => Door::Gateway,
        (.., true) => Door::Connect,
        _ => Door::Absolute,
    }
}

fn dialect(headers: &HeaderMap) -> Dialect {
    let starts = |name: header::HeaderName, with: &[u8]| {
        headers
            .get(name)
            .is_some_and(|v| v.as_bytes().get(..with.len()).is_some_and(|v| v.eq_ignore_ascii_case(with)))
    };
    if starts(header::CONTENT_TYPE, b"application/grpc") {
        Dialect::Grpc
    } else if starts(header::USER_AGENT, b"git/") {
        Dialect::Git
    } else {
        Dialect::Json
    }
}

fn arrived(request: &Request<Incoming>, place: &Place) -> Arrived {
    let protocol = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let user_agent = request.headers().get(header::USER_AGENT).map(|v| {
        v.as_bytes()
            .iter()
            .take(200)
            .map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' })
            .collect()
    });
    Arrived { listener: place.name(), peer: Some(place.peer), protocol, user_agent }
}

fn note(entry: &mut Entry, headers: &HeaderMap) {
    if let Some(key) = headers.get("idempotency-key") {
        entry.idempotency_key(format!("sha256:{}", sha256_hex(key.as_bytes())));
    }
    // `traceparent`: version, trace id, parent id, flags (W3C Trace Context §3.2).
    if let Some(parent) = headers.get("traceparent").and_then(|v| v.to_str().ok()) {
        let hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = parent.split('-');
        if let (Some(_), Some(trace), Some(span)) = (parts.next(), parts.next(), parts.next())
            && hex(trace, 32)
            && hex(span, 16)
        {
            entry.traced(trace.to_owned(), span.to_owned());
        }
    }
}

/// Finds the one target (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn target(request: &Request<Incoming>, place: &Place) -> Result<Target, Reason> {
    let uri = request.uri();
    if request.method() == http::Method::CONNECT {
        return connect_target(request, place);
    }
    let written = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => Some((scheme_of(scheme)?, authority.as_str())),
        (None, None) => None,
        _ => return Err(malformed("the target is neither a path nor a URL")),
    };
    let host = host_header(request)?;
    let (scheme, authority) = match (&place.tunnel, place.is_gateway(), written) {
        (Some(tunnel), _, written) => {
            let inside = tunnel.scheme.default_port();
            for named in [written.map(|w| w.1), host].into_iter().flatten() {
                let named = Authority::parse(named, Some(inside)).map_err(bad)?;
                // Clients leave out the port, or write it; when they write it, it is the tunnel's.
                if named.host != tunnel.authority.host
                    || (named.port != tunnel.authority.port && named.port != inside)
                {
                    return Err(mismatch());
                }
            }
            if written.is_some_and(|(scheme, _)| scheme != tunnel.scheme) {
                return Err(mismatch());
            }
            (tunnel.scheme, tunnel.authority.clone())
        }
        // The first path segment names the integration; `decide` puts its host in the place of ours.
        (None, true, _) => {
            (Scheme::Http, Authority::parse(host.ok_or_else(no_host)?, Some(80)).map_err(bad)?)
        }
        (None, false, Some((scheme, authority))) => {
            let authority = Authority::parse(authority, Some(scheme.default_port())).map_err(bad)?;
            if let Some(host) = host {
                // Host names only: real clients leave out or add the port.
                let host = Authority::parse(host, Some(scheme.default_port())).map_err(bad)?;
                if host.host != authority.host {
                    return Err(mismatch());
                }
            }
            (scheme, authority)
        }
        (None, false, None) => {
            return Err(malformed("this is a proxy: send `GET http://host/path`, or `CONNECT host:443`"));
        }
    };
    let path = Path::parse(if uri.path().is_empty() { "/" } else { uri.path() }).map_err(bad)?;
    let query = uri.query().filter(|q| !q.is_empty()).map(Query::parse).transpose().map_err(bad)?;
    Ok(Target { scheme, authority, path, query })
}

fn connect_target(request: &Request<Incoming>, place: &Place) -> Result<Target, Reason> {
    if place.tunnel.is_some() || place.is_gateway() {
        return Err(malformed("no CONNECT here"));
    }
    let uri = request.uri();
    let authority = uri.authority().filter(|_| uri.scheme().is_none() && uri.path_and_query().is_none());
    let authority = authority.ok_or_else(|| malformed("CONNECT names `host:port` and nothing else"))?;
    let authority = Authority::parse(authority.as_str(), None).map_err(bad)?;
    if let Some(host) = host_header(request)? {
        let host = Authority::parse(host, Some(authority.port)).map_err(bad)?;
        if host.host != authority.host {
            return Err(mismatch());
        }
    }
    let scheme = if authority.port == Scheme::Http.default_port() { Scheme::Http } else { Scheme::Https };
    let path = Path::parse("/").map_err(bad)?;
    Ok(Target { scheme, authority, path, query: None })
}

/// The `Host` header: exactly one on HTTP/1.1, at most one elsewhere (RFC 9112 §3.2).
fn host_header(request: &Request<Incoming>) -> Result<Option<&str>, Reason> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => return Err(no_host()),
        (None, _) => return Ok(None),
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(malformed("there is more than one `Host`")),
    };
    host.to_str().map(Some).map_err(|_| malformed("`Host` is not ASCII"))
}

fn scheme_of(scheme: &str) -> Result<Scheme, Reason> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Ok(Scheme::Http),
        _ if scheme.eq_ignore_ascii_case("https") => Ok(Scheme::Https),
        _ => Err(malformed("the scheme is neither http nor https")),
    }
}

/// What remains ambiguous after the HTTP parser.
fn framing(request: &Request<Incoming>, place: &Place) -> Result<(), Reason> {
    let headers = request.headers();
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (coding, more) = (codings.next(), codings.next());
    if more.is_some() || coding.is_some_and(|c| !c.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(malformed("`Transfer-Encoding` is `chunked`, once, or nothing"));
    }
    if lengths > 1 || (lengths == 1 && coding.is_some()) {
        return Err(malformed("the request has two lengths"));
    }
    if request.method() == http::Method::CONNECT && (lengths == 1 || coding.is_some()) {
        return Err(malformed("CONNECT has no body"));
    }
    if let Some(expect) = headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Reason::RequestMalformed {
            what: "the only expectation is `100-continue`",
            token: "expectation",
            status: 417,
        });
    }
    let came_around = |via: &header::HeaderValue| {
        via.to_str().is_ok_and(|v| v.split(',').any(|hop| hop.split_whitespace().nth(1) == Some("egret")))
    };
    if place.tunnel.is_none() && headers.get_all(header::VIA).iter().any(came_around) {
        return Err(Reason::LoopDetected);
    }
    Ok(())
}

/// Whether the client asks to switch to WebSocket (RFC 6455 §4.1). No other upgrade is passed on.
fn wants_websocket(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && request.method() == http::Method::GET
        && headers.get(header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|c| c.to_str().ok())
            .any(|c| c.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
}

fn malformed(what: &'static str) -> Reason {
    Reason::RequestMalformed { what, token: "malformed-target", status: 400 }
}

fn bad(target: BadTarget) -> Reason {
    malformed(target.0)
}

fn no_host() -> Reason {
    malformed("there is no `Host`")
}

fn mismatch() -> Reason {
    Reason::RequestMalformed {
        what: "the request names another host than its target or tunnel",
        token: "authority-mismatch",
        status: 400,
    }
}
