//! What a request header is, judged by its name.

use std::{borrow::Cow, sync::LazyLock};

use http::HeaderName;

/// What a request header is for, and so whether it may travel on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing that concerns egret. Travels on.
    Plain,
    /// For one connection, or about the framing, which is written anew. Never travels on.
    HopByHop,
    /// Says to egret who asks, or is spoken by egret alone. Never travels on.
    Identity,
    /// Asks the upstream to read another method or path than the one that was judged. Never travels on.
    Override,
    /// Says where the request came from or was meant for: an agent's word for it is worth nothing, and egret's
    /// own addresses are nobody's business.
    Routing,
    /// Ties requests together: to a third party it tells about the tenant.
    Trace,
    /// Authenticates.
    Authentication,
    /// Part of an AWS signature; without one it is plain.
    AwsSignature,
}

impl Class {
    /// The class of this name. An underscore counts as a hyphen: CGI and WSGI servers read them as one.
    pub(super) fn of(name: &HeaderName) -> Self {
        let name = name.as_str();
        if name.contains('_') { classify(&name.replace('_', "-")) } else { classify(name) }
    }

    /// Whether the operator reads in the decision log that it was taken away.
    pub(super) fn is_reported(self) -> bool {
        matches!(self, Self::Authentication | Self::AwsSignature | Self::Override)
    }
}

/// Whether a name is one that authenticates. Also used for names that are not headers.
pub(super) fn authenticates(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(&name[..]) };
    classify(&name) == Class::Authentication
}

fn classify(name: &str) -> Class {
    let listed = NAMES.get(name.len()).and_then(|names| names.iter().find(|(listed, _)| *listed == name));
    if let Some((_, class)) = listed {
        return *class;
    }
    if let Some(rest) = name.strip_prefix("x-") {
        for (prefix, class) in PREFIXES {
            if rest.starts_with(prefix) {
                return class;
            }
        }
    }
    // Most names end otherwise, so this is one comparison for them.
    if matches!(name.as_bytes().last(), Some(b'y' | b'n' | b't'))
        && ENDINGS.iter().any(|ending| name.ends_with(ending))
    {
        return Class::Authentication;
    }
    Class::Plain
}

/// Families of names, after `x-`.
const PREFIXES: [(&str, Class); 5] = [
    ("agent-", Class::Identity),
    ("forwarded-", Class::Routing),
    ("envoy-", Class::Routing), //   makes an Envoy at the upstream's edge reroute or skip retries
    ("proxy-", Class::Routing),
    ("ssl-client-", Class::Routing), // what a TLS-terminating edge says about a client certificate
];

/// Names of keys follow few habits: 66 different ones were counted among 981 APIs, and most end like this.
/// A service that means something else by such a name says so with `keep`.
const ENDINGS: [&str; 12] = [
    "-api-key",
    "-apikey",
    "-app-key",
    "-access-key",
    "-secret-key",
    "-subscription-key",
    "-api-token",
    "-access-token",
    "-auth-token",
    "-session-token",
    "-api-secret",
    "-client-secret",
];

/// The listed names by their length, so that a name is compared with the few that are as long.
static NAMES: LazyLock<Vec<Vec<(&'static str, Class)>>> = LazyLock::new(|| {
    let lists: [(&[&str], Class); 7] = [
        (HOP_BY_HOP, Class::HopByHop),
        (IDENTITY, Class::Identity),
        (OVERRIDE, Class::Override),
        (ROUTING, Class::Routing),
        (TRACE, Class::Trace),
        (AUTHENTICATION, Class::Authentication),
        (AWS_SIGNATURE, Class::AwsSignature),
    ];
    let all = || lists.into_iter().flat_map(|(names, class)| names.iter().map(move |name| (*name, class)));
    let longest = all().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut by_length = vec![Vec::new(); longest + 1];
    for (name, class) in all() {
        if let Some(names) = by_length.get_mut(name.len()) {
            names.push((name, class));
        }
    }
    by_length
});

/// RFC 9110 §7.6.1, and what concerns the message's framing or the next hop alone: it is written anew.
#[rustfmt::skip]
const HOP_BY_HOP: &[&str] = &[
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "content-length", "expect", "host", "http2-settings", "via",
    "proxy-authorization", "proxy-authenticate", "proxy-authentication-info",
    "proxy", // becomes `HTTP_PROXY` in a CGI program (CVE-2016-5385)
];

