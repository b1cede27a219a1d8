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
/// Words that change something wherever they stand in a name. Words that are also things to read (`comment`, `post`,
/// `order`, `commit`) are left out: after `and` or `or` any word that does not read counts.
const WRITE: &str = "\
    create add update upsert edit modify change rename replace write overwrite send upload save \
    store assign insert append put patch publish deploy execute exec invoke trigger cancel archive \
    approve reject revoke invite ban reset clear wipe erase truncate kill terminate restart disable \
    enable install uninstall submit apply move transfer pay refund close";
/// Words that join two things that a name does.
const JOIN: [&str; 3] = ["and", "or", "then"];

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

/// Whether a name, or a glob for names, speaks of reading alone: it begins with a word that does, and no word of it
/// writes. Whatever is not known to read is taken to write.
pub(in crate::decide) fn reads(glob: &str) -> bool {
    let words = words(glob);
    let read = |word: &String| READ.contains(&word.as_str());
    let writes =
        |word: &String| WRITE.split(' ').any(|known| known == word) || DESTROY.contains(&word.as_str());
    let pairs = words.iter().zip(words.iter().skip(1));
    let mut joined = pairs.filter(|(joint, _)| JOIN.contains(&joint.as_str())).map(|(_, word)| word);
    // What stands after a last `and` is anything.
    let is_open = words.last().is_some_and(|word| JOIN.contains(&word.as_str()));
    let begins = !glob.starts_with('*') && words.first().is_some_and(read);
    begins && !is_open && !words.iter().any(writes) && joined.all(read)
}

/// The words of `delete_issue`, `deleteIssue`, `issues/delete`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_alphanumeric() {
            // `listAPIDelete`: the last capital of several begins a word.
            let ends = letters.peek().is_some_and(|next| next.is_lowercase());
            let begins = !last.is_alphanumeric() || (letter.is_uppercase() && (!last.is_uppercase() || ends));
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
            ("get_comment", true),
            ("get_order", true),
            ("list_open_issues", true),
            ("find_and_delete_user", false),
            ("findAndDeleteUser", false),
            ("bulk_update", false),
            ("list_or_create", false),
            ("get_and_comment", false),
            ("get_and_*", false),
            ("listAPIDelete", false),
            ("listAPIKeys", true),
            ("find_and_list", true),
            ("search_then_merge", false),
            ("get_*_delete", false),
            ("read-write", false),
            ("frobnicate", false),
        ] {
            assert_eq!(reads(name), expected, "{name}");
        }
    }
}
