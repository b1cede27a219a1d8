//! From what was said of sources to what is meant: all problems at once.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_yaml::Spanned;

use super::{
    super::{
        SecretSource, Shown,
        check::{is_off, secret_source, span_above_zero},
        file::{List, Names, Scalar},
        layers::{Layers, Origin, place, resolved},
    },
    AccessKeyId, AwsSmKeys, AwsSmSettings, MountKind, Program, RemoteSettings, SourceSettings, VaultAuth,
    VaultSettings,
    said::{Auth, AwsSm, Exec, Remote, Vault},
};
use crate::fetch::FetchUrl;

/// Where a pod finds its own token.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// What a token is taken for where nobody says otherwise (RFC 8693 §3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Each of the four from the first file that has it.
pub(in crate::settings) fn check(layers: &mut Layers) -> SourceSettings {
    let mut settings = SourceSettings::default();
    let (mut problems, mut shown) = (Vec::new(), Vec::new());
    if let Some((said, path)) = layers.structure(|f| f.sources.exec.as_ref()) {
        let mut checker = Checker { path, problems: &mut problems, shown: &mut shown };
        settings.exec = checker
            .named("sources.exec", said, |checker, name, said| checker.program(name, said).map(Arc::new));
    }
    if let Some((said, path)) = layers.structure(|f| f.sources.vault.as_ref()) {
        settings.vault = Checker { path, problems: &mut problems, shown: &mut shown }.vault(said);
    }
    if let Some((said, path)) = layers.structure(|f| f.sources.aws_sm.as_ref()) {
        settings.aws_sm = Checker { path, problems: &mut problems, shown: &mut shown }.aws_sm(said);
    }
    if let Some((said, path)) = layers.structure(|f| f.sources.remote.as_ref()) {
        let mut checker = Checker { path, problems: &mut problems, shown: &mut shown };
        settings.remote = checker.named("sources.remote", said, Checker::remote);
    }
    layers.problems.extend(problems);
    layers.shown.extend(shown);
    settings
}

/// What is checked in one file.
struct Checker<'a> {
    path: &'a Path,
    problems: &'a mut Vec<String>,
    shown: &'a mut Vec<Shown>,
}

/// A mapping of the file, and what it is called.
struct At<'a> {
    key: &'a str,
    origin: Origin,
}

