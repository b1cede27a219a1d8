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
    Ok(ScrubBody::new(body, encoding.map(Decoder::new), needles.clone(), length))
}

pin_project! {
    /// A body without its content coding and without secrets.
    ///
    /// Works frame by frame, holds nothing but what may begin a secret, and passes trailers on, scrubbed.
    #[derive(Debug)]
    pub struct ScrubBody<B> {
        #[pin]
        inner: B,
        decoder: Option<Decoder>,
        // Coded bytes that the decoder has not taken yet.
        coded: Bytes,
        // Whether the decoder may give more without new input.
        draining: bool,
        scrubber: Scrubber,
        needles: Arc<Needles>,
        length: Length,
        stage: Stage,
    }
}

#[derive(Debug)]
enum Stage {
    /// The upstream's body goes on.
    Streaming,
    /// It ended; these are its trailers.
    Ended(Option<HeaderMap>),
    /// All was handed on, or it broke.
    Done,
}

impl<B: Body<Data = Bytes>> ScrubBody<B> {
    /// Wraps `body`. With [`Length::Kept`] there must be no decoder.
    pub fn new(body: B, decoder: Option<Decoder>, needles: Arc<Needles>, length: Length) -> Self {
        let length = if decoder.is_some() { Length::Free } else { length };
        Self {
            inner: body,
            decoder,
            coded: Bytes::new(),
            draining: false,
            scrubber: Scrubber::new(needles.clone(), length),
            needles,
            length,
            stage: Stage::Streaming,
        }
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
        let next: Result<Option<Frame<Bytes>>, BoxError> = 'next: loop {
            match this.stage {
                Stage::Streaming => {}
                Stage::Ended(trailers) => {
                    let rest = this.scrubber.finish();
                    if !rest.is_empty() {
                        break Ok(Some(Frame::data(rest)));
                    }
                    let trailers = trailers.take();
                    *this.stage = Stage::Done;
                    break Ok(trailers.map(Frame::trailers));
                }
                Stage::Done => break Ok(None),
            }
            while *this.draining
                && let Some(decoder) = this.decoder
            {
                match decoder.decode(this.coded) {
                    Ok(piece) if piece.is_empty() => *this.draining = false,
                    Ok(piece) => {
                        let clean = this.scrubber.push(piece);
                        if !clean.is_empty() {
                            break 'next Ok(Some(Frame::data(clean)));
                        }
                    }
                    Err(error) => break 'next Err(error.into()),
                }
            }
            let frame = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => break Err(error.into()),
                None => {
                    if let Some(Err(error)) = this.decoder.as_mut().map(Decoder::finish) {
                        break Err(error.into());
                    }
                    *this.stage = Stage::Ended(None);
                    continue;
                }
            };
            match frame.into_data() {
                Ok(data) if this.decoder.is_some() => {
                    *this.coded = data;
                    *this.draining = true;
                }
                Ok(data) => {
                    let clean = this.scrubber.push(data);
                    if !clean.is_empty() {
                        break Ok(Some(Frame::data(clean)));
                    }
                }
                Err(frame) => {
                    if let Some(Err(error)) = this.decoder.as_mut().map(Decoder::finish) {
                        break Err(error.into());
                    }
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    this.needles.scrub_headers(&mut trailers);
                    *this.stage = Stage::Ended(Some(trailers));
                }
            }
        };
        if next.is_err() {
            *this.stage = Stage::Done;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Streaming => {
                self.inner.is_end_stream() && self.scrubber.held() == 0 && self.decoder.is_none()
            }
            Stage::Ended(trailers) => trailers.is_none() && self.scrubber.held() == 0,
            Stage::Done => true,
        }
    }

    /// Exact where the inner body's is and lengths are kept; otherwise unknown.
    fn size_hint(&self) -> SizeHint {
        match (&self.stage, self.length) {
            (Stage::Done, _) => SizeHint::with_exact(0),
            (Stage::Ended(_), _) if self.length == Length::Kept => {
                SizeHint::with_exact(self.scrubber.held() as u64)
            }
            (Stage::Streaming, Length::Kept) => {
                let held = self.scrubber.held() as u64;
                self.inner
                    .size_hint()
                    .exact()
                    .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + held))
            }
            _ => SizeHint::default(),
        }
    }
}
