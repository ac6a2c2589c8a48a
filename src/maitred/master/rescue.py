"""
What a dead worker left of a connection that we have a copy of.

The worker's mark says where the connection stood, and the kernel how many bytes were
ever read from it: together they prove whether a request was begun. What was read and
not begun stands in the journal; nothing of it is lost and nothing is served twice.

Invariant: only for a worker that is certainly dead. In doubt the connection is lost.
"""

from __future__ import annotations

import enum
import fcntl
import socket
import struct
from typing import Final

from maitred.wire.scoreboard import Scoreboard, Stage

from .connection import Connection

BYTES_RECEIVED: Final = 128
"Offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h, since Linux 4.1)."
TCP_INFO_SIZE: Final = 136
ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
"States of TCP as tcpi_state has them (net/tcp_states.h)."
SIOCINQ: Final = 0x541B
"Bytes that wait to be read (tcp(7)); the same number as FIONREAD."


class Left(enum.Enum):
    """What there is to do with a connection."""

    UNTOUCHED = enum.auto()
    "nothing was begun: it goes to another worker"
    STARTED = enum.auto()
    "a request was begun and nothing answered"
    LOST = enum.auto()
    "some of an answer may be out, or nothing is certain"


def bytes_read(sock: socket.socket) -> int | None:
    """
    Say how many bytes were read from *sock* since it was opened.

    Returns:
        The number; None if the kernel does not count them, as for a Unix socket.

    Raises:
        OSError: The connection is broken.
    """
    if sock.family == socket.AF_UNIX:
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    state = info[0]
    if state not in (ESTABLISHED, CLOSE_WAIT):
        raise ConnectionResetError("the client is gone")
    (received,) = struct.unpack_from("=Q", info, BYTES_RECEIVED)
    (waiting,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCINQ, b"\0\0\0\0"))
    # A FIN takes a number in the sequence, like a byte (RFC 9293 section 3.4).
    return int(received) - int(waiting) - (state == CLOSE_WAIT)


def rescue(connection: Connection, board: Scoreboard) -> Left:
    """
    Find out what can be done with *connection*, whose worker is dead.

    Args:
        connection: Our copy, with its mark. If it is untouched it has, afterwards,
            the bytes that come before what is still in the kernel.
        board: The dead worker's scoreboard.
    """
    mark = board.mark(connection.mark)
    if mark.stage == Stage.STARTED:
        return Left.STARTED
    if mark.stage not in (Stage.FRESH, Stage.IDLE, Stage.READING):
        return Left.LOST
    try:
        read = bytes_read(connection.sock)
    except OSError:
        return Left.LOST
    if mark.stage == Stage.READING:
        if read is None:  # it may have read more than it could say
            return Left.LOST
        size = read - mark.start
        connection.consumed = board.read_journal(mark.region, size)
        connection.idle = False
        if size <= 0 or len(connection.consumed) != size:
            return Left.LOST
    else:
        if mark.stage == Stage.IDLE:
            connection.consumed = b""
            connection.idle = True
        if read not in (None, mark.position + len(connection.consumed)):
            return Left.LOST
    connection.mark = 0
    connection.position = mark.position if read is None else read
    connection.position -= len(connection.consumed)
    return Left.UNTOUCHED
