//! A question as the proxy would read it: what `explain` is asked in a few words is a body by the time it is judged.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::json;

use crate::{
    decide::{
        judge::{Inspection, Permit, Question},
        parts::{act::Seen, protocol::Look},
        policy::Policy,
    },
    graphql, mcp,
    plan::{CredentialSpec, How},
    refusal::Reason,
};

/// What the proxy would find in the request where this policy makes it look; none where that is what the question
/// has already.
///
/// # Errors
/// Where it refuses to read it.
pub(super) fn seen(policy: &Policy, question: &Question<'_>) -> Result<Option<Arc<Seen>>, Reason> {
    let Inspection { look, .. } = policy.look_for(question);
    let found = match (look, question.seen) {
        (Look::Mcp | Look::McpInSession, seen @ Seen::Mcp(_)) => return Ok(message(seen)?.map(Arc::new)),
        (Look::Mcp | Look::McpInSession, _) => return Err(Reason::malformed_body(SAYS_NOTHING)),
        (Look::McpWithoutBody, Seen::Mcp(_)) => Seen::Nothing,
        (Look::GraphQl, Seen::GraphQl(fields)) => {
            let body = json!({ "query": document(fields) }).to_string();
            let url = question.target.query.as_ref();
            graphql::read_body(body.as_bytes(), &headers(), url).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
        (Look::GraphQl, _) => Seen::Unclear("its fields are not said"),
        (Look::GraphQlInQuery, _) => {
            let url = question.target.query.as_ref();
            graphql::read_query(url).map_or_else(Seen::Unclear, Seen::GraphQl)
        }
        (Look::Nothing | Look::McpWithoutBody, _) => return Ok(None),
    };
    Ok(Some(Arc::new(found)))
}

/// What a `POST` without a message is told.
pub(super) const SAYS_NOTHING: &str = "a `POST` to an MCP server says what it asks for: `tool NAME @ URL`";

/// A message to an MCP server, read as any other; none where it is none, or was read.
///
/// # Errors
/// Where the proxy refuses to read it.
pub(super) fn message(seen: &Seen) -> Result<Option<Seen>, Reason> {
    let Seen::Mcp(body) = seen else { return Ok(None) };
    let Some(mcp::Ask::Named(kind, name)) = body.items().first().map(|item| &item.ask) else {
        return Ok(None);
    };
    let (method, params) = match kind {
        mcp::Named::Tool => ("tools/call", json!({ "name": name })),
        mcp::Named::Prompt => ("prompts/get", json!({ "name": name })),
        mcp::Named::Resource => ("resources/read", json!({ "uri": name })),
        mcp::Named::Method => (name.as_str(), json!({})),
    };
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let body = mcp::Body::read(message.as_bytes(), &headers())
        .map_err(|unclear| Reason::malformed_body(unclear.what))?;
    Ok(Some(Seen::Mcp(body)))
}

fn document(fields: &graphql::Fields) -> String {
    let operations = fields.iter().map(|(kind, field)| format!("{} {{ {field} }}", kind.as_str()));
    operations.collect::<Vec<_>>().join(" ")
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// What refuses a permitted request after all: what loads already, and is not there yet. Whether a secret is where its
/// reference says is for `egret check`.
pub(super) fn not_yet(permit: &Permit<'_>) -> Option<Reason> {
    if let Some(approval) = permit.approval.clone() {
        return Some(Reason::ApprovalRequired { guard: approval.guard, action: approval.action });
    }
    let what = match permit.integration?.plan.credential.as_ref()? {
        CredentialSpec::Obtained(obtained) => match &obtained.how {
            How::Undescribed(name) => format!("the policy does not describe the provider `{name}`"),
            _ => return None,
        },
        CredentialSpec::Static(_) => return None,
    };
    Some(Reason::CredentialMissing { what, connect: None })
}
