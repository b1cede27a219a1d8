use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    sync::mpsc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::*;

/// A program that a shell runs, for a test that needs one.
fn shell(script: &str) -> Program {
    Program {
        name: "helper".to_owned(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        inherit: Vec::new(),
        timeout: Duration::from_secs(20),
        cache: Duration::from_secs(300),
    }
}

async fn fails(program: &Program) -> String {
    run(program).await.map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn a_program_hands_out_a_bare_secret_or_one_with_an_end() {
    let soon = "2999-01-02T03:04:05Z";
    let end = OffsetDateTime::parse(soon, &Rfc3339).unwrap().into();
    let credential = |status: &str| {
        format!(
            r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{{status}}}}}"#
        )
    };
    for (printed, secret, expires) in [
        ("sk-1\n".to_owned(), "sk-1", None),
        (credential(r#""token":"sk-2""#), "sk-2", None),
        (credential(&format!(r#""token":"sk-3","expirationTimestamp":"{soon}""#)), "sk-3", Some(end)),
        (format!(r#"{{"secret":"sk-4\n","expires_at":"{soon}"}}"#), "sk-4", Some(end)),
        // The key file of a service account is a secret as it is.
        (r#"{"type":"service_account"}"#.to_owned(), r#"{"type":"service_account"}"#, None),
    ] {
        let mut program = shell("printf %s \"$WHAT\"");
        program.env.insert("WHAT".to_owned(), printed.clone());
        let handed = run(&program).await.unwrap();
        assert!(handed.secret.matches(secret.as_bytes()), "{printed}");
        assert_eq!(handed.expires, expires, "{printed}");
    }
}

#[tokio::test]
async fn what_is_no_secret_is_told_without_being_repeated() {
    for (script, why) in [
        ("true", "printed nothing"),
        (
            "echo sk-hidden; echo sk-hidden >&2; exit 3",
            "ended with code 3; run its command by hand to see what it says",
        ),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo '{\"kind\":\"ExecCredential\",\"status\":{\"token\":\"sk-hidden\"}}'", "`apiVersion` is not"),
        ("echo '{\"secret\":[\"sk-hidden\"]}'", "`secret` is no text"),
        ("echo '{\"secret\":\"sk-hidden\",\"expires_at\":\"tomorrow\"}'", "its end is no time (RFC 3339)"),
        ("echo '{\"secret\":\"sk-hidden\",\"expires_at\":\"2001-01-01T00:00:00Z\"}'", "whose time is over"),
        ("yes sk-hidden", "printed more than 65536 bytes"),
    ] {
        let error = fails(&shell(script)).await;
        assert!(error.contains(why) && !error.contains("hidden"), "{script}: {error}");
    }
    let absent = Program { command: vec!["/nonexistent/helper".to_owned()], ..shell("") };
    assert!(fails(&absent).await.starts_with("cannot be started: No such file"));
}

#[tokio::test]
async fn a_program_sees_a_few_variables_and_reads_nothing() {
    let mut program = shell("env | sed 's/=.*//' | sort | tr '\\n' ' '; cat");
    program.env.insert("SAID".to_owned(), "x".to_owned());
    program.inherit = vec!["CARGO_PKG_NAME".to_owned(), "EGRET_TEST_NOT_SET".to_owned()];
    let handed = run(&program).await.unwrap();
    // What a shell sets by itself.
    let own = ["PWD", "SHLVL", "_", "OLDPWD"];
    #[expect(clippy::disallowed_methods, reason = "a test that looks")]
    let text = String::from_utf8(handed.secret.expose().to_vec()).unwrap();
    let names: Vec<&str> = text.split(' ').filter(|name| !own.contains(name)).collect();
    let home = std::env::var_os("HOME").map(|_| "HOME");
    let expected: Vec<&str> = ["CARGO_PKG_NAME"].into_iter().chain(home).chain(["PATH", "SAID"]).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Whoever lives of the group holds the pipe open.
    let (ended, end) = mpsc::channel();
    let reader = pipe.clone();
    thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(reader).unwrap().read_to_string(&mut text).unwrap();
        ended.send(text).unwrap();
    });
    let mut program = shell("exec 3>\"$PIPE\"; echo started >&3; sleep 1000 & sleep 1000");
    program.env.insert("PIPE".to_owned(), pipe.to_str().unwrap().to_owned());
    program.timeout = Duration::from_secs(2);
    assert_eq!(fails(&program).await, "did not end within 2s, and was killed with all that it started");
    assert_eq!(end.recv_timeout(Duration::from_secs(20)).unwrap(), "started\n");
}

#[test]
fn a_program_does_not_print_what_may_be_a_secret() {
    let mut program = shell("--password=sk-hidden");
    program.env.insert("PASSWORD".to_owned(), "sk-hidden".to_owned());
    assert_eq!(format!("{program:?}"), "Program { name: \"helper\", .. }");
}

#[test]
fn an_end_is_compared_with_the_clock() {
    let printed = br#"{"secret":"s","expires_at":"1970-01-01T00:01:00Z"}"#;
    assert!(understand(printed, UNIX_EPOCH).is_ok());
    assert!(matches!(understand(printed, UNIX_EPOCH + Duration::from_secs(60)), Err(ExecError::Over)));
}