impl Checker<'_> {
    fn named<S, T>(
        &mut self,
        key: &str,
        said: &BTreeMap<String, Spanned<S>>,
        read: impl Fn(&mut Self, &str, &Spanned<S>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let mut found = BTreeMap::new();
        for (name, said) in said {
            if !is_name(name) {
                let origin = origin(self.path, said);
                self.problems.push(format!(
                    "{origin}: {key}: `{name}` is no name: letters, digits, `_`, `.`, `/` and `-`"
                ));
            } else if let Some(one) = read(self, name, said) {
                found.insert(name.clone(), one);
            }
        }
        found
    }

    fn program(&mut self, name: &str, said: &Spanned<Exec>) -> Option<Program> {
        let key = format!("sources.exec.{name}");
        let at = At { key: &key, origin: origin(self.path, said) };
        let said = &said.value;
        let command = self.command(&at, &said.command);
        let timeout = self.value(&at, "timeout", &said.timeout, Some("10s"), |text, _| span_above_zero(text));
        let cache = self.value(&at, "cache", &said.cache, Some("5m"), |text, _| span_above_zero(text));
        let inherit: Vec<String> = said.inherit.iter().flatten().map(|one| one.value.0.clone()).collect();
        for name in inherit.iter().chain(said.env.keys()).filter(|name| !is_variable(name)) {
            self.problem(&at, &format!("`{name}` is no name of an environment variable"));
        }
        for (name, value) in said.env.iter().filter(|(_, value)| value.value.0.contains('\0')) {
            let origin = place(self.path, value);
            self.problems.push(format!("{origin}: {key}.env: `{name}` has a zero byte"));
        }
        // Only the names: a value may be a secret by mistake.
        let names: Vec<&str> = said.env.keys().map(String::as_str).collect();
        self.show(&at, "env", &names.join(", "));
        self.show(&at, "inherit", &inherit.join(", "));
        let env = said.env.iter().map(|(name, value)| (name.clone(), value.value.0.clone())).collect();
        Some(Program {
            name: name.to_owned(),
            command: command?,
            env,
            inherit,
            timeout: timeout?,
            cache: cache?,
        })
    }

    /// The program and its arguments. A program with a `/` in its name is a path, and others are looked for in `PATH`.
    fn command(&mut self, at: &At<'_>, said: &List) -> Option<Vec<String>> {
        let mut command: Vec<String> = said.iter().flatten().map(|one| one.value.0.clone()).collect();
        let Some((program, origin)) =
            command.first_mut().zip(said.iter().flatten().next().map(|one| place(self.path, one)))
        else {
            self.problem(at, "`command` is missing: a list of a program and its arguments");
            return None;
        };
        if program.contains('/') {
            let path = resolved(program, &origin);
            *program = path.to_string_lossy().into_owned();
        }
        if program.is_empty() || command.iter().any(|part| part.contains('\0')) {
            self.problem(at, "`command` begins with a program and has no zero bytes");
            return None;
        }
        // Only the program: an argument may be a secret by mistake.
        let program = command.first().cloned().unwrap_or_default();
        self.show(at, "command", &program);
        Some(command)
    }

    fn vault(&mut self, said: &Spanned<Vault>) -> Option<VaultSettings> {
        let at = At { key: "sources.vault", origin: origin(self.path, said) };
        let said = &said.value;
        let url = self.value(&at, "url", &said.url, None, at_operator);
        let namespace = self.value(&at, "namespace", &said.namespace, Some(""), |text, _| match text {
            text if is_off(text) => Ok(None),
            text if is_name(text) => Ok(Some(text.trim_matches('/').to_owned())),
            _ => Err("a namespace such as `team/a`".to_owned()),
        });
        let mount_kind =
            self.value(&at, "mount_kind", &said.mount_kind, Some("auto"), |text, _| match text {
                "auto" => Ok(MountKind::Auto),
                "kv2" => Ok(MountKind::Kv2),
                "kv1" => Ok(MountKind::Kv1),
                _ => Err("`auto`, `kv2` or `kv1`".to_owned()),
            });
        let auth = if let Some(auth) = &said.auth {
            self.auth(auth)
        } else {
            self.problem(&at, "`auth` is missing: one of `kubernetes`, `jwt`, `approle` and `token`");
            None
        };
        Some(VaultSettings { url: url?, namespace: namespace?, mount_kind: mount_kind?, auth: auth? })
    }

    fn auth(&mut self, said: &Spanned<Auth>) -> Option<VaultAuth> {
        let of = |key| At { key, origin: origin(self.path, said) };
        let at = of("sources.vault.auth");
        let Auth { kubernetes, jwt, approle, token } = &said.value;
        match (kubernetes, jwt, approle, token) {
            (Some(said), None, None, None) => {
                let (at, said) = (of("sources.vault.auth.kubernetes"), &said.value);
                let role = self.value(&at, "role", &said.role, None, text);
                let file =
                    self.value(&at, "token_file", &said.token_file, Some(POD_TOKEN), |text, origin| {
                        Ok(resolved(text, origin))
                    });
                let mount = self.value(&at, "mount", &said.mount, Some("kubernetes"), mount);
                Some(VaultAuth::Kubernetes { role: role?, token_file: file?, mount: mount? })
            }
            (None, Some(said), None, None) => {
                let (at, said) = (of("sources.vault.auth.jwt"), &said.value);
                let role = self.value(&at, "role", &said.role, None, text);
                let token = self.value(&at, "token", &said.token, None, reference);
                let mount = self.value(&at, "mount", &said.mount, Some("jwt"), mount);
                Some(VaultAuth::Jwt { role: role?, token: token?, mount: mount? })
            }
            (None, None, Some(said), None) => {
                let (at, said) = (of("sources.vault.auth.approle"), &said.value);
                let role_id = self.value(&at, "role_id", &said.role_id, None, text);
                let secret_id = self.value(&at, "secret_id", &said.secret_id, None, reference);
                let mount = self.value(&at, "mount", &said.mount, Some("approle"), mount);
                Some(VaultAuth::AppRole { role_id: role_id?, secret_id: secret_id?, mount: mount? })
            }
            (None, None, None, Some(_)) => {
                self.value(&at, "token", token, None, reference).map(VaultAuth::Token)
            }
            _ => {
                self.problem(&at, "exactly one of `kubernetes`, `jwt`, `approle` and `token`");
                None
            }
        }
    }

    fn aws_sm(&mut self, said: &Spanned<AwsSm>) -> Option<AwsSmSettings> {
        let at = At { key: "sources.aws_sm", origin: origin(self.path, said) };
        let said = &said.value;
        let region = self.value(&at, "region", &said.region, None, |text, _| {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !text.is_empty() && text.bytes().all(fits) {
                Ok(text.to_owned())
            } else {
                Err("a region such as `eu-central-1`".to_owned())
            }
        });
        let host = |service: &str| {
            let region = region.as_deref().unwrap_or("us-east-1");
            let end = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://{service}.{region}.amazonaws.com{end}/")
        };
        let url = self.value(&at, "url", &said.url, Some(&host("secretsmanager")), at_operator);
        let keys = match (&said.access_key_id, &said.secret_access_key, &said.role_arn) {
            (Some(_), _, None) | (_, Some(_), None) => {
                for (key, said) in
                    [("web_identity_token_file", &said.web_identity_token_file), ("sts_url", &said.sts_url)]
                {
                    if said.is_some() {
                        self.problem(&at, &format!("`{key}` goes with `role_arn`"));
                    }
                }
                let id = self.value(&at, "access_key_id", &said.access_key_id, None, access_key_id);
                let secret = self.value(&at, "secret_access_key", &said.secret_access_key, None, reference);
                let session = self.value(&at, "session_token", &said.session_token, Some(""), secret_source);
                (|| Some(AwsSmKeys::Given { id: id?, secret: secret?, session: session? }))()
            }
            (None, None, Some(_)) => {
                if said.session_token.is_some() {
                    self.problem(&at, "`session_token` goes with `access_key_id`");
                }
                let arn = self.value(&at, "role_arn", &said.role_arn, None, |text, _| {
                    if text.starts_with("arn:") && text.contains(":role/") {
                        Ok(text.to_owned())
                    } else {
                        Err("a role such as `arn:aws:iam::123456789012:role/egret`".to_owned())
                    }
                });
                let key = "web_identity_token_file";
                let file = self.value(&at, key, &said.web_identity_token_file, None, |text, origin| {
                    Ok(resolved(text, origin))
                });
                let sts = self.value(&at, "sts_url", &said.sts_url, Some(&host("sts")), at_operator);
                (|| Some(AwsSmKeys::Role { arn: arn?, token_file: file?, sts: sts? }))()
            }
            _ => {
                let either = "either `access_key_id` and `secret_access_key`, or `role_arn` and \
                              `web_identity_token_file`";
                self.problem(&at, either);
                None
            }
        };
        Some(AwsSmSettings { region: region?, url: url?, keys: keys? })
    }

    fn remote(&mut self, name: &str, said: &Spanned<Remote>) -> Option<RemoteSettings> {
        let key = format!("sources.remote.{name}");
        let at = At { key: &key, origin: origin(self.path, said) };
        let said = &said.value;
        let token_url = self.value(&at, "token_url", &said.token_url, None, at_operator);
        let subject_token = self.value(&at, "subject_token", &said.subject_token, None, reference);
        let kind = self.value(&at, "subject_token_type", &said.subject_token_type, Some(JWT), text);
        let client_id = self.value(&at, "client_id", &said.client_id, Some(""), |text, _| {
            Ok((!is_off(text)).then(|| text.to_owned()))
        });
        let client_secret = self.value(&at, "client_secret", &said.client_secret, Some(""), secret_source);
        if matches!((&client_id, &client_secret), (Some(None), Some(Some(_)))) {
            self.problem(&at, "`client_secret` goes with `client_id`");
        }
        let mut list = |key: &str, said: &Option<Names>| {
            let names = said.as_ref().map(|names| names.0.clone()).unwrap_or_default();
            self.show(&at, key, &names.join(", "));
            names
        };
        let (audience, resource) = (list("audience", &said.audience), list("resource", &said.resource));
        let scope = list("scope", &said.scope);
        Some(RemoteSettings {
            name: name.to_owned(),
            token_url: token_url?,
            subject_token: subject_token?,
            subject_token_type: kind?,
            audience,
            resource,
            scope,
            client_id: client_id?,
            client_secret: client_secret?,
        })
    }

    /// One value: said and parsed, or the default; a problem where there is neither.
    fn value<T>(
        &mut self,
        at: &At<'_>,
        key: &str,
        said: &Scalar,
        default: Option<&str>,
        parse: impl Fn(&str, &Origin) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = match (said, default) {
            (Some(said), _) => (said.value.0.as_str(), place(self.path, said)),
            (None, Some(default)) => (default, Origin::Default),
            (None, None) => {
                self.problem(at, &format!("`{key}` is missing"));
                return None;
            }
        };
        let key = format!("{}.{key}", at.key);
        match parse(text, &origin) {
            Ok(value) => {
                self.shown.push(Shown { key, value: text.to_owned(), origin });
                Some(value)
            }
            Err(problem) => {
                self.problems.push(format!("{origin}: {key}: {problem}"));
                None
            }
        }
    }

    fn problem(&mut self, at: &At<'_>, what: &str) {
        self.problems.push(format!("{}: {}: {what}", at.origin, at.key));
    }

    fn show(&mut self, at: &At<'_>, key: &str, value: &str) {
        let key = format!("{}.{key}", at.key);
        self.shown.push(Shown { key, value: value.to_owned(), origin: at.origin.clone() });
    }
}

