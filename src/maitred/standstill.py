"""
Whether this process stood still: it was stopped (SIGSTOP), swapped out, or busy.

A timer that fires late says so. Whoever gives somebody else a deadline asks here before
that one is held to it, because in the meantime nobody could be heard or served.
"""

from __future__ import annotations

from typing import Final, Protocol

LATE: Final = 0.5
"Seconds; a timer that is late by less was late because others were in front of it."


class Timer(Protocol):
    """A timer of an event loop, as ``asyncio.TimerHandle``."""

    def when(self) -> float:
        """Return the time at which the timer is due, by the clock of the event loop."""


def stood_still(timer: Timer | None, now: float) -> float:
    """Return the seconds by which *timer* is late; 0.0 for a short delay, or none."""
    late = 0.0 if timer is None else now - timer.when()
    return late if late > LATE else 0.0
