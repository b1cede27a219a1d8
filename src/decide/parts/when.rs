//! `when:` of a guard: a condition in CEL (Common Expression Language).
//!
//! A guard takes away, and so an expression can only take away: where it cannot be told what it says, because a
//! field is missing or a type does not fit, the guard holds. CEL itself finds values of two types unequal; here that
//! cannot be told (`same`), because a server may read `"42"` as 42. What could make an expression expensive is refused
//! at load.

mod same;

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cel::{
    Context, Env, IdedExpr, Value,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
};
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::act::Act;
use crate::{
    decide::{
        files::{
            problem::Findings,
            reader::{self, closest, list, short},
            yaml::Node,
        },
        judge::Question,
    },
    mcp,
};

/// The longest expression, in bytes.
const LONGEST: usize = 2048;
/// The most values in a tool's arguments that an expression is run over; 64 bytes of text count as one.
const MOST_VALUES: usize = 4096;

const ROOTS: [&str; 5] = ["request", "token", "agent", "tenant", "time"];
const REQUEST: [&str; 10] =
    ["method", "scheme", "host", "port", "path", "segments", "tool", "arguments", "operation", "field"];
const TOKEN: [&str; 8] =
    ["issuer", "user", "subject", "scopes", "delegation", "expires_at", "channel", "claims"];
const TIME: [&str; 7] = ["unix", "year", "month", "day", "weekday", "hour", "minute"];
const FUNCTIONS: [&str; 10] =
    ["contains", "startsWith", "endsWith", "matches", "size", "has", "string", "int", "double", "bool"];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Env::stdlib().into());

/// How long the conditions of one request may take together. A client chooses what they run over; beyond this they
/// cannot be told, and their guards hold.
const LONGEST_TIME: Duration = Duration::from_millis(100);
/// The largest pattern, compiled, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// The function that stands for `matches` with a pattern that is compiled.
const MATCHES: &str = "matches_pattern";
/// Those that stand for `==`, `!=` and `in`.
const EQUALS: &str = "equals";
const DIFFERS: &str = "differs";
const CONTAINS: &str = "contains_item";
/// Those around what a macro goes over: a list, or the members of a mapping that is known to be one.
const ITEMS: &str = "items_of";
const MEMBERS: &str = "members_of";

/// The time that the conditions of one request have left.
#[derive(Debug, Default)]
pub(in crate::decide) struct Patience(Cell<Duration>);

/// A condition, compiled.
pub(in crate::decide) struct When {
    program: IdedExpr,
    /// The patterns of `matches`, compiled once.
    patterns: Arc<[Regex]>,
    /// The members that it asks for, by name.
    names: Vec<String>,
    /// Those of `request`.
    of_request: Vec<String>,
    /// What it speaks of.
    roots: Vec<&'static str>,
    /// As it is written.
    pub(in crate::decide) text: String,
}

