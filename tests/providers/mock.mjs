// The oauth2-mock-server with a script: it answers as providers with habits of their own do.
// mock.mjs PORT CONTROL-PORT URL: plain HTTP both; TLS is in front. What a test can say, README.md says.
import http from "node:http";
import { OAuth2Issuer, OAuth2Service } from "oauth2-mock-server";

const [port, controlPort, url] = process.argv.slice(2);
const issuer = new OAuth2Issuer();
issuer.url = url;
await issuer.keys.generate("ES256");
const service = new OAuth2Service(issuer);
const LINE = ["path", "times", "status", "headers", "body", "merge", "drop"];
const changes = new WeakMap();
let script = [];
let requests = [];

service.on("beforeResponse", (answer, request) => {
  const { status = answer.statusCode, merge = {}, drop = [], headers = {} } = changes.get(request) ?? {};
  Object.assign(answer.body, merge);
  for (const name of drop) delete answer.body[name];
  answer.statusCode = status;
  request.res.set(headers);
});

async function serve(request, response) {
  const body = (await bodyOf(request)).toString();
  const { pathname } = new URL(request.url, url);
  requests.push({ method: request.method, target: request.url, headers: request.headers, body });
  const line = lineFor(pathname);
  if (line && "body" in line) return send(response, line);
  if (pathname.startsWith("/api/")) return send(response, { body: { ok: true }, ...line });
  changes.set(request, line);
  // As Express takes a body that somebody else has read.
  request._body = true;
  request.body = parsed(request, body);
  return service.requestHandler(request, response);
}

// What the script says of a path, as often as it says.
function lineFor(pathname) {
  const index = script.findIndex(({ path = "/token" }) => path === pathname);
  if (index < 0) return undefined;
  const { times = 1, ...line } = script[index];
  if (times > 1) script[index].times = times - 1;
  else if (times === 1) script.splice(index, 1);
  return line;
}

function readable(lines) {
  for (const line of lines) {
    const unknown = Object.keys(line).filter((name) => !LINE.includes(name));
    if (unknown.length > 0) throw new Error(`unknown: ${unknown}`);
  }
  return lines;
}

function parsed({ headers }, body) {
  if (headers["content-type"]?.startsWith("application/json")) return JSON.parse(body);
  return Object.fromEntries(new URLSearchParams(body));
}

async function command(request, response) {
  const body = await bodyOf(request);
  const answer = {
    "GET /requests": () => requests.splice(0),
    "POST /script": () => (script = readable(JSON.parse(body))),
    "POST /reset": () => {
      requests = [];
      return (script = []);
    },
  }[`${request.method} ${request.url}`]?.();
  return send(response, answer ? { body: answer } : { status: 404, body: { error: "no such command" } });
}

function send(response, { status = 200, headers = {}, body = "" }) {
  const json = typeof body !== "string";
  response.writeHead(status, { ...(json && { "Content-Type": "application/json" }), ...headers });
  response.end(json ? JSON.stringify(body) : body);
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function listen(handler, at) {
  const guarded = (request, response) =>
    handler(request, response).catch((error) => {
      console.error(error);
      send(response, { status: 500, body: { error: error.message } });
    });
  http.createServer(guarded).listen(at, "127.0.0.1");
}

listen(serve, port);
listen(command, controlPort);
