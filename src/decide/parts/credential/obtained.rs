//! Credentials that are obtained for a time: their shapes. They have no effect yet.

use std::collections::BTreeMap;

use super::{
    super::shape,
    places::{References, Slots as _, is_reference},
};
use crate::{
    decide::files::{
        problem::Findings,
        reader::{self, Fields},
        yaml::{Node, Value},
    },
    plan::{AwsRole, ClientAuthentication, Half, Obtained, SecretRef},
    target::{Authority, Path},
};

/// Reads a credential of one kind. None where something is wrong with it.
pub(super) fn read(
    kind: &str,
    node: &Node,
    references: &References<'_>,
    findings: &mut Findings,
) -> Option<Obtained> {
    let before = findings.count();
    let record = shape::obtained(kind)?;
    let fields = Fields::read(node, &format!("`{kind}`"), record.keys, findings)?;
    for key in record.required.iter().flat_map(|group| *group).filter(|key| fields.get(key).is_none()) {
        findings.report(node.span, format!("`{kind}` has no `{key}`"));
    }
    let mut keys = Keys { fields, references, findings };
    let obtained = match kind {
        "oauth" => keys.oauth(),
        "github_app" => keys.github_app(),
        "token_exchange" => keys.token_exchange(),
        "jwt_bearer" => keys.jwt_bearer(),
        "client_credentials" => keys.client_credentials(),
        "aws_sigv4" => keys.aws_sigv4(node),
        "service_account" => keys.service_account(),
        _ => Some(Obtained::Byok { name: keys.text("name") }),
    };
    obtained.filter(|_| findings.count() == before)
}

/// The keys of one credential, and how each of them is read. Every getter reports what is wrong with its key.
struct Keys<'s, 'n> {
    fields: Fields<'n>,
    references: &'s References<'s>,
    findings: &'s mut Findings,
}

// All keys are read before the first `?`, so that every mistake is reported.
impl Keys<'_, '_> {
    fn oauth(&mut self) -> Option<Obtained> {
        let (provider, scopes) = (self.text("provider"), self.texts("scopes"));
        Some(Obtained::OAuth { provider: provider?, scopes })
    }

    fn github_app(&mut self) -> Option<Obtained> {
        let (app_id, installation_id) = (self.number("app_id"), self.number("installation_id"));
        let private_key = self.reference("private_key");
        let (repositories, permissions) = (self.texts("repositories"), self.permissions());
        Some(Obtained::GithubApp {
            app_id: app_id?,
            installation_id: installation_id?,
            private_key: private_key?,
            repositories,
            permissions,
        })
    }

    fn token_exchange(&mut self) -> Option<Obtained> {
        let (idp, audience) = (self.text("idp"), self.text("audience"));
        let (scopes, resource) = (self.texts("scopes"), self.text("resource"));
        Some(Obtained::TokenExchange { idp: idp?, audience: audience?, scopes, resource })
    }

    fn jwt_bearer(&mut self) -> Option<Obtained> {
        let (token_url, issuer) = (self.url("token_url"), self.text("issuer"));
        let (subject, audience) = (self.text("subject"), self.text("audience"));
        let (scopes, key_id) = (self.texts("scopes"), self.text("key_id"));
        let private_key = self.reference("private_key");
        Some(Obtained::JwtBearer {
            token_url: token_url?,
            issuer: issuer?,
            subject,
            audience,
            scopes,
            private_key: private_key?,
            key_id,
        })
    }

    fn client_credentials(&mut self) -> Option<Obtained> {
        let (token_url, client_id) = (self.url("token_url"), self.half("client_id"));
        let (client_secret, scopes) = (self.reference("client_secret"), self.texts("scopes"));
        let audience = self.text("audience");
        let ways = [("basic", ClientAuthentication::Basic), ("post", ClientAuthentication::Post)];
        let way = self
            .fields
            .get("client_auth")
            .and_then(|n| reader::word(n, "`client_auth`", &ways, self.findings));
        Some(Obtained::ClientCredentials {
            token_url: token_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            client_auth: way.unwrap_or_default(),
            scopes,
            audience,
        })
    }

