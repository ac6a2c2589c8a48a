"""
The only file that knows uvicorn from the inside.

uvicorn serves connections that it has accepted itself. We give it connections that
somebody else accepted, and have to know three moments of each: when its first bytes
are read, when it opens and closes, and when a request begins. For each attribute of
uvicorn used here there is a contract test; the version is pinned in pyproject.toml.

Invariant: nothing of uvicorn is patched; its classes are extended and its hooks used.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import Server

from maitred.wire.scoreboard import Scoreboard

PROTOCOLS: Final = {
    "httptools": "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
    "h11": "uvicorn.protocols.http.h11_impl:H11Protocol",
}


class StartupFailed(Exception):
    """The application's lifespan startup failed; the text is what uvicorn logged."""


class OpenConnections(set[Any]):
    """
    uvicorn's set of open connections, which also keeps the scoreboard.

    HTTP and WebSocket protocols enter and leave it themselves, an upgrade included.
    """

    def __init__(self, board: Scoreboard) -> None:
        """Begin empty, and say so on *board*."""
        super().__init__()
        self._board = board

    def add(self, item: Any) -> None:
        """Note an opened connection."""
        super().add(item)
        self._board.connections = len(self)

    def discard(self, item: Any) -> None:
        """Note a closed connection, if it was not noted before."""
        super().discard(item)
        self._board.connections = len(self)

    def remove(self, item: Any) -> None:
        """Note a closed connection."""
        super().remove(item)
        self._board.connections = len(self)


class AnnouncingServer(Server):
    """A server that says when it has started, and keeps the scoreboard."""

    def __init__(self, config: Config, board: Scoreboard) -> None:
        """Be not started yet."""
        super().__init__(config)
        self.server_state.connections = OpenConnections(board)
        self.ready = asyncio.Event()
        self._board = board

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        """Note, ten times a second, how many requests were answered."""
        self._board.requests = self.server_state.total_requests
        return await super().on_tick(counter)


class Serving:
    """uvicorn, serving connections that are brought to it."""

    def __init__(
        self,
        app: Any,
        board: Scoreboard,
        *,
        wrap: Callable[[Any], Any],
        loop: str,
        http: str,
        lifespan: str,
        access_log: bool,
        timeout_keep_alive: float,
    ) -> None:
        """
        Prepare to serve *app*.

        Args:
            app: An ASGI application.
            board: Where open connections and requests are counted.
            wrap: Makes the application that is served out of the ASGI 3 one.
            loop: auto, uvloop or asyncio.
            http: auto, httptools or h11.
            lifespan: auto, on or off.
            access_log: Whether requests are logged.
            timeout_keep_alive: Seconds an idle connection is kept.
        """
        self.config = Config(
            app,
            loop=loop,
            http=PROTOCOLS.get(http, http),
            lifespan=lifespan,  # type: ignore[arg-type]
            log_config=None,
            access_log=access_log,
            timeout_keep_alive=timeout_keep_alive,  # type: ignore[arg-type]
            workers=1,
        )
        self.config.load()
        self.config.loaded_app = wrap(self.config.loaded_app)
        self._server = AnnouncingServer(self.config, board)
        self._protocol = connection_class(self.config.http_protocol_class)
        self._untaken: set[Any] = set()
        self._startup_errors = Kept()

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Give what makes the event loop that was asked for."""
        return self.config.get_loop_factory()

    async def run(self) -> None:
        """
        Run lifespan and date ticker, without a listener, until ``finish``.

        Raises:
            StartupFailed: The application's lifespan startup failed.
        """
        logger = logging.getLogger("uvicorn.error")
        logger.addFilter(self._startup_errors)
        try:
            await self._server._serve(sockets=[])
        except SystemExit as exc:
            raise StartupFailed(self._startup_errors.text()) from exc

    async def wait_started(self) -> None:
        """Wait until the application has started."""
        await self._server.ready.wait()
        logger = logging.getLogger("uvicorn.error")
        logger.removeFilter(self._startup_errors)
        for record in self._startup_errors.records:
            logger.handle(record)

    async def adopt(
        self,
        sock: socket.socket,
        *,
        client: tuple[str, int] | None,
        prefix: bytes,
        on_taken: Callable[[], None],
    ) -> None:
        """
        Serve the accepted connection *sock*, which belongs to uvicorn from now on.

        Args:
            sock: The connection.
            client: Its peer; None for a Unix socket.
            prefix: Bytes that were read from it already.
            on_taken: Called once, before its first bytes are parsed or when it ends.
        """
        loop = asyncio.get_running_loop()
        protocol = self._protocol(
            config=self.config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
            _loop=loop,
        )

        def taken() -> None:
            """Pass it on, once."""
            self._untaken.discard(protocol)
            on_taken()

        self._untaken.add(protocol)
        protocol.adopted(client, prefix, taken)
        try:
            await loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            # The client is gone already: an ordinary end.
            sock.close()
            taken()

    @property
    def untaken(self) -> int:
        """How many adopted connections have not been read from."""
        return len(self._untaken)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._server.server_state.connections)

    def finish(self, timeout: float) -> None:
        """
        Finish what is being served, close what is idle, then let ``run`` return.

        Args:
            timeout: Seconds after which what still runs is cancelled.
        """
        # uvicorn waits with asyncio.wait_for, which takes fractions of a second too.
        self.config.timeout_graceful_shutdown = max(timeout, 0)  # type: ignore[assignment]
        self._server.should_exit = True

    def cut(self) -> int:
        """Close what is still open; say how many connections that were."""
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
        left = list(self._server.server_state.connections)
        for connection in left:
            connection.transport.abort()
        return len(left)


def connection_class(base: Any) -> Any:
    """Make the protocol class for adopted connections out of uvicorn's *base*."""

    class AdoptedConnection(base):  # type: ignore[misc]
        """One connection that was handed over."""

        def adopted(
            self,
            client: tuple[str, int] | None,
            prefix: bytes,
            on_taken: Callable[[], None],
        ) -> None:
            """Remember what came with the connection; before ``connection_made``."""
            self._came_from = client
            self._prefix = prefix
            self._on_taken: Callable[[], None] | None = on_taken

        def connection_made(self, transport: asyncio.Transport) -> None:
            """Begin; what was read already comes before anything the socket gives."""
            super().connection_made(transport)
            # uvicorn asks the socket, which no longer knows once the client is gone.
            if self._came_from is not None:
                self.client = self._came_from
            if self._prefix:
                self.data_received(self._prefix)

        def data_received(self, data: bytes) -> None:
            """Say TAKEN before the first bytes can reach the application."""
            self._take()
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            """End; what was never read from is answered for all the same."""
            self._take()
            super().connection_lost(exc)

        def _take(self) -> None:
            if self._on_taken is not None:
                on_taken, self._on_taken = self._on_taken, None
                on_taken()

    return AdoptedConnection


class Kept(logging.Filter):
    """
    Keeps errors from being logged until it is clear whether the start failed.

    If it did, the master tells them, once for all workers.
    """

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep *record* if it is an error, let it pass otherwise."""
        if record.levelno < logging.ERROR:
            return True
        self.records.append(record)
        return False

    def text(self) -> str:
        """Give all that was kept as text."""
        return "\n".join(map(logging.Formatter().format, self.records))


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn says of requests that are cut: the master counts them."""
    what = record.exc_info[0] if record.exc_info else None
    return what is not asyncio.CancelledError and not str(record.msg).startswith(
        "Cancel "
    )
