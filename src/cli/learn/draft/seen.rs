//! What was seen, request by request, and what of it a policy can tell apart.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{
    records::{Decision, Place, Said},
    route::{is_word, template, uri_template},
};
use crate::{
    context::{AgentId, IntegrationId, ServiceId, TenantId},
    graphql, mcp,
    target::{Method, Path, Scheme},
};

/// The most shapes of requests that are kept apart.
const SHAPES: usize = 20_000;
/// The most credentials of one integration that are told.
pub(super) const CREDENTIALS: usize = 4;

/// What was seen, by where it went.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) sites: BTreeMap<Site, BTreeMap<Shape, Sample>>,
    shapes: usize,
    pub(super) left_out: LeftOut,
}

/// Requests that the draft does not cover, or not whole.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    /// No line can grant them, or they are beyond the most shapes.
    pub(super) requests: u64,
    /// What they name cannot stand in a line.
    pub(super) nameless: u64,
    /// The log has one of several messages, or not all fields.
    pub(super) partly: u64,
    /// They went where an MCP server or GraphQL is, and the log does not say what they asked for.
    pub(super) unread: u64,
    /// They fall under no line of the draft.
    pub(super) uncovered: u64,
    /// Places whose closed tunnels are left out.
    pub(super) mixed: BTreeSet<Place>,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) place: Place,
    /// Where an MCP server is spoken to; none for what is no MCP server.
    pub(super) endpoint: Option<Path>,
}

/// Requests that a policy would not tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
    pub(super) ask: Ask,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// A method, by its place in [`Method::NAMED`], and a path by its shape.
    Http(usize, String),
    /// A field of a GraphQL root, and the path by its shape.
    Field(graphql::Kind, String, String),
    /// Something that an MCP server has under a name; of a resource, the shape of its URI.
    Named(mcp::Named, String),
    /// A method of an MCP server that needs a line only where no other line covers it.
    Quiet(String),
    /// A tunnel that stayed closed.
    Tunnel,
}

/// What all requests of a shape have in common, and one of them.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) count: u64,
    /// One of the paths; none where the log has only the beginning.
    pub(super) path: Option<Path>,
    /// One of the resources, where they are some.
    pub(super) resource: Option<String>,
    /// Whether any of them was reached by TLS.
    pub(super) by_tls: bool,
    /// What the policy that wrote the log calls the service.
    pub(super) service: Option<ServiceId>,
    /// What it calls the integration.
    pub(super) integration: Option<IntegrationId>,
    /// What it attached.
    pub(super) credentials: BTreeSet<String>,
}

impl Seen {
    /// Takes one request that left egret.
    pub(super) fn saw(&mut self, decision: &Decision) {
        let asked = Asked::of(decision);
        let mut dropped = asked.beyond;
        self.left_out.nameless += u64::from(asked.nameless);
        self.left_out.partly += u64::from(asked.partly);
        for ask in asked.asks {
            let endpoint = matches!(ask, Ask::Named(..) | Ask::Quiet(_)).then(|| decision.path.clone());
            let site = Site { place: decision.place.clone(), endpoint };
            let shape = Shape { tenant: decision.tenant.clone(), agent: decision.agent.clone(), ask };
            let known = self.sites.get(&site).is_some_and(|shapes| shapes.contains_key(&shape));
            if !known && self.shapes == SHAPES {
                dropped = true;
                continue;
            }
            self.shapes += usize::from(!known);
            self.sites.entry(site).or_default().entry(shape).or_default().add(decision);
        }
        self.left_out.requests += u64::from(dropped);
    }

    /// Leaves out what a policy that has the rest cannot hold.
    pub(super) fn settle(&mut self) {
        self.drop_tunnels_of_opened_places();
        self.drop_what_went_to_endpoints();
        self.drop_what_went_to_graphql();
        self.sites.retain(|_, shapes| !shapes.is_empty());
    }

