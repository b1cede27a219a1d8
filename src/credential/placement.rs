//! Puts secrets where the upstream looks for them. The one file in which they are exposed.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use super::source::{Flaw, Missing, Read, Sources, Stamp};
use crate::{
    audit,
    plan::{Half, Placement, SecretRef},
    refusal::Reason,
    scrub::Needles,
    secret::{Secret, masked},
};

/// All but the unreserved characters (RFC 3986 §2.3): read alike by everyone.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// All but what may stand in a segment as it is (RFC 3986 §3.3): Telegram's tokens have a `:`. A `;` would begin
/// parameters for some.
#[rustfmt::skip]
const SEGMENT: &AsciiSet = &QUERY.remove(b'!').remove(b'$').remove(b'&').remove(b'\'').remove(b'(').remove(b')')
    .remove(b'*').remove(b'+').remove(b',').remove(b'=').remove(b':').remove(b'@');

/// Secrets that are attached as they are, and how a later use sees whether they still are the ones.
pub(super) struct Static {
    /// What it was made from; a reload may bring another under the same name.
    placements: Vec<Placement>,
    /// Which versions of the secrets it was made from.
    stamps: Vec<(SecretRef, Stamp)>,
    pub(super) prepared: Arc<Prepared>,
    /// The provider says that it is dead. Another version of the secret is another `Static`.
    rejected: OnceLock<Option<String>>,
}

impl Static {
    /// Remembers that the provider said that it is dead, with the provider's own code.
    pub(super) fn reject(&self, code: Option<String>) {
        // Whoever was first is right, too.
        let _ = self.rejected.set(code);
    }

    /// Itself, unless it is known to be dead.
    pub(super) fn unless_rejected(self: Arc<Self>) -> Result<Arc<Self>, Reason> {
        match self.rejected.get() {
            None => Ok(self),
            Some(code) => Err(Reason::AuthRevoked { code: code.clone(), connect: None }),
        }
    }

    /// Reads the secrets and formats them.
    pub(super) async fn read(placements: &[Placement], sources: Sources<'_>) -> Result<Self, Missing> {
        let (mut found, mut stamps) = (HashMap::new(), Vec::new());
        let mut references: Vec<&SecretRef> = Vec::new();
        for reference in placements.iter().flat_map(Placement::secrets) {
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        let all = sources.read_all(&references).await?;
        for (reference, Read { secret, stamp }) in references.into_iter().zip(all) {
            found.insert(reference.clone(), secret);
            stamps.push((reference.clone(), stamp));
        }
        let references: Vec<String> = stamps.iter().map(|(reference, _)| reference.to_string()).collect();
        let record = audit::Credential {
            kind: "static",
            reference: references.join(", ").into(),
            scopes_hash: None,
            token_age_bucket: "static",
            masked: None,
        };
        let prepared = Arc::new(Prepared::make(placements, found, record)?);
        Ok(Self { placements: placements.to_vec(), stamps, prepared, rejected: OnceLock::new() })
    }

    /// Whether it still is what the policy says, made from the secrets as they are now.
    pub(super) async fn is_fresh(&self, placements: &[Placement], sources: Sources<'_>) -> bool {
        if self.placements != *placements {
            return false;
        }
        for (reference, stamp) in &self.stamps {
            if !sources.is_fresh(reference, stamp).await {
                return false;
            }
        }
        true
    }
}

/// A credential that is ready to attach.
///
/// Purposefully not `Debug`: the header values are marked sensitive, the rest are [`Secret`]s.
pub(super) struct Prepared {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// `key=value` parts, encoded and joined.
    query: Option<Secret>,
    path: Vec<Segment>,
    needles: Option<Arc<Needles>>,
    record: audit::Credential,
}

/// A path segment that holds a secret.
struct Segment {
    before: Vec<String>,
    prefix: String,
    suffix: String,
    /// Encoded.
    secret: Secret,
}

/// Says which secret goes somewhere: a reference, or the name of a token's part.
pub(super) trait Slot: Clone + Eq + Hash + fmt::Display {}

impl<S: Clone + Eq + Hash + fmt::Display> Slot for S {}

impl Prepared {
    /// Formats what was found for these places.
    pub(super) fn make<S: Slot>(
        placements: &[Placement<S>],
        found: HashMap<S, Arc<Secret>>,
        record: audit::Credential,
    ) -> Result<Self, Missing> {
        let mut making = Making::new(found);
        for placement in placements {
            making.place(placement)?;
        }
        Ok(making.finish(record))
    }

    /// Sets the headers, and gives path and query as they are to be sent.
    pub(super) fn apply(
        &self,
        headers: &mut HeaderMap,
        path: &str,
        query: Option<&str>,
    ) -> Result<PathAndQuery, Reason> {
        let path_and_query = self.path_and_query(path, query)?;
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(path_and_query)
    }

