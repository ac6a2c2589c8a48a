"""
What happened to the service, for an operator who looks later.

Invariant: no more than MOST are remembered, the last ones. An upgrade keeps them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

MOST: Final = 200


class What(StrEnum):
    """The kinds of events."""

    START = "start"
    RELOAD = "reload"
    RELOAD_FAILED = "reload-failed"
    CRASH = "crash"
    HANG = "hang"
    SCALE = "scale"
    DRAIN = "drain"
    UPGRADE = "upgrade"
    STOP = "stop"


class Events:
    """Records events, and counts them by kind."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Start without events; *clock* returns seconds since 1970."""
        self._clock = clock
        self._last: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._counts = Counter({what.value: 0 for what in What})

    def note(self, what: What, text: str) -> None:
        """Record that *what* happened just now; *text* is a sentence."""
        now = round(self._clock(), 3)
        self._last.append({"time": now, "kind": what.value, "text": text})
        self._counts[what.value] += 1

    def state(self) -> dict[str, Any]:
        """Return all, for an answer or a successor; the last is the youngest."""
        return {"events": list(self._last), "event_counts": dict(self._counts)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what a predecessor has left."""
        self._last.extend(state["events"])
        self._counts.update(state["event_counts"])
