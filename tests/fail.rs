//! Programs that must not compile: what the types of the rooms make impossible.
//!
//! Each program in `tests/fail/` names the compiler's error code that it must meet in its first line. The
//! programs are compiled against the library that these tests are linked with; a control program proves that
//! the way of compiling is right.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[test]
fn what_must_be_impossible_does_not_compile() {
    let library = library();
    let mut programs: Vec<PathBuf> =
        fs::read_dir("tests/fail").unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.sort();
    let mut tried = 0;
    for program in programs.iter().filter(|p| !p.ends_with("control.rs")) {
        let text = fs::read_to_string(program).unwrap();
        let code = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("// "))
            .and_then(|line| line.split(':').next())
            .unwrap();
        let output = compile(program, &library);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{} compiles", program.display());
        assert!(
            said.contains(&format!("error[{code}]")),
            "{} fails for another reason than {code}:\n{said}",
            program.display()
        );
        let others = said.lines().filter(|line| line.starts_with("error[") && !line.contains(code)).count();
        assert_eq!(others, 0, "{} has errors beside {code}:\n{said}", program.display());
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} programs were found");
}

/// The library beside this test: the newest one that the control program compiles against.
fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let mut found: Vec<PathBuf> = fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "rlib")
                && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libegret-"))
        })
        .collect();
    found.sort_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    let mut last = None;
    while let Some(library) = found.pop() {
        let output = compile(Path::new("tests/fail/control.rs"), &library);
        if output.status.success() {
            return library;
        }
        last = Some(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    panic!("the control program does not compile: {last:?}");
}

fn compile(program: &Path, library: &Path) -> Output {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = tempfile::tempdir().unwrap();
    let mut external = std::ffi::OsString::from("egret=");
    external.push(library);
    let mut dependencies = std::ffi::OsString::from("dependency=");
    dependencies.push(library.parent().unwrap());
    Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--out-dir"])
        .arg(out.path())
        .arg("-L")
        .arg(dependencies)
        .arg("--extern")
        .arg(external)
        .arg(program)
        .output()
        .unwrap()
}
