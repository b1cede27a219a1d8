//! A process that ends in the middle of a renewal, at each point of it.
//!
//! The test runs itself as a child that has a token to renew, with a provider that keeps what it knows in a file and
//! ends the process where it is told. Then a second child comes, as after a restart. `EGRET_TEST_KILLS` says how often
//! each point is tried.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{
    super::{engine::Engine, renewal::Point, workshop::Workshop},
    minted::{authorization, key, work},
    origins, settings,
    stored::{ends_in, grant, tokens},
};
use crate::{
    fetch::{Answer, Call, Calling, Calls},
    store::{LazyStore, Status, Store},
};

/// Where the process ends.
const END_AT: &str = "EGRET_TEST_END_AT";
/// Where the child works.
const PLACE: &str = "EGRET_TEST_PLACE";

/// The points at which nothing of the refresh token has been sent.
const BEFORE: [&str; 4] = ["Read", "Leased", "ReadAgain", "Prepared"];
/// The points at which it may have been, or was, and the answer is not kept.
const BETWEEN: [&str; 7] =
    ["WrittenAhead", "Sending", "Received", "Rotated", "Answered", "Understood", "Saving"];
/// The points at which the answer is kept.
const AFTER: [&str; 1] = ["Saved"];

/// Ends the process at the point that `EGRET_TEST_END_AT` names.
pub(in crate::credential) fn at(point: Point) {
    end_at(&format!("{point:?}"));
}

fn end_at(point: &str) {
    if std::env::var(END_AT).is_ok_and(|name| name == point) {
        let own = std::process::id().to_string();
        let _ = Command::new("kill").args(["-KILL", &own]).status();
        std::thread::park();
    }
}

/// A provider whose refresh tokens are good for one use, and that keeps what it knows in a file.
#[derive(Debug)]
struct Ledger(PathBuf);

impl Ledger {
    /// What it was told, in order: `rotated rt-1`, `reused rt-1`.
    fn read(place: &Path) -> Vec<String> {
        fs::read_to_string(place.join("ledger")).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    fn write(&self, line: &str) {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        fs::write(&self.0, format!("{text}{line}\n")).unwrap();
    }
}

impl Calls for Ledger {
    fn call<'c>(&'c self, call: Call<'c>) -> Calling<'c> {
        let body = String::from_utf8(call.body.to_vec()).unwrap();
        Box::pin(async move {
            end_at("Received");
            let given = body.split('&').find_map(|part| part.strip_prefix("refresh_token=")).unwrap();
            let known = fs::read_to_string(&self.0).unwrap_or_default();
            let rotations = known.lines().filter(|line| line.starts_with("rotated")).count();
            let good = format!("rt-{}", rotations + 1);
            let (status, body) = if given == good && !known.contains("reused") {
                self.write(&format!("rotated {given}"));
                let next = rotations + 2;
                (
                    200,
                    json!({"access_token": format!("at-{next}"), "refresh_token": format!("rt-{next}"), "expires_in": 3600}),
                )
            } else {
                self.write(&format!("reused {given}"));
                (400, json!({"error": "invalid_grant"}))
            };
            end_at("Rotated");
            let body = Bytes::from(body.to_string());
            Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
        })
    }
}

/// What the child does: one request, whose outcome it writes into a file.
#[tokio::test]
async fn child() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let calls = Arc::new(Ledger(place.join("ledger")));
    let workshop = Workshop::new(calls, origins(LazyStore::new(settings(&place))), Arc::default());
    let engine = Arc::new(Engine::start(Arc::new(workshop), TaskTracker::new()));
    let outcome = authorization(&engine, work(&grant("single_use"))).await;
    fs::write(place.join("outcome"), outcome.unwrap_or_else(|error| error)).unwrap();
}

fn run(place: &Path, end_at: &str) -> Option<String> {
    let _ = fs::remove_file(place.join("outcome"));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["credential::tests::kill::child", "--exact", "--quiet"])
        .env(PLACE, place)
        .env(END_AT, end_at)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.success(), place.join("outcome").exists());
    fs::read_to_string(place.join("outcome")).ok()
}

async fn one(point: &str) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let store = Store::open_or_create(&settings(place)).await.unwrap();
    store.connect(&key(), &tokens("at-1", Some("rt-1")), &ends_in(-1)).await.unwrap();
    assert_eq!(run(place, point), None, "{point}: the process lived");
    let before = Ledger::read(place);
    // The lease of the process that is gone ends by itself; nobody waits for that here.
    store.forget_lease(&key()).await;
    let after = run(place, "nowhere").unwrap();
    let ledger = Ledger::read(place);
    assert!(!ledger.iter().any(|line| line.starts_with("reused")), "{point}: {ledger:?}");
    let (generation, status) = store.connection_state(&key()).await.unwrap().expect(point);
    if BETWEEN.contains(&point) {
        assert_eq!((after.as_str(), status), ("auth_revoked ", Status::Unknown), "{point}");
        assert_eq!(ledger, before, "{point}: it was not presented again");
        // The documented way out: a person connects it anew.
        let new = store.connect(&key(), &tokens("at-9", Some("rt-9")), &ends_in(3600)).await.unwrap();
        assert!(new > generation);
        assert_eq!(run(place, "nowhere").unwrap(), "Bearer at-9", "{point}");
    } else {
        assert_eq!((after.as_str(), status), ("Bearer at-2", Status::Active), "{point}");
        assert_eq!(ledger, ["rotated rt-1"], "{point}");
        if AFTER.contains(&point) {
            assert_eq!(before, ledger, "{point}: what was kept is used");
        }
    }
}

#[tokio::test]
async fn a_process_that_ends_anywhere_in_a_renewal_loses_nothing_and_presents_nothing_twice() {
    let times = std::env::var("EGRET_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for point in BEFORE.into_iter().chain(BETWEEN).chain(AFTER) {
        for _ in 0..times {
            one(point).await;
        }
    }
}
