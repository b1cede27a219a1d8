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
use http::{HeaderMap, StatusCode, header};
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
    /// Something that no client takes for a message of the protocol.
    Other,
}

impl Form {
    /// How an answer is written, as the most lenient client reads its type. None where that cannot be told.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
        let (kind, None) = (kinds.next()?.to_str().ok()?, kinds.next()) else { return None };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is = |start: &str| kind.starts_with(start);
        match kind.as_str() {
            _ if is("application/json") || is("text/json") || kind.ends_with("+json") => Some(Self::Json),
            _ if is("text/event-stream") => Some(Self::Events),
            _ => None,
        }
    }
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
    ///
    /// # Errors
    /// Where a client may read a message in the answer, and it cannot be told how.
    pub fn new(
        reading: Reading,
        status: StatusCode,
        headers: &mut HeaderMap,
        body: B,
    ) -> Result<Self, &'static str> {
        let Reading { lists, session } = reading;
        // In the transport of 2024-11-05 clients read nothing but the stream; others read nothing in `202`.
        let holds_a_message = status.is_success() && status != StatusCode::ACCEPTED && session.is_none();
        let form = match Form::of(headers) {
            _ if body.is_end_stream() => Form::Other,
            Some(form) => form,
            None if holds_a_message => return Err("its lists are neither JSON nor events"),
            None => Form::Other,
        };
        if !matches!(form, Form::Other) {
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::ETAG);
        }
        let (held, ready) = (BytesMut::new(), VecDeque::new());
        Ok(Self {
            inner: body,
            lists,
            session,
            form,
            held,
            looked: Looked::default(),
            ready,
            trailers: None,
            ended: false,
        })
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
                            if take_events(this.lists, session, this.held, this.looked, this.ready).is_err() {
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
                        // Some clients take what ends without its blank line for an event, too.
                        let session = this.session.as_mut();
                        let narrowed = match this.form {
                            Form::Events => take_event(this.lists, session, &rest),
                            _ => take_text(this.lists, &rest),
                        };
                        match narrowed {
                            Ok(narrowed) => this.ready.push_back(narrowed.map_or(rest, Bytes::from)),
                            Err(Unreadable) => return Poll::Ready(Some(Err(UNREADABLE.into()))),
                        }
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

/// An answer or an event that has no single meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

/// What is to be sent in place of a text that is one message or batch; none where it goes on as it is.
fn take_text(lists: &Lists, text: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    if json::is_plain(text, DEEPEST) { Ok(lists.narrowed(text)) } else { Err(Unreadable) }
}

/// Moves the whole events, and the comments before the next one, from `held` to `ready`.
fn take_events(
    lists: &Lists,
    mut session: Option<&mut Opening>,
    held: &mut BytesMut,
    looked: &mut Looked,
    ready: &mut VecDeque<Bytes>,
) -> Result<(), Unreadable> {
    while let Some(end) = end_of_event(held, looked) {
        let bytes = held.split_to(end).freeze();
        let narrowed = take_event(lists, session.as_deref_mut(), &bytes)?;
        ready.push_back(narrowed.map_or(bytes, Bytes::from));
    }
    Ok(())
}

/// What is to be sent in place of an event; none where it goes on as it is.
fn take_event(
    lists: &Lists,
    session: Option<&mut Opening>,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, Unreadable> {
    let event = Event::read(bytes);
    let is_endpoint =
        event.others.iter().any(|line| [&b"event: endpoint"[..], b"event:endpoint"].contains(line));
    if let (Some(session), true) = (session, is_endpoint) {
        session.told(&String::from_utf8_lossy(&event.data));
        return Ok(None);
    }
    // What holds no object and no array is no message: `data: ping`.
    if !event.data.iter().any(|byte| b"{[".contains(byte)) {
        return Ok(None);
    }
    if !json::is_plain(&event.data, DEEPEST) {
        return Err(Unreadable);
    }
    Ok(lists.narrowed(&event.data).map(|data| event.with(&data)))
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
        let comment = looked.line == 0 && held.starts_with(b":");
        let empty = end == looked.line;
        let after = match (held.get(end)?, held.get(end + 1)) {
            (b'\r', Some(b'\n')) => end + 2,
            // It may be half of a line's end; where it ends an event, it does so either way, and a `\n` that follows
            // is one more empty line.
            (b'\r', None) if !(empty || comment) => {
                looked.to = end;
                return None;
            }
            _ => end + 1,
        };
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

/// The last line, whose end is half there or missing.
fn last_line(text: &[u8]) -> Option<(&[u8], usize)> {
    let line = text.strip_suffix(b"\r").unwrap_or(text);
    (!text.is_empty()).then_some((line, text.len()))
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

    /// What a client gets of an answer.
    async fn got(status: u16, kinds: &[&'static str], chunks: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for kind in kinds {
            headers.append(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        }
        let body = Chunks(chunks.iter().map(|chunk| Bytes::from((*chunk).to_owned())).collect());
        let reading = Reading { lists: lists(), session: None };
        let status = StatusCode::from_u16(status).unwrap();
        let body = Filtered::new(reading, status, &mut headers, body).map_err(str::to_owned)?;
        let whole = body.collect().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(whole.to_bytes().to_vec()).unwrap())
    }

    async fn through(kind: &'static str, chunks: &[&str]) -> String {
        got(200, &[kind], chunks).await.unwrap()
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
        let stream = ": ping\n\ndata: ping\n\nid: 1\nevent: message\ndata: {\"method\":\"x\"}\n\ndata: half";
        assert_eq!(through("text/event-stream", &[stream]).await, stream);
    }

    #[tokio::test]
    async fn a_list_is_read_in_every_type_that_a_client_may_read_it_in() {
        for kind in [
            "APPLICATION/JSON",
            "application/json-rpc",
            "application/mcp+json",
            "text/json ;charset=utf-8",
            "application/json, text/plain",
        ] {
            assert_eq!(through(kind, &[TOOLS]).await, LEFT, "{kind}");
        }
        for kinds in
            [&["text/plain"][..], &[], &["application/json", "text/plain"], &["application/octet-stream"]]
        {
            assert!(got(200, kinds, &[TOOLS]).await.is_err(), "{kinds:?}");
        }
        // No client takes these for an answer.
        assert_eq!(got(202, &["text/plain"], &["Accepted"]).await.unwrap(), "Accepted");
        assert_eq!(got(404, &["text/html"], &["<p>gone"]).await.unwrap(), "<p>gone");
    }

    #[tokio::test]
    async fn what_a_stream_ends_with_is_an_event_to_some() {
        for end in ["", "\n", "\r", "\r\n"] {
            let got = through("text/event-stream", &[&format!("data: {TOOLS}{end}")]).await;
            assert_eq!(got, format!("data: {LEFT}\n\n"), "{end:?}");
        }
        assert!(got(200, &["text/event-stream"], &["data: {\"result\":{\"tools\":["]).await.is_err());
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
                assert!(got(200, &[kind], &[&text]).await.is_err(), "{kind}: {bad}");
            }
        }
    }

    #[test]
    fn what_is_whole_is_not_held_back() {
        for text in [": ping\n", ": ping\r", "data: {}\n\n", "data: {}\r\r", "data: {}\r\n\r\n"] {
            let (mut held, mut ready) = (BytesMut::from(text), VecDeque::new());
            take_events(&lists(), None, &mut held, &mut Looked::default(), &mut ready).unwrap();
            assert_eq!(ready, [Bytes::from_static(text.as_bytes())]);
        }
    }
}
