"""The house that the clients are tried in: certificates, repositories, settings, policy, and a running egret."""

import base64
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from upstream import Upstream

# How long anything on this machine may take to come up or to be written down.
PATIENCE = 20
# How long one client may take.
CLIENT_TIME = 90

POLICY = """\
version: 1
services:
  good:
    hosts: [api.good.test]
    allow_private_addresses: true     # the upstream is on this machine
    roles:
      reader:
        - GET /v1/**
  misnamed:                           # its certificate has another name
    hosts: [misnamed.good.test]
    allow_private_addresses: true
    roles:
      caller:
        - ANY /v1/**
  openai:
    hosts: [api.openai.com]
    allow_private_addresses: true
    roles:
      caller:
        - GET /v1/models
        - POST /v1/chat/completions
  github-git:
    hosts: [github.com]
    allow_private_addresses: true
    roles:
      reader:
        - GET /*/*/info/refs
        - POST /*/*/git-upload-pack
      writer:
        - include: reader
        - POST /*/*/git-receive-pack
tenants:
  acme:
    integrations:
      good: {credential: {static: {bearer: "env:GOOD_API_KEY"}}}
      misnamed: {credential: {static: {bearer: "env:GOOD_API_KEY"}}}
      openai: {credential: {static: {bearer: "file:../secrets/openai"}}}
      github-git:
        credential: {static: {basic: {user: x-access-token, password: "file:../secrets/github"}}}
    agents:
      heron-bot: {good: reader, misnamed: caller, openai: caller, github-git: reader}
      stork-bot: {github-git: writer}
"""

SETTINGS = """\
listen: {{proxy: "127.0.0.1:{proxy}", gateway: "127.0.0.1:{gateway}", admin: "127.0.0.1:{admin}"}}
identity: {{development: issuer}}
audit: {{sinks: ["file:decisions.jsonl"]}}
drain_timeout: 2s
upstream:
  extra_ca: [upstream/ca.pem]
  resolve:
    api.good.test: "127.0.0.1:{upstream}"
    misnamed.good.test: "127.0.0.1:{upstream}"
    api.openai.com: "127.0.0.1:{upstream}"
    github.com: "127.0.0.1:{upstream}"
"""

NAMES = "DNS:api.good.test,DNS:api.openai.com,DNS:github.com"


