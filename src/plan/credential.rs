//! What an integration attaches: references to secrets, and where they go or what is obtained with them. Never a
//! value.

use std::{fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::{
    PrivateReach,
    recipe::{Authorization, Recipe, Signature, Step, TokenPlaces},
};
use crate::{fetch::FetchUrl, store::SecretName};

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
    /// `remote:NAME`, from a token exchange that the settings name.
    Remote(String),
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
            // Whose it is decides, and only the store knows. Of the others the settings say more, and nobody is called.
            Self::Store(_)
            | Self::Vault { .. }
            | Self::AwsSecretsManager { .. }
            | Self::Exec(_)
            | Self::Remote(_) => Ok(()),
        }
    }

    /// The key of the settings that describes where it is read; none where no key is needed.
    pub fn settings_key(&self) -> Option<String> {
        match self {
            Self::Env(_) | Self::File(_) | Self::Store(_) => None,
            Self::Vault { .. } => Some("sources.vault".to_owned()),
            Self::AwsSecretsManager { .. } => Some("sources.aws_sm".to_owned()),
            Self::Exec(name) => Some(format!("sources.exec.{name}")),
            Self::Remote(name) => Some(format!("sources.remote.{name}")),
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
            Self::Remote(name) => write!(f, "remote:{name}"),
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
    Obtained(Arc<Obtained>),
}

/// A credential that is obtained for a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Obtained {
    /// Its kind, as policies write it.
    pub kind: &'static str,
    /// How it is had.
    pub how: How,
    /// Where it goes.
    pub places: TokenPlaces,
}

/// How a credential is had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum How {
    /// Fetched or signed anew, whenever one ends. Kept in memory only.
    Minted(Box<Recipe>),
    /// Agreed to once, by a person or for the organisation, and renewed since then. Kept in the store.
    Authorized(Box<Authorization>),
    /// A signature of each request (AWS Signature Version 4).
    Aws(Box<AwsSigV4>),
    /// A signature of each request, from templates.
    Signature(Box<Signature>),
    /// A key that its owner deposits, kept in the store.
    Deposited,
    /// By a provider of this name, which the policy does not describe: refused until it does.
    Undescribed(Box<str>),
}

impl How {
    /// What is kept of an answer beside the token, by name.
    pub fn kept(&self) -> Vec<&str> {
        fn of(step: &Step) -> impl Iterator<Item = &str> {
            step.answer.keep.iter().map(|(name, _)| &**name)
        }
        match self {
            Self::Minted(recipe) => recipe.steps.iter().flat_map(of).collect(),
            Self::Authorized(authorization) => of(&authorization.redeem).collect(),
            Self::Aws(_) | Self::Signature(_) | Self::Deposited | Self::Undescribed(_) => Vec::new(),
        }
    }
}

/// With what AWS requests are signed, and for where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsSigV4 {
    /// The keys that sign, or that a role is assumed with; none where the role is assumed with a token alone.
    pub keys: Option<AwsKeys>,
    /// The role whose keys sign.
    pub role: Option<AwsRole>,
    /// The region; by default the one in the host or in the client's own signature.
    pub region: Option<Box<str>>,
    /// The service; by default likewise.
    pub service: Option<Box<str>>,
}

/// Keys of AWS as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsKeys {
    /// The id of the access key.
    pub access_key_id: Half,
    /// The access key.
    pub secret_access_key: SecretRef,
    /// The session that temporary keys belong to.
    pub session_token: Option<SecretRef>,
}

/// A role that is assumed (AWS Security Token Service).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsRole {
    /// `arn:aws:iam::…:role/…`.
    pub arn: Box<str>,
    /// The endpoint of the service.
    pub url: FetchUrl,
    /// Which private addresses it may resolve to.
    pub private: PrivateReach,
    /// The token it is assumed with; none where keys sign the request for it. `AssumeRoleWithWebIdentity`.
    pub web_identity: Option<WebIdentity>,
    /// How the session is called in AWS's records; by default the tenant and the integration.
    pub session_name: Option<Box<str>>,
    /// How long the keys are good.
    pub duration: Option<Duration>,
    /// What the session may do at most, JSON.
    pub policy: Option<Box<str>>,
    /// What the role's owner asks for from strangers.
    pub external_id: Option<Box<str>>,
}

