//! What a record says of a request's body, where egret looked into it.

use serde::Deserialize;

use super::super::route::uri_template;
use crate::{
    graphql::Kind,
    mcp::{Ask, Named},
};

/// Where the log cuts a name, in characters.
const CUT: usize = 200;
/// As many fields of GraphQL stand in a record at most.
const FIELDS: usize = 20;
/// As many of them are shown.
const SHOWN: usize = 4;

/// What a request's body asked for.
#[derive(Debug)]
pub(in crate::cli) enum Said {
    /// Nothing that egret looked for.
    Nothing,
    /// Something of an MCP server. Of several messages the log has one: the first that names something.
    Mcp(Message),
    /// Fields of GraphQL roots, and whether there may be more of them.
    GraphQl(Vec<(Kind, Name)>, bool),
}

/// A message to an MCP server.
#[derive(Debug)]
pub(in crate::cli) struct Message {
    pub(in crate::cli) ask: Ask,
    /// Its JSON-RPC method; empty for an answer to the server.
    pub(in crate::cli) method: String,
    /// Whether the name goes on.
    pub(in crate::cli) cut: bool,
    /// Whether there were others beside it.
    pub(in crate::cli) several: bool,
}

/// A field, and whether its name goes on.
#[derive(Debug)]
pub(in crate::cli) struct Name {
    pub(in crate::cli) text: String,
    pub(in crate::cli) cut: bool,
}

/// `mcp` in a record.
#[derive(Deserialize)]
pub(super) struct Rpc {
    method: String,
    tool: Option<String>,
    name: Option<String>,
    #[serde(default)]
    messages: u64,
}

impl Said {
    /// None where egret would not have written it.
    pub(super) fn read(rpc: Option<Rpc>, fields: &[String]) -> Option<Self> {
        match rpc {
            Some(rpc) => Message::read(rpc).map(Self::Mcp),
            None if fields.is_empty() => Some(Self::Nothing),
            None => {
                let more = fields.len() >= FIELDS;
                fields
                    .iter()
                    .map(|text| field(text))
                    .collect::<Option<_>>()
                    .map(|all| Self::GraphQl(all, more))
            }
        }
    }

    /// In the words of a policy: `tool delete_issue`, `graphql mutation issueCreate`. None where method and path say
    /// it all.
    pub(in crate::cli) fn what(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Mcp(message) => Some(message.what()),
            Self::GraphQl(fields, _) => {
                let each = |(kind, name): &(Kind, Name)| format!("graphql {} {}", kind.as_str(), name.text);
                let mut shown: Vec<String> = fields.iter().take(SHOWN).map(each).collect();
                if fields.len() > SHOWN {
                    shown.push("more".to_owned());
                }
                Some(shown.join(", "))
            }
        }
    }
}

impl Message {
    fn read(rpc: Rpc) -> Option<Self> {
        let about = match (rpc.tool, rpc.name) {
            (Some(tool), None) if rpc.method == "tools/call" => Some(tool),
            (None, Some(name)) if rpc.method != "tools/call" => Some(name),
            (None, None) => None,
            _ => return None,
        };
        if !rpc.method.is_empty() {
            name(&rpc.method)?;
        }
        let cut = match &about {
            Some(about) => name(about)?,
            None => rpc.method.chars().count() >= CUT,
        };
        let ask = Ask::recorded(&rpc.method, about.as_deref())?;
        Some(Self { ask, method: rpc.method, cut, several: rpc.messages > 1 })
    }

    fn what(&self) -> String {
        let what = match &self.ask {
            Ask::Named(Named::Resource, uri) => format!("resource {}", uri_template(uri, self.cut)),
            Ask::Named(kind, name) => format!("{} {name}", kind.as_str()),
            Ask::List(_) | Ask::Plumbing if self.method.is_empty() => "an answer to the server".to_owned(),
            Ask::List(_) | Ask::Plumbing => format!("method {}", self.method),
        };
        if self.several { format!("{what}, in a batch") } else { what }
    }
}

/// Checks a name as the log writes them; whether it may go on.
fn name(text: &str) -> Option<bool> {
    let length = text.chars().count();
    let written = (1..=CUT).contains(&length) && !text.chars().any(char::is_control);
    written.then_some(length == CUT)
}

/// `mutation issueCreate`.
fn field(text: &str) -> Option<(Kind, Name)> {
    let (kind, field) = text.split_once(' ')?;
    let kind = [Kind::Query, Kind::Mutation, Kind::Subscription].into_iter().find(|k| k.as_str() == kind)?;
    // A name of GraphQL (October 2021, §2.1.9).
    let word = field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let cut = name(field).filter(|_| word)?;
    Some((kind, Name { text: field.to_owned(), cut }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mcp(rpc: Value) -> Option<Said> {
        Said::read(Some(serde_json::from_value(rpc).unwrap()), &[])
    }

    #[test]
    fn what_was_asked_for_is_told_in_the_words_of_a_policy() {
        for (rpc, expected) in [
            (json!({"method": "tools/call", "tool": "delete_issue", "messages": 1}), "tool delete_issue"),
            (
                json!({"method": "resources/read", "name": "issue:///17", "messages": 1}),
                "resource issue:///*",
            ),
            (json!({"method": "prompts/get", "name": "plan", "messages": 1}), "prompt plan"),
            (json!({"method": "tasks/list", "messages": 1}), "method tasks/list"),
            (json!({"method": "prompts/list", "messages": 1}), "method prompts/list"),
            (json!({"method": "initialize"}), "method initialize"),
            (json!({"method": "", "messages": 1}), "an answer to the server"),
            (json!({"method": "tools/call", "tool": "a b", "messages": 3}), "tool a b, in a batch"),
        ] {
            assert_eq!(mcp(rpc).unwrap().what().unwrap(), expected);
        }
        let fields = |all: &[&str]| all.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
        let said = Said::read(None, &fields(&["mutation issueCreate", "query viewer"])).unwrap();
        assert_eq!(said.what().unwrap(), "graphql mutation issueCreate, graphql query viewer");
        let many = fields(&["query a", "query b", "query c", "query d", "query e"]);
        assert!(Said::read(None, &many).unwrap().what().unwrap().ends_with("graphql query d, more"));
        assert_eq!(Said::read(None, &[]).unwrap().what(), None);
    }

    #[test]
    fn what_egret_would_not_write_is_nothing_that_was_said() {
        for rpc in [
            json!({"method": "tools/call", "messages": 1}),
            json!({"method": "tools/call", "tool": "", "messages": 1}),
            json!({"method": "tools/call", "name": "x", "messages": 1}),
            json!({"method": "prompts/get", "tool": "x", "messages": 1}),
            json!({"method": "tools/call", "tool": "x", "name": "y", "messages": 1}),
            json!({"method": "tools/call", "tool": "a\u{1b}[31m", "messages": 1}),
            json!({"method": "tools/call", "tool": "x".repeat(201), "messages": 1}),
            json!({"method": "a\nb", "messages": 1}),
        ] {
            assert!(mcp(rpc.clone()).is_none(), "{rpc}");
        }
        for text in ["issueCreate", "mutation", "mutation ", "mutation a b", "write x", "query a-b"] {
            assert!(Said::read(None, &[text.to_owned()]).is_none(), "{text}");
        }
    }
}
