//! What of a policy's text a message may show: names and words, and nothing that could be a secret.
//!
//! Everything that is blotted out keeps its length in bytes, so that places in a line stay where they are.

/// The longest word that is shown.
const LONGEST: usize = 40;

/// How known kinds of keys begin.
const PREFIXES: [&str; 26] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
    "shpat_",
    "whsec_",
    "lin_api_",
    "dop_v1_",
    "hvs",
];

/// Keys whose values hold no secret: behind these a file that is no YAML is shown, too.
const PLAIN: [&str; 28] = [
    "version",
    "mode",
    "services",
    "hosts",
    "scheme",
    "intercept",
    "roles",
    "include",
    "graphql",
    "mcp",
    "transport",
    "messages",
    "guards",
    "match",
    "require",
    "deny",
    "approvals",
    "by",
    "within",
    "hold",
    "tenants",
    "limit",
    "rate",
    "per",
    "service",
    "tests",
    "as",
    "allow",
];

/// A text without what looks like a secret: long words, words that nobody would think of, and what a URL has before
/// `@` and behind `?`.
pub(in crate::decide) fn veil(text: &str) -> String {
    let mut shown = text.to_owned();
    each_run(text, is_gap, |at, part| {
        for (from, until) in of_url(part) {
            blot(&mut shown, at + from, at + until);
        }
    });
    each_run(
        text,
        |c| !is_inner(c),
        |at, word| {
            if looks_secret(word) {
                blot(&mut shown, at, at + word.len());
            }
        },
    );
    shown
}

/// A line of a file whose tree is not known. Shown are keys, and what stands behind those that hold no secret.
pub(in crate::decide) fn veil_unparsed(line: &str) -> String {
    let mut shown = line.to_owned();
    let mut plain = false;
    let mut listed = false;
    let mut end = 0;
    each_run(line, is_gap, |at, word| {
        for c in line.get(end..at).unwrap_or_default().chars() {
            match c {
                '[' => listed = true,
                ']' | '{' | '}' => (listed, plain) = (false, false),
                ',' if !listed => plain = false,
                _ => {}
            }
        }
        end = at + word.len();
        let word = word.trim_start_matches('\u{feff}');
        if word.bytes().all(|b| b.is_ascii_punctuation()) && !word.contains('!') {
            return;
        }
        match word.strip_suffix(':').filter(|key| is_name(key)) {
            Some(key) => plain = PLAIN.contains(&key),
            None if plain && !word.starts_with([':', '!']) => {}
            None => {
                plain = false;
                blot(&mut shown, at, end);
            }
        }
    });
    veil(&shown)
}

/// Whether a word may be a name that somebody gave.
pub(in crate::decide) fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= LONGEST
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*/".contains(c))
        && veil(word) == word
}

/// Blots out a part of a line.
pub(in crate::decide) fn blot(line: &mut String, from: usize, until: usize) {
    let until = until.min(line.len());
    if from < until && line.is_char_boundary(from) && line.is_char_boundary(until) {
        line.replace_range(from..until, &"*".repeat(until - from));
    }
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || "\"'`,[]{}()".contains(c)
}

fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || "_-+=".contains(c)
}

/// Calls back with each run of characters that are no gap, and where it begins.
fn each_run(text: &str, gap: impl Fn(char) -> bool, mut found: impl FnMut(usize, &str)) {
    let mut from = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match from {
            Some(start) if gap(c) || at == text.len() => {
                found(start, text.get(start..at).unwrap_or_default());
                from = None;
            }
            None if !gap(c) => from = Some(at),
            _ => {}
        }
    }
}

/// What a URL has in places where a secret may stand: userinfo and query (RFC 3986 §3.2.1, §3.4).
fn of_url(part: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let (before, query) = part.split_once('?').map_or((part, None), |(before, query)| (before, Some(query)));
    if query.is_some_and(|query| !query.is_empty()) {
        found.push((before.len() + 1, part.len()));
    }
    if let Some((user, _)) = before.rsplit_once('@') {
        let scheme = user.find("://").map(|at| at + 3);
        if let Some(from) = scheme.or_else(|| user.find(':').map(|at| at + 1)) {
            found.push((from, user.len()));
        }
    }
    found
}

