//! Kinds that are accounts of their own: a GitHub App, a Google service account, a workload, a key that signs tokens.

use std::time::Duration;

use http::header;
use jsonwebtoken::Algorithm;

use super::{
    Keys, Values,
    client::ALGORITHMS,
    grants::{ASSERTION_LIFETIME, JWT},
};
use crate::{
    decide::files::{
        reader,
        yaml::{Key, Node},
    },
    fetch::FetchUrl,
    plan::{
        AnswerShape, Assertion, Half, How, JsonPath, JsonTemplate, Owned, PrivateReach, Recipe, Step,
        StepBody, Template,
    },
};

/// For servers whose clock is behind ours.
const BACKDATE: Duration = Duration::from_secs(60);
/// The scope that stands for all of Google's cloud.
const PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// On this machine itself only where the URL names it, which is for tests.
fn reach_of(url: &FetchUrl) -> PrivateReach {
    if url.is_loopback() { PrivateReach::Anywhere } else { PrivateReach::Nowhere }
}

fn parsed(template: &str) -> Template {
    Template::parse(template).unwrap_or_else(|_| Template::text(""))
}

fn text(text: &str) -> JsonTemplate {
    JsonTemplate::Text(Template::text(text))
}

fn at(path: &str) -> Box<[JsonPath]> {
    JsonPath::parse(path).into_iter().collect()
}

fn minted(values: Values, assertions: Vec<(Box<str>, Assertion)>, steps: Vec<Step>, owner: Owned) -> How {
    How::Minted(Box::new(Recipe {
        values: values.into(),
        assertions: assertions.into(),
        steps: steps.into(),
        certificate: None,
        owner,
        ahead: None,
    }))
}

impl Keys<'_, '_> {
    /// RS256, and `POST /app/installations/ID/access_tokens`.
    pub(super) fn github_app(&mut self) -> Option<How> {
        let (app, installation) = (self.number("app_id"), self.number("installation_id"));
        let private_key = self.reference("private_key");
        let (repositories, permissions) = (self.texts("repositories"), self.permissions());
        let api = self.text("api_url").unwrap_or_else(|| "https://api.github.com".to_owned());
        let url = format!("{}/app/installations/{}/access_tokens", api.trim_end_matches('/'), installation?);
        let url = self.parse_url(&url, self.node.span, "api_url")?;
        let assertion = Assertion {
            algorithm: Algorithm::RS256,
            key: Template::name("private_key"),
            key_id: None,
            thumbprint: None,
            claims: Box::new([("iss".into(), text(&app?.to_string()))]),
            lifetime: Duration::from_secs(540),
            backdate: BACKDATE,
            jti: false,
        };
        let mut body: Vec<(Box<str>, JsonTemplate)> = Vec::new();
        if !repositories.is_empty() {
            let items = repositories.iter().map(|name| text(name));
            body.push(("repositories".into(), JsonTemplate::List(items.collect())));
        }
        if !permissions.is_empty() {
            let members = permissions.into_iter().map(|(name, level)| (name, text(level)));
            body.push(("permissions".into(), JsonTemplate::Object(members.collect())));
        }
        let step = Step {
            method: http::Method::POST,
            private: self.private(),
            url,
            headers: Box::new([
                (header::ACCEPT, Template::text("application/vnd.github+json")),
                (header::AUTHORIZATION, parsed("Bearer {app_token}")),
                (http::HeaderName::from_static("x-github-api-version"), Template::text("2022-11-28")),
            ]),
            query: Box::default(),
            body: StepBody::Json(JsonTemplate::Object(body.into())),
            answer: AnswerShape {
                access_token: at("token"),
                expires_at: at("expires_at"),
                lifetime: Some(Duration::from_secs(3600)),
                ..AnswerShape::default()
            },
            errors: Box::default(),
        };
        let values = vec![("private_key".into(), Half::Secret(private_key?))];
        Some(minted(values, vec![("app_token".into(), assertion)], vec![step], Owned::Integration))
    }

    fn permissions(&mut self) -> Vec<(Box<str>, &'static str)> {
        let Some(node) = self.fields.get("permissions") else { return Vec::new() };
        let levels = [("read", "read"), ("write", "write"), ("admin", "admin")];
        let entries = reader::mapping(node, "`permissions`", self.findings).unwrap_or_default();
        let permission = |(key, value): (&Key, &Node)| {
            let level = reader::word(value, "a permission", &levels, self.findings)?;
            Some((key.text.as_str().into(), level))
        };
        entries.into_iter().filter_map(permission).collect()
    }

    /// The key file says who it is; the provider says where tokens are issued, never the file.
    pub(super) fn service_account(&mut self) -> Option<How> {
        let (key, scopes, subject) = (self.reference("key"), self.texts("scopes"), self.text("subject"));
        let provider = if self.has("provider") {
            self.provider("provider")
        } else {
            self.around.providers.known("google")
        };
        let Some(provider) = provider else { return self.undescribed("provider") };
        let url = self.filled(&provider.token_url, "token_url")?;
        let issuer = || JsonTemplate::Text(parsed("{json(key, 'client_email')}"));
        let scope = if scopes.is_empty() { PLATFORM.to_owned() } else { scopes.join(" ") };
        let mut claims: Vec<(Box<str>, JsonTemplate)> = vec![
            ("iss".into(), issuer()),
            ("aud".into(), text(&url.to_string())),
            ("scope".into(), text(&scope)),
        ];
        claims.push(("sub".into(), subject.map_or_else(issuer, |subject| text(&subject))));
        let assertion = Assertion {
            algorithm: Algorithm::RS256,
            key: parsed("{json(key, 'private_key')}"),
            key_id: Some(parsed("{json(key, 'private_key_id')}")),
            thumbprint: None,
            claims: claims.into(),
            lifetime: Duration::from_secs(3600),
            backdate: Duration::ZERO,
            jti: false,
        };
        let params = vec![
            ("grant_type".into(), Template::text("urn:ietf:params:oauth:grant-type:jwt-bearer")),
            ("assertion".into(), Template::name("assertion")),
        ];
        let step = provider.step(url, params, &[]);
        let values = vec![("key".into(), Half::Secret(key?))];
        Some(minted(values, vec![("assertion".into(), assertion)], vec![step], Owned::Integration))
    }

