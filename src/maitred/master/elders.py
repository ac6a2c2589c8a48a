"""
Elders: workers of the old generation that keep their sessions (--drain sessions).

Two generations that both have sessions cannot fill the same slots: a session belongs
to a slot. So there are two sets of slots, and a worker that succeeds one of another
generation fills the twin of its slot, in the other set. An elder's slot gets nothing
new.

Invariants: an elder leaves when its last session has ended, at its deadline, or when
the service stops, whichever comes first. A slot of the old set that nobody fills keeps
nobody waiting: its sessions begin anew in the new set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from maitred import logs
from maitred.grace import last_words
from maitred.placement import KeyTable
from maitred.wire import messages

from .dispatcher import Dispatcher
from .workers import Worker

SWEPT: Final = 10_000
"Keys that are swept at each look, so that those that have expired are not counted."
LOOK: Final = 1.0
"Seconds between two looks at how many sessions are left."


class Elders:
    """
    Keeps elders for as long as they are needed.

    An operator knows *logical* slots, as many as workers. Each stands for two
    *physical* slots, one in either set, of which one serves; without elders for one, of
    the same number.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        keys: KeyTable,
        *,
        workers: int,
        alone: bool,
        countable: bool,
        grace: float,
        tell: Callable[[str], None],
    ) -> None:
        """
        Start without elders; needs a running loop.

        Args:
            dispatcher: Retires and dismisses them.
            keys: The table in which their sessions are counted.
            workers: Slots in a set.
            alone: Whether there is one set of slots: no worker becomes an elder.
            countable: Whether all sessions stand in *keys*; those that a cookie of ours
                names do not.
            grace: Seconds from the end of the time to drain until an elder is killed.
            tell: Called with a line for those who wait for a reload.
        """
        self._dispatcher = dispatcher
        self._keys = keys
        self._workers = workers
        self._alone = alone
        self._countable = countable
        self._tell = tell
        # The farewell of an elder: it gives connections back and closes WebSockets.
        self._goodbye = messages.Drain(int(last_words(grace) * 1000), give_back=1)
        self._loop = asyncio.get_running_loop()
        self._elders: dict[int, tuple[Worker, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        # Of each slot, the generation that serves there, and the set that it fills.
        # Slot by slot, because a reload of a few at a time may fail half way.
        self._serving = [(1, 0)] * (1 if alone else workers)
        # Physical slots whose successors were promoted a moment ago.
        self._succeeded: list[int] = []

    def place(self, slot: int, generation: int) -> int:
        """Return the physical slot that a worker of *generation* fills as *slot*."""
        if self._alone:
            return slot
        serving, ours = self._serving[slot]
        return slot + (ours if generation == serving else 1 - ours) * self._workers

    def current(self, slot: int) -> int:
        """Return the physical slot of logical slot *slot* for what serves there."""
        if self._alone:
            return slot
        return self.place(slot, self._serving[slot][0])

    def succeeded(self, worker: Worker) -> None:
        """Record that *worker*, which was just promoted, serves in its slot."""
        if self._alone:
            return
        number = worker.slot % self._workers
        generation, before = self._serving[number]
        if worker.generation == generation:
            return
        self._serving[number] = worker.generation, 1 - before
        self._succeeded.append(number + before * self._workers)

    def abandon_empty(self) -> None:
        """
        Abandon the slots whose successors were promoted and that nobody fills.

        Called when all others have been told that they are elders, so that no session
        of such a slot begins anew in one of those.
        """
        while self._succeeded:
            slot = self._succeeded.pop()
            # Because nothing will be started there any more: a worker that died during
            # the reload, or was not ready, has no successor of its own generation.
            if self._dispatcher.filling(slot) is None:
                self._dispatcher.abandon(slot)

    def keep(self, worker: Worker, seconds: float) -> None:
        """Keep *worker* with its sessions, for *seconds* at most; or dismiss it."""
        if self._dispatcher.filling(worker.slot) is not worker:
            self._dispatcher.dismiss(worker, self._goodbye)  # another has its slot
            return
        self._elders[worker.id] = worker, self._loop.time() + seconds
        self._dispatcher.retire(worker)
        text = f"worker of slot {worker.slot} keeps {self._describe(worker)}"
        logs.master.info("%s, for %g s at most", text, seconds)
        self._tell(text)
        self._look()

    def forget(self, worker: Worker) -> None:
        """Remove *worker*, which is dead."""
        self._elders.pop(worker.id, None)

    def close(self) -> None:
        """Dismiss all elders, because the service stops."""
        if self._timer is not None:
            self._timer.cancel()
        while self._elders:
            _, (worker, _) = self._elders.popitem()
            self._dispatcher.dismiss(worker, messages.Drain(self._goodbye.timeout_ms))

    def status(self) -> list[dict[str, Any]]:
        """Return who is left: how many sessions (None: unknown), and how long."""
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
        """Return who is left, for a successor."""
        until = [[number, until] for number, (_, until) in self._elders.items()]
        # The first two are for older versions, which know one set for all slots.
        return [*self._serving[0], until]

    def sets(self) -> list[list[int]]:
        """Return the generation and the set of each slot, for a successor."""
        return [list(each) for each in self._serving]

    def restore(
        self,
        state: list[Any],
        sets: Sequence[Sequence[int]],
        workers: Mapping[int, Worker],
    ) -> None:
        """Restore *state*; older versions wrote no *sets*."""
        generation, filled, elders = state
        sets = sets or [(generation, filled)] * len(self._serving)
        self._serving = [(generation, filled) for generation, filled in sets]
        self._elders = {number: (workers[number], until) for number, until in elders}
        if elders:
            self._timer = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        self._keys.sweep(now, SWEPT)
        for worker, until in list(self._elders.values()):
            over = until <= now
            if not over and self._count(worker) != 0:
                continue
            del self._elders[worker.id]
            why = "the time to drain is over" if over else "its last session has ended"
            text = "worker of slot %d leaves with %s: %s"
            logs.master.info(text, worker.slot, self._describe(worker), why)
            self._dispatcher.dismiss(worker, self._goodbye)
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
