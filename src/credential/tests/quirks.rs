//! What providers do in their own ways, and that the catalogue knows it: every policy here names a service and a
//! provider, and nothing else.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    super::{
        failure::{Failure, Seen, Verdict},
        step,
        usage::{Consequence, Usage},
    },
    minted::{carried, engine, key, work},
    nowhere,
    provider::{Asked, Provider},
    settings, stored_in,
};
use crate::{
    context::TenantId,
    decide::test_plan,
    fetch::Answer,
    plan::{CredentialSpec, ErrorClass, How, Obtained, Plan, Step},
    secret::Secret,
    store::{Connection, Facts, SecretName, Status, Store, Tokens},
};

use ErrorClass::{Expired, Interaction, Misconfigured, Other, RateLimited, Revoked, ScopeMissing, Transient};

fn spec(plan: &Plan) -> Arc<Obtained> {
    match plan.credential.as_ref().unwrap() {
        CredentialSpec::Obtained(obtained) => obtained.clone(),
        CredentialSpec::Static(_) => panic!("not obtained"),
    }
}

fn unix() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what it made up")]
fn text(secret: &Secret) -> String {
    String::from_utf8(secret.expose().to_vec()).unwrap()
}

/// A tenant that connected an integration a while ago. Its client is `id` with the secret `s3cret`, in the store.
struct Connected {
    dir: tempfile::TempDir,
    store: Store,
    plan: Arc<Plan>,
}

/// A connection whose token has ended.
async fn connected(integration: &str) -> Connected {
    let ended = Facts { expires_at: Some(unix() - 1), renew_at: Some(unix() - 1), scopes: "a b".to_owned() };
    connected_with(integration, Some("r0"), ended).await
}

async fn connected_with(integration: &str, refresh_token: Option<&str>, facts: Facts) -> Connected {
    let plan = test_plan(integration);
    let obtained = spec(&plan);
    let How::Authorized(how) = &obtained.how else { panic!("not agreed to") };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&settings(dir.path())).await.unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    for (name, value) in [("client-id", "id"), ("client-secret", "s3cret")] {
        let name = SecretName::parse(&format!("{}-{name}", how.provider)).unwrap();
        store.set_secret(&tenant, &name, &secret(value)).await.unwrap();
    }
    let tokens =
        Tokens { access_token: secret("a0"), refresh_token: refresh_token.map(secret), kept: Vec::new() };
    store.connect(&key(), &tokens, &facts).await.unwrap();
    Connected { dir, store, plan }
}

impl Connected {
    /// What a request carries, when the provider answers so.
    async fn carried(&self, provider: &Arc<Provider>) -> Result<HeaderMap, String> {
        let engine = engine(provider, stored_in(self.dir.path()));
        carried(&engine, work(&spec(&self.plan))).await.map(|(headers, _)| headers)
    }

    async fn row(&self) -> Connection {
        self.store.connection(&key()).await.unwrap().unwrap()
    }

    /// The refresh token that is kept.
    async fn refresh_token(&self) -> Option<String> {
        self.row().await.tokens.refresh_token.as_ref().map(text)
    }
}

/// What a provider was asked for a refresh, and the header that a request carries then.
async fn refreshed(integration: &str, answer: &Value) -> (Connected, Asked, HeaderMap) {
    let connected = connected(integration).await;
    let provider = Arc::new(Provider::default());
    provider.tells(answer);
    let headers = connected.carried(&provider).await.unwrap();
    let asked = provider.asked();
    assert_eq!(asked.len(), 1, "{integration}");
    (connected, asked.into_iter().next().unwrap(), headers)
}

/// `service: S, credential: {oauth: {provider: P}}`.
fn oauth(service: &str, provider: &str) -> String {
    format!("{{service: {service}, credential: {{oauth: {{provider: {provider}}}}}}}")
}

/// The same, where hosts have a variable.
fn oauth_at(service: &str, provider: &str, vars: &str) -> String {
    format!("{{service: {service}, vars: {vars}, credential: {{oauth: {{provider: {provider}}}}}}}")
}

/// The tenant is the provider's alone.
fn microsoft(tenant: &str) -> String {
    format!(
        "{{service: microsoft-graph, credential: {{oauth: {{provider: microsoft, vars: {{tenant: {tenant}}}}}}}}}"
    )
}

fn pair() -> Value {
    json!({"access_token": "a1", "refresh_token": "r1", "expires_in": 3600})
}

