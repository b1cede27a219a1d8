//! An authorization server as data: how it is spoken to, what its answers look like, and what they mean.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    PrivateReach,
    template::{JsonPath, Template},
};

/// Who issues tokens. URLs are texts: they may have variables that an integration gives values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Provider {
    /// Its name in the policy.
    pub name: Box<str>,
    /// Its identifier (RFC 8414 §2); client assertions are made for it. Where there is none, for the token endpoint.
    pub issuer: Option<Box<str>>,
    /// Where tokens are issued.
    pub token_url: Box<str>,
    /// Where they are refreshed; the token endpoint where there is none.
    pub refresh_url: Option<Box<str>>,
    /// Where a person agrees.
    pub authorize_url: Option<Box<str>>,
    /// Where a device asks for a code (RFC 8628 §3.1).
    pub device_url: Option<Box<str>>,
    /// Where tokens are revoked (RFC 7009).
    pub revoke_url: Option<Box<str>>,
    /// Whether the code is bound by a challenge (RFC 7636, S256).
    pub pkce: bool,
    /// The parameter that scopes go to.
    pub scope_param: Box<str>,
    /// What stands between scopes.
    pub scope_separator: Box<str>,
    /// What a person is always asked for: `offline_access`.
    pub scopes: Box<[Box<str>]>,
    /// Further parameters of the authorization request: `access_type=offline`.
    pub authorize_params: Box<[(Box<str>, Box<str>)]>,
    /// Further parameters of every token request.
    pub token_params: Box<[(Box<str>, Box<str>)]>,
    /// Further parameters of a refresh. They may name `scope`: what was granted.
    pub refresh_params: Box<[(Box<str>, Template)]>,
    /// Constant headers of token requests.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// How a client authenticates, where the credential does not say.
    pub client_auth: Option<ClientAuthentication>,
    /// How parameters are sent.
    pub body: BodyForm,
    /// Where in an answer what stands.
    pub answer: AnswerShape,
    /// What a refresh does to the refresh token.
    pub rotation: Rotation,
    /// For how long a spent refresh token may be presented again, where the provider promises it.
    pub reuse_grace: Option<Duration>,
    /// How long before its end a token is renewed; at most half its life.
    pub ahead: Option<Duration>,
    /// What errors of the token endpoint mean; the first that fits.
    pub errors: Box<[ErrorRule]>,
    /// Which private addresses its names may resolve to.
    pub private: PrivateReach,
}

/// How a client shows who it is to a token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAuthentication {
    /// In `Authorization: Basic`, both halves form-encoded (RFC 6749 §2.3.1).
    Basic,
    /// The same without the encoding, as many servers want it.
    BasicRaw,
    /// The secret as the user, and no password.
    BasicSecretAsUser,
    /// In the body.
    Post,
    /// By an assertion that its key signs (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// By its certificate (RFC 8705 §2).
    TlsClientAuth,
    /// A public client only names itself.
    None,
}

impl ClientAuthentication {
    /// As policies write them.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("basic", Self::Basic),
        ("basic_raw", Self::BasicRaw),
        ("basic_secret_as_user", Self::BasicSecretAsUser),
        ("post", Self::Post),
        ("private_key_jwt", Self::PrivateKeyJwt),
        ("tls_client_auth", Self::TlsClientAuth),
        ("none", Self::None),
    ];
}

/// How parameters are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BodyForm {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// A JSON object.
    Json,
}

/// Where in an answer what stands. The first path that leads to something counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerShape {
    /// What must hold for a 2xx to be no failure.
    pub ok: Option<(JsonPath, Expected)>,
    /// The token.
    pub access_token: Box<[JsonPath]>,
    /// The refresh token.
    pub refresh_token: Box<[JsonPath]>,
    /// Seconds until the token ends.
    pub expires_in: Box<[JsonPath]>,
    /// When the token ends.
    pub expires_at: Box<[JsonPath]>,
    /// How long it is good where the answer does not say; forever where this does not either.
    pub lifetime: Option<Duration>,
    /// The scopes that were granted.
    pub scope: Box<[JsonPath]>,
    /// What else is kept, by name.
    pub keep: Box<[(Box<str>, JsonPath)]>,
}

impl Default for AnswerShape {
    /// As RFC 6749 §5.1 has it.
    fn default() -> Self {
        let at = |name: &str| JsonPath::parse(name).into_iter().collect();
        Self {
            ok: None,
            access_token: at("access_token"),
            refresh_token: at("refresh_token"),
            expires_in: at("expires_in"),
            expires_at: Box::default(),
            lifetime: None,
            scope: at("scope"),
            keep: Box::default(),
        }
    }
}

