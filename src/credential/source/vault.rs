//! `vault:PATH#FIELD`: secrets of Vault and `OpenBao`.
//!
//! Secrets that are kept (KV) are read again now and then. Secrets that are made for egret come with a lease, which is
//! made to last at half its time; where that is refused, another one is made.

mod login;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};

use super::{
    kept::{Fault, Given, Held, Parts, Times},
    wire,
};
use crate::{
    fetch::{Answer, Calls, FetchUrl},
    settings::{MountKind, VaultSettings},
    target,
};
use login::{Login, Logins};

/// How long a kept secret is taken as it is.
const FRESH: Duration = Duration::from_secs(30);
const TOKEN: &str = "x-vault-token";
const NAMESPACE: &str = "x-vault-namespace";
/// Vault's agent asks for it, so that no browser can be made to call it.
const REQUEST: &str = "x-vault-request";

/// A Vault.
pub(super) struct Vault {
    client: Client,
    logins: Logins,
    mount_kind: MountKind,
    /// Mounts that are known, and whether their secrets lie in versions. Every path begins with one.
    mounts: Mutex<BTreeMap<Box<str>, bool>>,
}

/// By which a secret can be made to last.
pub(in crate::credential) struct Lease {
    id: Box<str>,
    renewable: bool,
    /// How long it was given for at first.
    first: Duration,
    /// With which login it was got. It ends with that.
    login: u64,
}

/// What is not given.
enum No {
    /// The token is no good, or the role has no policy for it: Vault does not say which.
    Forbidden,
    /// There is no such thing, or Vault hides that there is.
    Absent,
    /// Something else is wrong.
    Fault(Fault),
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Vault {
    pub(super) fn new(settings: VaultSettings, calls: Arc<dyn Calls>) -> Self {
        let VaultSettings { url, namespace, mount_kind, auth } = settings;
        let client = Client { url, namespace, calls };
        Self { client, logins: Logins::new(auth), mount_kind, mounts: Mutex::default() }
    }

    /// Reads what lies at a path, or makes what was got from there last.
    pub(super) async fn read(&self, path: &str, before: Option<Arc<Held>>) -> Result<Given, Fault> {
        let login = self.logins.current(&self.client).await?;
        if let Some(held) = &before
            && let Some(lease) = &held.lease
            && let Some(given) = self.renew(held, lease, &login).await?
        {
            return Ok(given);
        }
        let no = match self.fetch(path, &login).await {
            // Once more with a new token: this one may have been taken back.
            Err(No::Forbidden) => match self.logins.anew(&self.client, &login).await? {
                Some(login) => self.fetch(path, &login).await,
                None => Err(No::Forbidden),
            },
            outcome => outcome,
        };
        no.map_err(|no| match no {
            No::Forbidden => {
                Fault::missing("is not given: Vault answered 403, so its role has no policy for this path")
            }
            No::Absent => Fault::missing("is not in Vault (404)"),
            No::Fault(fault) => fault,
        })
    }

    /// Makes a lease last. None where another one is to be got.
    async fn renew(&self, held: &Held, lease: &Arc<Lease>, login: &Login) -> Result<Option<Given>, Fault> {
        if !lease.renewable || lease.login != login.serial {
            return Ok(None);
        }
        let increment = lease.first.as_secs().to_string();
        let body = wire::object(&[("lease_id", &lease.id), ("increment", &increment)]);
        let answer = self.client.post("sys/leases/renew", body, Some(login)).await?;
        if wire::is_passing(answer.status) {
            return Err(passing(answer.status));
        }
        if !answer.status.is_success() {
            return Ok(None);
        }
        let lasts = seconds(wire::members(&answer, "Vault")?.get("lease_duration"));
        // Near the end of all renewals each one is shorter than the one before.
        if lasts < lease.first / 4 {
            return Ok(None);
        }
        let times = leased(lasts, login);
        Ok(Some(Given { parts: held.parts.clone(), times, lease: Some(lease.clone()) }))
    }

    async fn fetch(&self, path: &str, login: &Login) -> Result<Given, No> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match self.mount_kind {
            MountKind::Kv1 => return self.plain(path, login).await,
            MountKind::Kv2 => return self.versioned(first, rest, login).await,
            MountKind::Auto => {}
        }
        let mount = match self.known(path) {
            Some(mount) => Some(mount),
            None => self.ask_for_mount(path, login).await?,
        };
        match mount {
            Some((mount, true)) => {
                self.versioned(&mount, path.get(mount.len() + 1..).unwrap_or(""), login).await
            }
            Some((_, false)) => self.plain(path, login).await,
            None => self.try_both(path, first, rest, login).await,
        }
    }

    fn known(&self, path: &str) -> Option<(Box<str>, bool)> {
        // Every critical section is one look or one assignment.
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = |mount: &str| path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'));
        let longest = mounts.iter().filter(|(mount, _)| is_in(mount)).max_by_key(|(mount, _)| mount.len())?;
        Some((longest.0.clone(), *longest.1))
    }

