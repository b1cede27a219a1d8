//! Secrets that a tenant's integrations name as `secret:NAME`.

use std::fmt;

use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Place, Store, StoreError, next, now};
use crate::{
    context::TenantId,
    secret::{Secret, masked},
};

/// The table.
const TABLE: &str = "secrets";
/// How often a write is tried against other writers.
const TRIES: usize = 16;
/// The longest name, in bytes.
const LONGEST: usize = 128;
/// Rows that are sealed anew between two looks.
const PAGE: i64 = 500;

/// The name of a secret, within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Box<str>);

impl SecretName {
    /// Letters, digits, `_`, `.`, `/` and `-`; at most 128.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(fits) {
            return Err("a name of at most 128 letters, digits, `_`, `.`, `/` and `-`");
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value and which one it is.
#[derive(Debug)]
pub struct Versioned<T> {
    /// Changes with every change of the value.
    pub generation: i64,
    /// The value.
    pub value: T,
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: SecretName,
    /// `…` and the last four characters of a long one.
    pub masked: Option<String>,
    /// In seconds since 1970.
    pub created_at: i64,
    /// In seconds since 1970.
    pub changed_at: i64,
}

fn place<'p>(tenant: &'p TenantId, row: &'p [&'p str; 1], generation: i64) -> Place<'p> {
    Place { table: TABLE, tenant: tenant.as_str(), row, generation }
}

impl Store {
    /// A secret; none where there is no such.
    ///
    /// # Errors
    /// When the store cannot be used, or the row does not open.
    pub async fn secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
    ) -> Result<Option<Versioned<Secret>>, StoreError> {
        let row = sqlx::query("select generation, sealed from egret_secrets where tenant = $1 and name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.0.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (generation, sealed): (i64, Vec<u8>) = (row.get(0), row.get(1));
        let plain = self.unseal(&place(tenant, &[name.as_str()], generation), &sealed).await?;
        Ok(Some(Versioned { generation, value: Secret::new(plain.to_vec()) }))
    }

    /// The generation of a secret, which tells whether another was set; none where there is no such.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn secret_generation(
        &self,
        tenant: &TenantId,
        name: &SecretName,
    ) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query("select generation from egret_secrets where tenant = $1 and name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.0.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Sets a secret, new or in place of an old one. Gives whether there was one.
    ///
    /// # Errors
    /// When the store cannot be used; then the old one is still there.
    #[expect(clippy::disallowed_methods, reason = "it is sealed")]
    pub async fn set_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        secret: &Secret,
    ) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let last = self.secret_generation(tenant, name).await?;
            let generation = next(last.unwrap_or(0));
            let sealed = self.seal(&place(tenant, &[name.as_str()], generation), secret.expose())?;
            let statement = match last {
                None => {
                    "insert into egret_secrets (tenant, name, generation, sealed, created_at, changed_at) \
                     values ($1, $2, $3, $4, $5, $5) on conflict (tenant, name) do nothing"
                }
                Some(_) => {
                    "update egret_secrets set generation = $3, sealed = $4, changed_at = $5 \
                     where tenant = $1 and name = $2 and generation = $6"
                }
            };
            let query = sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(name.as_str())
                .bind(generation)
                .bind(sealed)
                .bind(now());
            let query = match last {
                None => query,
                Some(last) => query.bind(last),
            };
            if query.execute(&self.0.pool).await?.rows_affected() == 1 {
                return Ok(last.is_some());
            }
        }
        Err(StoreError::Contended(place(tenant, &[name.as_str()], 0).to_string()))
    }

    /// Removes a secret. Gives whether there was one.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn remove_secret(&self, tenant: &TenantId, name: &SecretName) -> Result<bool, StoreError> {
        let done = sqlx::query("delete from egret_secrets where tenant = $1 and name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .execute(&self.0.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// What there is, of one tenant or of all, by tenant and name.
    ///
    /// # Errors
    /// When the store cannot be used, or a row does not open.
    pub async fn secrets(&self, tenant: Option<&TenantId>) -> Result<Vec<Stored>, StoreError> {
        let rows = sqlx::query(
            "select tenant, name, generation, sealed, created_at, changed_at from egret_secrets \
             where $1 = '' or tenant = $1 order by tenant, name",
        )
        .bind(tenant.map_or("", TenantId::as_str))
        .fetch_all(&self.0.pool)
        .await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let (tenant, name): (String, String) = (row.get(0), row.get(1));
            let damaged = |_| StoreError::Damaged(format!("`{name}` of tenant `{tenant}`"));
            let tenant_id = TenantId::parse(&tenant).map_err(|e| damaged(e.to_string()))?;
            let secret_name = SecretName::parse(&name).map_err(|e| damaged(e.to_owned()))?;
            let plain =
                self.unseal(&place(&tenant_id, &[&name], row.get(2)), &row.get::<Vec<u8>, _>(3)).await?;
            all.push(Stored {
                tenant: tenant_id,
                name: secret_name,
                masked: masked(&plain),
                created_at: row.get(4),
                changed_at: row.get(5),
            });
        }
        Ok(all)
    }

    /// Tenants and names of all secrets.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn secret_names(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("select tenant, name from egret_secrets").fetch_all(&self.0.pool).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Seals all secrets with the newest data key.
    pub(super) async fn reseal_secrets(&self) -> Result<usize, StoreError> {
        let (mut after, mut done) = ((String::new(), String::new()), 0);
        loop {
            let rows = sqlx::query(
                "select tenant, name, generation, sealed from egret_secrets \
                 where tenant > $1 or (tenant = $1 and name > $2) order by tenant, name limit $3",
            )
            .bind(&after.0)
            .bind(&after.1)
            .bind(PAGE)
            .fetch_all(&self.0.pool)
            .await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = (last.get(0), last.get(1));
            for row in &rows {
                let (tenant, name): (String, String) = (row.get(0), row.get(1));
                let row_key = [name.as_str()];
                let place = Place { table: TABLE, tenant: &tenant, row: &row_key, generation: row.get(2) };
                let plain: Zeroizing<Vec<u8>> = self.unseal(&place, &row.get::<Vec<u8>, _>(3)).await?;
                // One that was changed meanwhile is sealed with the new key already.
                let changed = sqlx::query(
                    "update egret_secrets set sealed = $4 where tenant = $1 and name = $2 and generation = $3",
                )
                .bind(&tenant)
                .bind(&name)
                .bind(place.generation)
                .bind(self.seal(&place, &plain)?)
                .execute(&self.0.pool)
                .await?;
                done += usize::from(changed.rows_affected() == 1);
            }
        }
    }
}
