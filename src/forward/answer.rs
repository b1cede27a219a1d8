//! The upstream's answer: cleaned, scrubbed, streamed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use tokio::time::{Instant, Sleep};

use super::{
    body::OutgoingBody,
    judge::Peeked,
    pool::{Key, Link, Pool},
};
use crate::{message::BoxError, standing::Withdrawn};

/// What belongs to one connection, in an answer (RFC 9110 §7.6.1). `Trailer` stays: it announces what follows.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What no upstream tells a client through egret: offers of other ways around it, and forged words of a proxy.
const NEVER: [HeaderName; 5] = [
    header::ALT_SVC,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-status"),
    HeaderName::from_static("proxy-support"),
];

/// What an upstream that got a credential does not tell a client, unless the service keeps it: a session
/// opened with the credential is worth as much as the credential.
const CREDENTIALED: [HeaderName; 6] = [
    header::SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
    header::AUTHORIZATION,
    HeaderName::from_static("x-subject-token"),
];

/// Whether the body has to be decoded before anyone can look into it (RFC 9110 §8.4).
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    values.any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// Leaves one length where the upstream announced two (RFC 9112 §6.3): chunks win.
///
/// # Errors
/// When the body is coded for the transfer beyond chunks: nobody could look into it.
pub(super) fn one_length(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            headers.remove(header::CONTENT_LENGTH);
            Ok(())
        }
        _ => Err("its transfer coding cannot be read"),
    }
}

/// Takes away from an answer's headers or trailers what does not belong to the client.
pub(super) fn clean(headers: &mut HeaderMap, credentialed: bool, keep: &[HeaderName]) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain(&NEVER) {
        headers.remove(name);
    }
    if credentialed {
        for name in CREDENTIALED.iter().filter(|name| !keep.contains(name)) {
            headers.remove(name);
        }
    }
}

/// Adds egret's own words to an answer.
pub(super) fn sign(headers: &mut HeaderMap, correlation_id: &str, via: bool) {
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        headers.insert("x-correlation-id", id);
    }
    if via {
        headers.append(header::VIA, HeaderValue::from_static("1.1 egret"));
    }
}

/// An HTTP/1.1 answer that gives its connection back when it is complete, or an HTTP/2 one.
pub(super) struct Pooled {
    pub(super) inner: Peeked,
    pub(super) back: Option<Back>,
    ended: bool,
}

/// Where a connection goes back to.
pub(super) struct Back {
    pub(super) pool: Arc<Pool>,
    pub(super) key: Arc<Key>,
    pub(super) sender: http1::SendRequest<OutgoingBody>,
    pub(super) link: Link,
}

impl Pooled {
    pub(super) fn new(inner: Peeked, back: Option<Back>) -> Self {
        Self { inner, back, ended: false }
    }
}

impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(_))) => self.back = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if (self.ended || self.inner.is_end_stream())
            && let Some(back) = self.back.take()
        {
            back.pool.keep(&back.key, back.sender, back.link);
        }
    }
}

/// How an answer's trailers are cleaned: like its headers.
pub(super) struct Trailers {
    pub(super) credentialed: bool,
    pub(super) keep: Arc<[HeaderName]>,
}

impl Trailers {
    fn clean(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                clean(&mut trailers, self.credentialed, &self.keep);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        }
    }
}

/// Ends an answer that stands still for too long, or whose grant is lost. What ends it is an error: a client
/// must not take a part for the whole.
pub(super) struct Watched {
    inner: Pooled,
    idle: Duration,
    trailers: Trailers,
    moved: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    lost: Option<Pin<Box<dyn Future<Output = Withdrawn> + Send>>>,
}

impl Watched {
    pub(super) fn new(
        inner: Pooled,
        idle: Duration,
        trailers: Trailers,
        lost: Option<Pin<Box<dyn Future<Output = Withdrawn> + Send>>>,
    ) -> Self {
        Self { inner, idle, trailers, moved: Instant::now(), timer: None, lost }
    }

    fn cut(&mut self, why: impl Into<BoxError>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.inner.back = None;
        Poll::Ready(Some(Err(why.into())))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(lost) = &mut this.lost
            && let Poll::Ready(withdrawn) = lost.as_mut().poll(cx)
        {
            return this.cut(withdrawn);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if this.timer.is_some() {
                this.moved = Instant::now();
            }
            let cleaned =
                frame.map(|frame| frame.map(|frame| this.trailers.clean(frame)).map_err(Into::into));
            return Poll::Ready(cleaned);
        }
        // The timer is set only while nothing moves, and moved on only when it rings.
        loop {
            let (idle, moved) = (this.idle, this.moved);
            let timer = if let Some(timer) = &mut this.timer {
                timer
            } else {
                this.moved = Instant::now();
                this.timer.insert(Box::pin(tokio::time::sleep(idle)))
            };
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if moved.elapsed() >= idle => {
                    return this.cut("the upstream sent nothing for too long");
                }
                Poll::Ready(()) => timer.as_mut().reset(moved + idle),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(credentialed: bool, keep: &[HeaderName]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("alt-svc", "h3=\":443\""),
            ("proxy-status", "egret; error=forged"),
            ("set-cookie", "session=1"),
            ("www-authenticate", "Bearer"),
            ("content-type", "text/plain"),
            ("trailer", "grpc-status"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        clean(&mut headers, credentialed, keep);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn a_session_opened_with_the_credential_stays_here() {
        assert_eq!(cleaned(true, &[]), ["content-type", "trailer"]);
        assert_eq!(cleaned(true, &[header::SET_COOKIE]), ["content-type", "set-cookie", "trailer"]);
        assert_eq!(cleaned(false, &[]), ["content-type", "set-cookie", "trailer", "www-authenticate"]);
    }
}
