//! Where secrets outside of egret are read: programs, Vault, AWS Secrets Manager, token exchanges.

mod check;
mod said;

pub(super) use check::check;
pub(super) use said::Sources as SaidSources;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use super::SecretSource;
use crate::{fetch::FetchUrl, plan::SecretRef};

/// Sources of secrets that the operator describes. They are the same for all tenants.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// Programs, by name.
    pub exec: BTreeMap<String, Arc<Program>>,
    /// Vault or `OpenBao`.
    pub vault: Option<VaultSettings>,
    /// AWS Secrets Manager.
    pub aws_sm: Option<AwsSmSettings>,
    /// Token exchanges, by name.
    pub remote: BTreeMap<String, RemoteSettings>,
}

impl SourceSettings {
    /// The key that a reference needs and that is not there.
    pub fn lacks(&self, reference: &SecretRef) -> Option<String> {
        let is_there = match reference {
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::Store(_) => true,
            SecretRef::Exec(name) => self.exec.contains_key(name),
            SecretRef::Vault { .. } => self.vault.is_some(),
            SecretRef::AwsSecretsManager { .. } => self.aws_sm.is_some(),
            SecretRef::Remote(name) => self.remote.contains_key(name),
        };
        if is_there { None } else { reference.settings_key() }
    }

    /// Where the sources' own secrets are read.
    pub fn secret_sources(&self) -> impl Iterator<Item = &SecretSource> {
        let vault = self.vault.iter().filter_map(|vault| match &vault.auth {
            VaultAuth::Kubernetes { .. } => None,
            VaultAuth::Jwt { token: secret, .. }
            | VaultAuth::AppRole { secret_id: secret, .. }
            | VaultAuth::Token(secret) => Some(secret),
        });
        let aws = self.aws_sm.iter().flat_map(|aws| match &aws.keys {
            AwsSmKeys::Given { id, secret, session } => {
                let id = match id {
                    AccessKeyId::Read(source) => Some(source),
                    AccessKeyId::Text(_) => None,
                };
                [id, Some(secret), session.as_ref()].into_iter().flatten().collect()
            }
            AwsSmKeys::Role { .. } => Vec::new(),
        });
        let remote = self
            .remote
            .values()
            .flat_map(|remote| [Some(&remote.subject_token), remote.client_secret.as_ref()])
            .flatten();
        vault.chain(aws).chain(remote)
    }

    /// Variables of egret's own environment that programs inherit: they are there to hold what a program logs in with.
    pub fn inherited(&self) -> impl Iterator<Item = &str> {
        self.exec.values().flat_map(|program| &program.inherit).map(String::as_str)
    }
}

/// A program that prints a secret: `sources.exec.NAME`.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// How references call it.
    pub name: String,
    /// The program and its arguments; no shell comes near them.
    pub command: Vec<String>,
    /// Variables that are set for it.
    pub env: BTreeMap<String, String>,
    /// Variables that it gets from egret's own environment, beside `PATH` and `HOME`.
    pub inherit: Vec<String>,
    /// After this it is killed.
    pub timeout: Duration,
    /// How long a secret is kept whose end it does not say.
    pub cache: Duration,
}

impl fmt::Debug for Program {
    /// Without the arguments and variables: they may hold a secret by mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Settings of Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Where it is, without `/v1`.
    pub url: FetchUrl,
    /// Sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// How secrets lie in its mounts.
    pub mount_kind: MountKind,
    /// How egret logs in.
    pub auth: VaultAuth,
}

/// How secrets lie in a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Vault is asked, once for each mount.
    Auto,
    /// In versions: `MOUNT/data/PATH`.
    Kv2,
    /// As they are; dynamic secrets too.
    Kv1,
}

/// How egret logs in to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// With the pod's own token.
    Kubernetes {
        /// The role in Vault.
        role: String,
        /// Read again at each login: the kubelet replaces it.
        token_file: PathBuf,
        /// Where the method is mounted.
        mount: String,
    },
    /// With a JWT.
    Jwt {
        /// The role in Vault.
        role: String,
        /// Where the JWT is read, at each login.
        token: SecretSource,
        /// Where the method is mounted.
        mount: String,
    },
    /// With an `AppRole`.
    AppRole {
        /// Its id, which is not secret.
        role_id: String,
        /// Where its secret is read, at each login.
        secret_id: SecretSource,
        /// Where the method is mounted.
        mount: String,
    },
    /// With a token that somebody else obtained.
    Token(SecretSource),
}

/// Settings of AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSmSettings {
    /// The region that is signed for.
    pub region: String,
    /// The endpoint.
    pub url: FetchUrl,
    /// What signs.
    pub keys: AwsSmKeys,
}

/// With which keys AWS Secrets Manager is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsSmKeys {
    /// Keys as they are.
    Given {
        /// The id of the access key.
        id: AccessKeyId,
        /// The access key.
        secret: SecretSource,
        /// The session that temporary keys belong to.
        session: Option<SecretSource>,
    },
    /// Those of a role that is assumed with a token (`AssumeRoleWithWebIdentity`).
    Role {
        /// `arn:aws:iam::…:role/…`.
        arn: String,
        /// Read again whenever the role is assumed.
        token_file: PathBuf,
        /// The endpoint of the Security Token Service.
        sts: FetchUrl,
    },
}

/// The id of an access key: not secret, but often kept beside what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessKeyId {
    /// As it is.
    Text(String),
    /// Where it is read.
    Read(SecretSource),
}

/// A token exchange (RFC 8693) whose answer is the secret: `sources.remote.NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSettings {
    /// How references call it.
    pub name: String,
    /// The token endpoint.
    pub token_url: FetchUrl,
    /// Where the token that is given for it is read, at each exchange.
    pub subject_token: SecretSource,
    /// What kind of token that is.
    pub subject_token_type: String,
    /// For whom the new token is.
    pub audience: Vec<String>,
    /// What the new token is for.
    pub resource: Vec<String>,
    /// What the new token may do.
    pub scope: Vec<String>,
    /// Who asks.
    pub client_id: Option<String>,
    /// And proves it.
    pub client_secret: Option<SecretSource>,
}
