"""
Serving no more at once than a worker may (``--limit-concurrency``).

An ASGI wrapper around the application. What counts is what is being served, requests
and WebSockets, and not connections: between two requests these cost next to nothing.

Invariant: what is refused has not reached the application, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from maitred.routing.refusal import CAUSES

from .access import CAUSE
from .claims import App, Message, Receive, Scope, Send

TEXT: Final = b"text/plain; charset=utf-8"
REFUSABLE: Final = "websocket.http.response"
"The extension of ASGI with which a WebSocket is refused by a response."


class Limit:
    """Wraps an application, and refuses what would be too much for it."""

    def __init__(self, app: App, most: int, count: Callable[[str], None]) -> None:
        """
        Wrap *app*.

        Args:
            app: The application.
            most: How many requests and WebSockets it serves at once.
            count: Told the cause of each refusal.
        """
        self._app = app
        self._most = most
        self._count = count
        self._serving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif self._serving >= self._most:
            self._count("too_busy")
            for message in refuse(scope, 503, "too_busy"):
                await send(message)
        else:
            self._serving += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._serving -= 1


def refuse(scope: Scope, status: int, cause: str) -> list[Message]:
    """Return the messages that answer *scope* with *status* and *cause*."""
    scope[CAUSE] = cause  # for the access log
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = REFUSABLE
        # To close before accepting is all that is left: clients see 403.
        if kind not in scope.get("extensions", {}):
            return [{"type": "websocket.close"}]
    text = f"{CAUSES[cause].why}\n".encode()
    headers = [(b"content-type", TEXT), (b"content-length", b"%d" % len(text))]
    return [
        {"type": f"{kind}.start", "status": status, "headers": headers},
        {"type": f"{kind}.body", "body": text},
    ]
