"""
The scoreboard: shared memory that a worker writes and the master reads.

    offset 0      u64: connections the worker serves now
    offset 8      u64: requests it has answered
    offset 16     u64: when its event loop was last heard of, CLOCK_MONOTONIC in ns;
                  0: it does not say, and is never judged by it
    offset 24     u64: by how many ns that was later than planned
    offset 32     u64: in how many threads it may serve; 0: it has no such threads
    offset 40     u64: how many of them are busy
    offset 48     u64: how many requests wait for one
    offset 56     u64: lines of its log that it could not write
    offset 64     a u64 for each cause of REFUSALS: requests the worker refused for it
    MARKS         ENTRIES marks of 64 bytes: one for each connection that is kept
    JOURNAL       REGIONS regions of REGION bytes: what was read and not begun

All numbers are in the machine's byte order. No message and no system call: a number is
written in place and read when somebody wants it. A worker that has no use for the page
may leave it alone.

A mark is eight u64, of which five are in use:

    stage         where the connection stands (Stage), and from bit 8 on its region
    position      bytes read from the connection since it was opened
    start         the position at which the region's bytes begin
    written       bytes of all answers to what was begun before
    since         when it last was between two requests, CLOCK_MONOTONIC in ns

Invariant: while the worker lives it is the only writer, but for the mark of what it has
not been handed yet. An aligned 8-byte number is never seen torn.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import struct
from typing import Final, NamedTuple

REFUSALS: Final = (
    "bad_request",
    "bad_body",
    "bad_host",
    "ambiguous_session",
    "bad_version",
    "tls",
    "not_tls",
    "bad_hello",
    "hello_too_large",
    "no_protocol",
    "head_too_large",
    "head_timeout",
    "head_cut_short",
    "misdirected",
    "too_many_waiting",
    "no_worker",
    "too_busy",
    "worker_died",
    "stopping",
    "too_many_from_source",
    "handshake_body",
    "out_of_step",
    "no_thread",
    "cut",
)
"""
The causes of refusals, in the order of their counts.

