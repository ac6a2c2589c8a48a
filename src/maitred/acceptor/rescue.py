"""
What a dead worker left of a connection that we have a copy of.

The worker's mark says where the connection stood, and the kernel how many bytes were
ever read from it and written to it: together they prove whether a request was begun,
and whether the answers before it are out. What was read and not begun stands in the
journal; nothing of it is lost and nothing is served twice.

Invariant: only for a worker that is certainly dead. In doubt the connection is lost.
"""

from __future__ import annotations

import enum
import fcntl
import socket
import struct
from typing import Final, NamedTuple

from maitred.wire.scoreboard import Scoreboard, Stage

from .connection import Connection

BYTES: Final = struct.Struct("=QQ")
BYTES_AT: Final = 120
"tcpi_bytes_acked and _received in struct tcp_info (linux/tcp.h, since Linux 4.1)."
ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
"States of TCP as tcpi_state has them (net/tcp_states.h)."
LOOKS: Final = 100
SIOCINQ: Final = 0x541B
SIOCOUTQ: Final = 0x5411
"Bytes not read yet, and bytes not acknowledged yet (tcp(7))."

NOT_BEGUN: Final = (Stage.FRESH, Stage.IDLE, Stage.READING)


class Left(enum.Enum):
    """The outcome for one connection of a dead worker."""

    UNTOUCHED = enum.auto()
    "nothing was begun: it goes to another worker"
    STARTED = enum.auto()
    "a request was begun and nothing answered"
    LOST = enum.auto()
    "some of an answer is out, or nothing is certain"
    ENDED = enum.auto()
    "the client had left, or the worker had ended it: there is nobody to lose"


class Traffic(NamedTuple):
    """Bytes since a connection was opened: read from it here, written to it here."""

    read: int
    written: int


def traffic(sock: socket.socket) -> Traffic:
    """
    Return how many bytes were read from *sock* and written to it.

    The kernel counts both, also what a dead process did.

    Raises:
        ConnectionResetError: The connection has been ended, by one side at least.
        OSError: *sock* is no TCP socket, or bytes arrive too fast to be counted.
    """
    for _ in range(LOOKS):
        before = _counts(sock)
        waiting, leaving = _queued(sock, SIOCINQ), _queued(sock, SIOCOUTQ)
        # Until two answers agree, because a segment that comes between two questions
        # is in one answer only, and it would look as if bytes were lost.
        if _counts(sock) == before:
            break
    else:
        raise BlockingIOError("it never stands still")
    state, acknowledged, received = before
    if state not in (ESTABLISHED, CLOSE_WAIT):
        raise ConnectionResetError("it has been ended")
    # A FIN takes a number in the sequence, like a byte (RFC 9293 section 3.4).
    return Traffic(received - waiting - (state == CLOSE_WAIT), acknowledged + leaving)


def _counts(sock: socket.socket) -> tuple[int, int, int]:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_AT + BYTES.size)
    return (info[0], *BYTES.unpack_from(info, BYTES_AT))


def _queued(sock: socket.socket, which: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), which, bytes(4)))[0])


def is_being_answered(connection: Connection, board: Scoreboard) -> bool:
    """
    Return whether a worker, still alive, seems to be answering on *connection*.

    Args:
        connection: Our copy, with its mark.
        board: The worker's scoreboard.
    """
    if board.mark(connection.mark).stage != Stage.STARTED:
        return False
    try:
        traffic(connection.sock)
    except ConnectionResetError:  # it was closed, of which we have yet to hear
        return False
    except OSError:
        pass
    return True


def rescue(connection: Connection, board: Scoreboard) -> Left:
    """
    Return what can be done with *connection*, whose worker is certainly dead.

    Args:
        connection: Our copy, with its mark. For ``UNTOUCHED`` it is brought up to
            date: bytes read and not begun, position, no mark, and whether it is idle.
        board: The dead worker's scoreboard.
    """
    mark = board.mark(connection.mark)
    try:
        read, written = traffic(connection.sock)
    except ConnectionResetError:
        return Left.ENDED
    except OSError:
        return Left.LOST
    # Because then some of an answer is out, or died in the worker's memory: whatever
    # came behind it would be read as its rest.
    if written != mark.written:
        return Left.LOST
    # An ENDED connection owes its client nothing more, because the last answer is out
    # whole. STARTED may have had its effect in the application, and must not run twice.
    if mark.stage not in NOT_BEGUN:
        return Left.ENDED if mark.stage == Stage.ENDED else Left.STARTED
    start = mark.position
    # The journal has what was read since the last answer. Its size is computed from the
    # kernel's count, because the worker may have died between reading and noting it.
    if mark.stage == Stage.READING:
        start = mark.start
        connection.consumed = board.read_journal(mark.region, read - start)
    # What came with the handoff was served, because the mark moved on to IDLE.
    elif mark.stage == Stage.IDLE:
        connection.consumed = b""
    # Otherwise bytes are gone, without which no worker can go on.
    if read != start + len(connection.consumed):
        return Left.LOST
    # A FRESH one is as idle as it was handed over, because nothing has happened to it.
    if mark.stage != Stage.FRESH:
        connection.idle = not connection.consumed
    connection.mark = 0
    connection.position = read - len(connection.consumed)
    connection.written = written
    return Left.UNTOUCHED
