"""MCP's authorization: a client that knows nothing but the server's URL finds its way to a tool."""

import base64
import hashlib
import json
import secrets
from urllib.parse import parse_qs, urlsplit

from . import SERVERS, check, get, post, proof

MCP = SERVERS["mcp"]
CALLBACK = "https://egret.test/callback"
PROTOCOL = "2025-06-18"


def call(method: str, token: str | None = None, **params):
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": PROTOCOL}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return post(MCP["url"], json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers=headers)


def result(answer) -> dict:
    assert answer.status_code == 200, answer.text
    data = next(line for line in answer.text.splitlines() if line.startswith("data: "))
    return json.loads(data.removeprefix("data: "))["result"]


def registered() -> dict:
    asked = {"client_name": "Smoke", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_post",
             "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]}  # fmt: skip
    made = check(post(MCP["registration_url"], json=asked), 201)
    return {"client_id": made["client_id"], "client_secret": made["client_secret"]}


def tokens(client: dict, resource: str = MCP["url"]):
    verifier = secrets.token_urlsafe(40)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "client_id": client["client_id"], "redirect_uri": CALLBACK, "response_type": "code", "scope": "mcp:tools",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="), "code_challenge_method": "S256",
        "state": "here", "resource": resource,
    }  # fmt: skip
    told = parse_qs(urlsplit(get(MCP["authorization_url"], params=asked).headers["Location"]).query)
    assert told["state"] == ["here"], told
    form = {"grant_type": "authorization_code", "code": told["code"][0], "redirect_uri": CALLBACK,
            "code_verifier": verifier, "resource": resource}  # fmt: skip
    return post(MCP["token_url"], data=client | form)


@proof
def the_refusal_leads_to_the_authorization_server():
    refused = call("initialize")
    check(refused, 401, error="invalid_token")
    challenge = refused.headers["WWW-Authenticate"]
    metadata = challenge.partition('resource_metadata="')[2].partition('"')[0]
    found = check(get(metadata), 200, resource=MCP["url"])
    server = found["authorization_servers"][0]
    assert urlsplit(server).hostname == urlsplit(MCP["issuer"]).hostname, found
    check(
        get(f"{MCP['issuer']}/.well-known/oauth-authorization-server"), 200, token_endpoint=MCP["token_url"],
        authorization_endpoint=MCP["authorization_url"], registration_endpoint=MCP["registration_url"],
    )  # fmt: skip
    assert get("https://mcp.test/token").status_code == 404


@proof
def a_client_registers_and_calls_a_tool():
    client = registered()
    got = check(tokens(client), 200, token_type="bearer")
    hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "smoke", "version": "1"}}
    assert result(call("initialize", got["access_token"], **hello))["serverInfo"]["name"] == "providers"
    said = result(call("tools/call", got["access_token"], name="whoami", arguments={}))["content"][0]["text"]
    assert json.loads(said) == {"client_id": client["client_id"], "scopes": ["mcp:tools"]}, said
    check(call("initialize", "wrong", **hello), 401, error="invalid_token")


@proof
def a_refresh_token_is_good_once():
    client = registered()
    first = check(tokens(client), 200)
    form = client | {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = check(post(MCP["token_url"], data=form), 200)
    assert result(call("tools/list", second["access_token"]))["tools"][0]["name"] == "whoami"
    check(post(MCP["token_url"], data=form), 400, error="invalid_grant")


@proof
def a_token_is_for_its_resource_only():
    check(tokens(registered(), "https://other.test/mcp"), 400, error="invalid_target")
