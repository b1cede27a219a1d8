//! The way out: one connection, one request, one answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quick_cache::sync::Cache;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::{self, Back, Pooled, Trailers, Watched},
    body::OutgoingBody,
    exchange::{Exchange, address},
    failure::{broken, reason},
    judge::{Judged, Peeked, judge},
    pool::{Key, Link, Pool, Sender, Speaks},
    stream::{self, OpenTunnel},
    wait::{GivenUp, within},
};
use crate::{
    audit::{self, chain},
    connect::{Connector, DialError},
    context::TenantId,
    mcp::Filtered,
    message::{AuditedBody, StreamBody},
    plan::PrivateReach,
    record::Recorded,
    refusal::{Reason, Refusal},
    scrub::{UnknownEncoding, scrub_answer},
    target::Scheme,
    tls::{ClientCertificate, ClientTls, Trust},
};

/// How long the upstream may take, where a service does not say otherwise. Model APIs think for minutes.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);
/// An answer of at most this length is not watched for a change of the policy.
const SMALL: u64 = 256 * 1024;
/// How long an idle connection is kept for the next request.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Tenants whose TLS sessions are kept.
const TENANTS: usize = 1024;

/// What the upstream side is made of.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// An answer or tunnel that stands still for this long is ended.
    pub idle_timeout: Duration,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(600) }
    }
}

/// The way out.
pub struct Upstream {
    connector: Arc<Connector>,
    trust: Trust,
    sessions: Cache<TenantId, ClientTls>,
    pool: Arc<Pool>,
    settings: UpstreamSettings,
    /// Upgraded connections, so that draining can wait for them.
    tasks: TaskTracker,
    drain: CancellationToken,
}

/// A connection chosen for one request.
struct Chosen {
    sender: Sender,
    link: Link,
    reused: bool,
    attempts: u32,
    took: Option<Duration>,
}

impl Upstream {
    /// The way out through `connector`. Call it inside a runtime: it starts the pool's sweeper.
    pub fn new(
        connector: Arc<Connector>,
        trust: Trust,
        settings: UpstreamSettings,
        tasks: TaskTracker,
        drain: CancellationToken,
    ) -> Self {
        let pool = Pool::new(IDLE_CONNECTION);
        // The sweeper ends with the pool.
        tokio::spawn(Pool::sweep(Arc::downgrade(&pool)));
        Self { connector, trust, sessions: Cache::new(TENANTS), pool, settings, tasks, drain }
    }

    /// Sends the request and gives back the answer. Dropped half way, the connection is closed and the entry
    /// says `abandoned`.
    ///
    /// # Errors
    /// A refusal when the upstream cannot be reached, is not who it should be, or does not answer.
    pub async fn forward(&self, recorded: Recorded) -> Result<Response<AuditedBody>, Refusal> {
        let (mut exchange, mut request) = Exchange::begin(recorded)?;
        loop {
            let (response, back) = match self.send(&mut exchange, request).await {
                Ok(answered) => answered,
                Err(reason) => return Err(exchange.refuse(reason)),
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return self.switched(exchange, response);
            }
            match judge(&mut exchange, response).await {
                Judged::Pass(response) => return self.answer(exchange, response, back),
                Judged::Again(again) => request = again,
                Judged::Refuse(reason) => return Err(exchange.refuse(reason)),
            }
        }
    }

    /// Opens an opaque tunnel to the granted authority.
    ///
    /// # Errors
    /// A refusal when the upstream cannot be reached.
    pub async fn tunnel(&self, recorded: Recorded) -> Result<OpenTunnel, Refusal> {
        let (mut message, grant, _) = recorded.into_parts();
        let reach = grant.plan().map_or(&PrivateReach::Nowhere, |plan| &plan.service.private);
        let started = Instant::now();
        match self.connector.dial(grant.upstream().1, reach).await {
            Ok(dialled) => {
                let upstream = audit::Upstream {
                    address: dialled.peer,
                    attempts: dialled.attempts,
                    ..audit::Upstream::default()
                };
                message.entry.connected(upstream, Some(started.elapsed()));
                message.entry.answered(200);
                let idle = self.settings.idle_timeout;
                Ok(OpenTunnel {
                    stream: dialled.stream,
                    entry: message.entry,
                    grant,
                    idle,
                    drain: self.drain.clone(),
                })
            }
            Err(error) => Err(message.refuse(reason(error))),
        }
    }

