"""
Marks: what this worker writes on the scoreboard of each connection that is kept.

When a worker is killed, its marks say which of its connections nobody has begun to
serve: those live on in another worker. What was read of a request before the
application began with it would be gone; so it is read into the journal, which is shared
memory too, and stays there until the application begins.

Invariants: READING is written before anything is read, STARTED before the application
begins, IDLE or ENDED after it has answered. Whether the answer is out the kernel knows:
the mark says how many bytes there were. Where the journal has no room, it says STARTED.
"""

from __future__ import annotations

import time
from typing import Final

from maitred.wire.scoreboard import REGION, REGIONS, WORDS, Scoreboard, Stage

# By name in the module: Python finds a member of an enum slowly.
FRESH, IDLE, READING, STARTED, ENDED = map(int, Stage)

READ_SIZE: Final = 48 * 1024
"Bytes that are read at once."

# What needs no journal is read into the same memory, one connection after the other:
# it is copied out before anybody else can read.
_buffer = memoryview(bytearray(READ_SIZE))
# What is noted of a connection that has no mark any more.
_nowhere = memoryview(bytearray(WORDS * 8)).cast("Q")


class Unmarked:
    """The mark of a connection that is not kept: it records nothing."""

    __slots__ = ()

    kept = False
    stage = FRESH

    def room(self) -> memoryview:
        """Return the memory that is to be read into."""
        return _buffer

    def read(self, count: int) -> bytes:
        """Return the *count* bytes that were read into what ``room`` returned."""
        return bytes(_buffer[:count])

    def put(self, data: bytes) -> None:
        """Record that *data*, which was read before, has not been begun."""

    def started(self) -> None:
        """Record that the application begins."""

    def settled(self, pending: bytes, written: int) -> None:
        """Record that all is answered but *pending*, with *written* bytes."""

    def ended(self, written: int) -> None:
        """Record that all is answered, with *written* bytes, and nothing follows."""

    def leave(self) -> None:
        """Record that the connection is over, here."""

    def given_back(self) -> None:
        """Stop recording: the master has the connection again, and its mark."""

    def abandon(self) -> None:
        """Stop recording: whoever kept the connection is gone."""


UNMARKED: Final = Unmarked()


class Marks:
    """All marks of this worker."""

    def __init__(self, board: Scoreboard) -> None:
        """Write on *board*, where every region of the journal is free."""
        self.words = board.words
        self.journal = board.journal
        # Where is read to in a region that is empty.
        self.rooms = [
            board.journal[at : at + READ_SIZE]
            for at in range(0, REGIONS * REGION, REGION)
        ]
        # The last one freed is the next one taken: its memory is warm.
        self.free = list(range(REGIONS))

    def of(self, number: int) -> Mark | Unmarked:
        """Return the mark with *number*; 0: none."""
        return Mark(self, number) if number else UNMARKED


class Mark:
    """One connection's mark."""

    __slots__ = (
        "_at",
        "_before",
        "_fill",
        "_marks",
        "_position",
        "_region",
        "_view",
        "_words",
        "stage",
    )

    kept = True

    def __init__(self, marks: Marks, number: int) -> None:
        """Continue mark *number*, which the master has begun."""
        self._marks = marks
        self._words = words = marks.words
        self._at = at = number * WORDS
        self.stage = FRESH
        self._position = words[at + 1]
        # Bytes that others had written to the connection before us.
        self._before = words[at + 3]
        # Where in the journal this connection's bytes are; None: nowhere.
        self._region: int | None = None
        self._fill = 0
        self._view = _buffer

    def room(self) -> memoryview:
        """Return the memory to read into: the journal's, until a request begins."""
        # Because what is read before the application begins has to outlive us.
        if self._region is None and self.stage < STARTED:
            self._open(self._position, b"")
        region = self._region
        if region is None:
            self._view = _buffer
        elif not self._fill:
            self._view = self._marks.rooms[region]
        elif self._fill < REGION:
            start, end = region * REGION + self._fill, (region + 1) * REGION
            self._view = self._marks.journal[start : min(start + READ_SIZE, end)]
        else:
            # The region is full: what follows would be lost with us.
            self.started()
            self._view = _buffer
        return self._view

    def read(self, count: int) -> bytes:
        """Return the *count* bytes that were read into what ``room`` returned."""
        self._position = position = self._position + count
        self._words[self._at + 1] = position
        if self._region is not None:
            self._fill += count
        return bytes(self._view[:count])

    def put(self, data: bytes) -> None:
        """Record that *data*, read by somebody else, comes first and is not begun."""
        if data:
            self._open(self._position, data)
            self._position += len(data)
            self._words[self._at + 1] = self._position

    def started(self) -> None:
        """Record that the application begins, or may have."""
        # As _enter does; written out because each request passes here.
        self.stage = self._words[self._at] = STARTED
        if self._region is not None:
            self._marks.free.append(self._region)
            self._region = None

    def settled(self, pending: bytes, written: int) -> None:
        """
        Record that all is answered but *pending*.

        Args:
            pending: What was read and not begun.
            written: Bytes of all our answers.
        """
        words, at = self._words, self._at
        words[at + 3] = self._before + written
        words[at + 4] = time.monotonic_ns()
        if pending:
            self._open(self._position - len(pending), pending)
            return
        self.stage = words[at] = IDLE  # as _enter does; each request passes here
        if self._region is not None:
            self._marks.free.append(self._region)
            self._region = None

    def ended(self, written: int) -> None:
        """Record that all is answered, with *written* bytes, and nothing follows."""
        self._words[self._at + 3] = self._before + written
        self._enter(ENDED)

    def leave(self) -> None:
        """Record that the connection is over, here, and write nothing more."""
        self._enter(STARTED)
        self._words, self._at = _nowhere, 0

    def given_back(self) -> None:
        """Stop writing: the master has the connection again, and its mark."""
        # The mark may be another connection's by now. What the region has went with
        # the RETURN, which is heard before marks are looked at.
        self._words, self._at = _nowhere, 0
        self._enter(STARTED)

    def abandon(self) -> None:
        """Stop writing: who kept the connection is gone; the mark may be another's."""
        self._words, self._at = _nowhere, 0

    def _enter(self, stage: int) -> None:
        """Write *stage*, which has nothing in the journal."""
        self.stage = self._words[self._at] = stage
        if self._region is not None:
            self._marks.free.append(self._region)
            self._region = None

    def _open(self, start: int, data: bytes) -> None:
        """Write READING with *data*, read from position *start* on, in the journal."""
        # What the journal cannot keep must not be taken for untouched.
        if not self._marks.free or len(data) > REGION:
            self.started()
            return
        self._region = region = self._marks.free.pop()
        # What stage and start speak of has to be there before they are.
        if data:
            self._marks.journal[region * REGION : region * REGION + len(data)] = data
        self._fill = len(data)
        self._words[self._at + 2] = start
        self.stage = READING
        self._words[self._at] = READING | region << 8
