//! GraphQL, as far as a policy can see it: which operations a document holds, and which fields of the schema's
//! roots they select. Names of operations are the client's to choose, so they mean nothing here.

use std::collections::HashMap;

use apollo_parser::{Parser, cst};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::{
    json,
    target::{Query, key_of},
};

/// Levels of objects and arrays in a body; variables are nested input objects.
const DEEPEST: usize = 64;
/// Levels of selections in a document.
const DEEPEST_SELECTION: usize = 200;
/// Words of a document.
const MOST_TOKENS: usize = 50_000;
/// Requests in one batch.
const MOST_REQUESTS: usize = 100;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reads.
    Query,
    /// Writes.
    Mutation,
    /// A stream of events.
    Subscription,
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

/// One operation. A document may hold several, of which the server runs one: each of them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: Kind,
    /// The fields of the root that it selects, by the schema's names, not by aliases.
    pub fields: Vec<String>,
}

/// Reads the body of a `POST`: one request, or a batch of them (GraphQL over HTTP §5.4).
///
/// # Errors
/// What is wrong, safe to show: what cannot be read cannot be granted.
pub fn read_body(body: &[u8], headers: &HeaderMap) -> Result<Vec<Operation>, &'static str> {
    if headers.contains_key(http::header::CONTENT_ENCODING) || !json::is_declared(headers) {
        return Err("a GraphQL body is `application/json` without a content encoding");
    }
    match json::value(body, DEEPEST).ok_or("the body is not JSON with one meaning")? {
        Value::Object(request) => read_request(&request),
        Value::Array(batch) if (1..=MOST_REQUESTS).contains(&batch.len()) => {
            let mut operations = Vec::new();
            for request in &batch {
                let request = request.as_object().ok_or("a GraphQL request is an object")?;
                operations.extend(read_request(request)?);
            }
            Ok(operations)
        }
        _ => Err("the body holds no GraphQL request"),
    }
}

/// Reads the query of a `GET` (GraphQL over HTTP §5.3).
///
/// # Errors
/// As [`read_body`].
pub fn read_query(query: Option<&Query>) -> Result<Vec<Operation>, &'static str> {
    let parts = query.into_iter().flat_map(Query::parts);
    let mut documents = parts.filter(|part| key_of(part) == "query");
    let (Some(document), None) = (documents.next(), documents.next()) else {
        return Err("the query holds no GraphQL document, or more than one");
    };
    let text = document.split_once('=').map_or("", |(_, value)| value).replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8().map_err(|_| "the document is not UTF-8")?;
    read_document(&text)
}

fn read_request(request: &Map<String, Value>) -> Result<Vec<Operation>, &'static str> {
    if json::has_double(request, &["query"]) {
        return Err("a member of the request is spelled in two ways");
    }
    match request.get("query") {
        Some(Value::String(document)) => read_document(document),
        // Persisted documents (`extensions.persistedQuery`, `documentId`) are at the server only.
        _ => Err("the request holds no GraphQL document"),
    }
}

/// Reads a document.
///
/// # Errors
/// As [`read_body`].
pub fn read_document(text: &str) -> Result<Vec<Operation>, &'static str> {
    const BROKEN: &str = "this is not a GraphQL document";
    let tree = Parser::new(text).recursion_limit(DEEPEST_SELECTION).token_limit(MOST_TOKENS).parse();
    if tree.errors().next().is_some() {
        return Err(BROKEN);
    }
    let document = tree.document();
    let mut fragments: HashMap<String, Vec<cst::SelectionSet>> = HashMap::new();
    let mut operations = Vec::new();
    for definition in document.definitions() {
        match definition {
            cst::Definition::FragmentDefinition(fragment) => {
                let name = fragment.fragment_name().and_then(|name| name.name()).ok_or(BROKEN)?;
                let selections = fragment.selection_set().ok_or(BROKEN)?;
                // Two of one name are no valid document, but a server may take either.
                fragments.entry(name.text().to_string()).or_default().push(selections);
            }
            cst::Definition::OperationDefinition(operation) => operations.push(operation),
            _ => return Err("the document holds more than operations and fragments"),
        }
    }
    let read = operations.iter().map(|operation| {
        let kind = match operation.operation_type() {
            Some(kind) if kind.mutation_token().is_some() => Kind::Mutation,
            Some(kind) if kind.subscription_token().is_some() => Kind::Subscription,
            _ => Kind::Query,
        };
        let mut found = Found { fragments: &fragments, seen: Vec::new(), fields: Vec::new() };
        found.look(&operation.selection_set().ok_or(BROKEN)?)?;
        found.fields.sort_unstable();
        found.fields.dedup();
        Ok(Operation { kind, fields: found.fields })
    });
    let read: Vec<Operation> = read.collect::<Result<_, &'static str>>()?;
    if read.is_empty() || read.iter().any(|operation| operation.fields.is_empty()) {
        return Err("the document holds no operation");
    }
    Ok(read)
}