What is new is added at the end, and nothing is taken out: a worker may be older than
its master, or younger.
"""
FIRST_REFUSAL: Final = 8
"The number of the first of them, counted in u64."
BEAT: Final = 0.5
"Seconds between two beats of a worker that has a heartbeat."
PAGE: Final = 4096
ENTRIES: Final = 16 * 1024
"Marks; number 0 is nobody's."
WORDS: Final = 8
"Numbers in a mark."
MARKS: Final = PAGE
REGIONS: Final = 128
REGION: Final = 64 * 1024
JOURNAL: Final = MARKS + ENTRIES * WORDS * 8
SIZE: Final = JOURNAL + REGIONS * REGION
"Bytes in all; most are never touched, and those take no memory."


class Stage(enum.IntEnum):
    """The stage of a connection in the worker that has it."""

    FRESH = 0
    "handed over; the worker has not said anything of it"
    IDLE = 1
    "between two requests: all that was read is answered, if perhaps not written yet"
    READING = 2
    "the same, and what was read since stands in the journal"
    STARTED = 3
    "the application may have begun with what was read"
    ENDED = 4
    "all that was begun is answered, and nothing follows: it is about to be closed"


class Mark(NamedTuple):
    """One mark as it was when it was read."""

    stage: int
    region: int
    position: int
    start: int
    written: int
    since: int


SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"What nobody may do to the size of the memory, for good (fcntl(2), File Sealing)."
FRESH: Final = struct.Struct("@5Q")
"A mark whose stage is the first: all its numbers at once."


class Scoreboard:
    """One worker's scoreboard, mapped by either side."""

    def __init__(self, fd: int) -> None:
        """Map *fd*, a memfd of SIZE bytes; the caller still owns the descriptor."""
        self._map = mmap.mmap(fd, SIZE)
        self._bytes = memoryview(self._map)
        self._numbers = self._bytes[:PAGE].cast("Q")
        self.words = self._bytes[MARKS:JOURNAL].cast("Q")
        "The marks: mark n is words[n * WORDS:(n + 1) * WORDS]."
        self.journal = self._bytes[JOURNAL:]
        "The regions, one after the other."

    @staticmethod
    def create() -> int:
        """
        Create the memory and return its descriptor, which the caller owns.

        The memory is filled with zeros. Its size is sealed, because a worker that cut
        it short would end the master, which has it mapped, with SIGBUS.
        """
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        fd = os.memfd_create("maitred-scoreboard", flags)
        os.ftruncate(fd, SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return fd

    @property
    def connections(self) -> int:
        """Number of connections that the worker serves now."""
        return self._numbers[0]

    @connections.setter
    def connections(self, value: int) -> None:
        self._numbers[0] = value

    @property
    def requests(self) -> int:
        """Number of requests that the worker has answered."""
        return self._numbers[1]

    @requests.setter
    def requests(self, value: int) -> None:
        self._numbers[1] = value

    @property
    def beat(self) -> int:
        """Time of the last heartbeat, CLOCK_MONOTONIC in ns; 0: there are none."""
        return self._numbers[2]

    @beat.setter
    def beat(self, value: int) -> None:
        self._numbers[2] = value

    @property
    def lag(self) -> int:
        """Nanoseconds by which the last heartbeat was later than planned."""
        return self._numbers[3]

    @lag.setter
    def lag(self, value: int) -> None:
        self._numbers[3] = value

    @property
    def dropped(self) -> int:
        """Number of lines of the worker's log that could not be written."""
        return self._numbers[7]

    @dropped.setter
    def dropped(self, value: int) -> None:
        self._numbers[7] = value

    @property
    def threads(self) -> int:
        """Number of threads in which the worker may serve; 0: it uses none."""
        return self._numbers[4]

    @threads.setter
    def threads(self, value: int) -> None:
        self._numbers[4] = value

    @property
    def threads_busy(self) -> int:
        """Number of those threads that are busy."""
        return self._numbers[5]

    @threads_busy.setter
    def threads_busy(self, value: int) -> None:
        self._numbers[5] = value

    @property
    def threads_waiting(self) -> int:
        """Number of requests that wait for one of those threads."""
        return self._numbers[6]

    @threads_waiting.setter
    def threads_waiting(self, value: int) -> None:
        self._numbers[6] = value

    @property
    def refused(self) -> dict[str, int]:
        """Number of requests that the worker refused, by cause; no cause with 0."""
        counts = self._numbers[FIRST_REFUSAL : FIRST_REFUSAL + len(REFUSALS)]
        return {cause: n for cause, n in zip(REFUSALS, counts, strict=True) if n}

    def count_refusal(self, cause: str) -> None:
        """Count one more request refused for *cause*, one of REFUSALS."""
        self._numbers[FIRST_REFUSAL + REFUSALS.index(cause)] += 1

    def mark(self, number: int) -> Mark:
        """
        Return mark *number* as it stands now.

        A worker that is alive may write meanwhile: each number is whole, but they need
        not be of one moment.
        """
        at = number * WORDS
        stage, *rest = self.words[at : at + len(Mark._fields) - 1]
        return Mark(stage & 0xFF, stage >> 8, *rest)

    def reset(self, number: int, position: int, written: int, now_ns: int) -> None:
        """
        Write mark *number* for a connection that is about to be handed over.

        Args:
            number: Which mark.
            position: Number of bytes of the connection that were dealt with before.
            written: Number of bytes that were written to the connection before.
            now_ns: CLOCK_MONOTONIC, in ns.
        """
        at = MARKS + number * WORDS * 8
        FRESH.pack_into(self._bytes, at, 0, position, position, written, now_ns)

    def read_journal(self, region: int, size: int) -> bytes:
        """Return the first *size* bytes of *region*; empty if it has not so many."""
        # Checked, because both numbers may come from a worker's mark, where anything
        # may stand: a negative size would be counted from the end of the whole journal.
        if not 0 <= region < REGIONS or not 0 <= size <= REGION:
            return b""
        return bytes(self.journal[region * REGION : region * REGION + size])

    def close(self) -> None:
        """Unmap the memory; nothing else of this object may be used afterwards."""
        for view in (self._numbers, self.words, self.journal, self._bytes):
            view.release()
        self._map.close()
