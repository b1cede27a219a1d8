//! The shape of `sources` in `egret.yaml`, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Spanned;

use super::super::{
    file::{List, Names, Scalar},
    said::Said,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::settings) struct Sources {
    pub(super) exec: Option<BTreeMap<String, Spanned<Exec>>>,
    pub(super) vault: Option<Spanned<Vault>>,
    pub(super) aws_sm: Option<Spanned<AwsSm>>,
    pub(super) remote: Option<BTreeMap<String, Spanned<Remote>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Exec {
    pub(super) command: List,
    pub(super) env: BTreeMap<String, Spanned<Said>>,
    pub(super) inherit: List,
    pub(super) timeout: Scalar,
    pub(super) cache: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Vault {
    pub(super) url: Scalar,
    pub(super) namespace: Scalar,
    pub(super) mount_kind: Scalar,
    pub(super) auth: Option<Spanned<Auth>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    pub(super) kubernetes: Option<Spanned<Kubernetes>>,
    pub(super) jwt: Option<Spanned<Jwt>>,
    pub(super) approle: Option<Spanned<AppRole>>,
    pub(super) token: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Kubernetes {
    pub(super) role: Scalar,
    pub(super) token_file: Scalar,
    pub(super) mount: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Jwt {
    pub(super) role: Scalar,
    pub(super) token: Scalar,
    pub(super) mount: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AppRole {
    pub(super) role_id: Scalar,
    pub(super) secret_id: Scalar,
    pub(super) mount: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AwsSm {
    pub(super) region: Scalar,
    pub(super) url: Scalar,
    pub(super) access_key_id: Scalar,
    pub(super) secret_access_key: Scalar,
    pub(super) session_token: Scalar,
    pub(super) role_arn: Scalar,
    pub(super) web_identity_token_file: Scalar,
    pub(super) sts_url: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Remote {
    pub(super) token_url: Scalar,
    pub(super) subject_token: Scalar,
    pub(super) subject_token_type: Scalar,
    pub(super) audience: Option<Names>,
    pub(super) resource: Option<Names>,
    pub(super) scope: Option<Names>,
    pub(super) client_id: Scalar,
    pub(super) client_secret: Scalar,
}