/// How each provider is asked for another token: where, by which client, with which parameters. `B` is Basic.
#[tokio::test]
async fn a_refresh_is_asked_for_as_each_provider_wants_it() {
    const POST: &str = "client_id=id&client_secret=s3cret";
    let refresh = "grant_type=refresh_token&refresh_token=r0";
    for (integration, url, client, params, attached) in [
        (oauth("airtable", "airtable"), "https://airtable.com/oauth2/v1/token", "Basic aWQ6czNjcmV0", "", ""),
        (oauth("asana", "asana"), "https://app.asana.com/-/oauth_token", POST, "", ""),
        (oauth("discord", "discord"), "https://discord.com/api/oauth2/token", "Basic aWQ6czNjcmV0", "", ""),
        (oauth("dropbox", "dropbox"), "https://api.dropboxapi.com/oauth2/token", POST, "", ""),
        (oauth("figma", "figma"), "https://api.figma.com/v1/oauth/refresh", "Basic aWQ6czNjcmV0", "", ""),
        (oauth("github", "github"), "https://github.com/login/oauth/access_token", POST, "", ""),
        (
            oauth("github-git", "github"),
            "https://github.com/login/oauth/access_token",
            POST,
            "",
            "Basic eC1hY2Nlc3MtdG9rZW46YTE=",
        ),
        (
            oauth_at("gitlab", "gitlab", "{host: \"git.acme.example:8443\"}"),
            "https://git.acme.example:8443/oauth/token",
            POST,
            "",
            "",
        ),
        (
            oauth_at("gitlab-git", "gitlab", "{host: gitlab.com}"),
            "https://gitlab.com/oauth/token",
            POST,
            "",
            "Basic b2F1dGgyOmEx",
        ),
        (oauth("gmail", "google"), "https://oauth2.googleapis.com/token", POST, "", ""),
        (oauth("hubspot", "hubspot"), "https://api.hubapi.com/oauth/2026-03/token", POST, "", ""),
        (oauth("linear", "linear"), "https://api.linear.app/oauth/token", POST, "", ""),
        (
            microsoft("acme.example"),
            "https://login.microsoftonline.com/acme.example/oauth2/v2.0/token",
            POST,
            "&scope=a+b+offline_access",
            "",
        ),
        (
            oauth_at("okta", "okta", "{host: acme.okta.com}"),
            "https://acme.okta.com/oauth2/v1/token",
            POST,
            "",
            "",
        ),
        (oauth("pagerduty", "pagerduty"), "https://app.pagerduty.com/oauth/token", POST, "", ""),
        (
            oauth_at("salesforce", "salesforce", "{host: acme.my.salesforce.com}"),
            "https://acme.my.salesforce.com/services/oauth2/token",
            POST,
            "",
            "",
        ),
        (oauth("sentry", "sentry"), "https://sentry.io/oauth/token/", POST, "", ""),
        (
            oauth_at("shopify", "shopify", "{shop: acme}"),
            "https://acme.myshopify.com/admin/oauth/access_token",
            POST,
            "expiring=1&",
            "X-Shopify-Access-Token",
        ),
        (
            oauth_at("snowflake", "snowflake", "{account: acme-one}"),
            "https://acme-one.snowflakecomputing.com/oauth/token-request",
            "Basic aWQ6czNjcmV0",
            "",
            "",
        ),
        (oauth("stripe", "stripe"), "https://api.stripe.com/v1/oauth/token", "Basic czNjcmV0Og==", "", ""),
        (
            oauth("supabase-management", "supabase"),
            "https://api.supabase.com/v1/oauth/token",
            "Basic aWQ6czNjcmV0",
            "",
            "",
        ),
        (
            oauth_at("zendesk", "zendesk", "{subdomain: acme}"),
            "https://acme.zendesk.com/oauth/tokens",
            POST,
            "expires_in=1800&",
            "",
        ),
        (oauth("zoom", "zoom"), "https://zoom.us/oauth/token", "Basic aWQ6czNjcmV0", "", ""),
    ] {
        let (connected, asked, headers) = refreshed(&integration, &pair()).await;
        assert_eq!(asked.url, url, "{integration}");
        let (before, after) = if params.starts_with('&') { ("", params) } else { (params, "") };
        let basic = asked.headers.get("authorization").map(|value| value.to_str().unwrap());
        let expected = if client == POST {
            assert_eq!(basic, None, "{integration}");
            let scope = if before.is_empty() { after } else { "" };
            match scope {
                "" => format!("{before}{refresh}&{client}"),
                scope => format!("{}&{refresh}&{client}", scope.trim_start_matches('&')),
            }
        } else {
            assert_eq!(basic, Some(client), "{integration}");
            format!("{before}{refresh}")
        };
        assert_eq!(asked.body, expected, "{integration}");
        match attached {
            "" => assert_eq!(headers["authorization"], "Bearer a1", "{integration}"),
            "X-Shopify-Access-Token" => {
                assert_eq!(
                    (headers.get("authorization"), &headers[attached]),
                    (None, &"a1".parse().unwrap())
                );
            }
            basic => assert_eq!(headers["authorization"], basic, "{integration}"),
        }
        assert_eq!(connected.refresh_token().await.as_deref(), Some("r1"), "{integration}");
    }
}

