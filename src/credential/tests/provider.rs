//! A provider that answers as it is told, and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::sync::Notify;

use crate::fetch::{Answer, Call, CallError, Calling, Calls};

/// What it does with a call.
pub(in crate::credential) enum Act {
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// Does what it is asked for, and breaks off before it answers.
    BreakOff,
    /// Does not answer before it is told to.
    Wait(Arc<Notify>, Box<Act>),
    /// Cannot be reached.
    Unreachable,
}

/// A provider.
#[derive(Default)]
pub(in crate::credential) struct Provider {
    acts: Mutex<VecDeque<Act>>,
    pub(in crate::credential) asked: Mutex<Vec<Asked>>,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub(in crate::credential) struct Asked {
    pub(in crate::credential) url: String,
    pub(in crate::credential) headers: HeaderMap,
    pub(in crate::credential) body: String,
}

impl Asked {
    /// A parameter of the form.
    pub(in crate::credential) fn form(&self, name: &str) -> Option<String> {
        let found = self.body.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
        let text = found.replace('+', " ");
        Some(percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned())
    }

    pub(in crate::credential) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Provider {
    pub(in crate::credential) fn will(self: &Arc<Self>, act: Act) -> &Arc<Self> {
        self.acts.lock().unwrap().push_back(act);
        self
    }

    /// Answers 200 with this JSON.
    pub(in crate::credential) fn tells(self: &Arc<Self>, body: &Value) -> &Arc<Self> {
        self.will(Act::Answer(200, Vec::new(), body.to_string()))
    }

    /// Answers with this status and this JSON.
    pub(in crate::credential) fn refuses(self: &Arc<Self>, status: u16, body: &Value) -> &Arc<Self> {
        self.will(Act::Answer(status, Vec::new(), body.to_string()))
    }

    pub(in crate::credential) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(act: Act) -> Calling<'static> {
    Box::pin(async move {
        match act {
            Act::Answer(status, all, body) => {
                let mut headers = HeaderMap::from_iter([(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                )]);
                for (name, value) in all {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from(body) })
            }
            Act::BreakOff => Err(CallError { what: "broke off".to_owned(), maybe_taken: true }),
            Act::Unreachable => Err(CallError { what: "unreachable".to_owned(), maybe_taken: false }),
            Act::Wait(notify, act) => {
                notify.notified().await;
                answer(*act).await
            }
        }
    })
}

impl Calls for Provider {
    fn call<'c>(&'c self, call: Call<'c>) -> Calling<'c> {
        let body = String::from_utf8(call.body.to_vec()).unwrap();
        self.asked.lock().unwrap().push(Asked { url: call.url.to_string(), headers: call.headers, body });
        let act = self.acts.lock().unwrap().pop_front();
        answer(act.unwrap_or(Act::Unreachable))
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider(..)")
    }
}
