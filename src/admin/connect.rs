//! `/connect`: pages on which a person connects an integration. Three of them: what will be connected, the way to the
//! provider and back, and what came of it. No script, nothing from elsewhere.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    context::{IntegrationId, TenantId, Tier, UserId},
    credential::{Connects, Consents, Question, Reply},
    decide::{Grant, Policies},
    form,
    plan::{Connectable, How},
    secret::{Secret, sha256_hex},
    store::{ConnectionKey, Owner},
};

/// How long a person may take at the provider.
const PATIENCE: Duration = Duration::from_secs(600);
/// Persons who are at a provider at the same time.
const MOST: usize = 1000;
/// The largest form, in bytes.
const LARGEST: usize = 16 * 1024;
/// Ties the answer to the browser in which the question was asked.
const COOKIE: &str = "egret_connect";

/// All but the unreserved characters.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Connects integrations for people in a browser.
#[derive(Clone)]
pub struct Connect(Arc<Inner>);

struct Inner {
    /// Where people reach the admin listener: `https://egret.acme.example`.
    base: String,
    policy: Policies,
    consents: Consents,
    waiting: Mutex<HashMap<String, Waiting>>,
}

/// A person who is at the provider.
struct Waiting {
    key: ConnectionKey,
    what: Connectable,
    question: Question,
    browser: Secret,
    since: Instant,
}

/// Makes the links in refusals.
struct Linked(String);

impl Connects for Linked {
    fn url(&self, grant: &Grant) -> Option<Arc<str>> {
        let context = grant.context();
        let part = |text: &str| utf8_percent_encode(text, PART).to_string();
        let integration = context.integration_id.as_ref()?;
        let mut url = format!(
            "{}/connect/{}/{}",
            self.0,
            part(context.identity.tenant_id.as_str()),
            part(integration.as_str())
        );
        if let Tier::User(user) = &context.tier {
            let _ = write!(url, "?user={}", part(user.as_str()));
        }
        Some(url.into())
    }
}

/// What makes links to the pages at this base.
pub fn links(base: &str) -> Arc<dyn Connects> {
    Arc::new(Linked(base.to_owned()))
}

impl Connect {
    /// Pages at this base.
    pub fn new(base: String, policy: Policies, consents: Consents) -> Self {
        Self(Arc::new(Inner { base, policy, consents, waiting: Mutex::default() }))
    }

