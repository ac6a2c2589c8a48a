"""
What becomes of the Cookie lines of a request, and of an application's own cookies.

Proxies that speak HTTP/2 to clients may divide a client's cookies into several lines.
Frameworks differ in what they make of those, so the application gets one line, as
RFC 9113 section 8.2.3 has it, which is what the session's name was read in.

Invariant: what the application reads and what the request was placed by are the same
line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from maitred import logs
from maitred.routing import Affinity
from maitred.routing.affinity import set_cookie
from maitred.routing.cookies import COOKIE, one_line

from .claims import STARTS, App, Message, Receive, Reply, Scope, ScopeHead, Send

Header = tuple[bytes, bytes]


class OneLine:
    """Wraps an application, which gets one Cookie line."""

    def __init__(self, app: App) -> None:
        """Wrap *app*."""
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve *scope*, with its Cookie lines joined if there are several."""
        # Not async: one coroutine less for every request.
        headers = scope.get("headers", ())
        if [name for name, _ in headers].count(COOKIE) > 1:
            scope["headers"] = in_one_line(headers)
        return self._app(scope, receive, send)


class SetsItself:
    """
    Wraps an application, and warns once if it makes the names that clients should.

    ``cookie:session`` without ``,learn`` takes names that the client makes. Where the
    application makes them, its first answer names a session that the master does not
    know, and the next request of that session may go to any worker.
    """

    def __init__(self, app: App, affinity: Affinity) -> None:
        """
        Wrap *app*.

        Args:
            app: The application.
            affinity: Looks at a cookie, and learns none.
        """
        self._app = app
        self._affinity = affinity
        self._sets = set_cookie(affinity.cookie.decode())
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve *scope*; check what its response sets, until the warning is logged."""
        if self._warned or scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            """Check what *message* sets, then send it."""
            if message["type"] in STARTS and not self._warned:
                self._look(scope, message)
            await send(message)

        await self._app(scope, receive, watched)

    def _look(self, scope: Scope, message: Message) -> None:
        reply = Reply()
        reply.add(message)
        made = self._sets(reply)
        # An application may send back what the client made, to prolong its life.
        if made and made != self._affinity.find(ScopeHead(scope)):
            self._warned = True
            name = self._affinity.cookie.decode()
            logs.worker.warning(
                "the application sets the cookie %s itself, and --affinity cookie:%s"
                " takes names that clients make, so its sessions are not kept; say"
                " --affinity sticky, or --affinity cookie:%s,learn",
                *(name, name, name),
            )


def wrapped(app: App, affinities: Sequence[Affinity]) -> App:
    """Return *app* with what *affinities* want to be done about cookies."""
    for affinity in affinities:
        if affinity.name == f"cookie:{affinity.cookie.decode()}" and not affinity.learn:
            app = SetsItself(app, affinity)
    return OneLine(app) if any(a.cookie for a in affinities) else app


def in_one_line(headers: Sequence[Header]) -> list[Header]:
    """Return *headers* with one Cookie line, where the first of them stood."""
    # Without the white space around a line, which is none of it, and which some parsers
    # leave there: two lines may meet within quotes.
    lines = [value.strip(b" \t") for name, value in headers if name.lower() == COOKIE]
    merged = []
    for name, value in headers:
        if name.lower() != COOKIE:
            merged.append((name, value))
        elif lines:
            merged.append((name, one_line(lines)))
            lines = []
    return merged