impl When {
    /// Reads and compiles an expression.
    pub(in crate::decide) fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = reader::text(node, "`when`", findings)?;
        if text.len() > LONGEST {
            findings.report(node.span, "`when` is an expression of at most 2048 bytes");
            return None;
        }
        let program = match ENVIRONMENT.compile(text) {
            Ok(program) => program,
            Err(errors) => {
                // Where quotes do not match, nobody can tell what is quoted.
                if text.matches(['"', '\'']).count() % 2 == 1 {
                    reader::hide(node, findings);
                }
                let first = errors.errors.first().map_or_else(String::new, |error| one_line(&error.msg));
                findings.report(node.span, format!("`when` is not a CEL expression: {first}"));
                findings.hint("for example `request.method == \"DELETE\" && time.hour < 8`");
                return None;
            }
        };
        let mut check = Check::default();
        let mut program = program.expression().clone();
        if let Err(Wrong { message, hint }) = check.top(&mut program) {
            findings.report(node.span, message);
            if let Some(hint) = hint {
                findings.hint(hint);
            }
            return None;
        }
        let Check { roots, names, of_request, patterns, .. } = check;
        Some(Self { program, patterns: patterns.into(), names, of_request, roots, text: text.to_owned() })
    }

    /// Whether it asks for one of these members of `request`.
    pub(in crate::decide) fn asks_for(&self, members: &[&str]) -> bool {
        self.of_request.iter().any(|name| members.contains(&name.as_str()))
    }

    /// Whether it is true of an act, or cannot be told.
    pub(in crate::decide) fn is_true(
        &self,
        act: &Act<'_>,
        question: &Question<'_>,
        patience: &Patience,
    ) -> bool {
        if patience.0.get() > LONGEST_TIME {
            return true;
        }
        let began = Instant::now();
        let answer = self.evaluate(act, question);
        patience.0.set(patience.0.get() + began.elapsed());
        answer != Some(false)
    }

    fn evaluate(&self, act: &Act<'_>, question: &Question<'_>) -> Option<bool> {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        let patterns = self.patterns.clone();
        context
            .add_function(MATCHES, move |text: Arc<String>, number: i64| {
                let pattern = usize::try_from(number).ok().and_then(|number| patterns.get(number));
                pattern.is_some_and(|pattern| pattern.is_match(&text))
            })
            .ok()?;
        context.add_function(EQUALS, same::equals).ok()?;
        context.add_function(DIFFERS, same::differs).ok()?;
        context.add_function(CONTAINS, same::contains).ok()?;
        context.add_function(ITEMS, same::items).ok()?;
        context.add_function(MEMBERS, same::members).ok()?;
        for root in &self.roots {
            let value = match *root {
                "request" => cel::to_value(request(act, question, &self.names)?),
                "token" => cel::to_value(token(question)),
                "agent" => cel::to_value(question.agent.as_str()),
                "tenant" => cel::to_value(question.tenant.as_str()),
                _ => cel::to_value(time(question.at.unwrap_or_else(SystemTime::now))?),
            };
            context.add_variable_from_value(*root, value.ok()?);
        }
        match context.resolve(&self.program) {
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
#[derive(Default)]
struct Check {
    roots: Vec<&'static str>,
    names: Vec<String>,
    of_request: Vec<String>,
    patterns: Vec<Regex>,
    /// Variables that a macro such as `exists` brings, one set for each level.
    bound: Vec<Vec<String>>,
    /// Whether a macro goes over members: then a text may be the name of one.
    over_members: bool,
}

impl Check {
    fn top(&mut self, expression: &mut IdedExpr) -> Result<(), Wrong> {
        let is_truth = !matches!(
            &expression.expr,
            Expr::Ident(_)
                | Expr::List(_)
                | Expr::Map(_)
                | Expr::Literal(
                    LiteralValue::Bytes(_)
                        | LiteralValue::Double(_)
                        | LiteralValue::Int(_)
                        | LiteralValue::Null
                        | LiteralValue::String(_)
                        | LiteralValue::UInt(_)
                )
        );
        if !is_truth {
            return Err(Wrong {
                message: "`when` is true or false, and this is neither".to_owned(),
                hint: Some("for example `request.method == \"DELETE\"`".to_owned()),
            });
        }
        self.look(expression)
    }

    /// `matches` with its pattern compiled, under a name of our own: CEL's compiles it at every call.
    fn pattern(&mut self, call: &mut CallExpr) -> Result<(), Wrong> {
        let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), id }) = call.args.pop()
        else {
            return Err(Wrong {
                message: "the pattern of `matches` is a text in quotes".to_owned(),
                hint: Some("what comes with a request must not be a pattern".to_owned()),
            });
        };
        let compiled = RegexBuilder::new(pattern.inner()).size_limit(LARGEST_PATTERN).build();
        let compiled = compiled.map_err(|_| Wrong {
            message: "the pattern of `matches` is no regular expression, or too large".to_owned(),
            hint: Some("it is one of the `regex` crate: linear, without look-around".to_owned()),
        })?;
        let number = i64::try_from(self.patterns.len()).unwrap_or(i64::MAX);
        self.patterns.push(compiled);
        MATCHES.clone_into(&mut call.func_name);
        call.args.extend(call.target.take().map(|target| *target));
        call.args.push(IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(number.into())) });
        Ok(())
    }

    fn look(&mut self, expression: &mut IdedExpr) -> Result<(), Wrong> {
        match &mut expression.expr {
            Expr::Literal(LiteralValue::String(text)) if self.over_members => {
                self.names.push(text.inner().to_owned());
                Ok(())
            }
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
                if matches!(&select.operand.expr, Expr::Ident(root) if root == "request") {
                    self.of_request.push(select.field.clone());
                }
                if !self.names.contains(&select.field) {
                    self.names.push(select.field.clone());
                }
                self.look(&mut select.operand)
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
                if !is_operator && !FUNCTIONS.contains(&name) {
                    return Err(unknown("there is no function", name, &FUNCTIONS));
                }
                let name = name.to_owned();
                if name == "matches" {
                    self.pattern(call)?;
                }
                // `a["b"]` and `"b" in a` ask for a member, too.
                let member = match name.as_str() {
                    operators::INDEX => call.args.last(),
                    operators::IN => call.args.first(),
                    _ => None,
                };
                if let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }) = member {
                    self.names.push(name.inner().to_owned());
                }
                let is_null = |e: &IdedExpr| matches!(e.expr, Expr::Literal(LiteralValue::Null));
                match name.as_str() {
                    // Whether something is null can always be told.
                    operators::EQUALS | operators::NOT_EQUALS if call.args.iter().any(is_null) => {}
                    operators::EQUALS => EQUALS.clone_into(&mut call.func_name),
                    operators::NOT_EQUALS => DIFFERS.clone_into(&mut call.func_name),
                    operators::IN => CONTAINS.clone_into(&mut call.func_name),
                    _ => {}
                }
                let target = call.target.iter_mut().map(|target| &mut **target);
                target.chain(&mut call.args).try_for_each(|e| self.look(e))
            }
            Expr::List(items) => items.elements.iter_mut().try_for_each(|item| self.look(item)),
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.look(&mut entry.key).and_then(|()| self.look(&mut entry.value))
                }
                EntryExpr::StructField(field) => self.look(&mut field.value),
            }),
            Expr::Struct(_) => Err(Wrong { message: "`when` makes no objects".to_owned(), hint: None }),
            Expr::Comprehension(comprehension) => {
                if !self.bound.is_empty() {
                    return Err(Wrong {
                        message: "a macro stands inside another: that could take too long".to_owned(),
                        hint: Some("use `in` for one of them".to_owned()),
                    });
                }
                let over_members = is_mapping(&comprehension.iter_range);
                self.look(&mut comprehension.iter_range)?;
                let range = std::mem::replace(&mut comprehension.iter_range.expr, Expr::Unspecified);
                let id = comprehension.iter_range.id;
                comprehension.iter_range.expr = Expr::Call(CallExpr {
                    func_name: if over_members { MEMBERS } else { ITEMS }.to_owned(),
                    target: None,
                    args: vec![IdedExpr { id, expr: range }],
                });
                self.look(&mut comprehension.accu_init)?;
                let mut names = vec![comprehension.iter_var.clone(), comprehension.accu_var.clone()];
                names.extend(comprehension.iter_var2.clone());
                self.bound.push(names);
                self.over_members = over_members;
                self.look(&mut comprehension.loop_cond)?;
                self.look(&mut comprehension.loop_step)?;
                self.look(&mut comprehension.result)?;
                self.over_members = false;
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

/// Whether an expression is a mapping for sure; of what else a request brings, only lists are gone over.
fn is_mapping(range: &IdedExpr) -> bool {
    let Expr::Select(select) = &range.expr else { return false };
    let Expr::Ident(root) = &select.operand.expr else { return false };
    matches!((root.as_str(), select.field.as_str()), ("request", "arguments") | ("token", "claims"))
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
    // What the parser quotes may be part of a secret that is compared with.
    let text = match text.split_once('\'') {
        Some((said, quoted)) if !quoted.starts_with("<EOF>") => {
            said.trim_end().trim_end_matches(':').trim_end_matches(" at")
        }
        _ => text,
    };
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

fn request<'a>(act: &Act<'a>, question: &Question<'a>, names: &[String]) -> Option<Request<'a>> {
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
            if arguments.is_some_and(|arguments| {
                mcp::weight(arguments, MOST_VALUES) > MOST_VALUES || is_ambiguous(arguments, names)
            }) {
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

/// Whether arguments have members that differ in case alone, or from what the condition asks for: Go's
/// `encoding/json` and others take them for one. `__proto__` brings members to JavaScript that are not there, and to C a
/// name ends at its first zero.
fn is_ambiguous(value: &serde_json::Value, names: &[String]) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(|item| is_ambiguous(item, names)),
        serde_json::Value::Object(members) => {
            let mut seen = std::collections::HashSet::with_capacity(members.len());
            members.iter().any(|(key, value)| {
                let folded = key.to_lowercase().replace('ſ', "s");
                let other = names.iter().any(|name| name != key && name.to_lowercase() == folded);
                let odd = key == "__proto__" || key.contains(char::is_control);
                other || odd || !seen.insert(folded) || is_ambiguous(value, names)
            })
        }
        _ => false,
    }
}

/// What `token` is. Without a token, as in `explain` and in tests, only the user is known.
#[derive(Serialize)]
struct Token<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
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
        user: question.user.map(crate::context::UserId::as_str),
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
