"""A double of Vault and OpenBao, written from their API documentation; the client `hvac` accepts it (proofs/vault.py).
vault.py CONFIGURATION: plain HTTP on two ports, the API and what only tests say; TLS is in front. Standard library
only.

What is here: logins by Kubernetes, JWT and AppRole, tokens that are renewed and end, KV version 2, dynamic database
credentials with leases, sealing, namespaces. A role may read `secret/data/egret/*` and `database/creds/readonly`."""

import base64
import hashlib
import http.server
import json
import re
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

READABLE = re.compile(r"secret/(data|metadata)/egret/.+|database/creds/readonly|sys/leases/\w+|auth/token/\w+-self")
DEFAULTS = {"token_ttl": 600, "token_max_ttl": 3600, "lease_ttl": 300, "lease_max_ttl": 1800, "sealed": False}
# What PKCS #1 v1.5 puts before a SHA-256.
SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class Failure(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, *errors: str, data: dict | None = None):
        super().__init__(status, errors)
        self.status = status
        self.body = {"errors": list(errors)} if data is None else data


@dataclass
class Timed:
    """A token or a lease: it can be renewed, but not beyond its end."""

    name: str
    namespace: str
    ttl: int
    end: float
    expires: float
    renewable: bool = True
    accessor: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    # Of a token: the leases that end with it.
    leases: list[str] = field(default_factory=list)

    def left(self) -> int:
        return max(0, round(self.expires - time.time()))

    def renew(self, increment: int | None) -> int:
        """The increment counts from now, and is a wish."""
        self.expires = min(time.time() + (increment or self.ttl), self.end)
        return self.left()


