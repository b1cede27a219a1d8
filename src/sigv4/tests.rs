use super::*;
use crate::{secret::Secret, target::Scheme};
use std::time::Duration;

mod bodies;
mod hosts;
mod keys_from_sts;
mod vectors;

/// The keys of S3's documentation.
fn keys() -> Keys {
    Keys {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: Secret::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()),
        session_token: None,
    }
}

fn scope(service: &str) -> Scope {
    Scope { region: "us-east-1".to_owned(), service: service.to_owned() }
}

/// `20130524T000000Z`, as in S3's documentation.
fn may_2013() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn put(path: &'static str) -> Request<'static> {
    Request { method: &Method::PUT, authority: "examplebucket.s3.amazonaws.com", path, query: None }
}

/// Signs and gives what `authorization` says behind the credential.
fn signed(request: &Request<'_>, headers: &mut HeaderMap, payload: &Payload, service: &str) -> String {
    sign(request, headers, payload, &scope(service), &keys(), may_2013()).unwrap();
    let value = headers["authorization"].to_str().unwrap();
    value.split_once(", ").unwrap().1.to_owned()
}

fn empty() -> Payload {
    Payload::undeclared(&scope("s3"), Scheme::Https, Seen::Empty).unwrap()
}

#[test]
fn s3_gets_the_hash_that_its_documentation_shows() {
    // "GET Bucket Lifecycle" and "GET Bucket (List Objects)" of the API reference: nothing but what is signed here.
    for (query, signature) in [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        let request = Request {
            method: &Method::GET,
            authority: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: Some(query),
        };
        let expected = format!("SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}");
        assert_eq!(signed(&request, &mut HeaderMap::new(), &empty(), "s3"), expected);
    }
}

#[test]
fn nothing_of_the_clients_signature_is_left() {
    let dummy = "AWS4-HMAC-SHA256 Credential=DUMMY/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let mut sent = headers(&[
        ("authorization", dummy),
        ("x-amz-date", "19990101T000000Z"),
        ("x-amz-security-token", "dummy-token"),
        ("x-amz-s3session-token", "dummy-session"),
        ("x-amz-region-set", "*"),
        ("x-amz-signature", "0"),
        ("x-amz-signedheaders", "host"),
        ("x-amz-credential", "DUMMY"),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-content-sha256", "0"),
        ("x-amz-meta-color", "blue"),
    ]);
    sent.append("authorization", HeaderValue::from_static("Bearer dummy"));
    signed(&put("/a"), &mut sent, &empty(), "s3");
    let names: Vec<_> = sent.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names.iter().copied().collect::<std::collections::BTreeSet<_>>(),
        ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-meta-color"].into()
    );
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(sent["x-amz-date"], "20130524T000000Z");
    assert!(!format!("{sent:?}").contains("Signature="), "the signature is marked sensitive");
}

#[test]
fn what_may_still_change_on_the_way_is_not_signed() {
    let mut sent = headers(&[
        ("via", "1.1 x"),
        ("accept-encoding", "gzip"),
        ("connection", "close"),
        ("te", "trailers"),
        ("user-agent", "sdk"),
        ("expect", "100-continue"),
        ("content-length", "3"),
        ("range", "bytes=0-9"),
        ("if-range", "x"),
        ("transfer-encoding", "chunked"),
        ("host", "elsewhere.test"),
        ("x-amzn-trace-id", "Root=1"),
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
    ]);
    let bare = signed(&put("/a"), &mut HeaderMap::new(), &empty(), "s3");
    assert_eq!(signed(&put("/a"), &mut sent, &empty(), "s3"), bare);
    assert_eq!(sent["host"], "elsewhere.test", "it is the caller's to send");
}

#[test]
fn what_s3_demands_is_signed() {
    let mut sent = headers(&[
        ("content-type", "text/plain"),
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-meta-color", "blue"),
    ]);
    let all = signed(&put("/a"), &mut sent, &empty(), "s3");
    let names = "SignedHeaders=content-md5;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-color, Signature=";
    assert!(all.starts_with(names), "{all}");
    for (name, other) in [("content-type", "text/html"), ("content-md5", "0"), ("x-amz-meta-color", "red")] {
        let mut changed = sent.clone();
        changed.insert(name, HeaderValue::from_static(other));
        assert_ne!(signed(&put("/a"), &mut changed, &empty(), "s3"), all, "{name}");
    }
}

