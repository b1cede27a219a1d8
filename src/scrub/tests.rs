use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

mod answers;
mod codings;

const SECRET: &[u8] = b"sk-live-7Qz/+&k9";

fn needles(secrets: &[&[u8]]) -> Arc<Needles> {
    Arc::new(Needles::of(secrets).unwrap())
}

/// What replacing in the whole text gives.
fn whole(needles: &Needles, text: &[u8], length: Length) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(Range { start, end }) = needles.find(text, at) {
        out.extend_from_slice(&text[at..start]);
        match length {
            Length::Free => out.extend_from_slice(b"[redacted]"),
            Length::Kept if end - start < 10 => out.resize(out.len() + end - start, b'*'),
            Length::Kept => {
                out.extend_from_slice(b"[redacted]");
                out.resize(out.len() + end - start - 10, b'*');
            }
        }
        at = end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

fn pushed<'a>(needles: &Arc<Needles>, length: Length, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut scrubber = Scrubber::new(needles.clone(), length);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(chunk)));
        assert!(scrubber.held() < needles.longest, "only a proper beginning of a needle is held back");
    }
    out.extend_from_slice(&scrubber.finish());
    out
}

fn cut(text: &[u8], cuts: Vec<usize>) -> Vec<&[u8]> {
    let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn however_it_is_cut_the_whole_is_scrubbed(
        // Few letters, and secrets that overlap and begin each other, so that every kind of border is met.
        text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c'), Just(b'%')], 0..400),
        cuts in proptest::collection::vec(0..400_usize, 0..40),
        kept in any::<bool>(),
    ) {
        let length = if kept { Length::Kept } else { Length::Free };
        let needles = needles(&[b"abcab", b"abcabcab", b"bcabca", b"cabc", b"aaaa", b"aaaaaaab"]);
        let expected = whole(&needles, &text, length);
        prop_assert_eq!(&pushed(&needles, length, cut(&text, cuts).into_iter()), &expected);
        prop_assert_eq!(&pushed(&needles, length, text.chunks(1)), &expected);
        prop_assert!(!kept || expected.len() == text.len());
    }

    #[test]
    fn a_secret_is_found_anywhere_in_any_text(
        before in proptest::collection::vec(any::<u8>(), 0..600),
        after in proptest::collection::vec(any::<u8>(), 0..600),
        cuts in proptest::collection::vec(0..2000_usize, 0..10),
    ) {
        let needles = needles(&[SECRET]);
        let text = [&before[..], SECRET, &after[..]].concat();
        let out = pushed(&needles, Length::Free, cut(&text, cuts).into_iter());
        prop_assert_eq!(&out, &whole(&needles, &text, Length::Free));
        prop_assert!(!out.windows(SECRET.len()).any(|window| window == SECRET));
    }
}

#[test]
fn every_form_is_found() {
    let secret = br#"s3cr"et\/+&<'=k 9Qz"#;
    let needles = needles(&[secret]);
    #[rustfmt::skip]
    let forms: &[&str] = &[
        r#"s3cr"et\/+&<'=k 9Qz"#,
        "czNjciJldFwvKyY8Jz1rIDlReg==", //                            base64
        "s3cr%22et%5C%2F%2B%26%3C%27%3Dk%209Qz", //                   RFC 3986
        "s3cr%22et%5c%2f%2b%26%3c%27%3dk%209Qz",
        "s3cr%22et%5C%2F%2B%26%3C'%3Dk%209Qz", //                     encodeURIComponent
        "s3cr%22et%5C%2F%2B%26%3C%27%3Dk+9Qz", //                     form
        "s3cr%22et%5C/+&%3C'=k%209Qz", //                             encodeURI
        r#"s3cr\"et\\/+&<'=k 9Qz"#, //                                JSON
        r#"s3cr\"et\\\/+&<'=k 9Qz"#, //                               PHP
        r#"s3cr\"et\\/+\u0026\u003c'=k 9Qz"#, //                      Go
        r#"s3cr\"et\\/+\u0026\u003c\u0027\u003dk 9Qz"#, //            Gson
        r"s3cr\u0022et\\/\u002B\u0026\u003C\u0027=k 9Qz", //          .NET
        r#"s3cr\\\"et\\\\/+&<'=k 9Qz"#, //                            JSON in JSON
        r#"s3cr"et\/+&amp;&lt;'=k 9Qz"#, //                           HTML
        r"s3cr&quot;et\/+&amp;&lt;&#x27;=k 9Qz", //                   Python
        r"s3cr&quot;et\/+&amp;&lt;&#39;=k 9Qz",
        r"s3cr&quot;et\/+&amp;&lt;&#039;=k 9Qz", //                   PHP
        r"s3cr&#34;et\/&#43;&amp;&lt;&#39;=k 9Qz", //                 Go
        "733363722265745c2f2b263c273d6b2039517a", //                  hex
        "733363722265745C2F2B263C273D6B2039517A",
    ];
    for form in forms {
        let out = pushed(&needles, Length::Free, [form.as_bytes()].into_iter());
        assert_eq!(String::from_utf8(out).unwrap(), "[redacted]", "{form}");
    }
    let units: String = secret.iter().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat();
    let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let entities: String = secret.iter().map(|byte| format!("&#{byte};")).collect::<Vec<_>>().concat();
    for form in [units, percent, entities] {
        assert_eq!(pushed(&needles, Length::Free, [form.as_bytes()].into_iter()), b"[redacted]", "{form}");
    }
}

