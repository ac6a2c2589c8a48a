"""
What an operator looks up and changes while the service runs: keys and the log.

Invariant: nothing here reads or sends. What is changed takes effect at the dispatcher's
next ``settle``, which whoever changes it brings about.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, Final

from maitred import logs
from maitred.config import Settings
from maitred.control import read_key, spell
from maitred.errors import CommandFailed, UsageError
from maitred.placement.keys import Owned
from maitred.routing.affinity import Affinity, named_slot

from .desk import Desk

MOST_LISTED: Final = 1000
PIECE: Final = 2000
"Keys that are looked at before others have their turn: about a millisecond."


class Steering:
    """Looks up keys and moves them; needs a running loop."""

    def __init__(
        self,
        desk: Desk,
        settings: Callable[[], Settings],
        *,
        affinities: Callable[[], Sequence[Affinity]],
        place: Callable[[int], int],
    ) -> None:
        """
        Begin with nothing to do.

        Args:
            desk: Whose keys these are.
            settings: Gives what the operator wants.
            affinities: Gives those that are tried.
            place: Says which slot, of all, is number N of the generation that serves.
        """
        self._desk = desk
        self._settings = settings
        self._affinities = affinities
        self._place = place
        self._loop = asyncio.get_running_loop()

    async def keys(self, prefix: str = "") -> AsyncGenerator[dict[str, Any]]:
        """
        List the keys that begin with *prefix*, some of them; count all, in one line.

        Clients have their turn between two pieces of the table.

        Raises:
            UsageError: That is impossible.
        """
        self._demand_one_table("keys")
        now, start = self._loop.time(), read_key(prefix)
        listed: list[dict[str, Any]] = []
        slots: Counter[int] = Counter()
        for count, (key, owned) in enumerate(self._desk.keys.alive(now), start=1):
            if not count % PIECE:
                await asyncio.sleep(0)
            if key.startswith(start):
                slots[self._number(owned.slot)] += 1
                if len(listed) < MOST_LISTED:
                    listed.append(self._entry(key, owned, now))
        yield {
            "ok": True,
            "total": slots.total(),
            "by_slot": {str(slot): slots[slot] for slot in sorted(slots)},
            "keys": listed,
        }

    def whereis(self, key: str) -> dict[str, Any]:
        """
        Say where *key* lives.

        Raises:
            CommandFailed: Nowhere.
        """
        self._demand_one_table("whereis")
        now = self._loop.time()
        for each in self._candidates(key):
            owned = self._desk.keys.find(each, now)
            slot = named_slot(each)
            if owned is not None:
                return self._entry(each, owned, now) | self._worker(owned.slot)
            if slot is not None and slot < len(self._desk.placement.slots):
                by = {"by": "named", "expires_in": None}
                said = {"key": spell(each), "hash": logs.hash_of(each)}
                return {**said, **by, **self._worker(slot)}
        forgets = not self._desk.placement.remembers
        why = ": --policy hash remembers none that a client names" if forgets else ""
        raise CommandFailed(f"no worker has a session {key!r}{why}")

    def move(self, key: str, slot: int) -> dict[str, Any]:
        """
        Give *key* to *slot*; its worker so far is told at the next ``settle``.

        Raises:
            UsageError: That is impossible.
            CommandFailed: Nobody has it.
        """
        self._demand_one_table("move")
        index = self._existing(slot)
        now, table = self._loop.time(), self._desk.keys
        for each in self._candidates(key):
            if named_slot(each) is not None:
                raise UsageError(
                    f"{key!r} cannot be moved: its client carries the slot in a cookie"
                    " or a stamp of ours"
                )
            owned = table.find(each, now)
            if owned is not None:
                before = self._number(owned.slot)
                table.own(each, index, now, owned.ttl)
                return {
                    "key": spell(each),
                    "from": before,
                    "left_behind": owned.claimed and owned.slot != index,
                    **self._worker(index),
                }
        raise CommandFailed(f"no worker has a session {key!r}")

    def log_level(self, level: str) -> None:
        """Log as much as *level* says from now on."""
        if (acceptors := self._settings().acceptors) > 1:
            raise UsageError(
                f"log-level with --acceptors {acceptors}: the other acceptors cannot be"
                " told; restart the service with --log-level instead"
            )
        logging.getLogger("maitred").setLevel(level.upper())

    def _demand_one_table(self, command: str) -> None:
        if (acceptors := self._settings().acceptors) > 1:
            raise UsageError(
                f"{command} with --acceptors {acceptors}: each acceptor has keys of its"
                " own, and they cannot be asked for them yet"
            )

    def _existing(self, slot: int) -> int:
        """
        Say which slot, of all, is meant by *slot*.

        Raises:
            UsageError: There is none.
        """
        if not 0 <= slot < (count := self._settings().workers):
            raise UsageError(f"there is no slot {slot}; slots 0 to {count - 1} exist")
        return self._place(slot)

    def _candidates(self, text: str) -> Iterator[bytes]:
        """Give what an operator may mean by *text*: a key, or a session's name."""
        key = read_key(text)
        yield key
        for affinity in self._affinities():
            yield affinity.key_of(key)

    def _number(self, index: int) -> int:
        """Say what the slot with this *index*, of all, is called."""
        settings = self._settings()
        return index % settings.workers if settings.drain == "sessions" else index

    def _entry(self, key: bytes, owned: Owned, now: float) -> dict[str, Any]:
        return {
            "key": spell(key),
            "hash": logs.hash_of(key),
            "slot": self._number(owned.slot),
            "by": "claimed" if owned.claimed else "remembered",
            "expires_in": round(owned.expires - now, 1),
        }

    def _worker(self, index: int) -> dict[str, Any]:
        worker = self._desk.dispatcher.filling(index)
        return {
            "slot": self._number(index),
            "pid": None if worker is None else worker.process.pid,
            "generation": None if worker is None else worker.generation,
        }
