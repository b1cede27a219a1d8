//! A store with 100,000 connections: how long it takes to open, and to look one up.
//!
//! `cargo bench --bench connections`. Prints times; nothing is judged here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::{Duration, Instant};

use egret::{
    context::{IntegrationId, TenantId, UserId},
    secret::Secret,
    settings::{SecretSource, StoreSettings, StoreUrl},
    store::{ConnectionKey, Facts, Owner, Store, Tokens},
};

const TENANTS: usize = 100;
const USERS: usize = 1000;
const LOOKUPS: usize = 20_000;

fn key(tenant: usize, user: usize) -> ConnectionKey {
    ConnectionKey {
        tenant: TenantId::parse(&format!("tenant-{tenant}")).unwrap(),
        integration: IntegrationId::parse("mail").unwrap(),
        owner: Owner::User(UserId::parse(&format!("user-{user}@example.com")).unwrap()),
    }
}

fn tokens(user: usize) -> Tokens {
    // As long as those of large providers.
    let secret = |kind: &str| Secret::new(format!("{kind}-{user}-{}", "x".repeat(1000)).into_bytes());
    Tokens { access_token: secret("at"), refresh_token: Some(secret("rt")), kept: Vec::new() }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        url: StoreUrl::Sqlite(dir.path().join("egret.db")),
        key: SecretSource::File(dir.path().join("store.key")),
        old_keys: Vec::new(),
    };
    let began = Instant::now();
    let store = Store::open_or_create(&settings).await.unwrap();
    let facts =
        Facts { expires_at: Some(4_000_000_000), renew_at: None, scopes: "mail.read mail.send".to_owned() };
    for tenant in 0..TENANTS {
        for user in 0..USERS {
            store.connect(&key(tenant, user), &tokens(user), &facts).await.unwrap();
        }
    }
    println!("filled with {} connections in {:.1} s", TENANTS * USERS, began.elapsed().as_secs_f64());
    drop(store);

    let began = Instant::now();
    let store = Store::open(&settings).await.unwrap();
    store.connection(&key(TENANTS / 2, USERS / 2)).await.unwrap().unwrap();
    println!("opened, and the first looked up, in {:?}", began.elapsed());

    for warm in [false, true] {
        let mut times: Vec<Duration> = Vec::with_capacity(LOOKUPS);
        for _ in 0..LOOKUPS {
            let key = key(fastrand::usize(..TENANTS), fastrand::usize(..USERS));
            let began = Instant::now();
            store.connection(&key).await.unwrap().unwrap();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let at = |thousandths: usize| times[(times.len() * thousandths / 1000).min(times.len() - 1)];
        let which = if warm { "again" } else { "first" };
        println!("looked up {which}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    }
    let resident = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = resident.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("{resident}");
}
