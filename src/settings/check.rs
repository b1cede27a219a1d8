//! From what was said to what is meant: all problems at once.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
    time::Duration,
};

use super::{
    BadSettings, ClaimMap, ConnectUrl, Delegation, Given, IssuerConfig, KeySource, SecretSource, Settings,
    Shown, SignedPolicy, SourceSettings, StoreSettings, StoreUrl, UpstreamSettings, Verify,
    file::{Issuer, Names, Scalar},
    issuers::{AgentClaim, problems},
    layers::{Layers, Origin, place, resolved},
    parse_span, sources,
};
use crate::{
    audit::{Durability, SinkKind},
    fetch::FetchUrl,
    target::{Authority, Host},
};

impl Settings {
    /// Reads all layers and checks the result.
    ///
    /// # Errors
    /// Every problem found, each with the place or key it stands in.
    pub fn load(given: &Given) -> Result<(Self, Vec<Shown>), BadSettings> {
        let mut layers = Layers::read(given);
        let settings = check(&mut layers);
        layers.unknown_flags();
        match settings {
            Some(settings) if layers.problems.is_empty() => Ok((settings, layers.shown)),
            _ => Err(BadSettings(layers.problems)),
        }
    }
}

fn check(layers: &mut Layers) -> Option<Settings> {
    let proxy = layers.value("listen.proxy", |f| &f.listen.proxy, "127.0.0.1:8080", listener);
    let gateway = layers.value("listen.gateway", |f| &f.listen.gateway, "127.0.0.1:8081", listener);
    let admin = layers.value("listen.admin", |f| &f.listen.admin, "127.0.0.1:9901", listener);
    let max_connections =
        layers.value("listen.max_connections", |f| &f.listen.max_connections, "10000", positive);
    let header_timeout = layers.value(
        "listen.header_timeout",
        |f| &f.listen.header_timeout,
        "60s",
        |text, _| span_above_zero(text),
    );
    let ambient = ambient(layers);
    let issuers = issuers(layers);
    let development = layers.value(
        "identity.development",
        |f| &f.identity.development,
        "",
        |text, origin| Ok((!is_off(text)).then(|| resolved(text, origin))),
    );
    let ca_dir = layers.value("ca.dir", |f| &f.ca.dir, "certs", |text, origin| Ok(resolved(text, origin)));
    let policy =
        layers.value("policy.dir", |f| &f.policy.dir, "policies", |text, origin| Ok(resolved(text, origin)));
    let signed = signed(layers);
    let durability = layers.value(
        "audit.durability",
        |f| &f.audit.durability,
        "best_effort",
        |text, _| match text {
            "best_effort" => Ok(Durability::BestEffort),
            "required" => Ok(Durability::Required),
            _ => Err("`best_effort` or `required`".into()),
        },
    );
    let sinks = sinks(layers);
    layers.value(
        "limits.backend",
        |f| &f.limits.backend,
        "local",
        |text, _| match text {
            "local" => Ok(()),
            _ => Err("only `local` is supported yet".into()),
        },
    );
    let upstream = upstream(layers);
    let drain_timeout =
        layers.value("drain_timeout", |f| &f.drain_timeout, "30s", |text, _| parse_span(text));
    let workers = layers.value(
        "workers",
        |f| &f.workers,
        "0",
        |text, _| parsed(text, "a number of threads; 0 for as many as there are cores"),
    );
    let log = layers.value("log", |f| &f.log, "info", |text, _| Ok(text.to_owned()));
    let sources = sources::check(layers);
    let store = store(layers, &sources);
    let connect = layers.value("connect.url", |f| &f.connect.url, "auto", |text, _| connect_url(text));
    let settings = Settings {
        connect: connect?,
        proxy: proxy?,
        gateway: gateway?,
        admin: admin?,
        ambient,
        max_connections: max_connections?,
        header_timeout: header_timeout?,
        issuers,
        development: development?,
        ca_dir: ca_dir?,
        policy: policy?,
        signed: signed?,
        sinks,
        durability: durability?,
        upstream: upstream?,
        drain_timeout: drain_timeout?,
        workers: workers?,
        log: log?,
        store: store?,
        sources,
    };
    layers.problems.extend(settings.contradictions());
    Some(settings)
}

impl Settings {
    fn contradictions(&self) -> Vec<String> {
        let mut found = problems(&self.issuers);
        if self.signed.verify == Verify::Required && self.signed.keys.is_empty() {
            found.push("policy.verify: `required` needs `policy.keys`".into());
        }
        if self.proxy.is_none() && self.gateway.is_none() && self.ambient.is_empty() {
            found.push("listen: every listener is off".into());
        }
        for (address, _) in self.ambient.iter().filter(|(address, _)| !address.ip().is_loopback()) {
            found.push(format!("listen.ambient: {address} is not a loopback address; whoever can connect there would have the identity"));
        }
        found
    }
}

