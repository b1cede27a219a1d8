//! Room 6. Nothing of the client's own authentication remains. Total: cannot fail.
//!
//! The order matters. What is hop-by-hop goes here, before the credential is attached, so that a client cannot
//! have the attached header removed by naming it in `Connection` (CVE-2022-31813). And the slots that the
//! credential will take are emptied whatever stands in them, so that no second value travels beside it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    approve::Approved,
    decide::Grant,
    message::Message,
    plan::{CredentialSpec, How, Plan},
};

mod class;
mod query;
mod subprotocol;

use class::Class;

/// A request without any authentication of the client's.
#[derive(Debug)]
pub struct Stripped {
    message: Message,
    grant: Grant,
}

impl Stripped {
    /// Hands the parts to `credential`.
    pub(crate) fn into_parts(self) -> (Message, Grant) {
        (self.message, self.grant)
    }
}

/// Takes away what the client brought.
pub fn client_credentials(approved: Approved) -> Stripped {
    let (mut message, grant) = approved.into_parts();
    let plan = grant.plan().map(AsRef::as_ref);
    let mut names = strip_headers(&mut message.headers, plan);
    if let Some(query) = message.target.query.take() {
        message.target.query = query::strip(query, plan, &mut names);
    }
    if !names.is_empty() {
        names.sort_unstable();
        names.dedup();
        message.entry.stripped(names);
    }
    Stripped { message, grant }
}

/// Leaves only those request trailers that the service keeps.
///
/// A trailer may repeat any header's name, and many servers merge the two: what is stripped as a header, and all
/// that frames or routes, never passes as a trailer, whatever `keep` says.
pub fn keep_trailers(keep: &[HeaderName], trailers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !keep.contains(name) || Class::of(name) != Class::Plain)
        .cloned()
        .collect();
    for name in dropped {
        trailers.remove(name);
    }
}

/// Strips the headers; gives the names of those that authenticate.
fn strip_headers(headers: &mut HeaderMap, plan: Option<&Plan>) -> Vec<String> {
    let mut stripped = Vec::new();
    let trailers = accepts_trailers(headers);
    let signed = is_signed_by_aws(headers);
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    let doomed: Vec<(HeaderName, Class)> = headers
        .keys()
        .map(|name| (name, judge(name, plan)))
        .filter(|(_, class)| *class != Class::Plain && (*class != Class::AwsSignature || signed))
        .map(|(name, class)| (name.clone(), class))
        .collect();
    for (name, class) in doomed {
        headers.remove(&name);
        if class.is_reported() {
            stripped.push(name.as_str().to_owned());
        }
    }
    subprotocol::strip(headers, &mut stripped);
    if trailers {
        // The next connection may carry trailers too; gRPC servers insist on it (RFC 9110 §10.1.4).
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    stripped
}

/// The class of a header in the light of what the service strips and keeps; [`Class::Plain`] for what stays.
fn judge(name: &HeaderName, plan: Option<&Plan>) -> Class {
    let class = Class::of(name);
    let Some(plan) = plan else { return class };
    let is_slot = || plan.credential.iter().flat_map(CredentialSpec::headers).any(|slot| same(slot, name));
    let is_kept = || plan.service.keep.request_headers.contains(name);
    match class {
        Class::HopByHop | Class::Identity | Class::Override => class,
        // How the body is signed is the client's to say; whoever signs anew takes the rest out.
        Class::AwsSignature if name == "x-amz-content-sha256" && signs_for_aws(plan) => Class::Plain,
        _ if is_slot() || plan.service.strip.headers.iter().any(|other| same(other, name)) => {
            Class::Authentication
        }
        _ if is_kept() && name != header::AUTHORIZATION => Class::Plain,
        _ => class,
    }
}

fn signs_for_aws(plan: &Plan) -> bool {
    matches!(&plan.credential, Some(CredentialSpec::Obtained(obtained)) if matches!(obtained.how, How::Aws(_)))
}

/// Whether many servers take these for one header: CGI and WSGI read `-` and `_` alike.
fn same(one: &HeaderName, other: &HeaderName) -> bool {
    let hyphened = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.as_str().len() == other.as_str().len()
        && one.as_str().bytes().map(hyphened).eq(other.as_str().bytes().map(hyphened))
}

/// What a body is read by. It concerns whoever reads the body, so it is not for one connection, whatever the client
/// declares; without it, a server would read another body than was decided about.
fn tells_what_the_body_is(name: &HeaderName) -> bool {
    [header::CONTENT_TYPE, header::CONTENT_ENCODING].contains(name) || name.as_str().starts_with("mcp-")
}

/// What the client declares to be for this connection alone (RFC 9110 §7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !tells_what_the_body_is(name))
        .collect()
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(
        |member| {
            let coding = member.split(|byte| *byte == b';').next().unwrap_or(member);
            coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
        },
    )
}

/// Whether the client signed the request (AWS Signature Version 4): then the signature's other headers go with it.
fn is_signed_by_aws(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amz-security-token")
        || headers.get_all(header::AUTHORIZATION).iter().any(|value| value.as_bytes().starts_with(b"AWS4-"))
}

#[cfg(test)]
mod tests;
