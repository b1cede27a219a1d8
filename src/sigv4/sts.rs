//! Temporary keys from AWS's Security Token Service: what to ask, and how to read the answer.
//!
//! Nothing is sent here. Both calls are a `POST` of a form to `/`, with [`CONTENT_TYPE`]. `AssumeRole` is signed with
//! [`super::sign`] for service `sts`; `AssumeRoleWithWebIdentity` is not signed, its token says who asks. The answer is
//! XML. Some say that STS answers in JSON when asked to; no SDK does that, so nothing here relies on it, but an answer
//! in JSON is read too.

mod answer;

pub use answer::{Fault, Session, answer};

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What the forms are sent as.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The name of a session, as the logs and the policies of AWS see it: 2 to 64 letters, digits and `_+=,.@-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionName(Box<str>);

/// Why a text is no session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session's name has 2 to 64 letters, digits and `_`, `+`, `=`, `,`, `.`, `@`, `-`")]
pub struct BadSessionName;

impl SessionName {
    /// Takes a name as it is.
    ///
    /// # Errors
    /// When STS would not.
    pub fn parse(text: &str) -> Result<Self, BadSessionName> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if (2..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(BadSessionName)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The role to be taken, and what of it.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    /// `arn:aws:iam::123456789012:role/name`
    pub arn: &'a str,
    /// Who takes it.
    pub session: &'a SessionName,
    /// A policy document that narrows what the keys may do, as JSON.
    pub policy: Option<&'a str>,
    /// How long the keys are good for. STS takes 15 minutes to 12 hours, and an hour where nothing is said.
    pub duration: Option<Duration>,
}

impl Role<'_> {
    /// The form of `AssumeRole`, which is to be signed. `external_id` is what the role's owner asks third parties for.
    pub fn assume(&self, external_id: Option<&str>) -> String {
        let mut form = self.form("AssumeRole");
        if let Some(id) = external_id {
            append(&mut form, "ExternalId", id.as_bytes());
        }
        form
    }

    /// The form of `AssumeRoleWithWebIdentity`, with the token that an identity provider gave. Not to be signed.
    #[expect(clippy::disallowed_methods, reason = "the token is written into the form that presents it")]
    pub fn assume_with_web_identity(&self, token: &Secret) -> Secret {
        let form = self.form("AssumeRoleWithWebIdentity");
        // Enough for every byte to be encoded: a string that grows leaves copies behind.
        let token = token.expose();
        let mut whole = Zeroizing::new(String::with_capacity(form.len() + token.len() * 3 + 32));
        whole.push_str(&form);
        append(&mut whole, "WebIdentityToken", token);
        Secret::new(std::mem::take(&mut *whole).into_bytes())
    }

    fn form(&self, action: &str) -> String {
        let mut form = String::new();
        append(&mut form, "Action", action.as_bytes());
        append(&mut form, "Version", b"2011-06-15");
        append(&mut form, "RoleArn", self.arn.as_bytes());
        append(&mut form, "RoleSessionName", self.session.as_str().as_bytes());
        if let Some(policy) = self.policy {
            append(&mut form, "Policy", policy.as_bytes());
        }
        if let Some(duration) = self.duration {
            append(&mut form, "DurationSeconds", duration.as_secs().to_string().as_bytes());
        }
        form
    }
}

fn append(form: &mut String, name: &str, value: &[u8]) {
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
    form.extend(percent_encode(value, FORM));
}

/// All but the unreserved characters (RFC 3986 §2.3).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
