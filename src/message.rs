//! The one message that walks through the rooms, and the body of its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    audit::Entry,
    refusal::{Manner, Reason, Refusal},
    secret::Secret,
    target::{Method, Target},
};

mod whole;

pub use whole::{Room, RoomSize};

/// Any error that travels through a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of any making.
pub type StreamBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request on its way. Each room hands it on inside its own door type.
#[derive(Debug)]
pub struct Message {
    /// What is to be done.
    pub method: Method,
    /// Where.
    pub target: Target,
    /// The headers that remain: each room takes out what it consumes.
    pub headers: HeaderMap,
    /// The body.
    pub body: RequestBody,
    /// The client's half of a protocol upgrade, when it asked for one that egret passes (`websocket`).
    pub upgrade: Option<OnUpgrade>,
    /// The caller's own token, verified: some credentials are had for it. Leaves only to the provider that exchanges it.
    pub caller_token: Option<Arc<Secret>>,
    /// How a refusal of this request must be spoken.
    pub manner: Manner,
    /// The open audit entry.
    pub entry: Entry,
}

impl Message {
    /// Ends the way here: closes the entry with the reason and gives the answer for the client.
    pub fn refuse(self, reason: Reason) -> Refusal {
        self.entry.refuse(reason, self.manner)
    }
}

/// A request's body: streamed, or read whole where the policy has to see what it says.
pub enum RequestBody {
    /// As it comes from the client.
    Stream(Incoming),
    /// All of it, and the room in memory that it takes.
    Whole(Full<Bytes>, Vec<OwnedSemaphorePermit>),
    /// As it comes from the client, and changed on the way: signed anew.
    Made(StreamBody),
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream(..)",
            Self::Whole(..) => "Whole(..)",
            Self::Made(_) => "Made(..)",
        })
    }
}

impl RequestBody {
    /// No body.
    pub fn nothing() -> Self {
        Self::Whole(Full::default(), Vec::new())
    }

    /// The same body once more, where it can be had: none at all, or one that was read whole.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Stream(stream) if stream.is_end_stream() => Some(Self::nothing()),
            Self::Stream(_) | Self::Made(_) => None,
            Self::Whole(whole, _) => Some(Self::Whole(whole.clone(), Vec::new())),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx).map_err(Into::into),
            Self::Whole(whole, _) => Pin::new(whole).poll_frame(cx).map_err(|never| match never {}),
            Self::Made(made) => made.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Whole(whole, _) => whole.is_end_stream(),
            Self::Made(made) => made.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(stream) => stream.size_hint(),
            Self::Whole(whole, _) => whole.size_hint(),
            Self::Made(made) => made.size_hint(),
        }
    }
}

/// The body of every answer. The audit entry travels in it and is closed when the answer is done or dropped.
pub struct AuditedBody {
    inner: Inner,
    entry: Option<Entry>,
}

enum Inner {
    Whole(Full<Bytes>),
    Stream(StreamBody),
}

impl AuditedBody {
    /// An answer of egret's own: its entry is closed already.
    pub fn whole(text: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Whole(Full::new(text.into())), entry: None }
    }

    /// An upstream's answer, with the entry that its end closes.
    pub fn stream(body: StreamBody, entry: Entry) -> Self {
        Self { inner: Inner::Stream(body), entry: Some(entry) }
    }
}

impl Body for AuditedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match &mut this.inner {
            Inner::Whole(whole) => {
                ready!(Pin::new(whole).poll_frame(cx)).map(|f| f.map_err(|never| match never {}))
            }
            Inner::Stream(stream) => ready!(stream.as_mut().poll_frame(cx)),
        };
        match (&frame, &mut this.entry) {
            (Some(Ok(frame)), Some(entry)) => {
                if let Some(data) = frame.data_ref() {
                    entry.sent(data.len());
                }
            }
            (Some(Err(error)), Some(entry)) => entry.broke(error.as_ref()),
            (None, Some(entry)) => entry.complete(),
            (_, None) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(whole) => whole.is_end_stream(),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(whole) => whole.size_hint(),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Drop for AuditedBody {
    fn drop(&mut self) {
        // hyper drops a body of known length after its last byte, without asking for the end.
        if self.is_end_stream()
            && let Some(entry) = &mut self.entry
        {
            entry.complete();
        }
    }
}

impl std::fmt::Debug for AuditedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditedBody(..)")
    }
}
