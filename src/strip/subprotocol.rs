//! `Sec-WebSocket-Protocol`: browsers cannot set headers on a WebSocket, so keys travel among its subprotocols.

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};

use super::class;

/// Subprotocols of the form `<prefix><secret>`, beside those whose first word authenticates as a header would.
const PREFIXES: [&str; 3] = ["base64url.bearer.", "bearer.", "token."];

/// Words that announce that the next member is a secret: `token, <key>`.
const ANNOUNCED: [&str; 6] = ["token", "bearer", "access_token", "api_key", "authorization", "jwt"];

/// Takes away the members that carry a key, and leaves the others as they are.
pub(super) fn strip(headers: &mut HeaderMap, stripped: &mut Vec<String>) {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut announced = false;
    let mut carried = false;
    let members = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty());
    for member in members {
        let text = String::from_utf8_lossy(member).to_ascii_lowercase();
        let announcing = ANNOUNCED.contains(&&text[..]);
        if announced || announcing || carries(&text) {
            carried = true;
        } else {
            kept.push(member);
        }
        announced = announcing && !announced;
    }
    if !carried {
        return;
    }
    stripped.push(SEC_WEBSOCKET_PROTOCOL.as_str().to_owned());
    match HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        Ok(value) if !kept.is_empty() => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, value)),
        _ => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
}

fn carries(member: &str) -> bool {
    PREFIXES.iter().any(|prefix| member.starts_with(prefix))
        || member.split_once('.').is_some_and(|(word, _)| class::authenticates(word))
}
