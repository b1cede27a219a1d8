"""The YAML language server, spoken to as an editor does: JSON-RPC over its standard input and output."""

import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

PATIENCE = 10  # Seconds for an answer; nothing here takes one.


class Server:
    """A running server, and the documents that are open in it."""

    def __init__(self, program: Path, root: Path):
        self.process = subprocess.Popen(
            ["node", str(program), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root)},
        )
        self.arrived: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.asked = 0
        folder = {"uri": root.as_uri(), "name": "policies"}
        self.ask("initialize", {"processId": os.getpid(), "rootUri": root.as_uri(), "workspaceFolders": [folder],
                                "capabilities": CAPABILITIES})
        self.tell("initialized", {})
        # No schema from the network: what is judged is the one that the modeline names.
        self.settings = {"yaml": {"schemaStore": {"enable": False}, "validate": True, "completion": True, "hover": True}}
        self.tell("workspace/didChangeConfiguration", {"settings": self.settings})

    def associate(self, schemas: dict[str, str], path: Path) -> list[dict]:
        """Says which schema goes with which files, and gives what is then found in an open one."""
        self.settings["yaml"]["schemas"] = schemas
        self.tell("workspace/didChangeConfiguration", {"settings": self.settings})
        return self._diagnostics(path, bool)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def open(self, path: Path, text: str) -> list[dict]:
        """Opens a document, and gives the diagnostics for it."""
        path.write_text(text)
        item = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": item})
        return self._diagnostics(path, lambda _: True)

    def at(self, method: str, path: Path, line: int, character: int) -> object:
        """Asks for something at a place of a document."""
        where = {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": character}}
        return self.ask(method, where)

    def _diagnostics(self, path: Path, wanted) -> list[dict]:
        def publishes(message: dict) -> bool:
            about = message.get("method") == "textDocument/publishDiagnostics" and message["params"]
            return bool(about) and about["uri"] == path.as_uri() and wanted(about["diagnostics"])

        return self._until(publishes)["params"]["diagnostics"]

    def ask(self, method: str, params: object) -> object:
        self.asked += 1
        number = self.asked
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = self._until(lambda m: m.get("id") == number and "method" not in m)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def tell(self, method: str, params: object) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _until(self, wanted) -> dict:
        """The next message that is wanted; the server's own questions are answered on the way."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                message = self.arrived.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"the language server said nothing for {PATIENCE} s") from None
            if message is None:
                raise RuntimeError("the language server ended")
            if "method" in message and "id" in message:
                self._send({"jsonrpc": "2.0", "id": message["id"], "result": self._answer(message)})
            elif wanted(message):
                return message

    def _answer(self, question: dict) -> object:
        if question["method"] != "workspace/configuration":
            return None
        return [self.settings.get(item.get("section")) for item in question["params"]["items"]]

    def _send(self, message: dict) -> None:
        body = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def _read(self) -> None:
        while True:
            length = None
            while (line := self.process.stdout.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if length is None:
                self.arrived.put(None)
                return
            self.arrived.put(json.loads(self.process.stdout.read(length)))


CAPABILITIES = {
    "workspace": {"configuration": True, "workspaceFolders": True},
    "textDocument": {
        "synchronization": {},
        "publishDiagnostics": {},
        "completion": {"completionItem": {"documentationFormat": ["markdown"]}},
        "hover": {"contentFormat": ["markdown"]},
    },
}
