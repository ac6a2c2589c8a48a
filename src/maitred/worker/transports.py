"""
What stands between the event loop and uvicorn's protocols: reading and writing.

Invariants: no more than READ_SIZE is read at once, and to where the connection's mark
says. The end of an answer leaves after the turn of the event loop in which it was
written, so that the mark says that it has ended before the client can know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .marks import Mark, Unmarked

MOST_HELD: Final = 64 * 1024
"Bytes that wait for the end of the turn; with more the application is to feel it."


class Intake(asyncio.BufferedProtocol):
    """
    Reads for a connection, until an upgrade puts another protocol in this one's place.

    Only a BufferedProtocol may say how much is read at once; otherwise the event loop
    decides, up to 256,000 bytes, which are too many to return. It stands alone because
    uvloop takes nothing for one that is a Protocol too, as uvicorn's classes are.
    """

    __slots__ = ("_connection", "_read", "_received", "_room")

    def __init__(self, connection: Any) -> None:
        """Read for *connection*; ``write_on`` is called before anything is read."""
        self._connection = connection
        self._received = connection.data_received
        self._read: Callable[[int], bytes]
        self._room: Callable[[], memoryview]

    def write_on(self, mark: Mark | Unmarked) -> None:
        """Read into what *mark* offers, from now on."""
        self._read = mark.read
        self._room = mark.room

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return where to read to, so that no more than READ_SIZE comes at once."""
        return self._room()

    def buffer_updated(self, count: int) -> None:
        """Pass on the *count* bytes that were read."""
        self._received(self._read(count))

    def connection_made(self, transport: Any) -> None:
        """Pass *transport* on."""
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Pass on that nothing more comes; return whether to stay open all the same."""
        is_kept_open: bool | None = self._connection.eof_received()
        return is_kept_open

    def pause_writing(self) -> None:
        """Pass on that too much waits to be sent."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that there is room again."""
        self._connection.resume_writing()


class Ends(NamedTuple):
    """The two ends of a connection, for who asks its socket for nothing else."""

    here: tuple[str, int]
    there: tuple[str, int]

    def getsockname(self) -> tuple[str, int]:
        """Return the address and port that the client connected to."""
        return self.here

    def getpeername(self) -> tuple[str, int]:
        """Return the client's address and port."""
        return self.there


class Corked:
    """
    A transport that counts what is written to it, and writes at the end of the turn.

    So an answer's head and body leave in one system call, too.
    """

    __slots__ = (
        "_ends",
        "_held",
        "_loop",
        "_size",
        "count",
        "ending",
        "is_closing",
        "transport",
    )

    def __init__(
        self,
        transport: Any,
        loop: asyncio.AbstractEventLoop,
        ending: Callable[[], None],
        ends: Ends | None,
    ) -> None:
        """
        Write to *transport*, which belongs to *loop*; start with nothing held.

        Args:
            transport: Writes.
            loop: Its event loop.
            ending: Called when nothing follows, before what is held leaves.
            ends: The connection's addresses, if they are known without asking it.
        """
        self.transport = transport
        self.is_closing = transport.is_closing
        self.ending = ending
        self.count = 0
        self._ends = ends
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known by *name*; the addresses without a system call."""
        # uvicorn asks for it in each connection, and then asks it for nothing else.
        if name == "socket" and self._ends is not None:
            return self._ends
        return self.transport.get_extra_info(name, default)

    def write(self, data: bytes) -> None:
        """
        Write *data* at the end of the turn, or at once where much is held.

        Because to join it is to copy it.
        """
        self.count += len(data)
        if self._size + len(data) > MOST_HELD:
            self.flush()
            if not self.is_closing():  # uvloop raises once it has closed
                self.transport.write(data)
            return
        # Whoever holds the first bytes of a turn has asked for the flush.
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)

    def flush(self) -> None:
        """Write what is held, if the client has not left meanwhile."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._size = 0
            if not self.is_closing():
                self.transport.write(data)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were written and have not left."""
        return self._size + int(self.transport.get_write_buffer_size())

    def write_eof(self) -> None:
        """Close our half, after what is held."""
        self.ending()
        self.flush()
        self.transport.write_eof()

    def close(self) -> None:
        """Close, after what is held."""
        self.ending()
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)
