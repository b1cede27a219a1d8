//! Replacing the policy in force: all or nothing, and the last good one stays.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use super::{
    files::{bundle, problem::Problems},
    live::{Live, Policies},
    policy::Policy,
};
use crate::{
    audit::{Audit, Event},
    metrics::Metrics,
};

/// How long after the first sign of a change the files are read: editors and mounts write in several steps.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the files are read without a sign: some file systems give none, and a watch can be lost.
const POLL: Duration = Duration::from_secs(10);

/// What a reload met last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tried {
    /// Files with this identity.
    Content(Arc<str>),
    /// Files that could not be read, and why.
    Unreadable(String),
}

/// What came of a reload.
#[derive(Debug)]
pub enum Reload {
    /// The files are the ones in force, or ones that were rejected before.
    Unchanged,
    /// They are in force now.
    Loaded,
    /// They are not; the last good policy stays.
    Rejected(Problems),
}

/// Whether content that was rejected before is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

impl Policies {
    /// Reads the files now, as on SIGHUP. Blocks while it reads.
    pub fn reload(&self, audit: &Audit, metrics: &Metrics) -> Reload {
        self.attempt(Again::Yes, audit, metrics)
    }

    /// Keeps the policy up to date for as long as the future is polled; dropping it ends the watch.
    pub async fn watch(self, audit: Audit, metrics: Arc<Metrics>) {
        let live = self.0.clone();
        let Some(source) = &live.source else { return std::future::pending().await };
        let changed = Arc::new(Notify::new());
        // Held for its `Drop`: the watch ends with it.
        let _watcher = watcher(&source.path, &changed)
            .map_err(
                |error| tracing::warn!(%error, "cannot watch the policy's files, reading them every 10 s"),
            )
            .ok();
        let mut ended = None;
        loop {
            if let Some(at) = self.expired().filter(|at| ended.as_ref() != Some(at)) {
                let revision = self.current().revision().clone();
                tracing::error!(%revision, expired_at = at, "the policy in force has expired, and no newer one came");
                audit.event(&Event::PolicyExpired { revision: &revision, expired_at: &at });
                ended = Some(at);
            }
            tokio::select! {
                () = changed.notified() => tokio::time::sleep(DEBOUNCE).await,
                () = tokio::time::sleep(self.until_looked_at()) => {}
            }
            let (this, audit, metrics) = (self.clone(), audit.clone(), metrics.clone());
            let attempt = tokio::task::spawn_blocking(move || this.attempt(Again::No, &audit, &metrics));
            if let Err(error) = attempt.await {
                tracing::error!(%error, "reading the policy failed");
            }
        }
    }

    /// Until the next look at the files, or until the policy in force ends.
    fn until_looked_at(&self) -> Duration {
        let left = self.current().expires_at().and_then(|at| at.duration_since(SystemTime::now()).ok());
        left.map_or(POLL, |left| left.min(POLL))
    }

    fn attempt(&self, again: Again, audit: &Audit, metrics: &Metrics) -> Reload {
        let live = &*self.0;
        let Some(source) = &live.source else { return Reload::Unchanged };
        // Held to the end: two reloads at once must not swap in the older files last.
        let mut tried = live.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match source.read() {
            Ok(sources) => {
                let met = Tried::Content(sources.identity());
                // What is in force stays so, also past its time.
                if sources.identity() == *live.current().identity() {
                    live.last_error.store(None);
                    *tried = met;
                    return Reload::Unchanged;
                }
                if again == Again::No && *tried == met {
                    return Reload::Unchanged;
                }
                *tried = met;
                let admitted = source.admit(&sources).map_err(|error| Problems::unreadable(&error));
                admitted.and_then(|()| Policy::compile(&sources))
            }
            Err(error) => {
                let met = Tried::Unreadable(error.to_string());
                if again == Again::No && *tried == met {
                    return Reload::Unchanged;
                }
                *tried = met;
                Err(Problems::unreadable(&error))
            }
        };
        match outcome {
            Ok(policy) => {
                source.accepted(&policy.version);
                accept(live, policy, audit, metrics);
                Reload::Loaded
            }
            Err(problems) => {
                reject(&live.last_error, &problems, audit, metrics);
                Reload::Rejected(problems)
            }
        }
    }

