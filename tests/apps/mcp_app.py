"""
An MCP server of the official SDK that counts per session, in its process's memory.

It speaks streamable HTTP on /mcp, and the older HTTP+SSE on /sse.
"""

import os
from collections import Counter

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("counter")
CALLS: Counter[str] = Counter()


@server.tool()
def count(ctx: Context) -> dict[str, int]:
    """Count the calls in this session; say which process counts."""
    request = ctx.request_context.request
    session = (
        request.headers.get("mcp-session-id") or request.query_params["session_id"]
    )
    CALLS[session] += 1
    return {"pid": os.getpid(), "count": CALLS[session]}


app = server.streamable_http_app()
app.router.routes.extend(server.sse_app().routes)