fn signed(layers: &mut Layers) -> Option<SignedPolicy> {
    let verify = layers.value(
        "policy.verify",
        |f| &f.policy.verify,
        "off",
        |text, _| match text {
            "off" => Ok(Verify::Off),
            "required" => Ok(Verify::Required),
            _ => Err("`required` or `off`".into()),
        },
    );
    let keys = layers.listed("policy.keys", |f| &f.policy.keys).unwrap_or_default();
    layers.show_list("policy.keys", &keys);
    let state = layers.value(
        "policy.state",
        |f| &f.policy.state,
        "",
        |text, origin| Ok((!is_off(text)).then(|| resolved(text, origin))),
    );
    let keys = keys.iter().map(|(text, origin)| resolved(text, origin)).collect();
    Some(SignedPolicy { verify: verify?, keys, state: state? })
}

fn store(layers: &mut Layers, sources: &SourceSettings) -> Option<StoreSettings> {
    let url = layers.value("store.url", |f| &f.store.url, "sqlite:state/egret.db", store_url);
    let source = |text: &str, origin: &Origin| {
        if let Some(name) = text.strip_prefix("exec:") {
            let program = sources.exec.get(name).cloned();
            return program.map(SecretSource::Exec).ok_or_else(|| {
                "`exec:` is followed by the name of a program in `sources.exec`, and there is none of this name"
                    .to_owned()
            });
        }
        secret_source(text, origin)?
            .ok_or_else(|| "a reference: `env:NAME`, `file:PATH` or `exec:NAME`".to_owned())
    };
    let key = layers.value("store.key", |f| &f.store.key, "file:state/store.key", source);
    let said = layers.listed("store.old_keys", |f| &f.store.old_keys).unwrap_or_default();
    let mut old_keys = Vec::with_capacity(said.len());
    for (text, origin) in &said {
        match source(text, origin) {
            Ok(key) => old_keys.push(key),
            Err(problem) => layers.problems.push(format!("{origin}: store.old_keys: {problem}")),
        }
    }
    if old_keys.len() == said.len() {
        layers.show_list("store.old_keys", &said);
    }
    Some(StoreSettings { url: url?, key: key?, old_keys })
}

fn store_url(text: &str, origin: &Origin) -> Result<StoreUrl, String> {
    // A URL may hold a password: it is not repeated.
    let expected = "`sqlite:PATH`, a URL of PostgreSQL without a password, or `env:NAME` or `file:PATH` where one with a \
                    password is read";
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() && !path.contains('?') => {
            // `sqlite:///x` and `sqlite:/x` are one path.
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
            Ok(StoreUrl::Sqlite(resolved(path, origin)))
        }
        Some(("postgres" | "postgresql", rest)) => {
            let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next());
            let user = authority.ok_or(expected)?.rsplit_once('@').map_or("", |(user, _)| user);
            let in_query = rest.to_ascii_lowercase().contains("password");
            if user.contains(':') || in_query {
                Err(expected.into())
            } else {
                Ok(StoreUrl::Postgres(text.to_owned()))
            }
        }
        Some(("env" | "file", _)) => match secret_source(text, origin)? {
            Some(source) => Ok(StoreUrl::Read(source)),
            None => Err(expected.into()),
        },
        _ => Err(expected.into()),
    }
}

fn upstream(layers: &mut Layers) -> Option<UpstreamSettings> {
    let extra_ca = layers.listed("upstream.extra_ca", |f| &f.upstream.extra_ca).unwrap_or_default();
    layers.show_list("upstream.extra_ca", &extra_ca);
    let proxy = layers.value("upstream.proxy", |f| &f.upstream.proxy, "", corporate_proxy);
    let proxy_credentials =
        layers.value("upstream.proxy_credentials", |f| &f.upstream.proxy_credentials, "", secret_source);
    let no_proxy = layers.listed("upstream.no_proxy", |f| &f.upstream.no_proxy).unwrap_or_default();
    layers.show_list("upstream.no_proxy", &no_proxy);
    let connect_timeout = layers.value(
        "upstream.connect_timeout",
        |f| &f.upstream.connect_timeout,
        "10s",
        |text, _| span_above_zero(text),
    );
    let idle_timeout = layers.value(
        "upstream.idle_timeout",
        |f| &f.upstream.idle_timeout,
        "10m",
        |text, _| span_above_zero(text),
    );
    Some(UpstreamSettings {
        extra_ca: extra_ca.iter().map(|(text, origin)| resolved(text, origin)).collect(),
        proxy: proxy?,
        proxy_credentials: proxy_credentials?,
        no_proxy: no_proxy.into_iter().map(|(text, _)| text.to_ascii_lowercase()).collect(),
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
        resolve: resolve(layers),
    })
}

