//! The grammar of a policy as tables: which keys a mapping has, and what stands behind each. The reader takes its
//! keys from here, and `egret schema` is written from here, so the two cannot come apart.

use super::{
    host::SHARED,
    pattern::Methods,
    role::{KINDS, NEVER_A_METHOD},
};
use crate::{decide::judge::Mode, target::Method};

/// A mapping with fixed keys.
#[derive(Debug)]
pub(in crate::decide) struct Record {
    pub(in crate::decide) about: &'static str,
    /// Keys that must be there. Of two in a group exactly one must, of more at least one.
    pub(in crate::decide) required: &'static [&'static [&'static str]],
    pub(in crate::decide) keys: &'static [&'static str],
    pub(in crate::decide) members: &'static [Member],
}

/// A key of a record.
#[derive(Debug)]
pub(in crate::decide) struct Member {
    pub(in crate::decide) key: &'static str,
    pub(in crate::decide) shape: &'static Shape,
    /// A sentence for who writes a policy.
    pub(in crate::decide) about: &'static str,
}

/// What stands behind a key.
#[derive(Debug)]
pub(in crate::decide) enum Shape {
    /// `true` or `false`.
    Flag,
    /// Any text; numbers are texts, too.
    Text,
    /// A whole number.
    Number,
    /// A number of bytes, with or without a unit.
    Size,
    /// The number of the grammar's version.
    Version,
    /// One of these.
    Words(&'static [&'static str]),
    /// A text of this form: a regular expression (ECMA-262), without lookbehind.
    Form(fn() -> String),
    /// The same, where a number may have the form, too: one that stands without quotes.
    FormOrNumber(fn() -> String),
    /// A list that is not empty.
    List(&'static Shape),
    /// A mapping with free keys of a form.
    Map(fn() -> String, &'static Shape),
    /// The same, which is not empty.
    Filled(fn() -> String, &'static Shape),
    /// The roles of an agent, by integration; `disabled` is no integration.
    Grants,
    /// A mapping with fixed keys.
    Record(&'static Record),
    /// A mapping with exactly one of the keys.
    OneOf(&'static Record),
    /// One of several.
    Any(&'static [&'static Shape]),
    /// Whatever YAML holds.
    Anything,
}

macro_rules! record {
    ($(#[doc = $doc:literal])* $name:ident: $about:literal, requires [$($required:expr),*], { $($key:literal: $shape:expr, $sentence:literal;)* }) => {
        $(#[doc = $doc])*
        pub(in crate::decide) static $name: Record = Record {
            about: $about,
            required: &[$($required),*],
            keys: &[$($key),*],
            members: &[$(Member { key: $key, shape: &$shape, about: $sentence }),*],
        };
    };
}

record!(POLICY: "What agents may do, where, and with whose credential.", requires [&["version"]], {
    "version": Shape::Version, "The version of this grammar.";
    "mode": Shape::Words(&MODES), "`enforce` (default), or `shadow`: decide and log, never refuse by rule.";
    "revision": Shape::Text, "The policy's name for its version, in every record; by default the commit or the hash.";
    "services": Shape::Map(name, &Shape::Record(&SERVICE)), "What exists out there, and what each role means. Known services need not be described: `egret catalog`.";
    "providers": Shape::Map(name, &Shape::Record(&PROVIDER)), "Who issues tokens. Known providers need not be described.";
    "guards": Shape::List(&Shape::Record(&GUARD)), "What is taken away from everybody.";
    "approvals": Shape::Record(&APPROVALS), "Who is asked where a guard requires an approval.";
    "tenants": Shape::Map(name, &Shape::Record(&TENANT)), "Organisations: their connections to services, and which agent has which role on them.";
    "tests": Shape::List(&Shape::Record(&TEST)), "Promises that every load of the policy must keep.";
});

record!(SERVICE: "What exists out there.", requires [&["hosts", "mcp"], &["roles"]], {
    "hosts": Shape::List(&Shape::Form(host)), "Its hosts: `api.example.com`, `\"*.example.com\"`, `api.example.com:8443`, `\"{subdomain}.example.com\"`.";
    "attach": Shape::Record(&ATTACH), "Where it wants its secrets; an integration then writes `credential: REF`.";
    "attach_token": Shape::Record(&ATTACH), "Where it wants a token that egret obtains: `\"{token}\"`; `Authorization: Bearer` when not said.";
    "errors": Shape::List(&Shape::Record(&ERROR)), "What its errors say about the credential; the first that fits.";
    "scheme": Shape::Words(&["https", "http"]), "How it is reached: `https` (default), or `http`, which sends the credential in clear.";
    "intercept": Shape::Words(&["always", "never"]), "`never`: tunnels pass unopened and without a credential.";
    "allow_private_addresses": Shape::Any(&[&Shape::Flag, &Shape::List(&Shape::Form(network))]), "Whether its names may resolve to private addresses, or to which networks.";
    "strip": Shape::Record(&STRIP), "What is taken from requests beyond the global list.";
    "keep": Shape::Record(&KEEP), "What is let through although it is taken away by default.";
    "max_body": Shape::Size, "The largest request body: `512KiB`, `10MiB`.";
    "via": Shape::Flag, "Whether `Via` is sent (default `true`).";
    "response_timeout": Shape::Form(duration), "From the end of the request to the head of the answer: `30s`, `10m`.";
    "roles": Shape::Filled(name, &Shape::List(&ROLE_LINE)), "What each role may do.";
    "graphql": Shape::Form(graphql_path), "The path of its GraphQL; `/graphql` when not said.";
    "mcp": Shape::Form(endpoint), "The endpoint of an MCP server: `https://mcp.example.com/mcp`.";
    "transport": Shape::Words(&["http", "sse"]), "How the MCP server is spoken to: `http` (default, Streamable HTTP), or `sse` (2024-11-05).";
    "messages": Shape::Form(path), "With `transport: sse`: where messages go; `/message` when not said.";
});

static ROLE_LINE: Shape = Shape::Any(&[&Shape::Form(role_line), &Shape::OneOf(&ROLE_ENTRY)]);

record!(ROLE_ENTRY: "All lines of another role, or the scopes of an OAuth token.", requires [], {
    "include": Shape::FormOrNumber(name), "A role whose lines this one has, too.";
    "scopes": Shape::List(&Shape::FormOrNumber(scope)), "What an OAuth token for this role needs.";
});

record!(STRIP: "What is taken from requests.", requires [], {
    "headers": Shape::List(&Shape::Text), "Names of headers.";
    "query": Shape::List(&Shape::Text), "Keys of the query.";
});

record!(KEEP: "What is let through.", requires [], {
    "request_headers": Shape::List(&Shape::Text), "Request headers, such as `cookie`.";
    "query": Shape::List(&Shape::Text), "Keys of the query.";
    "response_headers": Shape::List(&Shape::Text), "Response headers, such as `set-cookie`.";
    "trailers": Shape::List(&Shape::Text), "Request trailers.";
});

record!(GUARD: "What is taken away from everybody.", requires [&["match"], &["deny", "require"]], {
    "match": Shape::Form(guard_match), "`[SERVICE] METHODS PATH`, `[SERVICE] tool NAME`, `[SERVICE] graphql mutation FIELD`.";
    "deny": Shape::Text, "Refuses, with this sentence for the agent.";
    "require": Shape::Words(&["approval"]), "Asks a human.";
    "when": Shape::Text, "Holds only where this CEL expression over `request`, `token`, `agent`, `tenant` and `time` is true, or cannot be told.";
    "shadow": Shape::Flag, "Only writes down that it would have held.";
});

record!(APPROVALS: "Who is asked where a guard requires an approval.", requires [&["by"]], {
    "by": Shape::Form(approvers), "`group:NAME` or `user:NAME`.";
    "within": Shape::Form(duration), "For how long a yes is good: `15m`.";
    "hold": Shape::Form(duration), "For how long a request is held while a human decides; it is refused at once when not said.";
});

record!(TENANT: "An organisation. Nothing outside it can be named from inside it.", requires [], {
    "disabled": Shape::Flag, "`true` switches the whole tenant off.";
    "mode": Shape::Words(&MODES), "As the policy's `mode`, for this tenant alone.";
    "limit": LIMIT, "One rate for all requests of the tenant: `1000/min`.";
    "integrations": Shape::Map(integration, &INTEGRATION_SHAPE), "The tenant's connections to services.";
    "agents": Shape::Map(agent, &Shape::Grants), "Who may use them as what: `agent: {integration: role}`; `\"*\"` is every agent.";
});

static INTEGRATION_SHAPE: Shape = Shape::Record(&INTEGRATION);

record!(INTEGRATION: "A tenant's connection to a service.", requires [], {
    "service": Shape::FormOrNumber(name), "The service; the one with the integration's own name when not said.";
    "tier": Shape::Words(&["APP", "USER"]), "`APP` (default): the organisation's credential; `USER`: one person's, and the token must name one.";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the service's hosts.";
    "credential": CREDENTIAL, "What is attached: `none`, a reference to a secret, or a kind.";
    "certificate": Shape::Record(&CERTIFICATE), "What egret shows in the handshake, where the service asks who connects.";
    "limit": LIMIT, "How often: `120/min`, or a list of `{rate, per}`.";
    "disabled": Shape::Flag, "`true` switches it off.";
});

const LIMIT: Shape = Shape::Any(&[&Shape::Form(rate), &Shape::List(&Shape::Record(&LIMIT_RULE))]);

record!(LIMIT_RULE: "How often, and whose requests count.", requires [&["rate"]], {
    "rate": Shape::Form(rate), "`120/min`; the units are `s`, `min`, `h` and `d`.";
    "per": Shape::Words(&["tenant", "agent", "user"]), "Whose requests share it.";
});

const CREDENTIAL: Shape = Shape::Any(&[&Shape::Form(reference_or_none), &Shape::OneOf(&CREDENTIAL_KINDS)]);

record!(CREDENTIAL_KINDS: "What is attached.", requires [], {
    "secrets": Shape::Map(word, &Shape::Text), "The secrets that the service's `attach` names.";
    "static": Shape::Record(&STATIC), "Secrets that are attached as they are.";
    "oauth": Shape::Record(&OAUTH), "A grant that a person gives in a browser or on a device (RFC 6749, RFC 8628).";
    "client_credentials": Shape::Record(&CLIENT_CREDENTIALS), "A token for the client itself (RFC 6749 §4.4).";
    "jwt_bearer": Shape::Record(&JWT_BEARER), "A token for a signed assertion (RFC 7523).";
    "jwt": Shape::Record(&JWT), "A token that egret signs itself.";
    "token_exchange": Shape::Record(&TOKEN_EXCHANGE), "A token exchanged for the caller's, or for one that is read (RFC 8693).";
    "github_app": Shape::Record(&GITHUB_APP), "An installation of a GitHub App.";
    "service_account": Shape::Record(&SERVICE_ACCOUNT), "A Google service account.";
    "workload_identity": Shape::Record(&WORKLOAD_IDENTITY), "A Google token for one of another issuer (workload identity federation).";
    "aws_sigv4": Shape::Record(&AWS_SIGV4), "Requests signed for AWS.";
    "login": Shape::Record(&LOGIN), "A token had by requests that the policy describes.";
    "signature": Shape::Record(&SIGNATURE), "Requests signed by templates.";
    "byok": Shape::Record(&BYOK), "A key that each owner deposits in the store.";
});

record!(STATIC: "Where secrets go.", requires [], {
    "bearer": Shape::Form(reference), "`Authorization: Bearer …`.";
    "basic": Shape::Record(&BASIC), "`Authorization: Basic …`; one half is a reference, the other may be a constant or absent.";
    "header": Shape::Filled(any, &Shape::Any(&[&Shape::Form(prefixed_reference), &Shape::Record(&HEADER)])), "A header: `X-Api-Key: \"env:KEY\"`, `Authorization: \"Token env:KEY\"`.";
    "headers": Shape::Filled(any, &Shape::Text), "Constant headers that go with the credential.";
    "query": Shape::Filled(any, &Shape::Form(reference)), "Query parameters.";
    "path": Shape::Filled(path_of_secret, &Shape::Form(reference)), "The place of `*` in the path: `\"/bot*\": \"env:KEY\"`.";
});

record!(ATTACH: "Where a service wants its secrets: `\"{secret}\"`, or `\"{NAME}\"` where there are several.", requires [], {
    "bearer": Shape::Form(placeholder), "`Authorization: Bearer …`.";
    "basic": Shape::Record(&BASIC), "`Authorization: Basic …`.";
    "header": Shape::Filled(any, &Shape::Any(&[&Shape::Form(prefixed_placeholder), &Shape::Record(&HEADER)])), "A header: `X-Api-Key: \"{secret}\"`.";
    "headers": Shape::Filled(any, &Shape::Text), "Constant headers that go with the credential.";
    "query": Shape::Filled(any, &Shape::Form(placeholder)), "Query parameters.";
    "path": Shape::Filled(path_of_secret, &Shape::Form(placeholder)), "The place of `*` in the path.";
});

record!(BASIC: "The halves of a Basic credential (RFC 7617).", requires [], {
    "user": Shape::Text, "Before the colon.";
    "password": Shape::Text, "After it.";
});

record!(HEADER: "A header with text in front of the secret.", requires [&["secret"]], {
    "prefix": Shape::Text, "Text in front, such as `\"Token \"`.";
    "secret": Shape::Text, "The secret.";
});

record!(OAUTH: "A grant that a person gives.", requires [&["provider"]], {
    "provider": Shape::Form(name), "Who issues it: one of `providers`, or one that egret knows.";
    "scopes": Shape::List(&Shape::Text), "What is asked for beside what the roles need.";
    "client_id": Shape::Text, "The client; `secret:PROVIDER-client-id` when not said.";
    "client_secret": Shape::Form(reference), "Its secret; `secret:PROVIDER-client-secret` when not said.";
    "client_auth": CLIENT_AUTH, "How the client authenticates.";
    "private_key": Shape::Form(reference), "The key that signs for the client (`private_key_jwt`).";
    "key_id": Shape::Text, "`kid`.";
    "algorithm": ALGORITHM, "How it signs; `RS256` when not said.";
    "certificate": Shape::Record(&CERTIFICATE), "What the client shows in the handshake (`tls_client_auth`).";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the provider's URLs.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

const CLIENT_AUTH: Shape = Shape::Words(&[
    "basic",
    "basic_raw",
    "basic_secret_as_user",
    "post",
    "private_key_jwt",
    "tls_client_auth",
    "none",
]);
const ALGORITHM: Shape = Shape::Words(&[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384",
    "HS512",
]);

record!(CERTIFICATE: "A certificate and its key.", requires [&["chain"], &["key"]], {
    "chain": Shape::Form(reference), "The certificate and those that lead to its authority, PEM.";
    "key": Shape::Form(reference), "Its private key, PEM.";
});

record!(CLIENT_CREDENTIALS: "A token for the client itself (RFC 6749 §4.4).", requires [&["provider", "token_url"], &["client_id"]], {
    "provider": Shape::Form(name), "Who issues it.";
    "token_url": Shape::Form(url), "The token endpoint, where it needs no further description.";
    "grant_type": Shape::Text, "`client_credentials` when not said.";
    "client_id": Shape::Text, "The client.";
    "client_secret": Shape::Form(reference), "Its secret.";
    "client_auth": CLIENT_AUTH, "How the client authenticates.";
    "private_key": Shape::Form(reference), "The key that signs for the client (`private_key_jwt`).";
    "key_id": Shape::Text, "`kid`.";
    "algorithm": ALGORITHM, "How it signs; `RS256` when not said.";
    "assertion": Shape::Form(reference), "A token that stands for the client, such as a pod's projected one.";
    "certificate": Shape::Record(&CERTIFICATE), "What the client shows in the handshake (`tls_client_auth`).";
    "scopes": Shape::List(&Shape::Text), "What is asked for.";
    "audience": Shape::Text, "For whom the token is.";
    "resource": Shape::Text, "Where it is used (RFC 8707).";
    "params": Shape::Map(any, &Shape::Text), "Further parameters.";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the provider's URLs.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(JWT_BEARER: "A token for a signed assertion (RFC 7523).", requires [&["provider", "token_url"], &["private_key", "assertion"]], {
    "provider": Shape::Form(name), "Who issues it.";
    "token_url": Shape::Form(url), "The token endpoint, where it needs no further description.";
    "private_key": Shape::Form(reference), "The key that signs.";
    "assertion": Shape::Form(reference), "The assertion itself, such as a pod's projected token.";
    "issuer": Shape::Text, "`iss`.";
    "subject": Shape::Text, "`sub`; the issuer when not said.";
    "audience": Shape::Text, "`aud`; the token endpoint when not said.";
    "claims": Shape::Map(any, &Shape::Text), "Further claims.";
    "key_id": Shape::Text, "`kid`.";
    "algorithm": ALGORITHM, "How it is signed; `RS256` when not said.";
    "lifetime": Shape::Form(duration), "From `iat` to `exp`; `5m` when not said.";
    "client_id": Shape::Text, "The client, where the server asks for one.";
    "client_secret": Shape::Form(reference), "Its secret.";
    "client_auth": CLIENT_AUTH, "How the client authenticates.";
    "scopes": Shape::List(&Shape::Text), "What is asked for.";
    "params": Shape::Map(any, &Shape::Text), "Further parameters.";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the provider's URLs.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(JWT: "A token that egret signs itself.", requires [&["private_key", "secret"]], {
    "private_key": Shape::Form(reference), "The key that signs, PEM.";
    "secret": Shape::Form(reference), "The secret of a symmetric signature (`HS256`).";
    "secret_form": Shape::Words(&["text", "hex", "base64"]), "How the secret is written; `text` when not said.";
    "issuer": Shape::Text, "`iss`.";
    "subject": Shape::Text, "`sub`.";
    "audience": Shape::Text, "`aud`.";
    "claims": Shape::Map(any, &Shape::Text), "Further claims.";
    "key_id": Shape::Text, "`kid`.";
    "algorithm": ALGORITHM, "How it is signed; `RS256`, or `HS256` with `secret`, when not said.";
    "lifetime": Shape::Form(duration), "From `iat` to `exp`; `5m` when not said.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(TOKEN_EXCHANGE: "A token exchanged for the caller's, or for one that is read (RFC 8693).", requires [&["idp", "token_url"]], {
    "idp": Shape::Form(name), "Who exchanges: one of `providers`, or one that egret knows.";
    "token_url": Shape::Form(url), "The token endpoint, where it needs no further description.";
    "audience": Shape::Text, "For whom the new token is.";
    "resource": Shape::Text, "Where it is used (RFC 8707).";
    "scopes": Shape::List(&Shape::Text), "What it may do.";
    "subject_token": Shape::Form(reference), "What is exchanged; the caller's own token when not said.";
    "subject_token_type": Shape::Text, "Of which type it is; `urn:ietf:params:oauth:token-type:jwt` when not said.";
    "actor_token": Shape::Form(reference), "Who acts.";
    "actor_token_type": Shape::Text, "Of which type that is.";
    "requested_token_type": Shape::Text, "Of which type the new one shall be.";
    "on_behalf_of": Shape::Flag, "Microsoft's form of it (`requested_token_use=on_behalf_of`).";
    "client_id": Shape::Text, "The client, where the server asks for one.";
    "client_secret": Shape::Form(reference), "Its secret.";
    "client_auth": CLIENT_AUTH, "How the client authenticates.";
    "private_key": Shape::Form(reference), "The key that signs for the client (`private_key_jwt`).";
    "key_id": Shape::Text, "`kid`.";
    "algorithm": ALGORITHM, "How it signs; `RS256` when not said.";
    "assertion": Shape::Form(reference), "A token that stands for the client, such as a pod's projected one.";
    "certificate": Shape::Record(&CERTIFICATE), "What the client shows in the handshake.";
    "params": Shape::Map(any, &Shape::Text), "Further parameters.";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the provider's URLs.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(GITHUB_APP: "An installation of a GitHub App.", requires [&["app_id"], &["installation_id"], &["private_key"]], {
    "app_id": Shape::Number, "The App.";
    "installation_id": Shape::Number, "Its installation.";
    "private_key": Shape::Form(reference), "Its key.";
    "repositories": Shape::List(&Shape::Text), "Only these.";
    "permissions": Shape::Map(any, &Shape::Words(&["read", "write", "admin"])), "Only these.";
    "api_url": Shape::Form(url), "The REST interface; `https://api.github.com` when not said.";
    "allow_private_addresses": Shape::Any(&[&Shape::Flag, &Shape::List(&Shape::Form(network))]), "Whether the REST interface may be at a private address.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(SERVICE_ACCOUNT: "A Google service account.", requires [&["key"]], {
    "key": Shape::Form(reference), "Its key file.";
    "provider": Shape::Form(name), "Who issues its tokens; `google` when not said.";
    "scopes": Shape::List(&Shape::Text), "What is asked for.";
    "subject": Shape::Text, "As whom it acts, by domain-wide delegation.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(WORKLOAD_IDENTITY: "A Google token for one of another issuer.", requires [&["audience"]], {
    "audience": Shape::Text, "`//iam.googleapis.com/projects/…/providers/…`.";
    "token": Shape::Form(reference), "The other issuer's token; the caller's own when not said.";
    "token_type": Shape::Text, "Of which type it is; `urn:ietf:params:oauth:token-type:jwt` when not said.";
    "scopes": Shape::List(&Shape::Text), "What is asked for; the whole platform when not said.";
    "service_account": Shape::Text, "As which service account it acts.";
    "token_url": Shape::Form(url), "The token service; Google's when not said.";
    "impersonate_url": Shape::Form(url), "The service of service accounts' tokens; Google's when not said.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(AWS_SIGV4: "Requests signed for AWS.", requires [], {
    "access_key_id": Shape::Text, "The key's id.";
    "secret_access_key": Shape::Form(reference), "The key.";
    "session_token": Shape::Form(reference), "The session, of temporary keys.";
    "role_arn": Shape::Text, "The role that is assumed: with the keys, or with a token.";
    "web_identity": Shape::Form(reference), "The token that it is assumed with; the caller's own where there are no keys.";
    "session_name": Shape::Text, "How the session is called; the tenant and the integration when not said.";
    "duration": Shape::Form(duration), "How long the role's keys are good; `1h` when not said.";
    "policy": Shape::Text, "What the session may do at most, as JSON.";
    "external_id": Shape::Text, "What the role's owner asks for.";
    "sts_url": Shape::Form(url), "The token service; the region's when not said.";
    "allow_private_addresses": Shape::Any(&[&Shape::Flag, &Shape::List(&Shape::Form(network))]), "Whether the token service may be at a private address, such as a VPC endpoint.";
    "region": Shape::Text, "The region; from the host when not said.";
    "service": Shape::Text, "The service; from the host when not said.";
});

record!(LOGIN: "A token had by requests that the policy describes.", requires [&["steps"]], {
    "secrets": Shape::Map(word, &Shape::Text), "What the requests may name: references, and constants.";
    "steps": Shape::List(&Shape::Record(&STEP)), "The requests, in order; the last brings the token.";
    "certificate": Shape::Record(&CERTIFICATE), "What is shown in the handshake.";
    "ahead": Shape::Form(duration), "How long before its end the token is renewed.";
    "vars": Shape::Map(word, &Shape::Text), "Values for the variables of the URLs.";
    "allow_private_addresses": Shape::Any(&[&Shape::Flag, &Shape::List(&Shape::Form(network))]), "Whether the hosts may resolve to private addresses.";
    "attach": Shape::Record(&ATTACH), "Where the token goes, if not where the service wants it.";
});

record!(STEP: "A request, and what is taken from its answer.", requires [&["url"]], {
    "method": Shape::Words(&["GET", "POST", "PUT", "PATCH"]), "`POST` when not said.";
    "url": Shape::Form(url_with_variables), "Where to.";
    "headers": Shape::Map(any, &Shape::Text), "Its headers: `Authorization: \"Basic {base64(user ':' password)}\"`.";
    "query": Shape::Map(any, &Shape::Text), "Parameters in the URL.";
    "form": Shape::Map(any, &Shape::Text), "A form as its body.";
    "json": Shape::Anything, "JSON as its body.";
    "response": Shape::Record(&RESPONSE), "Where in the answer what stands.";
    "errors": Shape::List(&Shape::Record(&ERROR)), "What its errors mean; the first that fits.";
});

record!(SIGNATURE: "Requests signed by templates, in headers or the query or both.", requires [&["secrets"]], {
    "secrets": Shape::Map(word, &Shape::Text), "What the templates may name: references, and constants.";
    "let": Shape::Map(word, &Shape::Text), "Names that are worked out first: `date: \"{now('rfc2822')}\"`.";
    "headers": Shape::Map(any, &Shape::Text), "Headers; beside the secrets they name `method`, `host`, `path`, `query` and `body_sha256`.";
    "query": Shape::Map(any, &Shape::Text), "Query parameters, likewise.";
});

record!(BYOK: "A key that each owner deposits in the store.", requires [], {
    "name": Shape::Text, "What it is called where the owner is asked for it.";
    "attach": Shape::Record(&ATTACH), "Where the key goes, if not where the service wants it.";
});

record!(PROVIDER: "Who issues tokens: an authorization server.", requires [&["token_url"]], {
    "token_url": Shape::Form(url_with_variables), "The token endpoint.";
    "refresh_url": Shape::Form(url_with_variables), "Where tokens are refreshed, if elsewhere.";
    "authorize_url": Shape::Form(url_with_variables), "Where a person agrees.";
    "device_url": Shape::Form(url_with_variables), "Where a device asks for a code (RFC 8628).";
    "revoke_url": Shape::Form(url_with_variables), "Where tokens are revoked (RFC 7009).";
    "issuer": Shape::Text, "Its identifier (RFC 8414): client assertions are made for it; for `token_url` when not said.";
    "pkce": Shape::Words(&["s256", "off"]), "Whether the code is bound by a challenge (RFC 7636); `s256` when not said.";
    "scope_param": Shape::Text, "The parameter that scopes go to; `scope` when not said.";
    "scope_separator": Shape::Text, "What stands between scopes; a space when not said.";
    "scopes": Shape::List(&Shape::Text), "What a person is always asked for: `[offline_access]`.";
    "authorize_params": Shape::Map(any, &Shape::Text), "Further parameters of the page: `access_type: offline`.";
    "token_params": Shape::Map(any, &Shape::Text), "Further parameters of token requests.";
    "refresh_params": Shape::Map(any, &Shape::Text), "Further parameters of a refresh; `\"{scope}\"` is what was granted.";
    "headers": Shape::Map(any, &Shape::Text), "Constant headers of token requests.";
    "client_auth": CLIENT_AUTH, "How clients authenticate; `basic` when not said.";
    "body": Shape::Words(&["form", "json"]), "How parameters are sent; `form` when not said.";
    "response": Shape::Record(&RESPONSE), "Where in an answer what stands.";
    "rotation": Shape::Words(&["none", "not_reissued", "replace_keep_old", "single_use", "until_replacement_used", "access_exchange"]), "What a refresh does to the refresh token; `single_use` when not said.";
    "reuse_grace": Shape::Form(duration), "For how long a spent refresh token may be presented again, where the provider promises it.";
    "ahead": Shape::Form(duration), "How long before its end a token is renewed; `10m` when not said, at most half its life.";
    "errors": Shape::List(&Shape::Record(&ERROR)), "What errors of the token endpoint mean; the first that fits.";
    "allow_private_addresses": Shape::Any(&[&Shape::Flag, &Shape::List(&Shape::Form(network))]), "Whether its hosts may resolve to private addresses.";
});

record!(RESPONSE: "Where in an answer what stands: names and numbers with dots between; `*` is each item of a list.", requires [], {
    "ok": Shape::Map(any, &EXPECTED), "What must hold for a success: `{ok: true}`.";
    "access_token": PATHS, "The token.";
    "refresh_token": PATHS, "The refresh token.";
    "expires_in": PATHS, "Seconds until the token ends.";
    "expires_at": PATHS, "When it ends: seconds or milliseconds since 1970, or a date (RFC 3339).";
    "lifetime": Shape::Form(duration), "How long it is good where the answer does not say.";
    "scope": PATHS, "The scopes that were granted.";
    "keep": Shape::Map(word, &Shape::Text), "What else is kept, by name: `instance_url: instance_url`.";
});

const PATHS: Shape = Shape::Any(&[&Shape::Text, &Shape::List(&Shape::Text)]);
static EXPECTED: Shape = Shape::Any(&[&Shape::Flag, &Shape::Text, &Shape::List(&Shape::Text)]);

record!(ERROR: "What an error looks like, and what it means.", requires [&["class"]], {
    "status": Shape::Any(&[&Shape::Number, &Shape::List(&Shape::Number)]), "One status, or several; any when not said.";
    "json": Shape::Map(any, &EXPECTED), "What stands in the body: `{error: [invalid_grant]}`; `\"*\"` is anything.";
    "header": Shape::Map(any, &Shape::Text), "Which word stands in a header: `{www-authenticate: insufficient_claims}`; `\"*\"` is anything.";
    "class": Shape::Words(&["expired", "revoked", "scope_missing", "interaction", "rate_limited", "transient", "misconfigured", "other"]), "What it means.";
    "wait": Shape::Record(&WAIT), "Where it says how long to wait.";
    "code": Shape::Text, "Where the provider's own code stands.";
});

record!(WAIT: "Where an error says how long to wait.", requires [&["header", "json"]], {
    "header": Shape::Text, "The header.";
    "json": Shape::Text, "The place in the body.";
    "unit": Shape::Words(&["s", "ms", "epoch", "epoch_ms"]), "What the number means; `s` when not said.";
});

record!(TEST: "What must hold.", requires [&["as"], &["allow", "deny", "approve"]], {
    "as": Shape::Form(who), "`TENANT/AGENT`.";
    "user": Shape::Text, "The user that the token names.";
    "at": Shape::Text, "When it is asked: `2026-11-24T22:30:00Z`.";
    "allow": Shape::List(&Shape::Form(request)), "Requests that are allowed.";
    "deny": Shape::List(&Shape::Form(request)), "Requests that are refused.";
    "approve": Shape::List(&Shape::Form(request)), "Requests that are allowed once a human agrees.";
});

const MODES: [&str; 2] = [Mode::WORDS[0].0, Mode::WORDS[1].0];

/// `oauth`, `github_app`, …: kinds of credentials that are obtained for a time.
pub(in crate::decide) fn obtained(kind: &str) -> Option<&'static Record> {
    let member = CREDENTIAL_KINDS.members.iter().find(|member| member.key == kind)?;
    match member.shape {
        Shape::Record(record) if kind != "static" => Some(record),
        _ => None,
    }
}

fn any() -> String {
    ".".to_owned()
}

const NAME: &str = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}";
const AGENT: &str = "[A-Za-z0-9][A-Za-z0-9_.~/-]{0,127}";
const WORD: &str = "[a-z][a-z0-9_]{0,31}";

pub(in crate::decide) fn name() -> String {
    format!("^{NAME}$")
}

/// `disabled` is a word of agents.
pub(in crate::decide) fn integration() -> String {
    format!("^(?!disabled$){NAME}$")
}

fn agent() -> String {
    format!(r"^(\*|{AGENT})$")
}

fn word() -> String {
    format!("^{WORD}$")
}

fn scope() -> String {
    r"^[!#-\[\]-~]+$".to_owned()
}

fn network() -> String {
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/([0-9]{1,2}|1[01][0-9]|12[0-8]))$"
        .to_owned()
}

const LABEL: &str = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?";
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const PORT: &str =
    "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";
/// A name whose last label is a number is read as an address.
const NO_NUMBER: &str = r"(?!([^:/]*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)\.?(:|/|$))";
/// The best known suffixes of registries that have two labels; the loader knows all of them.
const REGISTRIES: [&str; 12] = [
    "co.uk", "org.uk", "ac.uk", "gov.uk", "com.au", "net.au", "org.au", "co.nz", "co.jp", "com.br", "com.cn",
    "co.in",
];

/// A host as a part of an expression: an address, a name, or a name with variables.
fn one_host() -> String {
    let (first, rest) = (format!(r"(\{{{WORD}\}}|[A-Za-z0-9_])"), format!(r"(\{{{WORD}\}}|[A-Za-z0-9_-])"));
    let open = format!("{first}({rest}*{first})?");
    format!(
        r"(\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]|{OCTET}(\.{OCTET}){{3}}|{NO_NUMBER}({LABEL}(\.{LABEL})*|(?=[^/]*\{{){open}(\.{open})*)\.?){PORT}"
    )
}

fn host() -> String {
    let shared = SHARED.into_iter().chain(REGISTRIES).map(|name| name.replace('.', r"\."));
    let shared = shared.collect::<Vec<_>>().join("|");
    let one = one_host();
    format!(r"^({one}|\*\.(?!({shared})\.?(:|$)){NO_NUMBER}{LABEL}(\.{LABEL})+\.?{PORT})$")
}

/// What is refused in a path because servers read it in two ways, as lookaheads. The path must be the end of the text.
const ONE_MEANING: &str = concat!(
    r"(?!\S*//)",
    r"(?!\S*/(\.|%2[eE]){1,2}(%20)*(/|$))",
    r"(?!\S*%(2[fF]|5[cC]|3[bB]|[01][0-9A-Fa-f]|7[fF]))",
    r"(?!\S*%25(2[eEfF5]|5[cC]|[01]\S|3[bB]|7[fF]))",
);
/// `**` is a segment of its own, at the end.
const REST_LAST: &str = r"(?!\S*\*\*\S)(?!\S*[^/\s]\*\*)";
const PATH: &str = r#"/([!"$&-:<->@-\[\]-~]|%[0-9A-Fa-f]{2})*"#;

/// A path pattern of a role or a guard, as a part of an expression.
fn pattern() -> String {
    format!("{ONE_MEANING}{REST_LAST}{PATH}")
}

fn path() -> String {
    format!("^{}$", pattern())
}

/// One path, not many.
fn graphql_path() -> String {
    format!(r"^(?!\S*\*\*){ONE_MEANING}{PATH}$")
}

/// The secret stands for the one `*`, in the last segment.
fn path_of_secret() -> String {
    format!(r"^(?=[^*]*\*[^*/]*$){ONE_MEANING}{PATH}$")
}

fn endpoint() -> String {
    format!(r"^https?://(?!\S*\*){}({})?$", one_host(), pattern())
}

/// Of a token endpoint, which may have a query.
fn url() -> String {
    format!(r"^https://(?!\*)(?![^/]*\{{){}({ONE_MEANING}{PATH}([?#][!-:<-~]*)?)?$", one_host())
}

/// The same with variables, and in clear on this machine.
fn url_with_variables() -> String {
    r"^https?://[!-~]+$".to_owned()
}

/// A whole number that is not zero; the reader takes a sign, too.
const COUNT: &str = r"\+?0*[1-9][0-9]*";

pub(in crate::decide) fn size() -> String {
    format!(r"^{COUNT}\s*(B|KiB|MiB|GiB)?$")
}

fn duration() -> String {
    format!("^{COUNT}(ms|s|m|h|d)$")
}

fn rate() -> String {
    format!("^{COUNT}/(s|min|h|d)$")
}

fn who() -> String {
    format!("^{NAME}/{AGENT}$")
}

fn approvers() -> String {
    r"^(group|user):\S+$".to_owned()
}

fn reference() -> String {
    format!("^{REFERENCE}$")
}

fn reference_or_none() -> String {
    format!("^(none|{REFERENCE})$")
}

fn prefixed_reference() -> String {
    format!("^(.+ )?{REFERENCE}$")
}

fn placeholder() -> String {
    format!(r"^\{{{WORD}\}}$")
}

fn prefixed_placeholder() -> String {
    format!(r"^.*\{{{WORD}\}}$")
}

const REFERENCE: &str = concat!(
    "(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|(secret|exec|remote):[A-Za-z0-9_./-]+|vault:[A-Za-z0-9_./-]+#[A-Za-z0-9_./-]+",
    "|aws-sm:[A-Za-z0-9_./:+=@!-]+(#[A-Za-z0-9_./-]+)?)",
);
const GRAPHQL: &str = r"graphql\s+(query|mutation)";
const GRPC: &str = r"(?!\S*\*\*$)/[^/\s]+/[^/\s]*";

fn methods() -> String {
    let names: Vec<&str> = Methods::names().collect();
    format!("({0})(\\|({0}))*", names.join("|"))
}

fn kinds() -> String {
    format!("({})", KINDS.map(crate::mcp::Named::as_str).join("|"))
}

fn role_line() -> String {
    let (methods, kinds, pattern) = (methods(), kinds(), pattern());
    let never = NEVER_A_METHOD.map(|(method, _)| method).join("|");
    format!(
        r"^({methods} +{pattern}|(?!method +({never})$){kinds} +\S+|{GRAPHQL}( +\S+)?|grpc +{pattern_of_grpc}|connect)$",
        pattern_of_grpc = grpc()
    )
}

fn guard_match() -> String {
    let (methods, kinds, pattern, grpc) = (methods(), kinds(), pattern(), grpc());
    format!(r"^\s*(\S+\s+)?({methods}\s+(\*\*|{pattern})|{kinds}\s+\S+|{GRAPHQL}(\s+\S+)?|grpc\s+{grpc})\s*$")
}

fn grpc() -> String {
    format!("{ONE_MEANING}{GRPC}")
}

fn request() -> String {
    let methods = Method::NAMED.map(Method::as_str).join("|");
    let kinds = kinds();
    let at = r"\s+@\s+https?://\S+";
    format!(
        r"^\s*(({methods})\s+https?://\S+|CONNECT\s+\S+:[0-9]+|{kinds}\s+\S+{at}|{GRAPHQL}\s+\S+{at}|grpc\s+\S+{at})(\s+via\s+{NAME})?\s*$"
    )
}