    /// A service is opened, or it is not. Where both were seen, the requests say more.
    fn drop_tunnels_of_opened_places(&mut self) {
        let requests = |shapes: &BTreeMap<Shape, Sample>| shapes.keys().any(|shape| shape.ask != Ask::Tunnel);
        let opened: BTreeSet<Place> =
            self.sites.iter().filter(|(_, shapes)| requests(shapes)).map(|(s, _)| s.place.clone()).collect();
        for (site, shapes) in self.sites.iter_mut().filter(|(site, _)| opened.contains(&site.place)) {
            let before = shapes.len();
            shapes.retain(|shape, _| shape.ask != Ask::Tunnel);
            if shapes.len() < before {
                self.left_out.mixed.insert(site.place.clone());
            }
        }
    }

    /// At an endpoint, `GET` listens and `DELETE` ends a session: that goes with the server. Anything else there is
    /// nothing that a role could have.
    fn drop_what_went_to_endpoints(&mut self) {
        let mut endpoints: BTreeSet<(Place, String)> = BTreeSet::new();
        for site in self.sites.keys() {
            let Some(endpoint) = &site.endpoint else { continue };
            for path in [template(endpoint), endpoint.as_str().to_owned()] {
                endpoints.insert((site.place.clone(), near(&path)));
            }
        }
        for (site, shapes) in self.sites.iter_mut().filter(|(site, _)| site.endpoint.is_none()) {
            shapes.retain(|shape, sample| {
                let Some(path) = shape.ask.path() else { return true };
                let asked = sample.path.as_ref().map_or(path, Path::as_str);
                let to_endpoint =
                    [path, asked].iter().any(|path| endpoints.contains(&(site.place.clone(), near(path))));
                let transport =
                    matches!(shape.ask.method(), Some(Method::Get | Method::Delete)) && to_endpoint;
                self.left_out.unread += if to_endpoint && !transport { sample.count } else { 0 };
                !to_endpoint
            });
        }
    }

    /// A service has GraphQL at one path, and what is sent there must not be granted by the path alone.
    fn drop_what_went_to_graphql(&mut self) {
        for shapes in self.sites.values_mut() {
            let paths = || shapes.keys().filter_map(|shape| shape.ask.graphql());
            let Some(smallest) = paths().min() else { continue };
            let own = paths().find(|path| *path == "/graphql").unwrap_or(smallest).to_owned();
            shapes.retain(|shape, sample| {
                let (left_out, wrong) = match &shape.ask {
                    Ask::Field(.., path) => (&mut self.left_out.requests, *path != own),
                    Ask::Http(_, path) => (&mut self.left_out.unread, *path == own),
                    _ => return true,
                };
                *left_out += if wrong { sample.count } else { 0 };
                !wrong
            });
        }
    }
}

impl Sample {
    /// The smallest of everything: in whatever order a log is read, the draft is the same.
    fn add(&mut self, decision: &Decision) {
        self.count += 1;
        self.by_tls |= decision.scheme == Scheme::Https;
        smallest(&mut self.service, decision.service.as_ref());
        smallest(&mut self.integration, decision.integration.as_ref());
        smallest(&mut self.path, Some(&decision.path).filter(|_| !decision.cut));
        if let Said::Mcp(message) = &decision.said
            && let mcp::Ask::Named(mcp::Named::Resource, uri) = &message.ask
        {
            smallest(&mut self.resource, Some(uri).filter(|uri| !message.cut && is_word(uri)));
        }
        self.credentials.extend(decision.credential.clone());
        if self.credentials.len() > CREDENTIALS {
            self.credentials.pop_last();
        }
    }
}

pub(super) fn smallest<T: Ord + Clone>(kept: &mut Option<T>, new: Option<&T>) {
    if let Some(new) = new
        && kept.as_ref().is_none_or(|kept| new < kept)
    {
        *kept = Some(new.clone());
    }
}

/// What one request asked for.
#[derive(Default)]
struct Asked {
    asks: Vec<Ask>,
    /// Something that no line can grant.
    beyond: bool,
    /// Something whose name no line can hold.
    nameless: bool,
    /// There was more than the log says.
    partly: bool,
}

