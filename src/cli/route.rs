//! Paths by their shape: what looks like the name of one thing becomes `*`.

use crate::target::Path;

/// A text of at least this length with a digit in it is an identifier.
const LONG: usize = 20;
/// As many hexadecimal digits are one.
const HEX: usize = 8;

/// The path with every segment that looks like an identifier replaced by `*`: `/repos/acme/app/issues/17` is
/// `/repos/acme/app/issues/*`. A pattern that a role can hold, and that covers the path.
pub(super) fn template(path: &Path) -> String {
    let segments: Vec<&str> = path.segments().map(|s| if is_identifier(s) { "*" } else { s }).collect();
    format!("/{}", segments.join("/"))
}

/// A resource's URI in the same way: `issue:///17` is `issue:///*`. A pattern that covers it, and all of what the log
/// cut off; what a line cannot hold is `*`, too.
pub(super) fn uri_template(uri: &str, cut: bool) -> String {
    let (scheme, rest) = uri.split_at(uri.find(':').map_or(0, |at| at + 1));
    let general = |segment: &str| is_identifier(segment) || segment.contains('*') || !is_word(segment);
    let mut segments: Vec<&str> = rest.split('/').map(|s| if general(s) { "*" } else { s }).collect();
    if cut && let Some(last) = segments.last_mut() {
        *last = "*";
    }
    format!("{scheme}{}", segments.join("/"))
}

/// Whether a name can stand in a line as it is read: no blanks, and nothing that a reviewer does not see.
pub(super) fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric()))
}

fn is_identifier(segment: &str) -> bool {
    let all = |of: fn(&u8) -> bool| segment.bytes().all(|b| of(&b));
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    if segment.is_empty() {
        return false;
    }
    // Free text, addresses, and what a pattern cannot hold.
    if segment.contains(['%', '@', ',', '"', '\'']) || segment.contains("**") {
        return true;
    }
    let date = digits > 0 && all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':'));
    let hex = digits > 0 && segment.len() >= HEX && all(|b| b.is_ascii_hexdigit() || *b == b'-');
    date || hex || (digits > 0 && segment.len() >= LONG) || has_random_end(segment)
}

/// `cus_9s6XKzkNRiz8i3`: a prefix, and then letters and digits.
fn has_random_end(segment: &str) -> bool {
    let Some((_, end)) = segment.rsplit_once(['_', '-', ':']) else { return false };
    let has = |of: fn(&u8) -> bool| end.bytes().any(|b| of(&b));
    end.len() >= HEX
        && end.bytes().all(|b| b.is_ascii_alphanumeric())
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_one_thing_is_a_star() {
        for (path, expected) in [
            ("/", "/"),
            ("/user", "/user"),
            ("/user/", "/user/"),
            ("/repos/acme/app/issues/17", "/repos/acme/app/issues/*"),
            ("/v1/models/gpt-5.2", "/v1/models/gpt-5.2"),
            ("/v1/threads/thread_abc123def456/runs", "/v1/threads/*/runs"),
            ("/v1/customers/cus_9s6XKzkNRiz8i3", "/v1/customers/*"),
            ("/git/commits/1f3a9c0b7d2e4f5061728394a5b6c7d8e9f00112", "/git/commits/*"),
            ("/x/7d444840-9dc0-11d1-b245-5ffdce74fad2/y", "/x/*/y"),
            ("/x/01K9QF6M3V7S8T2ABCDEFGHJKM", "/x/*"),
            ("/days/2026-11-24", "/days/*"),
            ("/users/alice%40acme.example/mail", "/users/*/mail"),
            ("/users/alice@acme.example", "/users/*"),
            ("/deadbeef/facade/feedface", "/deadbeef/facade/feedface"),
            ("/api/chat.postMessage", "/api/chat.postMessage"),
            ("/bot*/sendMessage", "/bot*/sendMessage"),
            ("/a/**b/c", "/a/*/c"),
        ] {
            assert_eq!(template(&Path::parse(path).unwrap()), expected);
        }
    }

    #[test]
    fn a_uri_keeps_its_scheme() {
        for (uri, cut, expected) in [
            ("issue:///17", false, "issue:///*"),
            ("file:///docs/readme.md", false, "file:///docs/readme.md"),
            ("urn:isbn:0451450523", false, "urn:isbn:0451450523"),
            ("mailto:alice@acme.example", false, "mailto:*"),
            ("a b", false, "*"),
            ("memo:///a*b/ü/x y", false, "memo:///*/ü/*"),
            ("file:///docs/read", true, "file:///docs/*"),
            ("data:abc", true, "data:*"),
            ("db://host/7", false, "db://host/*"),
        ] {
            assert_eq!(uri_template(uri, cut), expected);
        }
    }
}
