//! Signatures for AWS: what egret puts in the place of a signature that the client made with a key worth nothing.
//!
//! Signature Version 4 covers method, host, path, query, some headers and the body, so it is made last, over what
//! will be sent. [`Scope`] says for which region and service, [`Payload`] how the body is covered, [`sign`] puts the
//! headers, and where the body carries signatures of its own, [`Resigned`] replaces them while it streams.
//!
//! Purposefully not the crate `aws-sigv4` (1.6.4), which is made for the requests of AWS's own SDK. A proxy signs what
//! others wrote, and there that crate errs: for S3 it signs an encoded path as it is spelled (`%c3`, a bare `(`),
//! while S3 reads the key and spells it anew; it takes `%FF` in a query for U+FFFD; and a query that outgrows 64 KiB
//! by being encoded makes it panic. It would also bring a second SHA-256. AWS's own vectors are in our tests.

mod canonical;
mod endpoints;
mod key;
mod payload;
mod resigned;
mod scope;
pub mod sts;

pub use key::{BadKeys, Keys};
pub use payload::{BadPayload, NeedsBody, Payload, Seen};
pub use resigned::{Chain, Malformed, Resigned};
pub use scope::Scope;

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use zeroize::Zeroizing;

use crate::secret::sha256_hex;
use canonical::Style;
use key::Stamp;

/// What is signed beside headers and body. All of it as it will be sent: a signature over another spelling is none.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The value of `Host`: a port only where it is not the scheme's own.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, without the `?`.
    pub query: Option<&'a str>,
}

/// Takes out whatever signature is in the headers and puts ours.
///
/// Signed are the host, `content-type`, `content-md5` and everything that begins with `x-amz-`, which S3 demands.
/// The other headers may still change on the way out. A signature in the query (a presigned URL) is not touched, and
/// AWS refuses a request with two: the caller takes it out before.
///
/// Gives the chain that [`Resigned`] needs where the body carries signatures; sent without it, AWS refuses the body.
///
/// # Errors
/// When the keys cannot be sent or signed with. The former signature is out of the headers then too.
pub fn sign(
    request: &Request<'_>,
    headers: &mut HeaderMap,
    payload: &Payload,
    scope: &Scope,
    keys: &Keys,
    now: SystemTime,
) -> Result<Option<Chain>, BadKeys> {
    for name in FORMER {
        headers.remove(name);
    }
    if payload.is_declared() || scope.wants_hash() {
        headers.insert(CONTENT_SHA256, payload.header());
    }
    attach(request, headers, payload, scope, keys, &Stamp::of(now), &Style::of(scope))
}

/// Dates the request, puts the session token, and signs what is there then.
fn attach(
    request: &Request<'_>,
    headers: &mut HeaderMap,
    payload: &Payload,
    scope: &Scope,
    keys: &Keys,
    stamp: &Stamp,
    style: &Style,
) -> Result<Option<Chain>, BadKeys> {
    keys.check()?;
    headers.insert(DATE, stamp.header());
    if let Some(token) = keys.token()? {
        headers.insert(SECURITY_TOKEN, token);
    }
    let canonical = canonical::request(request, headers, payload.as_str(), style);
    let scope = scope.on(stamp);
    // The canonical request holds the session token; its hash does not.
    let hash = sha256_hex(&Zeroizing::new(canonical.text));
    let key = keys.signing_key(&scope);
    let signature = key.sign(format!("{ALGORITHM}\n{}\n{scope}\n{hash}", stamp.as_str()).as_bytes());
    let id = &keys.access_key_id;
    let names = canonical.signed_names;
    let value = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut value = HeaderValue::try_from(value).map_err(|_| BadKeys::AccessKeyId)?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(payload.ending().map(|ending| Chain::new(key, stamp.as_str(), &scope, signature, ending)))
}

/// The one algorithm. `AWS4-ECDSA-P256-SHA256` (`SigV4A`) signs for several regions at once, with a key pair.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What belongs to a signature, of any version and of S3 Express sessions. Nothing of it may stand beside ours: what
/// begins with `x-amz-` would be signed.
const FORMER: [HeaderName; 10] = [
    header::AUTHORIZATION,
    DATE,
    SECURITY_TOKEN,
    CONTENT_SHA256,
    HeaderName::from_static("x-amz-algorithm"),
    HeaderName::from_static("x-amz-credential"),
    HeaderName::from_static("x-amz-signedheaders"),
    HeaderName::from_static("x-amz-signature"),
    HeaderName::from_static("x-amz-region-set"),
    HeaderName::from_static("x-amz-s3session-token"),
];

#[cfg(test)]
mod tests;
