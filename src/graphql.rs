//! GraphQL, as far as a policy can see it: which fields of the schema's roots a request asks for. Names of
//! operations are the client's to choose, so they mean nothing here.

use std::collections::{BTreeSet, HashMap, HashSet};

use apollo_parser::{Parser, cst};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::{json, target::Query};

/// Levels of objects and arrays in a body; variables are nested input objects.
const DEEPEST: usize = 64;
/// Levels of selections in a definition.
const DEEPEST_SELECTION: usize = 100;
/// Words of a document.
const MOST_TOKENS: usize = 50_000;
/// Bytes of all documents of a request.
const LONGEST: usize = 256 << 10;
/// Requests in one batch.
const MOST_REQUESTS: usize = 100;
/// Different fields in one request.
const MOST_FIELDS: usize = 1_000;

/// The members of a request (GraphQL over HTTP §5.1).
const MEMBERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];
/// What names of parameters hold by which servers are told what to do, in whole or in part: `docId`, `query_hash`,
/// `persistedQuery`.
const TELLING: [&str; 9] =
    ["query", "document", "docid", "operation", "mutation", "hash", "persist", "variables", "extensions"];

/// What an operation does. What writes comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Writes.
    Mutation,
    /// A stream of events.
    Subscription,
    /// Reads.
    Query,
}

impl Kind {
    /// The word of the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// The fields of the roots that a request asks for, by the schema's names, not by aliases. A document may hold
/// several operations, of which the server runs one: each of them counts. Never empty.
pub type Fields = BTreeSet<(Kind, String)>;

/// Reads the body of a request: one GraphQL request, or a batch of them (GraphQL over HTTP §5.4). The URL must not
/// say anything, too: servers differ in which of the two they take.
///
/// # Errors
/// What is wrong, safe to show: what cannot be read cannot be granted.
pub fn read_body(body: &[u8], headers: &HeaderMap, url: Option<&Query>) -> Result<Fields, &'static str> {
    let heard = url.into_iter().flat_map(Query::parts).any(|part| is_heard(&key(part)));
    if heard || url.is_some_and(|url| url.as_str().contains(';')) {
        return Err("the URL of the request says what to do, too");
    }
    if headers.contains_key(http::header::CONTENT_ENCODING) || !json::is_declared(headers) {
        return Err("a GraphQL body is `application/json` without a content encoding");
    }
    let mut reading = Reading::default();
    match json::value(body, DEEPEST).ok_or("the body is not JSON with one meaning")? {
        Value::Object(request) => reading.request(&request)?,
        Value::Array(batch) if (1..=MOST_REQUESTS).contains(&batch.len()) => {
            for request in &batch {
                reading.request(request.as_object().ok_or("a GraphQL request is an object")?)?;
            }
        }
        _ => return Err("the body holds no GraphQL request"),
    }
    Ok(reading.fields)
}

/// Reads the query of a `GET` (GraphQL over HTTP §5.3).
///
/// # Errors
/// As [`read_body`].
pub fn read_query(url: Option<&Query>) -> Result<Fields, &'static str> {
    let parts: Vec<&str> = url.into_iter().flat_map(Query::parts).collect();
    if url.is_some_and(|url| url.as_str().contains(';')) {
        // A border between parameters to some, a character to others.
        return Err("the query of the URL has a `;`");
    }
    let mut documents = parts.iter().filter(|part| key(part) == "query");
    let (Some(document), None) = (documents.next(), documents.next()) else {
        return Err("the query of the URL holds no GraphQL document, or more than one");
    };
    let usual = ["query", "operationname", "variables"];
    let other = |part: &&str| is_heard(&key(part)) && !usual.contains(&key(part).as_str());
    let twice = |name: &str| parts.iter().filter(|part| key(part) == name).count() > 1;
    if parts.iter().any(other) || usual.into_iter().any(twice) || !document.starts_with("query=") {
        return Err("the query of the URL says in another way, too, what to do");
    }
    let text = document.split_once('=').map_or("", |(_, value)| value).replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8().map_err(|_| "the document is not UTF-8")?;
    read_document(&text)
}

/// Reads a document.
///
/// # Errors
/// As [`read_body`].
pub fn read_document(text: &str) -> Result<Fields, &'static str> {
    let mut reading = Reading::default();
    reading.document(text)?;
    Ok(reading.fields)
}

/// A key of the URL's query as the most lenient server reads it: PHP drops blanks in front and what follows `[`.
fn key(part: &str) -> String {
    let key = part.split_once('=').map_or(part, |(key, _)| key).replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8_lossy().to_lowercase();
    let key = key.split(['[', '\0']).next().unwrap_or_default();
    key.trim().trim_matches(|c: char| c.is_control()).to_owned()
}

/// Whether a server may take a key for what it is to do.
fn is_heard(key: &str) -> bool {
    let plain = key.replace(['_', '-', '.'], "");
    plain == "id" || TELLING.iter().any(|word| plain.contains(word))
}

