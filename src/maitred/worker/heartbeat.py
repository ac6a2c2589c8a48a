"""
The heartbeat: the event loop itself writes on the scoreboard that it turns.

Not a thread: a thread beats on while the loop is stuck in a handler.
"""

from __future__ import annotations

import asyncio
import time

from maitred.wire.scoreboard import BEAT, Scoreboard


def beat(board: Scoreboard, loop: asyncio.AbstractEventLoop) -> None:
    """Beat now, and every BEAT seconds for as long as *loop* turns."""
    board.beat = time.monotonic_ns()
    loop.call_later(BEAT, beat, board, loop)