#[tokio::test]
async fn some_want_json() {
    let (_, asked, _) = refreshed(&oauth("atlassian", "atlassian"), &pair()).await;
    assert_eq!(asked.url, "https://auth.atlassian.com/oauth/token");
    let client = json!({"client_id": "id", "client_secret": "s3cret", "grant_type": "refresh_token", "refresh_token": "r0"});
    assert_eq!((asked.json(), asked.headers.get("authorization")), (client, None));

    let answer = json!({"access_token": "a1", "refresh_token": "r1", "workspace_id": "w-1"});
    let (notion, asked, headers) = refreshed(&oauth("notion", "notion"), &answer).await;
    assert_eq!(asked.url, "https://api.notion.com/v1/oauth/token");
    assert_eq!(asked.json(), json!({"grant_type": "refresh_token", "refresh_token": "r0"}));
    assert_eq!(asked.headers["authorization"], "Basic aWQ6czNjcmV0");
    assert_eq!(headers["authorization"], "Bearer a1");
    let row = notion.row().await;
    assert_eq!(text(&row.tokens.refresh_token.unwrap()), "r1");
    assert_eq!(
        row.tokens.kept.iter().map(|(name, kept)| (&**name, text(kept))).collect::<Vec<_>>(),
        [("workspace_id", "w-1".to_owned())]
    );
}

#[tokio::test]
async fn a_refresh_token_that_is_not_issued_again_is_kept() {
    for (service, provider) in [("gmail", "google"), ("figma", "figma"), ("dropbox", "dropbox")] {
        let (connected, ..) =
            refreshed(&oauth(service, provider), &json!({"access_token": "a1", "expires_in": 3599})).await;
        assert_eq!(connected.refresh_token().await.as_deref(), Some("r0"), "{provider}");
    }
}

#[tokio::test]
async fn an_end_that_is_not_told_is_known() {
    let answer = json!({"access_token": "a1", "refresh_token": "r1", "instance_url": "https://acme.my.salesforce.com"});
    for (integration, life) in [
        (oauth_at("salesforce", "salesforce", "{host: acme.my.salesforce.com}"), Some(7200)),
        (oauth_at("gitlab", "gitlab", "{host: gitlab.com}"), Some(7200)),
        (oauth("stripe", "stripe"), Some(3600)),
        (oauth("github", "github"), None),
    ] {
        let (connected, ..) = refreshed(&integration, &answer).await;
        let row = connected.row().await;
        let left = row.facts.expires_at.map(|ends| ends - unix());
        let is_near = |left: i64, life: i64| (life - 5..=life).contains(&left);
        assert!(
            left.zip(life).map_or(left == life, |(left, life)| is_near(left, life)),
            "{integration}: {left:?}"
        );
        let kept =
            row.tokens.kept.iter().map(|(name, kept)| (name.to_string(), text(kept))).collect::<Vec<_>>();
        let instance = ("instance_url".to_owned(), "https://acme.my.salesforce.com".to_owned());
        let expected = if integration.contains("salesforce") { vec![instance] } else { Vec::new() };
        assert_eq!(kept, expected, "{integration}");
    }
}

#[tokio::test]
async fn slack_has_two_tokens_in_one_answer_and_they_are_not_mixed() {
    let bot = json!({"access_token": "xoxe.xoxb-1", "refresh_token": "xoxe-1-bot", "expires_in": 43200, "token_type": "bot"});
    let person = json!({"id": "U1", "access_token": "xoxe.xoxp-1", "refresh_token": "xoxe-1-user", "expires_in": 43200});
    let both = |mut answer: Value, user: Value| {
        answer["ok"] = true.into();
        answer["team"] = json!({"id": "T1"});
        answer["scope"] = "chat:write,users:read".into();
        answer["authed_user"] = user;
        answer
    };
    let nothing = || json!({});
    for (provider, answer, token, refresh) in [
        ("slack", both(bot.clone(), person.clone()), "xoxe.xoxb-1", "xoxe-1-bot"),
        ("slack", both(bot.clone(), json!({"id": "U1"})), "xoxe.xoxb-1", "xoxe-1-bot"),
        ("slack", both(nothing(), person.clone()), "xoxe.xoxp-1", "xoxe-1-user"),
        ("slack-user", both(bot.clone(), person.clone()), "xoxe.xoxp-1", "xoxe-1-user"),
        ("slack-user", both(bot.clone(), json!({"id": "U1"})), "xoxe.xoxb-1", "xoxe-1-bot"),
    ] {
        let (connected, asked, headers) = refreshed(&oauth("slack", provider), &answer).await;
        assert_eq!(headers["authorization"].to_str().unwrap(), format!("Bearer {token}"), "{provider}");
        assert_eq!(connected.refresh_token().await.as_deref(), Some(refresh), "{provider}");
        assert_eq!(asked.body, "grant_type=refresh_token&refresh_token=r0&client_id=id&client_secret=s3cret");
        let row = connected.row().await;
        assert_eq!((row.tokens.kept.len(), row.facts.scopes.as_str()), (1, "chat:write users:read"));
        // Two hours before its end, as Slack's own clients do, or a little earlier.
        let ahead = row.facts.expires_at.unwrap() - row.facts.renew_at.unwrap();
        assert!((7200..10800).contains(&ahead), "{ahead}");
    }
}

