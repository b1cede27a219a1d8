//! AWS's own vectors.

use super::*;
use crate::sigv4::canonical::PathStyle;

struct Vector<'a> {
    name: &'a str,
    style: PathStyle,
    token: Option<&'a str>,
    method: Method,
    path: &'a str,
    query: Option<&'a str>,
    authority: &'a str,
    headers: HeaderMap,
    body: &'a str,
    canonical: &'a str,
    signature: &'a str,
}

fn read(text: &str) -> Vector<'_> {
    let (title, rest) = text.split_once('\n').unwrap();
    let (request, rest) = rest.split_once("\n--- canonical\n").unwrap();
    let (canonical, signature) = rest.split_once("\n--- ").unwrap();
    let mut title = title.split(' ');
    let (name, style, token) = (title.next().unwrap(), title.next().unwrap(), title.next().unwrap());
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.split('\n');
    let (method, target) = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    let mut authority = "";
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        if name == "Host" {
            authority = value;
        } else {
            headers.append(
                HeaderName::try_from(name).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
    }
    Vector {
        name,
        style: if style == "key" { PathStyle::Key } else { PathStyle::Twice },
        token: Some(token).filter(|token| *token != "-"),
        method: method.parse().unwrap(),
        path,
        query,
        authority,
        headers,
        body,
        canonical,
        signature: signature.trim_end(),
    }
}

#[test]
fn the_vectors_of_aws_are_signed_as_aws_does() {
    let (_, vectors) = include_str!("vectors.txt").split_once("=== ").unwrap();
    let mut count = 0;
    for mut vector in vectors.split("=== ").map(read) {
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec()),
            session_token: vector.token.map(|token| Secret::new(token.into())),
        };
        let payload =
            Payload::undeclared(&scope("service"), Scheme::Https, Seen::Whole(vector.body.as_bytes()));
        let payload = payload.unwrap();
        if !vector.body.is_empty() {
            vector.headers.insert("x-amz-content-sha256", payload.header());
        }
        let request = Request {
            method: &vector.method,
            authority: vector.authority,
            path: vector.path,
            query: vector.query,
        };
        // 20150830T123600Z
        let stamp = Stamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160));
        let style = Style { path: vector.style, signs: |name| *name != header::AUTHORIZATION };
        let service = scope("service");
        attach(&request, &mut vector.headers, &payload, &service, &keys, &stamp, &style).unwrap();
        let spelled = canonical::request(&request, &vector.headers, payload.as_str(), &style);
        assert_eq!(String::from_utf8(spelled.text).unwrap(), vector.canonical, "{}", vector.name);
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={}",
            spelled.signed_names, vector.signature
        );
        assert_eq!(vector.headers["authorization"], expected, "{}", vector.name);
        count += 1;
    }
    assert_eq!(count, 36);
}
