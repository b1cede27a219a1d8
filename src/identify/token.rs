//! A token taken apart, before any cryptography: one form, one reading, a bounded size (RFC 7515 §3.1).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::settings::Algorithm;
use crate::{json, refusal::Reason};

/// The longest token. Real ones have 0.5 to 4 KiB; everything after this check costs time by length.
pub(super) const LONGEST: usize = 16 * 1024;
/// Levels of objects and arrays in a header or in claims. A delegation chain of the allowed length fits.
const DEEPEST: usize = 16;
/// The longest `kid`.
const LONGEST_KID: usize = 256;

/// A token in its parts. Nothing in it is proven yet.
pub(super) struct Jws<'t> {
    /// The algorithm that it claims; must be one of the issuer's, and one of the key's.
    pub(super) algorithm: Algorithm,
    /// Which key. Only ever compared with the names of keys that we have.
    pub(super) kid: Option<String>,
    /// The media type, in lower case and without `application/`.
    pub(super) typ: Option<String>,
    /// Who is said to have issued it.
    pub(super) issuer: String,
    /// What it says.
    pub(super) claims: Map<String, Value>,
    /// What was signed.
    pub(super) signed: &'t str,
    /// The signature, in base64url.
    pub(super) signature: &'t str,
}

/// A refusal for the client; `check` is for the operator, and repeats nothing that the token says.
pub(super) fn invalid(check: impl Into<String>) -> Reason {
    Reason::TokenInvalid { check: check.into() }
}

impl<'t> Jws<'t> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'t str) -> Result<Self, Reason> {
        if text.len() > LONGEST {
            return Err(invalid(format!("the token has more than {LONGEST} bytes")));
        }
        let (signed, signature) = text.rsplit_once('.').unwrap_or_default();
        let Some((header, payload)) = signed.split_once('.').filter(|parts| !parts.1.contains('.')) else {
            return Err(invalid("the token has not three parts"));
        };
        if signature.is_empty() {
            return Err(invalid("the token has no signature"));
        }
        // The library decodes the signature again; decoding it here keeps malformed tokens from its code.
        if URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(invalid("the signature is not base64url without padding"));
        }
        let header = part(header, "header")?;
        let claims = part(payload, "payload")?;
        let Some(Value::String(issuer)) = claims.get("iss") else {
            return Err(invalid("`iss` is not a string"));
        };
        Ok(Self {
            algorithm: algorithm(&header)?,
            kid: kid(&header)?,
            typ: typ(&header)?,
            issuer: issuer.clone(),
            claims,
            signed,
            signature,
        })
    }
}

fn part(encoded: &str, name: &str) -> Result<Map<String, Value>, Reason> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| invalid(format!("the {name} is not base64url without padding")))?;
    json::object(&bytes, DEEPEST)
        .ok_or_else(|| invalid(format!("the {name} is not one JSON object with unique members")))
}

/// Reads `alg`, and refuses what would change the meaning of the rest. `jku`, `x5u`, `jwk` and `x5c` are not
/// looked at: a token does not say where its own key is (RFC 8725 §3.10).
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Reason> {
    for (member, why) in [
        ("crit", "names extensions that must be understood"),
        ("b64", "changes what is signed"),
        ("zip", "is for encrypted tokens"),
        ("enc", "is for encrypted tokens"),
    ] {
        if header.contains_key(member) {
            return Err(invalid(format!("the header has `{member}`, which {why}")));
        }
    }
    let name = header.get("alg").and_then(Value::as_str).ok_or_else(|| invalid("`alg` is not a string"))?;
    name.parse().map_err(|_| invalid("`alg` is no asymmetric signature algorithm that is supported"))
}

fn kid(header: &Map<String, Value>) -> Result<Option<String>, Reason> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.len() <= LONGEST_KID => Ok(Some(kid.clone())),
        Some(_) => Err(invalid(format!("`kid` is not a string of at most {LONGEST_KID} bytes"))),
    }
}

fn typ(header: &Map<String, Value>) -> Result<Option<String>, Reason> {
    match header.get("typ") {
        None => Ok(None),
        Some(Value::String(typ)) => Ok(Some(plain_type(typ))),
        Some(_) => Err(invalid("`typ` is not a string")),
    }
}

/// A media type as it is compared: without case, and `application/` may be left out (RFC 7515 §4.1.9).
pub(super) fn plain_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map_or_else(|| typ.clone(), str::to_owned)
}