#[tokio::test]
async fn a_single_use_token_that_brings_no_successor_ends_with_the_token() {
    let atlassian = connected(&oauth("atlassian", "atlassian")).await;
    let provider = Arc::new(Provider::default());
    provider.tells(&json!({"access_token": "a1", "expires_in": 0}));
    provider.refuses(
        403,
        &json!({"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}),
    );
    atlassian.carried(&provider).await.unwrap();
    assert_eq!(atlassian.carried(&provider).await.unwrap_err(), "auth_revoked ");
    assert_eq!(provider.asked()[1].json()["refresh_token"], "r0");
    assert_eq!(atlassian.row().await.status, Status::Revoked);
    atlassian.carried(&provider).await.unwrap_err();
    assert_eq!(provider.asked().len(), 2, "what is dead is not sent again");
}

#[tokio::test]
async fn where_nothing_can_be_refreshed_a_token_that_is_refused_was_taken_back() {
    let intercom = connected_with(&oauth("intercom", "intercom"), None, Facts::default()).await;
    let provider = Arc::new(Provider::default());
    let engine = engine(&provider, stored_in(intercom.dir.path()));
    let mut usage = Usage::of_token(engine, work(&spec(&intercom.plan))).await.unwrap();
    let (rules, none) = (&intercom.plan.service.errors, HeaderMap::new());
    let refused = usage.judge(rules, StatusCode::UNAUTHORIZED, &none, None).await;
    assert!(matches!(refused, Consequence::Renew));
    let reason = usage.renew(&mut HeaderMap::new(), "/me", None).await.unwrap_err();
    assert_eq!(reason.facts().code, "auth_revoked");
    assert_eq!(intercom.row().await.status, Status::Revoked);
    assert!(provider.asked().is_empty());

    // It is told twice, under two names.
    let answer = answer(200, &[], &json!({"token": "t1", "token_type": "Bearer"}));
    let token = step::understand(&redeem(&intercom.plan), &answer).ok().unwrap().access_token.unwrap();
    assert_eq!(text(&token), "t1");
}

/// Where a person is sent, and for what.
#[test]
fn a_person_is_asked_for_what_the_provider_needs() {
    for (integration, url, scopes, params, separator, pkce) in [
        (
            oauth("atlassian", "atlassian"),
            "https://auth.atlassian.com/authorize",
            &["offline_access"][..],
            "audience=api.atlassian.com prompt=consent",
            " ",
            true,
        ),
        (
            microsoft("common"),
            "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
            &["offline_access"],
            "",
            " ",
            true,
        ),
        (
            oauth("notion", "notion"),
            "https://api.notion.com/v1/oauth/authorize",
            &[],
            "owner=user",
            " ",
            true,
        ),
        (
            oauth("gmail", "google"),
            "https://accounts.google.com/o/oauth2/v2/auth",
            &[],
            "access_type=offline prompt=consent",
            " ",
            true,
        ),
        (oauth("slack", "slack"), "https://slack.com/oauth/v2/authorize", &[], "", ",", false),
        (oauth("slack-mcp", "slack-user"), "https://slack.com/oauth/v2_user/authorize", &[], "", ",", true),
        (
            oauth("dropbox", "dropbox"),
            "https://www.dropbox.com/oauth2/authorize",
            &[],
            "token_access_type=offline",
            " ",
            true,
        ),
        (oauth("linear", "linear"), "https://linear.app/oauth/authorize", &[], "prompt=consent", ",", true),
        (
            oauth_at("salesforce", "salesforce", "{host: acme.my.salesforce.com}"),
            "https://acme.my.salesforce.com/services/oauth2/authorize",
            &["refresh_token"],
            "",
            " ",
            true,
        ),
    ] {
        let obtained = spec(&test_plan(&integration));
        let How::Authorized(how) = &obtained.how else { panic!("not agreed to") };
        let ask = how.ask.as_ref().unwrap();
        let said =
            ask.params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let asked: Vec<&str> = how.scopes.iter().map(|scope| &**scope).collect();
        assert_eq!((&*ask.url, asked.as_slice(), said.as_str()), (url, scopes, params), "{integration}");
        assert_eq!((&*how.scope_separator, ask.pkce), (separator, pkce), "{integration}");
    }
}

/// What a workload is asked for, and gets.
async fn minted(integration: &str, answers: &[Value]) -> (Vec<Asked>, HeaderMap) {
    let provider = Arc::new(Provider::default());
    for answer in answers {
        provider.tells(answer);
    }
    let engine = engine(&provider, nowhere());
    let (headers, _) = carried(&engine, work(&spec(&test_plan(integration)))).await.unwrap();
    (provider.asked(), headers)
}

const SECRET: &str = "env:CARGO_PKG_NAME"; // `egret`

fn key_file(dir: &tempfile::TempDir) -> String {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let path = dir.path().join("key.pem");
    std::fs::write(&path, key.serialize_pem()).unwrap();
    format!("file:{}", path.display())
}

#[tokio::test]
async fn zoom_has_a_grant_of_its_own_for_accounts() {
    let integration = format!(
        "{{service: zoom, credential: {{client_credentials: {{provider: zoom, grant_type: account_credentials, client_id: id, client_secret: \"{SECRET}\", params: {{account_id: A1}}}}}}}}"
    );
    let (asked, headers) = minted(&integration, &[json!({"access_token": "z", "expires_in": 3599})]).await;
    assert_eq!(
        (asked[0].url.as_str(), headers["authorization"].to_str().unwrap()),
        ("https://zoom.us/oauth/token", "Bearer z")
    );
    assert_eq!(asked[0].body, "grant_type=account_credentials&account_id=A1");
    assert_eq!(asked[0].headers["authorization"], "Basic aWQ6ZWdyZXQ=");
}

#[tokio::test]
async fn a_github_app_s_token_goes_where_git_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let integration = format!(
        "{{service: github-git, credential: {{github_app: {{app_id: 7, installation_id: 9, private_key: \"{}\"}}}}}}",
        key_file(&dir)
    );
    let answer =
        json!({"token": "ghs_x", "expires_at": "2999-01-01T00:00:00Z", "permissions": {"contents": "write"}});
    let (asked, headers) = minted(&integration, &[answer]).await;
    assert_eq!(asked[0].url, "https://api.github.com/app/installations/9/access_tokens");
    assert!(asked[0].headers["authorization"].to_str().unwrap().starts_with("Bearer ey"));
    assert_eq!(headers["authorization"], "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX3g=");
}

#[tokio::test]
async fn an_assertion_for_salesforce_needs_no_client() {
    let dir = tempfile::tempdir().unwrap();
    let integration = format!(
        "{{service: salesforce, vars: {{host: acme.my.salesforce.com}}, credential: {{jwt_bearer: {{provider: salesforce, issuer: 3MVG, subject: bot@acme.example, audience: \"https://test.salesforce.com\", lifetime: 3m, private_key: \"{}\", vars: {{host: test.salesforce.com}}}}}}}}",
        key_file(&dir)
    );
    let answer = json!({"access_token": "00D", "instance_url": "https://acme.my.salesforce.com"});
    let (asked, headers) = minted(&integration, &[answer]).await;
    assert_eq!(
        (asked[0].url.as_str(), &headers["authorization"]),
        ("https://test.salesforce.com/services/oauth2/token", &"Bearer 00D".parse().unwrap())
    );
    assert!(asked[0].form("client_id").is_none() && asked[0].headers.get("authorization").is_none());
    assert_eq!(asked[0].form("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:jwt-bearer"));
}

#[tokio::test]
async fn models_take_tokens_of_other_issuers() {
    let (asked, headers) = minted(
        &format!(
            "{{service: openai, credential: {{token_exchange: {{idp: openai, subject_token: \"{SECRET}\", params: {{identity_provider_id: idp_1, service_account_id: sa_1}}}}}}}}"
        ),
        &[json!({"access_token": "oa", "expires_in": 3600})],
    )
    .await;
    assert_eq!(
        (asked[0].url.as_str(), &headers["authorization"]),
        ("https://auth.openai.com/oauth/token", &"Bearer oa".parse().unwrap())
    );
    assert_eq!(
        asked[0].json(),
        json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": "egret",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "identity_provider_id": "idp_1",
            "service_account_id": "sa_1",
        })
    );

    let (asked, headers) = minted(
        &format!(
            "{{service: anthropic, credential: {{jwt_bearer: {{provider: anthropic, assertion: \"{SECRET}\", params: {{federation_rule_id: fr_1, organization_id: org_1}}, attach: {{bearer: \"{{token}}\", headers: {{anthropic-beta: oauth-2025-04-20}}}}}}}}}}"
        ),
        &[json!({"access_token": "an", "expires_in": 600})],
    )
    .await;
    assert_eq!(asked[0].url, "https://api.anthropic.com/v1/oauth/token");
    assert_eq!(asked[0].headers["anthropic-beta"], "oauth-2025-04-20,oidc-federation-2026-04-01");
    assert_eq!(
        asked[0].json(),
        json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": "egret",
            "federation_rule_id": "fr_1",
            "organization_id": "org_1",
        })
    );
    assert_eq!(
        (&headers["authorization"], &headers["anthropic-beta"]),
        (&"Bearer an".parse().unwrap(), &"oauth-2025-04-20".parse().unwrap())
    );
}

