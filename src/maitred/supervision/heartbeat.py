"""
Whether a worker's event loop turns. Pure: its last beat and the time in, silence out.

Silence is added up from look to look, at most one interval each time. So nobody is
blamed for a time in which the master did not look either, because the machine was
asleep, the container frozen, or both were short of processor time.

Invariant: a worker that never beats, because it does not know how, is never silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LATE: Final = 1.5
"""
Intervals of silence after which a worker is late: two looks in a row that find nothing
new. One alone says little: on a busy machine a beat may come just after the look.
"""


@dataclass(slots=True)
class Pulse:
    """
    The heartbeat of one worker, as it is seen from outside.

    Args:
        interval: Seconds between two beats, and between two looks.
        silent: Seconds since the last new beat, as far as was looked.
    """

    interval: float
    silent: float = 0.0
    _beat: int = 0
    _looked: float = 0.0

    def look(self, beat: int, now: float) -> None:
        """
        Update ``silent`` by a look at the worker's scoreboard.

        Args:
            beat: The time of its last heartbeat, as it wrote it; 0: there are none.
            now: The time of this look, in seconds.
        """
        if beat and beat == self._beat:
            self.silent += min(now - self._looked, self.interval)
        else:
            self.silent = 0.0
        self._beat, self._looked = beat, now

    @property
    def late(self) -> bool:
        """Whether the next heartbeat is overdue."""
        return self.silent >= LATE * self.interval
