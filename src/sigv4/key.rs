//! The keys, and what is derived from them. They are exposed here and nowhere else.

use std::time::SystemTime;

use aws_lc_rs::hmac;
use http::HeaderValue;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::scope::Dated;
use crate::secret::{Secret, hex};

/// What AWS gives out to sign with.
///
/// Purposefully neither `Clone` nor `Debug`.
pub struct Keys {
    /// The public half: AWS sees it in every request.
    pub access_key_id: String,
    /// What signs. It is never sent.
    pub secret_access_key: Secret,
    /// Sent along with temporary keys. Worth nothing without the key, but not shown either.
    pub session_token: Option<Secret>,
}

/// Why nothing can be signed with some keys. The text is safe to show: it holds nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// It would end the place in the header where it stands.
    #[error("the access key ID is empty or has a character other than visible ASCII, or `/`, `,` or `=`")]
    AccessKeyId,
    /// It was cut out wrongly, or there is none.
    #[error("the secret access key is empty or has a control character or a space")]
    SecretAccessKey,
    /// It cannot stand in a header.
    #[error("the session token is empty or has a control character")]
    SessionToken,
}

impl Keys {
    /// Whether they can be signed with. A line break at the end of a key is the common mistake; AWS would only say
    /// that the signature does not match.
    #[expect(clippy::disallowed_methods, reason = "the key is looked through for blanks")]
    pub(super) fn check(&self) -> Result<(), BadKeys> {
        let id = self.access_key_id.as_bytes();
        if id.is_empty() || !id.iter().all(|byte| byte.is_ascii_graphic() && !b"/,=".contains(byte)) {
            return Err(BadKeys::AccessKeyId);
        }
        let key = &self.secret_access_key;
        if key.is_empty() || key.has_control() || key.expose().contains(&b' ') {
            return Err(BadKeys::SecretAccessKey);
        }
        Ok(())
    }

    /// The session token as a header's value.
    #[expect(clippy::disallowed_methods, reason = "the session token is sent as a header's value")]
    pub(super) fn token(&self) -> Result<Option<HeaderValue>, BadKeys> {
        let Some(token) = &self.session_token else { return Ok(None) };
        if token.is_empty() || token.has_control() {
            return Err(BadKeys::SessionToken);
        }
        let mut value = HeaderValue::from_bytes(token.expose()).map_err(|_| BadKeys::SessionToken)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The key for one day, region and service.
    #[expect(clippy::disallowed_methods, reason = "the signing key is derived from the secret")]
    pub(super) fn signing_key(&self, scope: &Dated<'_>) -> SigningKey {
        let first = Zeroizing::new([b"AWS4", self.secret_access_key.expose()].concat());
        // The keys between are good for one day and cannot be cleared: `hmac::Tag` keeps its bytes to itself.
        let day = SigningKey::new(&first).tag(scope.date().as_bytes());
        let region = SigningKey::new(day.as_ref()).tag(scope.region().as_bytes());
        let service = SigningKey::new(region.as_ref()).tag(scope.service().as_bytes());
        SigningKey::new(SigningKey::new(service.as_ref()).tag(b"aws4_request").as_ref())
    }
}

/// Signs texts of one day, region and service. aws-lc clears it when it is dropped.
pub(super) struct SigningKey(hmac::Key);

impl SigningKey {
    fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, text)
    }

    /// The signature: 64 hexadecimal digits.
    pub(super) fn sign(&self, text: &[u8]) -> String {
        hex(self.tag(text).as_ref())
    }
}

/// When something is signed, as AWS writes it: `20130524T000000Z`.
pub(super) struct Stamp(String);

impl Stamp {
    /// The stamp of this time, to the second.
    pub(super) fn of(time: SystemTime) -> Self {
        let time = OffsetDateTime::from(time);
        let (date, clock) = (time.date(), time.time());
        Self(format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second(),
        ))
    }

    /// As it is sent.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The day.
    pub(super) fn date(&self) -> &str {
        self.0.split('T').next().unwrap_or_default()
    }

    /// As a header's value.
    pub(super) fn header(&self) -> HeaderValue {
        // Digits and two letters are always one.
        HeaderValue::try_from(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}
