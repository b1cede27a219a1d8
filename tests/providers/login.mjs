// Walks the login and the consent of oidc-provider as a browser does: follows redirects, keeps cookies, sends forms.
// login.mjs CA ADDRESS:PORT URL [USER]: prints where the browser is sent at last, which is not fetched.
import { readFileSync } from "node:fs";
import https from "node:https";
import { pathToFileURL } from "node:url";

const STEPS = 20;

export class Browser {
  #cookies = new Map();

  /** `ca` is PEM, `port` is where all names of the provider lead. */
  constructor(ca, port, user) {
    this.ca = ca;
    this.port = port;
    this.user = user;
  }

  /** Follows `url` through all forms until it leaves the provider or a page without a form comes. */
  async walk(url, fields) {
    const { origin } = new URL(url);
    let answer = await this.#send(new URL(url), fields);
    for (let step = 0; step < STEPS; step += 1) {
      if (answer.location) {
        if (answer.location.origin !== origin) return { location: answer.location.href };
        answer = await this.#send(answer.location);
        continue;
      }
      const form = formOf(answer);
      if (!form) return { status: answer.status, page: answer.text };
      answer = await this.#send(form.action, this.#fill(form.fields));
    }
    throw new Error("the login does not end");
  }

  /** Says yes to the code of a device. */
  async device(url, userCode) {
    const { status, page } = await this.walk(`${url}?${new URLSearchParams({ user_code: userCode })}`);
    return { ok: status === 200 && page.includes("Sign-in Success") };
  }

  #fill(fields) {
    if (fields.get("prompt") === "login") {
      fields.set("login", this.user);
      fields.set("password", "anything");
    }
    return fields;
  }

  #send(url, fields) {
    const body = fields?.toString();
    const headers = { Cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
    if (body !== undefined) headers["Content-Type"] = "application/x-www-form-urlencoded";
    const target = {
      host: "127.0.0.1", port: this.port, servername: url.hostname, ca: this.ca, path: url.pathname + url.search,
      method: body === undefined ? "GET" : "POST", headers: { ...headers, Host: url.host },
    };
    return new Promise((resolve, reject) => {
      const request = https.request(target, (response) => {
        this.#keep(response.headers["set-cookie"] ?? []);
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        response.on("error", reject).on("end", () => {
          const { location } = response.headers;
          const { statusCode: status } = response;
          resolve({ url, status, text, location: location && new URL(location, url) });
        });
      });
      request.on("error", reject).end(body);
    });
  }

  #keep(lines) {
    for (const line of lines) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      if (value === "" || /expires=Thu, 01 Jan 1970/i.test(line)) this.#cookies.delete(name);
      else this.#cookies.set(name, value);
    }
  }
}

function formOf({ url, text }) {
  const action = text.match(/<form[^>]*\saction="([^"]*)"/)?.[1];
  if (!action) return undefined;
  const fields = new URLSearchParams();
  for (const [input] of text.matchAll(/<input[^>]*>/g)) {
    const name = input.match(/\sname="([^"]*)"/)?.[1];
    if (name) fields.set(name, input.match(/\svalue="([^"]*)"/)?.[1] ?? "");
  }
  return { action: new URL(action.replaceAll("&amp;", "&"), url), fields };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [ca, address, url, user = "heron"] = process.argv.slice(2);
  const browser = new Browser(readFileSync(ca), Number(address.split(":").pop()), user);
  console.log(JSON.stringify(await browser.walk(url)));
}