    /// When the policy in force, a signed bundle, has ended. It stays in force: a policy that was good a minute ago
    /// is better than none. But egret is not ready any more, so that somebody looks.
    pub fn expired(&self) -> Option<String> {
        self.current().expires_at().filter(|at| *at <= SystemTime::now()).map(bundle::rfc3339)
    }

    /// Notes the policy that the process starts with in log and metrics.
    pub fn announce(&self, audit: &Audit, metrics: &Metrics) {
        announce(&self.current(), audit, metrics);
    }
}

fn accept(live: &Live, policy: Policy, audit: &Audit, metrics: &Metrics) {
    let policy = Arc::new(policy);
    live.policy.store(policy.clone());
    live.last_error.store(None);
    // After the swap: whoever wakes up asks the new policy.
    live.changes.send_modify(|tick| *tick += 1);
    announce(&policy, audit, metrics);
}

fn announce(policy: &Policy, audit: &Audit, metrics: &Metrics) {
    metrics.policy_loaded(policy.revision(), policy.expires_at());
    audit.event(&Event::PolicyLoaded { revision: policy.revision(), hash: policy.hash() });
    tracing::info!(revision = %policy.revision(), hash = %policy.hash(), "policy loaded");
}

fn reject(last_error: &ArcSwapOption<String>, problems: &Problems, audit: &Audit, metrics: &Metrics) {
    for problem in problems.iter() {
        tracing::error!(%problem, "policy rejected, the last good one stays");
    }
    metrics.policy_rejected();
    audit.event(&Event::PolicyRejected { problems: problems.count() });
    let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
    last_error.store(Some(Arc::new(format!("{} problem(s), the first: {first}", problems.count()))));
}

