// The protected resource: looks into the token that came, its binding too, and answers with what it got.
import { createHash } from "node:crypto";
import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from "jose";
import { peer } from "./op-provider.mjs";

const SECRETS = ["authorization", "dpop", "cookie"];
// How old a proof of possession may be.
const PROOF_AGE = 300;

/** Answers for `/api/echo`, which any token opens, and `/api/write`, which needs that scope. */
export class Api {
  #proofs = new Set();

  constructor(provider, keys, op, control) {
    Object.assign(this, { provider, keys, op, control });
  }

  async answer(request, body) {
    const { pathname, searchParams } = new URL(request.url, "https://api");
    try {
      const [scheme, value] = credential(request);
      const token = await this.#look(value);
      await this.#bound(request, scheme, value, token);
      if (pathname === "/api/write" && !(token.scope ?? "").split(" ").includes("write")) {
        throw new Refused(403, "insufficient_scope", scheme, { scope: "write" });
      }
      if (!["/api/echo", "/api/write"].includes(pathname)) return { status: 404, body: { error: "not_found" } };
      const headers = Object.entries(request.headers).filter(([name]) => !SECRETS.includes(name));
      return {
        status: 200,
        body: {
          method: request.method, path: pathname, query: Object.fromEntries(searchParams),
          headers: Object.fromEntries(headers), body: body.toString(), scheme, token,
        },
      };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return error.answer();
    }
  }

  // What the token means; the token itself only as the beginning of its hash.
  async #look(value) {
    const fingerprint = createHash("sha256").update(value).digest("hex").slice(0, 16);
    const jwt = value.split(".").length === 3;
    const { sub, client_id, scope, aud, exp, cnf, act } = jwt ? await this.#open(value) : await this.#find(value);
    return { format: jwt ? "jwt" : "opaque", fingerprint, sub, client_id, scope, aud, exp, act, cnf };
  }

  async #open(value) {
    try {
      const options = { issuer: this.op.url, audience: this.op.resource, typ: "at+jwt" };
      return (await jwtVerify(value, this.keys, options)).payload;
    } catch {
      throw new Refused(401, "invalid_token");
    }
  }

  async #find(value) {
    const { AccessToken, ClientCredentials, Grant } = this.provider;
    const found = (await AccessToken.find(value)) ?? (await ClientCredentials.find(value));
    const granted = !found?.grantId || (await Grant.find(found.grantId));
    if (!found?.isValid || !granted) throw new Refused(401, "invalid_token");
    const cnf = found.isSenderConstrained() ? { "x5t#S256": found["x5t#S256"], jkt: found.jkt } : undefined;
    const { accountId, clientId, scope, aud, exp, extra } = found;
    return { sub: accountId ?? clientId, client_id: clientId, scope, aud, exp, cnf, act: extra?.act };
  }

  // RFC 8705 §3 and RFC 9449 §7: the token alone is not enough.
  async #bound(request, scheme, value, { cnf }) {
    const refused = new Refused(401, "invalid_token", scheme);
    if (cnf?.["x5t#S256"]) {
      const certificate = peer(request.socket);
      const thumbprint = certificate && createHash("sha256").update(certificate.raw).digest("base64url");
      if (thumbprint !== cnf["x5t#S256"]) throw refused;
    }
    if (Boolean(cnf?.jkt) !== (scheme === "DPoP")) throw refused;
    if (cnf?.jkt) await this.#proven(request, value, cnf.jkt);
  }

  async #proven(request, value, jkt) {
    const refused = (error) => new Refused(401, error, "DPoP", { algs: "ES256" });
    let proof;
    try {
      proof = await jwtVerify(request.headers.dpop, EmbeddedJWK, { typ: "dpop+jwt", algorithms: ["ES256"] });
    } catch {
      throw refused("invalid_dpop_proof");
    }
    const { htm, htu, ath, jti, iat, nonce } = proof.payload;
    if (this.control.dpop_nonce && nonce !== this.control.nonce) {
      const error = refused("use_dpop_nonce");
      error.headers["DPoP-Nonce"] = this.control.nonce;
      throw error;
    }
    const url = new URL(request.url, `https://${request.headers.host}`);
    const holds =
      htm === request.method &&
      htu === url.origin + url.pathname &&
      ath === createHash("sha256").update(value).digest("base64url") &&
      Math.abs(Date.now() / 1000 - iat) < PROOF_AGE &&
      jti && !this.#proofs.has(jti) &&
      (await calculateJwkThumbprint(proof.protectedHeader.jwk)) === jkt;
    if (!holds) throw refused("invalid_dpop_proof");
    this.#proofs.add(jti);
  }
}

class Refused extends Error {
  constructor(status, error, scheme = "Bearer", more = {}) {
    super(error);
    const parameters = Object.entries({ ...(error && { error }), ...more });
    const said = parameters.map(([name, value]) => `${name}="${value}"`).join(", ");
    this.headers = { "WWW-Authenticate": `${scheme} ${said}`.trim() };
    this.status = status;
  }

  answer() {
    return { status: this.status, headers: this.headers, body: { error: this.message || "unauthorized" } };
  }
}

function credential({ headers }) {
  const [, scheme, value] = (headers.authorization ?? "").match(/^(Bearer|DPoP) (\S+)$/) ?? [];
  if (!scheme) throw new Refused(401, "");
  return [scheme, value];
}
