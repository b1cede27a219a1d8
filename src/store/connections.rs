//! Connections: what a person or an organisation agreed to, and the tokens that came of it. One row for each.
//!
//! A row changes only by comparing its generation, which every change of its tokens moves on. Who renews it holds a
//! lease on it, so that of many processes one does; and writes down beforehand that the refresh token is being spent
//! (`spending`), so that after a crash it is known which one may be.

use std::fmt;

use sqlx::{
    Any, Row as _,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Place, Store, StoreError, Tokens, next, now};
use crate::context::{IntegrationId, TenantId, UserId};

/// The table.
const TABLE: &str = "connections";
/// How often a write is tried against other writers.
const TRIES: usize = 16;
/// Rows that are sealed anew between two looks.
const PAGE: i64 = 500;

/// Which connection: the tenant first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// For which of the tenant's integrations.
    pub integration: IntegrationId,
    /// As whom.
    pub owner: Owner,
}

/// As whom a connection acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The organisation.
    App,
    /// One person.
    User(UserId),
}

impl Owner {
    fn text(&self) -> String {
        match self {
            Self::App => "app".to_owned(),
            Self::User(user) => format!("user:{user}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "app" => Some(Self::App),
            Some(("user", user)) => UserId::parse(user).ok().map(Self::User),
            _ => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App => f.write_str("the organisation"),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It can be used, and renewed where it can be renewed.
    Active,
    /// Its token ended, and there is nothing to renew it with.
    Expired,
    /// The provider or an operator took it back: only a person can bring it back.
    Revoked,
    /// Its refresh token was sent, and nobody knows what became of it.
    Unknown,
}

impl Status {
    const WORDS: [(&'static str, Self); 4] = [
        ("active", Self::Active),
        ("expired", Self::Expired),
        ("revoked", Self::Revoked),
        ("unknown", Self::Unknown),
    ];

    /// The word in the database and in lists.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, status)| *status == self).map_or("unknown", |(word, _)| word)
    }

    /// A word that is not known is no permission.
    fn parse(word: &str) -> Self {
        Self::WORDS.iter().find(|(known, _)| *known == word).map_or(Self::Unknown, |(_, status)| *status)
    }
}

/// What is known of a connection beside its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// When the access token ends, in seconds since 1970; none where it does not.
    pub expires_at: Option<i64>,
    /// From which moment on it is renewed, likewise.
    pub renew_at: Option<i64>,
    /// The scopes that were granted, separated by spaces.
    pub scopes: String,
}

/// A connection as it is kept.
#[derive(Debug)]
pub struct Connection {
    /// Changes with every change of its tokens.
    pub generation: i64,
    /// How it is.
    pub status: Status,
    /// Since when its refresh token is being spent, in seconds since 1970; none where it is not.
    pub spending: Option<i64>,
    /// Beside the tokens.
    pub facts: Facts,
    /// The tokens.
    pub tokens: Tokens,
}

/// What may be told of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: ConnectionKey,
    /// How it is.
    pub status: Status,
    /// Beside the tokens.
    pub facts: Facts,
    /// In seconds since 1970.
    pub created_at: i64,
    /// In seconds since 1970.
    pub changed_at: i64,
}

/// A lease on a connection. Whoever holds it may renew the connection; it ends by itself.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Who holds it: one process, one try.
    pub holder: String,
}

impl Store {
    /// A connection; none where there is none.
    ///
    /// # Errors
    /// When the store cannot be used, or the row does not open.
    pub async fn connection(&self, key: &ConnectionKey) -> Result<Option<Connection>, StoreError> {
        let row = sqlx::query(
            "select generation, status, spending, expires_at, renew_at, scopes, sealed from egret_connections \
             where tenant = $1 and integration = $2 and owner = $3",
        )
        .bind_key(key)
        .fetch_optional(&self.0.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let generation: i64 = row.get(0);
        let owner = key.owner.text();
        let row_key = [key.integration.as_str(), owner.as_str()];
        let place = place(key, &row_key, generation);
        let plain = self.unseal(&place, &row.get::<Vec<u8>, _>(6)).await?;
        let tokens = Tokens::open(&plain).ok_or_else(|| StoreError::Damaged(place.to_string()))?;
        Ok(Some(Connection {
            generation,
            status: Status::parse(row.get(1)),
            spending: positive(row.get(2)),
            facts: facts(&row, 3),
            tokens,
        }))
    }

    /// Generation and status of a connection; none where there is none.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn connection_state(&self, key: &ConnectionKey) -> Result<Option<(i64, Status)>, StoreError> {
        let row = sqlx::query(
            "select generation, status from egret_connections where tenant = $1 and integration = $2 and owner = $3",
        )
        .bind_key(key)
        .fetch_optional(&self.0.pool)
        .await?;
        Ok(row.map(|row| (row.get(0), Status::parse(row.get(1)))))
    }

