//! Opens a content coding as it comes, in bounded pieces.

use std::{fmt, io, io::Write as _, mem};

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};
use bytes::{Buf as _, Bytes};
use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use zstd::stream::raw::{DParameter, InBuffer, Operation as _, OutBuffer};

use super::Encoding;

/// At most about this much comes of one step, however little input it takes.
const PIECE: usize = 32 * 1024;

/// So much may come of any input, before its ratio counts.
const HARMLESS: u64 = 64 * 1024 * 1024;

/// More output than this for a byte of input is a bomb. Text rarely passes 20, and deflate ends at 1032.
const MOST_PER_BYTE: u64 = 200;

/// The largest window, as a power of two, that a decoder must have (RFC 9659 §3): 8 MiB.
const ZSTD_WINDOW: u32 = 23;

/// Why a body could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// It does not follow its coding.
    #[error("the body does not follow its content coding")]
    Corrupt,
    /// It ended in the middle.
    #[error("the body ended in the middle of its content coding")]
    Truncated,
    /// It becomes too much larger than it was sent.
    #[error("the body unpacks to more than {MOST_PER_BYTE} times its size")]
    Bomb,
}

/// Opens one content coding.
///
/// All that the input so far gives comes out, so that events in a flushed stream are not delayed.
pub struct Decoder {
    codec: Codec,
    taken: u64,
    given: u64,
}

enum Codec {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Zstd),
}

impl Decoder {
    /// A decoder for one body.
    pub fn new(encoding: Encoding) -> Self {
        let codec = match encoding {
            Encoding::Gzip => Codec::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Encoding::Deflate => Codec::Deflate(Deflate::Unopened(Vec::new())),
            Encoding::Brotli => Codec::Brotli(Brotli::new()),
            Encoding::Zstd => Codec::Zstd(Zstd { decoder: None, in_frame: false }),
        };
        Self { codec, taken: 0, given: 0 }
    }

    /// Takes from the front of `input` and gives the next piece; an empty one when more input is needed.
    ///
    /// To be called until the piece is empty, also after all of the input was taken.
    ///
    /// # Errors
    /// When the input does not follow the coding, or unpacks to too much.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, Undecodable> {
        let before = input.len();
        let mut piece = Vec::new();
        loop {
            let left = input.len();
            match &mut self.codec {
                Codec::Gzip(decoder) => gunzip(decoder, input, &mut piece),
                Codec::Deflate(deflate) => deflate.step(input, &mut piece),
                Codec::Brotli(brotli) => brotli.step(input, &mut piece),
                Codec::Zstd(zstd) => zstd.step(input, &mut piece),
            }
            .map_err(|_| Undecodable::Corrupt)?;
            if !piece.is_empty() || input.is_empty() {
                break;
            }
            if input.len() == left {
                return Err(Undecodable::Corrupt); // it neither takes nor gives: bytes after the end
            }
        }
        self.taken += (before - input.len()) as u64;
        self.given += piece.len() as u64;
        if self.given > HARMLESS && self.given / MOST_PER_BYTE > self.taken {
            return Err(Undecodable::Bomb);
        }
        Ok(piece.into())
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// When the coding is not at its end, or its checksum is wrong. A body without a single byte is complete: so
    /// answer `HEAD` and 304.
    pub fn finish(&mut self) -> Result<(), Undecodable> {
        let complete = self.taken == 0
            || match &mut self.codec {
                Codec::Gzip(decoder) => decoder.try_finish().is_ok(),
                Codec::Deflate(deflate) => matches!(deflate, Deflate::Ended),
                Codec::Brotli(brotli) => brotli.ended,
                Codec::Zstd(zstd) => !zstd.in_frame,
            };
        if complete { Ok(()) } else { Err(Undecodable::Truncated) }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("taken", &self.taken)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

/// One call of `write` unpacks into a buffer of 32 KiB, and stops where that is full.
fn gunzip(decoder: &mut MultiGzDecoder<Vec<u8>>, input: &mut Bytes, piece: &mut Vec<u8>) -> io::Result<()> {
    if !input.is_empty() {
        let taken = decoder.write(input)?;
        input.advance(taken);
    }
    decoder.flush()?;
    *piece = mem::take(decoder.get_mut());
    Ok(())
}

/// zlib or bare deflate: the first two bytes tell (RFC 1950 §2.2).
enum Deflate {
    Unopened(Vec<u8>),
    Open(Box<Decompress>),
    Ended,
}

impl Deflate {
    fn step(&mut self, input: &mut Bytes, piece: &mut Vec<u8>) -> io::Result<()> {
        if let Self::Unopened(first) = self {
            while first.len() < 2 && input.has_remaining() {
                first.push(input.get_u8());
            }
            let [method, flags] = first[..] else { return Ok(()) };
            let zlib = method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
            let mut decoder = Box::new(Decompress::new(zlib));
            // Two bytes give no output yet, or too little to fill a piece.
            let status = inflate(&mut decoder, &first[..], piece)?.1;
            *self = if status == Status::StreamEnd { Self::Ended } else { Self::Open(decoder) };
        }
        if let Self::Open(decoder) = self {
            let (taken, status) = inflate(decoder, input, piece)?;
            input.advance(taken);
            if status == Status::StreamEnd {
                *self = Self::Ended;
            }
        }
        Ok(())
    }
}

fn inflate(decoder: &mut Decompress, input: &[u8], piece: &mut Vec<u8>) -> io::Result<(usize, Status)> {
    let before = decoder.total_in();
    piece.reserve(PIECE);
    let status = decoder.decompress_vec(input, piece, FlushDecompress::Sync)?;
    let taken = usize::try_from(decoder.total_in() - before).unwrap_or(input.len());
    Ok((taken, status))
}

struct Brotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    ended: bool,
}

impl Brotli {
    fn new() -> Self {
        // Strict: without the "large window" extension, so that a window is at most 16 MiB.
        let alloc = StandardAlloc::default;
        Self { state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())), ended: false }
    }

    fn step(&mut self, input: &mut Bytes, piece: &mut Vec<u8>) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let (mut left, mut taken, mut room, mut given) = (input.len(), 0, PIECE, 0);
        piece.resize(PIECE, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut given,
            piece,
            &mut 0,
            &mut self.state,
        );
        piece.truncate(given);
        input.advance(taken);
        match result {
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }
}

struct Zstd {
    decoder: Option<Box<zstd::stream::raw::Decoder<'static>>>,
    in_frame: bool,
}

impl Zstd {
    fn step(&mut self, input: &mut Bytes, piece: &mut Vec<u8>) -> io::Result<()> {
        let decoder = if let Some(decoder) = &mut self.decoder {
            decoder
        } else {
            let mut decoder = zstd::stream::raw::Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
            self.decoder.insert(Box::new(decoder))
        };
        if input.is_empty() && !self.in_frame {
            return Ok(()); // asking again would begin a frame that never comes
        }
        piece.reserve(PIECE);
        let mut from = InBuffer::around(input);
        let hint = decoder.run(&mut from, &mut OutBuffer::around(piece))?;
        let taken = from.pos();
        input.advance(taken);
        self.in_frame = hint != 0;
        Ok(())
    }
}
