//! One body: what each of its messages asks for.

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::Waiting;
use crate::json;

/// Levels of objects and arrays in a body; tools take nested arguments.
const DEEPEST: usize = 64;
/// Messages in one batch (2025-03-26, "Batching").
const MOST_MESSAGES: usize = 100;
/// What arguments of a tool may weigh to be kept while its answer is under way.
const LIGHT: usize = 256;
/// Escapes of escapes in the URI of a resource.
const MOST_ESCAPES: usize = 4;
/// The longest id of a request, in bytes.
const LONGEST_ID: usize = 256;
/// The longest name of a method, a tool, a prompt or a resource, in bytes.
const LONGEST_NAME: usize = 1024;

/// Methods whose names say what else is in a message.
const KNOWN: [&str; 15] = [
    "tools/call",
    "tools/list",
    "prompts/get",
    "prompts/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "resources/list",
    "resources/templates/list",
    "completion/complete",
    "initialize",
    "ping",
    "server/discover",
    "logging/setLevel",
    "subscriptions/listen",
];

/// Why a body has no single meaning. The words are safe to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclear {
    /// What is wrong.
    pub what: &'static str,
    /// Whether headers and body disagree: that has a code of its own (2026-07-28, "Server Validation").
    pub mismatch: bool,
}

/// The messages of one `POST`.
#[derive(Debug)]
pub struct Body {
    items: Vec<Item>,
    batch: bool,
}

/// One message.
#[derive(Debug)]
pub struct Item {
    /// The request's id, a string or a number; none for notifications and for answers to the server.
    pub id: Option<Value>,
    /// The JSON-RPC method; empty for an answer to the server.
    pub method: String,
    /// What it asks for.
    pub ask: Ask,
    /// What a tool is called with.
    pub arguments: Value,
}

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Something that a role names.
    Named(Named, String),
    /// A list of these, of which the client gets what its role may use.
    List(Named),
    /// What every client needs: `initialize`, `ping`, `server/discover`, `logging/setLevel`,
    /// `subscriptions/listen`, notifications, and answers to the server's own requests.
    Plumbing,
}

/// What a role can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// `tools/call`.
    Tool,
    /// `resources/read`, `resources/subscribe`, `resources/unsubscribe`, and completions for one.
    Resource,
    /// `prompts/get`, and completions for one.
    Prompt,
    /// Any other method.
    Method,
}

impl Named {
    /// The word of the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Method => "method",
        }
    }
}

impl Ask {
    /// What a record says that a message asked for; `about` is the tool, the resource or the prompt in it. None where
    /// the two do not fit together.
    pub fn recorded(method: &str, about: Option<&str>) -> Option<Self> {
        let kind = match method {
            "tools/call" => Named::Tool,
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Named::Resource,
            // A record does not say of what kind it was; the URI of a resource has a colon (RFC 3986 §3.1).
            "completion/complete" if about.is_some_and(|about| about.contains(':')) => Named::Resource,
            "prompts/get" | "completion/complete" => Named::Prompt,
            _ if about.is_some() => return None,
            "" => return Some(Self::Plumbing),
            _ => return Some(nameless(method, false)),
        };
        about.map(|about| Self::Named(kind, about.to_owned()))
    }
}

impl Body {
    /// Reads a whole body; `headers` must not say anything else than it.
    ///
    /// # Errors
    /// When it is no JSON-RPC, when it has two meanings, or when the headers contradict it.
    pub fn read(body: &[u8], headers: &HeaderMap) -> Result<Self, Unclear> {
        plain_json(headers)?;
        let value = json::value(body, DEEPEST).ok_or(unclear("the body is not JSON with one meaning"))?;
        let (items, batch) = match value {
            Value::Array(messages) if messages.is_empty() => return Err(unclear("the batch is empty")),
            Value::Array(messages) if messages.len() > MOST_MESSAGES => {
                return Err(unclear("the batch holds more than 100 messages"));
            }
            Value::Array(messages) => {
                (messages.into_iter().map(Item::read).collect::<Result<Vec<_>, _>>()?, true)
            }
            message => (vec![Item::read(message)?], false),
        };
        let body = Self { items, batch };
        body.agrees(headers)?;
        Ok(body)
    }

    /// A body that asks for one thing, to examine a policy with.
    pub fn asking(kind: Named, name: &str) -> Self {
        let (id, method) = (Some(Value::from(1)), kind.as_str().to_owned());
        let item = Item { id, method, ask: Ask::Named(kind, name.to_owned()), arguments: Value::Null };
        Self { items: vec![item], batch: false }
    }

