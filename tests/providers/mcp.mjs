// An MCP server and its authorization server, of the SDK's parts and its example's provider, on names and TLS of ours:
// the example itself knows only http://localhost and no refresh token. Both on one port, told apart by the host.
// mcp.mjs PORT URL AUTH-URL
import { randomUUID } from "node:crypto";
import http from "node:http";
import { DemoInMemoryAuthProvider } from "@modelcontextprotocol/sdk/examples/server/demoInMemoryOAuthProvider.js";
import {
  InvalidGrantError,
  InvalidTargetError,
  InvalidTokenError,
} from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import {
  createOAuthMetadata,
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
  mcpAuthRouter,
} from "@modelcontextprotocol/sdk/server/auth/router.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";

const [port, url, authUrl] = process.argv.slice(2);
const resource = new URL(url);
const issuerUrl = new URL(authUrl);
const unlimited = { rateLimit: false };

class Provider extends DemoInMemoryAuthProvider {
  refresh = new Map();

  async exchangeAuthorizationCode(client, code, verifier) {
    const { resource: wanted, scopes } = this.codes.get(code)?.params ?? {};
    if (wanted?.href !== resource.href) throw new InvalidTargetError("tokens are for this server only");
    const answer = await super.exchangeAuthorizationCode(client, code, verifier);
    return { ...answer, refresh_token: this.#remember({ client: client.client_id, scopes: scopes ?? [], wanted }) };
  }

  // Each refresh token is good for one use.
  async exchangeRefreshToken(client, token) {
    const known = this.refresh.get(token);
    if (known?.client !== client.client_id) throw new InvalidGrantError("refresh token is not good any more");
    this.refresh.delete(token);
    const access = randomUUID();
    const { scopes, wanted } = known;
    const expiresAt = Date.now() + 3600000;
    this.tokens.set(access, { token: access, clientId: client.client_id, scopes, expiresAt, resource: wanted });
    return {
      access_token: access, token_type: "bearer", expires_in: 3600, refresh_token: this.#remember(known),
      scope: scopes.join(" "),
    };
  }

  async verifyAccessToken(token) {
    return super.verifyAccessToken(token).catch(() => {
      throw new InvalidTokenError("unknown token");
    });
  }

  #remember(known) {
    const token = randomUUID();
    this.refresh.set(token, known);
    return token;
  }
}

function mcpServer() {
  const server = new McpServer({ name: "providers", version: "1.0.0" });
  server.registerTool("whoami", { description: "Says whose token came." }, ({ authInfo }) => ({
    content: [{ type: "text", text: JSON.stringify({ client_id: authInfo.clientId, scopes: authInfo.scopes }) }],
  }));
  return server;
}

const provider = new Provider();
const auth = express();
auth.use(
  mcpAuthRouter({
    provider, issuerUrl, scopesSupported: ["mcp:tools"], tokenOptions: unlimited, authorizationOptions: unlimited,
    clientRegistrationOptions: unlimited,
  }),
);

const app = express();
const oauthMetadata = createOAuthMetadata({ provider, issuerUrl, scopesSupported: ["mcp:tools"] });
app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: ["mcp:tools"] }));
const guard = requireBearerAuth({
  verifier: provider,
  resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
  expectedResource: resource,
});
app.all("/mcp", guard, express.json(), async (request, response) => {
  // Without sessions: each request has a server of its own.
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => transport.close());
  await mcpServer().connect(transport);
  await transport.handleRequest(request, response, request.body);
});
http
  .createServer((request, response) => (request.headers.host === issuerUrl.host ? auth : app)(request, response))
  .listen(port, "127.0.0.1");
