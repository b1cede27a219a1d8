//! What must not come back: the injected secret, in every form that an upstream may echo it.
//!
//! [`Needles`] are the forms of the secrets of one request. A [`Scrubber`] replaces them in a stream, across the
//! borders of chunks, and holds back only what could be the beginning of one. A [`Decoder`] opens the content
//! codings that egret knows, and a [`ScrubBody`] puts both into the way of an answer's body.

mod body;
mod decoder;
mod encoding;
mod forms;
mod grpc;
mod needles;
mod scrubber;

pub use body::{ScrubBody, scrub_answer};
pub use decoder::{Decoder, Undecodable};
pub use encoding::{Encoding, UnknownEncoding, narrow_accept_encoding};
pub use needles::Needles;
pub use scrubber::{Length, Scrubber};

#[cfg(test)]
mod tests;
