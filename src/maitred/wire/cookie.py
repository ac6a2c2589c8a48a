"""
A connection's identity: its SO_COOKIE, the same in every process that has a copy.

The kernel gives each socket a 64-bit number that is never used again (Linux 4.12,
socket(7)). It is the ``id`` in the messages, so both ends can check that the
descriptor that came is the connection that was announced.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

SO_COOKIE: Final = 57
"asm-generic/socket.h; CPython 3.11 has no name for it."

COOKIE: Final = struct.Struct("=Q")
SOL_SOCKET: Final = int(socket.SOL_SOCKET)


def cookie(sock: socket.socket) -> int:
    """
    Give the identity of *sock*.

    Raises:
        OSError: It is not a socket.
    """
    number: int
    (number,) = COOKIE.unpack(sock.getsockopt(SOL_SOCKET, SO_COOKIE, COOKIE.size))
    return number
