"""
What an operator's command is in one acceptor.

The master does each errand itself and has every deputy do it too, in the order of what
else it orders; what comes of it is plain data, which the master puts together.

Invariant: an errand does not fail. Whether it makes sense was decided before.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from maitred import logs
from maitred.placement import Owned

from .desk import Desk

Came = dict[str, Any]
"What came of an errand: plain data."
MOST_LISTED: Final = 1000
PIECE: Final = 2000
"Keys that are looked at before others have their turn: about a millisecond."


class Errands:
    """Does the commands of an operator, as far as they concern one acceptor."""

    def __init__(self, desk: Desk) -> None:
        """Start with the acceptor of *desk*; needs a running loop."""
        self._desk = desk
        self._loop = asyncio.get_running_loop()

    def do(
        self, what: str, arguments: Mapping[str, Any]
    ) -> Came | Coroutine[Any, Any, Came]:
        """Run errand *what*; one that takes its time returns a coroutine."""
        came: Came | Coroutine[Any, Any, Came] = ERRANDS[what](self, **arguments)
        return came

    def report(self) -> Came:
        """Return counts and sizes of this acceptor."""
        return self._desk.report() | {"dropped_log_lines": logs.dropped()}

    async def keys(self, prefix: bytes) -> Came:
        """
        Return the keys that begin with *prefix*, the last used first, and counts.

        Clients have their turn between two pieces of the table.
        """
        for _ in iter(self._desk.keys.unpack, False):  # soon after an upgrade
            await asyncio.sleep(0)
        listed: list[Came] = []
        slots: Counter[int] = Counter()
        alive = self._desk.keys.alive(self._loop.time())
        for count, (key, owned) in enumerate(alive, start=1):
            if not count % PIECE:
                await asyncio.sleep(0)
            if key.startswith(prefix):
                slots[owned.slot] += 1
                if len(listed) < MOST_LISTED:
                    listed.append(_entry(key, owned))
        return {"by_slot": [list(each) for each in slots.items()], "keys": listed}

    def find(self, keys: list[bytes]) -> Came:
        """Return the entry of the first of *keys* that is in the table, or none."""
        now = self._loop.time()
        for key in keys:
            owned = self._desk.keys.find(key, now)
            if owned is not None:
                return {"found": _entry(key, owned)}
        return {"found": None}

    def own(self, key: bytes, slot: int, ttl: float) -> Came:
        """Make *slot* the owner of *key*; the worker that had it is told."""
        self._desk.keys.own(key, slot, self._loop.time(), ttl)
        self._desk.dispatcher.settle()
        return {}

    def relieve(self, slot: int, *, relieved: bool) -> Came:
        """Drain or undrain *slot*; return its state before."""
        before = self.left(slot)
        before["drained"] = self._desk.placement.slots[slot].drained
        self._desk.dispatcher.relieve(slot, relieved=relieved)
        return before

    def left(self, slot: int) -> Came:
        """Return what the worker of *slot* has, and what it has given back."""
        worker = self._desk.dispatcher.filling(slot)
        held = 0 if worker is None else len(worker.granted) + worker.unanswered
        return {
            "worker": None if worker is None else worker.id,
            "returned": 0 if worker is None else worker.returned,
            "held": held,
            "sessions": self._desk.keys.count(slot, self._loop.time()),
            "lost": self._desk.counters.lost,
        }

    def resize(self, workers: int) -> Came:
        """Change the number of slots; return how many keys move or end by it."""
        moved, ended = self._desk.keys.counts(workers)
        self._desk.dispatcher.resize(workers)
        return {"moved": moved, "ended": ended}

    def log_level(self, level: str) -> Came:
        """Set the log level."""
        logging.getLogger("maitred").setLevel(level.upper())
        return {}


def _entry(key: bytes, owned: Owned) -> Came:
    return {
        "key": key,
        "slot": owned.slot,
        "ttl": owned.ttl,
        "expires": owned.expires,
        "claimed": owned.claimed,
    }


ERRANDS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            *(Errands.report, Errands.keys, Errands.find, Errands.own),
            *(Errands.relieve, Errands.left, Errands.resize, Errands.log_level),
        )
    }
)
"What can be asked of an acceptor, by name."
