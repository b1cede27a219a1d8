//! An answer's body, opened and scrubbed while it streams.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::grpc::{self, Messages};
use super::{Decoder, Encoding, Length, Needles, Scrubber, UnknownEncoding};
use crate::message::BoxError;

/// Digests of the bytes as the upstream sent them (RFC 9530, RFC 3230, RFC 2616 §14.15). They would not fit what
/// is handed on, and one over a text with the secret in it would let a guess at the secret be checked.
const DIGESTS: [HeaderName; 5] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("unencoded-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Puts the scrub into the way of an answer: takes the secrets out of its headers, makes the headers that speak
/// of the body's bytes fit what will be handed on, and wraps the body.
///
/// # Errors
/// When the body's coding cannot be opened; the answer must then not be passed on.
pub fn scrub_answer<B>(
    needles: &Arc<Needles>,
    headers: &mut HeaderMap,
    body: B,
) -> Result<ScrubBody<B>, UnknownEncoding>
where
    B: Body<Data = Bytes>,
{
    needles.scrub_headers(headers);
    if body.is_end_stream() {
        // An answer to `HEAD`, or a 304: its headers speak of a body that is not sent.
        return Ok(ScrubBody::new(body, None, needles.clone(), Length::Free));
    }
    let encoding = Encoding::of(headers)?;
    if grpc::is_compressed(headers) {
        return Err(UnknownEncoding);
    }
    for digest in &DIGESTS {
        headers.remove(digest);
    }
    let length = if encoding.is_none() && headers.contains_key(header::CONTENT_LENGTH) {
        Length::Kept
    } else {
        Length::Free
    };
    if encoding.is_some() {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        // Ranges count the bytes of the coded form (RFC 9110 §14.1.2).
        headers.remove(header::ACCEPT_RANGES);
    }
    let mut scrubbed = ScrubBody::new(body, encoding.map(Decoder::new), needles.clone(), length);
    scrubbed.passage.messages = Messages::of(headers);
    Ok(scrubbed)
}

pin_project! {
    /// A body without its content coding and without secrets.
    ///
    /// Works frame by frame, holds nothing but what may begin a secret, and passes trailers on, scrubbed.
    #[derive(Debug)]
    pub struct ScrubBody<B> {
        #[pin]
        inner: B,
        passage: Passage,
        needles: Arc<Needles>,
        length: Length,
        stage: Stage,
    }
}

#[derive(Debug)]
enum Stage {
    /// The upstream's body goes on.
    Streaming,
    /// It ended, and all its bytes were handed on; these are its trailers.
    Ended(Option<HeaderMap>),
    /// All was handed on, or it broke.
    Done,
}

impl<B: Body<Data = Bytes>> ScrubBody<B> {
    /// Wraps `body`. With a decoder the length cannot be kept.
    pub fn new(body: B, decoder: Option<Decoder>, needles: Arc<Needles>, length: Length) -> Self {
        let length = if decoder.is_some() { Length::Free } else { length };
        let scrubber = Scrubber::new(needles.clone(), length);
        let passage = Passage { decoder, waiting: None, scrubber, messages: None };
        Self { inner: body, passage, needles, length, stage: Stage::Streaming }
    }
}

impl<B> Body for ScrubBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            let step = match this.stage {
                Stage::Done => return Poll::Ready(None),
                Stage::Ended(trailers) => {
                    let trailers = trailers.take();
                    *this.stage = Stage::Done;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Stage::Streaming if this.passage.has_more() => this.passage.next(),
                Stage::Streaming => match ready!(this.inner.as_mut().poll_frame(cx)) {
                    Some(Err(error)) => Err(error.into()),
                    None => {
                        *this.stage = Stage::Ended(None);
                        this.passage.end()
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => Ok(this.passage.take(data)),
                        Err(frame) => {
                            let mut trailers = frame.into_trailers().unwrap_or_default();
                            this.needles.scrub_headers(&mut trailers);
                            *this.stage = Stage::Ended(Some(trailers));
                            this.passage.end()
                        }
                    },
                },
            };
            match step {
                Ok(None) => {}
                Ok(Some(clean)) => return Poll::Ready(Some(Ok(Frame::data(clean)))),
                Err(error) => {
                    *this.stage = Stage::Done;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Streaming => self.inner.is_end_stream() && self.passage.is_empty(),
            Stage::Ended(trailers) => trailers.is_none(),
            Stage::Done => true,
        }
    }

    /// Exact where the inner body's is and lengths are kept; otherwise unknown.
    fn size_hint(&self) -> SizeHint {
        match (&self.stage, self.length) {
            (Stage::Streaming, Length::Kept) => {
                let held = self.passage.scrubber.held() as u64;
                let exact = self.inner.size_hint().exact().map(|rest| rest + held);
                exact.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            (Stage::Streaming, Length::Free) => SizeHint::default(),
            (Stage::Ended(_) | Stage::Done, _) => SizeHint::with_exact(0),
        }
    }
}

/// What bytes go through: the decoder, where there is one, and the scrubber.
#[derive(Debug)]
struct Passage {
    decoder: Option<Decoder>,
    /// Coded bytes of which the decoder may still give something.
    waiting: Option<Bytes>,
    scrubber: Scrubber,
    /// Where a gRPC stream's messages end; nothing is held back there.
    messages: Option<Messages>,
}

impl Passage {
    /// Takes data in, and gives what can be handed on at once. What must be opened first comes by [`Self::next`].
    fn take(&mut self, data: Bytes) -> Option<Bytes> {
        if self.decoder.is_some() {
            self.waiting = Some(data);
            return None;
        }
        let complete = self.messages.as_mut().is_some_and(|messages| messages.take(&data));
        let clean = self.scrubber.push(data);
        if !complete || self.scrubber.held() == 0 {
            return filled(clean);
        }
        Some([clean, self.scrubber.finish()].concat().into())
    }

    /// Whether [`Self::next`] may give something.
    fn has_more(&self) -> bool {
        self.waiting.is_some()
    }

    /// The next piece of what was taken in.
    fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        let (Some(decoder), Some(waiting)) = (&mut self.decoder, &mut self.waiting) else {
            return Ok(None);
        };
        let piece = decoder.decode(waiting)?;
        if piece.is_empty() {
            self.waiting = None;
        }
        Ok(filled(self.scrubber.push(piece)))
    }

    /// Says that nothing more comes, and gives the rest.
    fn end(&mut self) -> Result<Option<Bytes>, BoxError> {
        if let Some(decoder) = &mut self.decoder {
            decoder.finish()?;
        }
        Ok(filled(self.scrubber.finish()))
    }

    fn is_empty(&self) -> bool {
        self.decoder.is_none() && self.scrubber.held() == 0
    }
}

fn filled(bytes: Bytes) -> Option<Bytes> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}
