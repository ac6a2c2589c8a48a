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
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts since the master started; each field is one event."""

    accepted: int = 0
    handed_over: int = 0
    taken: int = 0
    returned: int = 0
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

    def add(self, others: Mapping[str, Any]) -> None:
        """Add what another acceptor has counted, as its ``statistics`` say it."""
        for name, count in others.items():
            if isinstance(count, Mapping):
                self.refused.update(count)
            else:
                setattr(self, name, getattr(self, name) + count)

    def statistics(self) -> dict[str, Any]:
        """Give all counts by name."""
        return {
            name: dict(value)
            if isinstance(value := getattr(self, name), Counter)
            else value
            for name in self.__slots__
        }