    /// Forgets arguments that take more memory than most.
    pub fn keep_little(&mut self) {
        for item in &mut self.items {
            if super::weight(&item.arguments, LIGHT) > LIGHT {
                item.arguments = Value::Null;
            }
        }
    }

    /// The messages, at least one.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Whether an answer to it holds a list.
    pub fn asks_for_a_list(&self) -> bool {
        self.items.iter().any(|item| matches!(item.ask, Ask::List(_)))
    }

    /// Who waits for an answer to it.
    pub fn waiting(&self) -> Waiting {
        let ids = self.items.iter().filter_map(|item| {
            let calls = matches!(item.ask, Ask::Named(Named::Tool, _));
            item.id.clone().map(|id| (id, calls))
        });
        Waiting::new(ids.collect(), self.batch)
    }

    /// `Mcp-Method` and `Mcp-Name` say what the body says, or nothing.
    fn agrees(&self, headers: &HeaderMap) -> Result<(), Unclear> {
        let mismatch = |what| Unclear { what, mismatch: true };
        // CGI and WSGI read `_` and `-` alike.
        if ["mcp_method", "mcp_name"].iter().any(|name| headers.contains_key(*name)) {
            return Err(mismatch("an `Mcp-…` header is spelled with `_`"));
        }
        let method = one(headers, "mcp-method").map_err(mismatch)?;
        let name = one(headers, "mcp-name").map_err(mismatch)?;
        if method.is_none() && name.is_none() {
            return Ok(());
        }
        let (false, [item]) = (self.batch, self.items.as_slice()) else {
            return Err(mismatch("`Mcp-Method` and `Mcp-Name` go with one message, not with a batch"));
        };
        if method.is_some_and(|method| method != item.method) {
            return Err(mismatch("`Mcp-Method` names another method than the body"));
        }
        let own = match &item.ask {
            Ask::Named(Named::Tool | Named::Resource | Named::Prompt, name) => Some(name.as_str()),
            _ => None,
        };
        match name {
            Some(name) if decoded(&name).as_deref().is_none_or(|name| own != Some(name)) => {
                Err(mismatch("`Mcp-Name` names something else than the body"))
            }
            _ => Ok(()),
        }
    }
}

/// The body is JSON in UTF-8 and is not coded: what cannot be read is not passed on.
fn plain_json(headers: &HeaderMap) -> Result<(), Unclear> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unclear("the body has a content encoding"));
    }
    json::is_declared(headers).then_some(()).ok_or(unclear("the body is not declared as `application/json`"))
}

fn unclear(what: &'static str) -> Unclear {
    Unclear { what, mismatch: false }
}

fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(|value| Some(value.to_owned())).map_err(|_| "an `Mcp-…` header is not ASCII")
        }
        (Some(_), Some(_)) => Err("an `Mcp-…` header stands twice"),
    }
}

/// A name that does not fit into a header is sent as `=?base64?…?=` (2026-07-28, "Value Encoding").
fn decoded(name: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match name.strip_prefix("=?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(name.to_owned()),
        Some(coded) => String::from_utf8(STANDARD.decode(coded.strip_prefix("base64?")?).ok()?).ok(),
    }
}

impl Item {
    fn read(message: Value) -> Result<Self, Unclear> {
        const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
        let Value::Object(mut message) = message else { return Err(unclear("a message is an object")) };
        if json::has_double(&message, &MEMBERS) || message.contains_key("__proto__") {
            return Err(unclear("a member of the message is spelled in two ways"));
        }
        if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(unclear("a message says `\"jsonrpc\": \"2.0\"`"));
        }
        let id = match message.remove("id") {
            None => None,
            Some(Value::String(id)) if id.len() <= LONGEST_ID => Some(Value::String(id)),
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Some(Value::Number(id)),
            Some(_) => return Err(unclear("an `id` is a string of at most 256 bytes or a whole number")),
        };
        let answers = message.contains_key("result") || message.contains_key("error");
        let method = match message.remove("method") {
            Some(Value::String(method)) if !answers => method,
            None if answers => {
                let arguments = Value::Null;
                return Ok(Self { id: None, method: String::new(), ask: Ask::Plumbing, arguments });
            }
            _ => return Err(unclear("a message has either a `method` or an answer")),
        };
        if !is_method(&method) {
            return Err(unclear("this is not the name of a method"));
        }
        let mut params = match message.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(unclear("`params` is an object")),
        };
        let ask = ask(&method, id.is_some(), &params)?;
        let arguments = params.remove("arguments").unwrap_or_default();
        Ok(Self { id, method, ask, arguments })
    }
}

