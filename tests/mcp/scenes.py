"""What every SDK does, and what must come of it: at the client, at the server, and in the decision log."""

import fnmatch
import json
import subprocess
from dataclasses import dataclass, field

from house import CLIENT_TIME, tokens_of
from place import Place, Received
from report import Report, Row

COLUMNS = ("plumbing", "allowed", "listed", "refused", "approval", "kept apart")

# As policy.yaml has it.
GRANTED = {
    "everything": [
        "echo",
        "get-*",
        "toggle-simulated-logging",
        "trigger-elicitation-request",
        "trigger-long-running-operation",
    ],
    "paged": ["echo", "get-*"],
}
# Not granted, and without effect where there is no egret; and granted, but only with a human's yes.
DENIED = {"everything": "toggle-subscriber-updates", "paged": "drop-table"}
GUARDED = {"everything": "get-tiny-image", "paged": "get-night"}
RESOURCE = {"everything": "demo://resource/dynamic/text/1", "paged": "demo://nest"}

# How egret says no, in its answers and in its log.
CODES = {"tool": ("action_denied", "tool_denied"), "method": ("action_denied",), "approval": ("approval_required",)}

# How long one step of a client may take.
STEP_TIME = 10
MODERN = "2026-07-28"


@dataclass
class Sdk:
    """A client library."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    first: bool = False  # of two versions; it speaks with sessions only
    resumes: bool = False


@dataclass
class Seen:
    """What became of one run of a client."""

    steps: list[dict]
    said: str
    received: list[Received]
    records: list[dict]

    def step(self, name: str, number: int = 0) -> dict:
        found = [step for step in self.steps if step["do"] == name]
        return found[number] if number < len(found) else {"error": "this step was not reached"}

    def decisions(self, decision: str) -> list[dict]:
        return [r for r in self.records if r["event"] == "decision" and r["decision"] == decision]

    def shown(self) -> str:
        denied = [(r["decision"], r["code"], r["reason"]) for r in self.records if r["decision"] != "allow"]
        return "\n".join([self.said, *map(repr, self.received), *map(str, denied)])


class Scenes:
    """Runs every SDK at every server and door.

    A scene is one run of a client's program: one session, and in it a list of steps. A step is `{"do": …}` and what it
    needs, such as `name` and `arguments`; the programs say what came of each.
    """

    def __init__(self, place: Place, report: Report, *, approvals: bool, only: str, wire: bool):
        self.place, self.report = place, report
        self.approvals, self.only, self.wire = approvals, only, wire
        self.egret = place.egret is not None

    def all(self) -> None:
        installed = self.place.installed
        node, program = str(installed.node), str(installed.programs / "client.mjs")
        python = str(installed.programs / "client.py")
        sdks = [
            Sdk("TypeScript sdk 1.32.2", [node, program], {"SDK": "1"}, first=True, resumes=True),
            Sdk("TypeScript client 2.4.0", [node, program], {"SDK": "2"}, resumes=True),
            Sdk("Python mcp 1.30.0", [str(installed.first_python), python], first=True),
            Sdk("Python mcp 2.3.0", [str(installed.second_python), python]),
        ]
        for sdk in sdks:
            for door in ("tunnel", "gateway") if self.egret else ("direct",):
                self.scene(sdk, "everything", "legacy", door)
            self.scene(sdk, "everything-sse", "legacy", "tunnel" if self.egret else "direct")
            for server in ("paged-json", "paged-events"):
                self.scene(sdk, server, "legacy", "tunnel" if self.egret else "direct")
            if sdk.first:
                continue
            self.scene(sdk, "everything", "auto", "tunnel" if self.egret else "direct")
            for server in ("paged-json", "paged-events"):
                for door in ("tunnel", "gateway") if self.egret else ("direct",):
                    self.scene(sdk, server, "modern", door)
                self.scene(sdk, server, "auto", "tunnel" if self.egret else "direct")

    def scene(self, sdk: Sdk, server: str, era: str, door: str) -> None:
        """One session of an SDK: everything that it can do there, in one run."""
        name = f"{server}, {era}"
        if self.only not in f"{sdk.name}, {name}, {door}":
            return
        row = self.report.row(sdk.name, f"{name}, {door}")
        kind = "everything" if server.startswith("everything") else "paged"
        modern = kind == "paged" and era != "legacy"
        steps = [
            {"do": "list"},
            {"do": "call", "name": "echo", "arguments": {"message": "a heron"}},
            {"do": "call", "name": DENIED[kind]},
            {"do": "resources"},
            {"do": "resource", "uri": RESOURCE[kind]},
            {"do": "prompts"},
            {"do": "prompt", "name": "simple-prompt"},
        ]
        if self.approvals:
            steps.append({"do": "call", "name": GUARDED[kind]})
        if not modern:
            steps.append({"do": "ping"})
        if kind == "everything":
            long = {"name": "trigger-long-running-operation", "arguments": {"duration": 0.3, "steps": 3}}
            steps += [
                {"do": "call", "name": "get-sum", "arguments": {"a": 2, "b": 3}},
                {"do": "progress", **long},
                {"do": "level", "level": "debug"},
                {"do": "log", "name": "toggle-simulated-logging"},
                {"do": "elicit", "name": "trigger-elicitation-request"},
            ]
            if sdk.resumes and server == "everything":
                steps.append({"do": "resume", **long})
        seen = self.run(row, sdk, server, era, door, steps)
        if "error" in seen.step("connect"):
            row.check("plumbing", "the client connects", False, seen.shown())
            return
        self.plumbing(row, seen, kind, server, modern)
        if kind == "everything":
            self.everything(row, seen, resumes=steps[-1]["do"] == "resume")
        self.listed(row, seen, kind)
        self.allowed(row, seen, kind)
        self.refused(row, seen, kind)
        if self.approvals:
            self.approval(row, seen, kind)
        self.decided(row, seen, door)

    def plumbing(self, row: Row, seen: Seen, kind: str, server: str, modern: bool) -> None:
        """The session, from the server's side."""
        # A client that is told which version to speak asks nobody, and is told no name.
        asks = any(r.message.get("method") in ("initialize", "server/discover") for r in seen.received)
        named = {"everything": "mcp-servers/everything", "paged": "paged"}[kind] if asks else None
        row.check("plumbing", "the client knows the server", seen.step("connect").get("server") == named, seen.said)
        row.check("plumbing", "the client ends by itself", "error" not in seen.step("close"), seen.said)
        late = [step for step in seen.steps if "TIMEOUT" in step.get("error", "")]
        row.check("plumbing", "no step hangs", not late, late)
        posts = [r for r in seen.received if r.method == "POST"]
        gets = [r for r in seen.received if r.method == "GET"]
        if modern:
            exact = [self.mirrored(r) for r in posts if r.message.get("method") != "initialize"]
            row.check("plumbing", "headers say what the bodies say, still at the server", exact and all(exact), posts)
            row.check("plumbing", "no session, no stream, no end", len(posts) == len(seen.received), seen.received)
        else:
            row.check("plumbing", "ping", "error" not in seen.step("ping"), seen.said)
            methods = [r.message.get("method") for r in posts]
            row.check("plumbing", "initialize, then initialized",
                      [m for m in methods if m != "server/discover"][:2] == ["initialize", "notifications/initialized"],
                      methods)  # fmt: skip
        if not modern and server != "everything-sse":
            opened = next((r for r in posts if r.message.get("method") == "initialize"), None)
            session = opened and opened.session
            later = seen.received[seen.received.index(opened) + 1 :] if opened else []
            kept = [r for r in later if r.header("mcp-session-id") == session]
            row.check("plumbing", "every later request has the session", session and kept == later, seen.received)
            streams = [r for r in gets if (r.status, r.type) == (200, "text/event-stream")]
            row.check("plumbing", "the stream of the server's own messages opens", bool(streams), seen.received)
            ended = [(r.status, r.header("mcp-session-id")) for r in seen.received if r.method == "DELETE"]
            row.check("plumbing", "DELETE ends the session", ended == [(200, session)], ended)
        if server == "everything-sse":
            row.check("plumbing", "one stream", [r.target for r in gets] == ["/sse"], gets)
            where = {r.target.split("=")[0] for r in posts}
            row.check("plumbing", "messages go where the stream said", where == {"/message?sessionId"}, where)
        tools = [r for r in posts if (r.message.get("method") or "").startswith("tools/")]
        shape = {"everything-sse": "", "paged-json": "application/json"}.get(server, "text/event-stream")
        row.check("plumbing", "the server answers in its own way", {r.type for r in tools} == {shape}, tools)

    def mirrored(self, request: Received) -> bool:
        """The routing headers of 2026-07-28 say what the body says."""
        message = request.message
        method = message.get("method")
        params = message.get("params", {})
        name = {
            "tools/call": params.get("name"),
            "prompts/get": params.get("name"),
            "resources/read": params.get("uri"),
        }
        named = (request.header("mcp-method"), request.header("mcp-name")) == (method, name.get(method))
        return named and request.header("mcp-protocol-version") == MODERN and not request.header("mcp-session-id")

    def everything(self, row: Row, seen: Seen, *, resumes: bool) -> None:
        """What flows beside answers."""
        progress = seen.step("progress")
        # The first SDK of TypeScript drops what comes together with the result.
        row.check("plumbing", "progress arrives", progress.get("progress", [])[:2] == [1, 2], progress)
        row.check("plumbing", "and then the result", "completed" in progress.get("text", ""), progress)
        row.check("plumbing", "the level of logging is set", "error" not in seen.step("level"), seen.said)
        row.check("plumbing", "a log message of the server's own arrives", seen.step("log").get("logged"), seen.said)
        elicited = seen.step("elicit").get("text", seen.said)
        row.check("plumbing", "the server asks the user back, and has the answer", "declined" in elicited, elicited)
        if resumes:
            replayed = seen.step("resume").get("replayed", [])
            row.check("plumbing", "what was missed is replayed", replayed[-1:] == ["result"], seen.said)
            again = [r for r in seen.received if r.method == "GET" and r.header("last-event-id") and r.status == 200]
            row.check("plumbing", "the stream is resumed at its event", len(again) == 1, seen.received)

    def listed(self, row: Row, seen: Seen, kind: str) -> None:
        """`tools/list` has the role's tools; the server's own list has more."""
        asked = [r.message for r in seen.received if r.message.get("method") == "tools/list"]
        answers = [m for r in seen.received for m in r.messages() if "tools" in m.get("result", {})]
        own = []
        for answer in answers:
            own += [tool["name"] for tool in answer["result"]["tools"] if tool["name"] not in own]
        granted = [name for name in own if any(fnmatch.fnmatch(name, glob) for glob in GRANTED[kind])]
        pages = seen.step("list").get("pages", [])
        shown = [name for page in pages for name in page]
        wanted = granted if self.egret else own
        row.check("listed", "the server lists more than the role has", DENIED[kind] in own, own)
        row.check("listed", "the client has the tools of the role" if self.egret else "the client has all tools",
                  shown == wanted, (shown, wanted))  # fmt: skip
        if kind == "paged":
            cursors = [message.get("params", {}).get("cursor") for message in asked]
            row.check("listed", "cursors lead through all pages", cursors[:4] == [None, "2", "4", "6"], cursors)

    def allowed(self, row: Row, seen: Seen, kind: str) -> None:
        echoed = seen.step("call")
        row.check("allowed", "an allowed tool answers", not echoed.get("isError", True), echoed)
        row.check("allowed", "with what the server said", "a heron" in echoed.get("text", ""), echoed)
        row.check("allowed", "it was called once", sum(r.calls("echo") for r in seen.received) == 1, seen.received)
        if kind == "everything":
            added = [step for step in seen.steps if step["do"] == "call"][-1]
            row.check("allowed", "a tool of a pattern answers", "5" in added.get("text", ""), added)

    def refused(self, row: Row, seen: Seen, kind: str) -> None:
        tool = DENIED[kind]
        denied = seen.step("call", 1)
        called = sum(r.calls(tool) for r in seen.received)
        others = [seen.step(name) for name in ("resources", "resource", "prompts", "prompt")]
        methods = ("resources/list", "resources/read", "prompts/list", "prompts/get")
        reached = [r.message["method"] for r in seen.received if r.message.get("method") in methods]
        if not self.egret:
            row.check("refused", "without egret: any tool answers", denied.get("isError") is False, denied)
            row.check("refused", "without egret: it is called", called == 1, seen.received)
            row.check("refused", "without egret: so is all else", not any("error" in step for step in others), others)
            row.check("refused", "without egret: and arrives", set(reached) == set(methods), reached)
            return
        row.check("refused", "the caller has a result, no exception", "error" not in denied, denied)
        row.check("refused", "it is a tool's error", denied.get("isError") is True, denied)
        says = denied.get("text", "")
        row.check("refused", "it names egret and the tool", "egret" in says and tool in says, denied)
        row.check("refused", "the server never saw the call", called == 0, seen.received)
        for method, step in zip(methods, others):
            error = step.get("error", "")
            row.check("refused", f"{method} is an error that names egret", "egret" in error, step)
        row.check("refused", "the server saw nothing of them", not reached, reached)
        logged = [r for r in seen.decisions("deny") if r["code"] in CODES["tool"] and tool in json.dumps(r)]
        row.check("refused", "the log has the tool, once", len(logged) == 1, seen.decisions("deny"))
        codes = [r["code"] for r in seen.decisions("deny") if r not in logged and r["code"] in CODES["method"]]
        row.check("refused", "the log has the other four", len(codes) == len(methods), seen.decisions("deny"))

    def approval(self, row: Row, seen: Seen, kind: str) -> None:
        tool = GUARDED[kind]
        asked = seen.step("call", 2)
        called = sum(r.calls(tool) for r in seen.received)
        if not self.egret:
            row.check(
                "approval", "without egret: nobody is asked", asked.get("isError") is False and called == 1, asked
            )
            return
        row.check("approval", "the caller has a tool's error", asked.get("isError") is True, asked)
        said = asked.get("text", "") + json.dumps(asked.get("structured"))
        row.check("approval", "with the code", any(code in said for code in CODES["approval"]), asked)
        row.check("approval", "the server never saw the call", called == 0, seen.received)
        logged = [r["code"] for r in seen.records if r["event"] == "decision" and r["code"] in CODES["approval"]]
        row.check("approval", "the log has it, once", len(logged) == 1, seen.shown())

    def decided(self, row: Row, seen: Seen, door: str) -> None:
        """What holds for all that was sent."""
        credentials = {r.header("authorization") for r in seen.received}
        if not self.egret:
            row.check(
                "kept apart", "without egret: the client's own goes out", credentials == {f"Bearer {self.place.canary}"}
            )
            return
        right = {f"Bearer {self.place.secrets['mcp']}"}
        row.check("kept apart", "every request has the right credential", credentials == right, seen.received)
        allowed = seen.decisions("allow")
        row.check("kept apart", "as many were allowed as arrived", len(allowed) == len(seen.received), seen.shown())
        where = {r["client"]["listener"] for r in allowed}
        row.check("kept apart", f"all came in at the {door}", where == {door}, where)

    def run(self, row: Row, sdk: Sdk, server: str, era: str, door: str, steps: list[dict]) -> Seen:
        """Runs a client, and checks what must hold whatever it did: nothing leaked, in any direction."""
        environment = self.place.client_environment(door) | sdk.environment
        environment |= {
            "TRANSPORT": "sse" if server == "everything-sse" else "http",
            "ERA": era,
            "STEP_TIME": str(STEP_TIME),
        }
        command = [*sdk.command, self.place.url(server, door), json.dumps(steps)]
        child = subprocess.Popen(
            command, cwd=self.place.dir, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = child.communicate(timeout=CLIENT_TIME)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            row.check("plumbing", f"the client is done within {CLIENT_TIME} s", False, out.decode(errors="replace"))
        said = (out + err).decode(errors="replace")
        answers = [json.loads(line) for line in out.decode(errors="replace").splitlines() if line.startswith("{")]
        records, log = self.place.records() if self.egret else ([], "")
        seen = Seen(answers, said, self.place.received(), records)
        if self.wire:
            print(f"\n--- {row.client}, {row.door}\n{said}", *map(repr, seen.received), sep="\n")
        if self.egret:
            sent = "\n".join(repr(request) for request in seen.received)
            tokens = tokens_of(environment, "BEARER")
            hidden = [*self.place.secrets.values(), *tokens, self.place.canary]
            for what, values in {
                "the client's own credential": [self.place.canary],
                "the token": tokens,
                "the agent": ["heron-bot"],
            }.items():
                row.check("kept apart", f"{what} does not go out", not any(v in sent for v in values), "(not shown)")
            row.check(
                "kept apart", "the client never sees the secret", self.place.secrets["mcp"] not in said, "(not shown)"
            )
            log += self.place.messages.read_text()
            row.check(
                "kept apart", "the log has no token and no secret", not any(v in log for v in hidden), "(not shown)"
            )
        return seen
