use super::*;
use crate::settings::Program;

/// A program that counts its runs in a file and does as another file says.
struct Helper {
    dir: tempfile::TempDir,
    house: House,
}

const SCRIPT: &str = "echo run >> \"$DIR/runs\"; . \"$DIR/does\"";

impl Helper {
    fn new(does: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "does", does);
        let program = Program {
            name: "helper".to_owned(),
            command: ["/bin/sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("DIR".to_owned(), dir.path().to_str().unwrap().to_owned())]),
            inherit: Vec::new(),
            // Moving the clock must not end it.
            timeout: Duration::from_secs(10_000),
            cache: Duration::from_secs(300),
        };
        let exec = [("helper".to_owned(), Arc::new(program))].into();
        Self { house: House::new(&SourceSettings { exec, ..Default::default() }), dir }
    }

    fn does(&self, text: &str) {
        put(self.dir.path(), "does", text);
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().lines().count()
    }

    async fn read(&self) -> Result<String, (String, bool)> {
        self.house.read(&reference()).await
    }
}

fn reference() -> SecretRef {
    SecretRef::Exec("helper".to_owned())
}

/// Moves the clock. It stands still only here: programs take real time.
async fn later(seconds: u64) {
    tokio::time::pause();
    advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn many_that_need_a_secret_run_its_program_once() {
    let helper = Helper::new("echo sk-1");
    let (one, reference) = (helper.house.sources(), reference());
    let (a, b, c) = tokio::join!(one.read(&reference), one.read(&reference), one.read(&reference));
    assert_eq!([a, b, c].map(|read| shown(&read.unwrap())), ["sk-1", "sk-1", "sk-1"]);
    later(299).await;
    assert_eq!((helper.read().await.unwrap().as_str(), helper.runs()), ("sk-1", 1));
}

#[tokio::test]
async fn a_secret_is_kept_for_a_time_and_is_another_version_when_it_changed() {
    let helper = Helper::new("echo sk-1");
    let first = helper.house.sources().read(&reference()).await.unwrap();
    later(301).await;
    assert!(helper.house.sources().is_fresh(&reference(), &first.stamp).await, "the same again");
    assert_eq!(helper.runs(), 2);
    helper.does("echo sk-2");
    later(301).await;
    assert!(!helper.house.sources().is_fresh(&reference(), &first.stamp).await);
    assert_eq!((helper.read().await.unwrap().as_str(), helper.runs()), ("sk-2", 3));
}

#[tokio::test]
async fn an_end_that_a_program_tells_counts_before_the_settings() {
    let end = time::OffsetDateTime::now_utc() + Duration::from_secs(1000);
    let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    let helper = Helper::new(&format!("echo '{{\"secret\":\"sk-1\",\"expires_at\":\"{end}\"}}'"));
    assert_eq!(helper.read().await.unwrap(), "sk-1");
    later(800).await;
    assert_eq!((helper.read().await.unwrap().as_str(), helper.runs()), ("sk-1", 1));
    // Within the margin it is still good, so nobody waits for the next one.
    helper.does("echo sk-2");
    later(160).await;
    assert_eq!(helper.read().await.unwrap(), "sk-1");
    later(100).await;
    assert_eq!((helper.read().await.unwrap().as_str(), helper.runs()), ("sk-2", 2));
}

#[tokio::test]
async fn a_program_that_fails_is_not_run_by_every_request_and_its_last_secret_counts_a_while() {
    let helper = Helper::new("echo sk-hidden >&2; echo sk-hidden; exit 7");
    let why = "`exec:helper` ended with code 7; run its command by hand to see what it says";
    for _ in 0..3 {
        assert_eq!(helper.read().await, Err((why.to_owned(), true)));
    }
    assert_eq!(helper.runs(), 1);
    helper.does("echo sk-1");
    later(3).await;
    assert_eq!(helper.read().await.unwrap(), "sk-1");
    helper.does("exit 7");
    later(301).await;
    assert_eq!((helper.read().await.unwrap().as_str(), helper.runs()), ("sk-1", 3));
    later(60).await;
    assert_eq!(helper.read().await, Err((why.to_owned(), true)));
}

#[tokio::test]
async fn what_is_no_secret_any_more_is_not_used_again() {
    let helper = Helper::new("echo sk-1");
    assert_eq!(helper.read().await.unwrap(), "sk-1");
    helper.does("true");
    later(301).await;
    assert_eq!(helper.read().await, Err(("`exec:helper` printed nothing".to_owned(), false)));
}

#[tokio::test]
async fn a_line_break_in_a_secret_does_not_reach_a_header() {
    let helper = Helper::new("printf 'sk-hidden\\r\\nX-Injected: 1'");
    let placements = [crate::plan::Placement::Bearer(reference())];
    let made = crate::credential::placement::Static::read(&placements, helper.house.sources()).await;
    let error = made.map(drop).unwrap_err().to_string();
    assert_eq!(error, "`exec:helper` holds a line break or another control character in its middle");
}