impl Asked {
    fn of(decision: &Decision) -> Self {
        let mut asked = Self::default();
        match &decision.said {
            // A path of which the log has the beginning is no endpoint.
            Said::Mcp(_) | Said::GraphQl(..) if decision.cut => asked.beyond = true,
            // Around an endpoint a policy leaves room, and `*` would be a pattern there.
            Said::Mcp(_) if decision.path.as_str().contains('*') => asked.beyond = true,
            Said::Mcp(message) => {
                asked.partly = message.several;
                match &message.ask {
                    mcp::Ask::Named(mcp::Named::Resource, uri) => {
                        let shape = uri_template(uri, message.cut);
                        asked.named(
                            mcp::Named::Resource,
                            &shape,
                            is_word(&shape) && !scheme_has_star(&shape),
                        );
                    }
                    mcp::Ask::Named(kind, name) => asked.named(*kind, name, is_exact(name, message.cut)),
                    // An answer to the server's own request comes after others of the client's.
                    _ if message.method.is_empty() => {}
                    _ if is_exact(&message.method, message.cut) => {
                        asked.asks.push(Ask::Quiet(message.method.clone()));
                    }
                    _ => asked.nameless = true,
                }
            }
            Said::GraphQl(fields, more) => {
                asked.partly = *more;
                let path = template(&decision.path);
                for (kind, field) in fields {
                    if *kind == graphql::Kind::Subscription {
                        asked.beyond = true;
                    } else if field.cut {
                        asked.nameless = true;
                    } else {
                        asked.asks.push(Ask::Field(*kind, field.text.clone(), path.clone()));
                    }
                }
            }
            Said::Nothing if decision.method == "CONNECT" => asked.asks.push(Ask::Tunnel),
            Said::Nothing => match Method::NAMED.iter().position(|named| named.as_str() == decision.method) {
                Some(method) => asked.asks.push(Ask::Http(method, decision.route())),
                None => asked.beyond = true,
            },
        }
        asked
    }

    fn named(&mut self, kind: mcp::Named, name: &str, fits: bool) {
        if fits {
            self.asks.push(Ask::Named(kind, name.to_owned()));
        } else {
            self.nameless = true;
        }
    }
}

/// What servers may take for the same path, as one text: a policy keeps all of it for an MCP server's endpoint.
fn near(path: &str) -> String {
    let cut = path.find("%3F").into_iter().chain(path.find("%23")).min();
    let path = cut.and_then(|at| path.get(..at)).unwrap_or(path).to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').map(without_tail).collect();
    segments.join("/").trim_end_matches('/').to_owned()
}

/// Without final dots and blanks, which some servers do not see.
fn without_tail(mut segment: &str) -> &str {
    while let Some(rest) = segment.strip_suffix('.').or_else(|| segment.strip_suffix("%20")) {
        segment = rest;
    }
    segment
}

/// Whether a line with this name grants this name and no other.
fn is_exact(name: &str, cut: bool) -> bool {
    !cut && is_word(name) && !name.contains('*')
}

fn scheme_has_star(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.contains('*'))
}

impl Ask {
    /// The method of a request that is told by method and path.
    pub(super) fn method(&self) -> Option<Method> {
        match self {
            Self::Http(number, _) => Method::NAMED.get(*number).copied(),
            _ => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            Self::Http(_, path) | Self::Field(.., path) => Some(path),
            _ => None,
        }
    }

    /// Where GraphQL was seen.
    pub(super) fn graphql(&self) -> Option<&str> {
        match self {
            Self::Field(.., path) => Some(path),
            _ => None,
        }
    }

    /// Whether it only reads: by RFC 9110 §9.2.1; by what GraphQL says; a tool by its first word, as the catalogue
    /// takes them.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Http(..) => matches!(self.method(), Some(Method::Get | Method::Head | Method::Options)),
            Self::Field(kind, ..) => *kind == graphql::Kind::Query,
            Self::Named(mcp::Named::Tool, name) => {
                let word = name.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
                matches!(word, "get" | "list" | "search" | "read")
            }
            Self::Named(..) | Self::Quiet(_) | Self::Tunnel => true,
        }
    }
}
