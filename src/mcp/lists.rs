//! Lists in answers: a client is shown what its role may use, and nothing else.
//!
//! A list shows; it does not grant. What is asked for is decided when it is asked for, whatever a list said.

use std::{
    borrow::Cow,
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{Named, Opening};
use crate::{json, message::BoxError};

/// The largest answer, or event of a stream, in which a list is looked for, in bytes.
const LARGEST: usize = 16 << 20;

/// Levels of objects and arrays in an answer; schemas of tools nest.
const DEEPEST: usize = 100;
/// Why an answer breaks off.
const UNREADABLE: &str = "the server's answer has no single meaning, so its lists cannot be narrowed";

/// What a client may be shown.
#[derive(Clone)]
pub struct Lists(Arc<Shown>);

/// What an answer is read for.
#[derive(Debug)]
pub struct Reading {
    /// Lists are narrowed to this.
    pub lists: Lists,
    /// It is the stream of a session, in which refusals are told, too.
    pub session: Option<Opening>,
}

type Shown = dyn Fn(Named, &str) -> bool + Send + Sync;

impl Lists {
    /// `shown` says whether a role may use something of this name.
    pub fn new(shown: impl Fn(Named, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(shown))
    }

    /// The text of a message, or of a batch, without what its reader may not use; none where nothing was to be
    /// taken out. What stays, stays byte for byte.
    fn narrowed(&self, text: &[u8]) -> Option<Vec<u8>> {
        let narrowed = if text.trim_ascii_start().starts_with(b"[") {
            let batch: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
            let narrowed: Vec<_> = batch.iter().map(|message| self.message(message)).collect();
            if narrowed.iter().all(Option::is_none) {
                return None;
            }
            let messages = batch.iter().zip(&narrowed);
            raw(&messages.map(|(old, new)| new.as_deref().unwrap_or(old)).collect::<Vec<_>>())
        } else {
            self.message(serde_json::from_slice(text).ok()?)
        };
        narrowed.map(|text| text.get().as_bytes().to_vec())
    }

    fn message(&self, message: &RawValue) -> Option<Box<RawValue>> {
        let mut message: Members<'_> = serde_json::from_str(message.get()).ok()?;
        let (_, result) = message.0.iter_mut().find(|(key, _)| key == "result")?;
        let mut members: Members<'_> = serde_json::from_str(result.get()).ok()?;
        let mut changed = false;
        for (key, value) in &mut members.0 {
            if let Some(narrowed) = self.list(key, value) {
                *value = Cow::Owned(narrowed);
                changed = true;
            }
        }
        if !changed {
            return None;
        }
        let narrowed = raw(&members)?;
        *result = Cow::Owned(narrowed);
        raw(&message)
    }

    fn list(&self, key: &str, list: &RawValue) -> Option<Box<RawValue>> {
        let (kind, name) = match key {
            "tools" => (Named::Tool, "name"),
            "prompts" => (Named::Prompt, "name"),
            "resources" => (Named::Resource, "uri"),
            "resourceTemplates" => (Named::Resource, "uriTemplate"),
            _ => return None,
        };
        let items: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
        let shown = |item: &&&RawValue| {
            let item: Option<Value> = serde_json::from_str(item.get()).ok();
            item.as_ref().and_then(|item| item.get(name)?.as_str()).is_some_and(|name| (self.0)(kind, name))
        };
        let left: Vec<&&RawValue> = items.iter().filter(shown).collect();
        (left.len() != items.len()).then(|| raw(&left))?
    }
}

/// The members of an object in their order, each as it is written.
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = entries.next_entry::<String, &'de RawValue>()? {
                    members.push((Cow::Owned(key), Cow::Borrowed(value)));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, &**value)))
    }
}

fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lists(..)")
    }
}

/// How an answer's messages are written.
#[derive(Debug)]
enum Form {
    /// One JSON text.
    Json,
    /// Server-sent events.
    Events,
    /// Something else: it is no message of the protocol.
    Other,
}

pin_project! {
    /// An answer whose lists are narrowed while it streams.
    pub struct Filtered<B> {
        #[pin]
        inner: B,
        lists: Lists,
        session: Option<Opening>,
        form: Form,
        // What of a text or an event has arrived.
        held: BytesMut,
        looked: Looked,
        ready: VecDeque<Bytes>,
        trailers: Option<HeaderMap>,
        ended: bool,
    }
}

impl<B: Body<Data = Bytes>> Filtered<B> {
    /// Wraps an uncoded answer, and makes the headers that speak of its bytes fit.
    pub fn new(reading: Reading, headers: &mut HeaderMap, body: B) -> Self {
        let Reading { lists, session } = reading;
        let kind =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let form = match kind {
            _ if body.is_end_stream() => Form::Other,
            _ if kind.eq_ignore_ascii_case("application/json") => Form::Json,
            _ if kind.eq_ignore_ascii_case("text/event-stream") => Form::Events,
            _ => Form::Other,
        };
        if !matches!(form, Form::Other) {
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::ETAG);
        }
        let (held, ready) = (BytesMut::new(), VecDeque::new());
        Self {
            inner: body,
            lists,
            session,
            form,
            held,
            looked: Looked::default(),
            ready,
            trailers: None,
            ended: false,
        }
    }
}

