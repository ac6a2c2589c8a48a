"""
Connections whose key is known and which no worker has: where they wait, and how long.

    lobby         for any worker: none has room
    queues        for the worker of one slot, which has no room or is being replaced
    resting       a worker refused them a moment ago
    coming_back   a worker gave them back, and nobody has looked at them since

The room has deadlines and counts, no socket and no timer: the dispatcher, which owns
it, moves connections.

Invariants: a connection is in one of the four places. No more than ``most`` are in
lobby and queues, beside those that had a place already. Deadlines are checked from the
front of each place; a connection that came with an older one waits for those before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from maitred import logs
from maitred.upgrade.snapshot import Past, Table

from .connection import Connection, restored


class WaitingRoom:
    """The lobby, the queue of each slot, and who has to be placed anew."""

    def __init__(self, slots: int, *, most: int, wait_timeout: float) -> None:
        """
        Start empty.

        Args:
            slots: How many queues there are; ``grow`` adds more.
            most: How many connections may wait.
            wait_timeout: Seconds a connection waits.
        """
        self.lobby: deque[Connection] = deque()
        self.queues: list[deque[Connection]] = [deque() for _ in range(slots)]
        self.resting: set[Connection] = set()
        self.coming_back: deque[Connection] = deque()
        self._most = most
        self._wait_timeout = wait_timeout
        self._is_full = logs.Seldom()
        self._is_late = logs.Seldom()

    def __len__(self) -> int:
        queued = sum(map(len, self.queues))
        return len(self.lobby) + queued + len(self.resting) + len(self.coming_back)

    @property
    def is_rest_full(self) -> bool:
        """Return whether as many connections rest as may wait at all."""
        return len(self.resting) >= self._most

    def grow(self, slots: int) -> None:
        """Add queues, until there are as many as *slots*."""
        for _ in range(len(self.queues), slots):
            self.queues.append(deque())

    def add(self, connection: Connection, slot: int | None, now: float) -> bool:
        """
        Add *connection* to the queue of *slot*, or to the lobby if that is None.

        Returns:
            Whether there was room; if not, the connection is still the caller's.
        """
        waiting = self.lobby if slot is None else self.queues[slot]
        # One slot's queue may not take the room of all others.
        most = self._most if slot is None else (self._most + 1) // 2
        if len(waiting) >= most or len(self) - len(self.resting) >= self._most:
            # An idle connection has its descriptor already: those of a dead worker all
            # find room. So has one that a worker refused or left behind: it has had
            # its place, and keeps it.
            had_place = connection.idle or connection.starved or connection.attempts
            if not had_place:
                self._report_full()
                return False
        connection.deadline = connection.starved or now + self._wait_timeout
        waiting.append(connection)
        return True

    def release(self, slot: int) -> None:
        """Move all that waits for *slot* to those that come back, to be placed anew."""
        self.coming_back.extend(self.queues[slot])
        self.queues[slot].clear()

    def take(self, slot: int, key: bytes) -> list[Connection]:
        """Remove and return the connections that wait for *slot* because of *key*."""
        queue = self.queues[slot]
        taken = [each for each in queue if each.key == key]
        if taken:
            kept = [each for each in queue if each.key != key]
            queue.clear()
            queue.extend(kept)
        return taken

    def take_late(self, now: float) -> Iterator[Connection]:
        """Remove and yield the connections whose deadline is over."""
        for waiting in (self.lobby, *self.queues):
            while waiting and waiting[0].deadline <= now:
                self._report_late()
                yield waiting.popleft()

    def take_all(self) -> Iterator[Connection]:
        """Remove and yield all but those that rest, of which a timer knows."""
        for waiting in (self.lobby, *self.queues, self.coming_back):
            while waiting:
                yield waiting.popleft()

    def with_deadlines(self) -> Iterable[Iterable[Connection]]:
        """Return all places in which connections have a deadline."""
        return (self.lobby, *self.queues, self.resting)

    # What a successor is told

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor."""
        return {
            "lobby": [each.state(table) for each in self.lobby],
            "queues": [[e.state(table) for e in queue] for queue in self.queues],
            "resting": [each.state(table) for each in self.resting],
            "coming_back": [each.state(table) for each in self.coming_back],
        }

    def restore(
        self, state: dict[str, Any], past: Past, rest: Callable[[Connection], object]
    ) -> None:
        """Restore *state*; *rest* starts the timer of each connection that rests."""
        self.lobby.extend(restored(each, past) for each in state["lobby"])
        for queue, waiting in zip(self.queues, state["queues"], strict=True):
            queue.extend(restored(each, past) for each in waiting)
        for each in state["resting"]:
            connection = restored(each, past)
            self.resting.add(connection)
            rest(connection)
        self.coming_back.extend(restored(e, past) for e in state["coming_back"])

    # What the operator reads

    def _report_full(self) -> None:
        if self._is_full.is_due():
            text = (
                "connections are answered 503 at once: %d wait for a worker already, of"
                " %d that may by --max-waiting and the limit of open files"
            )
            logs.master.info(text, len(self), self._most)

    def _report_late(self) -> None:
        if self._is_late.is_due():
            text = "connections are answered 503: no worker took them within %g s"
            logs.master.info(text, self._wait_timeout)