    /// Keeps a connection that was just made, in the place of a former one. Gives its generation.
    ///
    /// # Errors
    /// When the store cannot be used; then the former one is still there.
    pub async fn connect(
        &self,
        key: &ConnectionKey,
        tokens: &Tokens,
        facts: &Facts,
    ) -> Result<i64, StoreError> {
        let owner = key.owner.text();
        for _ in 0..TRIES {
            let last = self.connection_state(key).await?.map(|(generation, _)| generation);
            let generation = next(last.unwrap_or(0));
            let sealed =
                self.seal(&place(key, &[key.integration.as_str(), &owner], generation), &tokens.close())?;
            let statement = match last {
                None => {
                    "insert into egret_connections (tenant, integration, owner, generation, status, spending, expires_at, \
                     renew_at, scopes, sealed, lease_holder, lease_until, created_at, changed_at) \
                     values ($1, $2, $3, $4, 'active', 0, $5, $6, $7, $8, '', 0, $9, $9) \
                     on conflict (tenant, integration, owner) do nothing"
                }
                Some(_) => {
                    "update egret_connections set generation = $4, status = 'active', spending = 0, expires_at = $5, \
                     renew_at = $6, scopes = $7, sealed = $8, lease_holder = '', lease_until = 0, changed_at = $9 \
                     where tenant = $1 and integration = $2 and owner = $3 and generation = $10"
                }
            };
            let query = sqlx::query(statement)
                .bind_key(key)
                .bind(generation)
                .bind(facts.expires_at.unwrap_or(0))
                .bind(facts.renew_at.unwrap_or(0))
                .bind(&facts.scopes)
                .bind(sealed)
                .bind(now());
            let query = match last {
                None => query,
                Some(last) => query.bind(last),
            };
            if query.execute(&self.0.pool).await?.rows_affected() == 1 {
                return Ok(generation);
            }
        }
        Err(StoreError::Contended(place(key, &[key.integration.as_str(), &owner], 0).to_string()))
    }

