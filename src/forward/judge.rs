//! What an answer says about the credential, before any of it goes to the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::{body::OutgoingBody, exchange::Exchange};
use crate::{
    credential::Consequence,
    json,
    plan::ErrorRule,
    refusal::{Reason, retry_after_seconds},
};

/// As much of a body is looked into. What errors say is short.
const MOST: usize = 8 * 1024;
/// How deep it may be.
const DEPTH: usize = 16;
/// How long the beginning of a body is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of an answer.
pub(super) enum Judged {
    /// It goes to the client.
    Pass(Response<Peeked>),
    /// The request is sent once more, with another token.
    Again(Request<OutgoingBody>),
    /// The request is refused.
    Refuse(Reason),
}

/// Judges an answer by its status, and by its beginning where a rule of the service looks there.
pub(super) async fn judge(exchange: &mut Exchange, response: Response<Incoming>) -> Judged {
    let (head, body) = response.into_parts();
    let mut body = Peeked { frames: Vec::new(), rest: body };
    let Some(usage) = &exchange.usage else { return Judged::Pass(Response::from_parts(head, body)) };
    let looks = exchange.rules().iter().any(|rule| looks_into(rule, head.status));
    let json = if looks && json::is_declared(&head.headers) { body.peek().await } else { None };
    match usage.judge(exchange.rules(), head.status, &head.headers, json.as_ref()).await {
        Consequence::Pass => Judged::Pass(Response::from_parts(head, body)),
        Consequence::Wait(wait) => {
            let mut response = Response::from_parts(head, body);
            let seconds = HeaderValue::from(retry_after_seconds(wait));
            response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
            Judged::Pass(response)
        }
        Consequence::Refuse(reason) => Judged::Refuse(reason),
        // The new token is no better.
        Consequence::Renew if exchange.renewed => Judged::Refuse(Reason::CredentialRejected { code: None }),
        Consequence::Renew => match exchange.renewed().await {
            Ok(Some(request)) => Judged::Again(request),
            Ok(None) => {
                if let Some(usage) = &exchange.usage {
                    usage.renew_later();
                }
                let what = "the upstream refused the token, and another one is being fetched".to_owned();
                Judged::Refuse(Reason::CredentialUnavailable { what })
            }
            Err(reason) => Judged::Refuse(reason),
        },
    }
}

fn looks_into(rule: &ErrorRule, status: StatusCode) -> bool {
    rule.reads_body() && rule.has_status(status)
}

/// A body whose beginning was looked into.
pub(super) struct Peeked {
    /// What was read already, the last first.
    frames: Vec<Frame<Bytes>>,
    rest: Incoming,
}

impl Peeked {
    /// The whole body, where it is short JSON.
    async fn peek(&mut self) -> Option<Value> {
        let mut text = BytesMut::new();
        let mut frames = Vec::new();
        let whole = tokio::time::timeout(PATIENCE, async {
            while let Some(frame) = self.rest.frame().await {
                // What breaks breaks again where it is read.
                let Ok(frame) = frame else { return false };
                if let Some(data) = frame.data_ref() {
                    text.extend_from_slice(data);
                }
                frames.push(frame);
                if text.len() > MOST {
                    return false;
                }
            }
            true
        });
        let whole = whole.await.unwrap_or(false);
        frames.reverse();
        self.frames = frames;
        json::value(&text, DEPTH).filter(|_| whole)
    }
}

impl Body for Peeked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.frames.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: usize = self.frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let (read, rest) = (read as u64, self.rest.size_hint());
        if let Some(rest) = rest.exact() {
            return SizeHint::with_exact(rest + read);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + read);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_looked_into_where_a_rule_needs_something_of_it() {
        let catalogued = |service: &str, status| {
            let plan = crate::decide::test_plan(&format!("{{service: {service}, credential: none}}"));
            plan.service.errors.iter().any(|rule| looks_into(rule, status))
        };
        let limited = StatusCode::TOO_MANY_REQUESTS;
        for (service, status, looks) in [
            ("slack", StatusCode::OK, true),
            ("slack", limited, false),
            ("discord", limited, true),
            ("anthropic", StatusCode::from_u16(529).unwrap(), true),
            ("pagerduty", limited, false),
            ("openai", StatusCode::OK, false),
        ] {
            assert_eq!(catalogued(service, status), looks, "{service} {status}");
        }
    }
}
