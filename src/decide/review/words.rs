//! What the name of a tool or of a field says about what it does. A guess, and only used where people are told.

/// Words of names that take away for good.
pub(in crate::decide) const DESTROY: [&str; 5] = ["delete", "remove", "drop", "destroy", "purge"];
/// First words of names that only read.
const READ: [&str; 10] =
    ["get", "list", "search", "read", "find", "describe", "show", "view", "count", "lookup"];
/// First words of names that change something, but take nothing away.
const CHANGE: [&str; 14] = [
    "create", "add", "update", "set", "edit", "post", "send", "upload", "save", "open", "assign", "comment",
    "insert", "append",
];

/// Whether a name, or a glob for names, means to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decide) enum Destroys {
    /// It says so: `delete_*`, `issueDelete`.
    Yes,
    /// A glob that leaves room for it: `*`, `issue_*`.
    Perhaps,
    /// No word of it does.
    No,
}

/// Whether the names of a glob take away.
pub(in crate::decide) fn destroys(glob: &str) -> Destroys {
    let words = words(glob);
    if words.iter().any(|word| DESTROY.contains(&word.as_str())) {
        return Destroys::Yes;
    }
    let first = words.first().map(String::as_str).filter(|_| !glob.starts_with('*'));
    let harmless = first.is_some_and(|word| READ.contains(&word) || CHANGE.contains(&word));
    if glob.contains('*') && !harmless { Destroys::Perhaps } else { Destroys::No }
}

/// Whether every name of a glob begins like one that only reads.
pub(in crate::decide) fn reads(glob: &str) -> bool {
    let words = words(glob);
    !glob.starts_with('*') && words.first().is_some_and(|word| READ.contains(&word.as_str()))
}

/// The words of `delete_issue`, `deleteIssue`, `issues/delete`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    for letter in name.chars() {
        if letter.is_alphanumeric() {
            let begins = !last.is_alphanumeric() || (letter.is_uppercase() && !last.is_uppercase());
            match words.last_mut() {
                Some(word) if !begins => word.extend(letter.to_lowercase()),
                _ => words.push(letter.to_lowercase().collect()),
            }
        }
        last = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_it_takes_away() {
        for (name, expected) in [
            ("delete_issue", Destroys::Yes),
            ("issueDelete", Destroys::Yes),
            ("repo.remove-member", Destroys::Yes),
            ("delete*", Destroys::Yes),
            ("*", Destroys::Perhaps),
            ("issue_*", Destroys::Perhaps),
            ("*_issue", Destroys::Perhaps),
            ("list_*", Destroys::No),
            ("get*", Destroys::No),
            ("create_*", Destroys::No),
            ("undelete_issue", Destroys::No),
            ("dropbox_sync", Destroys::No),
        ] {
            assert_eq!(destroys(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_tells_whether_it_only_reads() {
        for (name, expected) in [
            ("get_issue", true),
            ("listIssues", true),
            ("search_*", true),
            ("get*", true),
            ("*", false),
            ("getaway", false),
            ("create_issue", false),
            ("issue_get", false),
        ] {
            assert_eq!(reads(name), expected, "{name}");
        }
    }
}
