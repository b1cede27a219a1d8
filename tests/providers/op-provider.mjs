// What oidc-provider is told: clients, tokens, bindings; and the two grants that it has not, RFC 8693 and RFC 7523.
import { X509Certificate, createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createLocalJWKSet, jwtVerify } from "jose";
import { Provider, errors } from "oidc-provider";

export const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const DEVICE = "urn:ietf:params:oauth:grant-type:device_code";
const TYPE = "urn:ietf:params:oauth:token-type:";
// Google refuses an assertion that lives longer.
const LONGEST_ASSERTION = 3600;
// The extra claims of a token, until it is saved.
const extra = new WeakMap();

export function publicJwk({ key, kid, alg }) {
  return { ...createPublicKey(readFileSync(key)).export({ format: "jwk" }), kid, alg, use: "sig" };
}

/** `op` is the part of servers.json, `control` what the tests may change while it runs. */
export function makeProvider(op, control) {
  const jwk = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
  const signing = { ...jwk, kid: "op", alg: "ES256", use: "sig" };
  const provider = new Provider(op.url, configuration(op, control, signing));
  provider.registerGrantType(
    EXCHANGE,
    (ctx) => exchange(provider, op, control, ctx),
    ["subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type", "audience",
      "resource", "scope"],
    ["audience", "resource"],
  );
  provider.registerGrantType(
    BEARER,
    (ctx) => bearer(provider, op, control, ctx),
    ["assertion", "requested_token_use", "resource", "scope"],
  );
  allowMoreRedirects(provider, control);
  const { d, ...published } = signing;
  return { provider, keys: createLocalJWKSet({ keys: [published] }) };
}

function clients({ clients, url }) {
  const code = { redirect_uris: [clients.code.redirect_uri], response_types: ["code"] };
  const none = { redirect_uris: [], response_types: [] };
  const machine = { ...none, grant_types: ["client_credentials"] };
  const user = { ...code, grant_types: ["authorization_code", "refresh_token"] };
  const key = (client) => ({
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: client.alg,
    jwks: { keys: [publicJwk(client)] },
  });
  const of = {
    basic: { ...machine, token_endpoint_auth_method: "client_secret_basic" },
    post: { ...machine, token_endpoint_auth_method: "client_secret_post" },
    es256: { ...machine, ...key(clients.es256) },
    ps256: { ...machine, ...key(clients.ps256) },
    mtls: {
      ...machine,
      token_endpoint_auth_method: "tls_client_auth",
      tls_client_auth_san_dns: clients.mtls.san_dns,
      tls_client_certificate_bound_access_tokens: true,
    },
    dpop: {
      ...user,
      grant_types: [...user.grant_types, ...machine.grant_types],
      token_endpoint_auth_method: "client_secret_basic",
      dpop_bound_access_tokens: true,
    },
    code: { ...user, token_endpoint_auth_method: "client_secret_basic" },
    public: { ...user, token_endpoint_auth_method: "none", application_type: "native" },
    device: { ...none, grant_types: [DEVICE, "refresh_token"], token_endpoint_auth_method: "none" },
    exchange: { ...none, grant_types: [EXCHANGE, BEARER], token_endpoint_auth_method: "client_secret_basic" },
    // Whoever comes with an assertion and no client authentication, as Google, Anthropic and OpenAI take them.
    federated: { ...none, grant_types: [EXCHANGE, BEARER], token_endpoint_auth_method: "none" },
  };
  return Object.entries(of).map(([name, metadata]) => ({
    client_id: clients[name].id,
    client_secret: clients[name].secret,
    ...metadata,
  }));
}

function configuration(op, control, signing) {
  const { resource } = op;
  const lifetime = () => control.access_token_ttl;
  return {
    clients: clients(op),
    clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "none"],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    clockTolerance: 0,
    cookies: { keys: [randomBytes(32).toString("hex")] },
    expiresWithSession: () => false,
    extraTokenClaims: (ctx) => extra.get(ctx),
    issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
    jwks: { keys: [signing] },
    pkce: { required: () => true },
    rotateRefreshToken: () => control.rotate,
    scopes: ["openid", "offline_access", "read", "write"],
    ttl: {
      AccessToken: lifetime,
      ClientCredentials: lifetime,
      RefreshToken: () => control.refresh_token_ttl,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 600,
      Session: 86400,
    },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => control.dpop_nonce },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => peer(ctx.socket),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === "tls_client_auth_san_dns" && names(peer(ctx.socket)).includes(expected),
      },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, wanted) => resourceServer(resource, wanted, lifetime()),
      },
    },
  };
}

