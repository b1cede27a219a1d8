// The TypeScript SDKs: `@modelcontextprotocol/sdk` with SDK=1, `@modelcontextprotocol/client` with SDK=2.
// client.mjs URL STEPS, where STEPS is a JSON list. Says one line of JSON for each step: what came of it, or the error
// that the SDK raised. See `Scenes` in scenes.py for the steps.
const { SDK, TRANSPORT, ERA, BEARER, STEP_TIME } = process.env;
const first = SDK === "1";
const { Client } = await import(first ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = await import(
  first ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client"
);
const { SSEClientTransport } = await import(
  first ? "@modelcontextprotocol/sdk/client/sse.js" : "@modelcontextprotocol/client"
);
const types = first ? await import("@modelcontextprotocol/sdk/types.js") : null;

const [url, script] = process.argv.slice(2);
const steps = JSON.parse(script);
const say = (step, what) => console.log(JSON.stringify({ do: step, ...what }));
const text = (content) => content.map((part) => part.text ?? "").join("");

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`TIMEOUT: nothing came within ${STEP_TIME} s`)), STEP_TIME * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const requestInit = { headers: { Authorization: `Bearer ${BEARER}` } };
const options = { capabilities: steps.some((step) => step.do === "elicit") ? { elicitation: {} } : {} };
if (!first) {
  options.versionNegotiation = { mode: { legacy: "legacy", auto: "auto", modern: { pin: "2026-07-28" } }[ERA] };
}
const client = new Client({ name: "suite", version: "1" }, options);
const Transport = TRANSPORT === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
const transport = new Transport(new URL(url), { requestInit });

let heard = () => {};
let logged = 0;
const log = () => {
  logged += 1;
  heard();
};
client.setNotificationHandler(first ? types.LoggingMessageNotificationSchema : "notifications/message", log);
if (options.capabilities.elicitation) {
  client.setRequestHandler(first ? types.ElicitRequestSchema : "elicitation/create", () => ({ action: "decline" }));
}

const call = async (step, more = {}) => {
  const params = { name: step.name, arguments: step.arguments ?? {} };
  const result = first ? await client.callTool(params, undefined, more) : await client.callTool(params, more);
  return { isError: result.isError ?? false, text: text(result.content), structured: result.structuredContent ?? null };
};

const actions = {
  async ping() {
    await client.ping();
    return {};
  },
  async list() {
    const pages = [];
    let cursor;
    // Without a cursor the second SDK walks all pages itself.
    do {
      const page = await client.listTools(cursor === undefined ? undefined : { cursor });
      pages.push(page.tools.map((tool) => tool.name));
      cursor = page.nextCursor;
    } while (cursor !== undefined && pages.length < 20);
    return { pages };
  },
  call,
  async progress(step) {
    const progress = [];
    const result = await call(step, { onprogress: (told) => progress.push(told.progress) });
    return { ...result, progress };
  },
  async level(step) {
    await client.setLoggingLevel(step.level);
    return {};
  },
  // The server sends one message at once, to whoever listens: again, until the stream is open.
  async log(step) {
    while (logged === 0) {
      const arrived = new Promise((resolve) => (heard = resolve));
      await call(step);
      await Promise.race([arrived, new Promise((resolve) => setTimeout(resolve, 500))]);
      await call(step);
    }
    return { logged };
  },
  elicit: call,
  // As after a broken connection: what came after the first event is asked for again.
  async resume(step) {
    let token;
    const onresumptiontoken = (event) => (token ??= event);
    await call(step, { onresumptiontoken, onprogress: () => {} });
    const replayed = [];
    const onmessage = transport.onmessage;
    const whole = new Promise((resolve) => {
      transport.onmessage = (message) => {
        replayed.push(message.method ?? "result");
        if (message.result) resolve();
      };
    });
    await transport.resumeStream(token);
    await whole;
    transport.onmessage = onmessage;
    return { replayed };
  },
  async resources() {
    return { names: (await client.listResources()).resources.map((resource) => resource.name) };
  },
  async resource(step) {
    return { text: text((await client.readResource({ uri: step.uri })).contents) };
  },
  async prompts() {
    return { names: (await client.listPrompts()).prompts.map((prompt) => prompt.name) };
  },
  async prompt(step) {
    const { messages } = await client.getPrompt({ name: step.name });
    return { text: text(messages.map((message) => message.content)) };
  },
};

try {
  await within(client.connect(transport));
  say("connect", { server: client.getServerVersion()?.name ?? null });
  for (const step of steps) {
    try {
      say(step.do, await within(actions[step.do](step)));
    } catch (error) {
      say(step.do, { error: String(error.message), code: error.code ?? null });
    }
  }
  if (TRANSPORT !== "sse") await within(transport.terminateSession());
  await within(client.close());
  say("close", {});
} catch (error) {
  say("connect", { error: `${error.message} ${error.cause ?? ""}` });
}
process.exit(0);