#[tokio::test]
async fn microsoft_takes_a_projected_token_for_a_client_and_a_caller_s_on_its_behalf() {
    let (asked, _) = minted(
        &format!(
            "{{service: microsoft-graph, credential: {{client_credentials: {{provider: microsoft, vars: {{tenant: t-1}}, client_id: id, assertion: \"{SECRET}\", scopes: [\"https://graph.microsoft.com/.default\"]}}}}}}"
        ),
        &[json!({"access_token": "m", "expires_in": 3599})],
    )
    .await;
    assert_eq!(asked[0].url, "https://login.microsoftonline.com/t-1/oauth2/v2.0/token");
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", "id"),
        ("client_assertion", "egret"),
        ("scope", "https://graph.microsoft.com/.default"),
    ] {
        assert_eq!(asked[0].form(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(asked[0].form("client_secret"), None);
    let (asked, _) = minted(
        &format!(
            "{{service: microsoft-graph, credential: {{token_exchange: {{idp: microsoft, vars: {{tenant: t-1}}, on_behalf_of: true, subject_token: \"{SECRET}\", client_id: id, client_secret: \"{SECRET}\", scopes: [User.Read]}}}}}}"
        ),
        &[json!({"access_token": "m", "expires_in": 3599})],
    )
    .await;
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "egret"),
        ("requested_token_use", "on_behalf_of"),
        ("client_secret", "egret"),
    ] {
        assert_eq!(asked[0].form(name).as_deref(), Some(value), "{name}");
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: &Value) -> Answer {
    let headers = headers.iter().map(|(name, value)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
    });
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: body.to_string().into(),
    }
}