/// `host: address` or `host: address:port`.
fn resolve(layers: &mut Layers) -> HashMap<Host, (IpAddr, Option<u16>)> {
    let mut fixed = HashMap::new();
    let mut problems = Vec::new();
    if let Some((map, path)) = layers.structure(|f| f.upstream.resolve.as_ref()) {
        for (host, said) in map {
            let text = &said.value.0;
            let address = text
                .parse()
                .map(|ip| (ip, None))
                .or_else(|_| text.parse().map(|a: SocketAddr| (a.ip(), Some(a.port()))));
            match (Host::parse(host), address) {
                (Ok(host), Ok(address)) => drop(fixed.insert(host, address)),
                (Err(error), _) => problems.push(format!("{}: upstream.resolve: {error}", place(path, said))),
                (_, Err(_)) => problems
                    .push(format!("{}: upstream.resolve: `ADDRESS` or `ADDRESS:PORT`", place(path, said))),
            }
        }
    }
    layers.problems.extend(problems);
    fixed
}

fn sinks(layers: &mut Layers) -> Vec<SinkKind> {
    let said = layers
        .listed("audit.sinks", |f| &f.audit.sinks)
        .unwrap_or_else(|| vec![("stdout".into(), Origin::Default)]);
    layers.show_list("audit.sinks", &said);
    let mut sinks = Vec::new();
    for (text, origin) in &said {
        match (text.as_str(), text.strip_prefix("file:")) {
            ("stdout", _) => sinks.push(SinkKind::Stdout),
            ("stderr", _) => sinks.push(SinkKind::Stderr),
            (_, Some(path)) if !path.is_empty() => sinks.push(SinkKind::File(resolved(path, origin))),
            _ => layers.problems.push(format!("{origin}: audit.sinks: `stdout`, `stderr` or `file:PATH`")),
        }
    }
    if said.is_empty() {
        layers.problems.push("audit.sinks: the list is empty; name at least one sink".into());
    }
    sinks
}

fn ambient(layers: &mut Layers) -> Vec<(SocketAddr, std::path::PathBuf)> {
    let mut listeners = Vec::new();
    let mut problems = Vec::new();
    if let Some((said, path)) = layers.structure(|f| f.listen.ambient.as_ref()) {
        for one in said {
            match one.address.value.0.parse() {
                Ok(address) => listeners
                    .push((address, resolved(&one.token_file.value.0, &place(path, &one.token_file)))),
                Err(_) => {
                    problems.push(format!("{}: listen.ambient: `ADDRESS:PORT`", place(path, &one.address)));
                }
            }
        }
    }
    layers.problems.extend(problems);
    listeners
}

fn issuers(layers: &mut Layers) -> Vec<IssuerConfig> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    if let Some((said, path)) = layers.structure(|f| f.identity.issuers.as_ref()) {
        found.extend(said.iter().map(|one| issuer(one, path, &mut problems)));
    }
    layers.problems.extend(problems);
    found
}