    /// One request to one connection. A kept connection that turns out to be closed gives the request back
    /// unwritten; whatever was written is never sent again.
    async fn send(
        &self,
        exchange: &mut Exchange,
        mut request: Request<OutgoingBody>,
    ) -> Result<(Response<Incoming>, Option<Back>), Reason> {
        let key = Arc::new(exchange.key());
        let patience =
            exchange.plan().and_then(|plan| plan.service.response_timeout).unwrap_or(RESPONSE_TIMEOUT);
        let progress = exchange.progress.clone();
        loop {
            let chosen = self.connection(&key, exchange.reach(), exchange.certificate.as_ref()).await?;
            let reused = chosen.reused;
            exchange.entry.connected(chosen.facts(), chosen.took);
            let (sent, back) = match chosen.sender {
                Sender::Http1(mut sender) => {
                    address(&mut request, &key, false);
                    let answer = sender.try_send_request(request);
                    let sent = within(patience, &progress, &mut exchange.grant, answer).await;
                    let back = Back { pool: self.pool.clone(), key: key.clone(), sender, link: chosen.link };
                    (sent, Some(back))
                }
                Sender::Http2(mut sender) => {
                    address(&mut request, &key, true);
                    let answer = sender.try_send_request(request);
                    (within(patience, &progress, &mut exchange.grant, answer).await, None)
                }
            };
            match sent {
                Ok(Ok(response)) => return Ok((response, back)),
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unwritten) if reused => request = unwritten,
                    _ => return Err(broken(&error.into_error(), exchange)),
                },
                Err(GivenUp::Lost(withdrawn)) => {
                    let detail = format!("while the upstream worked, {withdrawn}");
                    return Err(Reason::ActionDenied { detail, needed_role: None, granted_role: None });
                }
                Err(GivenUp::Late) => {
                    return Err(Reason::UpstreamTimeout {
                        connecting: false,
                        idempotent: exchange.method.is_idempotent(),
                    });
                }
            }
        }
    }

    /// A kept connection whose address the service may still use, or a new one.
    async fn connection(
        &self,
        key: &Arc<Key>,
        reach: &PrivateReach,
        certificate: Option<&Arc<ClientCertificate>>,
    ) -> Result<Chosen, Reason> {
        if let Some(chosen) = self.kept(key, reach) {
            return Ok(chosen);
        }
        let (speaks, gate) = self.pool.gate(key);
        // While nobody knows how the place speaks, one request finds out and the others wait for it.
        let first = if speaks == Speaks::Http1 { None } else { Some(gate.lock().await) };
        if first.is_some()
            && let Some(chosen) = self.kept(key, reach)
        {
            return Ok(chosen);
        }
        let chosen = self.open(key, reach, certificate).await.map_err(reason);
        drop(first);
        chosen
    }

    fn kept(&self, key: &Arc<Key>, reach: &PrivateReach) -> Option<Chosen> {
        let (sender, link) = self.pool.take(key)?;
        // The policy may have changed since it was dialled.
        if !self.connector.still_allowed(link.peer, reach) {
            return None;
        }
        Some(Chosen { sender, link, reused: true, attempts: 0, took: None })
    }

    async fn open(
        &self,
        key: &Arc<Key>,
        reach: &PrivateReach,
        certificate: Option<&Arc<ClientCertificate>>,
    ) -> Result<Chosen, DialError> {
        let started = Instant::now();
        let dialled = self.connector.dial(&key.authority, reach).await?;
        let attempts = dialled.attempts;
        let (sender, link) = if key.scheme == Scheme::Http {
            let link = Link { peer: dialled.peer, tls: None };
            (self.http1(key, TokioIo::new(dialled.stream)).await?, link)
        } else {
            let config = match certificate {
                None => self.sessions(&key.tenant).config(key.http1_only),
                Some(certificate) => self.trust.client_with(certificate).ok(),
            };
            let config =
                config.ok_or(DialError::Tls { certificate: false, error: "no TLS configuration".into() })?;
            let secured = self.connector.secure(&key.authority.host, config, dialled.stream).await?;
            let link = Link { peer: dialled.peer, tls: secured.version };
            let io = TokioIo::new(secured.stream);
            (if secured.h2 { self.http2(key, io, link).await? } else { self.http1(key, io).await? }, link)
        };
        Ok(Chosen { sender, link, reused: false, attempts, took: Some(started.elapsed()) })
    }

    async fn http1<T>(&self, key: &Arc<Key>, io: T) -> Result<Sender, DialError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().handshake(io).await.map_err(|e| DialError::Unreachable(chain(&e)))?;
        // The connection works on its own: it ends with its last request and with the upstream.
        tokio::spawn(connection.with_upgrades());
        self.pool.speaks_http1(key);
        Ok(Sender::Http1(sender))
    }

    async fn http2<T>(&self, key: &Arc<Key>, io: T, link: Link) -> Result<Sender, DialError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(64 * 1024)
            .handshake(io)
            .await;
        let (sender, connection) = handshake.map_err(|e| DialError::Unreachable(chain(&e)))?;
        tokio::spawn(connection);
        self.pool.share(key, &sender, link);
        Ok(Sender::Http2(sender))
    }

    fn sessions(&self, tenant: &TenantId) -> ClientTls {
        let Ok(tls) = self
            .sessions
            .get_or_insert_with(tenant, || Ok::<_, std::convert::Infallible>(self.trust.client()));
        tls
    }

    fn answer(
        &self,
        mut exchange: Exchange,
        mut response: Response<Peeked>,
        back: Option<Back>,
    ) -> Result<Response<AuditedBody>, Refusal> {
        let credentialed = exchange.is_credentialed();
        // An origin has no business asking for a proxy's credentials.
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(
                exchange.refuse(Reason::UpstreamUnscrubbable { what: "it asks for proxy authentication" })
            );
        }
        if let Err(what) = answer::one_length(response.headers_mut()) {
            return Err(exchange.refuse(Reason::UpstreamUnscrubbable { what }));
        }
        answer::clean(response.headers_mut(), credentialed, exchange.kept_headers());
        let (mut head, body) = response.into_parts();
        head.extensions.clear();
        head.version = Version::HTTP_11;
        exchange.entry.answered(head.status.as_u16());
        let correlation = exchange.entry.correlation_id().map(ToString::to_string).unwrap_or_default();
        answer::sign(&mut head.headers, &correlation, exchange.plan().is_none_or(|plan| plan.service.via));
        let trailers = Trailers { credentialed, keep: exchange.kept_headers().into() };
        let Exchange { entry, grant, needles, reading, manner, .. } = exchange;
        // A small body ends soon; a large one, or one of unknown length, may be open for hours.
        let lost = body.size_hint().exact().is_none_or(|l| l > SMALL).then(|| stream::lost(grant));
        let body = Watched::new(Pooled::new(body, back), self.settings.idle_timeout, trailers, lost);
        let body: StreamBody = match needles {
            None => Box::pin(body),
            Some(needles) => match scrub_answer(&needles, &mut head.headers, body) {
                Ok(scrubbed) => Box::pin(scrubbed),
                Err(UnknownEncoding) => {
                    return Err(entry.refuse(
                        Reason::UpstreamUnscrubbable { what: "its encoding cannot be read" },
                        manner,
                    ));
                }
            },
        };
        let body: StreamBody = match reading {
            None => body,
            Some(_) if answer::is_coded(&head.headers) && !body.is_end_stream() => {
                let what = "its encoding cannot be read";
                return Err(entry.refuse(Reason::UpstreamUnscrubbable { what }, manner));
            }
            Some(reading) => match Filtered::new(reading, head.status, &mut head.headers, body) {
                Ok(filtered) => Box::pin(filtered),
                Err(what) => return Err(entry.refuse(Reason::UpstreamUnscrubbable { what }, manner)),
            },
        };
        Ok(Response::from_parts(head, AuditedBody::stream(body, entry)))
    }

    /// The upstream accepted an upgrade that the client asked for: from here on both talk freely.
    fn switched(
        &self,
        mut exchange: Exchange,
        mut response: Response<Incoming>,
    ) -> Result<Response<AuditedBody>, Refusal> {
        let Some(client) = exchange.upgrade.take() else {
            return Err(
                exchange.refuse(Reason::UpstreamUnscrubbable { what: "it switched protocols unasked" })
            );
        };
        let websocket = response
            .headers()
            .get(header::UPGRADE)
            .is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !websocket {
            return Err(exchange.refuse(Reason::UpstreamUnscrubbable {
                what: "it switched to another protocol than asked",
            }));
        }
        let upstream = hyper::upgrade::on(&mut response);
        let mut headers = std::mem::take(response.headers_mut());
        answer::clean(&mut headers, exchange.is_credentialed(), exchange.kept_headers());
        if let Some(needles) = &exchange.needles {
            needles.scrub_headers(&mut headers);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let Exchange { mut entry, grant, .. } = exchange;
        entry.answered(101);
        let correlation = entry.correlation_id().map(ToString::to_string).unwrap_or_default();
        answer::sign(&mut headers, &correlation, false);
        let mut head = Response::new(AuditedBody::whole(""));
        *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *head.headers_mut() = headers;
        // It outlives this request; draining waits for it.
        self.tasks.spawn(stream::upgraded(
            client,
            upstream,
            entry,
            grant,
            self.settings.idle_timeout,
            self.drain.clone(),
        ));
        Ok(head)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream(..)")
    }
}

impl Chosen {
    fn facts(&self) -> audit::Upstream {
        audit::Upstream {
            address: self.link.peer,
            tls: self.link.tls,
            protocol: Some(if matches!(self.sender, Sender::Http2(_)) { "2" } else { "1.1" }),
            attempts: self.attempts,
            reused: self.reused,
        }
    }
}
