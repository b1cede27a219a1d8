//! A policy in force: compiled once from its files, then only read.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use super::{
    catalog,
    files::{
        bundle::{self, Verification},
        outline::Outline,
        problem::{Findings, Problems},
        reader::{self, Entries, Fields},
        source::{Mark, Sources, Span, Version, name_of},
        yaml::{self, Key, Node, Value},
    },
    judge::Mode,
    parts::{
        approval::{self, Approvals},
        guard::{self, Guard, Matched},
        promise::{self, Promise},
        protocol::Protocol,
        provider::Providers,
        service::{self, Service},
        shape,
        tenant::{self, Known, Tenant, TierKind},
    },
};
use crate::{
    context::{IntegrationId, TenantId},
    plan::{Connectable, CredentialSpec, How, SecretRef},
};

/// Everything that a policy says, ready to be asked.
#[derive(Debug)]
pub struct Policy {
    mode: Mode,
    approvals: Approvals,
    revision: Arc<str>,
    hash: Arc<str>,
    /// Tells it from every other policy, also from one with the same files.
    identity: Arc<str>,
    pub(super) version: Version,
    tenants: HashMap<TenantId, Tenant>,
    services: HashMap<String, Arc<Service>>,
    /// Spares most policies a second look for the service of a request.
    looks_into_bodies: bool,
    guards: Vec<Arc<Guard>>,
    promises: usize,
    files: Arc<[Arc<str>]>,
}

