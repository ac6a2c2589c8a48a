"""
The affinities of known frameworks, one value each. Pure.

Each says where the framework puts the name of a session in its requests, and in
which response it first appears. To add one, add a value and a test that drives the
real framework with its own client: docs/reference/frameworks.md says which were tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .affinity import (
    Affinity,
    cookie,
    deleted,
    header,
    in_body,
    query,
    response_header,
    where_path,
)
from .places import (
    created,
    first_of,
    in_messages,
    in_path,
    nowhere,
    session_of_token,
    subprotocol,
    through,
    unmasked,
)
from .seal import NO_SEAL
from .sticky import STICKY, sticky

_BOKEH_SESSION: Final = first_of(
    through(subprotocol(2), session_of_token),
    query("bokeh-session-id"),
    header("bokeh-session-id"),
    through(query("bokeh-token"), session_of_token),
)

_COOKIE: Final = f"our own cookie {STICKY}, as with sticky"

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
        find=where_path(rb"/(?:socket|engine)\.io(?:/|\Z)", query("sid")),
        learn=in_body(rb'\A0\{"sid":"([A-Za-z0-9_-]+)"'),
        stampable=True,
        about="Socket.IO and Engine.IO: query sid, made by the server in the handshake",
    ),
    sticky(STICKY, NO_SEAL).called(
        "nicegui",
        # A request for the script of an element names no page, yet only a process
        # that has built a page with that element serves it.
        about=f"NiceGUI: {_COOKIE}; one for each browser",
    ),
    sticky(STICKY, NO_SEAL).called(
        "gradio",
        # A session is named in the body of a POST, which is not looked at.
        about=f"Gradio: {_COOKIE}; one for each browser or client",
    ),
    Affinity(
        name="streamlit",
        # The browser and not the session: the path /media/ names no session.
        find=through(cookie("_streamlit_xsrf"), unmasked),
        cookie=b"_streamlit_xsrf",
        about="Streamlit: the token in cookie _streamlit_xsrf, one for each browser",
    ),
    Affinity(
        name="shiny",
        find=in_path(rb"/session/([0-9a-f]{64})(?:/|\Z)"),
        learn=in_messages(rb'"sessionId": ?"([0-9a-f]{64})"'),
        about="Shiny for Python: path /session/NAME/, made by the server in the first"
        " message of its WebSocket",
    ),
    Affinity(
        name="bokeh",
        find=_BOKEH_SESSION,
        learn=nowhere,
        about="Bokeh: the session in the token of its WebSocket, or bokeh-session-id in"
        " query or header; made by the server, which the worker hears of from Bokeh",
    ),
    Affinity(
        name="panel",
        find=_BOKEH_SESSION,
        learn=nowhere,
        about="Panel: the same as bokeh",
    ),
    Affinity(
        name="marimo",
        find=first_of(
            header("marimo-session-id"), where_path(rb"/ws/?\Z", query("session_id"))
        ),
        about="marimo: header Marimo-Session-Id, or query session_id of its WebSocket;"
        " made by the browser",
    ),
    Affinity(
        name="rooms",
        find=first_of(in_path(rb"/(?:rooms?|docs?|games?)/([^/]+)"), query("room")),
        about="Rooms, documents, games: what follows /room/, /doc/ or /game/ (or their"
        " plural) in the path, or query room; made by the client",
    ),
    Affinity(
        name="llm",
        find=first_of(
            header("x-session-id"),
            header("x-session-affinity"),
            header("x-claude-code-session-id"),
            header("session-id"),  # and session_id: "_" counts as "-"
            header("x-dynamo-session-id"),
        ),
        about="LLM inference: header X-Session-Id, X-Session-Affinity,"
        " X-Claude-Code-Session-Id, Session-Id, session_id or X-Dynamo-Session-ID;"
        " made by the client",
    ),
    Affinity(
        name="mcp-modern",
        find=header("mcp-param-session"),
        about="MCP without sessions: header Mcp-Param-Session, of an argument that the"
        ' tool\'s schema marks "x-mcp-header": "Session"; made by the client',
    ),
    Affinity(
        name="graphql-sse",
        find=first_of(header("x-graphql-event-stream-token"), query("token")),
        learn=created(rb"\A([0-9A-Za-z_.-]{16,128})\Z", content_type=b"text/plain"),
        about="GraphQL over SSE, single connection mode: header"
        " X-GraphQL-Event-Stream-Token or query token; made by the server in its answer"
        " to a PUT",
    ),
    Affinity(
        name="reflex",
        find=first_of(
            where_path(rb"/_event\b", query("token")), header("reflex-client-token")
        ),
        about="Reflex: query token of /_event/, or header Reflex-Client-Token; made by"
        " the browser",
    ),
    Affinity(
        name="solara",
        find=cookie("solara-session-id"),
        cookie=b"solara-session-id",
        about="Solara: cookie solara-session-id, one for each browser",
    ),
    sticky(STICKY, NO_SEAL).called(
        "chainlit",
        # Chainlit sets a cookie for this purpose; but it marks it Secure for every
        # client that is not on the same machine, and browsers then drop it by HTTP.
        about=f"Chainlit: {_COOKIE}; one for each browser",
    ),
)

PRESETS: Final[Mapping[str, Affinity]] = MappingProxyType(
    {preset.name: preset for preset in _ALL}
)
"Name to affinity."
