//! What the roles of a drafted service hold, and the line that each request falls under.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::lines::Tree,
    seen::{Ask, Shape},
};
use crate::{graphql, mcp, target::Method};

/// The two roles of a service.
pub(super) const READER: &str = "reader";
/// It includes `reader`, and sorts after it.
pub(super) const WRITER: &str = "writer";

/// What was asked of one service, as lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where its GraphQL is.
    pub(super) graphql: Option<String>,
    paths: BTreeMap<usize, Tree>,
    fields: BTreeSet<(graphql::Kind, String)>,
    names: BTreeSet<(mcp::Named, String)>,
    /// Resources, by the scheme of their URIs.
    resources: BTreeMap<String, Tree>,
}

impl Lines {
    /// The lines for all of these.
    pub(super) fn of<'s>(shapes: &(impl Iterator<Item = &'s Shape> + Clone)) -> Self {
        let mut lines = Self::default();
        for shape in shapes.clone() {
            lines.add(&shape.ask);
        }
        lines.add_quiet(shapes);
        // What the schema answers to everybody needs a line only where there is no other.
        for kind in [graphql::Kind::Query, graphql::Kind::Mutation] {
            if lines.fields.iter().filter(|(of, _)| *of == kind).count() > 1 {
                lines.fields.remove(&(kind, "__typename".to_owned()));
            }
        }
        for tree in lines.paths.values_mut() {
            let literal = tree.clone();
            tree.collapse();
            // What is granted by its fields must not be granted by a path that was widened.
            if lines.graphql.as_deref().is_some_and(|path| tree.pattern_of(path).is_some()) {
                *tree = literal;
            }
        }
        lines.resources.values_mut().for_each(Tree::collapse);
        lines
    }

    fn add(&mut self, ask: &Ask) {
        match ask {
            Ask::Http(method, path) => self.paths.entry(*method).or_default().add(path),
            Ask::Field(kind, field, path) => {
                self.graphql = Some(path.clone());
                self.fields.insert((*kind, field.clone()));
            }
            Ask::Named(mcp::Named::Resource, uri) => {
                let (scheme, path) = split(uri);
                self.resources.entry(scheme.to_owned()).or_default().add(&path);
            }
            Ask::Named(kind, name) => _ = self.names.insert((*kind, name.clone())),
            Ask::Quiet(_) | Ask::Tunnel => {}
        }
    }

    /// Whoever may do anything at an MCP server may greet it and list its tools. Other lists need a line of their
    /// kind, and whoever does nothing else needs any line.
    fn add_quiet<'s>(&mut self, shapes: &(impl Iterator<Item = &'s Shape> + Clone)) {
        let is_quiet = |shape: &&Shape| matches!(shape.ask, Ask::Quiet(_));
        let busy: BTreeSet<_> =
            shapes.clone().filter(|s| !is_quiet(s)).map(|s| (&s.tenant, &s.agent)).collect();
        let nothing_to_read = !shapes.clone().any(|shape| shape.ask.only_reads() && !is_quiet(&shape));
        let mut added = Vec::new();
        for shape in shapes.clone() {
            let Ask::Quiet(method) = &shape.ask else { continue };
            let needed = match mcp::Ask::recorded(method, None) {
                Some(mcp::Ask::List(kind)) if kind != mcp::Named::Tool => !self.has(kind),
                _ => nothing_to_read && !busy.contains(&(&shape.tenant, &shape.agent)),
            };
            if needed {
                added.push((mcp::Named::Method, method.clone()));
            }
        }
        self.names.extend(added);
    }

    fn has(&self, kind: mcp::Named) -> bool {
        match kind {
            mcp::Named::Resource => !self.resources.is_empty(),
            kind => self.names.iter().any(|(of, _)| *of == kind),
        }
    }

    /// The line that a request falls under, as what it would be asked for by; none where it needs none.
    pub(super) fn line(&self, ask: &Ask) -> Option<Ask> {
        match ask {
            Ask::Http(method, path) => Some(Ask::Http(*method, self.paths.get(method)?.pattern_of(path)?)),
            Ask::Field(kind, field, _) => self.fields.contains(&(*kind, field.clone())).then(|| ask.clone()),
            Ask::Named(mcp::Named::Resource, uri) => {
                let (scheme, path) = split(uri);
                let pattern = self.resources.get(scheme)?.pattern_of(&path)?;
                Some(Ask::Named(mcp::Named::Resource, join(scheme, &pattern)))
            }
            Ask::Named(..) | Ask::Tunnel => Some(ask.clone()),
            Ask::Quiet(method) => {
                let line = (mcp::Named::Method, method.clone());
                self.names.contains(&line).then_some(Ask::Named(line.0, line.1))
            }
        }
    }

    /// The lines of `reader`, and those of `writer` without them.
    pub(super) fn roles(&self) -> [Vec<String>; 2] {
        let mut roles = [Vec::new(), Vec::new()];
        self.write_paths(&mut roles);
        let resources = self.resources.iter().flat_map(|(scheme, tree)| {
            let patterns = tree.patterns().into_iter();
            patterns.map(|pattern| (mcp::Named::Resource, join(scheme, &pattern))).collect::<Vec<_>>()
        });
        let mut names: Vec<(mcp::Named, String)> = self.names.iter().cloned().chain(resources).collect();
        names.sort();
        let asks = names.into_iter().map(|(kind, name)| Ask::Named(kind, name));
        let fields = self.fields.iter().map(|(kind, field)| Ask::Field(*kind, field.clone(), String::new()));
        for ask in asks.chain(fields) {
            let [reader, writer] = &mut roles;
            let role = if ask.only_reads() { reader } else { writer };
            role.extend(written(&ask));
        }
        roles
    }

    /// Methods that share a pattern share a line.
    fn write_paths(&self, roles: &mut [Vec<String>; 2]) {
        let mut grouped: [BTreeMap<String, Vec<&'static str>>; 2] = Default::default();
        for (number, tree) in &self.paths {
            let Some(method) = Method::NAMED.get(*number) else { continue };
            for pattern in tree.patterns() {
                let [reader, writer] = &mut grouped;
                let reads = Ask::Http(*number, String::new()).only_reads();
                let lines = if reads { reader } else { writer };
                lines.entry(pattern).or_default().push(method.as_str());
            }
        }
        for (role, lines) in roles.iter_mut().zip(grouped) {
            for (pattern, mut methods) in lines {
                // `GET` says so, too.
                if methods.contains(&"GET") {
                    methods.retain(|method| *method != "HEAD");
                }
                role.push(format!("{} {pattern}", methods.join("|")));
            }
        }
    }
}

/// What an MCP server or GraphQL is asked for, in the words of a line.
pub(super) fn written(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Named(kind, name) => Some(format!("{} {name}", kind.as_str())),
        Ask::Field(kind, field, _) => Some(format!("graphql {} {field}", kind.as_str())),
        Ask::Http(..) | Ask::Quiet(_) | Ask::Tunnel => None,
    }
}

/// A URI as its scheme and a path to put into a tree.
fn split(uri: &str) -> (&str, String) {
    let (scheme, rest) = uri.split_at(uri.find(':').map_or(0, |at| at + 1));
    (scheme, format!("/{rest}"))
}

fn join(scheme: &str, path: &str) -> String {
    format!("{scheme}{}", path.strip_prefix('/').unwrap_or(path))
}