/// The fields of a root, also those that fragments bring.
struct Found<'d> {
    fragments: &'d HashMap<String, Vec<cst::SelectionSet>>,
    seen: Vec<String>,
    fields: Vec<String>,
}

impl Found<'_> {
    fn look(&mut self, selections: &cst::SelectionSet) -> Result<(), &'static str> {
        for selection in selections.selections() {
            match selection {
                cst::Selection::Field(field) => {
                    let name = field.name().ok_or("a field has no name")?;
                    self.fields.push(name.text().to_string());
                }
                cst::Selection::InlineFragment(fragment) => {
                    self.look(&fragment.selection_set().ok_or("a fragment is empty")?)?;
                }
                cst::Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name().and_then(|name| name.name());
                    let name = name.ok_or("a fragment has no name")?.text().to_string();
                    if self.seen.contains(&name) {
                        continue;
                    }
                    let fragments = self.fragments.get(&name).ok_or("a fragment is not in the document")?;
                    self.seen.push(name);
                    for fragment in fragments {
                        self.look(fragment)?;
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

    fn read(text: &str) -> Result<Vec<(Kind, String)>, &'static str> {
        Ok(read_document(text)?.into_iter().map(|o| (o.kind, o.fields.join(" "))).collect())
    }

    #[test]
    fn what_counts_is_what_the_roots_are_asked_for() {
        for (text, found) in [
            ("{ viewer { id } }", &[(Kind::Query, "viewer")][..]),
            ("query Q($a: Int = 1) { a: viewer { b } c }", &[(Kind::Query, "c viewer")]),
            ("mutation viewer { issueCreate(x: {y: 1}) { id } }", &[(Kind::Mutation, "issueCreate")]),
            (
                "query A { a } mutation B { b } subscription C { c }",
                &[(Kind::Query, "a"), (Kind::Mutation, "b"), (Kind::Subscription, "c")],
            ),
            (
                "mutation { ...F ... on Mutation { two } ... @include(if: true) { three } } \
                 fragment F on Mutation { one ...G } fragment G on Mutation { four ...F }",
                &[(Kind::Mutation, "four one three two")],
            ),
            ("query { ok: deleteRepo }", &[(Kind::Query, "deleteRepo")]),
            ("# mutation { x }\n{ a(s: \"} mutation { b }\") }", &[(Kind::Query, "a")]),
            ("{ ...F } fragment F on Query { a } fragment F on Query { b }", &[(Kind::Query, "a b")]),
        ] {
            let found: Vec<(Kind, String)> = found.iter().map(|(k, f)| (*k, (*f).to_owned())).collect();
            assert_eq!(read(text), Ok(found), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let deep = format!("{}a{}", "{ a ".repeat(5000), "}".repeat(5000));
        let wide = format!("{{ {} }}", "a ".repeat(60_000));
        for bad in [
            "",
            "{",
            "{ }",
            "query",
            "{ a ",
            "fragment F on Query { a }",
            "{ ...F }",
            "type A { b: C }",
            "a",
            "{ a } extend type Q { b: C }",
            &deep,
            &wide,
        ] {
            assert!(read_document(bad).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn a_body_is_one_request_or_a_batch() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        let count = |body: &str| read_body(body.as_bytes(), &headers).map(|o| o.len());
        assert_eq!(count(r#"{"query":"{ a }","operationName":null,"variables":{}}"#), Ok(1));
        assert_eq!(count(r#"[{"query":"{ a }"},{"query":"mutation { b }"}]"#), Ok(2));
        for bad in [
            r#"{"query":"{ a }","query":"mutation { b }"}"#,
            r#"{"query":"{ a }","Query":"mutation { b }"}"#,
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
            r#"{"query":7}"#,
            "[]",
            "[[]]",
            "{ a }",
        ] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }
}
