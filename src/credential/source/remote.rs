//! `remote:NAME`: the token that another token is exchanged for (RFC 8693). So a pod need hold no secret that lasts.

use std::{sync::Arc, time::Duration};

use http::{Method, header};
use serde_json::Value;

use super::{
    kept::{Fault, Given, Parts, Times},
    wire,
};
use crate::{fetch::Calls, secret::Secret, settings::RemoteSettings};

/// How long a token is used whose end nobody says.
const UNSAID: Duration = Duration::from_secs(300);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A token endpoint.
pub(super) struct Remote {
    pub(super) settings: RemoteSettings,
    pub(super) calls: Arc<dyn Calls>,
}

impl Remote {
    /// Exchanges the token.
    pub(super) async fn read(&self) -> Result<Given, Fault> {
        let settings = &self.settings;
        let subject = wire::own(&settings.subject_token)?;
        let scope = settings.scope.join(" ");
        let mut params = vec![
            ("grant_type", GRANT),
            ("subject_token", wire::text(&subject)?),
            ("subject_token_type", settings.subject_token_type.as_str()),
        ];
        params.extend(settings.audience.iter().map(|audience| ("audience", audience.as_str())));
        params.extend(settings.resource.iter().map(|resource| ("resource", resource.as_str())));
        if !scope.is_empty() {
            params.push(("scope", &scope));
        }
        let mut headers = wire::sending("application/x-www-form-urlencoded");
        match (&settings.client_id, &settings.client_secret) {
            (Some(id), Some(secret)) => {
                let secret = wire::own(secret)?;
                headers.insert(header::AUTHORIZATION, wire::basic(id, wire::text(&secret)?)?);
            }
            (Some(id), None) => params.push(("client_id", id)),
            (None, _) => {}
        }
        let url = &settings.token_url;
        let answer = wire::ask(&*self.calls, Method::POST, url, headers, wire::form(&params)).await?;
        let (status, who) = (answer.status, &url.authority);
        if wire::is_passing(status) {
            return Err(Fault::unavailable(format!("cannot be read: {who} answered {}", status.as_u16())));
        }
        let members = wire::members(&answer, &who.to_string());
        if !status.is_success() {
            let members = members.unwrap_or_default();
            let code = members.get("error").and_then(Value::as_str).filter(|code| is_code(code));
            let code = code.map(|code| format!(" `{code}`")).unwrap_or_default();
            return Err(Fault::missing(format!(
                "is not given: {who} answered {}{code} to the token exchange",
                status.as_u16()
            )));
        }
        let members = members?;
        let token = members.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let token = token
            .ok_or_else(|| Fault::unavailable(format!("cannot be read: the answer of {who} has no token")))?;
        let times = match members.get("expires_in").and_then(seconds) {
            None => Times::unsaid(UNSAID),
            Some(lifetime) => Times::ending(lifetime),
        };
        Ok(Given { parts: Parts::whole(Secret::new(token.as_bytes().to_vec())), times, lease: None })
    }
}

/// Some servers write numbers as texts.
fn seconds(value: &Value) -> Option<Duration> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(Duration::from_secs(number))
}

/// A word that stands for an error (RFC 6749 §5.2). Texts for people are not repeated.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
