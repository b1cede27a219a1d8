//! The request body on its way out.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};

use crate::{
    message::{BoxError, RequestBody},
    strip::keep_trailers,
};

/// How an upload goes: shared with whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes read from the client so far; the audit entry's own counter.
    pub(super) bytes: Arc<AtomicU64>,
    /// The body was larger than the service allows.
    pub(super) over: AtomicBool,
    /// The client broke off.
    pub(super) broke: AtomicBool,
}

/// The client's body: counted, bounded, its trailers by allow-list. Never buffered.
#[derive(Debug)]
pub(super) struct OutgoingBody {
    inner: Option<RequestBody>,
    limit: u64,
    trailers: Arc<[HeaderName]>,
    progress: Arc<Progress>,
}

impl OutgoingBody {
    pub(super) fn new(
        inner: RequestBody,
        limit: Option<u64>,
        trailers: Arc<[HeaderName]>,
        progress: Arc<Progress>,
    ) -> Self {
        Self { inner: Some(inner), limit: limit.unwrap_or(u64::MAX), trailers, progress }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        loop {
            let frame = match ready!(Pin::new(&mut *inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    // A broken body must not end cleanly: the upstream would take half of it for the whole.
                    this.progress.broke.store(true, Ordering::Release);
                    return Poll::Ready(Some(Err(error)));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    let before = this.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    if before.saturating_add(data.len() as u64) > this.limit {
                        this.progress.over.store(true, Ordering::Release);
                        return Poll::Ready(Some(Err("the request body is over the limit".into())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Err(frame) => {
                    let Ok(mut trailers) = frame.into_trailers() else { continue };
                    keep_trailers(&this.trailers, &mut trailers);
                    if trailers.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
