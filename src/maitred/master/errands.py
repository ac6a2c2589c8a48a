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
    """Does what operators ask, as far as it is about one acceptor."""

    def __init__(self, desk: Desk) -> None:
        """Do it at *desk*; needs a running loop."""
        self._desk = desk
        self._loop = asyncio.get_running_loop()

    def do(
        self, what: str, arguments: Mapping[str, Any]
    ) -> Came | Coroutine[Any, Any, Came]:
        """Do errand *what*; one that takes its time is to be awaited."""
        came: Came | Coroutine[Any, Any, Came] = ERRANDS[what](self, **arguments)
        return came

    def report(self) -> Came:
        """Say how it stands here."""
        return self._desk.report() | {"dropped_log_lines": logs.dropped()}

    async def keys(self, prefix: bytes) -> Came:
        """
        Give the keys that begin with *prefix*, the last used first; count all.

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
        """Give the entry of the first of *keys* that is in the table, or none."""
        now = self._loop.time()
        for key in keys:
            owned = self._desk.keys.find(key, now)
            if owned is not None:
                return {"found": _entry(key, owned)}
        return {"found": None}

    def own(self, key: bytes, slot: int, ttl: float) -> Came:
        """Give *key* to *slot*; its worker so far is told."""
        self._desk.keys.own(key, slot, self._loop.time(), ttl)
        self._desk.dispatcher.settle()
        return {}

    def relieve(self, slot: int, *, relieved: bool) -> Came:
        """Give *slot* nothing new, or everything again; say how it stood before."""
        before = self.left(slot)
        before["drained"] = self._desk.placement.slots[slot].drained
        self._desk.dispatcher.relieve(slot, relieved=relieved)
        return before

    def left(self, slot: int) -> Came:
        """Say what the worker of *slot* has, and what it has given back."""
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
        """Have *workers* slots; say how many keys are placed anew, or gone."""
        moved, ended = self._desk.keys.counts(workers)
        self._desk.dispatcher.resize(workers)
        return {"moved": moved, "ended": ended}

    def log_level(self, level: str) -> Came:
        """Log as much as *level* says from now on."""
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
