"""
What happened to connections, in numbers.

Every accepted connection ends in exactly one of: taken, client_left, silent,
refused (by cause), lost. One that was returned, or orphaned (its worker died, and we
have a copy), does so once more. Each of several acceptors counts for itself: what is
passed to another one ends with the one, and begins with the other as received.
``statistics`` is what status shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .times import Times


@dataclass(slots=True)
class Counters:
    """Counts since the master started, and how long it took."""

    accepted: int = 0
    handed_over: int = 0
    taken: int = 0
    returned: int = 0
    drained: int = 0
    redispatched: int = 0
    no_descriptor: int = 0
    client_left: int = 0
    silent: int = 0
    orphaned: int = 0
    lost: int = 0
    claims: int = 0
    accept_pauses: int = 0
    passed: int = 0
    received: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    # Requests, by workers that are dead: what the living count is on their scoreboards.
    refused_by_workers: Counter[str] = field(default_factory=Counter)
    times: Times = field(default_factory=Times)

    def add(self, others: Mapping[str, Any]) -> None:
        """Add the ``statistics`` of another acceptor."""
        for name, count in others.items():
            if isinstance(count, Mapping):
                getattr(self, name).update(count)
            else:
                setattr(self, name, getattr(self, name) + count)

    def statistics(self) -> dict[str, Any]:
        """Return all counts by name."""
        return {
            name: dict(value)
            if isinstance(value := getattr(self, name), Counter)
            else value
            for name in self.__slots__
            if name != "times"  # which has statistics of its own
        }


class Done:
    """Sums of what dead workers did, by the index of their slot."""

    def __init__(self) -> None:
        """Start without sums."""
        self._slots: dict[int, dict[str, float]] = {}

    def note(self, slot: int, did: Mapping[str, float]) -> None:
        """Add what a worker of *slot* did."""
        sums = self._slots.setdefault(slot, {})
        for name, number in did.items():
            sums[name] = sums.get(name, 0) + number

    def add(self, state: Iterable[Sequence[Any]]) -> None:
        """Add the ``state`` of another one."""
        for slot, did in state:
            self.note(slot, did)

    def of(self, slot: int) -> dict[str, float]:
        """Return the sums of *slot*."""
        return dict(self._slots.get(slot, {}))

    def state(self) -> list[Any]:
        """Return all sums as plain data: pairs of a slot and what was done there."""
        return [[slot, dict(sums)] for slot, sums in self._slots.items()]