class Vault:
    """What is stored and who may."""

    def __init__(self, configuration: dict):
        self.configuration = configuration
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.settings = dict(DEFAULTS)
        self.counts: dict[str, int] = {}
        self.tokens: dict[str, Timed] = {}
        self.leases: dict[str, Timed] = {}
        self.secrets: dict[tuple[str, str], list[dict]] = {}
        for namespace, path, data in self.configuration["secrets"]:
            self.write(namespace, path, data)

    def answer(self, method: str, path: str, query: dict, headers: dict, body: dict) -> tuple[int, dict | None]:
        namespace, path = self.place(headers.get("X-Vault-Namespace", ""), path)
        self.counts[f"{method} {path}"] = self.counts.get(f"{method} {path}", 0) + 1
        if path == "sys/health":
            return self.health()
        if path == "sys/seal-status":
            return 200, {"type": "shamir", "initialized": True, "sealed": self.settings["sealed"], "t": 3, "n": 5}
        if self.settings["sealed"]:
            raise Failure(503, "Vault is sealed")
        if login := re.fullmatch(r"auth/(kubernetes|jwt|approle)/login", path):
            return 200, self.login(login[1], namespace, body)
        token = self.allowed(headers.get("X-Vault-Token"), namespace, path, method)
        if path.startswith("auth/token/"):
            return self.token_self(token, path.removeprefix("auth/token/"), body)
        if path.startswith("sys/leases/"):
            return self.lease(path.removeprefix("sys/leases/"), namespace, body)
        if role := re.fullmatch(r"database/creds/(\w+)", path):
            return 200, self.credentials(token, namespace, role[1])
        if stored := re.fullmatch(r"secret/(data|delete|destroy|metadata)/(.+)", path):
            return self.stored(method, stored[1], namespace, stored[2], query, body)
        raise Failure(404, f'no handler for route "{path}". route entry not found.')

    def place(self, header: str, path: str) -> tuple[str, str]:
        """The namespace, from the header or the beginning of the path."""
        namespace = header.strip("/")
        for known in filter(None, self.configuration["namespaces"]):
            if not namespace and path.startswith(f"{known}/"):
                namespace, path = known, path.removeprefix(f"{known}/")
        if namespace not in self.configuration["namespaces"]:
            # The documentation does not say what comes.
            raise Failure(404, "namespace not found")
        return namespace, path

    def health(self) -> tuple[int, dict]:
        sealed = self.settings["sealed"]
        return (503 if sealed else 200), {
            "initialized": True, "sealed": sealed, "standby": False, "version": "2.0.0",
            "server_time_utc": int(time.time()),
        }  # fmt: skip

    # Who asks.

    def allowed(self, value: str | None, namespace: str, path: str, method: str) -> Timed | None:
        """The token; none is the root's, which may do all."""
        if secrets.compare_digest(value or "", self.configuration["root_token"]):
            return None
        token = self.tokens.get(value or "")
        if token is None or token.left() == 0 or token.namespace != namespace:
            raise Failure(403, "permission denied")
        reads = method == "GET" or path.startswith(("sys/leases/", "auth/token/"))
        if not (reads and READABLE.fullmatch(path)):
            raise Failure(403, "1 error occurred:\n\t* permission denied\n\n")
        return token

    def login(self, how: str, namespace: str, body: dict) -> dict:
        role = self.configuration["roles"][how]
        if how == "approle":
            given = [body.get("role_id", ""), body.get("secret_id", "")]
            if not secrets.compare_digest(json.dumps(given), json.dumps([role["role_id"], role["secret_id"]])):
                raise Failure(400, "invalid role or secret ID")
            metadata = {"role_name": role["name"]}
        else:
            if body.get("role") != role["name"]:
                raise Failure(400, f'invalid role name "{body.get("role")}"')
            metadata = self.check_jwt(how, body.get("jwt", ""), role)
        value, token = f"hvs.{secrets.token_urlsafe(48)}", self.timed("token", role["name"], namespace)
        self.tokens[value] = token
        return envelope(auth=describe(token, value, metadata))

    def check_jwt(self, how: str, jwt: str, role: dict) -> dict:
        claims = verified(jwt, int(self.configuration["modulus"], 16))
        refused = Failure(403, "permission denied") if how == "kubernetes" else None
        now = time.time()
        if claims is None:
            raise refused or Failure(400, "error validating token: error verifying token signature: no known key "
                                          "successfully validated the token signature")  # fmt: skip
        if claims.get("exp", 0) <= now:
            raise refused or Failure(400, "error validating token: token is expired")
        audience = claims.get("aud") or []
        if role["audience"] not in ([audience] if isinstance(audience, str) else audience):
            raise refused or Failure(400, "error validating claims: aud claim does not match any bound audience")
        if claims.get("sub") != role["subject"]:
            raise Failure(403, "service account name not authorized") if refused else Failure(
                400, "error validating token: sub claim does not match bound subject"
            )
        return {"role": role["name"]}

    def timed(self, kind: str, name: str, namespace: str) -> Timed:
        ttl, now = self.settings[f"{kind}_ttl"], time.time()
        end = now + self.settings[f"{kind}_max_ttl"]
        return Timed(name, namespace, ttl, end, min(now + ttl, end))

    def token_self(self, token: Timed | None, what: str, body: dict) -> tuple[int, dict | None]:
        if token is None:
            raise Failure(400, "the root token is not for this")
        if what == "lookup-self":
            data = {"ttl": token.left(), "creation_ttl": token.ttl, "renewable": True, "accessor": token.accessor,
                    "policies": ["default", token.name], "type": "service", "path": "auth/login"}  # fmt: skip
            return 200, envelope(data=data)
        value = next(value for value, known in self.tokens.items() if known is token)
        if what == "renew-self":
            token.renew(seconds(body.get("increment")))
            return 200, envelope(auth=describe(token, value, {}))
        if what == "revoke-self":
            self.revoke(value)
            return 204, None
        raise Failure(404, "unsupported path")

    def revoke(self, value: str) -> None:
        """Its leases end with it."""
        for lease in self.tokens.pop(value).leases:
            self.leases.pop(lease, None)

    # What is read.

    def credentials(self, token: Timed | None, namespace: str, role: str) -> dict:
        if role != "readonly":
            raise Failure(400, f"unknown role: {role}")
        name, lease = f"database/creds/{role}/{secrets.token_urlsafe(18)}", self.timed("lease", role, namespace)
        self.leases[name] = lease
        if token is not None:
            token.leases.append(name)
        data = {"username": f"v-{role}-{secrets.token_hex(6)}", "password": secrets.token_urlsafe(16)}
        return envelope(data=data, lease_id=name, renewable=True, lease_duration=lease.left())

    def lease(self, what: str, namespace: str, body: dict) -> tuple[int, dict | None]:
        lease = self.leases.get(name := body.get("lease_id", ""))
        if lease is None or lease.left() == 0 or lease.namespace != namespace:
            raise Failure(400, "lease not found")
        if what == "renew":
            duration = lease.renew(seconds(body.get("increment")))
            return 200, envelope(lease_id=name, renewable=True, lease_duration=duration)
        if what == "revoke":
            del self.leases[name]
            return 204, None
        raise Failure(404, "unsupported path")

    def stored(self, method: str, part: str, namespace: str, path: str, query: dict, body: dict):
        versions = self.secrets.get((namespace, path), [])
        if part == "data" and method in ("POST", "PUT"):
            expected = body.get("options", {}).get("cas")
            if expected is not None and expected != len(versions):
                raise Failure(400, "check-and-set parameter did not match the current version")
            return 200, envelope(data=self.write(namespace, path, body["data"]))
        if not versions:
            raise Failure(404)
        if part in ("delete", "destroy") or method == "DELETE":
            self.remove(versions, part, body.get("versions", [len(versions)]))
            return 204, None
        if part == "metadata":
            described = {str(one["metadata"]["version"]): one["metadata"] for one in versions}
            return 200, envelope(data={"current_version": len(versions), "versions": described})
        wanted = int(query.get("version", ["0"])[0]) or len(versions)
        if wanted > len(versions):
            raise Failure(404)
        found = envelope(data=versions[wanted - 1])
        # The metadata tells deleted from absent.
        if found["data"]["data"] is None:
            raise Failure(404, data=found)
        return 200, found

    def write(self, namespace: str, path: str, data: dict) -> dict:
        versions = self.secrets.setdefault((namespace, path), [])
        metadata = {"created_time": now(), "custom_metadata": None, "deletion_time": "", "destroyed": False}
        metadata["version"] = len(versions) + 1
        versions.append({"data": data, "metadata": metadata})
        return metadata

    def remove(self, versions: list[dict], part: str, numbers: list[int]) -> None:
        for number in numbers:
            one = versions[number - 1]
            one["data"] = None
            one["metadata"] |= {"destroyed": True} if part == "destroy" else {"deletion_time": now()}

    def command(self, method: str, path: str, body: dict) -> tuple[int, dict]:
        """What only tests say."""
        if (method, path) == ("GET", "counts"):
            return 200, {"requests": self.counts, "tokens": len(self.tokens), "leases": len(self.leases)}
        if (method, path) != ("POST", "control"):
            return 404, {"error": "no such command"}
        if body.pop("reset", False):
            self.reset()
        if body.pop("revoke_tokens", False):
            for value in list(self.tokens):
                self.revoke(value)
        for one in body.pop("write", []):
            self.write(one.get("namespace", ""), one["path"], one["data"])
        for one in body.pop("delete", []):
            versions = self.secrets[one.get("namespace", ""), one["path"]]
            self.remove(versions, "delete", one.get("versions", [len(versions)]))
        if unknown := body.keys() - DEFAULTS.keys():
            return 400, {"error": f"unknown: {sorted(unknown)}"}
        self.settings |= body
        return 200, self.settings


