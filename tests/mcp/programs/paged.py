"""A small server of the Python SDK, for what the everything server does not do: JSON answers, lists in pages, and the
stateless protocol of 2026-07-28 beside the one with sessions.  paged.py PORT json|stream"""

import sys

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

TOOLS = ["echo", "drop-table", "get-day", "drop-all", "get-night", "drop-some", "get-dusk"]
PAGE = 2


async def as_events(context) -> None:
    """The stateless protocol answers as events only where something comes before the answer."""
    if answers == "events":
        progress = types.ProgressNotificationParams(progress_token="nobody", progress=1)
        notification = types.ProgressNotification(params=progress)
        await context.session.send_notification(notification, related_request_id=context.request_id)


async def list_tools(context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    await as_events(context)
    start = int((params and params.cursor) or 0)
    tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in TOOLS[start : start + PAGE]]
    more = str(start + PAGE) if start + PAGE < len(TOOLS) else None
    return types.ListToolsResult(tools=tools, next_cursor=more)


async def call_tool(context, params: types.CallToolRequestParams) -> types.CallToolResult:
    await as_events(context)
    if params.name not in TOOLS:
        raise MCPError(code=types.INVALID_PARAMS, message=f"there is no {params.name}")
    said = f"{params.name}: {(params.arguments or {}).get('message', '')}"
    return types.CallToolResult(content=[types.TextContent(type="text", text=said)])


async def list_resources(_, __) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri="demo://nest", name="nest")])


async def read_resource(_, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text="an egg")])


async def list_prompts(_, __) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[types.Prompt(name="simple-prompt")])


async def get_prompt(_, __) -> types.GetPromptResult:
    content = types.TextContent(type="text", text="a simple prompt")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


port, answers = sys.argv[1:]
server = Server(
    "paged",
    version="1",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_read_resource=read_resource,
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
)
uvicorn.run(
    server.streamable_http_app(json_response=answers == "json"), host="127.0.0.1", port=int(port), log_level="info"
)
