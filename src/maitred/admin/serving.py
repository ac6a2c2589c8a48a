"""
Serving the application on listeners that were inherited, for as long as the master is.

Or until it says that there is a successor, to whom the history is left. Then whoever is
connected has a last answer, and new connections are the successor's.

The server is uvicorn's. What is asked for of it here: no signals (the master is told,
and we see that it is gone), no word of proxies about who a client is, few connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import uvicorn

MOST_CONNECTIONS: Final = 256
LAST_MOMENT: Final = 1
"Seconds that answers have to get out when the master is gone."


GOODBYE: Final = 20
"""
Ticks, ten a second, in which whoever is connected may ask once more when there is a
successor. Not seconds: the service comes first, and we may not be running in those.
"""


class Server(uvicorn.Server):
    """A server that leaves signals alone, and the field to a successor."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Not listen yet."""
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
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        self.listens.set()

    async def say_goodbye(self) -> None:
        """
        Accept nobody any more; leave when nobody is connected, or asks any more.

        Whoever was accepted in the last turn of the loop gets a transport in this one:
        asyncio drops them if the server is closed by then (Server._attach).
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
        Say, ten times a second, whether it is time to leave.

        One tick that sees nobody is not enough: whoever was accepted just before we
        stopped counts only when the loop has gone round twice.
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
        legacy: Gives what is left to a successor.
    """

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, and be busy with it."""
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
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=LAST_MOMENT,
        )
    )

    async def heed() -> None:
        """Wait for the end, and stop serving."""
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