def describe(token: Timed, value: str, metadata: dict) -> dict:
    policies = ["default", token.name]
    return {
        "client_token": value, "accessor": token.accessor, "policies": policies, "token_policies": policies,
        "metadata": metadata, "lease_duration": token.left(), "renewable": token.renewable, "entity_id": "",
        "token_type": "service", "orphan": True, "mfa_requirement": None, "num_uses": 0,
    }  # fmt: skip


def envelope(**members) -> dict:
    return {
        "request_id": secrets.token_hex(16), "lease_id": "", "renewable": False, "lease_duration": 0, "data": None,
        "wrap_info": None, "warnings": None, "auth": None,
    } | members  # fmt: skip


def verified(jwt: str, modulus: int) -> dict | None:
    """The claims of a JWT by RS256 and the exponent 65537, if it is one: RFC 8017 §8.2.2 in five lines."""
    try:
        header, claims, signature = [base64.urlsafe_b64decode(part + "==") for part in jwt.split(".")]
        length = (modulus.bit_length() + 7) // 8
        digest = SHA256 + hashlib.sha256(jwt.rpartition(".")[0].encode()).digest()
        padded = b"\x00\x01" + b"\xff" * (length - 3 - len(digest)) + b"\x00" + digest
        good = pow(int.from_bytes(signature, "big"), 65537, modulus).to_bytes(length, "big") == padded
        return json.loads(claims) if good and json.loads(header)["alg"] == "RS256" else None
    except (ValueError, KeyError):
        return None


def seconds(duration: int | str | None) -> int | None:
    """`30`, `"30"` or `"5m"`."""
    found = re.fullmatch(r"(\d+)([smh]?)", str(duration or ""))
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else None


def now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def handler(vault: Vault, control: bool) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            url, length = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            with vault.lock:
                try:
                    if control:
                        status, said = vault.command(self.command, url.path.strip("/"), body)
                    else:
                        path = url.path.removeprefix("/v1/").strip("/")
                        status, said = vault.answer(self.command, path, parse_qs(url.query), self.headers, body)
                except Failure as failure:
                    status, said = failure.status, failure.body
                # Under the lock, as what is said may be what is stored.
                text = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = answer

    return Handler


def main() -> None:
    configuration = json.loads(Path(sys.argv[1]).read_text())
    vault = Vault(configuration)
    for port, control in ((configuration["control_port"], True), (configuration["port"], False)):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler(vault, control))
        threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    main()
