//! Bodies that carry signatures of their own (`aws-chunked`), signed anew while they stream.
//!
//! ```text
//! 10000;chunk-signature=<64 digits>\r\n<65536 bytes>\r\n
//! 0;chunk-signature=<64 digits>\r\n
//! x-amz-checksum-crc32c:sOO8/Q==\r\n                        with `…-TRAILER` only
//! x-amz-trailer-signature:<64 digits>\r\n                   with `…-TRAILER` only
//! \r\n
//! ```
//!
//! Each signature covers the one before it, the first that of the request, so all of them change with the key. Their
//! length does not: they are overwritten in place and the body keeps its length.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{key::SigningKey, payload::Ending, scope::Dated};
use crate::{message::BoxError, secret::sha256_hex};

/// The signatures of a body's chunks, from the request's own onwards.
///
/// Purposefully not `Clone`: two bodies of one chain would be one body to AWS.
pub struct Chain {
    key: SigningKey,
    /// Time and scope, as every text to sign repeats them.
    head: String,
    previous: String,
    ending: Ending,
}

impl Chain {
    /// Begins with the signature of the request.
    pub(super) fn new(key: SigningKey, stamp: &str, scope: &Dated<'_>, seed: String, ending: Ending) -> Self {
        Self { key, head: format!("{stamp}\n{scope}"), previous: seed, ending }
    }

    fn chunk(&mut self, data: &[u8]) -> &str {
        let hashes = format!("{}\n{}", sha256_hex(b""), sha256_hex(data));
        self.advance("AWS4-HMAC-SHA256-PAYLOAD", &hashes)
    }

    fn trailers(&mut self, canonical: &[u8]) -> &str {
        self.advance("AWS4-HMAC-SHA256-TRAILER", &sha256_hex(canonical))
    }

    fn advance(&mut self, algorithm: &str, covered: &str) -> &str {
        let text = format!("{algorithm}\n{}\n{}\n{covered}", self.head, self.previous);
        self.previous = self.key.sign(text.as_bytes());
        &self.previous
    }
}

/// Why a body is not what its headers say. The text is safe to show: it repeats nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not `aws-chunked`: {0}")]
pub struct Malformed(&'static str);

pin_project! {
    /// A body whose chunk signatures are replaced by ours. What the client signed with is not checked.
    ///
    /// Holds one chunk at a time, since its signature stands before it, and the frame it came with: 64 KiB to 1 MiB
    /// with the SDKs, 16 MiB at most. Dropped in the middle, it leaves the upstream with a body cut short.
    pub struct Resigned<B> {
        #[pin]
        inner: B,
        rewriter: Rewriter,
        is_broken: bool,
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Resigned<B> {
    /// Wraps a body with the chain that [`super::sign`] gave for its request.
    pub fn new(inner: B, chain: Chain) -> Self {
        let rewriter = Rewriter { chain, held: BytesMut::new(), stage: Stage::Chunks };
        Self { inner, rewriter, is_broken: false }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for Resigned<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if *this.is_broken {
            return Poll::Ready(None);
        }
        loop {
            let step = match this.rewriter.next() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) => match ready!(this.inner.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            this.rewriter.held.extend_from_slice(&data);
                            continue;
                        }
                        // Trailers of HTTP itself end a body too.
                        Err(frame) => this.rewriter.finish().map(|()| Some(frame)).map_err(Into::into),
                    },
                    Some(Err(error)) => Err(error),
                    None => this.rewriter.finish().map(|()| None).map_err(Into::into),
                },
                Err(malformed) => Err(malformed.into()),
            };
            *this.is_broken = step.is_err();
            return Poll::Ready(step.transpose());
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_broken || self.rewriter.finish().is_ok() && self.inner.is_end_stream()
    }

    /// As long as what comes in and what is held: no byte is added or taken away.
    fn size_hint(&self) -> SizeHint {
        let held = self.rewriter.held.len() as u64;
        match self.inner.size_hint().exact() {
            Some(rest) if !self.is_broken => SizeHint::with_exact(rest + held),
            _ => SizeHint::default(),
        }
    }
}

/// Finds the signatures in what was received, and overwrites them.
struct Rewriter {
    chain: Chain,
    /// Received and not yet handed on.
    held: BytesMut,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Chunks,
    Trailers,
    End,
}

