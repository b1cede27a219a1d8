use super::*;

fn path(raw: &str) -> Result<String, BadTarget> {
    Path::parse(raw).map(|p| p.as_str().to_owned())
}

#[test]
fn a_host_has_one_spelling() {
    for (written, meant) in [
        ("API.Good.Test", "api.good.test"),
        ("api.good.test.", "api.good.test"),
        ("10.0.0.5", "10.0.0.5"),
        ("[::1]", "[::1]"),
        ("[0:0::1]", "[::1]"),
        ("xn--80ak6aa92e.com", "xn--80ak6aa92e.com"),
    ] {
        assert_eq!(Host::parse(written).map(|h| h.to_string()), Ok(meant.to_owned()), "{written}");
    }
}

#[test]
fn a_host_that_two_parsers_read_differently_is_refused() {
    let long = "a".repeat(64);
    let deep = format!("{}b", "a.".repeat(127));
    for bad in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "[api.good.test]",
        "[::1",
        "[::1%25lo]",
        "::1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "010.0.0.5",
        "127.0.0.1.",
        "1.2.3.4.5",
        "api%2egood.test",
        "a b.test",
        "good\0.evil",
        "аpi.good.test",
        "ａｐｉ.test",
        "*.good.test",
        "a/b",
        "u@h",
        "a:b",
        "-a.test",
        "a-.test",
        &long,
        &deep,
        "a\\b",
    ] {
        assert!(Host::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_port_is_a_plain_number() {
    for bad in [
        "a.test:",
        "a.test:0",
        "a.test:+443",
        "a.test:0443",
        "a.test:65536",
        "a.test:https",
        "a.test:443,80",
        "u@a.test:443",
        "::1:80",
        "a.test:4 3",
    ] {
        assert!(Authority::parse(bad, Some(443)).is_err(), "{bad:?}");
    }
    assert!(Authority::parse("a.test", None).is_err());
    assert_eq!(Authority::parse("[::1]:8443", None).map(|a| a.to_string()), Ok("[::1]:8443".to_owned()));
    assert_eq!(
        Authority::parse("a.test:443", None).map(|a| a.host_header(Scheme::Https)),
        Ok("a.test".to_owned())
    );
    assert_eq!(
        Authority::parse("a.test:443", None).map(|a| a.host_header(Scheme::Http)),
        Ok("a.test:443".to_owned())
    );
}

#[test]
fn an_escape_that_hides_nothing_is_decoded() {
    assert_eq!(path("/v1/%61dmin/%7Euser/a%20b/%C3%a9"), Ok("/v1/admin/~user/a%20b/%C3%A9".to_owned()));
    assert_eq!(path("/"), Ok("/".to_owned()));
    assert_eq!(path("/v1/files/"), Ok("/v1/files/".to_owned()));
    assert_eq!(path("/v1/models/gemini:generate"), Ok("/v1/models/gemini:generate".to_owned()));
    assert_eq!(path("/a/100%25"), Ok("/a/100%25".to_owned()));
    assert_eq!(path("/v1/public/a%3f/x"), Ok("/v1/public/a%3F/x".to_owned()));
}

#[test]
fn a_path_that_could_be_another_path_is_refused() {
    for bad in [
        "",
        "*",
        "v1",
        "/v1/public/../admin",
        "/v1/./a",
        "/v1/..",
        "/v1/.",
        "/v1/public/%2e%2e/admin",
        "/v1/public/%2E./admin",
        "/v1/public%2f..%2fadmin",
        "/v1%2Fadmin",
        "/v1/public/%252e%252e/admin",
        "/v1/public/%25%32%65%25%32%65/admin",
        "/v1/public/%252%65/admin",
        "/v1/public/%25%32e/admin",
        "/a%25%32%66b",
        "/v1/public/..%20/admin",
        "/v1/public/..%3f/admin",
        "/v1/public/.%23x/admin",
        "/a%255cb",
        "/a%252fb",
        "/a%2500",
        "/a%253b",
        "//v1/admin",
        "/v1//admin",
        "/v1/public//",
        "/v1/public/..;/admin",
        "/v1/admin;x=1",
        "/v1/admin%3bx",
        "/v1/public/..\\admin",
        "/a%5cb",
        "/%c0%ae%c0%ae/admin",
        "/%ff",
        "/a%00",
        "/a%0d%0ab",
        "/a%09",
        "/a%7f",
        "/a b",
        "/\u{1}",
        "/é",
        "/a%",
        "/a%2",
        "/a%zz",
    ] {
        assert!(path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_method_is_exactly_its_name() {
    assert_eq!(Method::named("GET"), Method::Get);
    for other in ["get", "TRACE", "PROPFIND", "CONNECT", "GET ", ""] {
        assert_eq!(Method::named(other), Method::Other, "{other:?}");
    }
}

#[test]
fn query_keys_are_decoded_and_values_stay_out() {
    let query = Query::parse("a=1&%61pi_key=S;token=x&&b").map(|q| q.keys(10));
    assert_eq!(query, Ok(vec!["a".to_owned(), "api_key".to_owned(), "token".to_owned(), "b".to_owned()]));
    assert!(Query::parse("a=\u{e9}").is_err() && Query::parse("a=1\r\n").is_err());
}

proptest::proptest! {
    #[test]
    fn the_canonical_path_is_its_own_canonical_path(raw in "/[a-zA-Z0-9%./~_:@!$&'()*+,=-]{0,40}") {
        if let Ok(once) = path(&raw) {
            proptest::prop_assert_eq!(path(&once), Ok(once.clone()));
        }
    }
}
