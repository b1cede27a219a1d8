"""The clients and what is asked of each: an allowed request, refused ones, and a stream."""

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path

from house import CLIENT_TIME, House, Installed, tokens_of
from report import Report, Row
from upstream import Received

AGENTS = ["heron-bot", "stork-bot"]
WHO, WRITER = (f"acme/{agent}" for agent in AGENTS)
PLACEHOLDER = "egret-placeholder"


@dataclass
class Seen:
    """What became of one run of a client: what it printed, what the upstream got, what was written down."""

    code: int
    said: str
    received: list[Received]
    records: list[dict]

    def decisions(self, decision: str) -> list[dict]:
        return [r for r in self.records if r["event"] == "decision" and r["decision"] == decision]

    def codes(self) -> list[str]:
        return [r["code"] for r in self.records if r["code"]]


class Suite:
    """Runs clients in a house, and checks after each what must hold for all."""

    def __init__(self, house: House, installed: Installed, report: Report):
        self.house, self.installed, self.report = house, installed, report
        self.runs = 0

    def all(self) -> None:
        programs = self.installed.programs
        python, older, newer = map(str, (self.installed.python, self.installed.older_node, self.installed.newer_node))
        curl = [str(programs / "fetch_curl")]
        denied = "Denied by egret: destination_not_allowed"
        fetching = [
            ("curl", curl, {}, "CONNECT tunnel failed, response 403"),
            ("requests", [python, str(programs / "fetch_requests.py")], {}, denied),
            ("httpx", [python, str(programs / "fetch_httpx.py")], {}, denied),
            ("Node 20, undici", [older, str(programs / "fetch.mjs")], {"UNDICI": "1"}, "Proxy response (403)"),
            ("Node 24, fetch", [newer, str(programs / "fetch.mjs")], {}, "Proxy response (403)"),
        ]
        for client, command, more, shows in fetching:
            environment = self.house.environment(WHO) | more
            self.fetch(self.report.row(client, "https, intercepted"), command, environment, "https", "tunnel", shows)
            # Node sends `http://` through CONNECT too, and speaks cleartext inside.
            tunnelled = client.startswith("Node")
            door, listener = ("http, in a tunnel", "tunnel") if tunnelled else ("http, absolute-form", "proxy")
            shows = shows if tunnelled else "destination_not_allowed"
            self.fetch(self.report.row(client, door), command, environment, "http", listener, shows)
        self.under_run(self.report.row("curl", "egret run"), curl)
        self.git(self.report.row("git", "https, intercepted"))
        for client, command in (
            ("OpenAI Python", [python, str(programs / "sdk_openai.py")]),
            ("OpenAI JS, Node 24", [newer, str(programs / "sdk_openai.mjs")]),
        ):
            environment = self.house.environment(WHO)
            base = "https://{}/v1"
            self.sdk(self.report.row(client, "https, intercepted"), command, environment, base, "tunnel")
            # Loopback is never sent through the proxy: `NO_PROXY` says so.
            token, base = self.house.token(WHO), f"http://127.0.0.1:{self.house.gateway}/{{}}/v1"
            gateway = environment | {"OPENAI_API_KEY": token}
            self.sdk(self.report.row(client, "gateway"), command, gateway, base, "gateway")

    def fetch(
        self, row: Row, command: list[str], environment: dict[str, str], scheme: str, listener: str, shows: str
    ) -> None:
        """A client of HTTP. `shows` is what it prints when a destination is refused."""
        seen = self.run(row, "allowed", [*command, "GET", f"{scheme}://api.good.test/v1/echo"], environment)
        self.reached(row, "allowed", seen, listener)
        row.check("allowed", "the echoed credential comes back redacted", "Bearer [redacted]" in seen.said, seen.said)
        taken = {name for r in seen.decisions("allow") for name in r["stripped"]}
        brought = {"authorization", "cookie", "x-api-key"}
        row.check("allowed", "what the client brought was taken away", brought <= taken, seen.records)

        seen = self.run(row, "refused", [*command, "DELETE", f"{scheme}://api.good.test/v1/echo"], environment)
        self.stopped(row, seen, "action_denied")
        row.check("refused", "the client has the whole refusal", says(seen, '"code":"action_denied"', "403"), seen.said)

        seen = self.run(row, "refused", [*command, "GET", f"{scheme}://evil.test/"], environment)
        self.stopped(row, seen, "destination_not_allowed")
        # Inside CONNECT few clients show more than a status.
        shown = shows in seen.said or "destination_not_allowed" in seen.said
        row.check("refused", "the client says why it cannot get there", shown, seen.said)

        url = f"{scheme}://api.openai.com/v1/chat/completions"
        self.streamed(row, self.run(row, "streaming", [*command, "STREAM", url], environment), listener)

    def sdk(self, row: Row, command: list[str], environment: dict[str, str], base: str, listener: str) -> None:
        """An SDK, whose key is a placeholder or, at the gateway, the agent's token."""
        named = "{}" in base and "gateway" == listener
        at = lambda name, host: environment | {"OPENAI_BASE_URL": base.format(name if named else host)}
        openai = at("openai", "api.openai.com")
        if not named:
            del openai["OPENAI_BASE_URL"]  # its own default

        seen = self.run(row, "allowed", [*command, "chat"], openai)
        self.reached(row, "allowed", seen, listener)
        row.check("allowed", "the answer is read", says(seen, "you sent Bearer [redacted]", "200"), seen.said)

        seen = self.run(row, "refused", [*command, "files"], openai)
        self.stopped(row, seen, "action_denied")
        message = "no role of openai covers GET /v1/files"
        row.check("refused", "the SDK shows our message", says(seen, message, "action_denied", "403"), seen.said)

        # A server error, which SDKs try three times where nobody tells them not to.
        seen = self.run(row, "refused", [*command, "chat"], at("misnamed", "misnamed.good.test"))
        row.check("refused", "a hopeless 502 is not tried again", len(seen.decisions("allow")) == 1, seen.records)
        row.check("refused", "nothing is sent to an unproven name", not seen.received, seen.received)
        row.check("refused", "the SDK shows why", says(seen, "upstream_tls_failed", "502"), seen.said)

        self.streamed(row, self.run(row, "streaming", [*command, "stream"], openai), listener)

    def under_run(self, row: Row, command: list[str]) -> None:
        """`egret run`: a private proxy, and an environment without egret's own secrets."""
        run = [str(self.house.egret), "run", "--as", WHO, "--"]
        environment = self.house.plain() | {"GOOD_API_KEY": self.house.secrets["good"]}
        seen = self.run(row, "allowed", [*run, "env"], environment)
        row.check("allowed", "the command is handed a proxy", says(seen, "HTTPS_PROXY=http://heron-bot:"), seen.said)
        row.check("allowed", "the policy's secrets are not handed on", says(seen, f"GOOD_API_KEY={PLACEHOLDER}"), "")
        self.fetch(row, [*run, *command], environment, "https", "tunnel", "CONNECT tunnel failed, response 403")

    def git(self, row: Row) -> None:
        work = self.house.dir / "work"
        url = "https://github.com/acme/app.git"
        environment = self.house.environment(WHO) | self.git_identity()

        seen = self.run(row, "allowed", ["git", "clone", "--quiet", url, str(work / "read")], environment)
        row.check("allowed", "the clone is there", (work / "read/README").exists(), seen.said)
        row.check("allowed", "git asks first and is told 407", "identity_missing" in seen.codes(), seen.records)
        row.check("allowed", "the upstream got it", len(seen.received) >= 2, seen.received)

        self.run(row, "refused", commit(work / "read"), environment)
        seen = self.run(row, "refused", ["git", "-C", str(work / "read"), "push", "origin", "main"], environment)
        row.check("refused", "the push fails", seen.code != 0, seen.said)
        row.check("refused", "git shows why", "remote: Denied by egret: heron-bot (acme)" in seen.said, seen.said)
        row.check("refused", "no push was announced upstream", not seen.received, [r.raw() for r in seen.received])

        environment = self.house.environment(WRITER) | self.git_identity()
        self.run(row, "allowed", ["git", "clone", "--quiet", url, str(work / "write")], environment)
        self.run(row, "allowed", commit(work / "write"), environment)
        push = ["git", "-C", str(work / "write"), "push", "--quiet", "origin", "main"]
        seen = self.run(row, "allowed", push, environment)
        row.check("allowed", "a writer pushes", seen.code == 0, seen.said)
        heads = [head(work / "write"), head(self.house.dir / "repositories/acme/app.git")]
        row.check("allowed", "the commit arrived", heads[0] == heads[1], heads)

    def git_identity(self) -> dict[str, str]:
        # As the checkout step of a CI system leaves it: a header of the client's own on every request.
        header = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"}
        header["GIT_CONFIG_VALUE_0"] = f"Authorization: Basic {self.house.canary}"
        names = {f"GIT_{role}_{part}": "Heron" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        return {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", **header, **names}

    def reached(self, row: Row, column: str, seen: Seen, listener: str) -> None:
        """One request arrived. That its credential is right, the upstream checked before it answered."""
        row.check(column, "the client got its answer", seen.code == 0 and says(seen, "200"), seen.said)
        row.check(column, "exactly one request arrived", len(seen.received) == 1, seen.received)
        where = [r["client"]["listener"] for r in seen.decisions("allow")]
        row.check(column, f"it came in at the {listener}", where == [listener], seen.records)

    def stopped(self, row: Row, seen: Seen, code: str) -> None:
        row.check("refused", f"refused once, as {code}", seen.codes() == [code], (seen.codes(), seen.said))
        row.check("refused", "nothing left the machine", not seen.received, seen.received)

    def streamed(self, row: Row, seen: Seen, listener: str) -> None:
        self.reached(row, "streaming", seen, listener)
        told = says(seen, "first ", "second ") and "BUFFERED" not in seen.said
        row.check("streaming", "the first event is read before the second is written", told, seen.said)
        row.check("streaming", "the echoed credential comes back redacted", "[redacted]" in seen.said, seen.said)

    def run(self, row: Row, column: str, command: list[str], environment: dict[str, str]) -> Seen:
        """Runs a client and checks what must hold whatever it did: nothing leaked, in any direction."""
        self.runs += 1
        gate = self.house.dir / f"first-{self.runs}"
        self.house.upstream.gate = gate
        ran = subprocess.run(
            command, cwd=self.house.dir, env=environment | {"CANARY": self.house.canary, "FIRST": str(gate)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CLIENT_TIME, check=False,
        )  # fmt: skip
        records, log = self.house.records()
        seen = Seen(ran.returncode, ran.stdout.decode(errors="replace"), self.house.upstream.take(), records)
        sent = "\n".join(request.raw() for request in seen.received)
        tokens = tokens_of(environment, "OPENAI_API_KEY")
        kept = {"the client's own credential": [self.house.canary, PLACEHOLDER], "the token": tokens, "the agent": AGENTS}
        for what, values in kept.items():
            row.check(column, f"{what} does not go out", not any(v in sent for v in values), sent)
        secrets = [form for secret in self.house.secrets.values() for form in forms(secret)]
        row.check(column, "the client never sees a secret", not any(s in seen.said for s in secrets), "(not shown)")
        log += self.house.messages.read_text()
        hidden = [*secrets, *tokens, self.house.canary]
        row.check(column, "the log has no token and no secret", not any(v in log for v in hidden), "(not shown)")
        return seen


def says(seen: Seen, *parts: str) -> bool:
    return all(part in seen.said for part in parts)


def forms(secret: str) -> list[str]:
    """A secret as it is, and as the password of a Basic credential."""
    return [secret, base64.b64encode(f"x-access-token:{secret}".encode()).decode()]


def commit(repository: Path) -> list[str]:
    return ["git", "-C", str(repository), "commit", "--quiet", "--allow-empty", "-m", "A change"]


def head(repository: Path) -> str:
    ran = subprocess.run(["git", "-C", str(repository), "rev-parse", "main"], capture_output=True, check=False)
    return ran.stdout.decode().strip()
