"""
What somebody is told of each worker while they wait for a command that takes its time.

Between the sentences of the command there are lines ``{"worker": {...}}``: one for each
worker that changed, a few times a second.

Invariant: what the command says is passed on as it is, in its order, and nothing after
its last line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from maitred.acceptor.counters import Counters
from maitred.placement import Slot
from maitred.supervision import Supervisor

from .workers import Worker

LOOK: Final = 0.2
"Seconds between two looks at the workers."
PATIENCE: Final = 2.0
"""
Seconds that somebody who asked for a reload is kept, when the new generation serves,
until the old workers have given back what is idle: then it can be said how it went.
"""

Line = dict[str, Any]


class Roll:
    """Reports what changed of each worker since the last look."""

    def __init__(
        self,
        supervisor: Supervisor,
        workers: Mapping[int, Worker],
        slots: Sequence[Slot],
    ) -> None:
        """
        Record which workers there are.

        Args:
            supervisor: Returns their states.
            workers: Those that are alive; the caller keeps it up to date.
            slots: All slots, which say whether they are drained.
        """
        self._slots = slots
        self._supervisor = supervisor
        self._alive = workers
        self._known: dict[int, tuple[Worker, Line]] = {}
        self._before = dict(workers)
        self.open = sum(map(held, workers.values()))
        "Connections that the workers had at the beginning."

    def changes(self) -> list[Line]:
        """Return a line for each worker of which something is new."""
        lines = []
        for number, worker in self._alive.items():
            left = held(worker)
            state = self._supervisor.state(number).name.lower()
            if state == "ready" and self._slots[worker.slot].drained:
                state = "drained"
            _, last = self._known.get(number, (worker, {"of": 0}))
            line = {
                "slot": worker.slot,
                "pid": worker.process.pid,
                "generation": worker.generation,
                "state": state,
                "left": left,
                "of": max(left, last["of"]),
            }
            if line != last:
                self._known[number] = worker, line
                lines.append({"worker": line})
        for number in self._known.keys() - self._alive.keys():
            _, line = self._known.pop(number)
            lines.append({"worker": line | {"state": "gone", "left": 0}})
        return lines

    @property
    def are_gone(self) -> bool:
        """Whether none is left of the workers there were at the beginning."""
        return not self._before.keys() & self._alive.keys()

    @property
    def kept(self) -> int:
        """How many connections those workers still have."""
        left = self._before.keys() & self._alive.keys()
        return sum(held(self._alive[number]) for number in left)


def held(worker: Worker) -> int:
    """Return how many connections *worker*, which is alive, has or is to get."""
    # The larger number, because the scoreboard counts those of all acceptors, but
    # only if the worker writes it.
    return max(worker.account.connections, len(worker.granted) + worker.unanswered)


async def followed(
    lines: AsyncGenerator[Mapping[str, Any]], roll: Roll
) -> AsyncGenerator[Mapping[str, Any]]:
    """Yield *lines*, and between them what changes of the workers of *roll*."""
    coming = asyncio.ensure_future(anext(lines))
    try:
        while True:
            # Before the first wait too: who has just been started is soon ready.
            for each in roll.changes():
                yield each
            await asyncio.wait({coming}, timeout=LOOK)
            if not coming.done():
                continue
            for each in roll.changes():
                yield each
            yield (line := coming.result())
            if "ok" in line:  # it is the last one, whatever changes now
                return
            coming = asyncio.ensure_future(anext(lines))
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await coming
        await lines.aclose()


async def watch_reload(
    lines: AsyncGenerator[Line],
    roll: Roll,
    counted: Callable[[], Awaitable[Counters]],
    *,
    patience: float,
) -> AsyncGenerator[Line]:
    """
    Yield the *lines* of a reload; the last says what became of connections.

    Args:
        lines: Lines until the new generation serves.
        roll: The workers that were there before.
        counted: Returns what all acceptors have counted so far.
        patience: Seconds to wait for what is idle, when the new generation serves.
    """
    before = await counted()
    async with contextlib.aclosing(lines):
        async for line in lines:
            if "ok" not in line:
                yield line
                continue
            for _ in range(round(patience / LOOK)):
                if not roll.are_gone:
                    await asyncio.sleep(LOOK)
            after = await counted()
            yield line | {
                # No less than 0, because what an acceptor that died counted last is not
                # known.
                "moved": max(after.drained - before.drained, 0),
                "kept": roll.kept,
                "lost": max(after.lost - before.lost, 0),
            }
