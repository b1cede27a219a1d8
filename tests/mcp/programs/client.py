"""The Python SDK, in its first and its second version.  client.py URL STEPS, where STEPS is a JSON list.

Says one line of JSON for each step: what came of it, or the error that the SDK raised. See `Scenes` in scenes.py for
the steps.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import sys
import warnings

import anyio

FIRST = importlib.metadata.version("mcp").startswith("1.")
warnings.simplefilter("ignore")  # what 2026-07-28 no longer has is deprecated, and used here all the same

from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

if FIRST:
    import httpx as http
    from mcp import ClientSession, types
else:
    import httpx2 as http
    import mcp_types as types
    from mcp import Client

TRANSPORT, ERA, BEARER = (os.environ[name] for name in ("TRANSPORT", "ERA", "BEARER"))
STEP_TIME = float(os.environ["STEP_TIME"])
TIMEOUT = f"TIMEOUT: nothing came within {STEP_TIME} s"
HEADERS = {"Authorization": f"Bearer {BEARER}"}
url, script = sys.argv[1:]
steps = json.loads(script)
elicits = any(step["do"] == "elicit" for step in steps)


def say(step: str, **what) -> None:
    print(json.dumps({"do": step, **what}), flush=True)


class Steps:
    """What is done with a session."""

    def __init__(self):
        self.logged = asyncio.Event()

    async def log_message(self, _) -> None:
        self.logged.set()

    async def elicited(self, _, __) -> types.ElicitResult:
        return types.ElicitResult(action="decline")

    async def ping(self, _) -> dict:
        await self.session.send_ping()
        return {}

    async def list(self, _) -> dict:
        pages, cursor = [], None
        while True:
            page = await self.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            pages.append([tool.name for tool in page.tools])
            cursor = page.model_dump(by_alias=True).get("nextCursor")
            if cursor is None or len(pages) == 20:
                return {"pages": pages}

    async def call(self, step: dict, **more) -> dict:
        result = await self.session.call_tool(step["name"], step.get("arguments", {}), **more)
        result = result.model_dump(by_alias=True)
        text = "".join(part.get("text", "") for part in result["content"])
        return {"isError": result.get("isError") or False, "text": text, "structured": result.get("structuredContent")}

    async def progress(self, step: dict) -> dict:
        told = []

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            told.append(progress)

        return await self.call(step, progress_callback=progressed) | {"progress": told}

    async def level(self, step: dict) -> dict:
        await self.session.set_logging_level(step["level"])
        return {}

    async def log(self, step: dict) -> dict:
        # The server sends one message at once, to whoever listens: again, until the stream is open.
        while not self.logged.is_set():
            await self.call(step)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self.logged.wait(), 0.5)
            await self.call(step)
        return {"logged": 1}

    async def elicit(self, step: dict) -> dict:
        return await self.call(step)

    async def resources(self, _) -> dict:
        return {"names": [resource.name for resource in (await self.session.list_resources()).resources]}

    async def resource(self, step: dict) -> dict:
        result = await self.session.read_resource(step["uri"])
        return {"text": "".join(getattr(part, "text", "") for part in result.contents)}

    async def prompts(self, _) -> dict:
        return {"names": [prompt.name for prompt in (await self.session.list_prompts()).prompts]}

    async def prompt(self, step: dict) -> dict:
        result = await self.session.get_prompt(step["name"])
        return {"text": "".join(message.content.text for message in result.messages)}


async def connected(stack: contextlib.AsyncExitStack, does: Steps):
    if TRANSPORT == "sse":
        transport = sse_client(url, headers=HEADERS)
    else:
        client = await stack.enter_async_context(http.AsyncClient(headers=HEADERS, timeout=60))
        transport = streamable_http_client(url, http_client=client)
    callbacks = {"logging_callback": does.log_message}
    if elicits:
        callbacks["elicitation_callback"] = does.elicited
    if FIRST:
        read, write, *_ = await stack.enter_async_context(transport)
        session = await stack.enter_async_context(ClientSession(read, write, **callbacks))
        return session, (await session.initialize()).serverInfo
    mode = {"legacy": "legacy", "auto": "auto", "modern": "2026-07-28"}[ERA]
    client = await stack.enter_async_context(Client(transport, mode=mode, **callbacks))
    return client.session, client.server_info


def give_up(step: str) -> None:
    say(step, error=TIMEOUT)
    os._exit(0)


async def main() -> None:
    does, loop = Steps(), asyncio.get_running_loop()
    # Around the whole of them: what they open must be closed by the task that opened it.
    alarm = loop.call_later(STEP_TIME, give_up, "connect")
    async with contextlib.AsyncExitStack() as stack:
        does.session, server = await connected(stack, does)
        alarm.cancel()
        say("connect", server=server and server.name)
        for step in steps:
            try:
                with anyio.fail_after(STEP_TIME):
                    came = await getattr(does, step["do"])(step)
                say(step["do"], **came)
            except TimeoutError:
                say(step["do"], error=TIMEOUT)
            except Exception as error:
                say(step["do"], error=str(error), code=getattr(error, "code", None))
        alarm = loop.call_later(STEP_TIME, give_up, "close")
    alarm.cancel()
    say("close")


try:
    asyncio.run(main())
except BaseException as error:
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    say("connect", error=f"{type(error).__name__}: {error}")
os._exit(0)
