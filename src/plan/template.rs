//! Texts with holes: `Basic {base64(client_id ':' client_secret)}`. What stands in the holes is known when a token is
//! fetched or a request is signed. The functions are a closed set; there are no loops, no files, no environment.

use std::fmt;

/// A text with holes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template(Box<[Piece]>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Piece {
    /// As it stands.
    Text(Box<str>),
    /// What is filled in.
    Hole(Expression),
}

/// What a hole says; several beside each other are joined.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expression {
    /// A value by its name.
    Name(Box<str>),
    /// A text in single quotes.
    Text(Box<str>),
    /// A function of other values.
    Call(Function, Box<[Expression]>),
    /// One after the other.
    Joined(Box<[Expression]>),
}

/// What can be done with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `base64(x)` (RFC 4648 §4).
    Base64,
    /// `base64url(x)`, without padding (RFC 4648 §5).
    Base64Url,
    /// `unbase64(x)`: either alphabet, with or without padding.
    Unbase64,
    /// `hex(x)`, lower case.
    Hex,
    /// `unhex(x)`: the bytes that the digits name.
    Unhex,
    /// `md5(x)` is not here on purpose; `sha1(x)` is, for old signatures.
    Sha1,
    /// `sha256(x)`.
    Sha256,
    /// `sha512(x)`.
    Sha512,
    /// `hmac_sha1(key, x)` (RFC 2104).
    HmacSha1,
    /// `hmac_sha256(key, x)`.
    HmacSha256,
    /// `hmac_sha512(key, x)`.
    HmacSha512,
    /// `upper(x)`.
    Upper,
    /// `lower(x)`.
    Lower,
    /// `uri(x)`: all but the unreserved characters percent-encoded (RFC 3986 §2.3).
    Uri,
    /// `form(x)`: as in a form (`application/x-www-form-urlencoded`), as RFC 6749 §2.3.1 wants a client's secret.
    Form,
    /// `json(x, 'path')`: a member of a JSON text.
    Json,
    /// `spki_sha256(key)`: base64 of the SHA-256 of the public key that belongs to a private key in PEM.
    SpkiSha256,
    /// `thumbprint(certificate)`: base64url of the SHA-256 of a certificate in PEM (`x5t#S256`, RFC 7515 §4.1.8).
    Thumbprint,
    /// `now('unix')`, and `unix_ms`, `rfc3339`, `rfc2822`: when the request is made; the same in all of it.
    Now,
    /// `uuid()`: a new one in each place (RFC 9562 §5.4).
    Uuid,
    /// `nonce()`: 128 random bits in hex, new in each place.
    Nonce,
}

impl Function {
    /// Name and number of arguments.
    const ALL: [(&'static str, usize, Self); 21] = [
        ("base64", 1, Self::Base64),
        ("base64url", 1, Self::Base64Url),
        ("unbase64", 1, Self::Unbase64),
        ("hex", 1, Self::Hex),
        ("unhex", 1, Self::Unhex),
        ("sha1", 1, Self::Sha1),
        ("sha256", 1, Self::Sha256),
        ("sha512", 1, Self::Sha512),
        ("hmac_sha1", 2, Self::HmacSha1),
        ("hmac_sha256", 2, Self::HmacSha256),
        ("hmac_sha512", 2, Self::HmacSha512),
        ("upper", 1, Self::Upper),
        ("lower", 1, Self::Lower),
        ("uri", 1, Self::Uri),
        ("form", 1, Self::Form),
        ("json", 2, Self::Json),
        ("spki_sha256", 1, Self::SpkiSha256),
        ("thumbprint", 1, Self::Thumbprint),
        ("now", 1, Self::Now),
        ("uuid", 0, Self::Uuid),
        ("nonce", 0, Self::Nonce),
    ];

    /// The names of all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, ..)| *name)
    }
}

/// The forms of `now`.
pub const MOMENTS: [&str; 4] = ["unix", "unix_ms", "rfc3339", "rfc2822"];

/// How deep calls may stand in each other.
const DEEPEST: usize = 16;

impl Template {
    /// A text without holes.
    pub fn text(text: &str) -> Self {
        Self(Box::new([Piece::Text(text.into())]))
    }

    /// One value as it is.
    pub fn name(name: &str) -> Self {
        Self(Box::new([Piece::Hole(Expression::Name(name.into()))]))
    }