/// Whether a text is a method's name, and none that a lenient server takes for another.
fn is_method(text: &str) -> bool {
    let plain = text.len() <= LONGEST_NAME && text.bytes().all(|byte| byte.is_ascii_graphic());
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let usual = parts.join("/").to_ascii_lowercase();
    plain
        && !text.is_empty()
        && !KNOWN.iter().any(|known| *known != text && known.eq_ignore_ascii_case(&usual))
}

fn ask(method: &str, waits: bool, params: &Map<String, Value>) -> Result<Ask, Unclear> {
    let names = ["name", "uri", "ref", "arguments", "notifications", "resourceSubscriptions"];
    let notifications = params.get("notifications").and_then(Value::as_object);
    let hides = notifications.is_some_and(|below| json::has_double(below, &["resourceSubscriptions"]));
    if hides || json::has_double(params, &names) || params.contains_key("__proto__") {
        return Err(unclear("a parameter is spelled in two ways"));
    }
    Ok(match method {
        "tools/call" => Ask::Named(Named::Tool, text(params, "name")?),
        "prompts/get" => Ask::Named(Named::Prompt, text(params, "name")?),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            Ask::Named(Named::Resource, uri(params)?)
        }
        "completion/complete" => completion(params)?,
        // What a resource says is a resource's to grant; a line for the method grants all of them.
        "subscriptions/listen" if names_resources(params) => Ask::Named(Named::Method, method.to_owned()),
        _ => nameless(method, waits),
    })
}

/// What a method asks for that names nothing but itself.
fn nameless(method: &str, waits: bool) -> Ask {
    match method {
        "tools/list" => Ask::List(Named::Tool),
        "prompts/list" => Ask::List(Named::Prompt),
        "resources/list" | "resources/templates/list" => Ask::List(Named::Resource),
        "initialize" | "ping" | "server/discover" | "logging/setLevel" | "subscriptions/listen" => {
            Ask::Plumbing
        }
        _ if method.starts_with("notifications/") && !waits => Ask::Plumbing,
        _ => Ask::Named(Named::Method, method.to_owned()),
    }
}

/// Whether a subscription is one to certain resources (2026-07-28).
fn names_resources(params: &Map<String, Value>) -> bool {
    let below = params.get("notifications").and_then(Value::as_object);
    [Some(params), below].into_iter().flatten().any(|params| params.contains_key("resourceSubscriptions"))
}

/// A completion tells what values an argument of a prompt or a resource template can take.
fn completion(params: &Map<String, Value>) -> Result<Ask, Unclear> {
    let missing = || unclear("the completion does not say for what");
    let Some(Value::Object(about)) = params.get("ref") else { return Err(missing()) };
    if json::has_double(about, &["type", "name", "uri"]) {
        return Err(unclear("a parameter is spelled in two ways"));
    }
    match about.get("type").and_then(Value::as_str) {
        Some("ref/prompt") => Ok(Ask::Named(Named::Prompt, text(about, "name")?)),
        Some("ref/resource") => Ok(Ask::Named(Named::Resource, uri(about)?)),
        _ => Err(missing()),
    }
}

/// The URI of a resource. One that climbs is another resource than its beginning says, however the dots are written.
fn uri(params: &Map<String, Value>) -> Result<String, Unclear> {
    let uri = text(params, "uri")?;
    let decoded = decoded_uri(&uri).ok_or(unclear("the URI of a resource cannot be read"))?;
    let climbs = decoded.split(['/', '\\']).any(|segment| {
        let segment = segment.split(['?', '#', ';']).next().unwrap_or(segment).trim();
        segment == "." || segment == ".."
    });
    if climbs { Err(unclear("the URI of a resource has dot segments")) } else { Ok(uri) }
}

/// A URI without its escapes, also those of escapes. None where there is no end of them, or where they hide what is no
/// text.
fn decoded_uri(uri: &str) -> Option<String> {
    let mut text = uri.to_owned();
    for _ in 0..MOST_ESCAPES {
        let decoded = percent_decode_str(&text).decode_utf8().ok()?.into_owned();
        if decoded.chars().any(char::is_control) {
            return None;
        }
        if decoded == text {
            return Some(text);
        }
        text = decoded;
    }
    None
}

/// The URI of a resource as a guard has to see it, too: without escapes, with one `/` where there are several. Servers
/// read them alike.
pub fn canonical_uri(uri: &str) -> String {
    let decoded = decoded_uri(uri).unwrap_or_else(|| uri.to_owned()).replace('\\', "/");
    let (scheme, rest) = match decoded.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), decoded.as_str()),
    };
    let mut canonical = scheme;
    for part in rest.chars() {
        if part != '/' || !canonical.ends_with('/') || canonical.ends_with("://") {
            canonical.push(part);
        }
    }
    canonical
}

