//! The hosts of a service: names, wildcards, and names with variables that each integration fills in.

use std::{collections::HashSet, fmt, sync::Arc};

use super::credential::is_word;
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, list, short},
        source::Span,
        yaml::{Key, Node, Value},
    },
    target::{Host, Scheme},
};

/// The hosts of a service.
#[derive(Debug)]
pub(in crate::decide) enum Hosts {
    /// The same for every integration, and shared by all of them.
    Fixed(Arc<[HostPattern]>),
    /// With variables.
    Open(Vec<HostForm>),
}

/// A host of a service that may have variables.
#[derive(Debug)]
pub(in crate::decide) enum HostForm {
    Fixed(HostPattern),
    Open(Form),
}

/// `{subdomain}.zendesk.com`, `{host}`.
#[derive(Debug)]
pub(in crate::decide) struct Form {
    text: Box<str>,
    variables: Vec<Box<str>>,
    scheme: Scheme,
}

/// A host of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) struct HostPattern {
    pub(in crate::decide) name: HostName,
    /// None: the service's own port, which a client reaches as 80 or as 443.
    pub(in crate::decide) port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decide) enum HostName {
    Exact(Host),
    /// `*.example.com`: the part after `*.`; one label goes in front.
    Below(Arc<str>),
}

impl Hosts {
    /// Reads the `hosts` of a service.
    pub(in crate::decide) fn read(node: &Node, scheme: Scheme, findings: &mut Findings) -> Self {
        let mut forms: Vec<HostForm> = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        for item in reader::items(node, "`hosts`", findings).unwrap_or_default() {
            let Some(text) = reader::text(item, "a host", findings) else { continue };
            match HostForm::parse(text, scheme) {
                Ok(form) if seen.insert(form.to_string()) => forms.push(form),
                Ok(_) => {
                    findings.report(item.span, "this host stands twice");
                }
                Err(message) => {
                    findings.report(item.span, message);
                }
            }
        }
        let fixed = |form: &HostForm| match form {
            HostForm::Fixed(pattern) => Some(pattern.clone()),
            HostForm::Open(_) => None,
        };
        match forms.iter().map(fixed).collect::<Option<Arc<[_]>>>() {
            Some(patterns) => Self::Fixed(patterns),
            None => Self::Open(forms),
        }
    }

    /// The one host of an MCP server.
    pub(in crate::decide) fn one(text: &str, scheme: Scheme) -> Result<Self, String> {
        match HostForm::parse(text, scheme)? {
            HostForm::Fixed(HostPattern { name: HostName::Below(_), .. }) => {
                Err("an MCP server has one host, without `*`".to_owned())
            }
            HostForm::Fixed(pattern) => Ok(Self::Fixed([pattern].into())),
            form @ HostForm::Open(_) => Ok(Self::Open(vec![form])),
        }
    }

