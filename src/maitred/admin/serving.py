"""
Serving the application on listeners that were inherited, for as long as the master is.

Or until it says that there is a successor, to whom the history is left. Then whoever is
connected has a last answer, and new connections are the successor's.

The server is uvicorn's. What is asked for of it here: no signals (the master is told,
and we see that it is gone), no word of proxies about who a client is. Who may be
connected, and for how long, is said in visitors.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .visitors import LONGEST_HEAD, Visitors

LAST_MOMENT: Final = 1
"Seconds that answers have to get out when the master is gone."


GOODBYE: Final = 20
"""
Ticks, ten a second, in which whoever is connected may ask once more when there is a
successor. Not seconds: the service comes first, and we may not be running in those.
"""


class Visit(H11Protocol):
    """One connection of the admin process, which ends in time."""

    visitors: Visitors
    "Set in a subclass by ``protocol``."
    _until: asyncio.TimerHandle | None = None
    _is_answered = False

    def connection_made(self, transport: Any) -> None:
        """Register with the visitors, as one that waits for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Check whether a request has come."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Record that it waits again; check whether another request has come."""
        super().on_response_complete()
        self._is_answered = False
        if not self.transport.is_closing():
            self._wait()
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove it from the visitors."""
        super().connection_lost(exc)
        self.visitors.forget(self)
        if self._until is not None:
            self._until.cancel()

    def leave(self) -> None:
        """Close the connection, even if not all was sent or received."""
        self.transport.abort()

    def _look(self) -> None:
        # None until the first request, whatever uvicorn's annotation says.
        cycle = getattr(self, "cycle", None)
        busy = cycle is not None and not cycle.response_complete
        if busy and not self._is_answered:
            self._is_answered = True
            self.visitors.answer(self)
            self._give(self.visitors.answer_timeout)

    def _wait(self) -> None:
        self.visitors.wait(self)
        self._give(self.visitors.head_timeout)

    def _give(self, seconds: float) -> None:
        """Schedule the end of the connection in *seconds*, and no other."""
        if self._until is not None:
            self._until.cancel()
        self._until = self.loop.call_later(seconds, self.leave)


def protocol(visitors: Visitors) -> type[Visit]:
    """Return the protocol of a server whose connections are *visitors*."""
    return type("Visit", (Visit,), {"visitors": visitors})


class Server(uvicorn.Server):
    """A server that leaves signals alone, and its listeners to a successor."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Start without listening."""
        super().__init__(config)
        self.listens = asyncio.Event()
        # Requests that are being answered.
        self.busy = 0
        # Ticks until it leaves, whoever is connected then; None: it has no successor.
        self._left: int | None = None
        # Ticks in a row that have seen nobody.
        self._quiet = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture no signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and set the event that says so."""
        await super().startup(sockets=sockets)
        self.listens.set()

    async def say_goodbye(self) -> None:
        """
        Stop accepting; the server leaves when nobody is connected, or asks.

        The listeners are closed one turn of the loop later, because a connection that
        was accepted in the last turn gets its transport in this one: asyncio drops it
        if the server is closed by then (Server._attach).
        """
        loop = asyncio.get_running_loop()
        for each in self.servers:
            for listener in each.sockets:
                loop.remove_reader(listener)
        await asyncio.sleep(0)
        for each in self.servers:
            each.close()
        self._left = GOODBYE

    async def on_tick(self, counter: int) -> bool:
        """
        Return, ten times a second, whether it is time to leave.

        One tick without connections is not enough, because one that was accepted just
        before the end counts only when the loop has gone round twice.
        """
        if self._left is None:
            return await super().on_tick(counter)
        self._left -= 1
        self._quiet = 0 if self.server_state.connections else self._quiet + 1
        return self._quiet > 1 or (self._left <= 0 and not self.busy)


async def serve(
    app: Any,
    listeners: Sequence[socket.socket],
    lifeline: socket.socket,
    legacy: Callable[[], bytes],
) -> None:
    """
    Serve *app* until *lifeline* ends, or says that there is a successor.

    Args:
        app: The ASGI application; told of a successor by its ``leaving``.
        listeners: Owned from now on.
        lifeline: Its other end is the master's; owned from now on.
        legacy: Returns what is left to a successor.
    """

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, which counts as busy meanwhile."""
        server.busy += 1
        try:
            await app(scope, receive, send)
        finally:
            server.busy -= 1

    server = Server(
        uvicorn.Config(
            counted,
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            http=protocol(Visitors()),
            h11_max_incomplete_event_size=LONGEST_HEAD,
            timeout_graceful_shutdown=LAST_MOMENT,
        )
    )

    async def heed() -> None:
        """Wait for the end of *lifeline*, and stop serving."""
        loop = asyncio.get_running_loop()
        with lifeline:
            has_successor = b""
            with contextlib.suppress(OSError):
                has_successor = await loop.sock_recv(lifeline, 1)
            if not has_successor:
                server.should_exit = True
                return
            app.leaving = True
            await server.listens.wait()
            await server.say_goodbye()
            with contextlib.suppress(OSError):  # it is dead
                await loop.sock_sendall(lifeline, legacy())

    heeding = asyncio.create_task(heed())
    await server.serve(list(listeners))
    heeding.cancel()
