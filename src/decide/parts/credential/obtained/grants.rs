//! Kinds that are grants of OAuth: a person's, the client's own, an assertion's, an exchange.

use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::{
    Keys, Params,
    client::{ALGORITHMS, Client},
    joined,
};
use crate::plan::{
    Ask, Assertion, Authorization, Half, How, JsonTemplate, Owned, Provider, Recipe, Step, Template,
};

/// How long an assertion is good that is exchanged for a token (RFC 7523 §3).
pub(super) const ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn constant(name: &str, value: &str) -> (Box<str>, Template) {
    (name.into(), Template::text(value))
}

fn named(name: &str) -> (Box<str>, Template) {
    (name.into(), Template::name(name))
}

// All keys are read before the first `?`, so that every mistake is reported.
impl Keys<'_, '_> {
    pub(super) fn oauth(&mut self) -> Option<How> {
        let scopes = self.texts("scopes");
        let provider = self.provider("provider");
        let described = provider.is_some();
        let provider = provider.unwrap_or_else(|| Provider::at("https://provider.invalid/").into());
        let client = self.client(
            &provider,
            &provider.token_url,
            Some(&provider.name).filter(|n| !n.is_empty()).map(|n| &**n),
        );
        if !described {
            return self.has("provider").then(|| How::Undescribed(self.said("provider")));
        }
        let token = self.filled(&provider.token_url, "token_url");
        let refresh = provider
            .refresh_url
            .as_deref()
            .map_or_else(|| token.clone(), |url| self.filled(url, "refresh_url"));
        let device = provider.device_url.as_deref().map(|url| self.filled(url, "device_url"));
        let revoke = provider.revoke_url.as_deref().map(|url| self.filled(url, "revoke_url"));
        let ask = provider.authorize_url.as_deref().map(|url| self.fill(url));
        let (token, refresh) = (token?, refresh?);
        let (device, revoke, ask) = (
            device.map_or(Some(None), |url| url.map(Some))?,
            revoke.map_or(Some(None), |url| url.map(Some))?,
            ask.map_or(Some(None), |url| url.map(Some))?,
        );
        let request = |url, grant: Params, own: &[(Box<str>, Template)]| {
            let params = Provider::constants(&provider.token_params)
                .chain(own.iter().cloned())
                .chain(grant)
                .chain(client.params.iter().cloned());
            provider.step(url, joined(params), &client.headers)
        };
        let mut redeem =
            vec![constant("grant_type", "authorization_code"), named("code"), named("redirect_uri")];
        if provider.pkce {
            redeem.push(named("code_verifier"));
        }
        let poll = vec![constant("grant_type", DEVICE_CODE), named("device_code")];
        let renew = if provider.rotation == crate::plan::Rotation::AccessExchange {
            vec![named("access_token")]
        } else {
            vec![constant("grant_type", "refresh_token"), named("refresh_token")]
        };
        let is_asked = |scope: &String| provider.scopes.iter().any(|always| **always == **scope);
        let own_scopes = scopes.into_iter().filter(|scope| !is_asked(scope)).map(Into::into);
        // Both the refresh token and, where there is none, the access token go by one name (RFC 7009 §2.1).
        let give_back = vec![("token".into(), Template::name("revoked_token"))];
        Some(How::Authorized(Box::new(Authorization {
            provider: provider.name.clone(),
            ask: ask.map(|url| Ask {
                url: url.into(),
                params: provider.authorize_params.clone(),
                scope_param: provider.scope_param.clone(),
                pkce: provider.pkce,
            }),
            device: device.map(|url| device_step(&provider, url, &client)),
            redeem: request(token.clone(), redeem, &[]),
            poll: request(token, poll, &[]),
            refresh: request(refresh, renew, &provider.refresh_params),
            revoke: revoke.map(|url| request(url, give_back, &[])),
            recipe: recipe(client, Vec::new(), Owned::Integration, &provider),
            scopes: provider.scopes.iter().cloned().chain(own_scopes).collect(),
            scope_separator: provider.scope_separator.clone(),
            rotation: provider.rotation,
            reuse_grace: provider.reuse_grace,
        })))
    }

    pub(super) fn client_credentials(&mut self) -> Option<How> {
        let (scopes, params) = (self.texts("scopes"), self.params("params"));
        let (audience, resource) = (self.text("audience"), self.text("resource"));
        let grant_type = self.text("grant_type").unwrap_or_else(|| "client_credentials".to_owned());
        let Some(provider) = self.issuer("provider") else { return self.undescribed("provider") };
        let client = self.client(&provider, &provider.token_url, None);
        let url = self.filled(&provider.token_url, "token_url")?;
        let grant = [constant("grant_type", &grant_type)]
            .into_iter()
            .chain(provider.scopes(&scopes))
            .chain(audience.map(|text| constant("audience", &text)))
            .chain(resource.map(|text| constant("resource", &text)))
            .chain(params);
        let step = token_request(&provider, url, grant, &client);
        Some(How::Minted(Box::new(recipe(client, vec![step], Owned::Integration, &provider))))
    }

