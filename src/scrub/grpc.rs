//! Where a gRPC message ends (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! A client may wait for a whole message before it goes on, so nothing of one may be held back when it is
//! complete. No secret is lost by that: the next message's five bytes of prefix stand between.

use http::{HeaderMap, header};

/// Bytes before each message: one of flags, four of length.
const PREFIX: usize = 5;

/// Follows the messages of one stream.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The prefix as far as it has come.
    prefix: Vec<u8>,
    /// Bytes that the current message still has.
    left: u64,
}

impl Messages {
    /// For an answer that carries messages.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        kind.get(..16).filter(|kind| kind.eq_ignore_ascii_case(b"application/grpc")).map(|_| Self::default())
    }

    /// Takes data in, and says whether a message is complete at its end.
    pub(super) fn take(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(data.len() as u64);
                self.left -= taken;
                data = data.get(usize::try_from(taken).unwrap_or(usize::MAX)..).unwrap_or_default();
                continue;
            }
            let taken = (PREFIX - self.prefix.len()).min(data.len());
            let (head, rest) = data.split_at(taken);
            self.prefix.extend_from_slice(head);
            data = rest;
            if let [_, a, b, c, d] = *self.prefix.as_slice() {
                self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.prefix.clear();
            }
        }
        self.left == 0 && self.prefix.is_empty()
    }
}

/// Whether messages are compressed one by one, so that a secret inside cannot be found.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_prefix_says() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        let ends = [8, 13, 274];
        let mut messages = Messages::default();
        for (at, byte) in stream.iter().enumerate() {
            assert_eq!(messages.take(&[*byte]), ends.contains(&(at + 1)), "after byte {at}");
        }
        assert!(Messages::default().take(&stream), "in one piece");
    }
}
