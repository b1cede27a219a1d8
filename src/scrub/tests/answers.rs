use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::*;

/// A body of these frames.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    exact: Option<u64>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.pop_front();
        if let (Some(exact), Some(data)) = (&mut self.exact, frame.as_ref().and_then(Frame::data_ref)) {
            *exact -= data.len() as u64;
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn frames(chunks: &[&[u8]]) -> Frames {
    let frames = chunks.iter().map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect();
    Frames { frames, exact: None }
}

fn headers<const N: usize>(pairs: [(&'static str, &'static str); N]) -> HeaderMap {
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

#[tokio::test]
async fn a_body_of_known_length_keeps_it() {
    let mut body = frames(&[b"{\"key\": \"sk-live", b"-7Qz/+&k9\"}"]);
    body.exact = Some(27);
    let mut headers =
        headers([("content-length", "27"), ("content-md5", "x"), ("x-key", "sk-live-7Qz/+&k9")]);
    let mut body = scrub_answer(&needles(&[SECRET]), &mut headers, body).unwrap();
    assert_eq!(headers, self::headers([("content-length", "27"), ("x-key", "[redacted]")]));
    assert_eq!(body.size_hint().exact(), Some(27));
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "{\"key\": \"");
    assert_eq!(body.size_hint().exact(), Some(18));
    assert!(!body.is_end_stream());
    assert_eq!(body.collect().await.unwrap().to_bytes(), "[redacted]******\"}");
}

#[tokio::test]
async fn a_coded_body_is_opened_and_scrubbed() {
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coded.write_all(&[b"before ", SECRET, b" after"].concat()).unwrap();
    let coded = coded.finish().unwrap();
    let chunks: Vec<&[u8]> = coded.chunks(5).collect();
    let mut headers = headers([("content-encoding", "gzip"), ("content-length", "53"), ("etag", "\"x\"")]);
    let body = scrub_answer(&needles(&[SECRET]), &mut headers, frames(&chunks)).unwrap();
    assert_eq!(headers, self::headers([("etag", "\"x\"")]));
    assert_eq!(body.size_hint().exact(), None);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "before [redacted] after");

    let cut: Vec<&[u8]> = chunks[..chunks.len() - 1].to_vec();
    let mut headers = self::headers([("content-encoding", "gzip")]);
    let body = scrub_answer(&needles(&[SECRET]), &mut headers, frames(&cut)).unwrap();
    assert!(body.collect().await.is_err(), "a body that was cut off is no complete body");
}

#[tokio::test]
async fn an_unknown_coding_is_not_passed_on() {
    let mut headers = headers([("content-encoding", "foo")]);
    assert!(scrub_answer(&needles(&[SECRET]), &mut headers, frames(&[b"x"])).is_err());
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_its_headers() {
    let mut headers = headers([("content-encoding", "gzip"), ("content-length", "53")]);
    let body = scrub_answer(&needles(&[SECRET]), &mut headers, frames(&[])).unwrap();
    assert_eq!(headers.len(), 2);
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn trailers_are_scrubbed_and_come_last() {
    let mut body = frames(&[b"text sk-live-7"]);
    body.frames.push_back(Frame::trailers(headers([
        ("grpc-status", "16"),
        ("grpc-message", "bad sk-live-7Qz/+&k9"),
    ])));
    let body = scrub_answer(&needles(&[SECRET]), &mut HeaderMap::new(), body).unwrap();
    let collected = body.collect().await.unwrap();
    assert_eq!(
        collected.trailers(),
        Some(&headers([("grpc-status", "16"), ("grpc-message", "bad [redacted]")]))
    );
    assert_eq!(collected.to_bytes(), "text sk-live-7");
}

#[tokio::test]
async fn a_whole_grpc_message_is_not_held_back() {
    // Its last bytes could begin the secret, and a client may wait for them.
    let (message, next) = ([&[0, 0, 0, 0, 7][..], b"sk-live"].concat(), [0, 0, 0, 0, 1, b'x']);
    for (kind, first) in [("application/grpc", &message[..]), ("text/plain", &message[..5])] {
        let mut headers = headers([("content-type", kind)]);
        let body = frames(&[&message, &next]);
        let mut body = scrub_answer(&needles(&[SECRET]), &mut headers, body).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), first, "{kind}");
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, &rest].concat(), [&message[..], &next].concat(), "nothing is lost");
    }
}

#[test]
fn compressed_grpc_messages_are_not_passed_on() {
    let mut compressed = headers([("content-type", "application/grpc"), ("grpc-encoding", "gzip")]);
    assert!(scrub_answer(&needles(&[SECRET]), &mut compressed, frames(&[b"x"])).is_err());
    let mut asked = headers([("grpc-accept-encoding", "gzip, identity")]);
    narrow_accept_encoding(&mut asked);
    assert!(asked.is_empty());
}