    #[expect(clippy::disallowed_methods, reason = "the secret leaves in the request's path and query")]
    fn path_and_query(&self, path: &str, query: Option<&str>) -> Result<PathAndQuery, Reason> {
        let mut text = Vec::with_capacity(path.len() + query.map_or(0, str::len) + 128);
        if let Some(unfit) = self.path.iter().find(|segment| !segment.fits(path)) {
            return Err(unfit.refusal());
        }
        for (index, segment) in path.split('/').skip(1).enumerate() {
            text.push(b'/');
            match self.path.iter().find(|slot| slot.before.len() == index) {
                Some(slot) => {
                    text.extend_from_slice(slot.prefix.as_bytes());
                    text.extend_from_slice(slot.secret.expose());
                    text.extend_from_slice(slot.suffix.as_bytes());
                }
                None => text.extend_from_slice(segment.as_bytes()),
            }
        }
        let secret = self.query.as_ref().map(Secret::expose);
        let query = query.map(str::as_bytes).filter(|query| !query.is_empty() || secret.is_none());
        for (part, mark) in query.into_iter().chain(secret).zip([b'?', b'&']) {
            text.push(mark);
            text.extend_from_slice(part);
        }
        parse(text)
    }

    /// What the answer must not hold.
    pub(super) fn needles(&self) -> Option<Arc<Needles>> {
        self.needles.clone()
    }

    /// What the decision log says of it.
    pub(super) fn record(&self) -> audit::Credential {
        self.record.clone()
    }
}

/// Path and query of a request that carries no secret in them.
pub(super) fn without_secret(path: &str, query: Option<&str>) -> Result<PathAndQuery, Reason> {
    let mut text = path.as_bytes().to_vec();
    if let Some(query) = query {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    parse(text)
}

fn parse(text: Vec<u8>) -> Result<PathAndQuery, Reason> {
    // The parts were parsed before, so what is left to go wrong is the length. The parser's error is not shown.
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| Reason::RequestMalformed {
        what: "the path and query are too long",
        token: "uri-too-long",
        status: 400,
    })
}

impl Segment {
    fn fits(&self, path: &str) -> bool {
        let mut segments = path.split('/').skip(1);
        let leads = self.before.iter().all(|literal| segments.next() == Some(literal));
        leads
            && segments.next().is_some_and(|segment| {
                segment.strip_prefix(&*self.prefix).is_some_and(|rest| rest.ends_with(&*self.suffix))
            })
    }

    fn refusal(&self) -> Reason {
        let mut place: String = self.before.iter().flat_map(|literal| ["/", literal]).collect();
        place.extend(["/", &self.prefix, "*", &self.suffix]);
        Reason::ActionDenied {
            detail: format!("the path has no place for the credential: it begins with `{place}`"),
            needed_role: None,
            granted_role: None,
        }
    }
}

/// A credential in the making.
struct Making<S> {
    found: HashMap<S, Arc<Secret>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Zeroizing<Vec<u8>>,
    path: Vec<Segment>,
    /// What the upstream is told, in every cut in which it may tell it back.
    echoes: Vec<Secret>,
    masked: Option<Arc<str>>,
}

impl<S: Slot> Making<S> {
    fn new(found: HashMap<S, Arc<Secret>>) -> Self {
        Self {
            found,
            headers: Vec::new(),
            query: Zeroizing::default(),
            path: Vec::new(),
            echoes: Vec::new(),
            masked: None,
        }
    }

    fn place(&mut self, placement: &Placement<S>) -> Result<(), Missing> {
        match placement {
            Placement::Bearer(secret) => self.header(&header::AUTHORIZATION, "Bearer ", secret),
            Placement::Header { name, prefix, secret } => self.header(name, prefix, secret),
            Placement::Basic { user, password } => self.basic(user, password),
            Placement::Query { name, secret } => self.query(name, secret),
            Placement::Path { before, prefix, suffix, secret } => {
                self.segment(before, prefix, suffix, secret)
            }
            Placement::Constant { name, value } => {
                self.headers.push((name.clone(), value.clone()));
                Ok(())
            }
        }
    }

    /// A secret that fits into a request: a line break in it would end a header and begin another (CWE-113).
    fn resolve(&self, slot: &S) -> Result<Arc<Secret>, Missing> {
        // All of them were read before.
        let found = self.found.get(slot).cloned().ok_or_else(|| Missing::new(slot, Flaw::NotSet))?;
        if found.has_control() { Err(Missing::new(slot, Flaw::ControlCharacter)) } else { Ok(found) }
    }

