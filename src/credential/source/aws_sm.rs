//! `aws-sm:NAME[#FIELD]`: secrets of AWS Secrets Manager.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    kept::{Fault, Given, Parts, Times},
    wire,
};
use crate::{
    fetch::{Answer, Calls},
    secret::Secret,
    settings::{AccessKeyId, AwsSmKeys, AwsSmSettings, SecretSource},
    sigv4::{self, Keys, Payload, Request, Scope, Seen, sts},
};

/// How long a secret is taken as it is.
const FRESH: Duration = Duration::from_secs(60);
/// Temporary keys are not signed with any more this long before their end, or a tenth of their time if that is less.
const AHEAD: Duration = Duration::from_secs(300);
/// How egret calls its sessions in AWS's records.
const SESSION: &str = "egret";
const TARGET: &str = "x-amz-target";

/// AWS Secrets Manager.
pub(super) struct AwsSm {
    settings: AwsSmSettings,
    calls: Arc<dyn Calls>,
    /// Temporary keys, and until when they are used. Whoever needs new ones holds it: the others wait for them.
    session: Mutex<Option<(Arc<Keys>, SystemTime)>>,
}

impl AwsSm {
    pub(super) fn new(settings: AwsSmSettings, calls: Arc<dyn Calls>) -> Self {
        Self { settings, calls, session: Mutex::default() }
    }

    /// Reads a secret, the version that is current.
    pub(super) async fn read(&self, name: &str) -> Result<Given, Fault> {
        let keys = self.keys().await?;
        let answer = self.ask(name, &keys).await?;
        if answer.status != StatusCode::OK {
            let fault = refusal(&answer);
            if matches!(fault, Refusal::Keys) {
                // The role may be assumed anew.
                *self.session.lock().await = None;
            }
            return Err(fault.fault(answer.status));
        }
        let members = wire::members(&answer, "AWS Secrets Manager")?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let bytes = match (text("SecretString"), text("SecretBinary")) {
            (Some(text), _) => Some(text.trim().as_bytes().to_vec()),
            (None, Some(binary)) => STANDARD.decode(binary).ok(),
            (None, None) => None,
        };
        let bytes = bytes.ok_or_else(|| {
            Fault::unavailable("cannot be read: the answer of AWS Secrets Manager holds no secret")
        })?;
        let secret = Secret::new(bytes);
        let fields = wire::fields_of(&secret);
        Ok(Given { parts: Parts::new(Some(secret), fields), times: Times::unsaid(FRESH), lease: None })
    }

    async fn ask(&self, name: &str, keys: &Keys) -> Result<Answer, Fault> {
        let AwsSmSettings { region, url, .. } = &self.settings;
        let body = wire::object(&[("SecretId", name), ("VersionStage", "AWSCURRENT")]);
        let mut headers = wire::sending("application/x-amz-json-1.1");
        headers.insert(TARGET, HeaderValue::from_static("secretsmanager.GetSecretValue"));
        let scope = Scope { region: region.clone(), service: "secretsmanager".to_owned() };
        let unsigned =
            |error: &dyn std::fmt::Display| Fault::missing(format!("cannot be asked for: {error}"));
        let payload = Payload::undeclared(&scope, url.scheme(), Seen::Whole(&body))
            .map_err(|error| unsigned(&error))?;
        let host = url.authority.host_header(url.scheme());
        let request =
            Request { method: &Method::POST, authority: &host, path: url.path.as_str(), query: None };
        sigv4::sign(&request, &mut headers, &payload, &scope, keys, SystemTime::now())
            .map_err(|error| unsigned(&error))?;
        wire::ask(&*self.calls, Method::POST, url, headers, body).await
    }

    async fn keys(&self) -> Result<Arc<Keys>, Fault> {
        match &self.settings.keys {
            AwsSmKeys::Given { id, secret, session } => {
                let access_key_id = match id {
                    AccessKeyId::Text(id) => id.clone(),
                    AccessKeyId::Read(source) => wire::text(&wire::own(source)?)?.to_owned(),
                };
                let session_token = session.as_ref().map(wire::own).transpose()?;
                Ok(Arc::new(Keys { access_key_id, secret_access_key: wire::own(secret)?, session_token }))
            }
            AwsSmKeys::Role { arn, token_file, sts } => {
                let mut session = self.session.lock().await;
                if let Some((keys, end)) = &*session
                    && SystemTime::now() < *end
                {
                    return Ok(keys.clone());
                }
                let token = wire::own(&SecretSource::File(token_file.clone()))?;
                let name = sts::SessionName::parse(SESSION)
                    .map_err(|error| Fault::missing(format!("cannot be asked for: {error}")))?;
                let role = sts::Role { arn, session: &name, policy: None, duration: None };
                let form = wire::body(&role.assume_with_web_identity(&token));
                let headers = wire::sending(sts::CONTENT_TYPE);
                let answer = wire::ask(&*self.calls, Method::POST, sts, headers, form).await?;
                let got = sts::answer(answer.status, &answer.body).map_err(|fault| {
                    let what = format!("cannot be asked for: {fault} for the role `{arn}`");
                    if fault.is_transient { Fault::Unavailable(what) } else { Fault::Missing(what) }
                })?;
                let left = got.expires.duration_since(SystemTime::now()).unwrap_or_default();
                let keys = Arc::new(got.keys);
                let until = got.expires.checked_sub(AHEAD.min(left / 10)).unwrap_or(got.expires);
                *session = Some((keys.clone(), until));
                Ok(keys)
            }
        }
    }
}

/// What a refusal of AWS means.
enum Refusal {
    /// It may pass.
    Passing,
    /// It is about the keys, and others may do.
    Keys,
    /// It is about the secret, and stays. AWS's own word for it, where there is one.
    Stays(String),
}

impl Refusal {
    fn fault(self, status: StatusCode) -> Fault {
        let status = status.as_u16();
        match self {
            Self::Passing => {
                Fault::unavailable(format!("cannot be read: AWS Secrets Manager answered {status}"))
            }
            Self::Keys => Fault::unavailable(format!(
                "cannot be read: AWS Secrets Manager answered {status} and does not take the keys any more"
            )),
            Self::Stays(code) if code.is_empty() => {
                Fault::missing(format!("is not given: AWS Secrets Manager answered {status}"))
            }
            Self::Stays(code) => {
                Fault::missing(format!("is not given: AWS Secrets Manager answered {status} `{code}`"))
            }
        }
    }
}

/// `{"__type": "com.amazonaws…#ResourceNotFoundException"}`, or the same in a header.
fn refusal(answer: &Answer) -> Refusal {
    let members = wire::members(answer, "").unwrap_or_default();
    let header = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = members.get("__type").and_then(Value::as_str).or(header).unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let code = if is_word { code } else { "" };
    match code {
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => Refusal::Keys,
        _ if code.starts_with("Throttl") || wire::is_passing(answer.status) => Refusal::Passing,
        "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "InternalServiceError" => Refusal::Passing,
        code => Refusal::Stays(code.to_owned()),
    }
}
