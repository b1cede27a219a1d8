"""The upstream: one HTTPS server that plays OpenAI, GitHub and an API of our own, and keeps what it received."""

import base64
import http.server
import json
import os
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

# How long a stream waits for its client to have read the first event.
PATIENCE = 20


@dataclass
class Received:
    """One request, as it came off the socket."""

    method: str
    host: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    credential: str = field(default="")

    def raw(self) -> str:
        head = "".join(f"{name}: {value}\n" for name, value in self.headers)
        return f"{self.method} {self.target}\n{head}\n{self.body.decode('latin-1')}"


class Upstream:
    """Serves on a loopback port until `stop`."""

    def __init__(self, certificate: Path, key: Path, repositories: Path, secrets: dict[str, str]):
        self.repositories = repositories
        self.secrets = secrets
        self.received: list[Received] = []
        # Written by a client that has read the first event of a stream; the stream goes on only then.
        self.gate: Path | None = None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.upstream, self.server.context = self, context
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self) -> list[Received]:
        """What was received since the last time."""
        taken, self.received = self.received, []
        return taken

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    upstream: Upstream
    context: ssl.SSLContext

    def finish_request(self, request, client_address):
        # In the connection's own thread: a slow handshake holds up nobody else.
        try:
            with self.context.wrap_socket(request, server_side=True) as stream:
                self.RequestHandlerClass(stream, client_address, self)
        except OSError:
            pass  # the other side ended it, as it does where the certificate has another name

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_):
        pass

    def answer(self) -> None:
        upstream = self.server.upstream
        body = self.read_body()
        host = self.headers.get("Host", "").split(":")[0]
        received = Received(self.command, host, self.path, self.headers.items(), body)
        received.credential = self.headers.get("Authorization", "")
        path = urlsplit(self.path).path
        if path != "/v1/barrier":
            upstream.received.append(received)
        wanted = {
            "api.openai.com": "Bearer " + upstream.secrets["openai"],
            "api.good.test": "Bearer " + upstream.secrets["good"],
            "github.com": "Basic " + base64.b64encode(b"x-access-token:" + upstream.secrets["github"].encode()).decode(),
        }.get(host)
        if wanted is None:
            self.say(421, {"error": f"nobody is called {host} here"})
        elif received.credential != wanted:
            self.say(401, {"error": {"message": "the credential is not right", "type": "invalid_request_error"}})
        elif host == "github.com":
            self.git(body)
        elif host == "api.openai.com" and path == "/v1/chat/completions":
            self.complete(json.loads(body))
        else:
            self.say(200, {"method": self.command, "path": self.path, "headers": dict(self.headers.items())})

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    def say(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def complete(self, asked: dict) -> None:
        """A chat completion that repeats the credential it was sent, as a careless server would."""
        told = "you sent " + self.headers.get("Authorization", "")
        common = {"id": "chatcmpl-1", "created": 1, "model": asked.get("model", "")}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": told}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.say(200, {**common, "object": "chat.completion", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event(common, "first ")
        self.event(common, "second " if self.client_has_read() else "BUFFERED ")
        self.event(common, told)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, common: dict, text: str) -> None:
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        event = {**common, "object": "chat.completion.chunk", "choices": [choice]}
        self.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def client_has_read(self) -> bool:
        gate, deadline = self.server.upstream.gate, time.monotonic() + PATIENCE
        while gate is not None and not gate.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return gate is not None

    def git(self, body: bytes) -> None:
        """Hands the request to `git http-backend` (a CGI program, RFC 3875)."""
        url = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.upstream.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.server.upstream.repositories),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "x-access-token",
            "REMOTE_ADDR": "127.0.0.1",
        }
        ran = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, answer = ran.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.send_response(status if ran.returncode == 0 else 500)
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
