"""
Whether a client has sent something that nobody has read yet.

A timer that has run out says only that nothing was *read*. Where the process was
stopped, or its event loop was busy, the next request may lie in the kernel, and an
event loop may run its timers before it reads (uvloop does). Whoever closes a connection
that seems idle asks here first.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final

COUNT: Final = struct.Struct("=i")
TO_READ: Final = 0.005
"Seconds in which an event loop reads what the kernel holds: it looks before it waits."


def has_unread(sock: socket.socket) -> bool:
    """Return whether the kernel holds unread bytes; a FIN alone does not count."""
    try:
        (count,) = COUNT.unpack(fcntl.ioctl(sock, termios.FIONREAD, bytes(COUNT.size)))
    except (OSError, ValueError):  # it is closed
        return False
    return bool(count)
