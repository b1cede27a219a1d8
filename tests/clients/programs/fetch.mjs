// fetch: METHOD URL, or STREAM URL. With UNDICI=1 it is undici's, which Node 20 needs to see the environment's
// proxy; without, it is the built-in one of Node 24.
import { writeFileSync } from "node:fs";

let fetch = globalThis.fetch;
if (process.env.UNDICI) {
  const undici = await import("undici");
  undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent());
  fetch = undici.fetch;
}

const [method, url] = process.argv.slice(2);
const canary = process.env.CANARY;
const headers = { authorization: `Bearer ${canary}`, "x-api-key": canary, cookie: `session=${canary}` };

if (method === "STREAM") {
  const body = JSON.stringify({ model: "m", stream: true, messages: [] });
  const answer = await fetch(url, { method: "POST", headers: { ...headers, "content-type": "application/json" }, body });
  const decoder = new TextDecoder();
  for await (const chunk of answer.body) {
    writeFileSync(process.env.FIRST, "");
    process.stdout.write(decoder.decode(chunk, { stream: true }));
  }
  console.log(`\n${answer.status}`);
} else {
  const answer = await fetch(url, { method, headers });
  console.log(await answer.text());
  console.log(answer.status);
}
