//! Strips the query: keys that authenticate go, and every other byte stays where it is.

use crate::{
    plan::Plan,
    target::{Query, key_of},
};

/// Keys that authenticate, as [`normal`] writes them.
///
/// Some of them mean something harmless elsewhere: `key` is a Google API key, and the name of a thing in other
/// APIs. Passing on a client's secret cannot be undone, a missing parameter shows at once, and a service that
/// means something else says so with `keep`. Keys such as `page_token` are other keys and stay.
#[rustfmt::skip]
const AUTHENTICATION: &[&str] = &[
    "access_token", "accesstoken", "auth_token", "authtoken", "id_token", "refresh_token", "bearer_token", "bearer",
    "session_token", "security_token", "token", "jwt", "auth", "authorization", "authentication",
    "api_key", "apikey", "x_api_key", "api_token", "apitoken", "api_secret", "key", "hapikey", "app_key", "appkey",
    "application_key", "access_key", "accesskey", "secret_key", "secretkey", "secret", "auth_key", "authkey",
    "subscription_key", "private_token", "job_token", "x_goog_api_key", "x_vault_token",
    "client_secret", "password", "passwd", "pwd",
    "oauth_token", "oauth_token_secret", "oauth_signature", "oauth_consumer_key", "oauth_nonce", "oauth_timestamp",
    "sig", "signature", "awsaccesskeyid", "googleaccessid", "key_pair_id", // URLs signed by their owner
];

/// Keys with which frameworks act on another method than the policy saw.
const OVERRIDE: [&str; 3] = ["_method", "x_http_method_override", "x_http_method"];

/// Families of them: AWS and Google Signature Version 4 in a URL.
const SIGNED: [&str; 2] = ["x_amz_", "x_goog_"];

/// Of those families, what is no part of a signature.
const UNSIGNED: [&str; 2] = ["x_amz_meta_", "x_goog_meta_"];

/// The query without the keys that authenticate or override; nothing when nothing remains. Adds `query:<key>` to `stripped`.
pub(super) fn strip(query: Query, plan: Option<&Plan>, stripped: &mut Vec<String>) -> Option<Query> {
    let text = query.as_str();
    if !parts(text).any(|(_, part)| judge(part, plan).is_some()) {
        return Some(query);
    }
    let mut kept = String::with_capacity(text.len());
    let mut first = true;
    for (separator, part) in parts(text) {
        if let Some(key) = judge(part, plan) {
            stripped.push(format!("query:{key}"));
            continue;
        }
        // A part goes with the separator in front of it; the first that stays needs none.
        if !first {
            kept.push_str(separator);
        }
        kept.push_str(part);
        first = false;
    }
    // Parts of a valid query make a valid query.
    if kept.is_empty() { None } else { Query::parse(&kept).ok() }
}

/// The parts, each with the separator in front of it. Some upstreams split at `;` too, so a key after it counts.
fn parts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(text);
    let mut separator = "";
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.find(['&', ';']);
        let (part, after) = end.map_or((text, None), |end| {
            let (part, after) = text.split_at(end);
            (part, Some(after))
        });
        let before = separator;
        (separator, rest) = after.map_or(("", None), |after| {
            let (separator, after) = after.split_at(1);
            (separator, Some(after))
        });
        Some((before, part))
    })
}

/// The key under which a part is taken away, if it is.
fn judge(part: &str, plan: Option<&Plan>) -> Option<String> {
    if part.is_empty() {
        return None;
    }
    let key = normal(&key_of(part));
    let same = |name: &String| normal(name) == key;
    let slot = plan
        .and_then(|plan| plan.credential.as_ref())
        .is_some_and(|credential| credential.query_keys().into_iter().any(|name| normal(name) == key));
    let overrides = OVERRIDE.contains(&&key[..]);
    if slot || overrides || plan.is_some_and(|plan| plan.service.strip.query.iter().any(same)) {
        return Some(key);
    }
    let kept = || plan.is_some_and(|plan| plan.service.keep.query.iter().any(same));
    let signed = || {
        SIGNED.iter().any(|family| key.starts_with(family)) && !UNSIGNED.iter().any(|u| key.starts_with(u))
    };
    ((AUTHENTICATION.contains(&&key[..]) || signed()) && !kept()).then_some(key)
}

/// A decoded key as the most lenient upstream reads it: PHP ignores spaces in front, reads `.`, ` ` and `[` in a
/// name as `_`, takes `key[]` for `key`, and ends a name at NUL; others do not tell cases or hyphens apart.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
    let key = key.split('\0').next().unwrap_or(key).trim_end();
    let name = match key.find('[') {
        Some(bracket) if bracket > 0 => key.get(..bracket).unwrap_or(key),
        _ => key,
    };
    name.chars()
        .map(|c| match c {
            '-' | '.' | ' ' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}
