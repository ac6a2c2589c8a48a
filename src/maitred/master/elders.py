"""
Elders: workers of the old generation that keep their sessions (--drain sessions).

Two generations that both have sessions cannot fill the same slots: a session belongs
to a slot. So there are two sets of slots, and each generation fills the set that the
one before it left empty. An elder's slot gets nothing new.

Invariant: an elder leaves when its last session has ended, at its deadline, or when the
service stops, whichever comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from maitred import logs
from maitred.placement import KeyTable
from maitred.wire import messages

from .dispatcher import Dispatcher
from .workers import Worker

LOOK: Final = 1.0
"Seconds between two looks at how many sessions are left."
GOODBYE: Final = messages.Drain(2000, give_back=1)
"What an elder is told in the end: connections are given back, WebSockets closed."


class Elders:
    """Keeps elders for as long as they are needed."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        keys: KeyTable,
        *,
        workers: int,
        alone: bool,
        countable: bool,
        tell: Callable[[str], None],
    ) -> None:
        """
        Begin without any; needs a running loop.

        Args:
            dispatcher: Retires and dismisses them.
            keys: Knows their sessions.
            workers: Slots in a set.
            alone: There is one set of slots: nobody becomes an elder.
            countable: Whether all sessions stand in *keys*; those that a cookie of ours
                names do not.
            tell: Tells whoever waits for a reload.
        """
        self._dispatcher = dispatcher
        self._keys = keys
        self._workers = workers
        self._alone = alone
        self._countable = countable
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._elders: dict[int, tuple[Worker, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        # The generation that serves, and the set of slots that it fills.
        self._generation = 1
        self._set = 0

    def place(self, slot: int, generation: int) -> int:
        """Say which slot, of all, a worker of *generation* fills as number *slot*."""
        if self._alone:
            return slot
        ours = self._set if generation == self._generation else 1 - self._set
        return slot + ours * self._workers

    def current(self, slot: int) -> int:
        """Say which slot, of all, is number *slot* of the generation that serves."""
        return self.place(slot, self._generation)

    def serves(self, generation: int) -> None:
        """Note that *generation* serves, in every slot of its set."""
        if generation != self._generation:
            self._generation, self._set = generation, 1 - self._set

    def keep(self, worker: Worker, seconds: float) -> None:
        """Let *worker* keep its sessions, for *seconds* at most."""
        if self._dispatcher.filling(worker.slot) is not worker:
            self._dispatcher.dismiss(worker, GOODBYE)  # another has its slot
            return
        self._elders[worker.id] = worker, self._loop.time() + seconds
        self._dispatcher.retire(worker)
        text = f"worker of slot {worker.slot} keeps {self._describe(worker)}"
        logs.master.info("%s, for %g s at most", text, seconds)
        self._tell(text)
        self._look()

    def forget(self, worker: Worker) -> None:
        """Note that *worker* is dead."""
        self._elders.pop(worker.id, None)

    def close(self) -> None:
        """Let all go, because the service stops."""
        if self._timer is not None:
            self._timer.cancel()
        while self._elders:
            _, (worker, _) = self._elders.popitem()
            self._dispatcher.dismiss(worker, messages.Drain(GOODBYE.timeout_ms))

    def status(self) -> list[dict[str, Any]]:
        """Say who is left, with how many sessions (None: nobody knows) and how long."""
        now = self._loop.time()
        return [
            {
                "pid": worker.process.pid,
                "slot": worker.slot,
                "generation": worker.generation,
                "sessions": self._count(worker),
                "seconds": round(max(until - now, 0), 1),
            }
            for worker, until in self._elders.values()
        ]

    def state(self) -> list[Any]:
        """Write down who is left, and which set of slots is filled."""
        until = [[number, until] for number, (_, until) in self._elders.items()]
        return [self._generation, self._set, until]

    def restore(self, state: list[Any], workers: Mapping[int, Worker]) -> None:
        """Go on where *state* was written down."""
        self._generation, self._set, elders = state
        self._elders = {number: (workers[number], until) for number, until in elders}
        if elders:
            self._timer = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        for worker, until in list(self._elders.values()):
            over = until <= now
            if not over and self._count(worker) != 0:
                continue
            del self._elders[worker.id]
            why = "the time to drain is over" if over else "its last session has ended"
            text = "worker of slot %d leaves with %s: %s"
            logs.master.info(text, worker.slot, self._describe(worker), why)
            self._dispatcher.dismiss(worker, GOODBYE)
        if self._elders:
            soonest = min(until for _, until in self._elders.values())
            self._timer = self._loop.call_at(min(soonest, now + LOOK), self._look)

    def _count(self, worker: Worker) -> int | None:
        if not self._countable:
            return None
        return self._keys.count(worker.slot, self._loop.time())

    def _describe(self, worker: Worker) -> str:
        count = self._count(worker)
        return "its sessions" if count is None else f"{count} sessions"
