//! Opening the store, making it, and changing its keys.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Once, PoisonError, RwLock},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{AnyPool, Row as _, any::AnyPoolOptions};
use zeroize::Zeroizing;

use super::{DataKey, Inner, KeyEncryptionKey, Keyring, Store, StoreError, now};
use crate::{
    exec,
    secret::Secret,
    settings::{SecretSource, StoreSettings, StoreUrl},
};

/// The shape of the tables. One that is higher was written by a newer egret.
const FORMAT: i64 = 2;

/// Types that SQLite and PostgreSQL read alike.
const TABLES: [&str; 4] = [
    "create table if not exists egret_facts (name text primary key, value bigint not null)",
    "create table if not exists egret_data_keys (id bigint primary key, kek text not null, wrapped bytea not null, \
     created_at bigint not null)",
    "create table if not exists egret_secrets (tenant text not null, name text not null, generation bigint not null, \
     sealed bytea not null, created_at bigint not null, changed_at bigint not null, primary key (tenant, name))",
    "create table if not exists egret_connections (tenant text not null, integration text not null, owner text not null, \
     generation bigint not null, status text not null, spending bigint not null, expires_at bigint not null, \
     renew_at bigint not null, scopes text not null, sealed bytea not null, lease_holder text not null, \
     lease_until bigint not null, created_at bigint not null, changed_at bigint not null, \
     primary key (tenant, integration, owner))",
];

/// How SQLite is to behave: a commit that was told is on the disk, and what was removed is gone from it.
const PRAGMAS: [&str; 4] = [
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma busy_timeout = 5000",
    "pragma secure_delete = on",
];

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest key file.
const LARGEST: u64 = 4096;

/// All but what a path in a URL may hold as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