impl Policy {
    /// Loads a file, or all `*.yaml` and `*.yml` below a directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once: also a `test` of it that fails.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_verified(path, None)
    }

    /// As [`Policy::load`], and verified where that is demanded.
    ///
    /// # Errors
    /// Also when the signature, the list of files, the expiry or the revision is not as demanded.
    pub fn load_verified(path: &Path, verification: Option<&Verification>) -> Result<Self, Problems> {
        Self::compile(&Self::sources(path, verification)?)
    }

    /// Reads a policy's files, verified where that is demanded.
    pub(super) fn sources(path: &Path, verification: Option<&Verification>) -> Result<Sources, Problems> {
        let unreadable = |error| Problems::unreadable(&error);
        let sources = bundle::read(path, verification).map_err(unreadable)?;
        bundle::admit(verification, &sources).map_err(unreadable)?;
        Ok(sources)
    }

    /// Reads a policy from a text; `name` stands for the file in problems.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_text(name: &str, text: &str) -> Result<Self, Problems> {
        Self::compile(&Sources::text(name, text))
    }

    pub(super) fn compile(sources: &Sources) -> Result<Self, Problems> {
        let mut findings = Findings::default();
        let (policy, _) = build(sources, &mut findings);
        findings.into_problems(sources).map_or(Ok(policy), Err)
    }

    /// As `compile`, with what is written where.
    pub(super) fn compile_with_outline(sources: &Sources) -> Result<(Self, Outline), Problems> {
        let mut findings = Findings::default();
        let (policy, trees) = build(sources, &mut findings);
        let outline = || Outline::of(trees);
        findings.into_problems(sources).map_or_else(|| Ok((policy, outline())), Err)
    }

    /// Whether refusals are enforced.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether refusals of this tenant's requests are enforced.
    pub(super) fn mode_of(&self, tenant: &TenantId) -> Mode {
        self.tenants.get(tenant).and_then(|tenant| tenant.mode).unwrap_or(self.mode)
    }

    /// Who is asked where a guard requires an approval.
    pub(super) fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// The version's name: a signed bundle's, the policy's own, git's, or the beginning of the hash.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// SHA-256 over its files, in hex.
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    pub(super) fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// When a signed bundle ends.
    pub fn expires_at(&self) -> Option<SystemTime> {
        match &self.version {
            Version::Bundle(bundle) => bundle.expires_at,
            Version::Plain | Version::Commit(_) => None,
        }
    }

    /// A tenant that is not switched off.
    pub(super) fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id).filter(|tenant| !tenant.disabled)
    }

    /// A tenant, also one that is switched off.
    pub(super) fn tenant_or_disabled(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    /// The variables of egret's own environment that hold secrets. Nothing that egret starts may inherit them.
    pub fn secret_variables(&self) -> BTreeSet<&str> {
        let integrations = self.tenants.values().flat_map(|tenant| &tenant.integrations);
        integrations
            .flat_map(|integration| integration.plan.secrets())
            .filter_map(|secret| match secret {
                SecretRef::Env(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Whether any service is one whose requests say in the body what they do.
    pub(super) fn looks_into_bodies(&self) -> bool {
        self.looks_into_bodies
    }

    /// Where every integration's secrets are read, and where the policy has the integration.
    pub fn secret_references(&self) -> impl Iterator<Item = (Mark, &IntegrationId, &SecretRef)> {
        let integrations = self.tenants.values().flat_map(|tenant| &tenant.integrations);
        integrations.flat_map(|integration| {
            let mark = self.mark(integration.span);
            integration.plan.secrets().into_iter().map(move |secret| (mark.clone(), &integration.id, secret))
        })
    }

    /// What a person connects, who connects this integration of this tenant.
    ///
    /// # Errors
    /// Why there is nothing to connect, for whoever asked.
    pub fn connectable(&self, tenant: &TenantId, integration: &str) -> Result<Connectable, String> {
        let found = self.tenant(tenant).ok_or_else(|| format!("the policy has no tenant `{tenant}`"))?;
        let found_here = found.integration(integration).ok_or_else(|| {
            let names = found.integrations.iter().map(|integration| integration.id.as_str());
            match reader::closest(integration, names) {
                Some(meant) => format!(
                    "`{tenant}` has no integration `{}`; did you mean `{meant}`?",
                    reader::short(integration)
                ),
                None => format!("`{tenant}` has no integration `{}`", reader::short(integration)),
            }
        })?;
        let credential = match &found_here.plan.credential {
            Some(CredentialSpec::Obtained(obtained))
                if matches!(obtained.how, How::Authorized(_) | How::Deposited) =>
            {
                obtained.clone()
            }
            other => {
                let kind = other.as_ref().map_or("none", CredentialSpec::kind);
                return Err(format!(
                    "nobody connects `{integration}`: its credential is `{kind}`; only `oauth` and `byok` are connected"
                ));
            }
        };
        let own = match &credential.how {
            How::Authorized(authorization) => authorization.scopes.to_vec(),
            _ => Vec::new(),
        };
        let roles = found.grants().filter(|(of, _)| of.id == found_here.id);
        let needed = roles.flat_map(|(_, grant)| grant.role.scopes.iter().cloned());
        let mut scopes: Vec<Box<str>> = Vec::new();
        for scope in own.into_iter().chain(needed) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes.sort_unstable();
        let is_users = found_here.tier == TierKind::User;
        Ok(Connectable { integration: found_here.id.clone(), is_users, credential, scopes })
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// The tenants by name, also those that are switched off.
    pub(super) fn named_tenants(&self) -> impl Iterator<Item = (&TenantId, &Tenant)> {
        self.tenants.iter()
    }

    /// The services by name, also those of the catalogue.
    pub(super) fn services(&self) -> impl Iterator<Item = (&str, &Arc<Service>)> {
        self.services.iter().map(|(name, service)| (name.as_str(), service))
    }

    /// The policy's own services, without those of the catalogue.
    pub(super) fn own_services(&self) -> usize {
        self.services.values().filter(|service| !catalog::holds(service.span)).count()
    }

    pub(super) fn guards(&self) -> &[Arc<Guard>] {
        &self.guards
    }

    pub(super) fn promises(&self) -> usize {
        self.promises
    }

    /// The policy's own files; the catalogue is not one.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn mark(&self, span: Span) -> Mark {
        let own = self.files.get(span.file as usize).cloned();
        Mark { file: name_of(own, span), line: span.line, column: span.column }
    }
}

/// What the files hold together, before it is understood.
#[derive(Default)]
struct Merged<'n> {
    mode: Option<(Span, Mode)>,
    revision: Option<(Span, &'n str)>,
    services: Entries<'n>,
    providers: Entries<'n>,
    approvals: Option<(Span, Approvals)>,
    guards: Vec<&'n Node>,
    tenants: Entries<'n>,
    tests: Vec<&'n Node>,
}

fn build(sources: &Sources, findings: &mut Findings) -> (Policy, Vec<Node>) {
    let mut trees = Vec::new();
    for (number, source) in (0..).zip(&sources.files) {
        match yaml::parse(&source.text, number) {
            Ok(tree) => trees.push(tree),
            Err(bad) => {
                findings.report(bad.span, bad.message).unparsed();
                if let Some(hint) = bad.hint {
                    findings.hint(hint);
                }
            }
        }
    }
    let complete = findings.count() == 0;
    let mut merged = Merged::default();
    for tree in &trees {
        merge(tree, &mut merged, findings);
    }
    unique(&merged.services, findings);
    unique(&merged.tenants, findings);
    unique(&merged.providers, findings);
    let providers = Providers::read(&merged.providers, findings);

    let (services, broken) = read_services(&merged, findings);
    let (services, guards) = read_guards(&merged.guards, services, &broken, complete, findings);
    let mut tenants = HashMap::with_capacity(merged.tenants.len());
    for (key, node) in &merged.tenants {
        let base = sources.files.get(key.span.file as usize).map_or(Path::new(""), |file| &file.base);
        let known = Known { services: &services, broken: &broken, providers: &providers, base, complete };
        tenants.extend(tenant::read(key, node, &known, findings));
    }
    let mut promises: Vec<Promise> = Vec::new();
    for node in &merged.tests {
        promise::read(node, &mut promises, findings);
    }
    let policy = Policy {
        mode: merged.mode.map_or(Mode::Enforce, |(_, mode)| mode),
        approvals: merged.approvals.map(|(_, approvals)| approvals).unwrap_or_default(),
        revision: sources.revision(merged.revision.map(|(_, text)| text)),
        hash: sources.hash.clone(),
        identity: sources.identity(),
        version: sources.version.clone(),
        tenants,
        looks_into_bodies: services.values().any(|service| !matches!(service.protocol, Protocol::Http(None))),
        services,
        guards,
        promises: promises.len(),
        files: sources.names(),
    };
    // A promise about a policy that is not whole proves nothing.
    if findings.count() == 0 {
        for promise in &promises {
            promise.prove(&policy, findings);
        }
    }
    (policy, trees)
}

/// Takes the top level of one file.
fn merge<'n>(tree: &'n Node, into: &mut Merged<'n>, findings: &mut Findings) {
    if matches!(tree.value, Value::Null) {
        findings.report(tree.span, "the file is empty").hint("a policy begins with `version: 1`");
        return;
    }
    let Some(fields) = Fields::read(tree, "a policy", shape::POLICY.keys, findings) else { return };
    match fields.get("version").map(|node| (&node.value, node.span)) {
        Some((Value::Text(version), _)) if version == "1" => {}
        Some((_, span)) => {
            findings.report(span, "this egret reads `version: 1`");
        }
        None => {
            findings.report(tree.span, "the file has no `version`").hint("a policy begins with `version: 1`");
        }
    }
    if let Some(node) = fields.get("mode") {
        let mode = reader::word(node, "`mode`", &Mode::WORDS, findings).map(|mode| (node.span, mode));
        once("mode", &mut into.mode, mode, findings);
    }
    if let Some(node) = fields.get("revision") {
        let text = reader::text(node, "`revision`", findings);
        let plain = text.filter(|t| (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic()));
        if text.is_some() && plain.is_none() {
            findings.report(node.span, "`revision` is 1 to 64 visible ASCII characters");
        }
        once("revision", &mut into.revision, plain.map(|text| (node.span, text)), findings);
    }
    if let Some((key, node)) = fields.entry("approvals") {
        let approvals = approval::read(node, findings).map(|approvals| (key.span, approvals));
        once("approvals", &mut into.approvals, approvals, findings);
    }
    let named = |key: &str, findings: &mut Findings| {
        fields
            .get(key)
            .and_then(|node| reader::mapping(node, &format!("`{key}`"), findings))
            .unwrap_or_default()
    };
    into.services.extend(named("services", findings));
    into.providers.extend(named("providers", findings));
    into.tenants.extend(named("tenants", findings));
    let listed = |key: &str, findings: &mut Findings| {
        fields
            .get(key)
            .and_then(|node| reader::items(node, &format!("`{key}`"), findings))
            .unwrap_or_default()
    };
    into.guards.extend(listed("guards", findings));
    into.tests.extend(listed("tests", findings));
}

/// A key that only one of the files may hold.
fn once<T>(name: &str, slot: &mut Option<(Span, T)>, value: Option<(Span, T)>, findings: &mut Findings) {
    let Some((span, value)) = value else { return };
    if let Some((first, _)) = slot {
        findings.report(span, format!("`{name}` stands in two files")).also(*first, "first here");
    } else {
        *slot = Some((span, value));
    }
}

/// Reports names that stand in two files. Within one file the reader has reported them.
fn unique(entries: &[(&Key, &Node)], findings: &mut Findings) {
    let mut seen: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
    for (key, _) in entries {
        match seen.get(key.text.as_str()) {
            Some(first) if first.file != key.span.file => {
                findings
                    .report(key.span, format!("`{}` stands in two files", reader::short(&key.text)))
                    .also(*first, "first here");
            }
            Some(_) => {}
            None => {
                seen.insert(&key.text, key.span);
            }
        }
    }
}

/// The policy's services, and those of the catalogue that it refers to and does not describe itself.
fn read_services(
    merged: &Merged<'_>,
    findings: &mut Findings,
) -> (HashMap<String, Service>, HashSet<String>) {
    let (mut services, mut broken) = (HashMap::new(), HashSet::new());
    for (key, node) in &merged.services {
        if let Some(service) = service::read(key, node, findings) {
            services.insert(key.text.clone(), service);
        } else {
            services.remove(&key.text);
            broken.insert(key.text.clone());
        }
    }
    for name in referred(merged) {
        if !merged.services.iter().any(|(key, _)| key.text == name) {
            services.extend(catalog::read(name, findings).map(|service| (name.to_owned(), service)));
        }
    }
    (services, broken)
}

/// The services of the catalogue that integrations and guards name.
fn referred<'n>(merged: &Merged<'n>) -> BTreeSet<&'n str> {
    let mut names = BTreeSet::new();
    for (_, tenant) in &merged.tenants {
        for (key, integration) in tenant.get("integrations").into_iter().flat_map(Node::entries) {
            names.insert(integration.get("service").map_or(Some(key.text.as_str()), Node::as_text));
        }
    }
    for guard in &merged.guards {
        let matched = guard.get("match").and_then(Node::as_text);
        names.insert(matched.and_then(|text| text.split_whitespace().next()));
    }
    names.into_iter().flatten().filter(|name| catalog::knows(name)).collect()
}

type Guarded = (HashMap<String, Arc<Service>>, Vec<Arc<Guard>>);

/// Reads the guards and hands each to the services that it reaches.
fn read_guards(
    nodes: &[&Node],
    mut services: HashMap<String, Service>,
    broken: &HashSet<String>,
    complete: bool,
    findings: &mut Findings,
) -> Guarded {
    let mut guards = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let Some(guard) = guard::read(node, index, findings) else { continue };
        if let Some(name) = &guard.service {
            match services.get(name) {
                Some(service) if service.is_opaque() => {
                    findings
                        .report(
                            guard.span,
                            format!("egret sees no requests of `{name}`: it is not intercepted"),
                        )
                        .hint("take `connect` away from the roles instead");
                }
                Some(service) => kinds_fit(&guard, name, service, findings),
                None if complete && !broken.contains(name) => {
                    guard::unknown_service(
                        &guard,
                        name,
                        services.keys().map(String::as_str).chain(catalog::names()),
                        findings,
                    );
                }
                _ => {}
            }
        }
        guards.push(Arc::new(guard));
    }
    let of_graphql = |guard: &&Arc<Guard>| matches!(guard.matched, Matched::GraphQl(..));
    for guard in guards.iter().filter(of_graphql) {
        let reached =
            services.iter_mut().filter(|(name, _)| guard.service.as_ref().is_none_or(|only| only == *name));
        reached.for_each(|(_, service)| service.look_at_graphql());
    }
    for (name, service) in &mut services {
        let reach = guards.iter().filter(|guard| guard.service.as_ref().is_none_or(|only| only == name));
        service.guards = reach.cloned().collect();
    }
    (services.into_iter().map(|(name, service)| (name, Arc::new(service))).collect(), guards)
}

/// A guard of a kind that a service never sees would guard nothing.
fn kinds_fit(guard: &Guard, name: &str, service: &Service, findings: &mut Findings) {
    let is_mcp = matches!(service.protocol, Protocol::Mcp(_));
    let (wrong, hint) = match guard.matched {
        Matched::Named(..) if !is_mcp => {
            (true, "name methods and paths, or describe its endpoint with `mcp`")
        }
        Matched::GraphQl(..) if is_mcp => {
            (true, "an MCP service has `tool`, `resource`, `prompt` and `method`")
        }
        _ => (false, ""),
    };
    if wrong {
        let what = if is_mcp { "an MCP service" } else { "no MCP service" };
        findings.report(guard.span, format!("`{name}` is {what}: this guard would never hold")).hint(hint);
    }
}