#[test]
fn a_session_token_is_sent_signed_and_not_shown() {
    let mut keys = keys();
    keys.session_token = Some(Secret::new(b"session-token".to_vec()));
    let mut sent = HeaderMap::new();
    sign(&put("/a"), &mut sent, &empty(), &scope("s3"), &keys, may_2013()).unwrap();
    assert_eq!(sent["x-amz-security-token"], "session-token");
    assert!(sent["x-amz-security-token"].is_sensitive() && sent["authorization"].is_sensitive());
    assert!(sent["authorization"].to_str().unwrap().contains(";x-amz-security-token, "));
}

#[test]
fn the_hash_is_sent_where_it_is_wanted_or_was_declared() {
    let declared = |value| Payload::declared(&headers(&[("x-amz-content-sha256", value)])).unwrap().unwrap();
    for (service, payload, expected) in [
        ("s3", empty(), true),
        ("glacier", empty(), true),
        ("aoss", empty(), true),
        ("dynamodb", empty(), false),
        ("dynamodb", declared("UNSIGNED-PAYLOAD"), true),
    ] {
        let mut sent = HeaderMap::new();
        signed(&put("/a"), &mut sent, &payload, service);
        assert_eq!(sent.contains_key("x-amz-content-sha256"), expected, "{service} {payload:?}");
    }
}

#[test]
fn keys_that_cannot_be_sent_are_refused_and_not_shown() {
    let with = |id: &str, secret: &str, token: Option<&str>| Keys {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.into()),
        session_token: token.map(|token| Secret::new(token.into())),
    };
    for (keys, flaw) in [
        (with("", "k", None), BadKeys::AccessKeyId),
        (with("AKIA\n", "k", None), BadKeys::AccessKeyId),
        (with("AKIA, SignedHeaders=", "k", None), BadKeys::AccessKeyId),
        (with("AKIA/x", "k", None), BadKeys::AccessKeyId),
        (with("AKIA", "", None), BadKeys::SecretAccessKey),
        (with("AKIA", "wJalrX\n", None), BadKeys::SecretAccessKey),
        (with("AKIA", "wJalrX ", None), BadKeys::SecretAccessKey),
        (with("AKIA", "k", Some("")), BadKeys::SessionToken),
        (with("AKIA", "k", Some("wJalrX\r\n")), BadKeys::SessionToken),
    ] {
        let mut sent = headers(&[("authorization", "dummy")]);
        let refused = sign(&put("/a"), &mut sent, &empty(), &scope("s3"), &keys, may_2013()).err();
        assert_eq!(refused, Some(flaw));
        assert!(!sent.contains_key("authorization") && !flaw.to_string().contains("wJalrX"));
    }
}

#[test]
fn a_body_is_covered_as_the_client_declared() {
    let declared = |values: &[&str]| {
        let pairs: Vec<_> = values.iter().map(|value| ("x-amz-content-sha256", *value)).collect();
        Payload::declared(&headers(&pairs)).map(|payload| payload.map(|payload| payload.as_str().to_owned()))
    };
    let (lower, upper) = ("0a".repeat(32), "0A".repeat(32));
    for word in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        &lower,
        &upper,
    ] {
        assert_eq!(declared(&[word]), Ok(Some(word.to_owned())));
    }
    assert_eq!(declared(&[]), Ok(None));
    for word in
        ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"]
    {
        assert_eq!(declared(&[word]), Err(BadPayload::Asymmetric));
    }
    let long = "0".repeat(65);
    for word in [
        "",
        "0",
        "unsigned-payload",
        "STREAMING-AWS4-HMAC-SHA256-EVENTS",
        &lower[1..],
        &long,
        &"g".repeat(64),
    ] {
        assert_eq!(declared(&[word]), Err(BadPayload::Unknown), "{word:?}");
    }
    assert_eq!(declared(&[&lower, &lower]), Err(BadPayload::Twice));
}

