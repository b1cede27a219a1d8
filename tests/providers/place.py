"""Where the servers run: a directory, certificates, ports, and the processes, which end with this one."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

# How long anything on this machine may take to come up.
PATIENCE = 60
# How long a process may take to end before it is ended.
GRACE = 5


class Place:
    """Everything in one directory. `close` ends all that was started."""

    def __init__(self, directory: Path, installed: Path, names: list[str]):
        self.dir, self.installed = directory, installed
        self.node = installed / f"node/node_modules/node-{node_arch()}/bin/node"
        self.python = installed / "python/bin/python"
        self.programs = directory / "programs"
        self.children: dict[str, subprocess.Popen] = {}
        self.make_authority()
        self.certificate, self.key = self.make_certificate("server", [*names, "localhost"], "serverAuth")
        # Modules are looked up beside the program that imports them.
        shutil.copytree(Path(__file__).parent, self.programs, ignore=shutil.ignore_patterns("__pycache__"))
        (self.programs / "node_modules").symlink_to(installed / "node/node_modules")

    def make_authority(self) -> None:
        self.ca = self.dir / "ca.pem"
        arguments = ["-days", "2", "-subj", "/CN=Providers test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self.openssl("req", "-x509", *CURVE, "-keyout", "ca.key", "-out", "ca.pem", *arguments)

    def make_certificate(self, name: str, hosts: list[str], use: str) -> tuple[Path, Path]:
        """A certificate of the authority, and its key."""
        (self.dir / f"{name}.cnf").write_text(
            f"subjectAltName={','.join(f'DNS:{host}' for host in hosts)}\nbasicConstraints=critical,CA:FALSE\n"
            f"keyUsage=critical,digitalSignature\nextendedKeyUsage={use}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n"
        )
        self.openssl("req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self.openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{name}.cnf", "-out", f"{name}.pem",
        )  # fmt: skip
        return self.dir / f"{name}.pem", self.dir / f"{name}.key"

    def make_key(self, name: str, kind: str) -> Path:
        """A private key in PKCS #8, `EC` or `RSA`."""
        options = {"EC": "ec_paramgen_curve:P-256", "RSA": "rsa_keygen_bits:2048"}[kind]
        self.openssl("genpkey", "-algorithm", kind, "-pkeyopt", options, "-out", f"{name}.key")
        return self.dir / f"{name}.key"

    def openssl(self, *arguments: str) -> None:
        checked(["openssl", *arguments], self.dir, plain())

    def filled(self, name: str, **values) -> Path:
        """A configuration with its places filled in."""
        text = (self.programs / name).read_text()
        for place, value in values.items():
            text = text.replace(f"@{place}@", str(value))
        (self.dir / name).write_text(text)
        return self.dir / name

    def start(self, name: str, command: list, environment: dict[str, str] | None = None) -> None:
        """Starts a program that writes to `NAME.log` and that ends with this one, however this one ends."""
        with (self.dir / f"{name}.log").open("wb") as log:
            self.children[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)], cwd=self.dir, stdin=subprocess.DEVNULL,
                env=plain() | (environment or {}), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait(self, name: str, port: int, path: str, host: str | None = None) -> None:
        """Until the server answers there, whatever it says; over TLS if it has a host."""
        deadline = time.monotonic() + PATIENCE
        while not self.answers(port, path, host):
            child = self.children[name]
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{(self.dir / f'{name}.log').read_text()}")
            time.sleep(0.05)

    def answers(self, port: int, path: str, host: str | None) -> bool:
        connection = http.client.HTTPConnection(host or "127.0.0.1", timeout=GRACE)
        try:
            connection.sock = socket.create_connection(("127.0.0.1", port), GRACE)
            if host:
                context = ssl.create_default_context(cafile=str(self.ca))
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            connection.request("GET", path)
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def close(self) -> None:
        for child in self.children.values():
            end(child, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for child in self.children.values():
            try:
                child.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                end(child, signal.SIGKILL)
                child.wait()


CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def end(child: subprocess.Popen, how: signal.Signals) -> None:
    """Signals the child and what it has started: each child leads a session of its own."""
    try:
        os.killpg(child.pid, how)
    except ProcessLookupError:
        pass


def plain() -> dict[str, str]:
    """An environment with nothing in it that a server could trip over."""
    return {"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


def node_arch() -> str:
    return {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def checked(command: list, cwd: Path, environment: dict[str, str], said: str = "") -> str:
    """Runs a command that must succeed, and that reads what is said to it; what it prints."""
    ran = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, input=said, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[0]}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout
