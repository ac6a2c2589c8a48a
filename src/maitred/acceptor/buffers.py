"""
The receive buffer of a connection that is only peeked at.

What nobody reads stays in the kernel, and a client whose bytes fill the buffer can send
no more: a head that is larger would never be complete. So the buffer is made larger
where the bytes that have come fill half of it, and no limit is allowed that no buffer
holds.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from maitred.errors import UsageError

from .connection import Connection

SO_MEMINFO: Final = 55
"asm-generic/socket.h; since Linux 4.12. Python has no name for it."
MEMINFO: Final = struct.Struct("=2I")
"SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_RCVBUF, the first of nine (linux/sock_diag.h)."
TCP_RMEM: Final = "/proc/sys/net/ipv4/tcp_rmem"
"The least, the first and the largest receive buffer (tcp(7))."
NEARLY: Final = 0.7
"""
How much of a full buffer is in use at least. The kernel stops the client before it is
used up, because it cannot know how much memory the next segment takes.
"""
OF_UNIX: Final = 128 * 1024
"Bytes that may fill a Unix socket, whose buffer is the client's, not ours."


def most() -> int | None:
    """Return how many bytes a receive buffer can be made to hold; None: unknown."""
    try:
        with open(TCP_RMEM, encoding="ascii") as text:
            # The other half is for what the kernel keeps beside them.
            return int(text.read().split()[2]) // 2
    except (OSError, ValueError, IndexError):
        return None


def check(limit: int, whose: str) -> None:
    """
    Check that the kernel can hold *limit* bytes that nobody has read.

    Raises:
        UsageError: It cannot; *whose* limit it is stands before the reason.
    """
    room = most()
    if room is not None and limit > room:
        raise UsageError(
            f"{whose} {limit}: the kernel holds at most {room} bytes that nobody has"
            " read; give less, or raise the last number of net.ipv4.tcp_rmem"
        )


def make_room(connection: Connection, limit: int) -> None:
    """
    Enlarge the buffer of *connection* for *limit* bytes if half of it is used.

    Raises:
        OSError: The connection is broken.
    """
    sock = connection.sock
    room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if connection.is_tcp and connection.seen < limit and 2 * connection.seen >= room:
        # This enlarges the buffer beyond net.core.rmem_max (tcp_set_rcvlowat of Linux),
        # and a smaller number afterwards leaves it so. A half more, because small
        # segments take more memory than they have bytes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, limit + limit // 2)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def is_full(connection: Connection) -> bool:
    """Return whether no more of *connection* can come until something is read."""
    if not connection.is_tcp:
        return connection.seen >= OF_UNIX
    try:
        told = connection.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
    except OSError:
        return False
    used, room = MEMINFO.unpack(told)
    return bool(used >= NEARLY * room)
