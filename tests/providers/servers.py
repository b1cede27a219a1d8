"""The servers: how each is started, and what a test must know of it. What a start returns is a part of servers.json."""

import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from place import Place, checked, plain

REGION = "eu-central-1"
# Where providers send a user back to.
CALLBACK = "https://egret.test/callback"


@dataclass
class Ports:
    """Where a server listens: `outside` with TLS, `inside` without, `control` for what only tests say."""

    outside: int
    inside: int
    control: int


@dataclass
class Server:
    """One kind of server. `hosts` are its names, all of which lead to `outside`."""

    name: str
    hosts: list[str]
    start: Callable[[Place, Ports], dict]
    # Whether TLS is put in front; those that do it themselves need none.
    front: bool = True


def start_op(place: Place, ports: Ports) -> dict:
    url, resource = "https://op.test", "https://api.op.test"
    certificate, key = place.make_certificate("client", ["agent.op.test"], "clientAuth")
    keyed = lambda kind, alg: {"key": str(place.make_key(f"op-{alg.lower()}", kind)), "kid": alg.lower(), "alg": alg}
    user = {"redirect_uri": CALLBACK}
    clients = {
        # Characters that RFC 6749 §2.3.1 wants encoded.
        "basic": {"secret": f"{secrets.token_hex(16)}s3cret+/=:%"},
        "post": {"secret": secret()},
        "es256": keyed("EC", "ES256"),
        "ps256": keyed("RSA", "PS256"),
        "mtls": {"certificate": str(certificate), "key": str(key), "san_dns": "agent.op.test"},
        "dpop": {"secret": secret(), **user},
        "code": {"secret": secret(), **user},
        "public": dict(user),
        "device": {},
        "exchange": {"secret": secret()},
        "federated": {},
    }
    for name, client in clients.items():
        client["id"] = f"{name}-{secrets.token_hex(4)}"
    described = {
        "url": url,
        "token_url": f"{url}/token",
        "json_token_url": f"{url}/json/token",
        "authorization_url": f"{url}/auth",
        "device_authorization_url": f"{url}/device/auth",
        "introspection_url": f"{url}/token/introspection",
        "revocation_url": f"{url}/token/revocation",
        "jwks_url": f"{url}/jwks",
        "resource": resource,
        "echo_url": f"{resource}/api/echo",
        "write_url": f"{resource}/api/write",
        "control": f"http://127.0.0.1:{ports.control}",
        "user": "heron",
        "clients": clients,
        "trusted": {
            "issuer": "https://workload.test",
            "key": str(place.make_key("workload", "EC")),
            "kid": "workload",
            "alg": "ES256",
        },
    }
    listen = {
        "port": ports.outside, "ca": str(place.ca), "certificate": str(place.certificate), "key": str(place.key)
    }  # fmt: skip
    configuration = written(place.dir / "op.json", {**described, "listen": listen})
    place.start("op", [place.node, place.programs / "op.mjs", configuration])
    place.wait("op", ports.outside, "/.well-known/openid-configuration", "op.test")
    place.wait("op", ports.control, "/counts")
    return described


def start_mock(place: Place, ports: Ports) -> dict:
    url = "https://mock.test"
    place.start("mock", [place.node, place.programs / "mock.mjs", ports.inside, ports.control, url])
    place.wait("mock", ports.inside, "/jwks")
    return {"url": url, "token_url": f"{url}/token", "api_url": f"{url}/api/", "control": local(ports.control)}


def start_moto(place: Place, ports: Ports) -> dict:
    moto = place.installed / "python/bin/moto_server"
    # Whatever it would look for in the cloud, it shall not find.
    environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": REGION}
    place.start("moto", [moto, "-H", "127.0.0.1", "-p", ports.inside], environment)
    place.wait("moto", ports.inside, "/moto-api/")
    made = checked([place.python, place.programs / "moto_setup.py", local(ports.inside), REGION], place.dir, plain())
    return {"url": "https://moto.test", "region": REGION, **json.loads(made)}


def start_s3(place: Place, ports: Ports) -> dict:
    objects = place.dir / "s3"
    (objects / "herd").mkdir(parents=True)
    keys = {"access_key_id": f"EGRET{secrets.token_hex(8).upper()}", "secret_access_key": secret()}
    place.start(
        "s3",
        [place.installed / "s3s/bin/s3s-fs", "--host=127.0.0.1", f"--port={ports.inside}",
         f"--access-key={keys['access_key_id']}", f"--secret-key={keys['secret_access_key']}", objects],
    )  # fmt: skip
    place.wait("s3", ports.inside, "/")
    return {"url": "https://s3.test", "region": REGION, "bucket": "herd", **keys}


