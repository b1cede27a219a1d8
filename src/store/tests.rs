//! What the store keeps: on SQLite, and also on PostgreSQL where `EGRET_TEST_POSTGRES` has the URL of a database.

#![allow(clippy::disallowed_methods, reason = "what was kept is compared with what was given")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;
use crate::{
    context::TenantId,
    secret::Secret,
    settings::{SecretSource, StoreSettings, StoreUrl},
};

fn at(dir: &Path) -> StoreSettings {
    StoreSettings {
        url: StoreUrl::Sqlite(dir.join("state/egret.db")),
        key: SecretSource::File(dir.join("state/store.key")),
        old_keys: Vec::new(),
    }
}

/// Where each fact is tried. Each place is empty.
pub(crate) async fn places() -> Vec<(tempfile::TempDir, StoreSettings)> {
    let directory = || tempfile::tempdir().unwrap();
    let dir = directory();
    let sqlite = at(dir.path());
    let mut places = vec![(dir, sqlite)];
    if let Ok(url) = std::env::var("EGRET_TEST_POSTGRES") {
        sqlx::any::install_default_drivers();
        let pool = AnyPool::connect(&url).await.unwrap();
        let dir = directory();
        let schema = format!("egret_{:016x}", fastrand::u64(..));
        sqlx::query(sqlx::AssertSqlSafe(format!("create schema {schema}"))).execute(&pool).await.unwrap();
        let url = StoreUrl::Postgres(format!("{url}?options[search_path]={schema}"));
        let postgres = StoreSettings { url, ..at(dir.path()) };
        places.push((dir, postgres));
    }
    places
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

async fn holds(store: &Store, of: &str, key: &str) -> Option<String> {
    let found = store.secret(&tenant(of), &name(key)).await.unwrap()?;
    Some(String::from_utf8(found.value.expose().to_vec()).unwrap())
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart_for_its_tenant_alone() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        assert!(!store.set_secret(&tenant("acme"), &name("key"), &secret("one")).await.unwrap());
        assert!(store.set_secret(&tenant("acme"), &name("key"), &secret("two")).await.unwrap());
        store.set_secret(&tenant("zeta"), &name("key"), &secret("other")).await.unwrap();
        drop(store);
        let store = Store::open(&settings).await.unwrap();
        assert_eq!(holds(&store, "acme", "key").await.as_deref(), Some("two"));
        assert_eq!(holds(&store, "zeta", "key").await.as_deref(), Some("other"));
        assert_eq!(holds(&store, "acme", "no").await, None);
        assert!(store.remove_secret(&tenant("acme"), &name("key")).await.unwrap());
        assert!(!store.remove_secret(&tenant("acme"), &name("key")).await.unwrap());
        assert_eq!(holds(&store, "acme", "key").await, None);
        assert_eq!(holds(&store, "zeta", "key").await.as_deref(), Some("other"));
    }
}

#[tokio::test]
async fn a_list_tells_names_and_ends_and_no_value() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        for (of, key, value) in
            [("b", "x", "sk-0123456789abcdef"), ("a", "z", "short"), ("a", "y", "sk-9876543210fedcba")]
        {
            store.set_secret(&tenant(of), &name(key), &secret(value)).await.unwrap();
        }
        let told = |all: &[Stored]| {
            all.iter()
                .map(|s| format!("{} {} {}", s.tenant, s.name, s.masked.as_deref().unwrap_or("-")))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&store.secrets(None).await.unwrap()), ["a y …dcba", "a z -", "b x …cdef"]);
        assert_eq!(told(&store.secrets(Some(&tenant("b"))).await.unwrap()), ["b x …cdef"]);
    }
}

#[tokio::test]
async fn a_value_that_was_moved_or_changed_does_not_open() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        for of in ["acme", "zeta"] {
            store.set_secret(&tenant(of), &name("key"), &secret(of)).await.unwrap();
        }
        let before = store.secret_generation(&tenant("acme"), &name("key")).await.unwrap().unwrap();
        let zeta = "update egret_secrets set sealed = (select sealed from egret_secrets where tenant = 'zeta'), generation = \
                    (select generation from egret_secrets where tenant = 'zeta') where tenant = 'acme'";
        sqlx::query(zeta).execute(&store.0.pool).await.unwrap();
        let error = store.secret(&tenant("acme"), &name("key")).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(!error.is_transient());
        assert_eq!(holds(&store, "zeta", "key").await.as_deref(), Some("zeta"));
        // It can be set again, and then bears another generation than before.
        store.set_secret(&tenant("acme"), &name("key"), &secret("new")).await.unwrap();
        assert!(store.secret_generation(&tenant("acme"), &name("key")).await.unwrap().unwrap() > before);
    }
}