/// Beside `x-agent-*`.
const IDENTITY: &[&str] = &["agent-id", "correlation-id", "x-correlation-id", "x-tenant-id", "x-approval-id"];

/// Frameworks that follow these act on another method or path than the policy saw.
#[rustfmt::skip]
const OVERRIDE: &[&str] = &[
    "x-http-method-override", "x-http-method", "x-method-override", "x-method", "http-method-override",
    "x-original-url", "x-original-uri", "x-rewrite-url", "x-rewrite-uri", "x-original-method", "x-original-path",
    "x-http-path-override", "x-override-url", "x-request-uri", "x-waws-unencoded-url",
];

/// Beside `x-forwarded-*`.
#[rustfmt::skip]
const ROUTING: &[&str] = &[
    "forwarded", "forwarded-for", "x-forwarded", "x-original-host", "x-original-forwarded-for", "x-host",
    "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-true-client-ip", "x-cluster-client-ip",
    "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip", "x-azure-clientip", "x-azure-socketip",
    "x-originating-ip", "x-remote-ip", "x-remote-addr", "x-proxyuser-ip", "x-upstream-https-proxy",
    "client-cert", "client-cert-chain", // RFC 9440
    "x-client-cert", "x-ssl-cert", "x-ms-client-principal", "x-ms-client-principal-id", "x-ms-client-principal-name",
];

const TRACE: &[&str] = &["traceparent", "tracestate", "baggage"];

/// What clients were seen to authenticate with. Many more are caught by [`ENDINGS`].
#[rustfmt::skip]
const AUTHENTICATION: &[&str] = &[
    // HTTP itself.
    "authorization", "authentication", "x-authorization", "x-original-authorization", "x-serverless-authorization",
    "x-authentication", "x-authentication-token", "cookie", "cookie2", "dpop", "signature", "signature-input",
    "sec-token-binding", "x-wsse", "x-registry-auth", "x-mcp-proxy-auth",
    // By habit.
    "api-key", "apikey", "x-apikey", "api-token", "apitoken", "x-apitoken", "app-key", "access-key", "secret-key",
    "access-token", "auth-token", "session-token", "client-secret", "x-auth", "x-auth-key", "x-auth-email",
    "x-token", "x-jwt", "x-jwt-token", "x-id-token", "x-user-token", "x-app-token", "x-access", "x-key", "x-secret",
    "x-bearer-token", "x-session", "x-application-key",
    // By name.
    "private-token", "job-token", "deploy-token", "x-gitlab-token", "x-github-token", "circle-token", // forges
    "x-vault-token", "x-consul-token", "x-nomad-token", "x-tfe-token", //                               HashiCorp
    "x-amz-security-token", "x-aws-ec2-metadata-token", //                                              AWS
    "x-goog-iam-authorization-token", "x-goog-iap-jwt-assertion", "developer-token", //                 Google
    "x-functions-key", "ocp-apim-subscription-key", "x-ms-authorization-auxiliary", "aeg-sas-key",
    "aeg-sas-token", "x-ms-token-aad-access-token", "x-ms-token-aad-id-token", //                       Azure
    "cf-access-client-id", "cf-access-jwt-assertion", "cf-authorization", "cf-access-token", //         Cloudflare
    "dd-application-key", "x-honeycomb-team", "x-insert-key", "x-license-key", "x-query-key", //        observers
    "x-figma-token", "x-trackertoken", "x-subscription-token", "x-rapidapi-proxy-secret", "x-riot-token",
    "x-postmark-server-token", "x-postmark-account-token", "x-plex-token", "x-emby-token", "bhresttoken",
    "wm-sec.access-token", "wm-consumer.id", "x-hasura-admin-secret", "x-parse-master-key", "x-master-key",
    "x-appwrite-key", "x-appwrite-jwt", "x-jfrog-art-api", "x-cloud-trace-token", "x-sentry-auth", "x-ads-token",
];

/// Meaningless without the signature, and no secrets: taken away together with it.
#[rustfmt::skip]
const AWS_SIGNATURE: &[&str] = &["x-amz-date", "x-amz-content-sha256", "x-amz-signature", "x-amz-signedheaders", "x-amz-credential", "x-amz-algorithm"];