    /// Takes the lease on a connection for `seconds`, where nobody holds it. Of many who try at once, one gets it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn lease(&self, key: &ConnectionKey, lease: &Lease, seconds: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update egret_connections set lease_holder = $1, lease_until = $2 \
             where tenant = $3 and integration = $4 and owner = $5 and (lease_until < $6 or lease_holder = $1)",
        )
        .bind(&lease.holder)
        .bind(now().saturating_add(seconds))
        .bind_key(key)
        .bind(now())
        .execute(&self.0.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// When the store cannot be used; then it ends by itself.
    pub async fn release(&self, key: &ConnectionKey, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query(
            "update egret_connections set lease_holder = '', lease_until = 0 \
             where tenant = $1 and integration = $2 and owner = $3 and lease_holder = $4",
        )
        .bind_key(key)
        .bind(&lease.holder)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// Writes down that the refresh token of this generation is about to be sent. False where the lease was lost, or
    /// the connection changed: then nothing may be sent.
    ///
    /// # Errors
    /// When the store cannot be used: then nothing may be sent, either.
    pub async fn spend(
        &self,
        key: &ConnectionKey,
        generation: i64,
        lease: &Lease,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update egret_connections set spending = $1 where tenant = $2 and integration = $3 and owner = $4 \
             and generation = $5 and lease_holder = $6 and lease_until >= $1 and status = 'active'",
        )
        .bind(now())
        .bind_key(key)
        .bind(generation)
        .bind(&lease.holder)
        .execute(&self.0.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Writes down that the refresh token was not spent after all: it was not sent, or the provider said so.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn unspent(&self, key: &ConnectionKey, generation: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update egret_connections set spending = 0, lease_holder = '', lease_until = 0 \
             where tenant = $1 and integration = $2 and owner = $3 and generation = $4",
        )
        .bind_key(key)
        .bind(generation)
        .execute(&self.0.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps what came of a renewal: the next generation. None where the connection changed meanwhile: then a person
    /// connected it anew, or an operator took it back, and what came of the renewal is not kept.
    ///
    /// # Errors
    /// When the store cannot be used; then the former one is still there, marked as being spent.
    pub async fn renewed(
        &self,
        key: &ConnectionKey,
        generation: i64,
        tokens: &Tokens,
        facts: &Facts,
    ) -> Result<Option<i64>, StoreError> {
        let (owner, new) = (key.owner.text(), next(generation));
        let sealed = self.seal(&place(key, &[key.integration.as_str(), &owner], new), &tokens.close())?;
        let done = sqlx::query(
            "update egret_connections set generation = $1, status = 'active', spending = 0, expires_at = $2, renew_at = $3, \
             scopes = $4, sealed = $5, lease_holder = '', lease_until = 0, changed_at = $6 \
             where tenant = $7 and integration = $8 and owner = $9 and generation = $10",
        )
        .bind(new)
        .bind(facts.expires_at.unwrap_or(0))
        .bind(facts.renew_at.unwrap_or(0))
        .bind(&facts.scopes)
        .bind(sealed)
        .bind(now())
        .bind_key(key)
        .bind(generation)
        .execute(&self.0.pool)
        .await?;
        Ok((done.rows_affected() == 1).then_some(new))
    }

    /// Sets the status of a connection that is still of this generation, and gives its lease back.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn set_status(
        &self,
        key: &ConnectionKey,
        generation: i64,
        status: Status,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "update egret_connections set status = $1, lease_holder = '', lease_until = 0, changed_at = $2 \
             where tenant = $3 and integration = $4 and owner = $5 and generation = $6",
        )
        .bind(status.as_str())
        .bind(now())
        .bind_key(key)
        .bind(generation)
        .execute(&self.0.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// What there is, of one tenant or of all, by tenant, integration and owner.
    ///
    /// # Errors
    /// When the store cannot be used, or a row makes no sense.
    pub async fn connections(&self, tenant: Option<&TenantId>) -> Result<Vec<Listed>, StoreError> {
        let rows = sqlx::query(
            "select tenant, integration, owner, status, expires_at, renew_at, scopes, created_at, changed_at \
             from egret_connections where $1 = '' or tenant = $1 order by tenant, integration, owner",
        )
        .bind(tenant.map_or("", TenantId::as_str))
        .fetch_all(&self.0.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Listed {
                    key: key_of(row)?,
                    status: Status::parse(row.get(3)),
                    facts: facts(row, 4),
                    created_at: row.get(7),
                    changed_at: row.get(8),
                })
            })
            .collect()
    }

    /// Seals all connections with the newest data key.
    pub(super) async fn reseal_connections(&self) -> Result<usize, StoreError> {
        let (mut after, mut done) = ((String::new(), String::new(), String::new()), 0);
        loop {
            let rows = sqlx::query(
                "select tenant, integration, owner, generation, sealed from egret_connections where tenant > $1 \
                 or (tenant = $1 and (integration > $2 or (integration = $2 and owner > $3))) \
                 order by tenant, integration, owner limit $4",
            )
            .bind(&after.0)
            .bind(&after.1)
            .bind(&after.2)
            .bind(PAGE)
            .fetch_all(&self.0.pool)
            .await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = (last.get(0), last.get(1), last.get(2));
            for row in &rows {
                let (key, owner): (_, String) = (key_of(row)?, row.get(2));
                let row_key = [key.integration.as_str(), owner.as_str()];
                let place = place(&key, &row_key, row.get(3));
                let plain = self.unseal(&place, &row.get::<Vec<u8>, _>(4)).await?;
                // One that was changed meanwhile is sealed with the new key already.
                let changed = sqlx::query(
                    "update egret_connections set sealed = $1 \
                     where tenant = $2 and integration = $3 and owner = $4 and generation = $5",
                )
                .bind(self.seal(&place, &plain)?)
                .bind_key(&key)
                .bind(place.generation)
                .execute(&self.0.pool)
                .await?;
                done += usize::from(changed.rows_affected() == 1);
            }
        }
    }
}

/// A statement with the three parts of a key.
trait BindKey {
    fn bind_key(self, key: &ConnectionKey) -> Self;
}

impl BindKey for Query<'_, Any, AnyArguments> {
    fn bind_key(self, key: &ConnectionKey) -> Self {
        self.bind(key.tenant.to_string()).bind(key.integration.to_string()).bind(key.owner.text())
    }
}

fn place<'p>(key: &'p ConnectionKey, row: &'p [&'p str], generation: i64) -> Place<'p> {
    Place { table: TABLE, tenant: key.tenant.as_str(), row, generation }
}

/// Databases keep 0 for none.
fn positive(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}

/// The facts that stand in a row from this column on.
fn facts(row: &AnyRow, from: usize) -> Facts {
    Facts {
        expires_at: positive(row.get(from)),
        renew_at: positive(row.get(from + 1)),
        scopes: row.get(from + 2),
    }
}

/// The key that stands in the first three columns of a row.
fn key_of(row: &AnyRow) -> Result<ConnectionKey, StoreError> {
    let (tenant, integration, owner): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let parsed = || {
        Some(ConnectionKey {
            tenant: TenantId::parse(&tenant).ok()?,
            integration: IntegrationId::parse(&integration).ok()?,
            owner: Owner::parse(&owner)?,
        })
    };
    parsed()
        .ok_or_else(|| StoreError::Damaged(format!("a connection to `{integration}` of tenant `{tenant}`")))
}

#[cfg(test)]
impl Store {
    /// Ends a lease, as time would.
    pub(crate) async fn forget_lease(&self, key: &ConnectionKey) {
        let done = sqlx::query(
            "update egret_connections set lease_until = 0 where tenant = $1 and integration = $2",
        )
        .bind(key.tenant.as_str())
        .bind(key.integration.as_str())
        .execute(&self.0.pool)
        .await;
        assert_eq!(done.unwrap().rows_affected(), 1);
    }
}