#[tokio::test]
async fn a_removed_secret_that_comes_back_bears_another_generation() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        let mut last = 0;
        for _ in 0..3 {
            store.set_secret(&tenant("a"), &name("k"), &secret("v")).await.unwrap();
            let generation = store.secret_generation(&tenant("a"), &name("k")).await.unwrap().unwrap();
            assert!(generation > last);
            last = generation;
            store.remove_secret(&tenant("a"), &name("k")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn writers_at_the_same_time_leave_one_whole_value() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        let other = Store::open(&settings).await.unwrap();
        let writes = (0..8).map(|number| {
            let store = if number % 2 == 0 { store.clone() } else { other.clone() };
            tokio::spawn(async move {
                store.set_secret(&tenant("a"), &name("k"), &secret(&format!("v{number}"))).await
            })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert!(holds(&store, "a", "k").await.unwrap().starts_with('v'));
    }
}

#[tokio::test]
async fn without_its_key_the_store_stays_closed_and_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&at(dir.path())).await.unwrap();
    store.set_secret(&tenant("a"), &name("k"), &secret("v")).await.unwrap();
    drop(store);
    let key = dir.path().join("state/store.key");
    let old = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(matches!(Store::open_or_create(&at(dir.path())).await.unwrap_err(), StoreError::Key(_)));
    assert!(!key.exists(), "no new key is made for a store that has one");
    fs::write(&key, KeyEncryptionKey::fresh().unwrap().expose()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Store::open_or_create(&at(dir.path())).await.unwrap_err(), StoreError::OtherKey { .. }));
    fs::write(&key, old).unwrap();
    let store = Store::open(&at(dir.path())).await.unwrap();
    assert_eq!(holds(&store, "a", "k").await.as_deref(), Some("v"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = Store::open(&at(dir.path())).await.unwrap_err().to_string();
    assert!(exposed.contains("chmod 600"), "{exposed}");
}

#[tokio::test]
async fn a_new_key_takes_over_while_others_have_the_store_open() {
    for (dir, settings) in places().await {
        let running = Store::open_or_create(&settings).await.unwrap();
        running.set_secret(&tenant("a"), &name("k"), &secret("v")).await.unwrap();
        let new = dir.path().join("new.key");
        fs::write(&new, KeyEncryptionKey::fresh().unwrap().expose()).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        let old = settings.clone();
        let both = StoreSettings {
            key: SecretSource::File(new.clone()),
            old_keys: vec![old.key.clone()],
            ..old.clone()
        };
        let alone = StoreSettings { key: SecretSource::File(new), ..old.clone() };
        assert!(matches!(Store::open(&alone).await.unwrap_err(), StoreError::OtherKey { .. }));
        let store = Store::open(&both).await.unwrap();
        assert_eq!((store.rekey().await.unwrap(), store.rekey().await.unwrap()), (1, 0));
        assert_eq!(store.renew().await.unwrap(), 1);
        store.set_secret(&tenant("a"), &name("later"), &secret("w")).await.unwrap();
        // Who opened it before reads what was sealed before and, where it can unwrap the key, after.
        assert_eq!(holds(&Store::open(&alone).await.unwrap(), "a", "later").await.as_deref(), Some("w"));
        assert!(matches!(Store::open(&old).await.unwrap_err(), StoreError::OtherKey { .. }));
        running.set_secret(&tenant("a"), &name("own"), &secret("x")).await.unwrap();
        assert_eq!(holds(&store, "a", "own").await.as_deref(), Some("x"));
    }
}

#[tokio::test]
async fn nothing_that_was_kept_can_be_read_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&at(dir.path())).await.unwrap();
    let value = "sk-planted-0123456789";
    for round in 0..3 {
        store.set_secret(&tenant("a"), &name("k"), &secret(&format!("{value}{round}"))).await.unwrap();
    }
    store.remove_secret(&tenant("a"), &name("k")).await.unwrap();
    store.set_secret(&tenant("b"), &name("k"), &secret(value)).await.unwrap();
    drop(store);
    let mut looked = 0;
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        let bytes = fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"sk-planted"), "{:?}", entry.path());
        looked += 1;
    }
    assert!(looked >= 2);
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    for (_dir, settings) in places().await {
        let store = Store::open_or_create(&settings).await.unwrap();
        sqlx::query("update egret_facts set value = 99 where name = 'format'")
            .execute(&store.0.pool)
            .await
            .unwrap();
        assert!(matches!(Store::open_or_create(&settings).await.unwrap_err(), StoreError::Newer(99)));
    }
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&at(dir.path())).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Absent(_)) && error.to_string().contains("egret store init"),
        "{error}"
    );
    assert!(!dir.path().join("state").exists(), "looking makes nothing");
}
