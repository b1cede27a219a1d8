//! The shape of `egret.yaml`, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Spanned;

use super::{said::Said, sources::SaidSources};

/// One scalar and where it stands.
pub(super) type Scalar = Option<Spanned<Said>>;
/// A list of scalars.
pub(super) type List = Option<Vec<Spanned<Said>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Listen,
    pub(super) identity: Identity,
    pub(super) ca: Ca,
    pub(super) policy: Policy,
    pub(super) store: Store,
    pub(super) connect: Connect,
    pub(super) sources: SaidSources,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) upstream: Upstream,
    pub(super) drain_timeout: Scalar,
    pub(super) workers: Scalar,
    pub(super) log: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) proxy: Scalar,
    pub(super) gateway: Scalar,
    pub(super) admin: Scalar,
    pub(super) ambient: Option<Vec<Ambient>>,
    pub(super) max_connections: Scalar,
    pub(super) header_timeout: Scalar,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ambient {
    pub(super) address: Spanned<Said>,
    pub(super) token_file: Spanned<Said>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Connect {
    pub(super) url: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Identity {
    pub(super) issuers: Option<Vec<Issuer>>,
    pub(super) development: Scalar,
}

#[expect(clippy::struct_field_names, reason = "the field is the key's name")]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) issuer: Spanned<Said>,
    pub(super) jwks: Jwks,
    pub(super) audience: Audience,
    pub(super) algorithms: List,
    pub(super) max_lifetime: Scalar,
    pub(super) leeway: Scalar,
    pub(super) typ: List,
    pub(super) delegation: Scalar,
    pub(super) claims: Option<Claims>,
    pub(super) agent_claim: Scalar,
    pub(super) max_stale: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Jwks {
    pub(super) url: Scalar,
    pub(super) file: Scalar,
}

/// One audience, or several.
#[derive(Debug)]
pub(super) struct Audience(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Names::deserialize(deserializer).map(|names| Self(names.0))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Claims {
    pub(super) tenant: Option<Names>,
    pub(super) agent: Option<Names>,
    pub(super) user: Option<Names>,
}

/// One name, or a list of them.
#[derive(Debug)]
pub(super) struct Names(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> serde::de::Visitor<'de> for OneOrMore {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Names, E> {
                Ok(Names(vec![text.to_owned()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element::<String>()? {
                    all.push(name);
                }
                Ok(Names(all))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ca {
    pub(super) dir: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    pub(super) dir: Scalar,
    pub(super) verify: Scalar,
    pub(super) keys: List,
    pub(super) state: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) url: Scalar,
    pub(super) key: Scalar,
    pub(super) old_keys: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) backend: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    pub(super) sinks: List,
    pub(super) durability: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Upstream {
    pub(super) extra_ca: List,
    pub(super) proxy: Scalar,
    pub(super) proxy_credentials: Scalar,
    pub(super) no_proxy: List,
    pub(super) connect_timeout: Scalar,
    pub(super) idle_timeout: Scalar,
    pub(super) resolve: Option<BTreeMap<String, Spanned<Said>>>,
}