impl Store {
    /// Opens the store.
    ///
    /// # Errors
    /// When it is not there, cannot be reached, or the keys do not fit.
    pub async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        if let StoreUrl::Sqlite(path) = &settings.url
            && !path.exists()
        {
            return Err(StoreError::Absent(settings.url.to_string()));
        }
        let pool = connect(&settings.url).await?;
        let format =
            sqlx::query("select value from egret_facts where name = 'format'").fetch_optional(&pool).await;
        match format {
            Err(sqlx::Error::Database(error)) if !is_without_tables(&*error) => {
                return Err(sqlx::Error::Database(error).into());
            }
            Err(sqlx::Error::Database(_)) | Ok(None) => {
                return Err(StoreError::Absent(settings.url.to_string()));
            }
            Err(error) => return Err(error.into()),
            Ok(Some(row)) if row.get::<i64, _>(0) > FORMAT => return Err(StoreError::Newer(row.get(0))),
            Ok(Some(row)) if row.get::<i64, _>(0) < FORMAT => make_tables(&pool).await?,
            Ok(Some(_)) => {}
        }
        let key = read_key(&settings.key).await?;
        Self::assemble(pool, key, settings).await
    }

    /// Opens the store, and makes what is missing: the tables, and with `file:` also the key.
    ///
    /// # Errors
    /// As [`Store::open`]. No key is made for a store that has one already.
    pub async fn open_or_create(settings: &StoreSettings) -> Result<Self, StoreError> {
        match Self::open(settings).await {
            Err(StoreError::Absent(_)) => {}
            opened => return opened,
        }
        if let StoreUrl::Sqlite(path) = &settings.url {
            make_file(path)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        }
        let key = match &settings.key {
            SecretSource::File(path) if !path.exists() => {
                let text = KeyEncryptionKey::fresh()?;
                write_key(path, &text)
                    .map_err(|error| StoreError::Key(format!("{}: {error}", path.display())))?;
                KeyEncryptionKey::parse(&text)?
            }
            source => read_key(source).await?,
        };
        let pool = connect(&settings.url).await?;
        make_tables(&pool).await?;
        Self::assemble(pool, key, settings).await
    }

    async fn assemble(
        pool: AnyPool,
        key: KeyEncryptionKey,
        settings: &StoreSettings,
    ) -> Result<Self, StoreError> {
        let wraps_with = key.id().to_owned();
        let mut keks = HashMap::from([(wraps_with.clone(), key)]);
        for source in &settings.old_keys {
            let key = read_key(source).await?;
            keks.insert(key.id().to_owned(), key);
        }
        let ring = RwLock::new(Arc::new(Keyring::new([])));
        let store = Self(Arc::new(Inner { pool, keks, wraps_with, keys: ring }));
        store.read_keys().await?;
        if store.keys().keys().next().is_none() {
            // Of two that do this at once, one comes first, and both read what it wrote.
            store.add_data_key(1).await?;
            store.read_keys().await?;
        }
        Ok(store)
    }

    /// Reads and unwraps the data keys.
    pub(super) async fn read_keys(&self) -> Result<(), StoreError> {
        let rows =
            sqlx::query("select id, kek, wrapped from egret_data_keys").fetch_all(&self.0.pool).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, kek, wrapped): (i64, String, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
            let damaged = || StoreError::Damaged(format!("data key {id}"));
            let Some(key) = self.0.keks.get(&kek) else {
                return Err(StoreError::OtherKey { found: kek, set: self.0.wraps_with.clone() });
            };
            let number = u32::try_from(id).map_err(|_| damaged())?;
            keys.push(key.unwrap_key(number, &wrapped).ok_or_else(damaged)?);
        }
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keyring::new(keys));
        Ok(())
    }

    async fn add_data_key(&self, id: u32) -> Result<(), StoreError> {
        let random = || StoreError::Unavailable("the system has no random bytes".to_owned());
        let wraps_with = self.0.keks.get(&self.0.wraps_with).ok_or_else(random)?;
        let key = DataKey::fresh(id).ok_or_else(random)?;
        let wrapped = wraps_with.wrap(&key).ok_or_else(random)?;
        sqlx::query(
            "insert into egret_data_keys (id, kek, wrapped, created_at) values ($1, $2, $3, $4) \
             on conflict (id) do nothing",
        )
        .bind(i64::from(id))
        .bind(&self.0.wraps_with)
        .bind(wrapped)
        .bind(now())
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// Wraps the data keys with `store.key`, where they still are with an old one. Nothing else is rewritten, and
    /// whoever has the store open does not notice. Gives how many were.
    ///
    /// # Errors
    /// When the store cannot be used; what was rewritten by then is whole.
    pub async fn rekey(&self) -> Result<usize, StoreError> {
        self.read_keys().await?;
        let Some(wraps_with) = self.0.keks.get(&self.0.wraps_with) else { return Ok(0) };
        let mut rewritten = 0;
        for key in self.keys().keys() {
            let wrapped = wraps_with
                .wrap(key)
                .ok_or_else(|| StoreError::Unavailable("the system has no random bytes".to_owned()))?;
            let done =
                sqlx::query("update egret_data_keys set kek = $1, wrapped = $2 where id = $3 and kek <> $1")
                    .bind(wraps_with.id())
                    .bind(wrapped)
                    .bind(i64::from(key.id()))
                    .execute(&self.0.pool)
                    .await?;
            rewritten += usize::from(done.rows_affected() > 0);
        }
        Ok(rewritten)
    }

    /// Makes a new data key, and seals everything with it. Gives how many rows were.
    ///
    /// # Errors
    /// When the store cannot be used; what was sealed by then is whole, and both keys open what they sealed.
    pub async fn renew(&self) -> Result<usize, StoreError> {
        self.read_keys().await?;
        let newest = self.keys().keys().map(DataKey::id).max().unwrap_or(0);
        self.add_data_key(newest.saturating_add(1)).await?;
        self.read_keys().await?;
        Ok(self.reseal_secrets().await? + self.reseal_connections().await?)
    }
}