def start_vault(place: Place, ports: Ports) -> dict:
    key = place.make_key("vault-jwt", "RSA")
    modulus = checked(["openssl", "rsa", "-in", key, "-noout", "-modulus"], place.dir, plain()).strip()
    account = {"audience": "https://vault.test", "subject": "system:serviceaccount:agents:egret"}
    roles = {
        "kubernetes": {"name": "egret", **account},
        "jwt": {"name": "egret", **account},
        "approle": {"name": "egret", "role_id": secret(), "secret_id": secret()},
    }
    described = {
        "url": "https://vault.test",
        "control": local(ports.control),
        "root_token": f"hvs.{secret()}",
        "roles": roles,
        "jwt_key": {"key": str(key), "kid": "vault", "alg": "RS256"},
        "namespaces": ["", "team"],
        # Namespace, path below `secret/data/`, data.
        "secrets": [["", "egret/api", {"token": secret()}], ["team", "egret/api", {"token": secret()}],
                    ["", "other/api", {"token": secret()}]],
    }  # fmt: skip
    listen = {"port": ports.inside, "control_port": ports.control, "modulus": modulus.removeprefix("Modulus=")}
    configuration = written(place.dir / "vault.json", described | listen)
    place.start("vault", ["python3", "-B", place.programs / "vault.py", configuration])
    place.wait("vault", ports.inside, "/v1/sys/health")
    return described


def start_glewlwyd(place: Place, ports: Ports) -> dict:
    url, key = "https://glewlwyd.test/api/oidc", place.make_key("glewlwyd", "EC")
    described = {
        "issuer": url,
        "token_url": f"{url}/token",
        "authorization_url": f"{url}/auth",
        "device_authorization_url": f"{url}/device_authorization",
        "introspection_url": f"{url}/introspect",
        "revocation_url": f"{url}/revoke",
        "login_url": "https://glewlwyd.test/api/auth/",
        "user": {"name": "heron", "password": secret()},
        "client": {"id": f"client-{secrets.token_hex(4)}", "secret": secret(), "redirect_uri": CALLBACK},
    }
    database = sqlite3.connect(place.dir / "glewlwyd.db")
    database.executescript(Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3").read_text())
    database.close()
    configuration = place.filled("glewlwyd.conf", PORT=ports.inside, PLACE=place.dir)
    place.start("glewlwyd", ["glewlwyd", "-c", configuration])
    place.wait("glewlwyd", ports.inside, "/config")
    more = {
        "administrator_password": secret(),
        "key": key.read_text(),
        "public_key": checked(["openssl", "pkey", "-in", key, "-pubout"], place.dir, plain()),
    }
    setup = ["python3", "-B", place.programs / "glewlwyd_setup.py", local(ports.inside)]
    checked(setup, place.dir, plain(), json.dumps(described | more))
    return described


def start_git(place: Place, ports: Ports) -> dict:
    repository, seed = place.dir / "git/herd.git", place.dir / "git-seed"
    author = {f"GIT_{who}_{what}": "seed@git.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    git = lambda *arguments: checked(["git", *arguments], place.dir, plain() | author).strip()
    git("init", "--quiet", "--bare", "--initial-branch=main", repository)
    git("-C", repository, "config", "http.receivepack", "true")
    git("init", "--quiet", "--initial-branch=main", seed)
    (seed / "README").write_text("a herd of egrets\n" * 5000)
    for arguments in (["add", "."], ["commit", "--quiet", "-m", "Seed"], ["push", "--quiet", repository, "main"]):
        git("-C", seed, *arguments)
    token, users = secret(), place.dir / "git-users"
    users.touch(mode=0o600)
    users.write_text(f"x-access-token:{token}\n")
    backend = Path(git("--exec-path")) / "git-http-backend"
    configuration = place.filled("git.conf", PORT=ports.inside, PLACE=place.dir, BACKEND=backend)
    place.start("git", ["lighttpd", "-D", "-f", configuration])
    place.wait("git", ports.inside, "/")
    return {"url": "https://git.test/herd.git", "user": "x-access-token", "token": token, "users_file": str(users)}


def start_mcp(place: Place, ports: Ports) -> dict:
    url, issuer = "https://mcp.test/mcp", "https://mcp-auth.test"
    place.start("mcp", [place.node, place.programs / "mcp.mjs", ports.inside, url, issuer])
    place.wait("mcp", ports.inside, "/mcp")
    return {
        "url": url,
        "issuer": issuer,
        "token_url": f"{issuer}/token",
        "authorization_url": f"{issuer}/authorize",
        "registration_url": f"{issuer}/register",
    }


SERVERS = [
    Server("op", ["op.test", "api.op.test"], start_op, front=False),
    Server("mock", ["mock.test"], start_mock),
    Server("moto", ["moto.test", *(f"{name}.{REGION}.amazonaws.com" for name in ("sts", "s3", "secretsmanager"))],
           start_moto),
    Server("s3", ["s3.test"], start_s3),
    Server("vault", ["vault.test"], start_vault),
    Server("glewlwyd", ["glewlwyd.test"], start_glewlwyd),
    Server("git", ["git.test"], start_git),
    Server("mcp", ["mcp.test", "mcp-auth.test"], start_mcp),
]  # fmt: skip


def secret() -> str:
    return secrets.token_urlsafe(24)


def local(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def written(path: Path, what: dict) -> Path:
    """A file that only its owner reads."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(what, indent=2))
    return path
