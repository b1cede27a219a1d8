//! One request to a provider, and what its answer means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{
    failure::{Failure, Seen},
    values::{Unfilled, Values, uri_encoded},
};
use crate::{
    fetch::{Answer, Call, Calls, FetchUrl},
    form, json,
    plan::{AnswerShape, JsonPath, Step, StepBody},
    secret::Secret,
    store,
    target::Query,
    tls::ClientCertificate,
};

/// How long a token endpoint may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer of one.
const LARGEST: usize = 1 << 20;
/// How deep it may be.
const DEPTH: usize = 32;
/// A number above this counts milliseconds: as seconds it would be in the year 5138.
const MILLIS: i64 = 100_000_000_000;

/// What a step brought.
pub(super) struct Brought {
    pub(super) access_token: Option<Secret>,
    pub(super) refresh_token: Option<Secret>,
    /// How long the token is good; none where it does not end.
    pub(super) lifetime: Option<Duration>,
    /// The scopes that were granted, where it says so.
    pub(super) scope: Option<String>,
    pub(super) kept: Vec<(Box<str>, Arc<Secret>)>,
}

impl From<Unfilled> for Failure {
    fn from(error: Unfilled) -> Self {
        Self::Missing(error.to_string())
    }
}

/// Makes the request.
pub(super) async fn run(
    step: &Step,
    values: &Values,
    certificate: Option<&Arc<ClientCertificate>>,
    calls: &dyn Calls,
) -> Result<Brought, Failure> {
    let answer = send(step, values, certificate, calls).await?;
    understand(step, &answer)
}

