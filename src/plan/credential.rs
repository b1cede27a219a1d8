//! What an integration attaches: references to secrets, and where they go or what is obtained with them. Never a
//! value.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::store::SecretName;

/// Where a secret is read. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// `env:NAME`, from egret's own environment, read once.
    Env(String),
    /// `file:PATH`, read again when the file changes.
    File(PathBuf),
    /// `secret:NAME`, from egret's own credential store.
    Store(SecretName),
    /// `vault:PATH#FIELD`, from Vault or `OpenBao`.
    Vault {
        /// The path, mount included.
        path: Box<str>,
        /// Which field of what is found there.
        field: Box<str>,
    },
    /// `aws-sm:NAME[#FIELD]`, from AWS Secrets Manager.
    AwsSecretsManager {
        /// Name or ARN.
        name: Box<str>,
        /// Which key of a JSON secret; none: the secret is the text itself.
        field: Option<Box<str>>,
    },
    /// `exec:NAME`, from a program that the settings name.
    Exec(String),
}

impl SecretRef {
    /// Whether the secret can be had here and now. Reads it and drops it: what comes back never holds it.
    ///
    /// # Errors
    /// What is wrong, to go after the reference in a sentence: `is not set in the environment of egret`.
    pub fn resolves(&self) -> Result<(), String> {
        match self {
            Self::Env(name) => {
                let value = std::env::var_os(name).map(|value| Zeroizing::new(value.into_encoded_bytes()));
                match value {
                    None => Err("is not set in the environment of egret".to_owned()),
                    Some(value) if value.trim_ascii().is_empty() => Err("is empty".to_owned()),
                    Some(_) => Ok(()),
                }
            }
            Self::File(path) => {
                let cannot = |error: std::io::Error| format!("cannot be read: {error}");
                // Asked before it is opened: opening a pipe would wait for its other end.
                if !fs::metadata(path).map_err(cannot)?.is_file() {
                    return Err("is not a regular file".to_owned());
                }
                let text = Zeroizing::new(fs::read(path).map_err(cannot)?);
                if text.trim_ascii().is_empty() { Err("is empty".to_owned()) } else { Ok(()) }
            }
            // Whose it is decides, and only the store knows.
            Self::Store(_) => Ok(()),
            Self::Vault { .. } | Self::AwsSecretsManager { .. } | Self::Exec(_) => {
                Err("cannot be resolved yet".to_owned())
            }
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Store(name) => write!(f, "secret:{name}"),
            Self::Vault { path, field } => write!(f, "vault:{path}#{field}"),
            Self::AwsSecretsManager { name, field: None } => write!(f, "aws-sm:{name}"),
            Self::AwsSecretsManager { name, field: Some(field) } => write!(f, "aws-sm:{name}#{field}"),
            Self::Exec(name) => write!(f, "exec:{name}"),
        }
    }
}

/// What an integration attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSpec {
    /// Attached as it is. Where its parts go, in the policy's order; at least one. Boxed without slack: there is one
    /// for every integration of every tenant.
    Static(Box<[Placement]>),
    /// Obtained for a time: a token that is fetched, or a signature that is made.
    Obtained(Box<Obtained>),
}

/// How a credential is obtained. All of them are sent in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obtained {
    /// The token of a person who agreed in a browser (RFC 6749 §4.1).
    OAuth {
        /// Who issues it.
        provider: String,
        /// What is asked for.
        scopes: Vec<String>,
    },
    /// An installation token of a GitHub App.
    GithubApp {
        /// The app.
        app_id: u64,
        /// Its installation in the organization.
        installation_id: u64,
        /// The app's key, PEM.
        private_key: SecretRef,
        /// Only these repositories; empty: all of the installation.
        repositories: Vec<String>,
        /// Only these permissions; empty: all of the installation.
        permissions: BTreeMap<String, String>,
    },
    /// The agent's token, exchanged for one of the upstream (RFC 8693).
    TokenExchange {
        /// Which identity provider exchanges it.
        idp: String,
        /// Whom the token is for.
        audience: String,
        /// What is asked for.
        scopes: Vec<String>,
        /// The upstream's URI (RFC 8707).
        resource: Option<String>,
    },
    /// An assertion that egret signs, exchanged for a token (RFC 7523).
    JwtBearer {
        /// Where.
        token_url: String,
        /// `iss`.
        issuer: String,
        /// `sub`; the issuer where there is none.
        subject: Option<String>,
        /// `aud`; the token URL where there is none.
        audience: Option<String>,
        /// What is asked for.
        scopes: Vec<String>,
        /// The key that signs, PEM.
        private_key: SecretRef,
        /// `kid`.
        key_id: Option<String>,
    },
    /// A token for an application itself (RFC 6749 §4.4).
    ClientCredentials {
        /// Where.
        token_url: String,
        /// The application.
        client_id: Half,
        /// Its secret.
        client_secret: SecretRef,
        /// How both are sent.
        client_auth: ClientAuthentication,
        /// What is asked for.
        scopes: Vec<String>,
        /// Whom the token is for, where the server asks.
        audience: Option<String>,
    },
    /// A signature of the request (AWS Signature Version 4).
    AwsSigV4 {
        /// With which keys.
        keys: Box<AwsRole>,
        /// The region; by default the one in the host or in the client's own signature.
        region: Option<String>,
        /// The service; by default likewise.
        service: Option<String>,
    },
    /// A token of a Google service account.
    ServiceAccount {
        /// Its key file, JSON.
        key: SecretRef,
        /// What is asked for.
        scopes: Vec<String>,
        /// For whom it acts (domain-wide delegation).
        subject: Option<String>,
    },
    /// A key that the tenant deposits in the credential store by itself.
    Byok {
        /// Under which name; by default the integration's.
        name: Option<String>,
    },
}