/// With which token a role is assumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WebIdentity {
    /// The caller's own.
    Caller,
    /// One that is read, such as a pod's projected one.
    Read(SecretRef),
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
            Self::Obtained(obtained) => obtained.kind,
        }
    }

    /// Where its secrets are read.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Static(placements) => placements.iter().flat_map(Placement::secrets).collect(),
            Self::Obtained(obtained) => obtained.secrets(),
        }
    }

    /// The headers that it sets.
    pub fn headers(&self) -> Vec<&HeaderName> {
        match self {
            Self::Static(placements) => placements.iter().filter_map(Placement::header).collect(),
            Self::Obtained(obtained) => obtained.headers(),
        }
    }

    /// The path with what the client wrote in the secret's place taken out; none where the place is not the path.
    pub(super) fn shown_path(&self, path: &str) -> Option<String> {
        match self {
            Self::Static(placements) => placements.iter().find_map(|place| place.shown_path(path)),
            Self::Obtained(obtained) => obtained.places.iter().find_map(|place| place.shown_path(path)),
        }
    }

    /// The keys of the query that it sets.
    pub fn query_keys(&self) -> Vec<&str> {
        fn key<S>(place: &Placement<S>) -> Option<&str> {
            match place {
                Placement::Query { name, .. } => Some(name),
                _ => None,
            }
        }
        match self {
            Self::Static(placements) => placements.iter().filter_map(key).collect(),
            Self::Obtained(obtained) => {
                let placed = obtained.places.iter().filter_map(key);
                match &obtained.how {
                    How::Signature(signature) => {
                        placed.chain(signature.query.iter().map(|(name, _)| &**name)).collect()
                    }
                    _ => placed.collect(),
                }
            }
        }
    }
}

impl Obtained {
    fn secrets(&self) -> Vec<&SecretRef> {
        fn halves(values: &[(Box<str>, Half)]) -> impl Iterator<Item = &SecretRef> {
            values.iter().filter_map(|(_, half)| half.secret())
        }
        match &self.how {
            How::Minted(recipe) => recipe.secrets().collect(),
            How::Authorized(authorization) => authorization.recipe.secrets().collect(),
            How::Signature(signature) => halves(&signature.values).collect(),
            How::Aws(aws) => {
                let keys = aws.keys.iter().flat_map(|keys| {
                    let id = keys.access_key_id.secret().into_iter();
                    id.chain([&keys.secret_access_key]).chain(&keys.session_token)
                });
                let token = aws.role.iter().filter_map(|role| match &role.web_identity {
                    Some(WebIdentity::Read(reference)) => Some(reference),
                    Some(WebIdentity::Caller) | None => None,
                });
                keys.chain(token).collect()
            }
            How::Deposited | How::Undescribed(_) => Vec::new(),
        }
    }

    fn headers(&self) -> Vec<&HeaderName> {
        let placed = self.places.iter().filter_map(Placement::header);
        match &self.how {
            How::Signature(signature) => {
                placed.chain(signature.headers.iter().map(|(name, _)| name)).collect()
            }
            How::Aws(_) => placed.chain([&AUTHORIZATION]).collect(),
            How::Minted(_) | How::Authorized(_) | How::Deposited | How::Undescribed(_) => placed.collect(),
        }
    }
}

/// One place where a secret goes. `S` says which secret: a reference in an integration, the name of a placeholder
/// in a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// The header that it sets.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Bearer(_) | Self::Basic { .. } => Some(&AUTHORIZATION),
            Self::Header { name, .. } | Self::Constant { name, .. } => Some(name),
            Self::Query { .. } | Self::Path { .. } => None,
        }
    }

    /// The path with what the client wrote in the secret's place taken out; none where the place is not the path.
    fn shown_path(&self, path: &str) -> Option<String> {
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

/// One half of a Basic credential, or another value that is secret with some providers and not with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
        for (elsewhere, key) in [
            (SecretRef::Vault { path: "kv/key".into(), field: "value".into() }, "sources.vault"),
            (SecretRef::AwsSecretsManager { name: "key".into(), field: None }, "sources.aws_sm"),
            (SecretRef::Exec("helper".into()), "sources.exec.helper"),
            (SecretRef::Remote("sts".into()), "sources.remote.sts"),
        ] {
            assert_eq!((elsewhere.resolves(), elsewhere.settings_key().as_deref()), (Ok(()), Some(key)));
        }
    }
}
