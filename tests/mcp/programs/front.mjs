// TLS in front of the servers, as in production, and the witness: it keeps every request as it came off the socket,
// with what the server answered.  front.mjs CERTIFICATE KEY NAME=PORT...
// Its first line of output says where it listens: each name by TLS, and `witness`, where GET hands out what was kept
// since the last time.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const [certificate, key, ...servers] = process.argv.slice(2);
const tls = { cert: readFileSync(certificate), key: readFileSync(key) };
let kept = [];

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

function forward(port) {
  return (request, response) => {
    const headers = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) headers.push(request.rawHeaders.slice(i, i + 2));
    const seen = { method: request.method, target: request.url, headers, body: "" };
    Object.assign(seen, { status: 0, type: "", session: null, answer: "" });
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      seen.body = body.toString();
      kept.push(seen);
      const onward = http.request({ host: "127.0.0.1", port, method: request.method, path: request.url });
      for (const [header, value] of headers) {
        if (!/^(host|connection|transfer-encoding|content-length)$/i.test(header)) onward.setHeader(header, value);
      }
      onward.setHeader("Content-Length", body.length);
      onward.on("response", (answer) => {
        seen.status = answer.statusCode;
        seen.session = answer.headers["mcp-session-id"] ?? null;
        seen.type = (answer.headers["content-type"] ?? "").split(";")[0];
        for (const hop of ["connection", "keep-alive", "transfer-encoding"]) delete answer.headers[hop];
        response.writeHead(answer.statusCode, answer.headers);
        response.flushHeaders();
        answer.on("data", (chunk) => {
          seen.answer += chunk;
          response.write(chunk);
        });
        answer.on("end", () => response.end());
        answer.on("error", () => response.destroy());
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      onward.end(body);
    });
  };
}

const ports = {};
for (const server of servers) {
  const [name, port] = server.split("=");
  ports[name] = await listen(https.createServer(tls, forward(Number(port))));
}
ports.witness = await listen(
  http.createServer((_, response) => {
    response.end(JSON.stringify(kept));
    kept = [];
  }),
);
console.log(JSON.stringify(ports));
