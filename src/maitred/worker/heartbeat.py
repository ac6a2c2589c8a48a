"""
The heartbeat: the event loop itself writes on the scoreboard that it turns.

With it, how many lines of the worker's log were dropped by then.

Not a thread: a thread beats on while the loop is stuck in a handler.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from maitred import logs
from maitred.wire.scoreboard import BEAT, Scoreboard

BEAT_NS: Final = int(BEAT * 1e9)


def beat(
    board: Scoreboard, loop: asyncio.AbstractEventLoop, due: int | None = None
) -> None:
    """
    Write the time on *board* now, and every BEAT seconds for as long as *loop* turns.

    Args:
        board: Where it is written, with how late it was.
        loop: Calls us again.
        due: When this beat was planned, CLOCK_MONOTONIC in ns; None: now.
    """
    now = time.monotonic_ns()
    board.beat = now
    board.lag = 0 if due is None else max(now - due, 0)
    board.dropped = logs.dropped()
    loop.call_later(BEAT, beat, board, loop, now + BEAT_NS)