    /// Another issuer's token for one of the token service, and that for a service account's.
    pub(super) fn workload_identity(&mut self) -> Option<How> {
        let (audience, token) = (self.text("audience"), self.reference("token"));
        let (token_type, scopes) = (self.text("token_type"), self.texts("scopes"));
        let account = self.text("service_account");
        let (sts, impersonate) = (self.text("token_url"), self.text("impersonate_url"));
        let sts = sts.unwrap_or_else(|| "https://sts.googleapis.com/v1/token".to_owned());
        let sts = self.parse_url(&sts, self.node.span, "token_url")?;
        let scopes = if scopes.is_empty() { vec![PLATFORM.to_owned()] } else { scopes };
        let owner = if self.has("token") { Owned::Integration } else { Owned::Caller };
        let subject = if owner == Owned::Caller { "caller_token" } else { "subject_token" };
        // A service account's token is narrowed where it is issued.
        let scope = if account.is_some() { PLATFORM.to_owned() } else { scopes.join(" ") };
        let constant = |name: &str, value: &str| (Box::from(name), Template::text(value));
        let exchange = StepBody::Form(Box::new([
            constant("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            constant("audience", &audience?),
            constant("scope", &scope),
            constant("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            constant("subject_token_type", token_type.as_deref().unwrap_or(JWT)),
            ("subject_token".into(), Template::name(subject)),
        ]));
        let federated: Box<str> = "federated_token".into();
        let keep = JsonPath::parse("access_token").map(|path| (federated, path)).into_iter().collect();
        let step = |url: FetchUrl, private, headers, body, answer| Step {
            method: http::Method::POST,
            url,
            private,
            headers,
            query: Box::default(),
            body,
            answer,
            errors: Box::default(),
        };
        let accept = (header::ACCEPT, Template::text("application/json"));
        let answer = AnswerShape { keep, ..AnswerShape::default() };
        let reach = reach_of(&sts);
        let mut steps = vec![step(sts, reach, Box::new([accept.clone()]), exchange, answer)];
        if let Some(account) = account {
            let url = impersonate.unwrap_or_else(|| "https://iamcredentials.googleapis.com".to_owned());
            let url = format!(
                "{}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
                url.trim_end_matches('/')
            );
            let url = self.parse_url(&url, self.node.span, "service_account")?;
            let body = JsonTemplate::Object(Box::new([
                ("scope".into(), JsonTemplate::List(scopes.iter().map(|scope| text(scope)).collect())),
                ("lifetime".into(), text("3600s")),
            ]));
            let answer = AnswerShape {
                access_token: at("accessToken"),
                expires_at: at("expireTime"),
                ..AnswerShape::default()
            };
            let bearer = (header::AUTHORIZATION, parsed("Bearer {federated_token}"));
            steps.push(step(
                url.clone(),
                reach_of(&url),
                Box::new([accept, bearer]),
                StepBody::Json(body),
                answer,
            ));
        }
        let values: Values = match owner {
            Owned::Caller => Vec::new(),
            Owned::Integration => vec![("subject_token".into(), Half::Secret(token?))],
        };
        Some(minted(values, Vec::new(), steps, owner))
    }

    /// A token that is signed here and sent as it is.
    pub(super) fn jwt(&mut self) -> Option<How> {
        let (private_key, secret) = (self.reference("private_key"), self.reference("secret"));
        let form = self.word(
            "secret_form",
            &[("text", "{key}"), ("hex", "{unhex(key)}"), ("base64", "{unbase64(key)}")],
        );
        let names = ["key"];
        let mut claims: Vec<(Box<str>, JsonTemplate)> = Vec::new();
        for (claim, key) in [("iss", "issuer"), ("sub", "subject"), ("aud", "audience")] {
            let node = self.fields.get(key);
            let value = node.and_then(|node| super::template(node, &names, self.findings));
            claims.extend(value.map(|value| (claim.into(), JsonTemplate::Text(value))));
        }
        let further = self.fields.get("claims");
        let further = self.templates(further, "`claims`", &names);
        claims.extend(further.into_iter().map(|(name, value)| (name, JsonTemplate::Text(value))));
        let (key_id, algorithm) = (self.text("key_id"), self.word("algorithm", &ALGORITHMS));
        let lifetime = self.duration("lifetime");
        let usual = if self.has("secret") { Algorithm::HS256 } else { Algorithm::RS256 };
        let assertion = Assertion {
            algorithm: algorithm.unwrap_or(usual),
            key: parsed(form.unwrap_or("{key}")),
            key_id: key_id.as_deref().map(Template::text),
            thumbprint: None,
            claims: claims.into(),
            lifetime: lifetime.unwrap_or(ASSERTION_LIFETIME),
            backdate: Duration::ZERO,
            jti: false,
        };
        let values = vec![("key".into(), Half::Secret(private_key.or(secret)?))];
        Some(minted(values, vec![("token".into(), assertion)], Vec::new(), Owned::Integration))
    }
}
