//! Bodies that carry signatures.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::*;
use crate::message::BoxError;

/// A body that comes in these pieces.
struct Pieces(VecDeque<Result<Frame<Bytes>, BoxError>>);

impl Pieces {
    fn of(bytes: &[u8], size: usize) -> Self {
        Self(bytes.chunks(size.max(1)).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect())
    }

    fn cut_at(bytes: &[u8], at: usize) -> Self {
        let (one, other) = bytes.split_at(at);
        Self([one, other].map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).into())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.0.iter().flatten().filter_map(Frame::data_ref);
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

/// The chain of S3's examples "PUT Object" in chunks. They sign more headers than we do, so the seed is given.
fn chain(mode: &str) -> Chain {
    let payload = Payload::declared(&headers(&[("x-amz-content-sha256", mode)])).unwrap().unwrap();
    let request = Request {
        method: &Method::PUT,
        authority: "s3.amazonaws.com",
        path: "/examplebucket/chunkObject.txt",
        query: None,
    };
    let mut sent = headers(&[
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("content-length", "66824"),
        ("x-amz-content-sha256", mode),
    ]);
    let mut seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    if mode == TRAILER {
        seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
        sent.insert("x-amz-trailer", HeaderValue::from_static("x-amz-checksum-crc32c"));
        sent.remove("content-length");
    }
    let style = Style { path: canonical::PathStyle::Key, signs: |name| *name != header::AUTHORIZATION };
    let chain = attach(&request, &mut sent, &payload, &scope("s3"), &keys(), &Stamp::of(may_2013()), &style);
    let authorization = sent["authorization"].to_str().unwrap();
    assert!(
        authorization.ends_with(&format!("Signature={seed}")),
        "the seed of the example: {authorization}"
    );
    chain.unwrap().unwrap()
}

/// What a client with a key worth nothing sends.
fn from_client(chunks: &[&[u8]], end: &[u8]) -> Vec<u8> {
    let dummy = "d".repeat(64);
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend_from_slice(format!("{:x};chunk-signature={dummy}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    body.extend_from_slice(end);
    body
}

fn trailers() -> Vec<u8> {
    format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{}\r\n\r\n", "d".repeat(64))
        .into_bytes()
}

/// S3's example, with its signatures.
fn example(signatures: [&str; 3], end: &[u8]) -> Vec<u8> {
    let data = vec![b'a'; 65536];
    let [one, two, last] = signatures;
    [
        format!("10000;chunk-signature={one}\r\n").as_bytes(),
        &data,
        format!("\r\n400;chunk-signature={two}\r\n").as_bytes(),
        &data[..1024],
        format!("\r\n0;chunk-signature={last}\r\n").as_bytes(),
        end,
    ]
    .concat()
}

fn signed_example() -> Vec<u8> {
    example(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        b"\r\n",
    )
}

fn signed_example_with_trailers() -> Vec<u8> {
    example(
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    )
}

async fn resigned(body: Pieces, mode: &str) -> Result<Vec<u8>, String> {
    let whole = Resigned::new(body, chain(mode)).collect().await;
    whole.map(|whole| whole.to_bytes().to_vec()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_chunks_of_the_documentation_are_signed_as_it_shows() {
    let body = from_client(&[&vec![b'a'; 65536], &[b'a'; 1024], b""], b"\r\n");
    let expected = signed_example();
    assert_eq!(expected.len(), 66824, "as the example says");
    for size in [1, 7, 1000, 65536, body.len()] {
        assert!(resigned(Pieces::of(&body, size), CHUNKS).await.unwrap() == expected, "in pieces of {size}");
    }
}

#[tokio::test]
async fn the_trailers_of_the_documentation_are_signed_as_it_shows() {
    let body = from_client(&[&vec![b'a'; 65536], &[b'a'; 1024], b""], &trailers());
    let expected = signed_example_with_trailers();
    assert_eq!(expected.len(), 66946, "as the example says");
    for size in [1, 7, 1000, 65536, body.len()] {
        assert!(resigned(Pieces::of(&body, size), TRAILER).await.unwrap() == expected, "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_body_may_be_cut_anywhere_on_its_way() {
    let chunks: [&[u8]; 4] = [b"hello\r\n0;chunk-signature=", b"\r\n\r\n", b"x", b""];
    for (mode, end) in [(CHUNKS, b"\r\n".to_vec()), (TRAILER, trailers())] {
        let body = from_client(&chunks, &end);
        let expected = resigned(Pieces::of(&body, body.len()), mode).await.unwrap();
        assert_eq!(expected.len(), body.len());
        assert!(
            !expected.windows(8).any(|window| window == b"dddddddd"),
            "no signature of the client's is left"
        );
        for at in 0..=body.len() {
            assert_eq!(resigned(Pieces::cut_at(&body, at), mode).await.as_ref(), Ok(&expected), "at {at}");
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_early_fails() {
    for (mode, end) in [(CHUNKS, b"\r\n".to_vec()), (TRAILER, trailers())] {
        let body = from_client(&[b"hello", b""], &end);
        for at in 0..body.len() {
            let failed = resigned(Pieces::of(&body[..at], 10), mode).await.unwrap_err();
            assert_eq!(failed, "the body is not `aws-chunked`: it ends early", "at {at}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_framed_otherwise_fails() {
    let ok = "d".repeat(64);
    let chunk = |line: &str| format!("{line}\r\nhello\r\n0;chunk-signature={ok}\r\n\r\n");
    for body in [
        "hello, this is the object itself, as it is when somebody forgets to frame it, and it is long enough"
            .into(),
        "hello\r\n".into(),
        chunk("5"),
        chunk(&format!("5;chunk-signature={}", &ok[1..])),
        chunk(&format!("5;chunk-signature={ok}d")),
        chunk(&format!("5;chunk-signature={}g", &ok[1..])),
        chunk(&format!("5;signature={ok}")),
        chunk(&format!("5;chunk-signature={ok};x=y")),
        chunk(&format!("5 ;chunk-signature={ok}")),
        chunk(&format!("+5;chunk-signature={ok}")),
        chunk(&format!(";chunk-signature={ok}")),
        chunk(&format!("fffffffffffffffff;chunk-signature={ok}")),
        // The data is shorter or longer than it says.
        chunk(&format!("4;chunk-signature={ok}")),
        chunk(&format!("6;chunk-signature={ok}")),
        format!("5;chunk-signature={ok}\r\nhelloxx0;chunk-signature={ok}\r\n\r\n"),
        // More than 16 MiB.
        chunk(&format!("1000001;chunk-signature={ok}")),
        chunk(&format!("ffffffffffffffff;chunk-signature={ok}")),
        // Something behind the end.
        format!("0;chunk-signature={ok}\r\n\r\nx"),
        format!("0;chunk-signature={ok}\r\nx-amz-checksum-crc32c:x\r\n\r\n"),
    ] {
        for size in [1, 1000] {
            let failed = resigned(Pieces::of(body.as_bytes(), size), CHUNKS).await.unwrap_err();
            assert!(failed.starts_with("the body is not `aws-chunked`: "), "{failed}");
            assert!(!failed.ends_with("ends early"), "{body:?}: it was not waited for more");
            assert!(!failed.contains("hello"), "the body is not repeated");
        }
    }
}

#[tokio::test]
async fn trailers_without_a_signature_fail() {
    let ok = "d".repeat(64);
    let long = format!("x:{}", "y".repeat(5000));
    for end in [
        "\r\n\r\n\r\n".to_owned(),
        "x-amz-checksum-crc32c:x\r\n\r\n".into(),
        format!("x-amz-trailer-signature:{ok}\r\n\r\n"),
        format!("x-amz-trailer-signature:{ok}\r\nx-amz-checksum-crc32c:x\r\n\r\n"),
        format!("x-amz-checksum-crc32c:x\r\nx-amz-trailer-signature:{}\r\n\r\n", &ok[1..]),
        format!("x-amz-checksum-crc32c:x\r\nx-amz-trailer-signature:{ok} \r\n\r\n"),
        format!("no colon\r\nx-amz-trailer-signature:{ok}\r\n\r\n"),
        format!("x:y\r\nx-amz-trailer-signature:{ok}\r\n\r\nz"),
        long,
    ] {
        let body = from_client(&[b"hello", b""], end.as_bytes());
        let failed = resigned(Pieces::of(&body, body.len()), TRAILER).await.unwrap_err();
        assert!(!failed.ends_with("ends early"), "{end:?}: {failed}");
    }
}

#[tokio::test]
async fn trailers_are_signed_in_order_whatever_line_ends_them() {
    let ok = "d".repeat(64);
    let end = |lines: &str| format!("{lines}x-amz-trailer-signature:{ok}\r\n\r\n");
    let mut signatures = Vec::new();
    for lines in ["a:1\r\nb:2\r\n", "B: 2\r\nA:1 \r\n", "a:1\nb:2\n\r\n"] {
        let body = from_client(&[b"hello", b""], end(lines).as_bytes());
        let whole = resigned(Pieces::of(&body, 3), TRAILER).await.unwrap();
        assert_eq!(whole.len(), body.len());
        signatures.push(whole[whole.len() - 68..].to_vec());
    }
    assert!(signatures.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test]
async fn the_length_is_told_and_kept() {
    let body = from_client(&[b"hello", b"you", b""], b"\r\n");
    let mut resigned = Resigned::new(Pieces::of(&body, 20), chain(CHUNKS));
    let mut sent = 0;
    while !resigned.is_end_stream() {
        assert_eq!(resigned.size_hint().exact(), Some((body.len() - sent) as u64));
        sent += resigned.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    assert_eq!(sent, body.len());
    assert!(resigned.frame().await.is_none());
}

#[tokio::test]
async fn a_chunk_is_handed_on_before_the_next_comes() {
    let body = from_client(&[b"hello", b""], b"\r\n");
    let first = from_client(&[b"hello"], b"").len();
    let mut pieces = Pieces::cut_at(&body, first);
    pieces.0.insert(1, Err("the client went away".into()));
    let mut resigned = Resigned::new(pieces, chain(CHUNKS));
    assert_eq!(resigned.frame().await.unwrap().unwrap().into_data().unwrap().len(), first);
    assert_eq!(resigned.frame().await.unwrap().unwrap_err().to_string(), "the client went away");
    assert!(resigned.frame().await.is_none(), "nothing comes behind an error");
}

#[tokio::test]
async fn trailers_of_http_pass_behind_the_end_and_not_before() {
    let body = from_client(&[b"hello", b""], b"\r\n");
    for (length, passes) in [(body.len(), true), (body.len() - 1, false)] {
        let mut pieces = Pieces::of(&body[..length], 1000);
        pieces.0.push_back(Ok(Frame::trailers(headers(&[("x-checksum", "1")]))));
        let whole = Resigned::new(pieces, chain(CHUNKS)).collect().await;
        assert_eq!(whole.is_ok_and(|whole| whole.trailers().is_some()), passes);
    }
}

#[test]
fn only_a_body_with_signatures_has_a_chain() {
    for (mode, expected) in [
        (CHUNKS, true),
        (TRAILER, true),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", false),
        ("UNSIGNED-PAYLOAD", false),
    ] {
        let payload = Payload::declared(&headers(&[("x-amz-content-sha256", mode)])).unwrap().unwrap();
        let mut sent = HeaderMap::new();
        let chain = sign(&put("/a"), &mut sent, &payload, &scope("s3"), &keys(), may_2013()).unwrap();
        assert_eq!(chain.is_some(), expected, "{mode}");
        assert_eq!(sent["x-amz-content-sha256"], mode);
    }
}