/// What a JSON value is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expected {
    /// `true` or `false`.
    Flag(bool),
    /// One of these texts or numbers, as they are written.
    OneOf(Box<[Box<str>]>),
    /// That it is there at all.
    Present,
}

impl Expected {
    /// Whether the value is as expected.
    pub fn fits(&self, value: Option<&serde_json::Value>) -> bool {
        use serde_json::Value;
        match (self, value) {
            (_, None | Some(Value::Null)) => false,
            (Self::Present, Some(_)) => true,
            (Self::Flag(flag), Some(value)) => *value == Value::Bool(*flag),
            (Self::OneOf(texts), Some(Value::String(text))) => texts.iter().any(|known| **known == **text),
            (Self::OneOf(texts), Some(Value::Number(number))) => {
                let number = number.to_string();
                texts.iter().any(|known| **known == *number)
            }
            (Self::OneOf(_), Some(_)) => false,
        }
    }
}

/// What a refresh does to the refresh token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// Tokens do not end, and there is nothing to refresh.
    None,
    /// The same for ever; answers bring none.
    NotReissued,
    /// A new one, and the old one stays good.
    ReplaceKeepOld,
    /// A new one, and the old one is dead: presented again, it may take all of its family with it. The default: whoever
    /// is careful for nothing loses nothing.
    #[default]
    SingleUse,
    /// A new one, and the old one stays good until the new one is used.
    UntilReplacementUsed,
    /// No refresh token: the access token itself is exchanged for its successor.
    AccessExchange,
}

impl Rotation {
    /// As policies write them.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("not_reissued", Self::NotReissued),
        ("replace_keep_old", Self::ReplaceKeepOld),
        ("single_use", Self::SingleUse),
        ("until_replacement_used", Self::UntilReplacementUsed),
        ("access_exchange", Self::AccessExchange),
    ];

    /// Whether what was spent once must not be presented again without knowing the answer.
    pub fn is_single_use(self) -> bool {
        matches!(self, Self::SingleUse)
    }
}

/// What an error looks like, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorRule {
    /// The statuses; empty for any.
    pub status: Box<[u16]>,
    /// What stands in the body; all of it must.
    pub json: Box<[(JsonPath, Expected)]>,
    /// What stands in headers as a word, without regard to case; all of it must. `*` is anything.
    pub header: Box<[(HeaderName, Box<str>)]>,
    /// What it means.
    pub class: ErrorClass,
    /// Where it says how long to wait.
    pub wait: Option<Wait>,
    /// Where the provider's own code stands.
    pub code: Option<JsonPath>,
}

impl ErrorRule {
    /// Whether it looks into the body of the answers that it may fit.
    pub fn reads_body(&self) -> bool {
        let waits = matches!(self.wait, Some(Wait { place: WaitPlace::Json(_), .. }));
        !self.json.is_empty() || self.code.is_some() || waits
    }

    /// Whether it may fit an answer with this status.
    pub fn has_status(&self, status: StatusCode) -> bool {
        self.status.is_empty() || self.status.contains(&status.as_u16())
    }
}

/// What an error means. Status, places and headers decide, never the text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The token has ended: a new one may help.
    Expired,
    /// The grant is gone: only a person can help.
    Revoked,
    /// The token lacks a scope: a person may agree to more.
    ScopeMissing,
    /// A person has to do something first, and the grant stays (a claims challenge).
    Interaction,
    /// Too often.
    RateLimited,
    /// Something broke that may be whole again later.
    Transient,
    /// The client itself is not set up as it should be: an operator can help.
    Misconfigured,
    /// None of these: it is the client's affair.
    Other,
}

impl ErrorClass {
    /// As policies write them.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("expired", Self::Expired),
        ("revoked", Self::Revoked),
        ("scope_missing", Self::ScopeMissing),
        ("interaction", Self::Interaction),
        ("rate_limited", Self::RateLimited),
        ("transient", Self::Transient),
        ("misconfigured", Self::Misconfigured),
        ("other", Self::Other),
    ];
}

/// Where an answer says how long to wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wait {
    /// In which header or place of the body.
    pub place: WaitPlace,
    /// What the number means.
    pub unit: WaitUnit,
}

/// Where a wait is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WaitPlace {
    /// In a header.
    Header(HeaderName),
    /// In the body.
    Json(JsonPath),
}

/// What the number of a wait means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitUnit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// A point in time, in seconds since 1970; a number that is too large for that counts milliseconds.
    Epoch,
    /// The same in milliseconds.
    EpochMillis,
}

impl WaitUnit {
    /// As policies write them.
    pub const WORDS: [(&'static str, Self); 4] =
        [("s", Self::Seconds), ("ms", Self::Millis), ("epoch", Self::Epoch), ("epoch_ms", Self::EpochMillis)];
}
