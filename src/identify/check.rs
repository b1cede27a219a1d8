//! What a token with a good signature must still satisfy: its type, its times, its audience.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    settings::IssuerConfig,
    token::{invalid, plain_type},
};
use crate::refusal::Reason;

/// Values of `typ` that mean a plain JWT: RFC 7519 §5.1, RFC 9068 §2.1, and JWT-SVIDs. Everything else was made
/// for another purpose (`dpop+jwt`, `logout+jwt`, `secevent+jwt`, …), whatever its claims say (RFC 8725 §3.11).
const PLAIN: [&str; 3] = ["jwt", "at+jwt", "jose"];

/// Checks `typ`.
pub(super) fn typ(config: &IssuerConfig, typ: Option<&str>) -> Result<(), Reason> {
    let accepted = match (&config.typ, typ) {
        (None, None) => true,
        (None, Some(typ)) => PLAIN.contains(&typ),
        (Some(_), None) => false,
        (Some(list), Some(typ)) => list.iter().any(|a| plain_type(a) == typ),
    };
    if accepted { Ok(()) } else { Err(invalid("`typ` is not one that this issuer's tokens may have")) }
}

/// Checks the claims that say when and for whom. Gives `exp`.
pub(super) fn claims(config: &IssuerConfig, claims: &Map<String, Value>, now: u64) -> Result<u64, Reason> {
    let expires_at = times(config, claims, now)?;
    audience(config, claims.get("aud"))?;
    if claims.contains_key("cnf") {
        return Err(invalid("a sender-constrained token (`cnf`) over a listener without mTLS"));
    }
    Ok(expires_at)
}

fn times(config: &IssuerConfig, claims: &Map<String, Value>, now: u64) -> Result<u64, Reason> {
    let leeway = config.leeway.as_secs();
    let Some(expires_at) = instant(claims, "exp")? else {
        return Err(invalid("`exp` is missing"));
    };
    if now >= expires_at.saturating_add(leeway) {
        return Err(Reason::TokenExpired { expired_at: expires_at });
    }
    if instant(claims, "nbf")?.is_some_and(|begins| begins > now.saturating_add(leeway)) {
        return Err(invalid("`nbf` is in the future"));
    }
    let most = config.max_lifetime.as_secs();
    let (lifetime, most) = match instant(claims, "iat")? {
        Some(issued) if issued > now.saturating_add(leeway) => return Err(invalid("`iat` is in the future")),
        Some(issued) if issued > expires_at => return Err(invalid("`exp` is before `iat`")),
        Some(issued) => (expires_at - issued, most),
        // Without `iat` what remains is all that is known of the lifetime; measured by our clock, so with leeway.
        None => (expires_at.saturating_sub(now), most.saturating_add(leeway)),
    };
    if lifetime > most {
        return Err(invalid(format!("the token lives longer than `max_lifetime`, {most} s")));
    }
    Ok(expires_at)
}

/// A `NumericDate` (RFC 7519 §2) in whole seconds.
fn instant(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        Duration::try_from_secs_f64(seconds).ok().map(|d| d.as_secs())
    });
    seconds.map(Some).ok_or_else(|| invalid(format!("`{name}` is not a time in seconds")))
}

fn audience(config: &IssuerConfig, claim: Option<&Value>) -> Result<(), Reason> {
    let accepted = |name: &str| config.audience.iter().any(|a| a == name);
    let ours = match claim {
        None => return Err(invalid("`aud` is missing")),
        Some(Value::String(name)) => accepted(name),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            names
                .ok_or_else(|| invalid("`aud` lists something other than strings"))?
                .into_iter()
                .any(accepted)
        }
        Some(_) => return Err(invalid("`aud` is neither a string nor a list of strings")),
    };
    if ours {
        return Ok(());
    }
    let expected = config.audience.first().map_or("", String::as_str).into();
    Err(Reason::TokenAudienceMismatch { expected })
}
