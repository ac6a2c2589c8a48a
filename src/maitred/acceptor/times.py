"""
How long each stage of a connection's way takes, in histograms.

    peek        from accepting it until enough of it had come to know its key; only of
                those that had to wait for their client
    hand_over   from then, or from accepting it, to handing it over; a wait for room is
                part of it
    take        from handing it over to hearing that its worker has read from it

Invariant: noting a time allocates nothing that stays, and costs a search among a dozen
numbers. Each acceptor notes for itself; the sums are made when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"Seconds: the upper end of each bucket but the last, which has none."


@dataclass(slots=True)
class Histogram:
    """Counts of times by bucket, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def add(self, other: Mapping[str, Any]) -> None:
        """Add the counts of another one."""
        self.counts = [a + b for a, b in zip(self.counts, other["counts"], strict=True)]
        self.sum += other["sum"]


@dataclass(slots=True)
class Times:
    """One histogram for each stage."""

    peek: Histogram = field(default_factory=Histogram)
    hand_over: Histogram = field(default_factory=Histogram)
    take: Histogram = field(default_factory=Histogram)

    def add(self, statistics: Mapping[str, Any]) -> None:
        """Add the ``statistics`` of another acceptor."""
        for name, each in statistics.items():
            getattr(self, name).add(each)

    def statistics(self) -> dict[str, Any]:
        """Return all counts by name."""
        return {
            name: {"counts": list(each.counts), "sum": each.sum}
            for name in self.__slots__
            for each in [getattr(self, name)]
        }
