"""
The scoreboard: one page of shared memory that a worker writes and the master reads.

    offset 0   u64, machine byte order: connections the worker serves now
    offset 8   u64, machine byte order: requests it has answered

No message and no system call: a number is written in place and read when somebody
wants it. A worker that has no use for it may leave it alone.

Invariant: the worker is the only writer; an aligned 8-byte number is never seen torn.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

SIZE: Final = mmap.PAGESIZE


class Scoreboard:
    """One worker's page, mapped by either side."""

    def __init__(self, fd: int) -> None:
        """Map *fd*, a memfd of one page; the descriptor stays the caller's."""
        self._map = mmap.mmap(fd, SIZE)
        self._numbers = memoryview(self._map).cast("Q")

    @staticmethod
    def create() -> int:
        """Make the page; the caller owns the descriptor (memfd_create(2))."""
        fd = os.memfd_create("maitred-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE)
        return fd

    @property
    def connections(self) -> int:
        """Connections the worker serves now."""
        return self._numbers[0]

    @connections.setter
    def connections(self, value: int) -> None:
        self._numbers[0] = value

    @property
    def requests(self) -> int:
        """Requests the worker has answered."""
        return self._numbers[1]

    @requests.setter
    def requests(self, value: int) -> None:
        self._numbers[1] = value

    def close(self) -> None:
        """Unmap the page."""
        self._numbers.release()
        self._map.close()
