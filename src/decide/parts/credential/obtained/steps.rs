//! Kinds that the policy describes itself: requests that bring a token, and signatures from templates.

use http::HeaderName;

use super::{Keys, Params, Values, is_reference, is_word, places, provider, template};
use crate::{
    decide::{
        files::{
            reader::{self, Fields},
            yaml::{Key, Node, Value},
        },
        parts::shape,
    },
    plan::{
        AnswerShape, Half, How, JsonTemplate, Owned, PrivateReach, Recipe, Signature, Step, StepBody,
        Template,
    },
};

/// Requests of one login.
const MOST_STEPS: usize = 5;

impl Keys<'_, '_> {
    pub(super) fn login(&mut self) -> Option<How> {
        let values = self.values();
        let (certificate, ahead) = (self.certificate(), self.duration("ahead"));
        let private = self.private();
        let mut names: Vec<String> = values.iter().map(|(name, _)| name.to_string()).collect();
        let node = self.fields.get("steps")?;
        let items = reader::items(node, "`steps`", self.findings)?;
        if items.len() > MOST_STEPS {
            self.findings.report(node.span, format!("a login has at most {MOST_STEPS} steps"));
        }
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let step = self.step(item, &known, &private);
            if let Some(step) = &step {
                names.extend(step.answer.keep.iter().map(|(name, _)| name.to_string()));
            }
            steps.push(step);
        }
        Some(How::Minted(Box::new(Recipe {
            values: values.into(),
            assertions: Box::default(),
            steps: steps.into_iter().collect::<Option<_>>()?,
            certificate,
            owner: Owned::Integration,
            ahead,
        })))
    }

    fn step(&mut self, node: &Node, names: &[&str], private: &PrivateReach) -> Option<Step> {
        let fields = Fields::read(node, "a step", shape::STEP.keys, self.findings)?;
        let methods = [
            ("GET", http::Method::GET),
            ("POST", http::Method::POST),
            ("PUT", http::Method::PUT),
            ("PATCH", http::Method::PATCH),
        ];
        let method = fields.get("method").and_then(|n| reader::word(n, "`method`", &methods, self.findings));
        let url = fields.get("url").and_then(|node| {
            let text = reader::text(node, "`url`", self.findings)?;
            self.filled(text, "url")
        });
        if fields.get("url").is_none() {
            self.findings.report(node.span, "the step has no `url`");
        }
        let headers = self.templates(fields.get("headers"), "`headers`", names);
        let headers = self.header_names(headers, node);
        let query = self.templates(fields.get("query"), "`query`", names);
        let form = fields.get("form").map(|node| self.templates(Some(node), "`form`", names));
        let json = fields.get("json").map(|node| self.json(node, names));
        let answer = fields.get("response");
        let answer = answer.map_or_else(AnswerShape::default, |n| provider::read_answer(n, self.findings));
        let errors =
            fields.get("errors").map(|n| provider::read_errors(n, self.findings)).unwrap_or_default();
        let body = match (form, json) {
            (Some(_), Some(_)) => {
                self.findings.report(node.span, "a step sends `form` or `json`, not both");
                return None;
            }
            (Some(form), None) => StepBody::Form(form.into()),
            (None, Some(json)) => StepBody::Json(json?),
            (None, None) => StepBody::Empty,
        };
        Some(Step {
            method: method.unwrap_or(http::Method::POST),
            url: url?,
            private: private.clone(),
            headers,
            query: query.into(),
            body,
            answer,
            errors,
        })
    }

    fn header_names(&mut self, headers: Params, node: &Node) -> Box<[(HeaderName, Template)]> {
        let named = |(name, value): (Box<str>, Template)| {
            let parsed = places::header_name(&name, node.span, self.findings)?;
            Some((parsed, value))
        };
        headers.into_iter().filter_map(named).collect()
    }

    fn json(&mut self, node: &Node, names: &[&str]) -> Option<JsonTemplate> {
        Some(match &node.value {
            Value::Null => JsonTemplate::Plain("null".into()),
            Value::Bool(flag) => JsonTemplate::Plain(flag.to_string().into()),
            Value::Text(_) => JsonTemplate::Text(template(node, names, self.findings)?),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.json(item, names)).collect();
                JsonTemplate::List(items.into_iter().collect::<Option<_>>()?)
            }
            Value::Map(_) => {
                let entries = reader::mapping(node, "`json`", self.findings)?;
                let member =
                    |(key, node): (&Key, &Node)| Some((key.text.as_str().into(), self.json(node, names)?));
                let members: Vec<_> = entries.into_iter().map(member).collect();
                JsonTemplate::Object(members.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    /// What templates may name: references, and constants.
    fn values(&mut self) -> Values {
        let Some(node) = self.fields.get("secrets") else { return Vec::new() };
        let entries = reader::mapping(node, "`secrets`", self.findings).unwrap_or_default();
        let mut values = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if !is_word(&key.text) || provider::RESERVED.contains(&key.text.as_str()) {
                self.findings.report(
                    key.span,
                    "a name in `secrets` is a word of lower case, and none that egret uses itself",
                );
                continue;
            }
            let half = match &node.value {
                Value::Text(text) if !is_reference(text) && !text.chars().any(char::is_control) => {
                    Some(Half::Constant(text.clone()))
                }
                _ => super::read_reference(node, self.around, self.findings).map(Half::Secret),
            };
            values.extend(half.map(|half| (key.text.as_str().into(), half)));
        }
        values
    }

    pub(super) fn signature(&mut self) -> How {
        const OF_THE_REQUEST: [&str; 5] = ["method", "host", "path", "query", "body_sha256"];
        let values = self.values();
        let mut names: Vec<String> = values.iter().map(|(name, _)| name.to_string()).collect();
        names.extend(OF_THE_REQUEST.map(ToOwned::to_owned));
        let mut lets = Params::new();
        if let Some(node) = self.fields.get("let") {
            for (key, node) in reader::mapping(node, "`let`", self.findings).unwrap_or_default() {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                if !is_word(&key.text) || known.contains(&key.text.as_str()) {
                    self.findings
                        .report(key.span, "a name in `let` is a word of lower case that is not taken");
                    continue;
                }
                lets.extend(template(node, &known, self.findings).map(|t| (key.text.as_str().into(), t)));
                names.push(key.text.clone());
            }
        }
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let headers = self.templates(self.fields.get("headers"), "`headers`", &known);
        let headers = self.header_names(headers, self.node);
        let query = self.templates(self.fields.get("query"), "`query`", &known);
        let all = || {
            lets.iter()
                .map(|(_, t)| t)
                .chain(headers.iter().map(|(_, t)| t))
                .chain(query.iter().map(|(_, t)| t))
        };
        let reads_body = all().any(|template| template.names().contains(&"body_sha256"));
        let names_secret = all().any(|template| {
            let is_secret =
                |name: &&str| values.iter().any(|(known, half)| **known == **name && half.secret().is_some());
            template.names().iter().any(is_secret)
        });
        if !names_secret {
            self.findings.report(self.node.span, "the signature names no secret");
        }
        How::Signature(Box::new(Signature {
            values: values.into(),
            lets: lets.into(),
            headers,
            query: query.into(),
            reads_body,
        }))
    }

    /// A key that each owner deposits: nothing is known of it here.
    pub(super) fn byok(&mut self) -> How {
        self.text("name");
        How::Deposited
    }
}
