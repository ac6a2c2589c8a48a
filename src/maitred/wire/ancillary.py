"""
What rides beside the bytes of a packet: descriptors, and what nobody asked for.

Invariant: every descriptor that the kernel has installed is owned or closed. Options of
the socket, which whoever made it may have set, decide what comes: credentials come
before the descriptors, a pidfd after them (Linux 6.18).
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from typing import Final

from .codec import MAX_DESCRIPTORS

# As numbers: with Python's flags, one "&" takes as long as a small system call.
SOL_SOCKET: Final = int(socket.SOL_SOCKET)
SCM_RIGHTS: Final = int(socket.SCM_RIGHTS)
SCM_PIDFD: Final = 4
"linux/socket.h, Linux 6.5; CPython 3.11 has no name for it."
ROOM: Final = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4) + 256
"""
Bytes for every descriptor that the kernel ever puts into one message, and for all that
may come with them. So MSG_CTRUNC can mean one thing only: this process has no free
descriptor.
"""


def descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> array.array[int]:
    """
    Return the descriptors of SCM_RIGHTS, which the caller owns.

    A pidfd, which only an option of the socket that somebody else set brings along, is
    closed here.
    """
    passed, unwanted = array.array("i"), array.array("i")
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind in {SCM_RIGHTS, SCM_PIDFD}:
            # Cut to whole numbers, because MSG_CTRUNC may leave a part of the last.
            numbers = passed if kind == SCM_RIGHTS else unwanted
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    for fd in unwanted:
        # Because the kernel puts an errno, below zero, where it had no number left.
        if fd >= 0:
            os.close(fd)
    return passed