    /// Answers a request to one of the pages.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/connect/callback") => self.back(request.headers(), &query).await,
            (&Method::GET, path) => self.ask(path, &query),
            (&Method::POST, "/connect/start") => self.start(request).await,
            _ => say(StatusCode::METHOD_NOT_ALLOWED, "Not here", "This page is only read."),
        }
    }

    fn find(
        &self,
        tenant: &str,
        integration: &str,
        user: Option<&str>,
    ) -> Result<(ConnectionKey, Connectable), String> {
        let tenant = TenantId::parse(tenant).map_err(|problem| problem.to_string())?;
        let integration = IntegrationId::parse(integration).map_err(|problem| problem.to_string())?;
        let what = self.0.policy.current().connectable(&tenant, integration.as_str())?;
        let owner = match (what.is_users, user.filter(|user| !user.is_empty())) {
            (true, Some(user)) => Owner::User(UserId::parse(user).map_err(|problem| problem.to_string())?),
            (false, None) => Owner::App,
            (true, None) => {
                return Err("this integration acts for one person, and the link names none".to_owned());
            }
            (false, Some(_)) => {
                return Err(
                    "this integration acts for the organisation, and the link names a person".to_owned()
                );
            }
        };
        Ok((ConnectionKey { tenant, integration, owner }, what))
    }

    /// What will be connected, and a button.
    fn ask(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        let parts: Vec<String> = path.split('/').skip(2).filter_map(decoded).collect();
        let ([tenant, integration], user) = (parts.as_slice(), params(query).remove("user")) else {
            return page(
                StatusCode::NOT_FOUND,
                "Not here",
                "<p>A link is <code>/connect/TENANT/INTEGRATION</code>.</p>",
            );
        };
        let (key, what) = match self.find(tenant, integration, user.as_deref()) {
            Ok(found) => found,
            Err(problem) => return say(StatusCode::NOT_FOUND, "Nothing to connect", &problem),
        };
        let How::Authorized(how) = &what.credential.how else {
            let command = format!("egret connect {integration} --tenant {tenant}");
            let text = format!("<p>A key is deposited with <code>{}</code>.</p>", escaped(&command));
            return page(StatusCode::OK, "Deposit a key", &text);
        };
        let mut scopes = String::new();
        for scope in &what.scopes {
            scopes.extend(["<li><code>", &escaped(scope), "</code></li>"]);
        }
        let hidden = |name: &str, value: &str| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value))
        };
        let user = user.unwrap_or_default();
        let body = format!(
            "<p>You are about to connect <strong>your account</strong> at <strong>{}</strong> as <code>{}</code> of the tenant \
             <code>{}</code>, for {}.</p><p>Agents that act for {} will use that account from then on. Go on only if that is \
             you.</p><ul>{scopes}</ul><form method=\"post\" action=\"/connect/start\">{}{}{}\
             <button type=\"submit\">Connect</button></form>",
            escaped(&how.provider),
            escaped(integration),
            escaped(tenant),
            escaped(&key.owner.to_string()),
            escaped(&key.owner.to_string()),
            hidden("tenant", tenant),
            hidden("integration", integration),
            hidden("user", &user),
        );
        page(StatusCode::OK, &format!("Connect {}", escaped(integration)), &body)
    }

    /// To the provider.
    async fn start(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // A form of another site is not sent by the person who reads this one (Fetch Metadata).
        let from_here = request.headers().get("sec-fetch-site").is_none_or(|site| site == "same-origin");
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        if !from_here || origin.is_some_and(|origin| origin != self.0.base.as_bytes() && origin != b"null") {
            return say(StatusCode::FORBIDDEN, "Not from here", "Open the link again, and use its button.");
        }
        let Ok(form) = Limited::new(request.into_body(), LARGEST).collect().await else {
            return say(StatusCode::BAD_REQUEST, "Too long", "Open the link again.");
        };
        let form = params(&String::from_utf8_lossy(&form.to_bytes()));
        let get = |name: &str| form.get(name).map_or("", String::as_str);
        let (key, what) =
            match self.find(get("tenant"), get("integration"), form.get("user").map(String::as_str)) {
                Ok(found) => found,
                Err(problem) => return say(StatusCode::NOT_FOUND, "Nothing to connect", &problem),
            };
        if let Some(answer) = self.unless_connected(&key).await {
            return answer;
        }
        let redirect_uri = format!("{}/connect/callback", self.0.base);
        let question = match self.0.consents.ask(&key, &what, &redirect_uri).await {
            Ok(question) => question,
            Err(problem) => return say(StatusCode::BAD_GATEWAY, "Not connected", &problem.to_string()),
        };
        let mut random = [0; 32];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            return say(StatusCode::SERVICE_UNAVAILABLE, "Not now", "The system has no random bytes.");
        }
        let browser = crate::secret::hex(&random);
        let url = question.url.clone();
        {
            let mut waiting = self.waiting();
            waiting.retain(|_, waiting| waiting.since.elapsed() < PATIENCE);
            if waiting.len() >= MOST {
                return say(StatusCode::SERVICE_UNAVAILABLE, "Not now", "Too many people connect at once.");
            }
            let name = question.state.name();
            let browser = Secret::new(browser.clone().into_bytes());
            waiting.insert(name, Waiting { key, what, question, browser, since: Instant::now() });
        }
        let mut response = say(StatusCode::SEE_OTHER, "On the way", "To the provider.");
        let secure = if self.0.base.starts_with("https://") { "; Secure" } else { "" };
        // Lax: the way back comes from the provider's site.
        let cookie =
            format!("{COOKIE}={browser}; Path=/connect; HttpOnly; SameSite=Lax; Max-Age=600{secure}");
        for (name, value) in [(header::LOCATION, url), (header::SET_COOKIE, cookie)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// A connection that is in use is not replaced from here: whoever reaches this page, an agent too, could bind a
    /// person's agents to an account of its own.
    async fn unless_connected(&self, key: &ConnectionKey) -> Option<Response<Full<Bytes>>> {
        let (status, title, text) = match self.0.consents.is_connected(key).await {
            Ok(false) => return None,
            Ok(true) => {
                let text = "It is connected, and in use. To connect another account, take this one back first: \
                            `egret connections revoke`.";
                (StatusCode::CONFLICT, "Connected already", text.to_owned())
            }
            Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, "Not now", problem.to_string()),
        };
        Some(say(status, title, &text))
    }

    /// Back from the provider.
    async fn back(&self, headers: &HeaderMap, query: &str) -> Response<Full<Bytes>> {
        let unknown = || {
            say(
                StatusCode::BAD_REQUEST,
                "Not connected",
                "Nobody asked for this answer here, or too long ago. Open the link again.",
            )
        };
        let Some(reply) = Reply::read(query) else { return unknown() };
        let state = match &reply {
            Reply::Code { state, .. } | Reply::Refused { state, .. } => state,
        };
        // Taken out whatever comes of it: an answer counts once.
        let taken = self.waiting().remove(&sha256_hex(state.as_bytes()));
        let Some(Waiting { key, what, question, browser, since }) = taken else { return unknown() };
        let is_same = cookie(headers).is_some_and(|value| browser.matches(value.as_bytes()));
        if !is_same || since.elapsed() >= PATIENCE {
            return unknown();
        }
        let code = match reply {
            Reply::Code { code, .. } => code,
            Reply::Refused { error, .. } => {
                let text = format!("<p>The provider answered <code>{}</code>.</p>", escaped(&error));
                return page(StatusCode::OK, "Not connected", &text);
            }
        };
        if let Some(answer) = self.unless_connected(&key).await {
            return answer;
        }
        let ConnectionKey { tenant, integration, owner } = &key;
        match self.0.consents.redeem(&key, &what, question, &code).await {
            Ok(connected) => {
                tracing::info!(%tenant, %integration, %owner, "connected");
                let scopes = connected.scopes.unwrap_or_default();
                let text = format!(
                    "<p>Connected <code>{}</code> for {}.</p><p>Granted: <code>{}</code></p><p>You can close this page.</p>",
                    escaped(integration.as_str()),
                    escaped(&owner.to_string()),
                    escaped(&scopes)
                );
                page(StatusCode::OK, "Connected", &text)
            }
            Err(problem) => {
                tracing::warn!(%tenant, %integration, %owner, %problem, "not connected");
                say(StatusCode::BAD_GATEWAY, "Not connected", &problem.to_string())
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        // Every critical section leaves the map whole.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connect(..)")
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The first of each name.
fn params(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for (name, value) in form::pairs(text).flatten() {
        found.entry(name).or_insert(value);
    }
    found
}

/// A text in HTML, also in an attribute.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
        html
    })
}

/// A page with one sentence.
fn say(status: StatusCode, title: &str, text: &str) -> Response<Full<Bytes>> {
    page(status, title, &format!("<p>{}</p>", escaped(text)))
}

fn page(status: StatusCode, title: &str, body: &str) -> Response<Full<Bytes>> {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title} · egret</title></head><body><main><h1>{title}</h1>{body}</main></body></html>\n"
    );
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        // The state and the code stand in the URL of the way back.
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
