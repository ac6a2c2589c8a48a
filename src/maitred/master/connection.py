"""One connection while the master owns it, or keeps its copy."""

from __future__ import annotations

import socket
from typing import Any, Final

from maitred.wire.cookie import cookie

from .listeners import Listener

MAPPED: Final = "::ffff:"
"An IPv4 client on a dual-stack listener (RFC 4291 section 2.5.5.2)."


class Connection:
    """
    An accepted connection.

    Owns its socket: whoever drops the connection calls ``close``, which only ever
    closes; a shutdown would act on the worker's copy too.
    """

    __slots__ = (
        "attempts",
        "deadline",
        "id",
        "key",
        "learned",
        "listener",
        "peer",
        "peer_port",
        "seen",
        "sock",
    )

    def __init__(self, sock: socket.socket, address: Any, listener: Listener) -> None:
        """
        Own *sock*, just accepted from *listener*.

        Args:
            sock: The connection.
            address: What accept said of the client.
            listener: Where it arrived.
        """
        self.sock = sock
        self.listener = listener
        self.id = cookie(sock)
        if isinstance(address, tuple):
            self.peer = address[0].removeprefix(MAPPED).encode()
            self.peer_port: int = address[1]
        else:
            self.peer, self.peer_port = b"", 0
        # What it is placed by, once that is known.
        self.key: bytes | None = None
        self.learned = False
        # Bytes that were there at the last peek: fewer later means somebody read.
        self.seen = 0
        # How often it was handed over in vain.
        self.attempts = 0
        # When we stop waiting, on the loop's clock; set anew in each kind of wait.
        self.deadline = 0.0

    def local(self) -> tuple[bytes, int]:
        """Say the address it was made to, empty for a Unix socket."""
        if self.listener.local is not None:
            return self.listener.local
        try:
            name = self.sock.getsockname()
        except OSError:
            return b"", 0
        return name[0].removeprefix(MAPPED).encode(), name[1]

    def close(self) -> None:
        """Close our copy."""
        self.sock.close()
