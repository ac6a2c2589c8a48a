"""
Answering a connection in a worker's place: 400, 408, 431, 502, 503, 505.

Only a connection that no worker has is answered here, so the master may speak and shut
down. Bytes that lie unread when a socket is closed make the kernel send RST,
which may destroy the answer before the client has read it (RFC 9112 section 9.6): so
what comes is read and dropped for a moment first.

Invariants: nothing waits longer than LINGER, and no more than MOST linger at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

from maitred import logs
from maitred.routing import Sniffer
from maitred.routing.refusal import alert, answer
from maitred.upgrade.snapshot import Past, Table

from .connection import Connection, restored
from .counters import Counters

LINGER: Final = 2.0
"Seconds a client has to read its answer while it still sends."
MOST: Final = 1024
CHUNK: Final = 64 * 1024
HEARD: Final = 256
"Bytes of a client that its refusal may be worded by."
CHUNKS_AT_ONCE: Final = 16


class Refusals:
    """Answers, lingers, closes."""

    def __init__(
        self,
        counters: Counters,
        *,
        most: int = MOST,
        tls: bool = False,
        sniffer: Sniffer | None = None,
    ) -> None:
        """
        Start with no connection lingering; needs a running loop.

        Args:
            counters: Where to count.
            most: How many may linger, if that is less than MOST.
            tls: Whether clients speak TLS, and are answered with an alert.
            sniffer: The sniffer of another protocol than HTTP, which words answers.
        """
        self._counters = counters
        self._most = min(most, MOST)
        self._tls = tls
        self._sniffer = sniffer
        self._loop = asyncio.get_running_loop()
        self._lingering: dict[Connection, asyncio.TimerHandle] = {}
        self._access = logs.access()

    def __len__(self) -> int:
        return len(self._lingering)

    def refuse(self, connection: Connection, status: int, cause: str) -> None:
        """Answer *connection* with *status*, count *cause*, and close it soon."""
        self._counters.refused[cause] += 1
        sock = connection.sock
        if self._sniffer is not None:
            status, say = 0, self._words(self._sniffer, connection, cause)
        elif self._tls and cause != "not_tls":
            status, say = 0, alert(cause)
        else:
            say = answer(status, cause)
        self._log(connection, status, cause, len(say))
        try:
            sock.send(say, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        if self._drained(connection) or len(self._lingering) >= self._most:
            connection.close()
            return
        self._linger(connection)

    def turn_away(self, connection: Connection, cause: str) -> None:
        """Close *connection* without a word; count and log *cause*."""
        self._counters.refused[cause] += 1
        self._log(connection, 0, cause, 0)
        connection.close()

    def _words(self, sniffer: Sniffer, connection: Connection, cause: str) -> bytes:
        """Return the protocol's answer for *cause*, in the client's version."""
        heard = connection.consumed
        try:
            with contextlib.suppress(OSError):
                heard += connection.sock.recv(HEARD, socket.MSG_DONTWAIT)
            return bytes(sniffer.refuse(cause, heard))
        except Exception as exc:  # noqa: BLE001 - users write sniffers too
            text = "the sniffer of --protocol %s cannot refuse: %s"
            logs.master.error(text, sniffer.name, exc)
            return b""

    def state(self, table: Table) -> list[Any]:
        """Return the connections that linger, for a successor."""
        return [connection.state(table) for connection in self._lingering]

    def restore(self, state: list[Any], past: Past) -> None:
        """Take over the connections that ``state`` wrote, and let them linger."""
        for each in state:
            self._linger(restored(each, past))

    def _log(self, connection: Connection, status: int, cause: str, size: int) -> None:
        """Log an answer as the access log of a worker would, whatever the protocol."""
        if logs.traces(logs.master):
            about = logs.about(conn=connection.id, cause=cause)
            logs.master.debug("refused: %s", cause, extra=about)
        if self._access is not None:
            self._access.write(
                logs.Entry(
                    client=connection.peer.decode(),
                    port=connection.peer_port,
                    status=status,
                    size=size,
                    seconds=0.0,
                    conn=connection.id,
                    hops=connection.hops,
                    key=connection.key or b"",
                    cause=cause,
                )
            )

    def _linger(self, connection: Connection) -> None:
        self._lingering[connection] = self._loop.call_later(
            LINGER, self._end, connection
        )
        self._loop.add_reader(connection.sock.fileno(), self._on_readable, connection)

    def close(self) -> None:
        """Close all connections that linger."""
        for connection in list(self._lingering):
            self._end(connection)

    def _drained(self, connection: Connection) -> bool:
        """Drop what has come; return whether no more will."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(CHUNKS_AT_ONCE):
                try:
                    if not connection.sock.recv(CHUNK, socket.MSG_DONTWAIT):
                        return True
                except ConnectionError:
                    return True
        return False

    def _on_readable(self, connection: Connection) -> None:
        if self._drained(connection):
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        self._lingering.pop(connection).cancel()
        self._loop.remove_reader(connection.sock.fileno())
        connection.close()
