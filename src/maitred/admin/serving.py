"""
Serving the application on listeners that were inherited, for as long as the master is.

The server is uvicorn's. What is asked for of it here: no signals (the master is told,
and we see that it is gone), no word of proxies about who a client is, few connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from typing import Any, Final

import uvicorn

MOST_CONNECTIONS: Final = 256
LAST_MOMENT: Final = 1
"Seconds that answers have to get out when the master is gone."


class Server(uvicorn.Server):
    """A server that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


async def serve(app: Any, listeners: Sequence[socket.socket], lifeline: int) -> None:
    """
    Serve *app* until *lifeline* ends.

    Args:
        app: The ASGI application.
        listeners: Owned from now on.
        lifeline: A pipe that nobody writes to; its other end is the master's.
    """
    server = Server(
        uvicorn.Config(
            app,
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
    loop = asyncio.get_running_loop()

    def leave() -> None:
        """Stop serving: nobody is there to be asked any more."""
        loop.remove_reader(lifeline)
        server.should_exit = True

    loop.add_reader(lifeline, leave)
    await server.serve(list(listeners))
