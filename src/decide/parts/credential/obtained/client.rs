//! How a client shows a token endpoint who it is (RFC 6749 §2.3, RFC 7523 §2.2, RFC 8705 §2).

use std::time::Duration;

use http::{HeaderName, header};
use jsonwebtoken::Algorithm;

use super::{Keys, Params, Values};
use crate::{
    plan::{
        Assertion, CertificateRef, ClientAuthentication, Half, JsonTemplate, Provider, SecretRef, Template,
    },
    store::SecretName,
};

/// What an assertion that stands for a client is (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is good. It is used at once.
const LIFETIME: Duration = Duration::from_secs(60);

/// Algorithms, as RFC 7518 §3.1 and RFC 8037 §3.1 name them.
pub(super) const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// What a client adds to a token request.
#[derive(Default)]
pub(super) struct Client {
    pub(super) values: Values,
    pub(super) assertions: Vec<(Box<str>, Assertion)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) params: Params,
    pub(super) certificate: Option<CertificateRef>,
}

impl Keys<'_, '_> {
    /// Reads the client's keys. `stored` says which secrets of the store stand in for what is not said.
    pub(super) fn client(&mut self, provider: &Provider, token_url: &str, stored: Option<&str>) -> Client {
        let (id, secret) = (self.half("client_id"), self.reference("client_secret"));
        let (private_key, assertion) = (self.reference("private_key"), self.reference("assertion"));
        let (key_id, algorithm) = (self.text("key_id"), self.word("algorithm", &ALGORITHMS));
        let certificate = self.certificate();
        let own = self.word("client_auth", &ClientAuthentication::WORDS);
        // An assertion is a client's only where the kind has no other meaning for it, and so with the private key.
        let is_clients = self.kind != "jwt_bearer";
        let (private_key, assertion) = (private_key.filter(|_| is_clients), assertion.filter(|_| is_clients));
        let has_key = private_key.is_some() || assertion.is_some();
        // A grant that needs no client has none of its keys: the provider's usual way is another grant's.
        let is_anonymous = own.is_none() && !self.has("client_id") && stored.is_none();
        let auth = own.unwrap_or(if has_key {
            ClientAuthentication::PrivateKeyJwt
        } else if let Some(usual) = provider.client_auth.filter(|_| !is_anonymous) {
            usual
        } else if certificate.is_some() && secret.is_none() {
            ClientAuthentication::TlsClientAuth
        } else if secret.is_some() || (stored.is_some() && !self.has("client_id")) {
            ClientAuthentication::Basic
        } else {
            ClientAuthentication::None
        });
        let in_store = |what: &str| {
            let name = SecretName::parse(&format!("{}-{what}", stored?)).ok()?;
            Some(SecretRef::Store(name))
        };
        let id = id.or_else(|| in_store("client-id").map(Half::Secret));
        let with_secret = matches!(
            auth,
            ClientAuthentication::Basic
                | ClientAuthentication::BasicRaw
                | ClientAuthentication::BasicSecretAsUser
                | ClientAuthentication::Post
        );
        let secret = secret.or_else(|| {
            Some(in_store("client-secret")?).filter(|_| with_secret && !self.has("client_secret"))
        });
        let mut client = Client { certificate, ..Client::default() };
        let has_id = id.is_some();
        client.values.extend(id.map(|id| ("client_id".into(), id)));
        let missing = match auth {
            _ if with_secret && secret.is_none() => (!self.has("client_secret")).then_some("client_secret"),
            ClientAuthentication::PrivateKeyJwt if private_key.is_none() && assertion.is_none() => {
                (!self.has("private_key") && !self.has("assertion")).then_some("private_key")
            }
            ClientAuthentication::TlsClientAuth if client.certificate.is_none() => {
                (!self.has("certificate")).then_some("certificate")
            }
            _ => None,
        };
        if let Some(missing) = missing.filter(|_| !is_anonymous) {
            let word =
                ClientAuthentication::WORDS.iter().find(|(_, known)| *known == auth).map_or("", |(w, _)| w);
            self.findings
                .report(self.node.span, format!("`{}` has no `{missing}`", self.kind))
                .hint(format!("the client authenticates by `{word}`; `client_auth` says otherwise"));
        }
        if let Some(secret) = secret {
            client.values.push(("client_secret".into(), Half::Secret(secret)));
        }
        let basic = |template: &str| {
            let template = Template::parse(template).unwrap_or_else(|_| Template::text(""));
            vec![(header::AUTHORIZATION, template)]
        };
        let name = |name: &str| (Box::from(name), Template::name(name));
        match auth {
            ClientAuthentication::Basic => {
                client.headers = basic("Basic {base64(form(client_id) ':' form(client_secret))}");
            }
            ClientAuthentication::BasicRaw => {
                client.headers = basic("Basic {base64(client_id ':' client_secret)}");
            }
            ClientAuthentication::BasicSecretAsUser => {
                client.headers = basic("Basic {base64(client_secret ':')}");
            }
            ClientAuthentication::Post => client.params = vec![name("client_id"), name("client_secret")],
            ClientAuthentication::None | ClientAuthentication::TlsClientAuth if has_id => {
                client.params = vec![name("client_id")];
            }
            ClientAuthentication::None | ClientAuthentication::TlsClientAuth => {}
            ClientAuthentication::PrivateKeyJwt => {
                client.params = vec![
                    name("client_id"),
                    ("client_assertion_type".into(), Template::text(ASSERTION_TYPE)),
                    name("client_assertion"),
                ];
                if let Some(assertion) = assertion {
                    client.values.push(("client_assertion".into(), Half::Secret(assertion)));
                } else if let Some(key) = private_key {
                    client.values.push(("client_key".into(), Half::Secret(key)));
                    let audience = provider.issuer.as_deref().unwrap_or(token_url);
                    let thumbprint = client.certificate.as_ref().map(|certificate| {
                        let chain = ("client_certificate".into(), Half::Secret(certificate.chain.clone()));
                        client.values.push(chain);
                        Template::parse("{thumbprint(client_certificate)}")
                    });
                    let claim = |name: &str, value| (Box::from(name), JsonTemplate::Text(value));
                    let assertion = Assertion {
                        algorithm: algorithm.unwrap_or(Algorithm::RS256),
                        key: Template::name("client_key"),
                        key_id: key_id.as_deref().map(Template::text),
                        thumbprint: thumbprint.and_then(Result::ok),
                        claims: Box::new([
                            claim("iss", Template::name("client_id")),
                            claim("sub", Template::name("client_id")),
                            claim("aud", Template::text(audience)),
                        ]),
                        lifetime: LIFETIME,
                        backdate: Duration::ZERO,
                        jti: true,
                    };
                    client.assertions.push(("client_assertion".into(), assertion));
                }
            }
        }
        client
    }
}