    /// The names of the variables, each once.
    pub(in crate::decide) fn variables(&self) -> Vec<&str> {
        let Self::Open(forms) = self else { return Vec::new() };
        let mut names: Vec<&str> = Vec::new();
        for form in forms {
            let HostForm::Open(form) = form else { continue };
            for name in &form.variables {
                if !names.contains(&&**name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The hosts as they are written.
    pub(in crate::decide) fn shown(&self) -> Vec<String> {
        match self {
            Self::Fixed(patterns) => patterns.iter().map(HostPattern::to_string).collect(),
            Self::Open(forms) => forms.iter().map(HostForm::to_string).collect(),
        }
    }

    /// Whether a variable stands for a whole host.
    pub(in crate::decide) fn is_whole(&self, variable: &str) -> bool {
        let Self::Open(forms) = self else { return false };
        forms.iter().any(|form| matches!(form, HostForm::Open(form) if form.is_whole() && form.has(variable)))
    }

    /// The hosts of one integration, which gives each variable a value in its `vars`. So a credential can only go
    /// to hosts that the policy names.
    pub(in crate::decide) fn bind(
        &self,
        integration: Span,
        vars: Option<&Node>,
        findings: &mut Findings,
    ) -> Option<Arc<[HostPattern]>> {
        for value in vars.map(values).unwrap_or_default() {
            reader::hide_long(value, findings);
        }
        let forms = match (self, vars) {
            (Self::Fixed(patterns), None) => return Some(patterns.clone()),
            (Self::Fixed(_), Some(node)) => {
                findings
                    .report(node.span, "the hosts of this service have no variables")
                    .hint("leave `vars` out");
                return None;
            }
            (Self::Open(forms), _) => forms,
        };
        let before = findings.count();
        let at = vars.map_or(integration, |node| node.span);
        let entries = vars.and_then(|node| reader::mapping(node, "`vars`", findings)).unwrap_or_default();
        let values: Vec<(&str, &str)> =
            entries.iter().filter_map(|(key, node)| self.value(key, node, findings)).collect();
        for name in self.variables() {
            if !entries.iter().any(|(key, _)| key.text == name) {
                findings.report(at, format!("the variable `{name}` has no value")).hint(format!(
                    "write `vars: {{{name}: …}}`: the hosts of the service are {}",
                    list(self.shown().iter().map(String::as_str))
                ));
            }
        }
        if findings.count() > before {
            return None;
        }
        let mut hosts = Vec::with_capacity(forms.len());
        for form in forms {
            match form.fill(&values) {
                // A value may make one host of two; an integration that covers it twice would be ambiguous.
                Ok(pattern) if hosts.contains(&pattern) => {}
                Ok(pattern) => hosts.push(pattern),
                Err(message) => {
                    findings.report(at, message);
                }
            }
        }
        (findings.count() == before).then(|| hosts.into())
    }

    /// One entry of `vars`.
    fn value<'n>(&self, key: &'n Key, node: &'n Node, findings: &mut Findings) -> Option<(&'n str, &'n str)> {
        let variables = self.variables();
        if !variables.contains(&key.text.as_str()) {
            findings.report(
                key.span,
                format!("the hosts of this service have no variable `{}`", short(&key.text)),
            );
            match findings.closest(&key.text, variables.iter().copied()) {
                Some(meant) => findings.hint(format!("did you mean `{meant}`?")),
                None => findings.hint(format!("its variables are {}", list(variables.into_iter()))),
            };
            return None;
        }
        let text = reader::text(node, "the value of a variable", findings)?;
        if self.is_whole(&key.text) {
            if let Err(message) = check_whole(text) {
                findings.report(node.span, message);
                return None;
            }
        } else if !is_label(text) {
            let message = "the value of a variable is one label of a host name: letters, digits and `-`";
            findings
                .report(node.span, message)
                .hint(format!("the hosts are {}", list(self.shown().iter().map(String::as_str))));
            return None;
        }
        Some((&key.text, text))
    }
}

impl HostForm {
    fn parse(text: &str, scheme: Scheme) -> Result<Self, String> {
        if !text.contains(['{', '}']) {
            return parse_host(text, scheme).map(Self::Fixed);
        }
        if text.contains('*') {
            return Err("a host has variables or `*`, not both".to_owned());
        }
        let form = Form { text: text.into(), variables: variables_of(text)?, scheme };
        // What is around the variables must make a host, too.
        let sample: Vec<(&str, &str)> = form.variables.iter().map(|name| (&**name, "x")).collect();
        form.fill(&sample)?;
        Ok(Self::Open(form))
    }

    fn fill(&self, bound: &[(&str, &str)]) -> Result<HostPattern, String> {
        match self {
            Self::Fixed(pattern) => Ok(pattern.clone()),
            Self::Open(form) => form.fill(bound),
        }
    }
}

impl Form {
    fn has(&self, variable: &str) -> bool {
        self.variables.iter().any(|name| **name == *variable)
    }

    /// Whether it is nothing but a variable, which then stands for a whole host.
    fn is_whole(&self) -> bool {
        self.variables.iter().any(|name| self.text.len() == name.len() + 2)
    }

    fn fill(&self, bound: &[(&str, &str)]) -> Result<HostPattern, String> {
        let text = bound
            .iter()
            .fold(self.text.to_string(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        parse_host(&text, self.scheme)
    }
}

/// The values of a mapping, or the one value that stands in its place.
fn values(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        _ => vec![node],
    }
}

/// The names in braces.
fn variables_of(text: &str) -> Result<Vec<Box<str>>, String> {
    let wrong = || "a variable of a host is a name in braces, such as `{subdomain}`".to_owned();
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(wrong)?;
        if before.contains('}') || !is_word(name) {
            return Err(wrong());
        }
        names.push(name.into());
        rest = after;
    }
    if rest.contains('}') { Err(wrong()) } else { Ok(names) }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A value that stands for a whole host: one host, and no wildcard.
fn check_whole(text: &str) -> Result<(), String> {
    match parse_host(text, Scheme::Https)?.name {
        HostName::Exact(_) => Ok(()),
        HostName::Below(_) => Err("a variable stands for one host, not for `*`".to_owned()),
    }
}

impl fmt::Display for HostForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(pattern) => pattern.fmt(f),
            Self::Open(form) => f.write_str(&form.text),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostName::Exact(host) => host.fmt(f)?,
            HostName::Below(parent) => write!(f, "*.{parent}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Parses `api.example.com`, `*.example.com`, `api.example.com:8443`, `192.0.2.1`.
pub(in crate::decide) fn parse_host(text: &str, scheme: Scheme) -> Result<HostPattern, String> {
    if text.contains("://") || text.contains('/') {
        return Err("a host has no scheme and no path: write `api.example.com`".to_owned());
    }
    let explicit = |authority: &str| {
        crate::target::Authority::parse(authority, Some(scheme.default_port())).map_err(|bad| bad.to_string())
    };
    let (name, port) = if let Some(below) = text.strip_prefix("*.") {
        let authority = explicit(below)?;
        let Some(parent) = authority.host.name().filter(|name| !is_public_suffix(name)) else {
            return Err("`*.` needs a domain that one owner holds, such as `*.example.com`".to_owned());
        };
        (HostName::Below(parent.into()), authority.port)
    } else if text.contains('*') {
        return Err("`*` stands for the whole first label: write `*.example.com`".to_owned());
    } else {
        let authority = explicit(text)?;
        (HostName::Exact(authority.host), authority.port)
    };
    Ok(HostPattern { name, port: Some(port).filter(|port| *port != scheme.default_port()) })
}

/// The best known places of hosters.
pub(in crate::decide) const SHARED: [&str; 16] = [
    "github.io",
    "gitlab.io",
    "pages.dev",
    "workers.dev",
    "vercel.app",
    "netlify.app",
    "herokuapp.com",
    "web.app",
    "firebaseapp.com",
    "azurewebsites.net",
    "cloudfront.net",
    "amazonaws.com",
    "appspot.com",
    "run.app",
    "fly.dev",
    "ngrok.io",
];

/// Whether a name is a place where strangers register names side by side: a wildcard below it would cover all of
/// them. Public suffixes of registries (`com`, `co.uk`), names of one label, and the best known places of hosters;
/// `egret check` knows the others.
fn is_public_suffix(name: &str) -> bool {
    let registry = psl::suffix(name.as_bytes()).is_some_and(|suffix| {
        suffix.as_bytes() == name.as_bytes() && suffix.typ() != Some(psl::Type::Private)
    });
    registry || SHARED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label_below_a_domain_with_one_owner() {
        for bad in [
            "*",
            "*.com",
            "*.co.uk",
            "*.github.io",
            "*.localhost",
            "api.*.x",
            "*foo.example.com",
            "*.*.example.com",
            "https://x.example",
            "x.example/v1",
            "*.192.0.2.1",
            "x.example:0",
            "user@x.example",
            "",
        ] {
            assert!(parse_host(bad, Scheme::Https).is_err(), "{bad:?}");
        }
        for good in
            ["*.example.com", "*.x.co.uk", "API.Example.com.", "192.0.2.1", "[::1]:8443", "localhost:8080"]
        {
            assert!(parse_host(good, Scheme::Https).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_port_is_kept_only_where_it_does_not_go_without_saying() {
        for (text, scheme, port) in [
            ("x.example", Scheme::Https, None),
            ("x.example:443", Scheme::Https, None),
            ("x.example:80", Scheme::Https, Some(80)),
            ("x.example:80", Scheme::Http, None),
            ("x.example:8443", Scheme::Https, Some(8443)),
        ] {
            assert_eq!(parse_host(text, scheme).unwrap().port, port, "{text}");
        }
    }

    #[test]
    fn a_variable_is_a_name_in_braces() {
        for (good, names) in [
            ("{subdomain}.zendesk.com", "subdomain"),
            ("{region}-aiplatform.googleapis.com", "region"),
            ("{service}.{region}.amazonaws.com", "service region"),
            ("{host}", "host"),
            ("{host}:8443", "host"),
        ] {
            match HostForm::parse(good, Scheme::Https) {
                Ok(HostForm::Open(form)) => assert_eq!(form.variables.join(" "), names),
                other => panic!("{good}: {other:?}"),
            }
        }
        for bad in [
            "{}.x.com",
            "{Sub}.x.com",
            "{a.x.com",
            "a}.x.com",
            "*.{a}.com",
            "{a}..com",
            "{a}/x",
            "{a b}.com",
            "{{a}}.com",
        ] {
            assert!(HostForm::parse(bad, Scheme::Https).is_err(), "{bad}");
        }
    }
}
