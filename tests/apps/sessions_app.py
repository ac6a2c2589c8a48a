"""
Sessions in the process's memory, as the protocols without a framework here have them.

    websocket /rooms/NAME   a room: whoever enters is told its size, and what others say
    POST /v1/...            a model with a warm cache for each X-Session-Id
    PUT /graphql/stream     GraphQL over SSE: makes a stream and says its token
    GET /graphql/stream     opens it
    POST /graphql/stream    runs an operation, whose result comes in the stream
    /mcp                    MCP without sessions: a tool that takes a handle
"""

import asyncio
import json
import os
import uuid
from collections import Counter, defaultdict
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

ROOMS = defaultdict(set)
CACHES: Counter[str] = Counter()
STREAMS: dict[str, asyncio.Queue[str]] = {}
HANDLES: Counter[str] = Counter()

server = MCPServer("counter")


@server.tool()
def count(
    session: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Session"})],
) -> dict[str, int]:
    """Count the calls with this handle; say which process counts."""
    HANDLES[session] += 1
    return {"pid": os.getpid(), "count": HANDLES[session]}


def said(number):
    """Say which process counted to *number*."""
    return json.dumps({"pid": os.getpid(), "count": number})


async def room(websocket):
    """Enter, hear, and speak."""
    here = ROOMS[websocket.path_params["name"]]
    await websocket.accept()
    here.add(websocket)
    await websocket.send_text(said(len(here)))
    try:
        while True:
            text = await websocket.receive_text()
            for other in here - {websocket}:
                await other.send_text(text)
    except WebSocketDisconnect:
        here.discard(websocket)


async def complete(request):
    """Complete, with what earlier requests of the session have left in the cache."""
    CACHES[request.headers["x-session-id"]] += 1
    number = CACHES[request.headers["x-session-id"]]

    async def events():
        yield f"data: {said(number)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def stream(request: Request) -> Response:
    """Speak the single connection mode of GraphQL over SSE."""
    if request.method == "PUT":
        token = uuid.uuid4().hex
        STREAMS[token] = asyncio.Queue()
        return Response(token, 201, media_type="text/plain")
    token = request.headers.get("x-graphql-event-stream-token") or ""
    token = token or request.query_params.get("token", "")
    if token not in STREAMS:
        return Response("Stream not found", 404)
    results = STREAMS[token]
    if request.method == "GET":

        async def events():
            yield ":\n\n"
            for _ in iter(int, 1):
                yield f"event: next\ndata: {await results.get()}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")
    number = (await request.json())["variables"]["number"]
    results.put_nowait(said(number))
    return JSONResponse(None, 202)


app = server.streamable_http_app()
assert isinstance(app, Starlette)
app.router.routes.extend(
    [
        WebSocketRoute("/rooms/{name}", room),
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/graphql/stream", stream, methods=["PUT", "GET", "POST"]),
    ]
)
