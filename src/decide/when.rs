//! `when:` of a guard: a condition in CEL (Common Expression Language).
//!
//! A guard takes away, and so an expression can only take away: where it cannot be told what it says, because a
//! field is missing or a type does not fit, the guard holds. What could make it expensive is refused at load.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use cel::{
    Context, Env, IdedExpr, Program, Value,
    common::ast::{EntryExpr, Expr, LiteralValue},
};
use serde::Serialize;

use super::{
    act::Act,
    judge::Question,
    problem::Findings,
    reader::{self, closest, list, short},
    yaml::Node,
};

/// The longest expression, in bytes.
const LONGEST: usize = 2048;
/// The most values in a tool's arguments that an expression is run over.
const MOST_VALUES: usize = 4096;

const ROOTS: [&str; 5] = ["request", "token", "agent", "tenant", "time"];
const REQUEST: [&str; 10] =
    ["method", "scheme", "host", "port", "path", "segments", "tool", "arguments", "operation", "field"];
const TOKEN: [&str; 8] =
    ["issuer", "user", "subject", "scopes", "delegation", "expires_at", "channel", "claims"];
const TIME: [&str; 7] = ["unix", "year", "month", "day", "weekday", "hour", "minute"];
const FUNCTIONS: [&str; 10] =
    ["contains", "startsWith", "endsWith", "matches", "size", "has", "string", "int", "double", "bool"];

static ENVIRONMENT: LazyLock<std::sync::Arc<Env>> = LazyLock::new(|| Env::stdlib().into());

/// A condition, compiled.
pub(super) struct When {
    program: Program,
    /// What it speaks of.
    roots: Vec<&'static str>,
    /// As it is written.
    pub(super) text: String,
}

impl When {
    /// Reads and compiles an expression.
    pub(super) fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = reader::text(node, "`when`", findings)?;
        if text.len() > LONGEST {
            findings.report(node.span, "`when` is an expression of at most 2048 bytes");
            return None;
        }
        let program = match ENVIRONMENT.compile(text) {
            Ok(program) => program,
            Err(errors) => {
                let first = errors.errors.first().map_or_else(String::new, |error| one_line(&error.msg));
                findings.report(node.span, format!("`when` is not a CEL expression: {first}"));
                findings.hint("for example `request.method == \"DELETE\" && time.hour < 8`");
                return None;
            }
        };
        let mut check = Check { roots: Vec::new(), bound: Vec::new() };
        if let Err(Wrong { message, hint }) = check.look(program.expression()) {
            findings.report(node.span, message);
            if let Some(hint) = hint {
                findings.hint(hint);
            }
            return None;
        }
        Some(Self { program, roots: check.roots, text: text.to_owned() })
    }

    /// Whether it is true of an act, or cannot be told.
    pub(super) fn is_true(&self, act: &Act<'_>, question: &Question<'_>) -> bool {
        !matches!(self.evaluate(act, question), Some(false))
    }

    fn evaluate(&self, act: &Act<'_>, question: &Question<'_>) -> Option<bool> {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for root in &self.roots {
            let value = match *root {
                "request" => cel::to_value(request(act, question)?),
                "token" => cel::to_value(token(question)),
                "agent" => cel::to_value(question.agent.as_str()),
                "tenant" => cel::to_value(question.tenant.as_str()),
                _ => cel::to_value(time(question.at.unwrap_or_else(SystemTime::now))?),
            };
            context.add_variable_from_value(*root, value.ok()?);
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(answer)) => Some(answer),
            _ => None,
        }
    }
}

impl std::fmt::Debug for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("When").field(&self.text).finish()
    }
}

struct Wrong {
    message: String,
    hint: Option<String>,
}

/// Walks an expression at load: only names that exist, only functions that are known, no cost without bound.
struct Check {
    roots: Vec<&'static str>,
    /// Variables that a macro such as `exists` brings, one set for each level.
    bound: Vec<Vec<String>>,
}

