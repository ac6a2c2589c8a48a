"""
uvicorn's protocols behind the gate, without sockets: what the application was asked.

The same classes as in a worker, on a transport that only notes. One call serves one
connection from its first byte to its end, so that thousands can be tried.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from maitred.wire.scoreboard import Scoreboard
from maitred.worker.marks import UNMARKED
from maitred.worker.uvicorn_seam import PROTOCOLS, Serving

ANSWER = b"HTTP/1.1 200 OK\r\n"
TURNS = 12
"Turns of the loop after which an application that waits for nothing has answered."


@dataclass
class Asked:
    """A request as the application has it."""

    type: str
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    is_whole: bool = False


@dataclass
class Served:
    """What became of one connection."""

    asked: list[Asked] = field(default_factory=list)
    written: bytes = b""
    refused: dict[str, int] = field(default_factory=dict)
    is_closed: bool = False


class Transport:
    """A transport that records what is written, and sends nothing."""

    def __init__(self) -> None:
        """Start open, with nothing written."""
        self.written = b""
        self.closing = False
        self.protocol: Any = None

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closing

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Return *default*: nothing is known."""
        return default

    def get_write_buffer_size(self) -> int:
        """Return 0: all has left at once."""
        return 0

    def write(self, data: bytes) -> None:
        """Record *data*."""
        self.written += data

    def can_write_eof(self) -> bool:
        """Return false: there are no halves, so that nobody lingers."""
        return False

    def close(self) -> None:
        """Record that it is closed."""
        self.closing = True

    abort = close

    def set_protocol(self, protocol: Any) -> None:
        """Use *protocol* from now on."""
        self.protocol = protocol

    def pause_reading(self) -> None:
        """Ignore it: whatever comes is passed on."""

    resume_reading = pause_reading

    def set_write_buffer_limits(self, *_args: Any, **_details: Any) -> None:
        """Ignore the limits."""


class Visit:
    """A connection on which everything belongs here."""

    id, slot, hops, key, peer, prefix = 1, 0, 0, b"", b"192.0.2.7", b""
    client = ("192.0.2.7", 50123)
    head_limit, head_timeout, idle, ends, sni = 4096, 10.0, False, None, None
    mark = UNMARKED

    def told(self, _mine: bool) -> None:
        """Ignore the answer: nothing was asked."""

    def taken(self) -> None:
        """Ignore it."""

    closed = taken

    def belongs(self, _head: Any) -> None:
        """Return None: each request belongs here."""


class Seam:
    """One serving, with each of the parsers."""

    def __init__(self, http: str) -> None:
        """Serve with parser *http*; the application is this object."""
        fd = Scoreboard.create()
        self.board = Scoreboard(fd)
        os.close(fd)
        self.served = Served()
        self.serving = Serving(
            self,
            self.board,
            wrap=lambda app: app,
            on_exit=lambda: None,
            loop="asyncio",
            http=http,
            lifespan="off",
            access_log=False,
            timeout_keep_alive=60.0,
        )
        self.connection: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the whole request, record it, and answer."""
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        asked = Asked(
            scope["type"],
            scope.get("method", "GET"),
            scope["raw_path"] + query,
            list(scope["headers"]),
        )
        self.served.asked.append(asked)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        while not asked.is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            asked.body += message["body"]
            asked.is_whole = not message["more_body"]
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def serve(self, *pieces: bytes) -> Served:
        """Serve a connection of which *pieces* are read one by one; end it."""
        self.served = served = Served()
        before = self.board.refused
        here, there = socket.socketpair()
        with here, there:
            transport = Transport()
            self.connection = protocol = self.serving._connection(
                config=self.serving.config,
                server_state=self.serving._server.server_state,
                app_state={},
                _loop=asyncio.get_running_loop(),
            )
            protocol.adopted(Visit(), here, self.serving)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            for piece in pieces:
                if not transport.closing and piece:
                    transport.protocol.data_received(piece)
                await self.turn()
            served.written, served.is_closed = transport.written, transport.closing
            transport.close()
            transport.protocol.connection_lost(None)
            await self.turn()
        served.refused = {
            cause: count - before.get(cause, 0)
            for cause, count in self.board.refused.items()
            if count != before.get(cause, 0)
        }
        return served

    async def turn(self) -> None:
        """Run the loop until whoever waits for nothing has come to an end."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close the scoreboard."""
        self.board.close()


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut *data* at each of *cuts*."""
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


PARSERS = tuple(PROTOCOLS)