class House:
    """Everything in one directory. `open` starts it, `close` ends it."""

    # Where a request of our own goes, after which the log is read.
    barrier = "http://api.good.test/v1/barrier"

    def __init__(self, directory: Path, egret: Path):
        self.dir = directory
        self.egret = egret
        self.secrets = {name: f"{name}-secret-{secrets.token_hex(20)}" for name in ("good", "openai", "github")}
        # What clients bring with them and must not get out.
        self.canary = f"canary-{secrets.token_hex(20)}"
        self.process: subprocess.Popen | None = None
        self.barriers = 0
        self.read_to = 0

    def open(self) -> None:
        self.dir.mkdir()
        for name in ("home", "policies", "secrets", "upstream", "repositories", "work"):
            (self.dir / name).mkdir()
        self.make_certificates(NAMES)
        self.make_repository()
        for name in ("openai", "github"):
            secret = self.dir / "secrets" / name
            secret.touch(mode=0o600)
            secret.write_text(self.secrets[name])
        tls = self.dir / "upstream"
        self.upstream = Upstream(tls / "leaf.pem", tls / "leaf.key", self.dir / "repositories", self.secrets)
        self.proxy, self.gateway, admin = free_ports(3)
        (self.dir / "policies/policy.yaml").write_text(POLICY)
        self.start(
            SETTINGS.format(proxy=self.proxy, gateway=self.gateway, admin=admin, upstream=self.upstream.port),
            {"GOOD_API_KEY": self.secrets["good"]},
        )

    def start(self, settings: str, environment: dict[str, str]) -> None:
        """Starts egret, which logs to `decisions.jsonl`."""
        (self.dir / "egret.yaml").write_text(settings)
        self.log = self.dir / "decisions.jsonl"
        self.messages = self.dir / "messages"
        with self.messages.open("wb") as messages:
            environment = self.plain() | environment
            self.process = subprocess.Popen(
                [self.egret, "serve"], cwd=self.dir, env=environment,
                stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
            )  # fmt: skip
        self.wait_until_ready()

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.upstream.stop()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            ready = subprocess.run([self.egret, "health", "--ready"], cwd=self.dir, env=self.plain(), capture_output=True)
            if ready.returncode == 0:
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"egret did not start:\n{self.messages.read_text()}")
            time.sleep(0.05)

    def plain(self) -> dict[str, str]:
        """An environment with nothing in it that a client could find its way with."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.dir / "home"), "LANG": "C.UTF-8"}

    def environment(self, who: str) -> dict[str, str]:
        """The user's own way: `eval "$(egret env --as tenant/agent)"` in a shell."""
        script = 'variables=$("$0" env --as "$1") && eval "$variables" && exec env -0'
        ran = subprocess.run(
            ["sh", "-c", script, str(self.egret), who],
            cwd=self.dir, env=self.plain(), capture_output=True, check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            raise RuntimeError(f"egret env: {ran.stderr.decode()}")
        return dict(pair.split("=", 1) for pair in ran.stdout.decode().rstrip("\0").split("\0"))

    def token(self, who: str) -> str:
        ran = subprocess.run(
            [self.egret, "token", "mint", "--as", who], cwd=self.dir, env=self.plain(), capture_output=True, check=True
        )
        return ran.stdout.decode().strip()

    def records(self) -> tuple[list[dict], str]:
        """Decisions and outcomes since the last time, and all the text of the log since then.

        A request of our own goes last, so that all others are in.
        """
        self.barriers += 1
        mark = f"barrier-{self.barriers}"
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy, timeout=PATIENCE)
        identity = {"Proxy-Authorization": f"Bearer {self.token('acme/heron-bot')}", "X-Correlation-Id": mark}
        connection.request("GET", self.barrier, headers=identity)
        connection.getresponse().read()
        connection.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.log.read_text()[self.read_to :]
            whole = text[: text.rfind("\n") + 1]
            records = [json.loads(line) for line in whole.splitlines()]
            ours = [r for r in records if r.get("correlation_id") == mark]
            if any(r["event"] == "outcome" or r["decision"] == "deny" for r in ours):
                self.read_to += len(whole)
                return [r for r in records if r.get("decision_id") and r.get("correlation_id") != mark], whole
            if time.monotonic() > deadline:
                raise RuntimeError("the decision log does not come")
            time.sleep(0.01)

    def make_certificates(self, names: str) -> None:
        tls = self.dir / "upstream"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        (tls / "leaf.cnf").write_text(
            f"subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n"
        )
        for arguments in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Upstream test CA",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
            ["req", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=upstream"],
            ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
             "-extfile", "leaf.cnf", "-out", "leaf.pem"],
        ):  # fmt: skip
            checked(["openssl", *arguments], tls, os.environ)

    def make_repository(self) -> None:
        bare, work = self.dir / "repositories/acme/app.git", self.dir / "work/seed"
        identity = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        for role in ("AUTHOR", "COMMITTER"):
            identity |= {f"GIT_{role}_NAME": "Seed", f"GIT_{role}_EMAIL": "seed@acme.example"}
        environment = {**self.plain(), **identity}
        checked(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], self.dir, environment)
        checked(["git", "-C", str(bare), "config", "http.receivepack", "true"], self.dir, environment)
        checked(["git", "init", "--quiet", "--initial-branch=main", str(work)], self.dir, environment)
        (work / "README").write_text("a herd of egrets\n" * 5000)
        for arguments in (["add", "."], ["commit", "--quiet", "-m", "Seed"], ["push", "--quiet", str(bare), "main"]):
            checked(["git", "-C", str(work), *arguments], self.dir, environment)


class Installed:
    """The clients that do not come with the machine, in directories of their own."""

    def __init__(self, directory: Path, sources: Path):
        self.python = directory / "python/bin/python"
        self.modules = directory / "node/node_modules"
        self.older_node = self.modules / "older-node/bin/node"
        self.newer_node = self.modules / "newer-node/bin/node"
        checked(["python3", "-m", "venv", str(directory / "python")], directory, os.environ)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        checked([*pip, "--requirement", str(sources / "requirements.txt")], directory, os.environ)
        node = directory / "node"
        node.mkdir()
        shutil.copy(sources / "package.json", node)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
        # The package `node` fetches its binary in a script; these are the binaries.
        binary = f"npm:node-linux-{node_arch()}"
        checked([*npm, f"older-node@{binary}@20.20.2", f"newer-node@{binary}@24.21.0"], node, os.environ)
        # Modules are looked up beside the program that imports them.
        self.programs = node / "programs"
        shutil.copytree(sources / "programs", self.programs)


def node_arch() -> str:
    return {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def tokens_of(environment: dict[str, str], *keys: str) -> list[str]:
    """The agent's tokens in an environment, and their parts, as they could show up elsewhere."""
    login = environment.get("HTTPS_PROXY", "").removeprefix("http://").rpartition("@")[0]
    tokens = [login.partition(":")[2], *(environment.get(key, "") for key in keys)]
    found = [part for token in tokens if token.startswith("eyJ") for part in token.split(".")]
    return found + ([base64.b64encode(login.encode()).decode()] if login else [])


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def checked(command: list, cwd: Path, environment) -> None:
    ran = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode != 0:
        said = (ran.stdout + ran.stderr).decode(errors="replace")
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} …: exit code {ran.returncode}\n{said}")