impl Check {
    fn look(&mut self, expression: &IdedExpr) -> Result<(), Wrong> {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.is_bound(root)
                {
                    let fields: &[&str] = match root.as_str() {
                        "request" => &REQUEST,
                        "token" => &TOKEN,
                        "time" => &TIME,
                        _ => &[],
                    };
                    if ROOTS.contains(&root.as_str()) && !fields.contains(&select.field.as_str()) {
                        return Err(unknown(&format!("`{root}` has no"), &select.field, fields));
                    }
                }
                self.look(&select.operand)
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
                if !is_operator && !FUNCTIONS.contains(&name) {
                    return Err(unknown("there is no function", name, &FUNCTIONS));
                }
                let literal =
                    |expression: &IdedExpr| matches!(expression.expr, Expr::Literal(LiteralValue::String(_)));
                if name == "matches" && !call.args.last().is_some_and(literal) {
                    return Err(Wrong {
                        message: "the pattern of `matches` is a text in quotes".to_owned(),
                        hint: Some("what comes with a request must not be a pattern".to_owned()),
                    });
                }
                call.target.iter().map(|target| &**target).chain(&call.args).try_for_each(|e| self.look(e))
            }
            Expr::List(items) => items.elements.iter().try_for_each(|item| self.look(item)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.look(&entry.key).and_then(|()| self.look(&entry.value)),
                EntryExpr::StructField(field) => self.look(&field.value),
            }),
            Expr::Struct(_) => Err(Wrong { message: "`when` makes no objects".to_owned(), hint: None }),
            Expr::Comprehension(comprehension) => {
                if !self.bound.is_empty() {
                    return Err(Wrong {
                        message: "a macro stands inside another: that could take too long".to_owned(),
                        hint: Some("use `in` for one of them".to_owned()),
                    });
                }
                self.look(&comprehension.iter_range)?;
                self.look(&comprehension.accu_init)?;
                let mut names = vec![comprehension.iter_var.clone(), comprehension.accu_var.clone()];
                names.extend(comprehension.iter_var2.clone());
                self.bound.push(names);
                for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                    self.look(part)?;
                }
                self.bound.pop();
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &str) -> Result<(), Wrong> {
        if self.is_bound(name) {
            return Ok(());
        }
        let Some(root) = ROOTS.into_iter().find(|root| *root == name) else {
            return Err(unknown("there is no variable", name, &ROOTS));
        };
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
        Ok(())
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().flatten().any(|bound| bound == name)
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Wrong {
    let hint = match closest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "it is a text".to_owned(),
        None => format!("there are {}", list(known.iter().copied())),
    };
    Wrong { message: format!("{what} `{}`", short(name)), hint: Some(hint) }
}

/// What a parser says, without the list of all that it would have taken instead.
fn one_line(text: &str) -> String {
    let text = text.split(" expecting ").next().unwrap_or(text);
    text.chars().take_while(|c| *c != '\n').filter(|c| !c.is_control()).take(120).collect()
}

/// What `request` is.
#[derive(Serialize)]
struct Request<'a> {
    method: &'static str,
    scheme: &'static str,
    host: String,
    port: u16,
    path: &'a str,
    segments: Vec<&'a str>,
    tool: &'a str,
    arguments: Option<&'a serde_json::Value>,
    operation: &'static str,
    field: &'a str,
}

fn request<'a>(act: &Act<'a>, question: &Question<'a>) -> Option<Request<'a>> {
    let target = question.target;
    let (path, method) = match act {
        Act::Http(method, path) => (*path, *method),
        _ => (&target.path, question.method),
    };
    let mut request = Request {
        method: method.as_str(),
        scheme: target.scheme.as_str(),
        host: target.authority.host.to_string(),
        port: target.authority.port,
        path: path.as_str(),
        segments: path.segments().collect(),
        tool: "",
        arguments: None,
        operation: "",
        field: "",
    };
    match *act {
        Act::Named { kind, name, arguments } => {
            if arguments.is_some_and(|arguments| count(arguments, MOST_VALUES) > MOST_VALUES) {
                return None;
            }
            request.operation = kind.as_str();
            request.tool = name;
            request.arguments = arguments;
        }
        Act::Field(kind, field) => {
            request.operation = kind.as_str();
            request.field = field;
        }
        _ => {}
    }
    Some(request)
}

/// The values in a value, counted up to a bit over `most`.
fn count(value: &serde_json::Value, most: usize) -> usize {
    let below = |mut values: Box<dyn Iterator<Item = &serde_json::Value> + '_>| {
        values.try_fold(1, |sum, value| {
            let sum = sum + count(value, most);
            if sum > most { Err(sum) } else { Ok(sum) }
        })
    };
    let counted = match value {
        serde_json::Value::Array(items) => below(Box::new(items.iter())),
        serde_json::Value::Object(members) => below(Box::new(members.values())),
        _ => Ok(1),
    };
    counted.unwrap_or_else(|over| over)
}

/// What `token` is. Without a token, as in `explain` and in tests, only the user is known.
#[derive(Serialize)]
struct Token<'a> {
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<crate::context::Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

fn token<'a>(question: &Question<'a>) -> Token<'a> {
    let token = question.token;
    Token {
        user: question.user.map(crate::context::UserId::as_str).unwrap_or_default(),
        issuer: token.map(|t| &*t.issuer),
        subject: token.map(|t| t.oauth_subject.as_deref().unwrap_or_default()),
        scopes: token.map(|t| t.scopes.iter().map(|scope| &**scope).collect()),
        delegation: token.map(|t| t.delegation.iter().map(|actor| &*actor.sub).collect()),
        expires_at: token.map(|t| t.expires_at),
        channel: token.map(|t| t.channel),
        claims: token.map(|t| &*t.claims.0),
    }
}

/// What `time` is, in UTC. A week begins on Monday, which is 1 (ISO 8601).
#[derive(Serialize)]
struct Time {
    unix: i64,
    year: i32,
    month: u8,
    day: u8,
    weekday: u8,
    hour: u8,
    minute: u8,
}

fn time(at: SystemTime) -> Option<Time> {
    let unix = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let at = ::time::OffsetDateTime::from_unix_timestamp(unix).ok()?;
    Some(Time {
        unix,
        year: at.year(),
        month: at.month().into(),
        day: at.day(),
        weekday: at.weekday().number_from_monday(),
        hour: at.hour(),
        minute: at.minute(),
    })
}