    pub(super) fn jwt_bearer(&mut self) -> Option<How> {
        let (scopes, params) = (self.texts("scopes"), self.params("params"));
        let (issuer, subject, audience) = (self.text("issuer"), self.text("subject"), self.text("audience"));
        let (private_key, given) = (self.reference("private_key"), self.reference("assertion"));
        let (key_id, algorithm) = (self.text("key_id"), self.word("algorithm", &ALGORITHMS));
        let (lifetime, claims) = (self.duration("lifetime"), self.claims());
        let Some(provider) = self.issuer("provider") else { return self.undescribed("provider") };
        let mut client = self.client(&provider, &provider.token_url, None);
        let url = self.filled(&provider.token_url, "token_url")?;
        if let Some(given) = given {
            client.values.push(("assertion".into(), Half::Secret(given)));
        } else {
            let Some(issuer) = issuer else {
                if !self.has("issuer") {
                    self.findings
                        .report(self.node.span, "`jwt_bearer` has no `issuer`")
                        .hint("an assertion that is signed says who made it");
                }
                return None;
            };
            client.values.push(("signing_key".into(), Half::Secret(private_key?)));
            let audience = audience.unwrap_or_else(|| url.to_string());
            let mut all =
                vec![("iss", issuer.clone()), ("sub", subject.unwrap_or(issuer)), ("aud", audience)];
            if !scopes.is_empty() {
                all.push(("scope", scopes.join(&provider.scope_separator)));
            }
            let fixed =
                all.into_iter().map(|(name, text)| (name.into(), JsonTemplate::Text(Template::text(&text))));
            client.assertions.push((
                "assertion".into(),
                Assertion {
                    algorithm: algorithm.unwrap_or(Algorithm::RS256),
                    key: Template::name("signing_key"),
                    key_id: key_id.as_deref().map(Template::text),
                    thumbprint: None,
                    claims: fixed.chain(claims).collect(),
                    lifetime: lifetime.unwrap_or(ASSERTION_LIFETIME),
                    backdate: Duration::ZERO,
                    jti: true,
                },
            ));
        }
        let grant = [constant("grant_type", JWT_BEARER), named("assertion")]
            .into_iter()
            .chain(provider.scopes(&scopes))
            .chain(params);
        let step = token_request(&provider, url, grant, &client);
        Some(How::Minted(Box::new(recipe(client, vec![step], Owned::Integration, &provider))))
    }

    pub(super) fn token_exchange(&mut self) -> Option<How> {
        let (scopes, params) = (self.texts("scopes"), self.params("params"));
        let (audience, resource) = (self.text("audience"), self.text("resource"));
        let (subject, subject_type) = (self.reference("subject_token"), self.text("subject_token_type"));
        let (actor, actor_type) = (self.reference("actor_token"), self.text("actor_token_type"));
        let (requested, on_behalf_of) = (self.text("requested_token_type"), self.flag("on_behalf_of"));
        let Some(provider) = self.issuer("idp") else { return self.undescribed("idp") };
        let mut client = self.client(&provider, &provider.token_url, None);
        let url = self.filled(&provider.token_url, "token_url")?;
        let owner = if self.has("subject_token") { Owned::Integration } else { Owned::Caller };
        let token = match owner {
            Owned::Caller => Template::name("caller_token"),
            Owned::Integration => {
                client.values.push(("subject_token".into(), Half::Secret(subject?)));
                Template::name("subject_token")
            }
        };
        let mut grant = if on_behalf_of {
            vec![
                constant("grant_type", JWT_BEARER),
                ("assertion".into(), token),
                constant("requested_token_use", "on_behalf_of"),
            ]
        } else {
            vec![
                constant("grant_type", TOKEN_EXCHANGE),
                ("subject_token".into(), token),
                constant("subject_token_type", subject_type.as_deref().unwrap_or(JWT)),
            ]
        };
        if let Some(actor) = actor {
            client.values.push(("actor_token".into(), Half::Secret(actor)));
            grant.extend([
                named("actor_token"),
                constant("actor_token_type", actor_type.as_deref().unwrap_or(JWT)),
            ]);
        }
        grant.extend(audience.map(|text| constant("audience", &text)));
        grant.extend(resource.map(|text| constant("resource", &text)));
        grant.extend(requested.map(|text| constant("requested_token_type", &text)));
        grant.extend(provider.scopes(&scopes));
        grant.extend(params);
        let step = token_request(&provider, url, grant, &client);
        Some(How::Minted(Box::new(recipe(client, vec![step], owner, &provider))))
    }

    /// A provider that is named and not described: the policy loads, and requests are refused until it is.
    pub(super) fn undescribed(&self, key: &str) -> Option<How> {
        self.has(key).then(|| How::Undescribed(self.said(key)))
    }

    fn said(&self, key: &str) -> Box<str> {
        self.fields.get(key).and_then(|node| node.as_text()).unwrap_or_default().into()
    }

    /// Further claims, without secrets.
    pub(super) fn claims(&mut self) -> Vec<(Box<str>, JsonTemplate)> {
        self.params("claims").into_iter().map(|(name, value)| (name, JsonTemplate::Text(value))).collect()
    }
}

fn token_request(
    provider: &Provider,
    url: crate::fetch::FetchUrl,
    grant: impl IntoIterator<Item = (Box<str>, Template)>,
    client: &Client,
) -> Step {
    let params =
        Provider::constants(&provider.token_params).chain(grant).chain(client.params.iter().cloned());
    provider.step(url, joined(params), &client.headers)
}

fn device_step(provider: &Provider, url: crate::fetch::FetchUrl, client: &Client) -> Step {
    let scope = (provider.scope_param.clone(), Template::name("scope"));
    let params = [named("client_id"), scope].into_iter().chain(client.params.iter().cloned());
    provider.step(url, joined(params), &client.headers)
}

fn recipe(client: Client, steps: Vec<Step>, owner: Owned, provider: &Provider) -> Recipe {
    Recipe {
        values: client.values.into(),
        assertions: client.assertions.into(),
        steps: steps.into(),
        certificate: client.certificate,
        owner,
        ahead: provider.ahead,
    }
}