fn origin<S>(path: &Path, said: &Spanned<S>) -> Origin {
    Origin::File(path.to_owned(), said.referenced.line(), said.referenced.column())
}

/// Secrets come over TLS.
fn at_operator(text: &str, _: &Origin) -> Result<FetchUrl, String> {
    let url = FetchUrl::parse(text)?;
    if !url.tls && !url.is_loopback() {
        return Err("secrets come over https; http is accepted for loopback only".to_owned());
    }
    if url.query.is_some() {
        return Err("the URL has no query".to_owned());
    }
    Ok(url)
}

fn reference(text: &str, origin: &Origin) -> Result<SecretSource, String> {
    let expected = "a reference: `env:NAME` or `file:PATH`, never the secret itself";
    secret_source(text, origin)?.ok_or_else(|| expected.to_owned())
}

/// An id as it is, or where it is read. A secret key in its place has other characters and is not repeated.
fn access_key_id(text: &str, origin: &Origin) -> Result<AccessKeyId, String> {
    let is_id =
        text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    match secret_source(text, origin) {
        _ if is_id => Ok(AccessKeyId::Text(text.to_owned())),
        Ok(Some(source)) => Ok(AccessKeyId::Read(source)),
        _ => Err("an id such as `AKIAIOSFODNN7EXAMPLE`, `env:NAME` or `file:PATH`".to_owned()),
    }
}

fn text(text: &str, _: &Origin) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a text without control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn mount(text: &str, _: &Origin) -> Result<String, String> {
    let mount = text.trim_matches('/');
    if is_name(mount) { Ok(mount.to_owned()) } else { Err("where the method is mounted".to_owned()) }
}

/// As references write names: `src/decide/parts/credential/places.rs`.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests;