fn text(params: &Map<String, Value>, key: &str) -> Result<String, Unclear> {
    let text = params.get(key).and_then(Value::as_str);
    // A server may drop what nobody sees, and then take the name for another.
    let plain = |t: &&str| !t.chars().any(|c| c.is_control() || is_invisible(c)) && t.trim() == *t;
    let text = text.filter(|t| !t.is_empty() && t.len() <= LONGEST_NAME && plain(t));
    text.map(ToOwned::to_owned).ok_or(unclear("a tool, a prompt or a resource has no name that can be read"))
}

/// Characters without a glyph (Unicode `Default_Ignorable_Code_Point`, the common part of it) and odd blanks.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(more: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in more {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn read(body: &str) -> Result<Body, Unclear> {
        Body::read(body.as_bytes(), &headers(&[]))
    }

    fn call(rest: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#)
    }

    #[test]
    fn every_method_asks_for_what_its_parameters_name() {
        use Named::{Method, Prompt, Resource, Tool};
        let named = |kind, name: &str| Ask::Named(kind, name.to_owned());
        for (rest, ask) in [
            (r#""method":"tools/call","params":{"name":"echo","arguments":{}}"#, named(Tool, "echo")),
            (r#""method":"prompts/get","params":{"name":"p"}"#, named(Prompt, "p")),
            (r#""method":"resources/read","params":{"uri":"a://b/c"}"#, named(Resource, "a://b/c")),
            (
                r#""method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}"#,
                named(Prompt, "p"),
            ),
            (
                r#""method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"u"}}"#,
                named(Resource, "u"),
            ),
            (r#""method":"tasks/list","params":null"#, named(Method, "tasks/list")),
            (r#""method":"subscriptions/listen","params":{"notifications":{}}"#, Ask::Plumbing),
            (
                r#""method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a://b"]}}"#,
                named(Method, "subscriptions/listen"),
            ),
            (r#""method":"tasks/Get","params":{"name":"echo"}"#, named(Method, "tasks/Get")),
            (r#""method":"notifications/initialized""#, named(Method, "notifications/initialized")),
            (r#""method":"tools/list""#, Ask::List(Tool)),
            (r#""method":"initialize","params":{}"#, Ask::Plumbing),
            (r#""result":{}"#, Ask::Plumbing),
        ] {
            assert_eq!(read(&call(rest)).unwrap().items()[0].ask, ask, "{rest}");
        }
        let quiet = read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert_eq!(quiet.items()[0].ask, Ask::Plumbing);
    }

    #[test]
    fn a_record_says_what_was_asked_for() {
        let named = |kind, name: &str| Some(Ask::Named(kind, name.to_owned()));
        for (method, about, ask) in [
            ("tools/call", Some("echo"), named(Named::Tool, "echo")),
            ("tools/call", None, None),
            ("prompts/get", Some("p"), named(Named::Prompt, "p")),
            ("resources/subscribe", Some("a://b"), named(Named::Resource, "a://b")),
            ("completion/complete", Some("a://b"), named(Named::Resource, "a://b")),
            ("completion/complete", Some("p"), named(Named::Prompt, "p")),
            ("tasks/list", None, named(Named::Method, "tasks/list")),
            ("tasks/list", Some("x"), None),
            ("tools/list", None, Some(Ask::List(Named::Tool))),
            ("notifications/initialized", None, Some(Ask::Plumbing)),
            ("", None, Some(Ask::Plumbing)),
        ] {
            assert_eq!(Ask::recorded(method, about), ask, "{method} {about:?}");
        }
    }

    #[test]
    fn a_body_that_another_reader_may_read_otherwise_is_none() {
        for bad in [
            &call(r#""method":"tools/call","method":"ping","params":{"name":"x"}"#),
            &call(r#""method":"ping","Method":"tools/call","params":{"name":"x"}"#),
            &call(r#""method":"tools/call","params":{"name":"echo","name":"drop"}"#),
            &call(r#""method":"tools/call","params":{"name":"echo","Name":"drop"}"#),
            &call(r#""method":"tools/call","params":{"name":"ec\u0000ho"}"#),
            &call(r#""method":"tools/call","params":{"name":7}"#),
            &call(r#""method":"tools/call","params":["echo"]"#),
            &call(r#""method":"tools/call""#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/../etc/passwd"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/%2E%2e/etc/passwd"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/..%2fetc/passwd"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/%252e%252e/etc"}"#),
            &call(r#""method":"tools/call","params":{"name":" pay"}"#),
            &call(r#""method":"tools/call","params":{"name":"pay\u200b"}"#),
            &call(r#""method":"tools/call","params":{"name":"pay\u00a0"}"#),
            &call(r#""method":"tools/call","params":{"name":"echo","__proto__":{"name":"drop"}}"#),
            &format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(300)),
            &call(r#""method":"resources/subscribe","params":{"uri":"file:///docs\\..\\etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/..;x/etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/..%20/etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/.%09./etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/..%00/etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/%25252e%25252e/etc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"file:///docs/..%c0%afetc"}"#),
            &call(r#""method":"resources/read","params":{"uri":"a%2525252525252541"}"#),
            &call(r#""method":"Tools/Call","params":{"name":"echo"}"#),
            &call(r#""method":"tools//call","params":{"name":"echo"}"#),
            &call(r#""method":"tools/call ","params":{"name":"echo"}"#),
            &call(r#""method":"tools/call\u200b","params":{"name":"echo"}"#),
            &call(r#""method":"ping","method\u0000":"tools/call""#),
            &call(
                r#""method":"subscriptions/listen","params":{"Notifications":{"resourceSubscriptions":["a://b"]}}"#,
            ),
            &call(
                r#""method":"subscriptions/listen","params":{"notifications":{"ResourceSubscriptions":["a://b"]}}"#,
            ),
            &call(r#""method":"subscriptions/listen","params":{"resourcesubscriptions":["a://b"]}"#),
            &call(r#""method":"ping","result":{}"#),
            &call(r#""method":7"#),
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            "[]",
            "",
            "7",
            r#"[[{"jsonrpc":"2.0","method":"ping"}]]"#,
            "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).is_err());
    }

    #[test]
    fn a_guard_sees_what_a_uri_stands_for() {
        for (uri, canonical) in [
            ("file:///%73ecret/x", "file:///secret/x"),
            ("file:////secret//x", "file:///secret/x"),
            ("file:///secret%2fx", "file:///secret/x"),
            ("file:///%2573ecret\\x", "file:///secret/x"),
            ("demo://a/b?c=%20d", "demo://a/b?c= d"),
            ("plain", "plain"),
        ] {
            assert_eq!(canonical_uri(uri), canonical, "{uri}");
        }
    }

    #[test]
    fn headers_say_what_the_body_says_or_nothing() {
        let echo = call(r#""method":"tools/call","params":{"name":"echo"}"#);
        let with = |more: &[(&'static str, &'static str)]| Body::read(echo.as_bytes(), &headers(more));
        assert!(with(&[("mcp-method", "tools/call"), ("mcp-name", "echo")]).is_ok());
        assert!(with(&[("mcp-name", "=?base64?ZWNobw==?=")]).is_ok());
        for bad in [
            &[("mcp-method", "tools/list")][..],
            &[("mcp-method", "TOOLS/CALL")],
            &[("mcp-name", "drop")],
            &[("mcp-name", "echo"), ("mcp-name", "drop")],
            &[("mcp-name", "=?base64?ZHJvcA==?=")],
            &[("mcp-name", "=?base64?ZWNobw?=")],
            &[("mcp_name", "echo")],
            &[("mcp-name", "")],
        ] {
            assert!(with(bad).is_err_and(|unclear| unclear.mismatch), "{bad:?}");
        }
        let ping = call(r#""method":"ping""#);
        assert!(Body::read(ping.as_bytes(), &headers(&[("mcp-name", "echo")])).is_err());
        let batch = format!("[{echo}]");
        assert!(Body::read(batch.as_bytes(), &headers(&[("mcp-method", "tools/call")])).is_err());
        assert!(Body::read(batch.as_bytes(), &headers(&[])).is_ok());
    }

    #[test]
    fn only_plain_declared_json_is_read() {
        let ping = call(r#""method":"ping""#);
        let declared = |kind: &'static str, more: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(kind));
            headers.extend(
                more.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))),
            );
            Body::read(ping.as_bytes(), &headers).is_ok()
        };
        assert!(declared("application/json; charset=UTF-8", &[]));
        assert!(!declared("application/json; charset=utf-16", &[]));
        assert!(!declared("text/plain", &[]));
        assert!(!declared("application/json", &[("content-encoding", "gzip")]));
        let mut twice = headers(&[("content-type", "text/plain")]);
        assert!(Body::read(ping.as_bytes(), &twice).is_err());
        twice.clear();
        assert!(Body::read(ping.as_bytes(), &twice).is_err());
    }
}
