"""
What somebody is told who asked us to stop.

Invariant: the last line is said when every worker is gone, and before we are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from maitred.acceptor.counters import Counters
from maitred.supervision import Finish

from .following import Roll
from .workers import Worker

LOOK: Final = 0.2
"Seconds between two looks at who is left."
PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."


async def watch_end(
    finished: asyncio.Future[Finish],
    workers: Mapping[int, Worker],
    roll: Roll,
    counted: Callable[[], Awaitable[Counters]],
) -> AsyncGenerator[dict[str, Any]]:
    """
    Yield the lines for an asker until the service has ended.

    Args:
        finished: Done when no worker is left.
        workers: Those that are left; the caller keeps it up to date.
        roll: The workers there were at the beginning.
        counted: Returns what all acceptors have counted so far.
    """
    before = await counted()
    began = said = time.monotonic()
    left = dict(workers)
    yield {"progress": f"draining {len(left)} workers"}
    while not finished.done():
        await asyncio.wait({finished}, timeout=LOOK)
        for number in left.keys() - workers.keys():
            slot = left.pop(number).slot
            said = time.monotonic()
            yield {"progress": f"worker of slot {slot} has left; {len(left)} to go"}
        if time.monotonic() - said >= PULSE:
            said = time.monotonic()
            yield {}
    seconds = round(time.monotonic() - began, 1)
    yield {
        "ok": True,
        "cut": finished.result().cut,
        "open": roll.open,
        "lost": max((await counted()).lost - before.lost, 0),
        "seconds": seconds,
    }
