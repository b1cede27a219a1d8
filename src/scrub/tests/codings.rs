use std::io::Write as _;

use http::{HeaderMap, HeaderValue, header};

use super::*;

const ALL: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];

/// `parts`, coded, with a flush after each.
fn coded(encoding: Encoding, parts: &[&[u8]]) -> Vec<Vec<u8>> {
    fn each<W: std::io::Write>(
        writer: &mut W,
        parts: &[&[u8]],
        mut taken: impl FnMut(&mut W) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        parts
            .iter()
            .map(|part| {
                writer.write_all(part).unwrap();
                writer.flush().unwrap();
                taken(writer)
            })
            .collect()
    }
    match encoding {
        Encoding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let mut out = each(&mut writer, parts, |writer| std::mem::take(writer.get_mut()));
            out.push(writer.finish().unwrap());
            out
        }
        Encoding::Deflate => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            let mut out = each(&mut writer, parts, |writer| std::mem::take(writer.get_mut()));
            out.push(writer.finish().unwrap());
            out
        }
        Encoding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            let mut out = each(&mut writer, parts, |writer| std::mem::take(writer.get_mut()));
            out.push(writer.into_inner());
            out
        }
        Encoding::Zstd => {
            let mut writer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            let mut out = each(&mut writer, parts, |writer| std::mem::take(writer.get_mut()));
            out.push(writer.finish().unwrap());
            out
        }
    }
}

fn decoded<'a>(encoding: Encoding, chunks: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, Undecodable> {
    let mut decoder = Decoder::new(encoding);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&drained(&mut decoder, chunk)?);
    }
    decoder.finish()?;
    Ok(out)
}

fn drained(decoder: &mut Decoder, chunk: &[u8]) -> Result<Vec<u8>, Undecodable> {
    let mut input = Bytes::copy_from_slice(chunk);
    let mut out = Vec::new();
    loop {
        let piece = decoder.decode(&mut input)?;
        assert!(piece.len() <= 128 * 1024, "pieces are bounded");
        if piece.is_empty() {
            assert!(input.is_empty());
            return Ok(out);
        }
        out.extend_from_slice(&piece);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_coded_comes_out_however_it_is_cut(
        which in 0..4_usize,
        text in proptest::collection::vec(any::<u8>(), 0..5000),
        again in 1..40_usize,
        cuts in proptest::collection::vec(0..100_000_usize, 0..20),
    ) {
        let text = text.repeat(again);
        let coded = coded(ALL[which], &[&text]).concat();
        prop_assert_eq!(&decoded(ALL[which], cut(&coded, cuts).into_iter()).unwrap(), &text);
        if coded.len() < 5000 {
            prop_assert_eq!(&decoded(ALL[which], coded.chunks(1)).unwrap(), &text);
        }
    }
}

#[test]
fn an_event_comes_out_with_its_flush() {
    for encoding in ALL {
        let events: [&[u8]; 3] = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"];
        let mut decoder = Decoder::new(encoding);
        for (chunk, event) in coded(encoding, &events).iter().zip(events) {
            assert_eq!(drained(&mut decoder, chunk).unwrap(), event, "{encoding:?}");
        }
    }
}

#[test]
fn what_ends_in_the_middle_is_an_error() {
    for encoding in ALL {
        let whole = coded(encoding, &[b"some text that is long enough to be cut"]).concat();
        for length in 1..whole.len() {
            let result = decoded(encoding, [&whole[..length]].into_iter());
            assert!(result.is_err(), "{encoding:?} cut at {length} of {}", whole.len());
        }
        assert!(decoded(encoding, std::iter::empty()).is_ok(), "an answer to HEAD has no bytes");
    }
}

#[test]
fn what_does_not_follow_its_coding_is_an_error() {
    for encoding in ALL {
        let mut whole = coded(encoding, &[b"some text that is long enough to be broken"]).concat();
        let result = decoded(encoding, [&b"<html>this is not what it says</html>"[..]].into_iter());
        assert!(result.is_err(), "{encoding:?}");
        whole.extend_from_slice(b"<html>");
        assert!(decoded(encoding, [&whole[..]].into_iter()).is_err(), "{encoding:?}: bytes after the end");
    }
}

#[test]
fn gzip_members_and_bare_deflate_are_opened() {
    let two =
        [coded(Encoding::Gzip, &[b"one "]).concat(), coded(Encoding::Gzip, &[b"two"]).concat()].concat();
    assert_eq!(decoded(Encoding::Gzip, two.chunks(3)).unwrap(), b"one two");
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    bare.write_all(b"bare deflate under the name of zlib").unwrap();
    let bare = bare.finish().unwrap();
    assert_eq!(decoded(Encoding::Deflate, bare.chunks(1)).unwrap(), b"bare deflate under the name of zlib");
}

#[test]
fn a_bomb_is_refused() {
    let zeroes = vec![0; 1024 * 1024];
    for encoding in ALL {
        let chunks = coded(encoding, &vec![&zeroes[..]; 80]);
        let mut decoder = Decoder::new(encoding);
        let mut given = 0;
        let result = chunks.iter().try_for_each(|chunk| {
            given += drained(&mut decoder, chunk)?.len();
            Ok(())
        });
        assert!(matches!(result, Err(Undecodable::Bomb)), "{encoding:?}: {result:?} after {given}");
    }
}

#[test]
fn codings_are_known_by_name() {
    let of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        Encoding::of(&headers)
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["identity"]), Ok(None));
    assert_eq!(of(&["X-GZIP"]), Ok(Some(Encoding::Gzip)));
    assert_eq!(of(&["identity, br"]), Ok(Some(Encoding::Brotli)));
    assert_eq!(of(&["foo"]), Err(UnknownEncoding));
    assert_eq!(of(&["gzip, br"]), Err(UnknownEncoding));
    assert_eq!(of(&["gzip", "gzip"]), Err(UnknownEncoding));
}

#[test]
fn only_what_can_be_opened_is_asked_for() {
    #[rustfmt::skip]
    let cases = [
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("gzip;q=0.5,dcb, br;q=1.0", "gzip;q=0.5, br;q=1.0"),
        ("compress", "identity"),
        ("*", "identity"),
        ("dcz, *;q=0, identity;q=1", "*;q=0, identity;q=1"),
        ("", ""),
    ];
    for (asked, narrowed) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(asked).unwrap());
        narrow_accept_encoding(&mut headers);
        assert_eq!(headers[header::ACCEPT_ENCODING], narrowed, "{asked}");
    }
    let mut headers = HeaderMap::new();
    narrow_accept_encoding(&mut headers);
    assert!(headers.is_empty());
}
