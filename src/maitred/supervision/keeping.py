"""
What the end of a master means to its keeper. Pure.

    the keeper was told to stop        leave with the master's exit code
    it ended in order (0, 5)           leave: somebody told the master itself
    no master ever served, and this    leave with its exit code: it has said why, and
    one ended by itself                it does not get better by trying again
    all else                           start another

The first of several that end before they serve is replaced at once, the next ones after
a backoff; after one that served everything begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .backoff import delay

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Leave:
    """Exit with ``code``; None: the master left none, it was killed while stopping."""

    code: int | None


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start another master after ``wait`` seconds."""

    wait: float


@dataclass(slots=True)
class Keeping:
    """
    Decides whether there will be another master.

    Args:
        orderly: The exit codes of a master that left because it was told to.
        rng: For the backoff's jitter.
    """

    orderly: frozenset[int]
    rng: Random
    stopping: bool = False
    _ever_served: bool = False
    _failures: int = 0  # masters in a row that ended before they served

    def ended(self, code: int, *, served: bool) -> Leave | StartAgain:
        """
        Return what to do after the end of a master.

        Args:
            code: The master's exit code; -N if signal N ended it.
            served: Whether the master had been ready.
        """
        self._ever_served |= served
        if self.stopping:
            return Leave(None if code < 0 else code)
        if code in self.orderly or (code >= 0 and not self._ever_served):
            return Leave(code)
        if served:
            self._failures = 0
            return StartAgain(0.0)
        self._failures += 1
        if self._failures == 1:
            return StartAgain(0.0)
        return StartAgain(delay(self._failures - 1, self.rng))

    def not_started(self) -> StartAgain:
        """Return what to do when the system refused to start a master's process."""
        self._failures += 1
        return StartAgain(delay(self._failures, self.rng))