impl<B> Body for Filtered<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            if let Some(data) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if *this.ended {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            // What is ready are whole events, so another fits between.
            if let Some(session) = this.session.as_mut()
                && let Poll::Ready(Some(message)) = session.receiver.poll_recv(cx)
            {
                this.ready.push_back(format!("event: message\ndata: {message}\n\n").into());
                continue;
            }
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if matches!(this.form, Form::Other) => this.ready.push_back(data),
                    Ok(data) => {
                        this.held.extend_from_slice(&data);
                        if matches!(this.form, Form::Events) {
                            let session = this.session.as_mut();
                            if !take_events(this.lists, session, this.held, this.looked, this.ready) {
                                *this.ended = true;
                                return Poll::Ready(Some(Err(UNREADABLE.into())));
                            }
                        }
                        if this.held.len() > LARGEST {
                            return Poll::Ready(Some(
                                Err("the answer is too large to look for lists".into()),
                            ));
                        }
                    }
                    Err(frame) => *this.trailers = frame.into_trailers().ok(),
                },
                None => {
                    *this.ended = true;
                    let rest = this.held.split().freeze();
                    if !rest.is_empty() {
                        // What ends without its blank line is no event (WHATWG HTML §9.2.6); it goes on as it is,
                        // unless it is the one text that it was all about.
                        let whole = matches!(this.form, Form::Json);
                        if whole && !json::is_plain(&rest, DEEPEST) {
                            return Poll::Ready(Some(Err(UNREADABLE.into())));
                        }
                        let narrowed = whole.then(|| this.lists.narrowed(&rest)).flatten();
                        this.ready.push_back(narrowed.map_or(rest, Bytes::from));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.form {
            Form::Other => self.ready.is_empty() && self.inner.is_end_stream(),
            _ => self.ended && self.ready.is_empty() && self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.form {
            Form::Other => self.inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// Moves the whole events, and the comments before the next one, from `held` to `ready`. False where an event's data has no single meaning.
fn take_events(
    lists: &Lists,
    mut session: Option<&mut Opening>,
    held: &mut BytesMut,
    looked: &mut Looked,
    ready: &mut VecDeque<Bytes>,
) -> bool {
    while let Some(end) = end_of_event(held, looked) {
        let bytes = held.split_to(end).freeze();
        let event = Event::read(&bytes);
        let is_endpoint =
            event.others.iter().any(|line| [&b"event: endpoint"[..], b"event:endpoint"].contains(line));
        if let (Some(session), true) = (&mut session, is_endpoint) {
            session.told(&String::from_utf8_lossy(&event.data));
        }
        if !(is_endpoint || event.data.is_empty() || json::is_plain(&event.data, DEEPEST)) {
            return false;
        }
        let narrowed = lists.narrowed(&event.data).map(|data| event.with(&data));
        ready.push_back(narrowed.map_or(bytes.clone(), Bytes::from));
    }
    true
}

/// How far an event that is not whole yet was looked through: a long one comes in many pieces.
#[derive(Debug, Default)]
struct Looked {
    /// Where the first line begins that has no end yet.
    line: usize,
    /// Up to where there is no end of it.
    to: usize,
}

/// Where the first event, or the first comment that stands alone, ends.
fn end_of_event(held: &[u8], looked: &mut Looked) -> Option<usize> {
    loop {
        let from = looked.to.max(looked.line);
        let Some(end) = held.get(from..)?.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            looked.to = held.len();
            return None;
        };
        let end = from + end;
        let after = match (held.get(end)?, held.get(end + 1)) {
            (b'\r', Some(b'\n')) => end + 2,
            // It may be half of a line's end.
            (b'\r', None) => {
                looked.to = end;
                return None;
            }
            _ => end + 1,
        };
        let comment = looked.line == 0 && held.starts_with(b":");
        let empty = end == looked.line;
        *looked = Looked { line: after, to: after };
        if empty || comment {
            *looked = Looked::default();
            return Some(after);
        }
    }
}

/// The first line and how many bytes it takes with its end. A `\r` at the end of what is there may be half of a
/// line's end.
fn next_line(text: &[u8]) -> Option<(&[u8], usize)> {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let line = text.get(..end)?;
    match (text.get(end)?, text.get(end + 1)) {
        (b'\r', Some(b'\n')) => Some((line, end + 2)),
        (b'\r', None) => None,
        _ => Some((line, end + 1)),
    }
}

/// An event taken apart.
struct Event<'e> {
    data: Vec<u8>,
    /// Its lines that are not data.
    others: Vec<&'e [u8]>,
}

impl<'e> Event<'e> {
    fn read(event: &'e [u8]) -> Self {
        let mut data: Vec<&[u8]> = Vec::new();
        let mut others: Vec<&[u8]> = Vec::new();
        let mut rest = event.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(event);
        while let Some((line, after)) = next_line(rest).or_else(|| last_line(rest)) {
            rest = rest.get(after..).unwrap_or_default();
            match line.strip_prefix(b"data:") {
                Some(text) => data.push(text.strip_prefix(b" ").unwrap_or(text)),
                None if line.is_empty() => {}
                None => others.push(line),
            }
        }
        Self { data: data.join(&b'\n'), others }
    }

    /// The event with other data.
    fn with(mut self, data: &[u8]) -> Vec<u8> {
        self.others.push(&[]);
        let mut written = self.others.join(&b'\n');
        written.extend_from_slice(b"data: ");
        written.extend_from_slice(data);
        written.extend_from_slice(b"\n\n");
        written
    }
}

/// A line whose `\r` is the last byte of a whole event.
fn last_line(text: &[u8]) -> Option<(&[u8], usize)> {
    text.split_last().filter(|(last, _)| **last == b'\r').map(|(_, line)| (line, text.len()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;

    use super::*;

    struct Chunks(VecDeque<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn lists() -> Lists {
        Lists::new(|kind, name| match kind {
            Named::Tool => name == "echo",
            Named::Resource => name.starts_with("demo://"),
            _ => false,
        })
    }

    async fn through(kind: &'static str, chunks: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        let body = Chunks(chunks.iter().map(|chunk| Bytes::from((*chunk).to_owned())).collect());
        let reading = Reading { lists: lists(), session: None };
        let body = Filtered::new(reading, &mut headers, body);
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","x":1},{"name":"drop"},{}],"nextCursor":"c"}}"#;
    const LEFT: &str =
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","x":1}],"nextCursor":"c"}}"#;

    #[tokio::test]
    async fn a_list_shows_what_the_role_may_use() {
        let (one, two) = TOOLS.split_at(40);
        assert_eq!(through("application/json", &[one, two]).await, LEFT);
        let batch = format!("[{TOOLS},{TOOLS}]");
        assert_eq!(through("application/json; charset=utf-8", &[&batch]).await, format!("[{LEFT},{LEFT}]"));
    }

    #[tokio::test]
    async fn what_holds_no_list_goes_on_byte_for_byte() {
        let other = "{ \"jsonrpc\":\"2.0\",\"id\":1, \"result\":{\"content\":[],\"structuredContent\":{\"tools\":[{\"name\":\"drop\"}]}}}";
        assert_eq!(through("application/json", &[other]).await, other);
        assert_eq!(through("text/plain", &[TOOLS]).await, TOOLS);
        let stream = ": ping\n\nid: 1\nevent: message\ndata: {\"method\":\"x\"}\n\ndata: half";
        assert_eq!(through("text/event-stream", &[stream]).await, stream);
    }

    #[tokio::test]
    async fn a_list_in_a_stream_is_narrowed_however_it_is_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let (one, two) = TOOLS.split_at(TOOLS.find(',').unwrap() + 1);
            let event =
                format!("id: 7{end}event: message{end}data: {one}{end}data:{two}{end}{end}: bye{end}{end}");
            let expected = format!("id: 7\nevent: message\ndata: {LEFT}\n\n");
            for size in [1, 3, 17, 1000] {
                let chunks: Vec<&str> =
                    event.as_bytes().chunks(size).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
                let got = through("text/event-stream", &chunks).await;
                assert!(got.starts_with(&expected), "{end:?} {size}: {got}");
                assert!(got.contains(": bye"), "{got}");
            }
        }
    }

    #[tokio::test]
    async fn what_has_no_single_meaning_is_not_passed_on() {
        for bad in [
            r#"{"result":{"tools":[{"name":"drop"}]},"result":{}}"#,
            r#"{"result":{"tools":[{"name":"drop","name":"echo"}]}}"#,
            "\u{feff}{\"result\":{}}",
            r#"{"result":{}} {}"#,
            "{",
        ] {
            for (kind, text) in
                [("application/json", bad.to_owned()), ("text/event-stream", format!("data: {bad}\n\n"))]
            {
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
                let reading = Reading { lists: lists(), session: None };
                let body = Filtered::new(reading, &mut headers, Chunks([Bytes::from(text)].into()));
                assert!(body.collect().await.is_err(), "{kind}: {bad}");
            }
        }
    }

    #[test]
    fn a_comment_is_not_held_back() {
        let (mut held, mut ready) = (BytesMut::from(&b": ping\n"[..]), VecDeque::new());
        assert!(take_events(&lists(), None, &mut held, &mut Looked::default(), &mut ready));
        assert_eq!(ready, [Bytes::from_static(b": ping\n")]);
    }
}
