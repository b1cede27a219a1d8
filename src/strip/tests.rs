use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{
    plan::{How, Intercept, Keep, Obtained, Placement, PrivateReach, SecretRef, Service, StripPlan},
    target::{Query, Scheme},
};

fn plan(placements: Vec<Placement>, strip: StripPlan, keep: Keep) -> Plan {
    Plan {
        integration_id: crate::context::IntegrationId::parse("acme").unwrap(),
        service: Arc::new(Service {
            id: crate::context::ServiceId::parse("acme").unwrap(),
            scheme: Scheme::Https,
            intercept: Intercept::Always,
            private: PrivateReach::Nowhere,
            strip,
            keep,
            max_body: None,
            via: true,
            response_timeout: None,
            errors: Box::default(),
        }),
        credential: Some(CredentialSpec::Static(placements.into())),
        certificate: None,
        limits: Arc::new([]),
    }
}

fn secret() -> SecretRef {
    SecretRef::Env("KEY".into())
}

fn header(name: &'static str) -> Placement {
    Placement::Header { name: HeaderName::from_static(name), prefix: String::new(), secret: secret() }
}

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Names of what is left, sorted, and what was reported.
fn check(pairs: &[(&str, &str)], plan: Option<&Plan>) -> (Vec<String>, Vec<String>) {
    let mut headers = map(pairs);
    let mut stripped = strip_headers(&mut headers, plan);
    let mut left: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    left.sort_unstable();
    stripped.sort_unstable();
    (left, stripped)
}

fn check_query(text: &str, plan: Option<&Plan>) -> (Option<String>, Vec<String>) {
    let mut stripped = Vec::new();
    let query = query::strip(Query::parse(text).unwrap(), plan, &mut stripped);
    (query.map(|query| query.as_str().to_owned()), stripped)
}

#[test]
fn nothing_that_authenticates_remains() {
    #[rustfmt::skip]
    let names = [
        "AUTHORIZATION", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Auth-Token", "Private-Token", "Cookie",
        "X-Amz-Security-Token", "X-Functions-Key", "Ocp-Apim-Subscription-Key", "X-Shopify-Access-Token",
        "DD-API-KEY", "DD-APPLICATION-KEY", "X-Vault-Token", "PRIVATE-TOKEN", "Job-Token", "Deploy-Token",
        "Developer-Token", "xi-api-key", "x-goog-iam-authorization-token", "X-Acme-Api-Key", "DPoP",
        "x_api_key", "api_token", "fern_api_key", "X_Auth-Token", "wm_sec.access_token", "X-CMC_PRO_API_KEY",
    ];
    for name in names {
        let (left, stripped) = check(&[(name, "C"), (name, "D"), ("accept", "*/*")], None);
        assert_eq!(left, ["accept"], "{name}");
        assert_eq!(stripped, [name.to_ascii_lowercase()]);
    }
}

#[test]
fn what_an_api_needs_remains() {
    #[rustfmt::skip]
    let names = [
        "accept", "accept-encoding", "anthropic-beta", "anthropic-version", "content-encoding", "content-type",
        "idempotency-key", "if-none-match", "mcp-session-id", "notion-version", "openai-organization", "origin",
        "range", "sec-websocket-key", "sec-websocket-version", "stripe-account", "user-agent", "x-csrf-token",
        "x-github-api-version", "x-goog-user-project", "x-request-id", "x-stainless-lang", "x-amz-target",
        "x-amz-meta-name", "x-goog-meta-key", "grpc-timeout", "x-idempotency-key",
    ];
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, "v")).collect();
    let (left, stripped) = check(&pairs, None);
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert_eq!(stripped, Vec::<String>::new());
}