    /// Parses a text with holes. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// What is wrong, in a sentence; never the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(from.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let inside =
                from.strip_prefix('{').ok_or("a `}` closes nothing; write `}}` for the character")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            let mut parser = Parser { rest: inside };
            let expression = parser.joined(0)?;
            rest = parser.rest.strip_prefix('}').ok_or("a `{` is not closed")?;
            pieces.push(Piece::Hole(expression));
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// Its parts.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text, where it has no holes.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.0 {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names in its holes.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for piece in &self.0 {
            if let Piece::Hole(expression) = piece {
                expression.collect(&mut names);
            }
        }
        names
    }
}

impl Expression {
    fn collect<'e>(&'e self, names: &mut Vec<&'e str>) {
        match self {
            Self::Name(name) => names.push(name),
            Self::Text(_) => {}
            Self::Call(_, parts) | Self::Joined(parts) => parts.iter().for_each(|part| part.collect(names)),
        }
    }
}

/// Reads what stands in a hole.
struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    /// One or more terms beside each other.
    fn joined(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEEPEST {
            return Err("its calls stand too deep in each other".to_owned());
        }
        let mut terms = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.bytes().next() {
                None => return Err("a `{` is not closed".to_owned()),
                Some(b'}' | b')' | b',') if terms.is_empty() => {
                    return Err("a value is missing in a hole".to_owned());
                }
                Some(b'}' | b')' | b',') => break,
                Some(_) => terms.push(self.term(depth)?),
            }
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Expression::Joined(terms.into()) })
    }

    fn term(&mut self, depth: usize) -> Result<Expression, String> {
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            return self.quoted(quoted);
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let end = self.rest.find(|c| !plain(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err("a hole holds names in lower case, texts in single quotes, and functions".to_owned());
        }
        let Some(arguments) = rest.strip_prefix('(') else {
            self.rest = rest;
            return Ok(Expression::Name(name.into()));
        };
        let known = Function::ALL.iter().find(|(known, ..)| *known == name);
        let (name, arity, function) = known.ok_or("a hole calls a function that does not exist")?;
        self.rest = arguments.trim_start();
        let mut parts = Vec::new();
        while !self.rest.starts_with(')') {
            parts.push(self.joined(depth + 1)?);
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest.trim_start();
            } else if !self.rest.starts_with(')') {
                return Err(format!("`{name}(` is not closed"));
            }
        }
        self.rest = self.rest.strip_prefix(')').unwrap_or_default();
        if parts.len() != *arity {
            return Err(format!("`{name}` takes {arity} values"));
        }
        if *function == Function::Now
            && !matches!(parts.as_slice(), [Expression::Text(form)] if MOMENTS.contains(&&**form))
        {
            return Err("`now` takes `'unix'`, `'unix_ms'`, `'rfc3339'` or `'rfc2822'`".to_owned());
        }
        if *function == Function::Json && !matches!(parts.as_slice(), [_, Expression::Text(_)]) {
            return Err("`json` takes a value and a path in quotes".to_owned());
        }
        Ok(Expression::Call(*function, parts.into()))
    }

    /// A text in single quotes; `\n`, `\'` and `\\` are written with a backslash.
    fn quoted(&mut self, quoted: &str) -> Result<Expression, String> {
        let mut text = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\'' => {
                    // The quotes are one byte each.
                    let consumed = self.rest.len() - quoted.len() + at + 1;
                    self.rest = self.rest.get(consumed..).unwrap_or_default();
                    return Ok(Expression::Text(text.into()));
                }
                '\\' => text.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, c @ ('\'' | '\\'))) => c,
                    _ => return Err("a text in quotes knows `\\n`, `\\'` and `\\\\`".to_owned()),
                }),
                c => text.push(c),
            }
        }
        Err("a text in quotes is not closed".to_owned())
    }
}

/// A JSON text with holes in its strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JsonTemplate {
    /// A string.
    Text(Template),
    /// `true`, `false` or a number, as it is written.
    Plain(Box<str>),
    /// An array.
    List(Box<[JsonTemplate]>),
    /// An object.
    Object(Box<[(Box<str>, JsonTemplate)]>),
}

impl JsonTemplate {
    /// The names in its holes.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Text(template) => template.names(),
            Self::Plain(_) => Vec::new(),
            Self::List(items) => items.iter().flat_map(Self::names).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, member)| member.names()).collect(),
        }
    }
}

/// A place in a JSON text: `authed_user.access_token`, `data.0.token`, `errors.*.code`; `$` is the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonPath(Box<[Box<str>]>);

/// Stands for every item of an array.
const EACH: &str = "*";

