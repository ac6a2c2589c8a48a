"""
The affinities of known frameworks, one value each. Pure.

Each says where the framework puts the name of a session in its requests, and in
which response it first appears. To add one, add a value and a test that drives the
real framework with its own client: a preset nobody has tried is not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .affinity import (
    Affinity,
    deleted,
    header,
    in_body,
    query,
    response_header,
    where_path,
)

_ALL: Final = (
    Affinity(
        name="mcp",
        find=header("mcp-session-id"),
        learn=response_header("mcp-session-id"),
        ends=deleted,
        about="MCP over streamable HTTP: header Mcp-Session-Id, made by the server",
    ),
    Affinity(
        name="mcp-sse",
        find=query("session_id"),
        learn=in_body(
            rb"(?:\A|\n)data:[^\r\n]*[?&]session_id=([0-9a-f]{32})",
            content_type=b"text/event-stream",
        ),
        about="MCP over HTTP+SSE: query session_id, made by the server in an event",
    ),
    Affinity(
        name="socketio",
        # Engine.IO's own path, under whatever prefix the application is mounted.
        find=where_path(rb"/(?:socket|engine)\.io/", query("sid")),
        learn=in_body(rb'\A0\{"sid":"([A-Za-z0-9_-]+)"'),
        stampable=True,
        about="Socket.IO and Engine.IO: query sid, made by the server in the handshake",
    ),
)

PRESETS: Final[Mapping[str, Affinity]] = MappingProxyType(
    {preset.name: preset for preset in _ALL}
)
"Name to affinity."