/// How a client shows its secret to a token endpoint (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In `Authorization: Basic`.
    #[default]
    Basic,
    /// In the form.
    Post,
}

/// Where AWS keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsRole {
    /// Keys as they are.
    Keys {
        /// The id of the access key.
        access_key_id: Half,
        /// The access key.
        secret_access_key: SecretRef,
        /// The session that temporary keys belong to.
        session_token: Option<SecretRef>,
    },
    /// Keys of a role, obtained with the agent's token (`AssumeRoleWithWebIdentity`).
    Assumed {
        /// `arn:aws:iam::…:role/…`.
        role_arn: String,
    },
}

impl CredentialSpec {
    /// Where its parts go; empty for what is obtained.
    pub fn placements(&self) -> &[Placement] {
        match self {
            Self::Static(placements) => placements,
            Self::Obtained(_) => &[],
        }
    }

    /// Its kind, as policies write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Obtained(obtained) => obtained.kind(),
        }
    }

    /// Where its secrets are read.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Static(placements) => placements.iter().flat_map(Placement::secrets).collect(),
            Self::Obtained(obtained) => obtained.secrets(),
        }
    }
}

impl Obtained {
    /// Its kind, as policies write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OAuth { .. } => "oauth",
            Self::GithubApp { .. } => "github_app",
            Self::TokenExchange { .. } => "token_exchange",
            Self::JwtBearer { .. } => "jwt_bearer",
            Self::ClientCredentials { .. } => "client_credentials",
            Self::AwsSigV4 { .. } => "aws_sigv4",
            Self::ServiceAccount { .. } => "service_account",
            Self::Byok { .. } => "byok",
        }
    }

    fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::OAuth { .. } | Self::TokenExchange { .. } | Self::Byok { .. } => Vec::new(),
            Self::GithubApp { private_key: secret, .. }
            | Self::JwtBearer { private_key: secret, .. }
            | Self::ServiceAccount { key: secret, .. } => vec![secret],
            Self::ClientCredentials { client_id, client_secret, .. } => {
                client_id.secret().into_iter().chain([client_secret]).collect()
            }
            Self::AwsSigV4 { keys, .. } => match &**keys {
                AwsRole::Keys { access_key_id, secret_access_key, session_token } => access_key_id
                    .secret()
                    .into_iter()
                    .chain([secret_access_key])
                    .chain(session_token)
                    .collect(),
                AwsRole::Assumed { .. } => Vec::new(),
            },
        }
    }
}

/// One place where a secret goes. `S` says which secret: a reference in an integration, the name of a placeholder
/// in a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement<S = SecretRef> {
    /// `Authorization: Bearer <secret>` (RFC 6750 §2.1).
    Bearer(S),
    /// `Authorization: Basic <base64(user:password)>` (RFC 7617); either half may be constant or empty.
    Basic {
        /// Before the colon.
        user: Half<S>,
        /// After it.
        password: Half<S>,
    },
    /// Any header, with an optional prefix such as `Token `.
    Header {
        /// The header.
        name: HeaderName,
        /// Text before the secret.
        prefix: String,
        /// The secret.
        secret: S,
    },
    /// A header without a secret that goes with the credential, such as an API version.
    Constant {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
    },
    /// A query parameter, percent-encoded.
    Query {
        /// The key.
        name: String,
        /// The secret.
        secret: S,
    },
    /// A path segment: `/bot*` puts the secret in the place of `*` in the first segment.
    Path {
        /// Segments before the one with the secret; all literal.
        before: Vec<String>,
        /// Literal text in front of the secret in its segment.
        prefix: String,
        /// Literal text after it in its segment.
        suffix: String,
        /// The secret.
        secret: S,
    },
}