#[test]
fn a_connection_cannot_take_away_what_the_body_was_read_by() {
    let pairs = [
        ("connection", "content-type, Content-Encoding, mcp-method, mcp-session-id, x-other"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("mcp-method", "tools/call"),
        ("mcp-session-id", "7"),
        ("x-other", "1"),
    ];
    let (left, _) = check(&pairs, None);
    assert_eq!(left, ["content-encoding", "content-type", "mcp-method", "mcp-session-id"]);
}

#[test]
fn hop_by_hop_goes_before_anything_is_attached() {
    let (left, stripped) = check(
        &[
            ("connection", "authorization, X-Injected"),
            ("connection", "keep-alive, te"),
            ("authorization", "Bearer C"),
            ("x-injected", "C"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
            ("http2-settings", "AA"),
            ("expect", "100-continue"),
            ("host", "h"),
            ("via", "1.1 x"),
            ("accept", "*/*"),
        ],
        None,
    );
    assert_eq!(left, ["accept"]);
    assert_eq!(stripped, Vec::<String>::new());

    let mut headers = map(&[("connection", "x-injected"), ("x-injected", "C")]);
    strip_headers(&mut headers, None);
    headers.insert("x-injected", HeaderValue::from_static("S"));
    assert_eq!(headers, map(&[("x-injected", "S")]), "nothing is left that could take it away again");
}

#[test]
fn trailers_are_still_accepted_where_the_client_accepts_them() {
    for (te, left) in [("trailers", true), ("gzip;q=0.5, Trailers", true), ("gzip", false)] {
        let mut headers = map(&[("te", te), ("connection", "te")]);
        strip_headers(&mut headers, None);
        assert_eq!(headers.get("te").is_some_and(|value| value == "trailers"), left, "{te}");
    }
}

#[test]
fn identity_and_routing_and_traces_do_not_leave() {
    let (left, stripped) = check(
        &[
            ("X-Agent-Id", "a"),
            ("X-Agent-Authorization", "Bearer jwt"),
            ("x_agent_anything", "a"),
            ("agent-id", "a"),
            ("agent_id", "a"),
            ("correlation_id", "a"),
            ("X-Correlation-Id", "a"),
            ("X-Tenant-Id", "a"),
            ("X-Approval-Id", "a"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("X-Real-IP", "127.0.0.1"),
            ("X-Proxy-Decision", "allow"),
            ("X-Envoy-Original-Path", "/admin"),
            ("traceparent", "00-x"),
            ("tracestate", "x"),
            ("baggage", "tenant=x"),
        ],
        None,
    );
    assert_eq!((left.len(), stripped.len()), (0, 0), "{left:?} {stripped:?}");
}

#[test]
fn an_upstream_is_not_asked_to_read_another_request_than_the_one_that_was_judged() {
    let keep =
        Keep { request_headers: vec![HeaderName::from_static("x-http-method-override")], ..Keep::default() };
    let plan = plan(vec![], StripPlan::default(), keep);
    let pairs =
        [("X-HTTP-Method-Override", "DELETE"), ("X_Original_URL", "/admin"), ("X-Rewrite-Url", "/admin")];
    let (left, stripped) = check(&pairs, Some(&plan));
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(stripped, ["x-http-method-override", "x-rewrite-url", "x_original_url"]);
}

#[test]
fn the_slot_of_the_credential_is_emptied_and_so_are_the_others() {
    let plan = plan(vec![header("x-acme")], StripPlan::default(), Keep::default());
    let (left, stripped) = check(&[("authorization", "C"), ("X-Acme", "C"), ("x_acme", "C")], Some(&plan));
    assert_eq!(left, ["x_acme"; 0]);
    assert_eq!(stripped, ["authorization", "x-acme", "x_acme"]);
}

#[test]
fn keep_lets_through_but_never_what_matters_most() {
    let names =
        ["cookie", "authorization", "x-api-key", "proxy-authorization", "x-agent-id", "host", "traceparent"];
    let keep = Keep { request_headers: names.map(HeaderName::from_static).to_vec(), ..Keep::default() };
    let plan = plan(vec![header("x-api-key")], StripPlan::default(), keep);
    let (left, stripped) = check(&names.map(|name| (name, "C")), Some(&plan));
    assert_eq!(left, ["cookie", "traceparent"]);
    assert_eq!(stripped, ["authorization", "x-api-key"]);
}

#[test]
fn a_service_strips_more() {
    let strip = StripPlan { headers: vec![HeaderName::from_static("x-team")], query: vec!["team".into()] };
    let plan = plan(vec![], strip, Keep::default());
    assert_eq!(check(&[("x-team", "C")], Some(&plan)), (vec![], vec!["x-team".to_owned()]));
    assert_eq!(check_query("a=1&Team=C", Some(&plan)), (Some("a=1".into()), vec!["query:team".into()]));
}

#[test]
fn an_aws_signature_goes_as_a_whole() {
    let date = ("x-amz-date", "20260101T000000Z");
    let hash = ("x-amz-content-sha256", "e3b0");
    let signed = check(&[("authorization", "AWS4-HMAC-SHA256 Credential=C"), date, hash], None);
    assert_eq!(signed.0, Vec::<String>::new());
    assert_eq!(check(&[("authorization", "Bearer C"), date, hash], None).0.len(), 2);
}

#[test]
fn keys_among_subprotocols_go_and_the_others_stay() {
    #[rustfmt::skip]
    let cases = [
        ("realtime, openai-insecure-api-key.sk-C, openai-beta.realtime-v1", Some("realtime, openai-beta.realtime-v1")),
        ("base64url.bearer.authorization.k8s.io.QUJD, v4.channel.k8s.io", Some("v4.channel.k8s.io")),
        ("token, 0123456789abcdef", None),
        ("graphql-ws,  Bearer, C", Some("graphql-ws")),
        ("mqtt", Some("mqtt")),
    ];
    for (sent, left) in cases {
        let mut headers = map(&[("sec-websocket-protocol", sent)]);
        let stripped = strip_headers(&mut headers, None);
        let value = headers.get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(value, left, "{sent}");
        assert_eq!(stripped.is_empty(), left == Some(sent));
    }
}

#[test]
fn query_keys_that_authenticate_go_and_the_rest_is_untouched() {
    #[rustfmt::skip]
    let cases = [
        ("key=C", None),
        ("a=1&key=C&b=%7e+x", Some("a=1&b=%7e+x")),
        ("api_key=C;b=2", Some("b=2")),
        ("a=1;apiKey=C&b=2", Some("a=1&b=2")),
        ("access_token=C&access_token=D", None),
        ("%61ccess%5Ftoken=C&x", Some("x")),
        ("API-Key=C&api.key=C&api+key=C&key[]=C&+token=C&x=", Some("x=")),
        ("X-Amz-Signature=C&X-Amz-Credential=C&x-amz-meta-a=1", Some("x-amz-meta-a=1")),
        ("X-Goog-Signature=C&sig=C&client_secret=C", None),
        ("page_token=1&pageToken=2&monkey=3&keys=4&tokens=5", Some("page_token=1&pageToken=2&monkey=3&keys=4&tokens=5")),
        ("&&a=1&&", Some("&&a=1&&")),
        ("", Some("")),
    ];
    for (sent, left) in cases {
        assert_eq!(check_query(sent, None).0.as_deref(), left, "{sent}");
    }
    assert_eq!(check_query("Api-Key=C&a", None).1, ["query:api_key"]);
}

#[test]
fn a_kept_query_key_stays_unless_it_is_the_slot() {
    let slot = Placement::Query { name: "token".into(), secret: secret() };
    let keep = Keep { query: vec!["key".into(), "token".into()], ..Keep::default() };
    let plan = plan(vec![slot], StripPlan::default(), keep);
    assert_eq!(
        check_query("key=PROJ&token=C", Some(&plan)),
        (Some("key=PROJ".into()), vec!["query:token".into()])
    );
}

#[test]
fn only_kept_trailers_pass_and_none_that_authenticates() {
    let mut trailers =
        map(&[("authorization", "C"), ("x-api-key", "C"), ("x-checksum", "1"), ("x-other", "1")]);
    let keep = ["authorization", "x-api-key", "x-checksum", "host"].map(HeaderName::from_static);
    keep_trailers(&keep, &mut trailers);
    assert_eq!(trailers, map(&[("x-checksum", "1")]));
    keep_trailers(&[], &mut trailers);
    assert!(trailers.is_empty());
}

proptest! {
    #[test]
    fn what_stays_in_a_query_is_byte_identical_and_in_order(
        parts in proptest::collection::vec(
            (any::<bool>(), "[a-j][!-%'-:<-~]{0,12}", prop_oneof![Just('&'), Just(';')]), 0..12)
    ) {
        // Parts that begin with these letters and a number never authenticate.
        let (mut sent, mut left) = (String::new(), String::new());
        for (secret, text, separator) in &parts {
            let text = format!("q1{}", text.replace('#', "").replace('%', "%25"));
            if !sent.is_empty() { sent.push(*separator) }
            if *secret {
                sent.push_str("api%5fkey=C");
            } else {
                if !left.is_empty() { left.push(*separator) }
                sent.push_str(&text);
                left.push_str(&text);
            }
        }
        let expected = if left.is_empty() && !parts.is_empty() { None } else { Some(left) };
        prop_assert_eq!(check_query(&sent, None).0, expected);
    }
}

#[test]
fn what_is_obtained_takes_the_place_of_the_clients_authorization() {
    let mut plan = plan(Vec::new(), StripPlan::default(), Keep::default());
    let places = [Placement::Bearer("token".into())].into();
    let obtained = Obtained { kind: "byok", how: How::Deposited, places };
    plan.credential = Some(CredentialSpec::Obtained(obtained.into()));
    let slots: Vec<&HeaderName> = plan.credential.iter().flat_map(CredentialSpec::headers).collect();
    assert_eq!(slots, [header::AUTHORIZATION]);
    let (left, stripped) = check(&[("authorization", "Basic eDp5"), ("accept", "*/*")], Some(&plan));
    assert_eq!((left, stripped), (vec!["accept".to_owned()], vec!["authorization".to_owned()]));
}
