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

from .messages import Owner

SO_COOKIE: Final = 57
"asm-generic/socket.h; CPython 3.11 has no name for it."

COOKIE: Final = struct.Struct("=Q")
SOL_SOCKET: Final = int(socket.SOL_SOCKET)


def cookie(sock: socket.socket) -> int:
    """
    Return the SO_COOKIE of *sock*.

    Raises:
        OSError: *sock* is not a socket.
    """
    number: int
    (number,) = COOKIE.unpack(sock.getsockopt(SOL_SOCKET, SO_COOKIE, COOKIE.size))
    return number


def connection_of(descriptor: Owner, id_: int, local: bytes) -> socket.socket | None:
    """
    Return *descriptor* as a socket, if it is the connection with the cookie *id_*.

    Family and type are not asked of the kernel, because that takes three system calls
    and the cookie alone proves which connection it is. The family is derived from the
    address; for an IPv4 client of a listener for both it says IPv4 though the socket is
    IPv6, which changes nothing for an accepted connection.

    Args:
        descriptor: A received descriptor; this function closes it or passes it on.
        id_: The cookie of a connection, from the message that announced it.
        local: The connection's own address as text; empty for a Unix socket.

    Returns:
        The socket, which the caller owns. None: the descriptor was another socket or
        none, and is closed.
    """
    family = socket.AF_INET6 if b":" in local else socket.AF_INET
    # Libraries set TCP_NODELAY only on what is labelled TCP, asyncio for one.
    tcp = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    kind = tcp if local else (-1, -1, -1)
    try:
        sock = socket.socket(*kind, fileno=descriptor.fileno())
    except OSError:  # not a socket
        descriptor.close()
        return None
    descriptor.detach()
    if cookie(sock) == id_:
        return sock
    sock.close()
    return None
