"""
More or fewer workers, while the service runs.

Slots are added at the end and taken away from the end. A slot that is taken away is
closed: its worker drains as in a reload, and its keys are forgotten, so that who brings
one of them is placed anew.

Invariant: what clients carry says nothing about slots; else they could not be changed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from maitred.acceptor.counters import Counters
from maitred.config import MOST_WORKERS, Settings
from maitred.errors import CommandFailed, UsageError
from maitred.supervision import Supervisor, WorkerState

from .errands import Came
from .workers import Worker

LOOK: Final = 0.2
"Seconds between two looks at how it goes."
PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."


def scaled(settings: Settings, workers: int, *, sealed: bool) -> Settings:
    """
    Return *settings* with another number of *workers*.

    Args:
        settings: Those of the running service.
        workers: How many there are to be.
        sealed: Whether clients carry slots that we signed.

    Raises:
        UsageError: That number is not possible here.
    """
    reasons = {
        f"between 1 and {MOST_WORKERS} workers are possible": not (
            1 <= workers <= MOST_WORKERS
        ),
        "clients carry slots in cookies or stamps": sealed,
        "a hash would move sessions that nobody remembers": not settings.remembers,
        "with --drain sessions two generations have slots": settings.drain
        == "sessions",
    }
    for why, applies in reasons.items():
        if applies:
            raise UsageError(
                f"cannot scale to {workers}: {why}; restart with --workers instead"
            )
    return replace(settings, workers=workers)


async def watch_scale(
    before: int,
    keys: Awaitable[Mapping[int, Came | None]],
    *,
    supervisor: Supervisor,
    workers: Mapping[int, Worker],
    counted: Callable[[], Awaitable[Counters]],
    now: Callable[[], float],
) -> AsyncGenerator[dict[str, Any]]:
    """
    Yield the lines for an asker until there are as many workers as asked.

    Args:
        before: How many there were.
        keys: How many keys are placed anew (``moved``) or gone (``ended``), in each
            acceptor.
        supervisor: Returns how many there are to be.
        workers: Those that are alive; the caller keeps it up to date.
        counted: Returns what all acceptors have counted so far.
        now: Returns the time in seconds.

    Raises:
        CommandFailed: A new worker does not come up; it is tried again.
    """
    count = supervisor.slots
    began = said = now()
    leaving = {n: w for n, w in workers.items() if w.slot >= count}
    coming = set(range(before, count))
    counters = await counted()
    sessions: Counter[str] = Counter(moved=0, ended=0)
    for each in (await keys).values():
        sessions.update(each or {})
    while leaving or coming:
        for number in leaving.keys() - workers.keys():
            slot, said = leaving.pop(number).slot, now()
            yield {"progress": f"worker of slot {slot} has left"}
        for slot in sorted(coming):
            _refuse_failure(supervisor, slot, now())
            current = supervisor.current(slot)
            if current and supervisor.state(current) is WorkerState.READY:
                coming.remove(slot)
                said = now()
                yield {"progress": f"worker of slot {slot} is ready"}
        if supervisor.slots != count:
            raise CommandFailed("the number of workers was changed again meanwhile")
        if now() - said >= PULSE:
            said = now()
            yield {}
        if leaving or coming:
            await asyncio.sleep(LOOK)
    yield {
        "ok": True,
        "workers": count,
        "before": before,
        "sessions": dict(sessions),
        "lost": max((await counted()).lost - counters.lost, 0),
        "seconds": round(now() - began, 1),
    }


def _refuse_failure(supervisor: Supervisor, slot: int, now: float) -> None:
    failures = supervisor.failures(slot, now)
    if failures.in_a_row:
        raise CommandFailed(
            f"worker of slot {slot} {failures.why}; it is tried again, until you scale"
            " back"
        )