fn authorization(plan: &Plan) -> Box<crate::plan::Authorization> {
    match spec(plan).how.clone() {
        How::Authorized(how) => how,
        _ => panic!("not agreed to"),
    }
}

fn redeem(plan: &Plan) -> Step {
    authorization(plan).redeem.clone()
}

#[test]
fn a_token_endpoint_s_error_means_what_the_provider_means() {
    #[rustfmt::skip]
    let cases = [
        (oauth("slack", "slack"), 200, json!({"ok": false, "error": "invalid_refresh_token"}), Revoked),
        (oauth("slack", "slack"), 200, json!({"ok": false, "error": "token_revoked", "access_token": "x"}), Revoked),
        (oauth("slack", "slack"), 400, json!({"error": "invalid_grant"}), Revoked),
        (oauth("slack", "slack"), 200, json!({"ok": false, "error": "bad_client_secret"}), Misconfigured),
        (oauth("slack", "slack"), 200, json!({"ok": false, "error": "ratelimited"}), RateLimited),
        (oauth("slack", "slack"), 200, json!({"ok": false, "error": "whatever"}), Other),
        (oauth("slack", "slack"), 200, json!({"access_token": "x"}), Other),
        (oauth("slack-mcp", "slack-user"), 200, json!({"ok": false, "error": "invalid_refresh_token"}), Revoked),
        (oauth("github", "github"), 200, json!({"error": "bad_refresh_token"}), Revoked),
        (oauth("gmail", "google"), 400, json!({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}), Revoked),
        (oauth("gmail", "google"), 400, json!({"error": "internal_failure"}), Transient),
        (oauth("gmail", "google"), 401, json!({"error": "invalid_client"}), Misconfigured),
        (oauth("hubspot", "hubspot"), 400, json!({"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"}), Revoked),
        (oauth("hubspot", "hubspot"), 400, json!({"category": "VALIDATION_ERROR"}), Other),
        (oauth("atlassian", "atlassian"), 403, json!({"error": "invalid_grant"}), Revoked),
        (microsoft("t"), 400, json!({"error": "invalid_grant", "error_codes": [700_082]}), Revoked),
        (microsoft("t"), 400, json!({"error": "interaction_required", "claims": "{}"}), Interaction),
        (oauth_at("salesforce", "salesforce", "{host: h.example}"), 400, json!({"error": "invalid_grant", "error_description": "expired access/refresh token"}), Revoked),
        (oauth("notion", "notion"), 400, json!({"error": "invalid_grant"}), Revoked),
        (oauth("zoom", "zoom"), 500, json!({}), Transient),
        (oauth("figma", "figma"), 429, json!({}), RateLimited),
    ];
    for (integration, status, body, class) in cases {
        let step = authorization(&test_plan(&integration)).refresh.clone();
        match step::understand(&step, &answer(status, &[], &body)) {
            Err(Failure::Refused(verdict)) => assert_eq!(verdict.class, class, "{integration} {body}"),
            Err(other) => panic!("{integration} {body}: {other:?}"),
            Ok(_) => panic!("{integration} {body} is no failure"),
        }
    }
}

/// What a service's rules say of an answer.
fn judged(integration: &str, status: u16, headers: &[(&'static str, &str)], body: &Value) -> Option<Verdict> {
    let answer = answer(status, headers, body);
    let seen = Seen { status: answer.status, headers: &answer.headers, json: Some(body) };
    seen.judge(&test_plan(integration).service.errors)
}

/// An integration of a service that nothing else is said of.
fn of(service: &str, vars: &str) -> String {
    let vars = if vars.is_empty() { String::new() } else { format!("vars: {{{vars}}}, ") };
    format!("{{service: {service}, {vars}credential: none}}")
}

/// An answer of an integration, its class and the provider's own code; none where no rule fits.
type Case<'c> = (String, u16, Vec<(&'static str, &'c str)>, Value, Option<(ErrorClass, Option<&'c str>)>);

