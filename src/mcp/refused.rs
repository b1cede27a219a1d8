//! A refusal in the words that an MCP client delivers to its model.

use http::StatusCode;
use serde_json::{Value, json};

use super::Mailbox;

/// The code of a refused request that is not a tool call. Outside the range that the protocol reserves.
const REFUSED: i32 = 40_301;
/// Headers and body disagree (2026-07-28, "Server Validation").
const MISMATCH: i32 = -32_020;

/// Who waits for an answer: the requests of one body.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The ids, and whether it is a tool that is called.
    ids: Vec<(Value, bool)>,
    batch: bool,
    heard: Heard,
}

/// Where an answer is read.
#[derive(Debug, Clone)]
enum Heard {
    /// In the answer to the `POST`.
    Here,
    /// In the stream of a session; none where it is not open.
    InSession(Option<Mailbox>),
}

impl Waiting {
    pub(super) fn new(ids: Vec<(Value, bool)>, batch: bool) -> Self {
        Self { ids, batch, heard: Heard::Here }
    }

    /// A body that could not be read: nobody is known to wait.
    pub fn nobody() -> Self {
        Self::new(Vec::new(), false)
    }

    /// They read the answer in the stream of a session.
    #[must_use]
    pub fn in_session(self, mailbox: Option<Mailbox>) -> Self {
        Self { heard: Heard::InSession(mailbox), ..self }
    }

    /// The status that they read the answer under, where it is not the refusal's own. A client hands an answer
    /// with an id to whoever waits for it; an HTTP error ends the whole session of some (the Python SDK up to
    /// 1.30 at least), and others drop its text.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.heard {
            _ if self.ids.is_empty() => None,
            Heard::Here => Some(StatusCode::OK),
            Heard::InSession(mailbox) => {
                mailbox.as_ref().filter(|mailbox| mailbox.is_open()).map(|_| StatusCode::ACCEPTED)
            }
        }
    }

    /// The body of the refusal's answer; where the session's stream tells it, the body is empty.
    pub fn tell(&self, code: &str, detail: &str, problem: &Value, mismatch: bool) -> String {
        let answer = self.answer(code, detail, problem, mismatch);
        match &self.heard {
            Heard::InSession(Some(mailbox)) if self.status() == Some(StatusCode::ACCEPTED) => {
                mailbox.put(answer);
                String::new()
            }
            _ => answer,
        }
    }

    /// `detail` is for the model, `problem` for programs.
    fn answer(&self, code: &str, detail: &str, problem: &Value, mismatch: bool) -> String {
        let code_number = if mismatch { MISMATCH } else { REFUSED };
        let error = |id: &Value| {
            json!({
                "jsonrpc": "2.0",
                "id": id,
                "error": {
                    "code": code_number,
                    "message": format!("Denied by egret: {detail} ({code})"),
                    "data": problem,
                },
            })
        };
        let one = |(id, calls): &(Value, bool)| {
            if !*calls {
                return error(id);
            }
            // The problem is in `_meta`: `structuredContent` has to fit the tool's own schema, and clients throw
            // an error where it does not.
            json!({
                "jsonrpc": "2.0",
                "id": id,
                "result": {
                    "resultType": "complete",
                    "isError": true,
                    "content": [{ "type": "text", "text": format!("Denied by egret: {detail} ({code})") }],
                    "_meta": { "egret.dev/refusal": problem },
                },
            })
        };
        match self.ids.as_slice() {
            [] => error(&Value::Null).to_string(),
            [single] if !self.batch => one(single).to_string(),
            all => Value::Array(all.iter().map(one).collect()).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_that_waits_gets_its_own_answer() {
        let waiting = Waiting::new(vec![(json!(1), true), (json!("b"), false)], true);
        let answer: Value =
            serde_json::from_str(&waiting.answer("action_denied", "no", &json!({"a": 1}), false)).unwrap();
        assert_eq!(answer[0]["id"], 1);
        assert_eq!(answer[0]["result"]["isError"], true);
        assert_eq!(answer[0]["result"]["content"][0]["text"], "Denied by egret: no (action_denied)");
        assert_eq!(answer[1]["id"], "b");
        assert_eq!(answer[1]["error"]["code"], 40_301);
        let nobody: Value =
            serde_json::from_str(&Waiting::nobody().answer("x", "no", &Value::Null, true)).unwrap();
        assert_eq!((&nobody["id"], &nobody["error"]["code"]), (&Value::Null, &json!(-32_020)));
    }
}
