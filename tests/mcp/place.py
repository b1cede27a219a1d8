"""Where the SDKs are tried: the servers, the witness in front of them, and a running egret before that."""

import http.client
import json
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from house import PATIENCE, House, free_ports, node_arch

HERE = Path(__file__).resolve().parent
# The path of each server's endpoint.
SERVERS = {"everything": "/mcp", "everything-sse": "/sse", "paged-json": "/mcp", "paged-events": "/mcp"}


class Installed:
    """What `run` put into a directory."""

    def __init__(self, directory: Path):
        node = directory / "node"
        self.node = node / f"node_modules/node-{node_arch()}/bin/node"
        self.everything = node / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
        self.first_python, self.second_python = directory / "python-1/bin/python", directory / "python-2/bin/python"
        # Modules are looked up beside the program that imports them.
        self.programs = node / "programs"
        shutil.copytree(HERE / "programs", self.programs, dirs_exist_ok=True)


class Place(House):
    """Everything in one directory. Without an egret, the clients go to the servers."""

    # Nobody may go there, and that is written down.
    barrier = "http://barrier.test/"

    def __init__(self, directory: Path, egret: Path | None, installed: Installed, policies: list[Path]):
        super().__init__(directory, egret)
        self.installed, self.policies = installed, policies
        self.secrets = {"mcp": f"mcp-secret-{secrets.token_hex(20)}"}
        self.children: list[subprocess.Popen] = []

    def open(self) -> None:
        for name in ("home", "policies", "secrets", "upstream"):
            (self.dir / name).mkdir(parents=True)
        self.make_certificates(",".join(f"DNS:{name}" for name in [*(f"{name}.test" for name in SERVERS), "localhost"]))
        self.start_servers()
        if self.egret is not None:
            secret = self.dir / "secrets/mcp"
            secret.touch(mode=0o600)
            secret.write_text(self.secrets["mcp"])
            for policy in self.policies:
                shutil.copy(policy, self.dir / "policies")
            self.proxy, self.gateway, admin = free_ports(3)
            settings = (HERE / "egret.yaml").read_text()
            self.start(settings.format(proxy=self.proxy, gateway=self.gateway, admin=admin, **self.ports), {})

    def start_servers(self) -> None:
        node, programs = str(self.installed.node), self.installed.programs
        ports = dict(zip(SERVERS, free_ports(len(SERVERS))))
        everything = [node, str(self.installed.everything)]
        paged = [str(self.installed.second_python), str(programs / "paged.py")]
        for name, command in {
            "everything": [*everything, "streamableHttp"],
            "everything-sse": [*everything, "sse"],
            "paged-json": [*paged, str(ports["paged-json"]), "json"],
            "paged-events": [*paged, str(ports["paged-events"]), "events"],
        }.items():
            with (self.dir / f"{name}.log").open("wb") as log:
                environment = self.plain() | {"PORT": str(ports[name])}
                self.children.append(
                    subprocess.Popen(
                        command, cwd=self.dir, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )
        for name, port in ports.items():
            self.wait_until_listening(name, port)
        tls = self.dir / "upstream"
        front = subprocess.Popen(
            [node, programs / "front.mjs", tls / "leaf.pem", tls / "leaf.key", *(f"{n}={p}" for n, p in ports.items())],
            env=self.plain(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.children.append(front)
        self.ports = json.loads(front.stdout.readline())

    def wait_until_listening(self, name: str, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not start:\n{(self.dir / f'{name}.log').read_text()}") from None
                time.sleep(0.05)

    def close(self) -> None:
        for child in [*filter(None, [self.process]), *self.children]:
            child.terminate()
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def received(self) -> list["Received"]:
        """What the witness saw since the last time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["witness"], timeout=PATIENCE)
        connection.request("GET", "/")
        kept = json.loads(connection.getresponse().read())
        connection.close()
        return [Received(one) for one in kept]

    def url(self, server: str, door: str) -> str:
        path = SERVERS[server]
        return {
            "direct": f"https://localhost:{self.ports[server]}{path}",
            "tunnel": f"https://{server}.test{path}",
            "gateway": f"http://127.0.0.1:{getattr(self, 'gateway', 0)}/{server}{path}",
        }[door]

    def client_environment(self, door: str) -> dict[str, str]:
        if door == "direct":
            ca = str(self.dir / "upstream/ca.pem")
            return self.plain() | {"NODE_EXTRA_CA_CERTS": ca, "SSL_CERT_FILE": ca, "BEARER": self.canary}
        bearer = self.token("acme/heron-bot") if door == "gateway" else self.canary
        return self.environment("acme/heron-bot") | {"BEARER": bearer}


class Received:
    """One request as it came off the socket, and what the server answered."""

    def __init__(self, kept: dict):
        self.method, self.target = kept["method"], kept["target"]
        self.headers = [(name.lower(), value) for name, value in kept["headers"]]
        self.body = kept["body"]
        self.status, self.type, self.answer = kept["status"], kept["type"], kept["answer"]
        self.session = kept["session"]
        try:
            self.message = json.loads(self.body)
        except ValueError:
            self.message = {}

    def header(self, name: str) -> str | None:
        return ", ".join(value for header, value in self.headers if header == name.lower()) or None

    def calls(self, tool: str) -> bool:
        message = self.message
        return message.get("method") == "tools/call" and message["params"]["name"] == tool

    def messages(self) -> list[dict]:
        """What was answered, in JSON or as events."""
        if self.type == "application/json" and self.answer:
            return [json.loads(self.answer)]
        lines = [line.removeprefix("data:").strip() for line in self.answer.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def __repr__(self) -> str:
        head = "".join(f"    {name}: {value}\n" for name, value in self.headers)
        first = f"{self.method} {self.target} -> {self.status} {self.type}\n"
        return f"{first}{head}    {self.body}\n    {self.answer[:300]}\n"