#[test]
fn a_body_that_nothing_was_declared_about_is_hashed_or_asked_for() {
    use Scheme::{Http, Https};
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; // of `hello`
    let none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (service, scheme, body, expected) in [
        ("s3", Https, Seen::Empty, Ok(none)),
        ("s3", Https, Seen::Whole(b"hello"), Ok(hash)),
        ("s3", Https, Seen::Stream, Ok("UNSIGNED-PAYLOAD")),
        ("s3express", Https, Seen::Stream, Ok("UNSIGNED-PAYLOAD")),
        ("s3-object-lambda", Https, Seen::Stream, Ok("UNSIGNED-PAYLOAD")),
        ("s3", Http, Seen::Stream, Err(NeedsBody)),
        ("sqs", Https, Seen::Empty, Ok(none)),
        ("sqs", Https, Seen::Whole(b"hello"), Ok(hash)),
        ("sqs", Https, Seen::Stream, Err(NeedsBody)),
        ("s3tables", Https, Seen::Stream, Err(NeedsBody)),
    ] {
        let payload = Payload::undeclared(&scope(service), scheme, body);
        assert_eq!(payload.as_ref().map(Payload::as_str), expected.as_ref().copied(), "{service} {body:?}");
    }
}

#[test]
fn a_path_is_spelled_as_its_service_reads_it() {
    use canonical::PathStyle::{Key, Twice};
    for (raw, style, expected) in [
        ("", Key, "/"),
        ("", Twice, "/"),
        // A key is read once and encoded once, however the client spelled it.
        ("/my%20key", Key, "/my%20key"),
        ("/%c3%a9", Key, "/%C3%A9"),
        ("/a+b(1)@x:y", Key, "/a%2Bb%281%29%40x%3Ay"),
        ("/a%2Bb%281%29%40x%3Ay", Key, "/a%2Bb%281%29%40x%3Ay"),
        ("/100%25", Key, "/100%25"),
        ("/100%", Key, "/100%25"),
        ("/%ff", Key, "/%FF"),
        ("//a//./../b/", Key, "//a//./../b/"),
        // Other services sign what was sent, encoded once more.
        ("/my%20key", Twice, "/my%2520key"),
        ("/%c3%a9", Twice, "/%25c3%25a9"),
        ("//a//./../b/", Twice, "/b/"),
        ("/a/..", Twice, "/"),
        ("/../../x/.", Twice, "/x/"),
        ("/.hidden/a..b", Twice, "/.hidden/a..b"),
        // From AWS's suite: double-encode-path and double-url-encode.
        ("/test/@connections/JBDvjfGEIAMCERw%3D", Twice, "/test/%40connections/JBDvjfGEIAMCERw%253D"),
        (
            "/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A892717189312%3Afunction%3Amy-rusty-fun/invocations",
            Twice,
            "/functions/arn%253Aaws%253Alambda%253Aus-west-2%253A892717189312%253Afunction%253Amy-rusty-fun/invocations",
        ),
    ] {
        assert_eq!(canonical::path(raw, style), expected, "{raw:?} {style:?}");
    }
}

#[test]
fn a_query_is_spelled_in_one_way() {
    for (raw, expected) in [
        ("", ""),
        ("acl", "acl="),
        ("b=2&a=1&a=0", "a=0&a=1&b=2"),
        ("a=b=c&&x", "a=b%3Dc&x="),
        ("prefix=a/b&x=%2f", "prefix=a%2Fb&x=%2F"),
        ("q=a+b%2B%20", "q=a%20b%2B%20"),
        ("q=%ff%zz'", "q=%FF%25zz%27"),
        ("Param-3=1&Param=2", "Param=2&Param-3=1"),
    ] {
        assert_eq!(canonical::query(raw), expected, "{raw:?}");
    }
}

#[test]
fn a_query_that_grows_by_being_encoded_is_signed() {
    let query = "'".repeat(60_000);
    let request =
        Request { method: &Method::GET, authority: "s3.amazonaws.com", path: "/", query: Some(&query) };
    assert!(signed(&request, &mut HeaderMap::new(), &empty(), "s3").contains("Signature="));
}
