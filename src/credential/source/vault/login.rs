//! Who egret is for Vault: a token, kept alive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{Client, passing, seconds};
use crate::{
    credential::source::{kept::Fault, wire},
    secret::Secret,
    settings::{SecretSource, VaultAuth},
};

/// Egret logs in anew because of a refusal at most once in this time: a path without a policy is refused each time.
const ANEW_EVERY: Duration = Duration::from_secs(30);
/// A token that ends so soon is not used any more.
const SKEW: Duration = Duration::from_secs(5);

/// A token of Vault's.
pub(super) struct Login {
    pub(super) token: Arc<Secret>,
    /// Tells one token from another.
    pub(super) serial: u64,
    renewable: bool,
    since: Instant,
    /// From `since`; none where it does not end.
    lasts: Option<Duration>,
    /// How long it lasted when it was got.
    first: Option<Duration>,
}

impl Login {
    /// How long it still lasts; none where it does not end.
    pub(super) fn left(&self) -> Option<Duration> {
        self.lasts.map(|lasts| lasts.saturating_sub(self.since.elapsed()))
    }

    /// Whether two thirds of its time are over.
    fn is_due(&self) -> bool {
        self.lasts.is_some_and(|lasts| self.since.elapsed() >= lasts.mul_f64(2.0 / 3.0))
    }

    fn is_good(&self) -> bool {
        self.lasts.zip(self.left()).is_none_or(|(lasts, left)| left > SKEW.min(lasts / 10))
    }
}

/// The one token that is used.
pub(super) struct Logins {
    auth: VaultAuth,
    /// Whoever needs a new one holds it: the others wait for the same.
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    login: Option<Arc<Login>>,
    /// When egret last logged in because it was refused.
    refused: Option<Instant>,
}

impl Logins {
    pub(super) fn new(auth: VaultAuth) -> Self {
        Self { auth, now: Mutex::default() }
    }

    /// The token, renewed or got if need be.
    pub(super) async fn current(&self, client: &Client) -> Result<Arc<Login>, Fault> {
        let mut now = self.now.lock().await;
        let Some(login) = now.login.clone() else {
            return Ok(now.login.insert(Arc::new(self.log_in(client).await?)).clone());
        };
        if !login.is_due() {
            return Ok(login);
        }
        let renewed = match renew(client, &login).await {
            Ok(Some(renewed)) => Ok(renewed),
            Ok(None) => self.log_in(client).await,
            Err(fault) => Err(fault),
        };
        match renewed {
            Ok(renewed) => Ok(now.login.insert(Arc::new(renewed)).clone()),
            // It is good for a while, and tried again with the next use.
            Err(fault) if login.is_good() => {
                tracing::warn!(%fault, "the token for Vault cannot be renewed yet");
                Ok(login)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Another token in the place of one that was refused; none where that was tried just now.
    pub(super) async fn anew(&self, client: &Client, refused: &Login) -> Result<Option<Arc<Login>>, Fault> {
        let mut now = self.now.lock().await;
        if let Some(login) = &now.login
            && login.serial != refused.serial
        {
            return Ok(Some(login.clone()));
        }
        if now.refused.is_some_and(|at| at.elapsed() < ANEW_EVERY) {
            return Ok(None);
        }
        now.refused = Some(Instant::now());
        now.login = None;
        Ok(Some(now.login.insert(Arc::new(self.log_in(client).await?)).clone()))
    }

    async fn log_in(&self, client: &Client) -> Result<Login, Fault> {
        let (how, mount, body) = match &self.auth {
            VaultAuth::Kubernetes { role, token_file, mount } => {
                let token = wire::own(&SecretSource::File(token_file.clone()))?;
                ("kubernetes", mount, wire::object(&[("role", role), ("jwt", wire::text(&token)?)]))
            }
            VaultAuth::Jwt { role, token, mount } => {
                let token = wire::own(token)?;
                ("jwt", mount, wire::object(&[("role", role), ("jwt", wire::text(&token)?)]))
            }
            VaultAuth::AppRole { role_id, secret_id, mount } => {
                let secret = wire::own(secret_id)?;
                let body = wire::object(&[("role_id", role_id), ("secret_id", wire::text(&secret)?)]);
                ("approle", mount, body)
            }
            VaultAuth::Token(source) => return look_up(client, wire::own(source)?).await,
        };
        let answer = client.post(&format!("auth/{mount}/login"), body, None).await?;
        let status = answer.status;
        if wire::is_passing(status) {
            return Err(passing(status));
        }
        if !status.is_success() {
            let status = status.as_u16();
            return Err(Fault::missing(format!(
                "cannot be read: Vault refuses the login by {how} ({status})"
            )));
        }
        let members = wire::members(&answer, "Vault")?;
        let auth = members.get("auth").unwrap_or(&Value::Null);
        let token = auth.get("client_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let token = token
            .ok_or_else(|| Fault::unavailable("cannot be read: Vault's answer to the login has no token"))?;
        Ok(login(Secret::new(token.as_bytes().to_vec()), auth, "lease_duration"))
    }
}

/// Makes a token last. None where another one is to be got.
async fn renew(client: &Client, old: &Login) -> Result<Option<Login>, Fault> {
    if !old.renewable {
        return Ok(None);
    }
    let answer = client.post("auth/token/renew-self", Bytes::from_static(b"{}"), Some(old)).await?;
    if wire::is_passing(answer.status) {
        return Err(passing(answer.status));
    }
    if !answer.status.is_success() {
        return Ok(None);
    }
    let members = wire::members(&answer, "Vault")?;
    let auth = members.get("auth").unwrap_or(&Value::Null);
    let lasts = seconds(auth.get("lease_duration"));
    // Near the end of all renewals each one is shorter than the one before.
    if old.first.is_some_and(|first| lasts < first / 2) {
        return Ok(None);
    }
    let Login { token, serial, renewable, first, .. } = old;
    let (token, since, lasts) = (token.clone(), Instant::now(), Some(lasts));
    Ok(Some(Login { token, serial: *serial, renewable: *renewable, since, lasts, first: *first }))
}

/// What Vault says of a token that somebody else obtained.
async fn look_up(client: &Client, token: Secret) -> Result<Login, Fault> {
    let unknown = login(token, &Value::Null, "ttl");
    let answer = client.get("auth/token/lookup-self", &unknown).await?;
    let status = answer.status;
    if wire::is_passing(status) {
        return Err(passing(status));
    }
    if !status.is_success() {
        return Err(Fault::missing(format!("cannot be read: Vault refuses the token ({})", status.as_u16())));
    }
    let members = wire::members(&answer, "Vault")?;
    let Login { token, .. } = unknown;
    let known = login(Secret::new(Vec::new()), members.get("data").unwrap_or(&Value::Null), "ttl");
    Ok(Login { token, ..known })
}

fn login(token: Secret, said: &Value, key: &str) -> Login {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let lasts = Some(seconds(said.get(key))).filter(|lasts| !lasts.is_zero());
    Login {
        token: Arc::new(token),
        serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        renewable: said.get("renewable").and_then(Value::as_bool).unwrap_or(false),
        since: Instant::now(),
        lasts,
        first: lasts,
    }
}