#[test]
fn an_answer_of_a_service_says_what_it_means_about_the_token() {
    let google = |status: &str, reason: &str, old: &str| {
        json!({"error": {"code": 403, "status": status, "errors": [{"reason": "x"}, {"reason": old}], "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"},
        ]}})
    };
    let slack = |error: &str| json!({"ok": false, "error": error});
    let dropbox = |tag: &str| json!({"error_summary": "x/..", "error": {".tag": tag}});
    let scope = google("PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions");
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        (of("slack", ""), 200, vec![], slack("token_expired"), Some((Expired, Some("token_expired")))),
        (of("slack", ""), 200, vec![], slack("token_revoked"), Some((Revoked, Some("token_revoked")))),
        (of("slack", ""), 200, vec![], slack("account_inactive"), Some((Revoked, Some("account_inactive")))),
        // The client may have put a token of its own into the body: that must not end the connection.
        (of("slack", ""), 200, vec![], slack("invalid_auth"), Some((Misconfigured, Some("invalid_auth")))),
        (of("slack", ""), 200, vec![], slack("missing_scope"), Some((ScopeMissing, Some("missing_scope")))),
        (of("slack", ""), 200, vec![], slack("ratelimited"), Some((RateLimited, Some("ratelimited")))),
        (of("slack", ""), 200, vec![], slack("channel_not_found"), None),
        (of("slack", ""), 200, vec![], json!({"ok": true, "error": "token_revoked"}), None),
        (of("gmail", ""), 403, vec![], scope.clone(), Some((ScopeMissing, Some("PERMISSION_DENIED")))),
        (of("google-drive", ""), 403, vec![], scope.clone(), Some((ScopeMissing, Some("PERMISSION_DENIED")))),
        (of("gcp", "service: storage"), 403, vec![], scope, Some((ScopeMissing, Some("PERMISSION_DENIED")))),
        (of("gmail", ""), 403, vec![], google("X", "y", "userRateLimitExceeded"), Some((RateLimited, Some("X")))),
        (of("gmail", ""), 403, vec![], google("X", "y", "forbidden"), None),
        (of("microsoft-graph", ""), 401, vec![("www-authenticate", "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"e30=\"")], json!({}), Some((Interaction, None))),
        (of("microsoft-graph", ""), 401, vec![("www-authenticate", "Bearer error=\"invalid_token\"")], json!({}), None),
        (of("hubspot", ""), 401, vec![], json!({"category": "EXPIRED_AUTHENTICATION"}), Some((Expired, Some("EXPIRED_AUTHENTICATION")))),
        (of("hubspot", ""), 401, vec![], json!({"category": "INVALID_AUTHENTICATION"}), Some((Other, Some("INVALID_AUTHENTICATION")))),
        (of("hubspot", ""), 403, vec![], json!({"category": "MISSING_SCOPES", "context": {"missingScopes": ["a"]}}), Some((ScopeMissing, Some("MISSING_SCOPES")))),
        (of("dropbox", ""), 401, vec![], dropbox("expired_access_token"), Some((Expired, Some("expired_access_token")))),
        (of("dropbox", ""), 401, vec![], dropbox("invalid_access_token"), Some((Revoked, Some("invalid_access_token")))),
        (of("dropbox", ""), 401, vec![], dropbox("user_suspended"), Some((Revoked, Some("user_suspended")))),
        (of("dropbox", ""), 401, vec![], dropbox("missing_scope"), Some((ScopeMissing, Some("missing_scope")))),
        (of("dropbox", ""), 401, vec![], dropbox("invalid_select_user"), Some((Other, Some("invalid_select_user")))),
        (of("salesforce", "host: h.example"), 401, vec![], json!([{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}]), Some((Expired, Some("INVALID_SESSION_ID")))),
        (of("github", ""), 403, vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9")], json!({}), Some((RateLimited, None))),
        (of("github", ""), 403, vec![("retry-after", "7")], json!({}), Some((RateLimited, None))),
        (of("github", ""), 403, vec![("x-ratelimit-remaining", "4990")], json!({"message": "Resource not accessible by integration"}), None),
        (of("linear", ""), 400, vec![], json!({"errors": [{"extensions": {"code": "RATELIMITED"}}]}), Some((RateLimited, Some("RATELIMITED")))),
        (of("linear", ""), 400, vec![], json!({"errors": [{"extensions": {"code": "INVALID_INPUT"}}]}), None),
        (of("stripe", ""), 400, vec![], json!({"error": {"code": "rate_limit"}}), Some((RateLimited, Some("rate_limit")))),
        (of("openai", ""), 429, vec![("retry-after-ms", "20")], json!({"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}), Some((Other, Some("insufficient_quota")))),
        (of("openai", ""), 429, vec![("retry-after-ms", "20")], json!({"error": {"code": "rate_limit_exceeded", "type": "insufficient_quota"}}), Some((RateLimited, Some("rate_limit_exceeded")))),
        (of("anthropic", ""), 529, vec![], json!({"type": "error", "error": {"type": "overloaded_error"}}), Some((Transient, Some("overloaded_error")))),
        (of("snowflake", "account: a"), 401, vec![], json!({"code": "390144", "message": "JWT token is invalid."}), Some((Expired, Some("390144")))),
    ];
    for (integration, status, headers, body, expected) in cases {
        let verdict = judged(&integration, status, &headers, &body);
        let found = verdict.as_ref().map(|verdict| (verdict.class, verdict.code.as_deref()));
        assert_eq!(found, expected, "{integration} {status} {body}");
    }
}

#[test]
fn a_wait_is_read_where_and_how_it_is_told() {
    let later = |seconds: i64| (unix() + seconds).to_string();
    for (service, vars, status, header, value, body, wait) in [
        ("github", "", 403, "x-ratelimit-reset", later(60), json!({}), 60),
        ("github", "", 403, "retry-after", "7".to_owned(), json!({}), 7),
        ("intercom", "", 429, "x-ratelimit-reset", later(10), json!({}), 10),
        ("okta", "host: h.example", 429, "x-rate-limit-reset", later(20), json!({}), 20),
        (
            "linear",
            "",
            400,
            "x-ratelimit-requests-reset",
            later(30),
            json!({"errors": [{"extensions": {"code": "RATELIMITED"}}]}),
            30,
        ),
        (
            "linear",
            "",
            400,
            "x-ratelimit-requests-reset",
            later(30) + "000",
            json!({"errors": [{"extensions": {"code": "RATELIMITED"}}]}),
            30,
        ),
        ("pagerduty", "", 429, "ratelimit-reset", "5".to_owned(), json!({}), 5),
        ("datadog", "host: api.datadoghq.com", 429, "x-ratelimit-reset", "4".to_owned(), json!({}), 4),
        ("discord", "", 429, "x-other", "0".to_owned(), json!({"retry_after": 3.0}), 3),
        (
            "dropbox",
            "",
            429,
            "x-other",
            "0".to_owned(),
            json!({"error": {"reason": {".tag": "too_many_requests"}, "retry_after": 300}}),
            300,
        ),
        (
            "openai",
            "",
            429,
            "retry-after-ms",
            "2000".to_owned(),
            json!({"error": {"code": "rate_limit_exceeded"}}),
            2,
        ),
    ] {
        let headers = [(header, value.as_str()), ("x-ratelimit-remaining", "0")];
        let verdict = judged(&of(service, vars), status, &headers, &body).unwrap();
        assert_eq!(verdict.class, RateLimited, "{service}");
        let seconds = verdict.wait.unwrap().as_secs_f64();
        assert!((f64::from(wait) - seconds).abs() < 3.0, "{service}: {seconds}");
    }
}

/// What follows, for a token that is in use.
#[tokio::test]
async fn what_an_answer_says_decides_what_becomes_of_the_connection() {
    let good = || Facts { expires_at: Some(unix() + 3600), renew_at: None, scopes: String::new() };
    let challenge = [("www-authenticate", "Bearer error=\"insufficient_claims\", claims=\"e30=\"")];
    for (integration, status, headers, body, expected, left) in [
        (
            oauth("slack", "slack"),
            200,
            &[][..],
            json!({"ok": false, "error": "token_expired"}),
            "renew",
            Status::Active,
        ),
        (
            oauth("slack", "slack"),
            200,
            &[],
            json!({"ok": false, "error": "token_revoked"}),
            "auth_revoked",
            Status::Revoked,
        ),
        (
            oauth("slack", "slack"),
            200,
            &[],
            json!({"ok": false, "error": "invalid_auth"}),
            "credential_rejected",
            Status::Active,
        ),
        (
            oauth("slack", "slack"),
            200,
            &[],
            json!({"ok": false, "error": "missing_scope"}),
            "pass",
            Status::Active,
        ),
        (microsoft("t"), 401, &challenge, json!({}), "auth_revoked", Status::Active),
        (
            oauth("hubspot", "hubspot"),
            401,
            &[],
            json!({"category": "EXPIRED_AUTHENTICATION"}),
            "renew",
            Status::Active,
        ),
        (oauth("hubspot", "hubspot"), 401, &[], json!({"category": "OTHER"}), "pass", Status::Active),
        (
            oauth("gmail", "google"),
            401,
            &[],
            json!({"error": {"status": "UNAUTHENTICATED"}}),
            "renew",
            Status::Active,
        ),
        (oauth("discord", "discord"), 429, &[], json!({"retry_after": 1.5}), "wait", Status::Active),
        (
            oauth_at("salesforce", "salesforce", "{host: h.example}"),
            401,
            &[],
            json!([{"errorCode": "INVALID_SESSION_ID"}]),
            "renew",
            Status::Active,
        ),
    ] {
        let connected = connected_with(&integration, Some("r0"), good()).await;
        let engine = engine(&Arc::new(Provider::default()), stored_in(connected.dir.path()));
        let usage = Usage::of_token(engine, work(&spec(&connected.plan))).await.unwrap();
        let answer = answer(status, headers, &body);
        let rules = &connected.plan.service.errors;
        let found = match usage.judge(rules, answer.status, &answer.headers, Some(&body)).await {
            Consequence::Pass => "pass",
            Consequence::Wait(_) => "wait",
            Consequence::Renew => "renew",
            Consequence::Refuse(reason) => reason.facts().code,
        };
        assert_eq!((found, connected.row().await.status), (expected, left), "{integration} {body}");
    }
}