#[test]
fn base64_is_found_wherever_it_begins_in_a_longer_text() {
    use base64::{Engine as _, engine::general_purpose};
    let needles = needles(&[SECRET]);
    for before in ["", "x", "xy", "user:", "a:b:"] {
        for after in ["", ":", "\n{}", "zz"] {
            let text = [before.as_bytes(), SECRET, after.as_bytes()].concat();
            for alphabet in [&general_purpose::STANDARD, &general_purpose::URL_SAFE_NO_PAD] {
                let form = alphabet.encode(&text);
                let out = pushed(&needles, Length::Free, form.as_bytes().chunks(7));
                let out = String::from_utf8(out).unwrap();
                let left = out.replace("[redacted]", "").trim_end_matches('=').len();
                // What is left encodes the neighbours, and one character at each edge.
                assert!(left <= (before.len() + after.len()) * 4 / 3 + 4, "{form} gives {out}");
                assert!(out.contains("[redacted]"), "{form} gives {out}");
            }
        }
    }
}

#[test]
fn a_short_secret_is_found_as_it_is_or_not_at_all() {
    assert!(Needles::of(&[b"abc"]).is_none());
    assert!(Needles::of(&[]).is_none());
    let needles = needles(&[b"hunter"]);
    let out = pushed(&needles, Length::Free, [&b"hunter 68756e746572"[..]].into_iter());
    assert_eq!(out, b"[redacted] 68756e746572");
}

#[test]
fn a_clean_chunk_is_passed_on_without_a_copy() {
    let mut scrubber = Scrubber::new(needles(&[SECRET]), Length::Free);
    let chunk = Bytes::from(vec![b'x'; 4096]);
    let out = scrubber.push(chunk.clone());
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
    let chunk = Bytes::from_static(b"data: {\"text\":\"hello sk-liv\"}\n\n");
    assert_eq!(scrubber.push(chunk.clone()).as_ptr(), chunk.as_ptr());
    assert_eq!(scrubber.replaced(), 0);
}

#[test]
fn only_what_may_begin_a_secret_is_held_back() {
    let mut scrubber = Scrubber::new(needles(&[SECRET]), Length::Free);
    let mut push = |text: &'static str| String::from_utf8(scrubber.push(Bytes::from(text)).to_vec()).unwrap();
    assert_eq!(push("data: one\n\n"), "data: one\n\n");
    assert_eq!(push("data: sk-li"), "data: ");
    assert_eq!(push("ke\n\n"), "sk-like\n\n");
    assert_eq!(push("data: sk-live-7"), "data: ");
    // The secret is complete with its last byte, and no needle goes on from there.
    assert_eq!(push("Qz/+&k9"), "[redacted]");
    assert_eq!(push("\n\n"), "\n\n");
    assert_eq!(scrubber.replaced(), 1);
    assert_eq!(scrubber.held(), 0);
}

#[test]
fn a_replacement_can_keep_the_length() {
    let scrub = |secret: &[u8], text: &[u8]| {
        String::from_utf8(pushed(&needles(&[secret]), Length::Kept, text.chunks(3))).unwrap()
    };
    assert_eq!(scrub(b"0123456789ab", b"<0123456789ab>"), "<[redacted]**>");
    assert_eq!(scrub(b"0123456789", b"<0123456789>"), "<[redacted]>");
    assert_eq!(scrub(b"01234567", b"<01234567>"), "<********>");
}

#[test]
fn header_values_are_scrubbed() {
    let needles = needles(&[SECRET]);
    let mut headers = http::HeaderMap::new();
    headers.insert(
        "x-echo",
        http::HeaderValue::from_bytes(&[b"Bearer ", SECRET, b", ", SECRET].concat()).unwrap(),
    );
    headers.insert("x-clean", http::HeaderValue::from_static("sk-live"));
    assert_eq!(needles.scrub_headers(&mut headers), 1);
    assert_eq!(headers["x-echo"], "Bearer [redacted], [redacted]");
    assert_eq!(headers["x-clean"], "sk-live");
}

#[test]
fn needles_do_not_print() {
    assert_eq!(format!("{:?}", needles(&[SECRET])), "Needles(..)");
}