/// Whether `extensions` may name a document that only the server has. Beside a document, some take the one and some the
/// other.
fn may_name_a_document(extensions: &Value) -> bool {
    match extensions {
        Value::Null => false,
        Value::Object(extensions) => extensions.keys().any(|key| json::folded(key).contains("persist")),
        _ => true,
    }
}

/// What was read of a request so far.
#[derive(Default)]
struct Reading {
    fields: Fields,
    bytes: usize,
}

impl Reading {
    fn request(&mut self, request: &Map<String, Value>) -> Result<(), &'static str> {
        // Any other member may be heard by some server; the specification knows no more.
        if request.keys().any(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(
                "the request has a member beside `query`, `operationName`, `variables` and `extensions`",
            );
        }
        if request.get("extensions").is_some_and(may_name_a_document) {
            return Err("the request names a persisted document");
        }
        match request.get("query") {
            Some(Value::String(document)) => self.document(document),
            _ => Err("the request holds no GraphQL document"),
        }
    }

    fn document(&mut self, text: &str) -> Result<(), &'static str> {
        const BROKEN: &str = "this is not a GraphQL document";
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > LONGEST {
            return Err("the documents of the request are too long");
        }
        // Some grammars end a comment at these, and others do not: what follows would be read by some alone.
        let odd =
            |c: char| (c.is_control() && !"\t\n\r".contains(c)) || ['\u{2028}', '\u{2029}'].contains(&c);
        if text.chars().any(odd) {
            return Err(
                "the document has a control character or a line separator; send such text in `variables`",
            );
        }
        let tree = Parser::new(text).recursion_limit(DEEPEST_SELECTION).token_limit(MOST_TOKENS).parse();
        if tree.errors().next().is_some() {
            return Err(BROKEN);
        }
        let mut fragments: HashMap<String, Vec<cst::SelectionSet>> = HashMap::new();
        let mut operations: HashMap<Kind, Vec<cst::SelectionSet>> = HashMap::new();
        for definition in tree.document().definitions() {
            match definition {
                cst::Definition::FragmentDefinition(fragment) => {
                    let name = fragment.fragment_name().and_then(|name| name.name()).ok_or(BROKEN)?;
                    let selections = fragment.selection_set().ok_or(BROKEN)?;
                    // Two of one name are no valid document, but a server may take either.
                    fragments.entry(name.text().to_string()).or_default().push(selections);
                }
                cst::Definition::OperationDefinition(operation) => {
                    let kind = match operation.operation_type() {
                        Some(kind) if kind.mutation_token().is_some() => Kind::Mutation,
                        Some(kind) if kind.subscription_token().is_some() => Kind::Subscription,
                        _ => Kind::Query,
                    };
                    operations.entry(kind).or_default().push(operation.selection_set().ok_or(BROKEN)?);
                }
                _ => return Err("the document holds more than operations and fragments"),
            }
        }
        if operations.is_empty() {
            return Err("the document holds no operation");
        }
        operations.into_iter().try_for_each(|(kind, roots)| self.roots(kind, roots, &fragments))
    }

    /// The fields of all roots of one kind, also those that fragments bring; each fragment is looked into once. A
    /// list of what is still to do, not recursion: the depth is the client's to choose.
    fn roots(
        &mut self,
        kind: Kind,
        mut to_do: Vec<cst::SelectionSet>,
        fragments: &HashMap<String, Vec<cst::SelectionSet>>,
    ) -> Result<(), &'static str> {
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(selections) = to_do.pop() {
            for selection in selections.selections() {
                match selection {
                    cst::Selection::Field(field) => {
                        let name = field.name().ok_or("a field has no name")?;
                        self.fields.insert((kind, name.text().to_string()));
                        if self.fields.len() > MOST_FIELDS {
                            return Err("the request asks for too many fields at once");
                        }
                    }
                    cst::Selection::InlineFragment(fragment) => {
                        to_do.push(fragment.selection_set().ok_or("a fragment is empty")?);
                    }
                    cst::Selection::FragmentSpread(spread) => {
                        let name = spread.fragment_name().and_then(|name| name.name());
                        let name = name.ok_or("a fragment has no name")?.text().to_string();
                        let fragment = fragments.get(&name).ok_or("a fragment is not in the document")?;
                        if seen.insert(name) {
                            to_do.extend(fragment.iter().cloned());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        let fields = read_document(text)?;
        Ok(fields
            .iter()
            .map(|(kind, field)| format!("{} {field}", kind.as_str()))
            .collect::<Vec<_>>()
            .join(", "))
    }

    fn repeated(count: usize, piece: impl Fn(usize) -> String) -> String {
        (0..count).map(piece).collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_counts_is_what_the_roots_are_asked_for() {
        for (text, found) in [
            ("{ viewer { id } }", "query viewer"),
            ("query Q($a: Int = 1) { a: viewer { b } c }", "query c, query viewer"),
            ("mutation viewer { issueCreate(x: {y: 1}) { id } }", "mutation issueCreate"),
            ("query A { a } mutation B { b } subscription C { c }", "mutation b, subscription c, query a"),
            (
                "mutation { ...F ... on Mutation { two } ... @include(if: true) { three } } \
                 fragment F on Mutation { one ...G } fragment G on Mutation { four ...F }",
                "mutation four, mutation one, mutation three, mutation two",
            ),
            ("query { ok: deleteRepo }", "query deleteRepo"),
            ("# mutation { x }\n{ a(s: \"} mutation { b }\") }", "query a"),
            ("{ ...F } fragment F on Query { a } fragment F on Query { b }", "query a, query b"),
            ("query A { ...F } mutation B { ...F } fragment F on X { a }", "mutation a, query a"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(found), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let deep = format!("{}a{}", "{ a ".repeat(5000), "}".repeat(5000));
        let wide = format!("{{ {} }}", "a ".repeat(60_000));
        let many = format!("{{ {} }}", repeated(2000, |n| format!("f{n} ")));
        let long = format!("{{ a(s: \"{}\") }}", "x".repeat(300_000));
        for bad in [
            "",
            "{",
            "query",
            "{ a ",
            "fragment F on Query { a }",
            "{ ...F }",
            "type A { b: C }",
            "a",
            "{ a } extend type Q { b: C }",
            "{ a } # \u{2028} mutation M { b }",
            "{ a } # \u{2029} mutation M { b }",
            "{ a } # \u{85} mutation M { b }",
            "{ a } # \u{b} mutation M { b }",
            "{ a } # \0 mutation M { b }",
            &deep,
            &wide,
            &many,
            &long,
        ] {
            assert!(read_document(bad).is_err(), "{bad:.60}");
        }
    }

    /// Fragments that nest in fragments would be deeper than any stack, and fields times operations larger than any
    /// memory.
    #[test]
    fn fragments_cost_what_they_are_long() {
        let (open, close) = ("...{".repeat(90), "}".repeat(90));
        let nested = repeated(150, |n| format!("fragment f{n} on Q{{{open}...f{}{close}}}", n + 1));
        assert_eq!(
            read(&format!("{{...f0}}{nested}fragment f150 on Q{{viewer}}")).as_deref(),
            Ok("query viewer")
        );
        let fields = repeated(900, |n| format!("f{n} "));
        let operations = repeated(3000, |n| format!("query a{n}{{...F}}"));
        let fields = read_document(&format!("fragment F on Q{{{fields}}}{operations}")).unwrap();
        assert_eq!(fields.len(), 900);
    }

    fn json() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        headers
    }

    #[test]
    fn a_body_is_one_request_or_a_batch() {
        let count = |body: &str| read_body(body.as_bytes(), &json(), None).map(|fields| fields.len());
        assert_eq!(
            count(r#"{"query":"{ a }","operationName":null,"variables":{},"extensions":{"x":1}}"#),
            Ok(1)
        );
        assert_eq!(count(r#"[{"query":"{ a }"},{"query":"mutation { b }"}]"#), Ok(2));
        for bad in [
            r#"{"query":"{ a }","query":"mutation { b }"}"#,
            r#"{"query":"{ a }","Query":"mutation { b }"}"#,
            r#"{"query":"{ a }","documentId":"x"}"#,
            r#"{"query":"{ a }","id":"x"}"#,
            r#"{"query":"{ a }","operations":"x"}"#,
            r#"{"query":"{ a }","query\u0000":"mutation { b }"}"#,
            r#"{"query":"{ a }","__proto__":{"query":"mutation { b }"}}"#,
            r#"{"query":"{ a }","extensions":{"PersistedQuery":{"version":1}}}"#,
            r#"{"query":"{ a }","extensions":"{\"persistedQuery\":{}}"}"#,
            r#"{"query":"{ a }","extensions":[{"persistedQuery":{}}]}"#,
            r#"{"query":"{ a }","extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
            r#"{"query":7}"#,
            "[]",
            "[[]]",
            "{ a }",
        ] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_and_a_body_do_not_both_say_what_to_do() {
        let body = br#"{"query":"{ a }"}"#;
        let with = |url: &str| read_body(body, &json(), Some(&Query::parse(url).unwrap())).is_ok();
        assert!(with("page=1&tenant=x"));
        for bad in [
            "query=x",
            "QUERY=x",
            "a=1&%71uery=x",
            "query%5B%5D=x",
            "+query=x",
            "documentId=x",
            "a=1;b=2",
            "docId=x",
            "persistedQuery=x",
            "query_hash=x",
        ] {
            assert!(!with(bad), "{bad}");
        }
        let get = |url: &str| read_query(Some(&Query::parse(url).unwrap())).map(|fields| fields.len());
        assert_eq!(get("query=%7B+a+%7D&operationName=&variables=%7B%7D&page=2"), Ok(1));
        for bad in [
            "page=1",
            "query=%7Ba%7D&query=%7Bb%7D",
            "query=%7Ba%7D&%20query=%7Bb%7D",
            "query=%7Ba%7D&query%5B%5D=%7Bb%7D",
            "Query=%7Ba%7D",
            "query=%7Ba%7D&id=7",
            "query=%7Ba%7D&extensions=%7B%7D",
            "query=query%20A%7Ba%7D%23;%0Aquery%20M%7Bb%7D",
        ] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }
}
