// The door to the token endpoint: counts who comes with which grant, and goes wrong where a test wants it to.
const FORM = "application/x-www-form-urlencoded";
const FAULTS = ["status", "close", "hold", "slow"];
const FAULT = ["do", "at", "times", "client", "grant", "status", "headers", "body", "ms"];
const FEDERATED = /^urn:ietf:params:oauth:grant-type:(token-exchange|jwt-bearer)$/;

export class TokenDoor {
  constructor(onward, op) {
    this.onward = onward;
    this.op = op;
    this.held = new Set();
    this.reset();
  }

  reset() {
    this.counts = {};
    this.answers = {};
    this.faults = [];
    this.release();
  }

  /** What goes wrong from now on, in this order. */
  expect(faults) {
    for (const fault of faults) {
      const unknown = Object.keys(fault).filter((name) => !FAULT.includes(name));
      if (!FAULTS.includes(fault.do) || unknown.length > 0) throw new Error(`no such fault: ${JSON.stringify(fault)}`);
    }
    this.faults = faults;
  }

  /** Lets all that is held go on. */
  release() {
    for (const go of this.held) go();
    this.held.clear();
  }

  async pass(request, response, body) {
    const form = this.#read(request, body);
    const [client, grant] = [this.#client(request, form), form.get("grant_type") ?? "none"];
    const of = (this.counts[client] ??= {});
    of[grant] = (of[grant] ?? 0) + 1;
    response.on("finish", () => {
      this.answers[response.statusCode] = (this.answers[response.statusCode] ?? 0) + 1;
    });
    const fault = this.#fault(client, grant);
    if (fault?.at === "before" && !(await this.#happen(fault, response))) return undefined;
    if (fault?.at === "after") this.#keepBack(fault, response);
    // As oidc-provider takes a body that somebody else has read.
    request.body = Buffer.from(form.toString());
    request.headers["content-type"] = FORM;
    return this.onward(request, response);
  }

  // A form, or JSON at `/json/token`, as Anthropic and OpenAI take it.
  #read(request, body) {
    if (request.url === "/json/token") {
      request.url = "/token";
      const members = Object.entries(JSON.parse(body.toString()));
      return this.#identified(request, new URLSearchParams(members.map(([name, value]) => [name, String(value)])));
    }
    return this.#identified(request, new URLSearchParams(body.toString()));
  }

  // An assertion alone is enough for a federated grant; oidc-provider wants a client for it.
  #identified(request, form) {
    const alone = !request.headers.authorization && !form.has("client_id") && !form.has("client_assertion");
    if (alone && FEDERATED.test(form.get("grant_type"))) form.set("client_id", this.op.clients.federated.id);
    return form;
  }

  #client({ headers }, form) {
    try {
      const basic = headers.authorization?.match(/^Basic (.*)$/i)?.[1];
      if (basic) return decodeURIComponent(Buffer.from(basic, "base64").toString().split(":")[0]);
      const assertion = form.get("client_assertion");
      if (assertion) return JSON.parse(Buffer.from(assertion.split(".")[1], "base64url")).sub;
      return form.get("client_id") ?? "none";
    } catch {
      return "unreadable";
    }
  }

  #fault(client, grant) {
    const index = this.faults.findIndex((one) => (one.client ?? client) === client && (one.grant ?? grant) === grant);
    if (index < 0) return undefined;
    const fault = { at: "before", ...this.faults[index] };
    const left = (fault.times ?? 1) - 1;
    if (fault.times === 0) return fault;
    if (left > 0) this.faults[index] = { ...this.faults[index], times: left };
    else this.faults.splice(index, 1);
    return fault;
  }

  // Whether it goes on from here.
  async #happen(fault, response) {
    if (fault.do === "status") answerWith(response, fault);
    else if (fault.do === "close") response.socket.destroy();
    else if (fault.do === "slow") await new Promise((resolve) => setTimeout(resolve, fault.ms));
    else if (fault.do === "hold") {
      await new Promise((resolve) => {
        this.held.add(resolve);
        response.on("close", () => resolve(this.held.delete(resolve)));
      });
    }
    return !response.writableEnded && !response.destroyed && !response.socket?.destroyed;
  }

  // The provider has done its work and rotated what it rotates; only the answer has not left.
  #keepBack(fault, response) {
    const { end } = response;
    response.end = (...parts) => {
      response.end = end;
      this.#happen(fault, response).then((goes) => goes && response.end(...parts));
      return response;
    };
  }
}

function answerWith(response, { status = 503, headers = {}, body = "" }) {
  for (const name of response.getHeaderNames()) response.removeHeader(name);
  const json = typeof body !== "string";
  response.writeHead(status, { ...(json && { "Content-Type": "application/json" }), ...headers });
  response.end(json ? JSON.stringify(body) : body);
}
