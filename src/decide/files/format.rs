//! `egret fmt`: one way to write a policy, with nothing lost.
//!
//! The formatter is a library's; this file holds its options, and the proof that what it made is the same policy.

use std::path::{Path, PathBuf};

use pretty_yaml::config::{FormatOptions, LanguageOptions, LayoutOptions};
use yaml_parser::SyntaxKind;

use super::{
    allow,
    aside::{Aside, Keep},
    problem::{Findings, Problems},
    source::{self, Sources},
    yaml::{self, Malformed, Node, Value},
};

/// Where a flow mapping or list is broken into lines.
const WIDTH: usize = 100;

/// Why a text was not formatted.
#[derive(Debug, thiserror::Error)]
pub enum Unformatted {
    /// It is no YAML, or none that a policy may be.
    #[error("{0}")]
    Malformed(Problems),
    /// The result would not be the same policy, or would lack a comment. Never seen; nothing is written.
    #[error("{0}: formatting would change what the file says, so it stays as it is; please report it")]
    Changed(String),
    /// A comment that allows something would come to allow something else. Nothing is written.
    #[error(
        "{0}: formatting would part an `# egret: allow` from what it allows, so the file stays as it is; hint: write the comment at the end of that line, or in a line of its own above it"
    )]
    Moved(String),
}

/// Formats the text of one policy file; `name` stands for the file in problems.
///
/// # Errors
/// When the text is no YAML, or when the result is not proven to say the same.
pub fn format(name: &str, text: &str) -> Result<String, Unformatted> {
    let malformed = |bad| Unformatted::Malformed(problems(name, text, bad));
    let read = yaml::parse(text, FILE).map_err(malformed)?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let before = yaml::parse(&text, FILE).map_err(malformed)?;
    let allowed = allow::of_all(&before, &text);
    for keep in [Keep::None, Keep::Allowed] {
        let changed = || Unformatted::Changed(name.to_owned());
        let formatted = settled(&text, keep).ok_or_else(changed)?;
        let after = yaml::parse(&formatted, FILE).map_err(|_| changed())?;
        if !same(&read, &after) || comments(&text) != comments(&formatted) {
            return Err(changed());
        }
        if allow::of_all(&after, &formatted) == allowed {
            return Ok(formatted);
        }
    }
    Err(Unformatted::Moved(name.to_owned()))
}

/// Writes a text until writing it again changes nothing.
fn settled(text: &str, keep: Keep) -> Option<String> {
    let mut last = text.to_owned();
    for _ in 0..4 {
        let aside = Aside::of(&last, keep)?;
        let formatted = pretty_yaml::format_text(&aside.text, &options()).ok()?;
        let lines: Vec<&str> = formatted.split('\n').map(|line| line.trim_end_matches(' ')).collect();
        let next = aside.back(&lines.join("\n"))?;
        if next == last {
            return Some(next);
        }
        last = next;
    }
    None
}

/// The files that a policy consists of: the one that `path` is, or all below it.
///
/// # Errors
/// When the path cannot be read, or holds none.
pub fn policy_files(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    source::files(path).map_err(|error| Problems::unreadable(&error))
}

/// The text of a policy file, from its bytes.
///
/// # Errors
/// When it is not UTF-8.
pub fn policy_text(name: &Path, bytes: Vec<u8>) -> Result<String, Problems> {
    source::utf8(name, bytes).map_err(|error| Problems::unreadable(&error))
}

/// The number of the one file of [`Sources::text`].
const FILE: u32 = 0;

fn options() -> FormatOptions {
    FormatOptions {
        layout: LayoutOptions { print_width: WIDTH, indent_width: 2, ..LayoutOptions::default() },
        // Braces as policies are written: `{bearer: "env:KEY"}`.
        language: LanguageOptions { brace_spacing: false, ..LanguageOptions::default() },
    }
}

fn problems(name: &str, text: &str, bad: Malformed) -> Problems {
    let mut findings = Findings::default();
    findings.report(bad.span, bad.message).unparsed();
    if let Some(hint) = bad.hint {
        findings.hint(hint);
    }
    let sources = Sources::text(name, text);
    findings.into_problems(&sources).unwrap_or_else(|| Problems::nothing(name))
}