impl Rewriter {
    /// The next piece that is whole, signed; none where more must be received first.
    fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.stage {
            Stage::Chunks => self.chunk(),
            Stage::Trailers => self.trailers(),
            Stage::End if self.held.is_empty() => Ok(None),
            Stage::End => Err(Malformed("there is something behind its end")),
        }
    }

    /// Whether the body may end here.
    fn finish(&self) -> Result<(), Malformed> {
        if self.stage == Stage::End && self.held.is_empty() {
            Ok(())
        } else {
            Err(Malformed("it ends early"))
        }
    }

    fn chunk(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(line) = until(&self.held, b"\r\n", LONGEST_LINE) else {
            return self.wait(LONGEST_LINE, "a chunk's first line is too long");
        };
        let size = size_of(line)?;
        let line = line.len() + 2;
        // The last chunk's line break ends the body, and trailers stand before it.
        let end = if size == 0 && self.chain.ending == Ending::Trailers { 0 } else { 2 };
        let total = line + size + end;
        let Some(chunk) = self.held.get(..total) else { return Ok(None) };
        let (data, after) = chunk.get(line..).unwrap_or_default().split_at(size);
        if !after.is_empty() && after != b"\r\n" {
            return Err(Malformed("a chunk is longer than it says"));
        }
        let signature = self.chain.chunk(data);
        overwrite(&mut self.held, line - 2, signature);
        if size == 0 {
            self.stage = if end == 0 { Stage::Trailers } else { Stage::End };
        }
        Ok(Some(self.held.split_to(total).freeze()))
    }

    fn trailers(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(lines) = until(&self.held, b"\r\n\r\n", LONGEST_TRAILERS) else {
            return self.wait(LONGEST_TRAILERS, "its trailers are too long");
        };
        let total = lines.len() + 4;
        let signature = self.chain.trailers(&canonical_trailers(lines)?);
        overwrite(&mut self.held, total - 4, signature);
        self.stage = Stage::End;
        Ok(Some(self.held.split_to(total).freeze()))
    }

    fn wait(&self, most: usize, malformed: &'static str) -> Result<Option<Bytes>, Malformed> {
        if self.held.len() < most { Ok(None) } else { Err(Malformed(malformed)) }
    }
}

/// What stands before `end`, if that is within the first `most` bytes.
fn until<'a>(held: &'a [u8], end: &[u8], most: usize) -> Option<&'a [u8]> {
    let held = held.get(..most).unwrap_or(held);
    held.get(..held.windows(end.len()).position(|window| window == end)?)
}

/// Puts a signature where the one of the same length ended.
fn overwrite(held: &mut BytesMut, end: usize, signature: &str) {
    if let Some(place) = held.get_mut(end - SIGNATURE..end) {
        place.copy_from_slice(signature.as_bytes());
    }
}

/// The size in `SIZE;chunk-signature=SIGNATURE`.
fn size_of(line: &[u8]) -> Result<usize, Malformed> {
    let malformed = Malformed("a chunk's first line is not `SIZE;chunk-signature=SIGNATURE`");
    let line = std::str::from_utf8(line).map_err(|_| malformed)?;
    let (size, extension) = line.split_once(';').ok_or(malformed)?;
    let signature = extension.strip_prefix("chunk-signature=").ok_or(malformed)?;
    if !is_signature(signature.as_bytes()) || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(malformed);
    }
    let size = usize::from_str_radix(size, 16).map_err(|_| malformed)?;
    if size > LARGEST_CHUNK { Err(Malformed("a chunk is larger than 16 MiB")) } else { Ok(size) }
}

/// The trailers as they are signed, if a signature comes last. Some clients end the others with `\n\r\n`.
fn canonical_trailers(block: &[u8]) -> Result<Vec<u8>, Malformed> {
    let malformed = Malformed("its trailers are not `name:value` lines and then `x-amz-trailer-signature`");
    let mut lines = Vec::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            let colon = line.iter().position(|byte| *byte == b':').ok_or(malformed)?;
            let (name, value) = line.split_at(colon);
            lines.push((name.to_ascii_lowercase(), value.get(1..).unwrap_or_default().trim_ascii()));
        }
    }
    let (name, signature) = lines.pop().ok_or(malformed)?;
    if name != b"x-amz-trailer-signature"
        || !is_signature(signature)
        || !block.ends_with(signature)
        || lines.is_empty()
    {
        return Err(malformed);
    }
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(lines.iter().flat_map(|(name, value)| [name.as_slice(), b":", value, b"\n"].concat()).collect())
}

fn is_signature(text: &[u8]) -> bool {
    text.len() == SIGNATURE && text.iter().all(u8::is_ascii_hexdigit)
}

/// How long a signature is.
const SIGNATURE: usize = 64;
/// Far more than any SDK sends, and what one upload may take of the memory.
const LARGEST_CHUNK: usize = 16 * 1024 * 1024;
/// Sixteen digits, the extension and the line break.
const LONGEST_LINE: usize = 16 + ";chunk-signature=".len() + SIGNATURE + 2;
/// A few checksums.
const LONGEST_TRAILERS: usize = 4096;
