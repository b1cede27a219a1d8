//! How a person connects an integration: in a browser (RFC 6749 §4.1, RFC 7636), on another device (RFC 8628), or by
//! depositing a key.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    failure::{Failure, Seen},
    renewal::facts_of,
    step::{self, Brought},
    values::Values,
    workshop::{Tools, Workshop},
};
use crate::{
    form, json,
    plan::{Authorization, Connectable, How, Template},
    secret::Secret,
    store::{ConnectionKey, Facts, Status, Store, Tokens},
};

/// How deep the answer of a device endpoint may be.
const DEPTH: usize = 8;
/// How long is waited between two looks, where the provider does not say (RFC 8628 §3.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// Why nothing was connected. Safe to show to whoever connects.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotConnected(String);

/// Connects integrations, and takes connections back.
#[derive(Clone)]
pub struct Consents(Arc<Workshop>);

/// A question that a person answers in a browser.
pub struct Question {
    /// Where the person goes.
    pub url: String,
    /// What the answer must repeat (RFC 6749 §10.12).
    pub state: Secret,
    /// What proves that whoever redeems the code is who asked (RFC 7636 §4.1).
    verifier: Secret,
    /// Where the answer comes to.
    redirect_uri: String,
}

/// A code that a person enters on another device.
pub struct DeviceCode {
    /// What the person enters.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, where the provider has that.
    pub verification_uri_complete: Option<String>,
    /// How long it is good.
    pub expires_in: Duration,
    /// How long to wait between two looks.
    pub interval: Duration,
    code: Secret,
}

/// What a look at a device's code brought.
#[derive(Debug)]
pub enum Look {
    /// Nobody decided yet.
    Pending,
    /// Nobody decided yet, and the looks come too often.
    SlowDown,
    /// It is connected.
    Connected(Connected),
}

/// A connection that was made.
#[derive(Debug)]
pub struct Connected {
    /// The scopes that were granted, separated by spaces; none where the provider does not say.
    pub scopes: Option<String>,
    /// How long the first token is good; none where it does not end.
    pub lifetime: Option<Duration>,
    /// Whether it can be renewed without the person.
    pub renews: bool,
}

impl Consents {
    pub(super) fn new(workshop: Arc<Workshop>) -> Self {
        Self(workshop)
    }

    /// Consents of a process that has no proxy.
    pub fn standalone(
        calls: Arc<dyn crate::fetch::Calls>,
        origins: super::Origins,
        metrics: Arc<crate::metrics::Metrics>,
    ) -> Self {
        Self(Arc::new(Workshop::new(calls, origins, metrics)))
    }