fn issuer(said: &Issuer, path: &Path, problems: &mut Vec<String>) -> IssuerConfig {
    let here = place(path, &said.issuer);
    let delegation = match said.delegation.as_ref().map(|d| d.value.0.as_str()) {
        None | Some("rfc8693") => Delegation::Rfc8693,
        Some("agent_subject") => Delegation::AgentSubject,
        Some(_) => {
            problems.push(format!("{here}: delegation: `rfc8693` or `agent_subject`"));
            Delegation::Rfc8693
        }
    };
    let keys = match (&said.jwks.url, &said.jwks.file) {
        (Some(url), None) => fetch_url(&url.value.0)
            .map(KeySource::Url)
            .map_err(|problem| format!("{}: jwks.url: {problem}", place(path, url))),
        (None, Some(file)) => Ok(KeySource::File(resolved(&file.value.0, &place(path, file)))),
        _ => Err(format!("{here}: jwks: exactly one of `url` and `file`")),
    };
    let keys = keys.unwrap_or_else(|problem| {
        problems.push(problem);
        KeySource::Inline(String::new())
    });
    let mut config = IssuerConfig::new(said.issuer.value.0.clone(), keys, "");
    config.audience.clone_from(&said.audience.0);
    config.delegation = delegation;
    config.claims = ClaimMap::of(delegation);
    if let Some(claims) = &said.claims {
        let set = |into: &mut Vec<String>, names: &Option<Names>| {
            if let Some(names) = names {
                into.clone_from(&names.0);
            }
        };
        set(&mut config.claims.tenant, &claims.tenant);
        set(&mut config.claims.agent, &claims.agent);
        set(&mut config.claims.user, &claims.user);
    }
    if let Some(list) = &said.algorithms {
        config.algorithms.clear();
        for name in list {
            match name.value.0.parse() {
                Ok(algorithm) => config.algorithms.push(algorithm),
                Err(error) => problems.push(format!("{}: algorithms: {error}", place(path, name))),
            }
        }
    }
    config.typ = said.typ.as_ref().map(|list| list.iter().map(|t| t.value.0.clone()).collect());
    match said.agent_claim.as_ref().map(|c| c.value.0.as_str()) {
        None | Some("optional") => {}
        Some("required") => config.agent_claim = AgentClaim::Required,
        Some(_) => problems.push(format!("{here}: agent_claim: `optional` or `required`")),
    }
    let mut time = |into: &mut Duration, key: &str, said: &Scalar| {
        let Some(said) = said else { return };
        match parse_span(&said.value.0) {
            Ok(span) => *into = span,
            Err(problem) => problems.push(format!("{}: {key}: {problem}", place(path, said))),
        }
    };
    time(&mut config.max_lifetime, "max_lifetime", &said.max_lifetime);
    time(&mut config.leeway, "leeway", &said.leeway);
    time(&mut config.max_stale, "max_stale", &said.max_stale);
    config
}

/// A URL of a key set: `https`, or `http` to loopback for development.
fn fetch_url(text: &str) -> Result<FetchUrl, String> {
    let url = FetchUrl::parse(text)?;
    if !url.tls && !url.is_loopback() {
        return Err("keys come over https; http is accepted for loopback only".into());
    }
    Ok(url)
}

/// Where people reach the pages of `/connect`. An address in clear is this machine's own: codes come back over it.
fn connect_url(text: &str) -> Result<ConnectUrl, String> {
    match text {
        "auto" => return Ok(ConnectUrl::Auto),
        "off" => return Ok(ConnectUrl::Off),
        _ => {}
    }
    let expected =
        "`https://HOST` without a path, `off`, or `auto`: the admin listener's own address on this machine";
    let url = FetchUrl::parse(text.trim_end_matches('/')).map_err(|_| expected)?;
    if url.path.as_str() != "/" || url.query.is_some() || !(url.tls || url.is_loopback()) {
        return Err(expected.into());
    }
    Ok(ConnectUrl::At(text.trim_end_matches('/').to_owned()))
}

fn corporate_proxy(text: &str, _: &Origin) -> Result<Option<Authority>, String> {
    if is_off(text) {
        return Ok(None);
    }
    let written = "`http://host:port`; its credentials go to `upstream.proxy_credentials`";
    let rest = text.strip_prefix("http://").ok_or(written)?;
    Authority::parse(rest.trim_end_matches('/'), None).map(Some).map_err(|_| written.into())
}

pub(super) fn secret_source(text: &str, origin: &Origin) -> Result<Option<SecretSource>, String> {
    match text.split_once(':') {
        _ if is_off(text) => Ok(None),
        Some(("env", name)) if !name.is_empty() => Ok(Some(SecretSource::Env(name.to_owned()))),
        Some(("file", path)) if !path.is_empty() => Ok(Some(SecretSource::File(resolved(path, origin)))),
        // The text may be the secret itself: it is not repeated.
        _ => Err("a reference: `env:NAME` or `file:PATH`, never the secret itself".into()),
    }
}

fn listener(text: &str, _: &Origin) -> Result<Option<SocketAddr>, String> {
    if is_off(text) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "`ADDRESS:PORT`, such as `127.0.0.1:8080`, or `off`".into())
}

fn positive(text: &str, _: &Origin) -> Result<usize, String> {
    match parsed(text, "a number above zero")? {
        0 => Err("a number above zero".into()),
        number => Ok(number),
    }
}

pub(super) fn span_above_zero(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        Duration::ZERO => Err("a time above zero".into()),
        span => Ok(span),
    }
}

fn parsed<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| expected.to_owned())
}

pub(super) fn is_off(text: &str) -> bool {
    matches!(text, "" | "off" | "none")
}

#[cfg(test)]
mod tests;