    fn learn(&self, mount: &str, is_versioned: bool) {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner).insert(mount.into(), is_versioned);
    }

    /// What Vault says of the mount in which a path is; none where it does not.
    async fn ask_for_mount(&self, path: &str, login: &Login) -> Result<Option<(Box<str>, bool)>, No> {
        let answer = self.client.get(&format!("sys/internal/ui/mounts/{path}"), login).await?;
        if wire::is_passing(answer.status) {
            return Err(passing(answer.status).into());
        }
        if !answer.status.is_success() {
            return Ok(None);
        }
        let members = wire::members(&answer, "Vault")?;
        let data = members.get("data").unwrap_or(&Value::Null);
        let mount = data.get("path").and_then(Value::as_str).map(|mount| mount.trim_matches('/'));
        let Some(mount) =
            mount.filter(|mount| path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/')))
        else {
            return Ok(None);
        };
        let is_kv = data.get("type").and_then(Value::as_str) == Some("kv");
        let version = data.get("options").and_then(|options| options.get("version")).and_then(Value::as_str);
        let is_versioned = is_kv && version == Some("2");
        self.learn(mount, is_versioned);
        Ok(Some((mount.into(), is_versioned)))
    }

    /// Where Vault does not say how secrets lie in a mount, what can be read says it.
    async fn try_both(&self, path: &str, first: &str, rest: &str, login: &Login) -> Result<Given, No> {
        let versioned = match self.versioned(first, rest, login).await {
            Err(no @ (No::Forbidden | No::Absent)) => no,
            outcome => {
                if outcome.is_ok() {
                    self.learn(first, true);
                }
                return outcome;
            }
        };
        match (self.plain(path, login).await, versioned) {
            (Ok(given), _) => {
                self.learn(first, false);
                Ok(given)
            }
            (Err(No::Absent), No::Forbidden) => Err(No::Forbidden),
            (Err(no), _) => Err(no),
        }
    }

    /// KV version 2.
    async fn versioned(&self, mount: &str, path: &str, login: &Login) -> Result<Given, No> {
        let members = self.get(&format!("{mount}/data/{path}"), login).await?;
        let data = members.get("data").and_then(|data| data.get("data")).and_then(Value::as_object);
        // A version that was deleted has none.
        let data = data.ok_or(No::Absent)?;
        Ok(Given { parts: parts(data), times: Times::unsaid(FRESH), lease: None })
    }

    /// KV version 1, and whatever is made when it is read.
    async fn plain(&self, path: &str, login: &Login) -> Result<Given, No> {
        let members = self.get(path, login).await?;
        let data = members.get("data").and_then(Value::as_object).ok_or(No::Absent)?;
        let id = members.get("lease_id").and_then(Value::as_str).unwrap_or_default();
        let lasts = seconds(members.get("lease_duration"));
        if id.is_empty() || lasts.is_zero() {
            // What KV says of durations is a hint for how often to look.
            return Ok(Given { parts: parts(data), times: Times::unsaid(FRESH), lease: None });
        }
        let renewable = members.get("renewable").and_then(Value::as_bool).unwrap_or(false);
        let lease = Lease { id: id.into(), renewable, first: lasts, login: login.serial };
        Ok(Given { parts: parts(data), times: leased(lasts, login), lease: Some(Arc::new(lease)) })
    }

    async fn get(&self, path: &str, login: &Login) -> Result<Map<String, Value>, No> {
        let answer = self.client.get(path, login).await?;
        match answer.status {
            StatusCode::FORBIDDEN => Err(No::Forbidden),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(No::Absent),
            status if status.is_success() => Ok(wire::members(&answer, "Vault")?),
            status if wire::is_passing(status) => Err(passing(status).into()),
            status => Err(Fault::missing(format!("is not given: Vault answered {}", status.as_u16())).into()),
        }
    }
}

/// The network towards Vault.
pub(super) struct Client {
    url: FetchUrl,
    namespace: Option<String>,
    calls: Arc<dyn Calls>,
}

impl Client {
    async fn get(&self, path: &str, login: &Login) -> Result<Answer, Fault> {
        self.call(Method::GET, path, Bytes::new(), Some(login)).await
    }

    async fn post(&self, path: &str, body: Bytes, login: Option<&Login>) -> Result<Answer, Fault> {
        self.call(Method::POST, path, body, login).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        login: Option<&Login>,
    ) -> Result<Answer, Fault> {
        let base = self.url.path.as_str().trim_end_matches('/');
        let path = target::Path::parse(&format!("{base}/v1/{path}")).map_err(|_| {
            Fault::missing("cannot be read: its path has empty parts, or `.` or `..` as parts")
        })?;
        let url = FetchUrl { path, ..self.url.clone() };
        let mut headers = wire::sending("application/json");
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(login) = login {
            headers.insert(TOKEN, wire::header(&login.token)?);
        }
        if let Some(namespace) = &self.namespace
            && let Ok(namespace) = HeaderValue::from_str(namespace)
        {
            headers.insert(NAMESPACE, namespace);
        }
        wire::ask(&*self.calls, method, &url, headers, body).await
    }
}

fn passing(status: StatusCode) -> Fault {
    Fault::unavailable(format!("cannot be read: Vault answered {}", status.as_u16()))
}

fn parts(data: &Map<String, Value>) -> Arc<Parts> {
    Parts::new(None, wire::fields(data))
}

/// A lease ends with the token that got it.
fn leased(lasts: Duration, login: &Login) -> Times {
    Times::leased(login.left().map_or(lasts, |left| lasts.min(left)))
}

/// A number of seconds; nothing where there is none.
fn seconds(value: Option<&Value>) -> Duration {
    Duration::from_secs(value.and_then(Value::as_u64).unwrap_or(0))
}
