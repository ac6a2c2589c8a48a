"""
What a worker's scoreboard says in numbers, as far as it can be believed.

The worker alone writes it, and a worker may be broken or hostile. A count goes up only,
and no faster than any worker can answer requests; what says otherwise is ignored, and
the last number that was believed stands. So whatever a worker writes, no sum that
outlives it goes down or leaps.

Invariant: every number given here is between 0 and MOST.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from maitred import logs
from maitred.wire.scoreboard import Scoreboard

PER_SECOND: Final = 1_000_000
"Requests that one worker answers in a second at most: ten times what C can do."
MOST: Final = 1 << 53
"The largest count: what JSON's readers keep exactly (RFC 8259 section 6)."
MOST_CONNECTIONS: Final = 1 << 20
"More one process cannot have open (fs.nr_open, as Linux sets it)."


class Account:
    """The counts of one worker."""

    def __init__(
        self,
        board: Scoreboard,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Start without any count that was believed.

        Args:
            board: Where the worker counts.
            name: What the worker is called in the log.
            clock: Returns the time in seconds.
        """
        self._board = board
        self._name = name
        self._clock = clock
        # When the worker was started.
        self.born = clock()
        self._believed: dict[str, int] = {}
        self._is_told = False

    @property
    def connections(self) -> int:
        """Return how many connections the worker says that it serves now."""
        return min(self._board.connections, MOST_CONNECTIONS)

    @property
    def requests(self) -> int:
        """Return how many requests the worker has answered."""
        return self._believe("requests", self._board.requests)

    @property
    def dropped(self) -> int:
        """Return how many lines of its log the worker could not write."""
        return self._believe("dropped", self._board.dropped)

    @property
    def refused(self) -> dict[str, int]:
        """Return, by cause, how many requests the worker has refused."""
        said = self._believed.keys() | self._board.refused.keys()
        counts = self._board.refused
        return {
            cause: count
            for cause in sorted(said - {"requests", "dropped"})
            if (count := self._believe(cause, counts.get(cause, 0)))
        }

    def _believe(self, what: str, said: int) -> int:
        """Return *said*, or the last count of *what* where *said* cannot be true."""
        last = self._believed.get(what, 0)
        age = self._clock() - self.born
        # One second more, because the first requests may come in one burst.
        if last <= said <= min(PER_SECOND * (age + 1), MOST):
            self._believed[what] = said
            return said
        if not self._is_told:
            self._is_told = True
            logs.master.warning(
                "%s counts %d %s after %d: it cannot be true, and is ignored",
                self._name,
                said,
                what,
                last,
            )
        return last
