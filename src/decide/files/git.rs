//! Which commit the policy's files were checked out from, read from the files of git itself.
//!
//! The commit is a name for people, no proof: files may differ from what was committed. What was in force is told
//! by the policy's hash, which stands beside the name in every record.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// How far above the policy the work tree may begin.
const LEVELS: usize = 32;
/// The largest `HEAD`, `.git` file or loose ref.
const SMALL: u64 = 4 << 10;
/// The largest `packed-refs`.
const PACKED: u64 = 16 << 20;
/// How many refs may name another one in turn.
const HOPS: usize = 5;
/// How much of a commit's name is shown.
const SHOWN: usize = 12;

/// The beginning of the commit that is checked out around `path`. None outside of a work tree, and where git's
/// files are not as expected.
pub(in crate::decide) fn commit(path: &Path) -> Option<Arc<str>> {
    // Links are followed first: git-sync swaps one that leads into the work tree.
    let real = fs::canonicalize(path).ok()?;
    let found = real.ancestors().take(LEVELS).find_map(|above| {
        let git = above.join(".git");
        let kind = fs::symlink_metadata(&git).ok()?.file_type();
        Some((above.to_owned(), git, kind))
    });
    let (above, git, kind) = found?;
    let directory = if kind.is_dir() {
        git
    } else if kind.is_file() {
        // A work tree of its own, or a submodule: `gitdir: PATH`.
        above.join(small(&git)?.strip_prefix("gitdir:")?.trim())
    } else {
        return None;
    };
    let id = head(&directory)?;
    id.get(..SHOWN).map(Into::into)
}

fn head(directory: &Path) -> Option<String> {
    let mut text = small(&directory.join("HEAD"))?;
    // Refs of a further work tree stand in the main one.
    let common = small(&directory.join("commondir")).map(|common| directory.join(common));
    let common = fs::canonicalize(common.as_deref().unwrap_or(directory)).ok()?;
    for _ in 0..HOPS {
        let Some(name) = text.strip_prefix("ref:") else { return object_id(&text) };
        let name = name.trim();
        if !is_ref(name) {
            return None;
        }
        match loose(&common, name) {
            Some(next) => text = next,
            None => return packed(&common, name),
        }
    }
    None
}

/// `refs/…`, with nothing in it that could lead elsewhere.
fn is_ref(name: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    name.starts_with("refs/") && name.len() < 256 && Path::new(name).components().all(plain)
}

/// A ref in a file of its own, inside of git's directory.
fn loose(common: &Path, name: &str) -> Option<String> {
    let file = fs::canonicalize(common.join(name)).ok()?;
    if file.starts_with(common) { small(&file) } else { None }
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let lines = BufReader::new(open(&common.join("packed-refs"))?.take(PACKED)).lines();
    lines.map_while(Result::ok).find_map(|line| object_id(line.strip_suffix(name)?.strip_suffix(' ')?))
}

/// SHA-1 or SHA-256, in hex.
fn object_id(text: &str) -> Option<String> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && matches!(text.len(), 40 | 64)).then(|| text.to_owned())
}

fn small(path: &Path) -> Option<String> {
    let mut text = String::new();
    let read = open(path)?.take(SMALL + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= SMALL).then(|| text.trim().to_owned())
}

/// Regular files only: opening a pipe would wait for its other end.
fn open(path: &Path) -> Option<File> {
    let file = PathBuf::from(path);
    fs::metadata(&file).ok().filter(fs::Metadata::is_file)?;
    File::open(file).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ONE: &str = "1f3a9c0b7d2e4f5061728394a5b6c7d8e9f00112";
    const TWO: &str = "2b00b1e5deadbeef2b00b1e5deadbeef2b00b1e5";

    /// A directory with these files; a text that begins with `->` is a link.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("->") {
                Some(to) => symlink(to, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        dir
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], at: &str, expected: Option<&str>) {
        let dir = tree(files);
        let found = commit(&dir.path().join(at));
        assert_eq!(found.as_deref(), expected.map(|id| &id[..12]), "{files:?}");
    }

    const POLICY: (&str, &str) = ("repo/policies/p.yaml", "");

    #[test]
    fn a_branch_is_read_from_its_file_or_from_packed_refs() {
        let head = ("repo/.git/HEAD", "ref: refs/heads/main\n");
        let loose = ("repo/.git/refs/heads/main", &*format!("{ONE}\n"));
        let packed =
            format!("# pack-refs with: peeled\n{ONE} refs/heads/not-main\n{TWO} refs/heads/main\n^{ONE}\n");
        let packed = ("repo/.git/packed-refs", packed.as_str());
        check(&[POLICY, head, loose, packed], "repo/policies", Some(ONE));
        check(&[POLICY, head, loose], "repo/policies/p.yaml", Some(ONE));
        check(&[POLICY, head, packed], "repo/policies", Some(TWO));
        check(&[POLICY, head], "repo/policies", None);
    }

    #[test]
    fn a_detached_head_is_its_own_name() {
        let sha256 = format!("{ONE}{}", &ONE[..24]);
        for id in [ONE, &sha256] {
            check(&[POLICY, ("repo/.git/HEAD", id)], "repo/policies", Some(ONE));
        }
    }

    #[test]
    fn a_work_tree_of_its_own_finds_its_branch_in_the_main_one() {
        let files = [
            ("main/.git/HEAD", "ref: refs/heads/main"),
            ("main/.git/refs/heads/main", ONE),
            ("main/.git/refs/heads/side", TWO),
            ("main/.git/worktrees/w/HEAD", "ref: refs/heads/side"),
            ("main/.git/worktrees/w/commondir", "../..\n"),
            ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
            ("w/policies/p.yaml", ""),
        ];
        check(&files, "w/policies", Some(TWO));
    }

    /// The layout of git-sync: a link that is swapped from one work tree to the next.
    #[test]
    fn a_link_into_a_work_tree_is_followed() {
        let files = [
            (".git/HEAD", "ref: refs/heads/main"),
            (".git/worktrees/two/HEAD", TWO),
            (".git/worktrees/two/commondir", "../.."),
            (".worktrees/two/.git", "gitdir: ../../.git/worktrees/two"),
            (".worktrees/two/policies/p.yaml", ""),
            ("current", "->.worktrees/two"),
        ];
        check(&files, "current/policies", Some(TWO));
    }

    #[test]
    fn what_is_not_as_git_writes_it_is_no_commit() {
        for head in [
            "",
            "ref: refs/heads/../../../secret",
            "ref: /etc/hostname",
            "ref: HEAD",
            "main",
            &ONE[..39],
            "ref: refs/heads/loop",
        ] {
            let files = [
                POLICY,
                ("repo/.git/HEAD", head),
                ("repo/secret", ONE),
                ("repo/.git/refs/heads/loop", "ref: refs/heads/loop"),
            ];
            check(&files, "repo/policies", None);
        }
        let outside = ("repo/.git/refs/heads/main", "->../../../../secret");
        check(
            &[POLICY, ("repo/.git/HEAD", "ref: refs/heads/main"), outside, ("secret", ONE)],
            "repo/policies",
            None,
        );
        check(&[POLICY, ("repo/.git", "->elsewhere"), ("repo/elsewhere/HEAD", ONE)], "repo/policies", None);
        let large = format!("{ONE}{}", " ".repeat(5000));
        check(&[POLICY, ("repo/.git/HEAD", &large)], "repo/policies", None);
        check(&[POLICY], "repo/policies", None);
        check(&[], "nowhere", None);
    }
}