/// Watches the directory of the files: a `ConfigMap` swaps its `..data` link there, and editors rename over a file,
/// after which a watch on the file itself would follow the old one.
fn watcher(source: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let directory = if source.is_dir() {
        source.to_path_buf()
    } else {
        let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    };
    let signal = changed.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files makes events, too; answering those would never end.
        if event.map_or(true, |event| is_change(event.kind)) {
            signal.notify_one();
        }
    })?;
    watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    // What changed between the load and the watch.
    changed.notify_one();
    Ok(watcher)
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tokio::{sync::watch, time::timeout};

    use super::*;
    use crate::audit::{Durability, Writer};

    const GOOD: &str = "version: 1\nrevision: one\ntenants: {t: {}}\n";
    const BETTER: &str = "version: 1\nrevision: two\ntenants: {t: {}}\n";
    const BROKEN: &str = "version: 1\nrevision: three\ntenants: {t: {limit: 0/min}}\n";

    struct Fixture {
        dir: tempfile::TempDir,
        policies: Policies,
        changes: watch::Receiver<u64>,
        audit: Audit,
        metrics: Arc<Metrics>,
    }

    impl Fixture {
        /// A directory prepared by `prepare`, loaded.
        fn new(prepare: impl Fn(&Path)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            prepare(dir.path());
            let policies = Policies::load(dir.path()).unwrap();
            let metrics = Arc::new(Metrics::default());
            let audit = Audit::new(
                Writer::start(&[], Durability::BestEffort, metrics.clone()).unwrap(),
                metrics.clone(),
            );
            let changes = policies.changes();
            Self { dir, policies, changes, audit, metrics }
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("policy.yaml")
        }

        fn revision(&self) -> String {
            self.policies.current().revision().to_string()
        }

        fn reload(&self) -> Reload {
            self.policies.reload(&self.audit, &self.metrics)
        }

        /// Watches, makes a change and waits until the policy has followed it.
        async fn follows(&mut self, change: impl FnOnce(&Path)) {
            let watch = tokio::spawn(self.policies.clone().watch(self.audit.clone(), self.metrics.clone()));
            change(self.dir.path());
            timeout(Duration::from_secs(20), self.changes.changed())
                .await
                .expect("a change in time")
                .unwrap();
            watch.abort();
        }
    }

    fn one_file(dir: &Path) {
        fs::write(dir.join("policy.yaml"), GOOD).unwrap();
    }

    #[tokio::test]
    async fn a_file_written_in_place_is_followed() {
        let mut fixture = Fixture::new(one_file);
        fixture.follows(|dir| fs::write(dir.join("policy.yaml"), BETTER).unwrap()).await;
        assert_eq!(fixture.revision(), "two");
    }

    #[tokio::test]
    async fn a_file_renamed_over_the_old_one_is_followed() {
        let mut fixture = Fixture::new(one_file);
        let rename = |dir: &Path| {
            fs::write(dir.join(".policy.yaml.swp"), BETTER).unwrap();
            fs::rename(dir.join(".policy.yaml.swp"), dir.join("policy.yaml")).unwrap();
        };
        fixture.follows(rename).await;
        assert_eq!(fixture.revision(), "two");
    }

    #[tokio::test]
    async fn a_config_map_that_swaps_its_data_link_is_followed() {
        let version = |dir: &Path, name: &str, text: &str| {
            fs::create_dir(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("policy.yaml"), text).unwrap();
        };
        let mut fixture = Fixture::new(|dir| {
            version(dir, "..2026_11_23", GOOD);
            symlink("..2026_11_23", dir.join("..data")).unwrap();
            symlink("..data/policy.yaml", dir.join("policy.yaml")).unwrap();
        });
        let swap = |dir: &Path| {
            version(dir, "..2026_11_24", BETTER);
            symlink("..2026_11_24", dir.join("..data_tmp")).unwrap();
            fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
            fs::remove_dir_all(dir.join("..2026_11_23")).unwrap();
        };
        fixture.follows(swap).await;
        assert_eq!(fixture.revision(), "two");
    }

    #[test]
    fn a_broken_file_changes_nothing_and_is_reported() {
        let fixture = Fixture::new(one_file);
        fs::write(fixture.file(), BROKEN).unwrap();
        assert!(matches!(fixture.reload(), Reload::Rejected(problems) if problems.count() == 1));
        assert_eq!(fixture.revision(), "one");
        assert!(!fixture.changes.has_changed().unwrap());
        assert!(fixture.policies.last_error().unwrap().contains("limit of zero"));
        assert!(fixture.metrics.text().contains("egret_policy_reload_total{result=\"error\"} 1"));
        // The poll does not report the same files again.
        let again = fixture.policies.attempt(Again::No, &fixture.audit, &fixture.metrics);
        assert!(matches!(again, Reload::Unchanged));

        fs::write(fixture.file(), GOOD).unwrap();
        assert!(matches!(fixture.reload(), Reload::Unchanged));
        assert_eq!(fixture.policies.last_error(), None);
    }

    #[test]
    fn a_deleted_file_changes_nothing_and_is_reported() {
        let fixture = Fixture::new(one_file);
        fs::remove_file(fixture.file()).unwrap();
        assert!(matches!(fixture.reload(), Reload::Rejected(_)));
        assert_eq!(fixture.revision(), "one");
        assert!(fixture.policies.last_error().is_some());
        fs::write(fixture.file(), BETTER).unwrap();
        assert!(matches!(fixture.reload(), Reload::Loaded));
        assert_eq!(fixture.revision(), "two");
        assert!(fixture.changes.has_changed().unwrap());
    }

    #[test]
    fn the_same_files_are_the_same_policy() {
        let fixture = Fixture::new(one_file);
        fs::write(fixture.file(), GOOD).unwrap();
        assert!(matches!(fixture.reload(), Reload::Unchanged));
        assert!(!fixture.changes.has_changed().unwrap());
    }
}