/// Makes the tables that are not there yet. What an older egret made is only added to.
async fn make_tables(pool: &AnyPool) -> Result<(), StoreError> {
    for statement in TABLES {
        // Two that make the same table at once may meet in PostgreSQL's catalogue.
        if sqlx::query(statement).execute(pool).await.is_err() {
            sqlx::query(statement).execute(pool).await?;
        }
    }
    sqlx::query(
        "insert into egret_facts (name, value) values ('format', $1) \
         on conflict (name) do update set value = $1 where egret_facts.value < $1",
    )
    .bind(FORMAT)
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether nothing was kept in this database yet.
fn is_without_tables(error: &dyn sqlx::error::DatabaseError) -> bool {
    // PostgreSQL's `undefined_table`; SQLite has one code for many mistakes.
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}

async fn connect(url: &StoreUrl) -> Result<AnyPool, StoreError> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    let (text, connections) = match url {
        StoreUrl::Sqlite(path) => {
            let path = std::path::absolute(path)
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
            let path =
                path.to_str().ok_or_else(|| StoreError::Unavailable("its path is no text".to_owned()))?;
            (Secret::new(format!("sqlite://{}", utf8_percent_encode(path, PATH)).into_bytes()), 4)
        }
        StoreUrl::Postgres(url) => (Secret::new(url.clone().into_bytes()), 8),
        StoreUrl::Read(source) => {
            (read(source).await.map_err(|error| StoreError::Unavailable(error.what))?, 8)
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it may hold the database's password")]
    let text = std::str::from_utf8(text.expose())
        .map_err(|_| StoreError::Unavailable("store.url leads to something that is no URL".to_owned()))?
        .trim();
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async move {
                if connection.backend_name() == "SQLite" {
                    for pragma in PRAGMAS {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                }
                Ok(())
            })
        })
        .connect(text)
        .await
        .map_err(|error| match error {
            // The error may repeat the URL.
            sqlx::Error::Configuration(_) => StoreError::Unavailable(
                "store.url leads to something that is no URL of PostgreSQL".to_owned(),
            ),
            error => error.into(),
        })
}

fn make_file(path: &Path) -> io::Result<()> {
    make_parent(path)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Made by another egret meanwhile, or empty: both are as good.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write_key(path: &Path, key: &Secret) -> io::Result<()> {
    make_parent(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    #[expect(clippy::disallowed_methods, reason = "the key is written where it lives")]
    file.write_all(key.expose())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| DirBuilder::new().recursive(true).mode(0o700).create(parent))
}

async fn read_key(source: &SecretSource) -> Result<KeyEncryptionKey, StoreError> {
    let text = read(source).await.map_err(|error| {
        if error.is_transient { StoreError::Unavailable(error.what) } else { StoreError::Key(error.what) }
    })?;
    KeyEncryptionKey::parse(&text).map_err(|error| StoreError::Key(format!("`{source}`: {error}")))
}

/// Why a secret of the store's own cannot be read.
struct Unread {
    what: String,
    /// Whether it may pass by itself.
    is_transient: bool,
}

async fn read(source: &SecretSource) -> Result<Secret, Unread> {
    let stays = |what| Unread { what, is_transient: false };
    match source {
        SecretSource::Env(name) => std::env::var(name)
            .map(|text| Secret::new(text.into_bytes()))
            .map_err(|_| stays(format!("`{source}` is not set in the environment of egret"))),
        SecretSource::File(path) => read_file(path).map_err(|error| stays(format!("`{source}`: {error}"))),
        SecretSource::Exec(program) => match exec::run(program).await {
            Ok(handed) => Ok(handed.secret),
            Err(error) => {
                Err(Unread { what: format!("`{source}` {error}"), is_transient: error.is_transient() })
            }
        },
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    // A group may: Kubernetes gives a pod its secrets through one.
    if metadata.mode() & 0o007 != 0 {
        return Err(format!(
            "every user of this machine may open it (mode {:o}); `chmod 600` it",
            metadata.mode() & 0o777
        ));
    }
    // As large as it may get: what is moved to a larger place leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST).unwrap_or(0)));
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(Secret::new(std::mem::take(&mut bytes)))
}
