// TLS in front of servers that speak plain HTTP; the bytes pass as they are.
// front.mjs CERTIFICATE KEY PORT=PORT...: each pair is where it listens and where it leads.
import { readFileSync } from "node:fs";
import net from "node:net";
import { pipeline } from "node:stream";
import tls from "node:tls";

const [certificate, key, ...pairs] = process.argv.slice(2);
const options = { cert: readFileSync(certificate), key: readFileSync(key), ALPNProtocols: ["http/1.1"] };
for (const pair of pairs) {
  const [from, to] = pair.split("=").map(Number);
  tls
    .createServer(options, (outside) => {
      const inside = net.connect(to, "127.0.0.1");
      // Either side may end; that is the other's business.
      pipeline(outside, inside, () => {});
      pipeline(inside, outside, () => {});
    })
    .on("tlsClientError", () => {})
    .listen(from, "127.0.0.1");
}
