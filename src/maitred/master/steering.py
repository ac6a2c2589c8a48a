"""
What an operator looks up and changes while the service runs: keys and the log.

Invariant: a key is in the table of one acceptor. What an operator means by a name is
looked for in all; one that does not answer in time is named, and nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maitred import logs
from maitred.config import Settings
from maitred.control import read_key, spell
from maitred.errors import CommandFailed, UsageError
from maitred.routing.affinity import Affinity, named_slot

from .deputies import Deputies
from .desk import Desk
from .errands import MOST_LISTED, Came

Lines = AsyncGenerator[dict[str, Any]]


class Found(NamedTuple):
    """A key, and the acceptor in whose table it is, with what stands there."""

    key: bytes
    acceptor: int
    entry: Came


class Steering:
    """Looks up keys and moves them, in all acceptors."""

    def __init__(
        self,
        desk: Desk,
        deputies: Deputies,
        settings: Callable[[], Settings],
        *,
        affinities: Callable[[], Sequence[Affinity]],
        place: Callable[[int], int],
        now: Callable[[], float],
    ) -> None:
        """
        Start with nothing to do.

        Args:
            desk: The master's own.
            deputies: All acceptors.
            settings: Returns the settings that hold now.
            affinities: Returns those whose keys a name may mean.
            place: Returns the physical slot of logical slot N of what serves.
            now: The time in seconds.
        """
        self._desk = desk
        self._deputies = deputies
        self._settings = settings
        self._affinities = affinities
        self._place = place
        self._now = now

    async def keys(self, prefix: str = "") -> Lines:
        """
        Yield one line: the keys that begin with *prefix*, some of them, and counts.

        Raises:
            CommandFailed: A part of them is not known.
        """
        came = await self._deputies.ask("keys", prefix=read_key(prefix))
        parts = _all_of(came, "whose keys are not known")
        slots: Counter[int] = Counter()
        for part in parts:
            for index, count in part["by_slot"]:
                slots[self._number(index)] += count
        entries = [entry for part in parts for entry in part["keys"]]
        # The last used first: each lives so long after its last use.
        entries.sort(key=lambda entry: entry["ttl"] - entry["expires"])
        yield {
            "ok": True,
            "total": slots.total(),
            "by_slot": {str(slot): slots[slot] for slot in sorted(slots)},
            "keys": [self._entry(entry) for entry in entries[:MOST_LISTED]],
        }

    async def whereis(self, key: str) -> Lines:
        """
        Yield one line: where *key* lives.

        Raises:
            CommandFailed: No worker has it, or an acceptor did not answer.
        """
        said: dict[str, Any]
        match await self._find(key):
            case Found(_, _, entry):
                said = self._entry(entry) | self._worker(entry["slot"])
            case bytes(named):
                by = {"by": "named", "expires_in": None}
                slot = named_slot(named)
                assert slot is not None
                spelled = {"key": spell(named), "hash": logs.hash_of(named)}
                said = {**spelled, **by, **self._worker(slot)}
            case None:
                forgets = not self._desk.placement.remembers
                why = (
                    ": --policy hash remembers none that a client names"
                    if forgets
                    else ""
                )
                raise CommandFailed(f"no worker has a session {key!r}{why}")
        yield {"ok": True, **said}

    async def move(self, key: str, slot: int) -> Lines:
        """
        Move *key* to *slot*, and yield one line; the worker that had it is told.

        Raises:
            UsageError: There is no such slot, or the client carries the slot.
            CommandFailed: No worker has it, or an acceptor did not answer.
        """
        index = self._existing(slot)
        match await self._find(key):
            case Found(found, acceptor, entry):
                came = await self._deputies.ask_one(
                    acceptor, "own", key=found, slot=index, ttl=entry["ttl"]
                )
                _all_of({acceptor: came}, f"which knows {key!r}")
                yield {
                    "ok": True,
                    "key": spell(found),
                    "from": self._number(entry["slot"]),
                    "left_behind": entry["claimed"] and entry["slot"] != index,
                    **self._worker(index),
                }
            case bytes():
                raise UsageError(
                    f"{key!r} cannot be moved: its client carries the slot in a cookie"
                    " or a stamp of ours"
                )
            case None:
                raise CommandFailed(f"no worker has a session {key!r}")

    async def _find(self, text: str) -> Found | bytes | None:
        """
        Return the key that an operator means by *text*, if there is one.

        Returns:
            The key and where it stands; the bytes alone if the key names its slot; None
            if there is no such key.

        Raises:
            CommandFailed: An acceptor that may know it did not answer.
        """
        candidates = list(self._candidates(text))
        came = await self._deputies.ask("find", keys=candidates)
        rows = {
            entry["key"]: Found(entry["key"], number, entry)
            for number, each in came.items()
            for entry in ([each["found"]] if each and each["found"] else [])
        }
        for key in candidates:
            if key in rows:
                return rows[key]
            slot = named_slot(key)
            if slot is not None and slot < len(self._desk.placement.slots):
                return key
        _all_of(came, f"which may know {text!r}")
        return None

    def _existing(self, slot: int) -> int:
        """
        Return the physical slot of logical slot *slot*.

        Raises:
            UsageError: There is none.
        """
        if not 0 <= slot < (count := self._settings().workers):
            raise UsageError(f"there is no slot {slot}; slots 0 to {count - 1} exist")
        return self._place(slot)

    def _candidates(self, text: str) -> Iterator[bytes]:
        """Yield what an operator may mean by *text*: a key, or a session's name."""
        key = read_key(text)
        yield key
        for affinity in self._affinities():
            yield affinity.key_of(key)

    def _number(self, index: int) -> int:
        """Return the logical slot of physical slot *index*."""
        settings = self._settings()
        return index % settings.workers if settings.drain == "sessions" else index

    def _entry(self, entry: Came) -> dict[str, Any]:
        return {
            "key": spell(entry["key"]),
            "hash": logs.hash_of(entry["key"]),
            "slot": self._number(entry["slot"]),
            "by": "claimed" if entry["claimed"] else "remembered",
            "expires_in": round(entry["expires"] - self._now(), 1),
        }

    def _worker(self, index: int) -> dict[str, Any]:
        worker = self._desk.dispatcher.filling(index)
        return {
            "slot": self._number(index),
            "pid": None if worker is None else worker.process.pid,
            "generation": None if worker is None else worker.generation,
        }


def _all_of(came: Mapping[int, Came | None], why: str) -> list[Came]:
    """
    Return what *came* of an errand, in the order of the acceptors.

    Raises:
        CommandFailed: One did not answer in time; *why* says what it may know.
    """
    for number, each in came.items():
        if each is None:
            raise CommandFailed(f"acceptor {number}, {why}, does not answer; try again")
    return [each for each in came.values() if each is not None]