/// Whether nobody would give such a name: one that is very long, or mixes letters and digits as only chance does.
fn looks_secret(word: &str) -> bool {
    if word.len() > LONGEST && word.chars().any(char::is_alphanumeric) {
        return true;
    }
    if word.len() >= 12 && PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
        return true;
    }
    let parts = word.split(|c: char| !c.is_alphanumeric());
    let all: Vec<(usize, Mixture)> = parts.map(|part| (part.len(), Mixture::of(part))).collect();
    let (digits, turns) =
        all.iter().fold((0, 0), |(digits, turns), (_, mix)| (digits + mix.digits, turns + mix.turns));
    let alone = |(length, mix): &(usize, Mixture)| {
        (*length >= 12 && mix.turns >= 3)
            || (*length >= 16 && mix.digits >= 3 && mix.letters > 0)
            || (*length >= 20 && mix.humps * 4 >= *length)
            || (*length >= 20 && mix.letters == 0)
            || (*length >= 32 && mix.humps == 0)
    };
    (word.len() >= 16 && digits >= 6 && turns >= 4) || all.iter().any(alone)
}

/// How letters and digits stand in a word.
struct Mixture {
    letters: usize,
    digits: usize,
    /// A letter beside a digit.
    turns: usize,
    /// A capital behind a small letter.
    humps: usize,
}

impl Mixture {
    fn of(part: &str) -> Self {
        let bytes = part.as_bytes();
        let beside = |fits: fn(u8, u8) -> bool| {
            bytes.iter().zip(bytes.iter().skip(1)).filter(|(one, next)| fits(**one, **next)).count()
        };
        let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
        Self {
            letters: bytes.len() - digits,
            digits,
            turns: beside(|one, next| one.is_ascii_digit() != next.is_ascii_digit()),
            humps: beside(|one, next| one.is_ascii_lowercase() && next.is_ascii_uppercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_names_are_shown() {
        for text in [
            "`github` has no role `readr`",
            "DELETE /repos/**",
            "t_acme/triage-bot-2 via github-acme",
            "graphql mutation convertProjectV2CardToIssue",
            "*.eu-west-1.compute.example.com:8443",
            "0x7f000001",
            "2026-11-24T22:30:00Z",
            "write `credential: \"env:OPENAI_API_KEY\"`",
            "tool delete_* @ https://mcp.example.com/mcp",
        ] {
            assert_eq!(veil(text), text);
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_not() {
        for secret in [
            "sk-live-4f8a2c19d7e6b305",
            "ghp_abcdefghijklmno",
            "Zq8vK2pLw9xR4tYm",
            "S3cretPassw0rd",
            "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
            "wJalrXUtnFEMI7K7MDENGzbPxRfiCYEXAMPLEKEY",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            for text in [format!("`{secret}`"), format!("x: {{a:{secret}}}"), format!("/x/{secret}.y")] {
                assert!(!veil(&text).contains(secret), "{}", veil(&text));
                assert_eq!(veil(&text).len(), text.len());
            }
        }
        assert_eq!(veil("GET https://me:pw@a.example/x?k=pw#"), "GET https://*****@a.example/x?*****");
        assert_eq!(veil("[me:pw@a.example]"), "[me:**@a.example]");
    }

    #[test]
    fn of_a_file_that_is_no_yaml_keys_are_shown() {
        for (line, shown) in [
            ("  hosts: [*.example.com, b]", "  hosts: [*.example.com, b]"),
            ("  - match: DELETE /x", "  - match: DELETE /x"),
            ("  pw", "  **"),
            ("  bearer: pw", "  bearer: **"),
            ("x: {hosts: a, bearer: pw}", "x: {hosts: a, bearer: **}"),
            ("x: {hosts: a, bearer:pw}", "x: {hosts: a, *********}"),
            ("{\"bearer\":\"pw\", 'hosts': a}", "{\"******\":\"**\", '*****': *}"),
            ("a: !pw", "a: ***"),
        ] {
            assert_eq!(veil_unparsed(line), shown);
        }
    }
}