/// Whether two trees hold the same keys and values in the same order, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Text(one), Value::Text(other)) => one == other,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.0.text == other.0.text && same(&one.1, &other.1))
        }
        _ => false,
    }
}

/// The texts of all comments, in their order. None where the text cannot be read.
fn comments(text: &str) -> Option<Vec<String>> {
    let tree = yaml_parser::parse(text).ok()?;
    let comments = tree.descendants_with_tokens().filter(|part| part.kind() == SyntaxKind::COMMENT);
    Some(comments.map(|comment| comment.to_string().trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formatted(text: &str) -> String {
        format("policy.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn a_policy_is_written_in_one_way() {
        let text = "\
version:   1   # one
services:
    a:
        hosts: [ 'a.example' ,   b.example ]
        # what may be done


        roles:
            reader:
            - GET /x/**    # trailing
            - {include: other}
            # last
tenants: {t: {integrations: {a: {credential: {static: {bearer: \"env:A_RATHER_LONG_NAME_OF_A_VARIABLE\"}}}}}}
# end";
        let expected = "\
version: 1 # one
services:
  a:
    hosts: [\"a.example\", b.example]
    # what may be done

    roles:
      reader:
        - GET /x/** # trailing
        - {include: other}
        # last
tenants: {
  t: {integrations: {a: {credential: {static: {bearer: \"env:A_RATHER_LONG_NAME_OF_A_VARIABLE\"}}}}},
}
# end
";
        assert_eq!(formatted(text), expected);
        assert_eq!(formatted(expected), expected);
    }

    #[test]
    fn what_looks_like_a_comment_and_is_none_stays() {
        let text = "a: \"x # no\"\nb: x#no # yes\nc: |\n  # text\nd: 'it''s'\n";
        assert_eq!(formatted(text), "a: \"x # no\"\nb: x#no # yes\nc: |\n  # text\nd: 'it''s'\n");
        assert_eq!(comments(text), Some(vec!["# yes".to_owned()]));
    }

    #[test]
    fn block_scalars_keep_their_blanks() {
        for text in [
            "a: |\n  text  \n  more\nb: 1\n",
            "a: |+\n  x\n\n\nb: 1\n",
            "a: |+\n  x\n\n",
            "a: >- # why\n  x   \n  y\n\n  z\nb: 1\n",
            "a: |2-\n    x\n   y\nb: 1\n",
            "a: |\n  x\n   \n  y\n\nb: 1\n",
            "a:\n  - |+\n    x\n\n  - b: >\n      y \n    c: 1\n",
        ] {
            assert_eq!(formatted(text), text);
        }
        assert_eq!(formatted("a:\n     b: |3\n         x\n        y\n"), "a:\n  b: |2\n     x\n    y\n");
        assert_eq!(formatted("a: |\n  x\n   "), "a: |\n  x\n   \n");
    }

    #[test]
    fn lines_end_in_one_way() {
        for end in ["\r\n", "\r"] {
            let text = "a: |\n  x\n\n  y \nb:\n- 1 # one\nc: \"d\n  e\"\n".replace('\n', end);
            assert_eq!(formatted(&text), "a: |\n  x\n\n  y \nb:\n  - 1 # one\nc: \"d\n  e\"\n");
        }
    }

    #[test]
    fn what_is_allowed_stays_allowed_and_nothing_else_becomes_so() {
        let long = "/a-path-that-is-so-long-that-two-of-its-kind-do-not-stand-in-one-line";
        for text in [
            format!("r: [GET {long}, DELETE {long}] # egret: allow unguarded-delete\n"),
            format!("r: {{a: [GET {long}], b: [DELETE {long}]}} # egret: allow unguarded-delete\n"),
            "t: {a: 1,\n  b: 2} # egret: allow empty-agent\n".to_owned(),
            "r: [ # egret: allow unused-role\n  GET /x]\n".to_owned(),
            "r: [GET /x, # egret: allow unguarded-delete\n  GET /y]\n".to_owned(),
        ] {
            assert_eq!(formatted(&text), text);
        }
        let inner = "a:\n    r: [\n      x,\n      y] # egret: allow unused-role\nb:   1\n";
        assert_eq!(formatted(inner), "a:\n  r: [\n    x,\n    y] # egret: allow unused-role\nb: 1\n");
        // Where that cannot be, nothing is written.
        let text = "a:\n  -\n    # egret: allow unused-role\n    b: 1\n";
        assert!(matches!(format("policy.yaml", text), Err(Unformatted::Moved(_))));
    }

    #[test]
    fn the_policies_of_this_repository_are_formatted() {
        let known = ["src/decide/catalog", "src/decide/catalog/providers"]
            .into_iter()
            .flat_map(|directory| std::fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        let examples = ["policies/example.yaml", "policies/minimal.yaml"].map(Into::into);
        for path in known.chain(examples) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(formatted(&text), text, "{}", path.display());
        }
    }

    #[test]
    fn formatting_twice_is_formatting_once() {
        let mut read = 0;
        for entry in std::fs::read_dir("tests/policies/bad").unwrap() {
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
            // Those that are no YAML stay as they are.
            if let Ok(once) = format("policy.yaml", &text) {
                assert_eq!(formatted(&once), once);
                read += 1;
            }
        }
        assert!(read > 15, "{read}");
    }

    #[test]
    fn no_yaml_is_said_with_its_place() {
        for (text, place) in [
            ("a: [1\n", "policy.yaml:"),
            ("a: 1\n\tb: 2\n", "policy.yaml:1:"),
            ("a: &x 1\n", "policy.yaml:1:"),
        ] {
            let error = format("policy.yaml", text).expect_err(text).to_string();
            assert!(error.starts_with(place), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(format("policy.yaml", &deep), Err(Unformatted::Malformed(_))));
    }

    /// A mapping with lists, flow collections, block scalars and comments, written carelessly.
    fn anything() -> impl Strategy<Value = String> {
        let comment = prop_oneof![Just(""), Just(" # why"), Just("   # egret: allow unused-role")];
        let value = prop_oneof![
            "[a-z ]{1,8}[a-z]",
            Just("\n    - x\n    - {y: 1,  z: 2}".to_owned()),
            Just("\n  - x\n  # egret: allow empty-agent\n  - y".to_owned()),
            Just("\n     deep: [a,b]\n     other: c".to_owned()),
            Just("[a,   b,\n  c]".to_owned()),
            Just("{a: 1,   b: [2, 3]}".to_owned()),
            Just("'quoted # text'".to_owned()),
            (0..3usize, 0..3usize).prop_map(|(blanks, end)| {
                format!("|{}\n   x{}\n\n   y{}", ["", "+", "-"][end], " ".repeat(blanks), "\n".repeat(end))
            }),
        ];
        prop::collection::vec(("[a-z]{1,70}", value, comment, 0..3usize), 1..8).prop_map(|entries| {
            let line = |(number, (key, value, comment, blanks)): (usize, (String, String, &str, usize))| {
                let comment = if value.starts_with(['|', '\n']) { "" } else { comment };
                let above = if blanks == 2 { "# egret: allow unused-service\n" } else { "" };
                format!("{above}{key}{number}:   {value}{comment}\n{}", "\n".repeat(blanks))
            };
            entries.into_iter().enumerate().map(line).collect()
        })
    }

    proptest! {
        /// What is written was proven to say and to allow the same; so it is asked here that it is written at all.
        #[test]
        fn whatever_is_a_policy_can_be_formatted(text in anything()) {
            let once = format("policy.yaml", &text);
            prop_assert!(once.is_ok(), "{}\n{}", once.unwrap_err(), text);
            let once = once.unwrap();
            prop_assert_eq!(format("policy.yaml", &once).unwrap(), once);
        }

        /// Any mapping of texts: it comes out the same, and stays so.
        #[test]
        fn whatever_is_formatted_says_the_same(
            entries in proptest::collection::vec(("[a-z]{1,6}", "\\PC{0,40}", "[ -~]{0,20}"), 1..8)
        ) {
            use std::fmt::Write as _;
            let mut text = String::new();
            for (key, value, comment) in &entries {
                let value = serde_json::to_string(value).unwrap();
                let _ = writeln!(text, "{key}:   {value}   # {comment}");
            }
            if let Ok(once) = format("policy.yaml", &text) {
                prop_assert_eq!(format("policy.yaml", &once).unwrap(), once);
            } else {
                // JSON's escapes are not all YAML's: then the parser says so, and nothing changes.
                prop_assert!(matches!(format("policy.yaml", &text), Err(Unformatted::Malformed(_))), "{}", text);
            }
        }
    }
}