    /// Begins to ask a person in a browser. Whoever gets the answer gives it to [`Consents::redeem`].
    ///
    /// # Errors
    /// When the provider has no page for that, or the client's secrets cannot be read.
    pub async fn ask(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
        redirect_uri: &str,
    ) -> Result<Question, NotConnected> {
        let how = authorization(what)?;
        let Some(ask) = &how.ask else {
            return Err(NotConnected(format!("the provider `{}` has no `authorize_url`", how.provider)));
        };
        self.store().await?;
        let Tools { mut values, .. } = self.tools(key, how).await?;
        let (state, verifier) = (random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let scopes = what.scopes.join(&how.scope_separator);
        let mut params = vec![("response_type", "code"), ("redirect_uri", redirect_uri), ("state", &state)];
        if !scopes.is_empty() {
            params.push((&ask.scope_param, &scopes));
        }
        if ask.pkce {
            params.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        params.extend(ask.params.iter().map(|(name, value)| (&**name, &**value)));
        let mut template =
            format!("{{base}}{}client_id={{uri(client_id)}}", if ask.url.contains('?') { '&' } else { '?' });
        values.set_text("base", &ask.url);
        for (index, (name, value)) in params.iter().enumerate() {
            let slot = format!("p{index}");
            values.set_text(&format!("{slot}n"), name);
            values.set_text(&format!("{slot}v"), value);
            template.extend(["&{uri(", &slot, "n)}={uri(", &slot, "v)}"]);
        }
        let url = fill(&values, &template)?;
        Ok(Question {
            url,
            state: Secret::new(state.into_bytes()),
            verifier: Secret::new(verifier.into_bytes()),
            redirect_uri: redirect_uri.to_owned(),
        })
    }

    /// Redeems the code that a person's answer brought, and keeps the connection.
    ///
    /// # Errors
    /// When the provider says no, or the store cannot be used.
    pub async fn redeem(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
        question: Question,
        code: &str,
    ) -> Result<Connected, NotConnected> {
        let how = authorization(what)?;
        let Tools { mut values, certificate } = self.tools(key, how).await?;
        values.set_text("code", code);
        values.set_text("redirect_uri", &question.redirect_uri);
        values.set("code_verifier", Arc::new(question.verifier));
        let brought = step::run(&how.redeem, &values, certificate.as_ref(), &*self.0.calls).await;
        self.keep(key, what, how, brought.map_err(said)?).await
    }

    /// Asks for a code that a person enters on another device.
    ///
    /// # Errors
    /// When the provider has no such way, or says no.
    pub async fn ask_device(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
    ) -> Result<DeviceCode, NotConnected> {
        let how = authorization(what)?;
        let Some(device) = &how.device else {
            return Err(NotConnected(format!("the provider `{}` has no `device_url`", how.provider)));
        };
        self.store().await?;
        let Tools { mut values, certificate } = self.tools(key, how).await?;
        values.set_text("scope", &what.scopes.join(&how.scope_separator));
        let answer = step::send(device, &values, certificate.as_ref(), &*self.0.calls).await.map_err(said)?;
        let json = json::value(&answer.body, DEPTH);
        if !answer.status.is_success() {
            let seen = Seen { status: answer.status, headers: &answer.headers, json: json.as_ref() };
            return Err(said(Failure::Refused(seen.judge_token_endpoint(&device.errors))));
        }
        let text = |name: &str| json.as_ref()?.get(name)?.as_str().map(ToOwned::to_owned);
        let seconds = |name: &str| json.as_ref()?.get(name)?.as_u64().map(Duration::from_secs);
        let read = || {
            Some(DeviceCode {
                user_code: text("user_code")?,
                // Google's word for it is older than the standard.
                verification_uri: text("verification_uri").or_else(|| text("verification_url"))?,
                verification_uri_complete: text("verification_uri_complete"),
                expires_in: seconds("expires_in").unwrap_or(Duration::from_secs(600)),
                interval: seconds("interval").unwrap_or(INTERVAL),
                code: Secret::new(text("device_code")?.into_bytes()),
            })
        };
        read().ok_or_else(|| NotConnected("the provider's answer has no code for a device".to_owned()))
    }

    /// Looks whether the person decided.
    ///
    /// # Errors
    /// When the person said no, or the code has ended.
    pub async fn look(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
        code: &DeviceCode,
    ) -> Result<Look, NotConnected> {
        let how = authorization(what)?;
        let Tools { mut values, certificate } = self.tools(key, how).await?;
        values.set_copy("device_code", &code.code);
        match step::run(&how.poll, &values, certificate.as_ref(), &*self.0.calls).await {
            Ok(brought) => self.keep(key, what, how, brought).await.map(Look::Connected),
            Err(Failure::Refused(verdict)) => match verdict.code.as_deref() {
                Some("authorization_pending") => Ok(Look::Pending),
                Some("slow_down") => Ok(Look::SlowDown),
                _ => Err(said(Failure::Refused(verdict))),
            },
            // A look that was lost is no decision.
            Err(Failure::Unreachable { .. }) => Ok(Look::SlowDown),
            Err(failure) => Err(said(failure)),
        }
    }

    /// Keeps a key that its owner deposits.
    ///
    /// # Errors
    /// When the integration takes none, or the store cannot be used.
    pub async fn deposit(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
        secret: Secret,
    ) -> Result<Connected, NotConnected> {
        if !matches!(what.credential.how, How::Deposited) {
            return Err(NotConnected(format!("`{}` takes no key of its owner's", what.integration)));
        }
        let tokens = Tokens { access_token: secret, refresh_token: None, kept: Vec::new() };
        self.save(key, &tokens, &Facts::default()).await?;
        Ok(Connected { scopes: None, lifetime: None, renews: false })
    }

    /// Whether there is a connection that is in use.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn is_connected(&self, key: &ConnectionKey) -> Result<bool, NotConnected> {
        let store = match self.0.origins.store.get().await {
            Ok(store) => store,
            Err(error) if matches!(*error, crate::store::StoreError::Absent(_)) => return Ok(false),
            Err(error) => return Err(NotConnected(error.to_string())),
        };
        let state = store.connection_state(key).await.map_err(|error| NotConnected(error.to_string()))?;
        Ok(state.is_some_and(|(_, status)| status == Status::Active))
    }

    /// Takes a connection back: from the provider, where it has a way for that, and in the store in any case. Gives
    /// whether the provider knows of it.
    ///
    /// # Errors
    /// When there is none, or the store cannot be used.
    pub async fn revoke(
        &self,
        key: &ConnectionKey,
        what: Option<&Connectable>,
    ) -> Result<bool, NotConnected> {
        let store = self.0.origins.store.get().await.map_err(|error| NotConnected(error.to_string()))?;
        let row = store.connection(key).await.map_err(|error| NotConnected(error.to_string()))?;
        let row = row.ok_or_else(|| NotConnected("there is no such connection".to_owned()))?;
        // First here: whatever the provider says, nobody uses it any more.
        let marked = store.set_status(key, row.generation, Status::Revoked).await;
        marked.map_err(|error| NotConnected(error.to_string()))?;
        let Some(what) = what else { return Ok(false) };
        let How::Authorized(how) = &what.credential.how else { return Ok(false) };
        let Some(step) = &how.revoke else { return Ok(false) };
        let Tools { mut values, certificate } = self.tools(key, how).await?;
        let token = row.tokens.refresh_token.unwrap_or(row.tokens.access_token);
        values.set("revoked_token", Arc::new(token));
        let answer = step::send(step, &values, certificate.as_ref(), &*self.0.calls).await;
        Ok(answer.is_ok_and(|answer| answer.status.is_success()))
    }

    /// The store, which is there before a person is asked: what the person gives must not be lost.
    async fn store(&self) -> Result<&Store, NotConnected> {
        self.0.origins.store.get_or_create().await.map_err(|error| NotConnected(error.to_string()))
    }

    async fn tools(&self, key: &ConnectionKey, how: &Authorization) -> Result<Tools, NotConnected> {
        self.0.prepare(&how.recipe, &key.tenant, None).await.map_err(said)
    }

    async fn keep(
        &self,
        key: &ConnectionKey,
        what: &Connectable,
        how: &Authorization,
        brought: Brought,
    ) -> Result<Connected, NotConnected> {
        let Brought { access_token, refresh_token, lifetime, scope, kept } = brought;
        let access_token =
            access_token.ok_or_else(|| NotConnected("the provider's answer has no token".to_owned()))?;
        let asked = || what.scopes.join(" ");
        let renews = refresh_token.is_some() || lifetime.is_none();
        // What is asked for is granted where the answer does not say otherwise (RFC 6749 §5.1).
        let facts = facts_of(lifetime, how, scope.clone().unwrap_or_else(asked));
        let kept = kept.into_iter().filter_map(|(name, value)| Some((name, Arc::into_inner(value)?)));
        let tokens = Tokens { access_token, refresh_token, kept: kept.collect() };
        self.save(key, &tokens, &facts).await?;
        Ok(Connected { scopes: scope, lifetime, renews })
    }

    async fn save(&self, key: &ConnectionKey, tokens: &Tokens, facts: &Facts) -> Result<(), NotConnected> {
        let kept = self.store().await?.connect(key, tokens, facts).await;
        kept.map(drop).map_err(|error| NotConnected(error.to_string()))
    }
}

/// What is said to connect something is as good as the connection: it does not print.
macro_rules! does_not_print {
    ($($kind:ident),*) => {$(
        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($kind), "(..)"))
            }
        }
    )*};
}

