// An OpenID provider, certified, made to go wrong on demand.  op.mjs CONFIGURATION
// CONFIGURATION is the part `op` of servers.json with the files and ports that only this program needs. Tests talk to
// it on a port of its own, in plain HTTP; README.md says what they can say.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { Api } from "./op-api.mjs";
import { Browser } from "./login.mjs";
import { makeProvider, publicJwk } from "./op-provider.mjs";
import { TokenDoor } from "./op-token.mjs";

const op = JSON.parse(readFileSync(process.argv[2], "utf8"));
const ca = readFileSync(op.listen.ca);
const LEARNED = ["redirect_uris", "access_token_ttl", "refresh_token_ttl", "rotate", "dpop_nonce"];
const control = {};

function begin() {
  Object.assign(control, {
    access_token_ttl: 300,
    refresh_token_ttl: 3600,
    rotate: true,
    dpop_nonce: false,
    nonce: randomBytes(8).toString("hex"),
    redirect_uris: [],
    trust: [{ issuer: op.trusted.issuer, jwks: { keys: [publicJwk(op.trusted)] } }],
  });
}

begin();
const { provider, keys } = makeProvider(op, control);
const door = new TokenDoor(provider.callback(), op);
const api = new Api(provider, keys, op, control);
const grants = new Map();
let calls = {};
provider.on("grant.saved", (grant) => grants.set(grant.jti, grant.clientId));
provider.on("server_error", (_, error) => console.error(error));
provider.on("grant.error", (_, error) => console.error(`${error.message}: ${error.error_detail ?? ""}`));

async function serve(request, response) {
  const { pathname } = new URL(request.url, op.url);
  if (pathname === "/token" || pathname === "/json/token") {
    return door.pass(request, response, await bodyOf(request));
  }
  if (!pathname.startsWith("/api/")) return provider.callback()(request, response);
  const { status, headers, body } = await api.answer(request, await bodyOf(request));
  calls[status] = (calls[status] ?? 0) + 1;
  return send(response, status, body, headers);
}

async function command(request, response) {
  const body = await bodyOf(request);
  const asked = body.length > 0 ? JSON.parse(body) : {};
  const browser = new Browser(ca, op.listen.port, asked.user ?? op.user);
  const answer = await {
    "GET /counts": () => ({ token: door.counts, answers: door.answers, holding: door.held.size, api: calls }),
    "POST /control": () => change(asked),
    "POST /login": () => browser.walk(asked.url),
    "POST /device": () => browser.device(`${op.url}/device`, asked.user_code),
  }[`${request.method} ${request.url}`]?.();
  return send(response, answer ? 200 : 404, answer ?? { error: "no such command" });
}

async function change(asked) {
  const known = [...LEARNED, "reset", "release", "faults", "trust", "revoke"];
  const unknown = Object.keys(asked).filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`unknown: ${unknown}`);
  if (asked.reset) {
    begin();
    door.reset();
    calls = {};
  }
  for (const name of LEARNED) if (name in asked) control[name] = asked[name];
  if (asked.faults) door.expect(asked.faults);
  if (asked.release) door.release();
  for (const one of asked.trust ?? []) {
    control.trust = [...control.trust.filter(({ issuer }) => issuer !== one.issuer), one];
  }
  if (asked.revoke) await revoke(asked.revoke);
  return { ...control, trust: control.trust.map(({ issuer }) => issuer), faults: door.faults };
}

// As a user does who takes the application out of the list of those that may.
async function revoke(client) {
  for (const [id, of] of grants) {
    if (of !== client) continue;
    for (const kind of ["AccessToken", "RefreshToken", "AuthorizationCode", "DeviceCode"]) {
      await provider[kind].adapter.revokeByGrantId(id);
    }
    await (await provider.Grant.find(id))?.destroy();
    grants.delete(id);
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

function guarded(handler) {
  return (request, response) =>
    handler(request, response).catch((error) => {
      console.error(error);
      if (response.headersSent) response.destroy();
      else send(response, 500, { error: error.message });
    });
}

const tls = { ca, cert: readFileSync(op.listen.certificate), key: readFileSync(op.listen.key) };
https
  .createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, guarded(serve))
  .listen(op.listen.port, "127.0.0.1");
http.createServer(guarded(command)).listen(new URL(op.control).port, "127.0.0.1");
