"""
One connection while the master owns it, or keeps its copy.

Invariant: it is a connection that was accepted by us, or one that we handed to the
worker who gives it back; by its cookie, which the kernel gives once.
"""

from __future__ import annotations

import contextlib
import operator
import socket
from typing import Any, Final

from maitred.errors import PeerMisbehaved
from maitred.upgrade.snapshot import Past, Table
from maitred.wire import MAX_PACKET
from maitred.wire.cookie import connection_of, cookie
from maitred.wire.messages import Return

from .listeners import Listener
from .socket_places import MAPPED

RECORD: Final = 256
"Bytes of a packet for a connection, its addresses included; key and bytes come on top."
LONGEST_ADDRESS: Final = 64
"Bytes of an address as text: an IPv6 address with a zone (RFC 4007 section 11)."
MOST_LUGGAGE: Final = MAX_PACKET - 4 * RECORD
"Bytes that may come with a connection, so that the key of its next head has room too."
MOST_HOPS: Final = 0xFFFF
"More are not counted."


class Connection:
    """
    A connection that the master owns, with its socket.

    Whoever drops a connection that a worker has calls ``close``, because a shutdown
    would act on the worker's copy too. Whoever drops one that nobody serves calls
    ``end``, because a worker that served it may have parked its copy.
    """

    __slots__ = (
        "attempts",
        "consumed",
        "deadline",
        "frozen",
        "giver",
        "home",
        "hops",
        "id",
        "idle",
        "key",
        "learned",
        "local",
        "mark",
        "once",
        "peer",
        "peer_port",
        "position",
        "proxy",
        "seen",
        "since",
        "sock",
        "stage",
        "starved",
        "written",
    )

    def __init__(
        self,
        sock: socket.socket,
        id_: int,
        peer: tuple[bytes, int],
        local: tuple[bytes, int],
    ) -> None:
        """
        Take over *sock*; nothing has happened to it yet.

        Args:
            sock: The connection.
            id_: Its cookie (SO_COOKIE).
            peer: The client's address and port; empty for a Unix socket.
            local: The address and port it was made to; empty for a Unix socket.
        """
        self.sock = sock
        self.id = id_
        self.peer, self.peer_port = peer
        self.local = local
        # What it is placed by, once that is known.
        self.key: bytes | None = None
        self.learned = False
        # Nobody has claimed the key: it goes where it goes for one request.
        self.once = False
        # Bytes that a worker read and gave back; they come before what is to be read.
        self.consumed = b""
        # Bytes that were read from it before those, since it was opened.
        self.position = 0
        # Bytes that were written to it since then.
        self.written = 0
        # How many workers have had it.
        self.hops = 0
        # Its client waits for nothing: it is between two requests.
        self.idle = False
        # The slot it comes from, where its next request may well belong; None: unknown.
        self.home: int | None = None
        # The id of the worker that gave it back; 0: none did.
        self.giver = 0
        # Its mark on the scoreboard of the worker it is handed to; 0: none.
        self.mark = 0
        # It begins with a PROXY header, which has not been consumed yet.
        self.proxy = False
        # Bytes that were in the kernel at the last peek; fewer later: somebody read.
        self.seen = 0
        # When the stage began whose length times.py records next; 0: none is measured.
        self.since = 0.0
        # How many replies of its sniffer were sent.
        self.stage = 0
        # State that the application wrote to go on with it in another worker; empty:
        # it begins anew.
        self.frozen = b""
        # How often it was handed over in vain; compared with MOST_ATTEMPTS.
        self.attempts = 0
        # When it is given up, because a worker had no descriptor for it; 0: all had.
        self.starved = 0.0
        # When we stop waiting, on the loop's clock; set anew in each kind of wait.
        self.deadline = 0.0

    @property
    def is_tcp(self) -> bool:
        """Whether it has addresses, and the kernel counts its bytes."""
        return bool(self.local[0])

    @property
    def luggage(self) -> int:
        """How many bytes travel with it, beside a record."""
        return len(self.key or b"") + len(self.consumed) + len(self.frozen)

    def close(self) -> None:
        """Close our copy of the socket; a copy in a worker goes on."""
        self.sock.close()

    def end(self) -> None:
        """Shut the connection down, whoever else has a copy, and close ours."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def state(self, table: Table) -> list[Any]:
        """Return the socket's place, and the values of FIELDS, for a successor."""
        fd = self.sock.fileno()
        # Without a socket where the copy was spared: the entry stays because the worker
        # has the connection.
        return [None if fd < 0 else table.client(fd), *values_of(self)]


FIELDS: Final = tuple(name for name in Connection.__slots__ if name != "sock")
"The attributes in a snapshot of a connection, in this order."
values_of: Final = operator.attrgetter(*FIELDS)


def restored(state: list[Any], past: Past) -> Connection:
    """Return the connection that ``state`` wrote; its socket comes from *past*."""
    place, *values = state
    if place is None:
        sock = socket.socket(socket.AF_UNIX)
        sock.close()
    else:
        sock = socket.socket(fileno=past.take(place))
    connection = Connection(sock, 0, (b"", 0), (b"", 0))
    for name, value in zip(past.state["fields"], values, strict=True):
        # A predecessor may have had a field that is none any more.
        if name in FIELDS:
            setattr(connection, name, value)
    host, port = connection.local
    connection.local = (host, port)
    past.connections[connection.id] = connection
    return connection


def accepted(sock: socket.socket, address: Any, listener: Listener) -> Connection:
    """
    Return the connection of *sock*, just accepted, which it owns from now on.

    Args:
        sock: The connection.
        address: The client's address as accept returned it.
        listener: Where it arrived.
    """
    peer = (b"", 0)
    if isinstance(address, tuple):
        peer = (address[0].removeprefix(MAPPED).encode(), address[1])
    local = listener.local
    if local is None:
        try:
            name = sock.getsockname()
            local = (name[0].removeprefix(MAPPED).encode(), name[1])
        except OSError:
            local = (b"", 0)
    connection = Connection(sock, cookie(sock), peer, local)
    connection.proxy = listener.proxy
    return connection


def returned(message: Return) -> Connection:
    """
    Return the connection of a RETURN, with its descriptor.

    Raises:
        PeerMisbehaved: The descriptor is another connection, or its fields cannot be
            true. The descriptor is closed then.
    """
    size = len(message.key) + len(message.unread) + len(message.frozen)
    if size > MOST_LUGGAGE:
        message.connection.close()
        raise PeerMisbehaved(f"a RETURN with {size} bytes, which no HANDOFF holds")
    peer, local = message.peer, message.local
    if (
        max(len(peer), len(local)) > LONGEST_ADDRESS
        or not peer.isascii()
        or not local.isascii()
    ):
        message.connection.close()
        raise PeerMisbehaved("a RETURN whose addresses are none")
    sock = connection_of(message.connection, message.id, local)
    if sock is None:
        raise PeerMisbehaved("a RETURN with another connection than it says")
    connection = Connection(
        sock,
        message.id,
        (peer, message.peer_port),
        (local, message.local_port),
    )
    connection.key = message.key or None
    connection.learned = bool(message.learned)
    connection.consumed = message.unread
    connection.frozen = message.frozen
    # With none of these it was given back between two requests, by a worker that leaves
    # or is relieved.
    connection.idle = not (message.key or message.unread or message.frozen)
    connection.hops = min(message.hops + 1, MOST_HOPS)
    return connection