does_not_print!(Consents, Question, DeviceCode, Reply);

fn authorization(what: &Connectable) -> Result<&Authorization, NotConnected> {
    match &what.credential.how {
        How::Authorized(authorization) => Ok(authorization),
        _ => Err(NotConnected(format!("`{}` is connected by depositing a key", what.integration))),
    }
}

fn said(failure: Failure) -> NotConnected {
    NotConnected(match failure {
        Failure::Missing(what) | Failure::Unavailable(what) | Failure::Unreachable { what, .. } => what,
        Failure::Refused(verdict) => {
            let code = verdict.code.map(|code| format!(" (`{code}`)")).unwrap_or_default();
            format!("the provider answered {}{code}", verdict.status.as_u16())
        }
        Failure::NotConnected | Failure::Gone { .. } | Failure::NotAccepted => {
            "it is not connected".to_owned()
        }
    })
}

fn random() -> Result<String, NotConnected> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| NotConnected("the system has no random bytes".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn fill(values: &Values, template: &str) -> Result<String, NotConnected> {
    let template = Template::parse(template).map_err(NotConnected)?;
    let filled = values.fill(&template).map_err(|error| NotConnected(error.to_string()))?;
    String::from_utf8(filled.to_vec()).map_err(|_| NotConnected("the client id is no text".to_owned()))
}

/// What a person's answer in a browser says (RFC 6749 §4.1.2).
#[derive(PartialEq, Eq)]
pub enum Reply {
    /// A code for this state.
    Code {
        /// Repeats the question's.
        state: String,
        /// The code.
        code: String,
    },
    /// A no, for this state, with the provider's word for it.
    Refused {
        /// Repeats the question's.
        state: String,
        /// `access_denied`, …
        error: String,
    },
}

impl Reply {
    /// Reads the query of the redirect. None where it is no answer, or says something twice.
    pub fn read(query: &str) -> Option<Self> {
        let mut found = form::unique(query)?;
        let state = found.remove("state")?;
        match (found.remove("code"), found.remove("error")) {
            (Some(code), None) => Some(Self::Code { state, code }),
            (None, Some(error)) => {
                let plain = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
                Some(Self::Refused { state, error: error.chars().filter(plain).take(64).collect() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connects_something_does_not_print() {
        let planted = || "planted".to_owned();
        let reply = Reply::read("state=planted&code=planted").unwrap();
        let secret = || Secret::new(b"planted".to_vec());
        let question =
            Question { url: planted(), state: secret(), verifier: secret(), redirect_uri: planted() };
        let device = DeviceCode {
            user_code: planted(),
            verification_uri: planted(),
            verification_uri_complete: Some(planted()),
            expires_in: INTERVAL,
            interval: INTERVAL,
            code: secret(),
        };
        let printed = format!("{reply:?} {question:?} {device:?}");
        assert_eq!(printed, "Reply(..) Question(..) DeviceCode(..)");
    }

    #[test]
    fn an_answer_that_says_two_things_is_none() {
        for query in
            ["state=s", "code=c", "state=s&code=c&code=d", "state=s&code=c&error=e", "state=s&code=%ff"]
        {
            assert!(Reply::read(query).is_none(), "{query}");
        }
        let no = Reply::read("error=access_denied%3Cb%3E&state=a+b").unwrap();
        assert!(matches!(no, Reply::Refused { state, error } if state == "a b" && error == "access_deniedb"));
    }
}