/// Sends the request and gives the answer, whatever it is.
pub(super) async fn send(
    step: &Step,
    values: &Values,
    certificate: Option<&Arc<ClientCertificate>>,
    calls: &dyn Calls,
) -> Result<Answer, Failure> {
    let mut headers = HeaderMap::with_capacity(step.headers.len() + 1);
    for (name, template) in &step.headers {
        let text = values.fill(template)?;
        let mut value = HeaderValue::from_bytes(&text).map_err(|_| {
            Failure::Missing(format!("what goes to `{name}` holds a line break or another control character"))
        })?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    let (kind, body) = match &step.body {
        StepBody::Empty => (None, Bytes::new()),
        StepBody::Form(params) => {
            let mut text = Zeroizing::new(Vec::with_capacity(4096));
            for (name, template) in params {
                form::append(&mut text, name, &values.fill(template)?);
            }
            (Some("application/x-www-form-urlencoded"), Bytes::copy_from_slice(&text))
        }
        StepBody::Json(template) => {
            (Some("application/json"), Bytes::copy_from_slice(values.fill_json(template)?.as_bytes()))
        }
    };
    if let Some(kind) = kind {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    }
    let url = with_query(step, values)?;
    let call = Call {
        method: step.method.clone(),
        url: &url,
        headers,
        body,
        most: LARGEST,
        timeout: PATIENCE,
        reach: &step.private,
        certificate,
    };
    calls
        .call(call)
        .await
        .map_err(|error| Failure::Unreachable { what: error.what, maybe_done: error.maybe_taken })
}

fn with_query(step: &Step, values: &Values) -> Result<FetchUrl, Failure> {
    let mut url = step.url.clone();
    if !step.query.is_empty() {
        let mut text = url.query.as_ref().map(|query| query.as_str().to_owned()).unwrap_or_default();
        for (name, template) in &step.query {
            let and = if text.is_empty() { "" } else { "&" };
            text.extend([and, &uri_encoded(name.as_bytes()), "=", &uri_encoded(&values.fill(template)?)]);
        }
        url.query =
            Some(Query::parse(&text).map_err(|_| Failure::Missing("the query is too long".to_owned()))?);
    }
    Ok(url)
}

/// What an answer means.
pub(super) fn understand(step: &Step, answer: &Answer) -> Result<Brought, Failure> {
    let json = json::value(&answer.body, DEPTH).or_else(|| as_form(&answer.headers, &answer.body));
    let seen = Seen { status: answer.status, headers: &answer.headers, json: json.as_ref() };
    let shape = &step.answer;
    let is_ok =
        |json: &Value| shape.ok.as_ref().is_none_or(|(path, expected)| expected.fits(path.find(json)));
    let errs = json.as_ref().is_some_and(|json| json.get("error").is_some_and(|error| !error.is_null()));
    let is_token = json.is_none() && shape.access_token.iter().any(JsonPath::is_whole);
    // The whole body may be the token.
    let whole = is_token.then(|| Value::String(String::from_utf8_lossy(&answer.body).into_owned()));
    match json.as_ref().or(whole.as_ref()) {
        // A failure may come with 200: a rule knows it, or its `error`, or that something else does not hold.
        Some(json) if answer.status.is_success() && is_ok(json) && seen.judge(&step.errors).is_none() => {
            let brought = read(shape, json, &answer.headers);
            if brought.access_token.is_none() && errs {
                return Err(Failure::Refused(seen.judge_token_endpoint(&step.errors)));
            }
            Ok(brought)
        }
        None if answer.status.is_success() => Err(Failure::Unreachable {
            what: format!("the answer of {} is no JSON that means one thing", step.url.authority),
            maybe_done: true,
        }),
        _ => Err(Failure::Refused(seen.judge_token_endpoint(&step.errors))),
    }
}

/// An answer as a form, as some servers still send it where nobody asks for JSON.
fn as_form(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    let params = form::unique(std::str::from_utf8(body).ok()?)?;
    Some(Value::Object(params.into_iter().map(|(name, value)| (name, Value::String(value))).collect()))
}

fn read(shape: &AnswerShape, json: &Value, headers: &HeaderMap) -> Brought {
    let first = |paths: &[JsonPath]| {
        paths.iter().filter_map(|path| path.find(json)).find(|value| !value.is_null()).cloned()
    };
    let secret = |value: Value| match value {
        Value::String(text) if !text.is_empty() => Some(Secret::new(text.into_bytes())),
        Value::Number(number) => Some(Secret::new(number.to_string().into_bytes())),
        _ => None,
    };
    let lifetime = first(&shape.expires_in)
        .and_then(|value| number(&value))
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
        .or_else(|| first(&shape.expires_at).and_then(|value| until(&value, headers)))
        .or(shape.lifetime);
    let scope = match first(&shape.scope) {
        // Some have commas between scopes, whatever they take themselves; no scope has one in it.
        Some(Value::String(text)) => {
            let scopes = text.split([' ', ',']).filter(|scope| !scope.is_empty());
            Some(scopes.collect::<Vec<_>>().join(" "))
        }
        Some(Value::Array(items)) => {
            Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    };
    let kept = shape
        .keep
        .iter()
        .filter_map(|(name, path)| Some((name.clone(), Arc::new(secret(path.find(json)?.clone())?))));
    Brought {
        access_token: first(&shape.access_token).and_then(secret),
        refresh_token: first(&shape.refresh_token).and_then(secret),
        lifetime,
        scope,
        kept: kept.collect(),
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "seconds, whole")]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// How long it is until a point in time. The server's own clock counts where it tells its time: ours may be wrong.
fn until(value: &Value, headers: &HeaderMap) -> Option<Duration> {
    let date = |text: &str| Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp());
    let at = match number(value) {
        Some(millis) if millis > MILLIS => millis / 1000,
        Some(seconds) => seconds,
        None => date(value.as_str()?)?,
    };
    let theirs = headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
    let now = theirs.unwrap_or_else(store::now);
    Some(Duration::from_secs(u64::try_from(at.saturating_sub(now)).unwrap_or(0)))
}

/// `Date` (RFC 9110 §5.6.7, the form that is sent today).
fn http_date(text: &str) -> Option<i64> {
    let text = text.strip_suffix("GMT").map(|rest| format!("{rest}+0000"))?;
    let date = OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc2822).ok()?;
    Some(date.unix_timestamp())
}
