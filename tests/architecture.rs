//! The house rule: a room imports the door of the room before it and the floor; the floor imports no room.
//! What travels inside a door may be named by the rooms it travels through.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// In the order a request meets them.
const ROOMS: [&str; 9] =
    ["listen", "identify", "decide", "limit", "approve", "strip", "credential", "record", "forward"];
/// Words and tools.
const FLOOR: [&str; 22] = [
    "context", "target", "secret", "form", "json", "mcp", "graphql", "message", "refusal", "standing",
    "audit", "metrics", "tls", "connect", "plan", "scrub", "fetch", "sigv4", "settings", "exec", "store",
    "ca",
];
/// All rooms together, and the doors to them.
const PROGRAM: [&str; 6] = ["proxy", "admin", "serve", "telemetry", "cli", "main"];
/// Proofs and facts that travel inside the doors.
const TRAVELS: [&str; 8] = [
    "decide::Grant",
    "decide::Approval",
    "credential::Outgoing",
    "credential::Usage",
    "credential::Links",
    "credential::Consequence",
    "strip::keep_trailers",
    "identify::Caller",
];

#[test]
fn every_room_knows_only_the_door_before_it() {
    let mut wrong = Vec::new();
    for file in sources(Path::new("src")) {
        let module = module_of(&file);
        for path in imports(&fs::read_to_string(&file).unwrap()) {
            let other = path.split("::").next().unwrap_or_default().to_owned();
            if other == module
                || TRAVELS.iter().any(|t| path.starts_with(t)) && order(&other) < order(&module)
            {
                continue;
            }
            let allowed = match (order(&module), order(&other)) {
                _ if PROGRAM.contains(&module.as_str()) => true,
                (_, None) => FLOOR.contains(&other.as_str()),
                (Some(here), Some(there)) => there + 1 == here,
                (None, Some(_)) => false,
            };
            if !allowed {
                wrong.push(format!("{}: crate::{path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these imports break the house rule:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let known: BTreeSet<&str> = ROOMS.into_iter().chain(FLOOR).chain(PROGRAM).collect();
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for module in &declared {
        assert!(
            known.contains(module),
            "`{module}` is neither room nor floor nor program: give it a place in this test and in ARCHITECTURE.md"
        );
    }
    let rooms: Vec<&str> = declared.into_iter().filter(|module| ROOMS.contains(module)).collect();
    assert_eq!(rooms, ROOMS, "lib.rs declares the rooms in the order a request meets them");
}

#[test]
fn a_secret_is_exposed_in_few_places() {
    let places: BTreeSet<String> = sources(Path::new("src"))
        .into_iter()
        .filter(|file| without_tests(&fs::read_to_string(file).unwrap()).contains("disallowed_methods"))
        .map(|file| file.display().to_string())
        .collect();
    let expected = [
        "src/cli/demo/client.rs",
        "src/connect/dial.rs",
        "src/connect/via.rs",
        "src/credential/placement.rs",
        "src/credential/signing.rs",
        "src/credential/source/wire.rs",
        "src/credential/values.rs",
        "src/credential/workshop.rs",
        "src/listen/presented.rs",
        "src/sigv4/key.rs",
        "src/sigv4/sts.rs",
        "src/store/keys.rs",
        "src/store/open.rs",
        "src/store/secrets.rs",
        "src/store/tokens.rs",
    ];
    assert_eq!(
        places.iter().map(String::as_str).collect::<Vec<_>>(),
        expected,
        "sockets are opened and secrets exposed here, and nowhere else"
    );
}

fn order(module: &str) -> Option<usize> {
    ROOMS.iter().position(|room| *room == module)
}

fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "tests") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs")
            && path.file_name().is_some_and(|n| n != "tests.rs" && n != "lib.rs")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Every path after `crate::`, groups taken apart.
fn imports(text: &str) -> Vec<String> {
    let text: String = without_tests(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        take_path(&text[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Reads `a::b`, `a::{b, c::d}` or `{a, b}`; gives what it read.
fn take_path(text: &str, before: &str, found: &mut Vec<String>) -> usize {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let path = format!("{before}{}", &text[..end]);
    if text[end..].starts_with('{') {
        let mut at = end + 1;
        while !text[at..].starts_with('}') {
            at += text[at..].find(|c: char| !(c.is_whitespace() || c == ',')).unwrap_or(0);
            if text[at..].starts_with('}') {
                break;
            }
            at += take_path(&text[at..], &path, found).max(1);
        }
        return at + 1;
    }
    found.push(path);
    end
}

#[test]
fn the_reader_of_imports_sees_groups() {
    let text = "use crate::{\n    audit::{Audit, Event},\n    target::Host,\n};\nfn f() { crate::secret::hex(b\"\") }\n";
    assert_eq!(imports(text), ["audit::Audit", "audit::Event", "target::Host", "secret::hex"]);
}
