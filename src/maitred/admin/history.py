"""
The last quarter of an hour, for charts: one sample every EVERY seconds. Pure.

A sample has the numbers of TOTALS and, for each slot, those of WORKER. Counts are since
the start of the service, as in the status: what happened between two samples is their
difference.

Invariant: no more than LENGTH samples, each an array of numbers.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

EVERY: Final = 2.0
"Seconds between two samples."
SPAN: Final = 15 * 60.0
"Seconds that are remembered."
LENGTH: Final = int(SPAN / EVERY)

TOTALS: Final = (
    *("accepted", "handed_over", "taken", "returned", "redispatched"),
    *("refused", "lost", "requests", "connections"),
)
WORKER: Final = ("requests", "connections", "lag", "memory", "cpu")
DIGITS: Final = 4


class History:
    """The last samples."""

    def __init__(self, length: int = LENGTH) -> None:
        """Start without samples; at most *length* are kept."""
        self._samples: deque[tuple[float, array[float]]] = deque(maxlen=length)

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Record the numbers of *snapshot*."""
        counts, slots = snapshot["connections"], snapshot["slots"]
        # It may be missing, because an old master does not count it.
        refused = (counts["refused"], counts.get("refused_by_workers", {}))
        rows = [_worker(slot) for slot in slots]
        totals = {
            **counts,
            "refused": sum(sum(causes.values()) for causes in refused),
            "requests": sum(row[0] for row in rows),
            "connections": sum(row[1] for row in rows if not math.isnan(row[1])),
        }
        numbers = array("d", [totals[name] for name in TOTALS])
        for row in rows:
            numbers.extend(row)
        # Rounded here, because a client that asks for what is younger than the last
        # sample would get that one twice otherwise.
        self._samples.append((round(snapshot["time"], 3), numbers))

    def leave(self) -> dict[str, Any]:
        """Return all samples, for a successor."""
        samples = [[time, list(numbers)] for time, numbers in self._samples]
        return {"columns": [*TOTALS, *WORKER], "samples": samples}

    def inherit(self, left: Mapping[str, Any]) -> None:
        """Add the samples of a predecessor, unless it had other columns."""
        if left["columns"] != [*TOTALS, *WORKER]:
            return
        ours = list(self._samples)
        first = ours[0][0] if ours else math.inf
        theirs = [(t, array("d", row)) for t, row in left["samples"] if t < first]
        self._samples.clear()
        self._samples.extend([*theirs, *ours])

    def since(self, when: float = 0.0) -> dict[str, Any]:
        """
        Return the samples younger than *when*, in seconds since 1970.

        A number that is not known is null.
        """
        return {
            "every": EVERY,
            "totals": list(TOTALS),
            "worker": list(WORKER),
            "samples": [
                {
                    "time": time,
                    "totals": _plain(numbers[: len(TOTALS)]),
                    "slots": [
                        _plain(numbers[at : at + len(WORKER)])
                        for at in range(len(TOTALS), len(numbers), len(WORKER))
                    ],
                }
                for time, numbers in self._samples
                if time > when
            ],
        }


def _worker(slot: Mapping[str, Any]) -> list[float]:
    """Return the numbers of one slot, in the order of WORKER."""
    totals = slot["totals"]
    values = (
        totals["requests"],
        slot.get("open"),
        slot.get("lag"),
        slot.get("memory"),
        totals["cpu"],
    )
    return [math.nan if value is None else value for value in values]


def _plain(numbers: array[float]) -> list[float | None]:
    """Return *numbers* as JSON has them; NaN is null."""
    return [
        None
        if math.isnan(number)
        else int(number)
        if number.is_integer()
        else round(number, DIGITS)
        for number in numbers
    ]
