"""What the proofs share: where the servers are, names that lead there, and JWTs."""

import json
import os
import secrets
import socket
import time
from pathlib import Path

import requests
from joserfc import jwk, jwt

SERVERS = json.loads(Path(os.environ["EGRET_PROVIDERS"]).read_text())
# Both, as each library looks at another.
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["AWS_CA_BUNDLE"] = SERVERS["ca"]
PATIENCE = 20


def proof(function):
    """Marks what is called, and a failure of which is one."""
    function.proves = True
    return function


def lookup(host, port, *rest, **more):
    """As `upstream.resolve` does in egret: the name stays in the URL and the handshake, the address is another."""
    host, port = resolve.get(host, f"{host}:{port}").rsplit(":", 1)
    return system_lookup(host, int(port), *rest, **more)


system_lookup, resolve = socket.getaddrinfo, SERVERS["resolve"]
socket.getaddrinfo = lookup


def get(url: str, **more) -> requests.Response:
    return requests.get(url, timeout=PATIENCE, allow_redirects=False, **more)


def post(url: str, **more) -> requests.Response:
    return requests.post(url, timeout=PATIENCE, allow_redirects=False, **more)


def check(answer: requests.Response, status: int, /, **members) -> dict:
    """The answer's JSON, which has these members."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    body = answer.json() if answer.text else {}
    for name, expected in members.items():
        assert body.get(name) == expected, f"{name} is not {expected} in {body}"
    return body


def signed(key: dict, claims: dict, header: dict | None = None) -> str:
    """A JWT by the `key`, `kid` and `alg` of servers.json, good for a minute."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + 60, "jti": secrets.token_hex(8)} | claims
    private = jwk.import_key(Path(key["key"]).read_text(), "EC" if key["alg"].startswith("ES") else "RSA")
    return jwt.encode({"alg": key["alg"], "kid": key["kid"]} | (header or {}), claims, private, algorithms=[key["alg"]])