function resourceServer(resource, wanted, lifetime) {
  if (wanted !== resource) throw new errors.InvalidTarget();
  return {
    scope: "read write",
    audience: resource,
    accessTokenTTL: lifetime,
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: "ES256" } },
  };
}

/** The client's certificate, if the TLS connection had one. */
export function peer(socket) {
  const certificate = socket.getPeerX509Certificate?.();
  return certificate && new X509Certificate(certificate.raw);
}

function names(certificate) {
  return (certificate?.subjectAltName ?? "").split(", ").flatMap((name) => name.match(/^DNS:(.*)$/)?.[1] ?? []);
}

// Redirect URIs are compared exactly; those of a test's own egret have a port that is known late.
function allowMoreRedirects(provider, control) {
  const { redirectUriAllowed } = provider.Client.prototype;
  provider.Client.prototype.redirectUriAllowed = function allowed(uri) {
    return redirectUriAllowed.call(this, uri) || control.redirect_uris.includes(uri);
  };
}

// RFC 8693: a trusted issuer's JWT, or a token of our own, for one of ours.
async function exchange(provider, op, control, ctx) {
  const { params, client } = ctx.oidc;
  const requested = params.requested_token_type;
  if (requested && ![`${TYPE}access_token`, `${TYPE}jwt`].includes(requested)) {
    throw new errors.InvalidRequest("requested_token_type is not supported");
  }
  const subject = await token(provider, op, control, params.subject_token, params.subject_token_type, client);
  const claims = {};
  if (params.actor_token) {
    const actor = await token(provider, op, control, params.actor_token, params.actor_token_type, client);
    claims.act = { sub: actor.sub, iss: actor.iss };
  }
  const resource = params.resource ?? params.audience;
  await issue(provider, op, control, ctx, subject, claims, resource, `${TYPE}access_token`);
}

async function token(provider, op, control, value, type, client) {
  if (!value || !type) throw new errors.InvalidRequest("token and its type go together");
  if (type === `${TYPE}access_token`) {
    const found = await provider.AccessToken.find(value);
    if (!found?.isValid) throw new errors.InvalidGrant("token is not active");
    return { iss: op.url, sub: found.accountId };
  }
  if (![`${TYPE}jwt`, `${TYPE}id_token`].includes(type)) throw new errors.InvalidRequest("token type is not supported");
  return verify(control, value, [op.url, op.token_url, client.clientId]);
}

// RFC 7523, and Microsoft's on-behalf-of, whose assertion is the user's token for the client.
async function bearer(provider, op, control, ctx) {
  const { params, client } = ctx.oidc;
  if (!params.assertion) throw new errors.InvalidRequest("assertion is missing");
  const behalf = params.requested_token_use === "on_behalf_of";
  const claims = await verify(control, params.assertion, behalf ? [client.clientId] : [op.url, op.token_url]);
  if (!behalf) {
    if (claims.exp - claims.iat > LONGEST_ASSERTION) throw new errors.InvalidGrant("assertion lives too long");
    if (claims.jti && !(await provider.ReplayDetection.unique(claims.iss, claims.jti, claims.exp))) {
      throw new errors.InvalidGrant("assertion was used before");
    }
  }
  await issue(provider, op, control, ctx, claims, {}, params.resource, undefined);
}

async function verify(control, jwt, audience) {
  for (const { issuer, jwks } of control.trust) {
    try {
      const options = { issuer, audience, requiredClaims: ["exp", "iat", "sub"] };
      return (await jwtVerify(jwt, createLocalJWKSet(jwks), options)).payload;
    } catch (error) {
      console.error(`not of ${issuer}: ${error.message}`);
    }
  }
  throw new errors.InvalidGrant("no trusted issuer made this");
}

async function issue(provider, op, control, ctx, subject, claims, resource, issuedTokenType) {
  const { client, params } = ctx.oidc;
  if (Array.isArray(resource)) throw new errors.InvalidTarget("only one resource or audience");
  const { grant_type: gty, scope } = params;
  const made = new provider.AccessToken({ accountId: subject.sub, client, gty, scope });
  if (resource) {
    made.resourceServer = new provider.ResourceServer(
      resource,
      resourceServer(op.resource, resource, control.access_token_ttl),
    );
  }
  extra.set(ctx, { ...claims, subject_issuer: subject.iss });
  const value = await made.save();
  ctx.body = {
    access_token: value,
    issued_token_type: issuedTokenType,
    token_type: made.tokenType,
    expires_in: made.expiration,
    scope: made.scope,
  };
}