    fn aws_sigv4(&mut self, node: &Node) -> Option<Obtained> {
        let (id, key) = (self.half("access_key_id"), self.reference("secret_access_key"));
        let (session_token, role_arn) = (self.reference("session_token"), self.text("role_arn"));
        let (region, service) = (self.text("region"), self.text("service"));
        let has = |key: &str| self.fields.get(key).is_some();
        let keys = ["access_key_id", "secret_access_key", "session_token"].into_iter().any(has);
        let complete = has("access_key_id") && has("secret_access_key");
        if has("role_arn") == keys || (keys && !complete) {
            self.findings
                .report(node.span, "`aws_sigv4` has `access_key_id` and `secret_access_key`, or `role_arn`")
                .hint("for example `{access_key_id: \"env:AWS_ACCESS_KEY_ID\", secret_access_key: \"env:AWS_SECRET_ACCESS_KEY\"}`");
            return None;
        }
        let keys = match role_arn {
            Some(role_arn) => AwsRole::Assumed { role_arn },
            None => AwsRole::Keys { access_key_id: id?, secret_access_key: key?, session_token },
        };
        Some(Obtained::AwsSigV4 { keys: Box::new(keys), region, service })
    }

    fn service_account(&mut self) -> Option<Obtained> {
        let (key, scopes, subject) = (self.reference("key"), self.texts("scopes"), self.text("subject"));
        Some(Obtained::ServiceAccount { key: key?, scopes, subject })
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            self.findings.report(node.span, format!("`{key}` is empty or has control characters"));
            return None;
        }
        if is_reference(text) && !text.contains("://") {
            self.findings.report(node.span, format!("`{key}` is not secret: it stands in the policy itself"));
            return None;
        }
        Some(text.to_owned())
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.fields.get(key) else { return Vec::new() };
        reader::each(node, &format!("`{key}`"), self.findings, |text| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            plain
                .then(|| text.to_owned())
                .ok_or_else(|| "an item of it has visible characters only".to_owned())
        })
    }

    fn number(&mut self, key: &str) -> Option<u64> {
        let node = self.fields.get(key)?;
        let number = match &node.value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.findings.report(node.span, format!("`{key}` is a whole number, such as `12345`"));
        }
        number
    }

    fn url(&mut self, key: &str) -> Option<String> {
        let node = self.fields.get(key)?;
        let text = reader::text(node, &format!("`{key}`"), self.findings)?;
        let rest = text.strip_prefix("https://").unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let sound =
            Authority::parse(authority, Some(443)).is_ok() && (path.is_empty() || Path::parse(path).is_ok());
        if !sound {
            self.findings
                .report(node.span, format!("`{key}` is a URL that begins with `https://`"))
                .hint("for example `https://auth.example.com/oauth/token`");
        }
        sound.then(|| text.to_owned())
    }

    fn reference(&mut self, key: &str) -> Option<SecretRef> {
        let node = self.fields.get(key)?;
        let Value::Text(text) = &node.value else {
            reader::hide(node, self.findings);
            self.findings.report(node.span, "a reference to a secret is a text such as `\"env:NAME\"`");
            return None;
        };
        self.references.parse(text, node.span, self.findings)
    }

    /// A reference, or a value that is not secret with this provider.
    fn half(&mut self, key: &str) -> Option<Half> {
        match self.fields.get(key).map(|node| &node.value) {
            Some(Value::Text(text)) if is_reference(text) => self.reference(key).map(Half::Secret),
            _ => self.text(key).map(Half::Constant),
        }
    }

    fn permissions(&mut self) -> BTreeMap<String, String> {
        let Some(node) = self.fields.get("permissions") else { return BTreeMap::new() };
        let levels = [("read", "read"), ("write", "write"), ("admin", "admin")];
        reader::mapping(node, "`permissions`", self.findings)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(key, value)| {
                let level = reader::word(value, "a permission", &levels, self.findings)?;
                Some((key.text.clone(), level.to_owned()))
            })
            .collect()
    }
}