impl<S> Placement<S> {
    /// The secrets that go there.
    pub fn secrets(&self) -> impl Iterator<Item = &S> {
        let pair = match self {
            Self::Bearer(secret)
            | Self::Header { secret, .. }
            | Self::Query { secret, .. }
            | Self::Path { secret, .. } => [Some(secret), None],
            Self::Basic { user, password } => [user.secret(), password.secret()],
            Self::Constant { .. } => [None, None],
        };
        pair.into_iter().flatten()
    }

    /// The same place with other secrets. None where `fill` has none for one of them, or has a constant for a place
    /// that is no half of a Basic credential.
    pub fn fill<T>(&self, fill: impl Fn(&S) -> Option<Half<T>>) -> Option<Placement<T>> {
        let secret = |secret: &S| match fill(secret)? {
            Half::Secret(secret) => Some(secret),
            Half::Constant(_) => None,
        };
        let half = |half: &Half<S>| match half {
            Half::Constant(text) => Some(Half::Constant(text.clone())),
            Half::Secret(secret) => fill(secret),
        };
        Some(match self {
            Self::Bearer(place) => Placement::Bearer(secret(place)?),
            Self::Basic { user, password } => {
                Placement::Basic { user: half(user)?, password: half(password)? }
            }
            Self::Header { name, prefix, secret: place } => {
                Placement::Header { name: name.clone(), prefix: prefix.clone(), secret: secret(place)? }
            }
            Self::Constant { name, value } => {
                Placement::Constant { name: name.clone(), value: value.clone() }
            }
            Self::Query { name, secret: place } => {
                Placement::Query { name: name.clone(), secret: secret(place)? }
            }
            Self::Path { before, prefix, suffix, secret: place } => Placement::Path {
                before: before.clone(),
                prefix: prefix.clone(),
                suffix: suffix.clone(),
                secret: secret(place)?,
            },
        })
    }
}

impl Placement {
    /// The path with what the client wrote in the secret's place taken out; none where the place is not the path.
    pub(super) fn shown_path(&self, path: &str) -> Option<String> {
        let Self::Path { before, prefix, suffix, .. } = self else { return None };
        let mut segments: Vec<&str> = path.split('/').collect();
        let shown = format!("{prefix}*{suffix}");
        let place = segments.get_mut(before.len() + 1)?;
        if !(place.starts_with(prefix.as_str()) && place.ends_with(suffix.as_str())) {
            return None;
        }
        *place = &shown;
        Some(segments.join("/"))
    }
}

/// One half of a Basic credential, or another value that is secret with some providers and not with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half<S = SecretRef> {
    /// Not secret: `x`, `x-access-token`, or empty.
    Constant(String),
    /// Secret.
    Secret(S),
}

impl<S> Half<S> {
    /// The secret, where it is one.
    pub fn secret(&self) -> Option<&S> {
        match self {
            Self::Constant(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_tells_whether_it_resolves_and_never_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            SecretRef::File(dir.path().join(name))
        };
        let wrong = |reference: &SecretRef| reference.resolves().unwrap_err();
        assert_eq!(SecretRef::Env("CARGO_PKG_NAME".into()).resolves(), Ok(()));
        assert_eq!(
            wrong(&SecretRef::Env("EGRET_TEST_NOT_SET".into())),
            "is not set in the environment of egret"
        );
        assert_eq!(file("full", "sk-live-1\n").resolves(), Ok(()));
        assert_eq!(wrong(&file("empty", " \n")), "is empty");
        assert!(wrong(&SecretRef::File(dir.path().join("nothing"))).starts_with("cannot be read: "));
        assert_eq!(wrong(&SecretRef::File(dir.path().into())), "is not a regular file");
        for later in [
            SecretRef::Vault { path: "kv/key".into(), field: "value".into() },
            SecretRef::AwsSecretsManager { name: "key".into(), field: None },
            SecretRef::Exec("helper".into()),
        ] {
            assert_eq!(wrong(&later), "cannot be resolved yet");
        }
    }
}