impl JsonPath {
    /// Parses names and numbers with dots between. A dot of a name is written `\.`. None where a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "$" {
            return Some(Self(Box::default()));
        }
        let mut keys = vec![String::new()];
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '.' => keys.push(String::new()),
                '\\' => keys.last_mut()?.push(characters.next().filter(|c| matches!(c, '.' | '\\'))?),
                c => keys.last_mut()?.push(c),
            }
        }
        let is_whole = !keys.iter().any(String::is_empty) && keys.len() <= DEEPEST;
        is_whole.then(|| Self(keys.into_iter().map(Into::into).collect()))
    }

    /// Whether it is `$`: all of it.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands there; of several the first.
    pub fn find<'v>(&self, value: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        search(&self.0, value, &|_| true)
    }

    /// Whether something that stands there is as it is expected.
    pub fn any(&self, value: &serde_json::Value, is: &dyn Fn(&serde_json::Value) -> bool) -> bool {
        search(&self.0, value, is).is_some()
    }
}

fn search<'v>(
    keys: &[Box<str>],
    value: &'v serde_json::Value,
    is: &dyn Fn(&serde_json::Value) -> bool,
) -> Option<&'v serde_json::Value> {
    let Some((key, rest)) = keys.split_first() else { return is(value).then_some(value) };
    match value {
        serde_json::Value::Object(members) => search(rest, members.get(&**key)?, is),
        serde_json::Value::Array(items) if **key == *EACH => {
            items.iter().find_map(|item| search(rest, item, is))
        }
        serde_json::Value::Array(items) => search(rest, items.get(key.parse::<usize>().ok()?)?, is),
        _ => None,
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("$");
        }
        let written = |key: &str| key.replace('\\', "\\\\").replace('.', "\\.");
        f.write_str(&self.0.iter().map(|key| written(key)).collect::<Vec<_>>().join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_holes() {
        let names = |text: &str| {
            Template::parse(text).map(|t| t.names().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(names("plain").unwrap(), Vec::<String>::new());
        assert_eq!(
            names("Basic {base64(client_id ':' client_secret)}").unwrap(),
            ["client_id", "client_secret"]
        );
        assert_eq!(names("{hmac_sha1(key, now('rfc2822') '\\n' method)}").unwrap(), ["key", "method"]);
        assert_eq!(names("{{\"a\": \"{b}\"}}").unwrap(), ["b"]);
        assert_eq!(Template::parse("a}}b{{").unwrap().as_text(), Some("a}b{"));
        assert_eq!(Template::parse("").unwrap().as_text(), Some(""));
        assert_eq!(
            Template::parse("{'it\\'s' é_no}").unwrap_err(),
            "a hole holds names in lower case, texts in single quotes, and functions"
        );
    }

    #[test]
    fn what_is_no_template_is_said_without_telling_it() {
        for text in [
            "{",
            "}",
            "{}",
            "{a",
            "{base64()}",
            "{base64(a",
            "{base64(a, b)}",
            "{what(a)}",
            "{'a}",
            "{now('x')}",
            "{now(a)}",
            "{json(a, b)}",
            "{'\\x'}",
            "{a,}",
            "{A}",
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(!error.is_empty() && !error.contains("what("), "{text}: {error}");
        }
        let deep = format!("{{{}a{}}}", "hex(".repeat(40), ")".repeat(40));
        assert!(Template::parse(&deep).is_err());
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        let value = serde_json::json!({"a": {"b": [{"c": 7}]}});
        let at = |path: &str| JsonPath::parse(path).and_then(|path| path.find(&value).cloned());
        assert_eq!(at("a.b.0.c"), Some(7.into()));
        assert_eq!(at("$"), Some(value.clone()));
        assert_eq!(at("a.b.1.c"), None);
        assert_eq!(at("a..b"), None);
    }

    #[test]
    fn a_path_may_lead_through_every_item_and_names_may_have_dots() {
        let value = serde_json::json!({"e": [{"x": 1}, {"c": "a"}, {"c": "b"}], ".tag": {"\\": 7}});
        let at = |path: &str| JsonPath::parse(path).and_then(|path| path.find(&value).cloned());
        assert_eq!(at("e.*.c"), Some("a".into()));
        assert_eq!(at("e.*.d"), None);
        assert_eq!(at(r"\.tag.\\"), Some(7.into()));
        assert_eq!(JsonPath::parse(r"a\n"), None);
        assert_eq!(JsonPath::parse("a\\"), None);
        let any = |text: &str| JsonPath::parse("e.*.c").unwrap().any(&value, &|found| *found == *text);
        assert!(any("b") && !any("c"));
        for text in [r"\.tag.a", "e.*.c", "$", r"a\\b"] {
            assert_eq!(JsonPath::parse(text).unwrap().to_string(), text);
        }
    }
}
