"""
The deadlines of connections that wait for a worker, or for another acceptor.

Invariant: time in which this process stood still does not count, because it could have
handed over nobody in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from maitred.standstill import stood_still

from .connection import Connection

SWEEP: Final = 0.5
"Seconds between two looks at the deadlines, as long as somebody waits."


def extend_deadlines(
    sweep: asyncio.TimerHandle | None,
    now: float,
    waiting: Iterable[Iterable[Connection]],
) -> bool:
    """
    Move all deadlines by the time in which this process stood still, if it did.

    Args:
        sweep: The timer of the next look at the deadlines; None: there is none.
        now: The time of the event loop.
        waiting: All connections that have a deadline.

    Returns:
        Whether the deadlines were moved.
    """
    late = stood_still(sweep, now)
    if not late:
        return False
    for group in waiting:
        for connection in group:
            connection.deadline += late
            if connection.starved:
                connection.starved += late
    return True