    #[expect(clippy::disallowed_methods, reason = "the secret is formatted as a header's value")]
    fn header(&mut self, name: &HeaderName, prefix: &str, reference: &S) -> Result<(), Missing> {
        let secret = self.resolve(reference)?;
        let bare = without_prefix(secret.expose(), prefix, reference);
        if bare.is_empty() {
            return Err(Missing::new(reference, Flaw::Empty));
        }
        let text = Zeroizing::new([prefix.as_bytes(), bare].concat());
        self.value(name, &text).map_err(|flaw| Missing::new(reference, flaw))?;
        // `Bearer x` as a whole in the secret: the upstream may tell `x` back.
        if let Some(space) = bare.iter().rposition(|byte| *byte == b' ') {
            self.echo(bare.get(space + 1..).unwrap_or_default());
        }
        self.echo(bare);
        self.show(bare);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the secret is formatted as Basic authentication")]
    fn basic(&mut self, user: &Half<S>, password: &Half<S>) -> Result<(), Missing> {
        let mut text = Zeroizing::new(Vec::new());
        let mut secret_of = None;
        for (half, end) in [(user, &b":"[..]), (password, b"")] {
            match half {
                Half::Constant(constant) => text.extend_from_slice(constant.as_bytes()),
                Half::Secret(reference) => {
                    let secret = self.resolve(reference)?;
                    if !end.is_empty() && secret.expose().contains(&b':') {
                        return Err(Missing::new(reference, Flaw::Colon));
                    }
                    text.extend_from_slice(secret.expose());
                    self.echo(secret.expose());
                    self.show(secret.expose());
                    secret_of = Some(reference);
                }
            }
            text.extend_from_slice(end);
        }
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*text)));
        if let Some(reference) = secret_of {
            self.echo(&text);
            return self
                .value(&header::AUTHORIZATION, value.as_bytes())
                .map_err(|flaw| Missing::new(reference, flaw));
        }
        // Base64 is always a valid value.
        let _ = self.value(&header::AUTHORIZATION, value.as_bytes());
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the secret is encoded for the query")]
    fn query(&mut self, name: &str, reference: &S) -> Result<(), Missing> {
        let secret = self.resolve(reference)?;
        let encoded = Zeroizing::new(percent_encode(secret.expose(), QUERY).to_string());
        if !self.query.is_empty() {
            self.query.push(b'&');
        }
        self.query.extend(percent_encode(name.as_bytes(), QUERY).flat_map(str::bytes));
        self.query.push(b'=');
        self.query.extend_from_slice(encoded.as_bytes());
        self.echo(encoded.as_bytes());
        self.echo(secret.expose());
        self.show(secret.expose());
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the secret is encoded for a path segment")]
    fn segment(
        &mut self,
        before: &[String],
        prefix: &str,
        suffix: &str,
        reference: &S,
    ) -> Result<(), Missing> {
        let secret = self.resolve(reference)?;
        let encoded = Zeroizing::new(percent_encode(secret.expose(), SEGMENT).to_string());
        self.echo(encoded.as_bytes());
        self.echo(secret.expose());
        self.show(secret.expose());
        self.path.push(Segment {
            before: before.to_vec(),
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            secret: Secret::new(encoded.as_bytes().to_vec()),
        });
        Ok(())
    }

    fn value(&mut self, name: &HeaderName, text: &[u8]) -> Result<(), Flaw> {
        let mut value = HeaderValue::from_bytes(text).map_err(|_| Flaw::ControlCharacter)?;
        value.set_sensitive(true);
        self.headers.push((name.clone(), value));
        Ok(())
    }

    fn echo(&mut self, text: &[u8]) {
        self.echoes.push(Secret::new(text.to_vec()));
    }

    /// Lets the log show the end of a secret that is long enough; of several, the first.
    fn show(&mut self, secret: &[u8]) {
        if self.masked.is_none() {
            self.masked = masked(secret).map(Into::into);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the scrub must know what it looks for")]
    fn finish(mut self, record: audit::Credential) -> Prepared {
        let echoes: Vec<&[u8]> = self.echoes.iter().map(Secret::expose).collect();
        let needles = Needles::of(&echoes).map(Arc::new);
        let query = std::mem::take(&mut *self.query);
        Prepared {
            headers: self.headers,
            query: Some(Secret::new(query)).filter(|query| !query.is_empty()),
            path: self.path,
            needles,
            record: audit::Credential { masked: self.masked, ..record },
        }
    }
}

/// The secret without a scheme that stands in it already: `Bearer Bearer x` helps nobody.
fn without_prefix<'a>(secret: &'a [u8], prefix: &str, reference: &impl fmt::Display) -> &'a [u8] {
    if !prefix.is_empty() && secret.eq_ignore_ascii_case(prefix.trim_end().as_bytes()) {
        return &[]; // nothing but the scheme
    }
    match secret.split_at_checked(prefix.len()) {
        Some((start, rest)) if !start.is_empty() && start.eq_ignore_ascii_case(prefix.as_bytes()) => {
            tracing::warn!(%reference, prefix, "this secret begins with its scheme, which is not sent twice");
            rest.trim_ascii_start()
        }
        _ => secret,
    }
}
