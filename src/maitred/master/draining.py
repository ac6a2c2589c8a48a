"""
Slots that an operator drains: nothing new comes there until they are undrained.

Known sessions stay, until they end; all else is given back. It is the slot that is
drained: a worker that replaces the one it has is relieved as well.

Invariant: one slot at least takes what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from maitred.config import Settings
from maitred.errors import CommandFailed, UsageError

from .desk import Desk

LOOK: Final = 0.2
"Seconds between two looks at what is left."
PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."


class Drains:
    """Drains slots and undrains them; needs a running loop."""

    def __init__(self, desk: Desk, settings: Callable[[], Settings]) -> None:
        """
        Begin with none.

        Args:
            desk: Whose slots these are.
            settings: Gives what the operator wants.
        """
        self._desk = desk
        self._settings = settings
        self._loop = asyncio.get_running_loop()

    def drain(self, slot: int) -> AsyncGenerator[dict[str, Any]]:
        """
        Give *slot* nothing new; give the lines for who waits until it is empty.

        Raises:
            UsageError: That cannot be.
        """
        self._demand("drain", slot)
        slots = self._desk.placement.slots
        if not any(s.ready and not s.drained for s in slots if s.index != slot):
            raise UsageError(
                f"slot {slot} cannot be drained: no other slot takes what is new"
            )
        before = self._desk.counters.lost
        worker = self._desk.dispatcher.filling(slot)
        returned = 0 if worker is None else worker.returned
        self._desk.dispatcher.relieve(slot, relieved=True)
        return self._watch(slot, before, returned)

    def undrain(self, slot: int) -> dict[str, Any]:
        """
        Give *slot* again what is new.

        Raises:
            UsageError: There is no such slot.
        """
        self._demand("undrain", slot)
        was = self._desk.placement.slots[slot].drained
        self._desk.dispatcher.relieve(slot, relieved=False)
        return {"slot": slot, "was_drained": was}

    def _demand(self, command: str, slot: int) -> None:
        """Refuse what cannot be right."""
        settings = self._settings()
        if settings.acceptors > 1:
            raise UsageError(
                f"{command} with --acceptors {settings.acceptors}: the other acceptors"
                " cannot be told yet"
            )
        if settings.drain == "sessions":
            raise UsageError(
                f"{command} with --drain sessions: each generation has slots of its"
                " own; reload instead"
            )
        if settings.policy == "hash":
            raise UsageError(
                f"{command} with --policy hash: a hash remembers no session that could"
                " stay; choose --policy least or round-robin"
            )
        if not 0 <= slot < settings.workers:
            last = settings.workers - 1
            raise UsageError(f"there is no slot {slot}; slots 0 to {last} exist")

    async def _watch(
        self, slot: int, lost: int, returned: int
    ) -> AsyncGenerator[dict[str, Any]]:
        """Give lines until *slot* is empty, or the drain timeout is over."""
        first = self._desk.dispatcher.filling(slot)
        began = said = self._loop.time()
        shown = -1
        while True:
            if not self._desk.placement.slots[slot].drained:
                raise CommandFailed(f"slot {slot} was undrained meanwhile")
            now = self._loop.time()
            kept = self._held(slot)
            if kept != shown:
                shown, said = kept, now
                yield {"progress": f"slot {slot}: {kept} connections are left"}
            elif now - said >= PULSE:
                said = now
                yield {}
            if not kept or now - began >= self._settings().drain_timeout:
                break
            await asyncio.sleep(LOOK)
        worker = self._desk.dispatcher.filling(slot)
        same = worker is not None and worker is first
        yield {
            "ok": True,
            "slot": slot,
            "moved": worker.returned - returned if same and worker else None,
            "kept": self._held(slot),
            "sessions": self._desk.keys.count(slot, self._loop.time()),
            "lost": self._desk.counters.lost - lost,
            "seconds": round(self._loop.time() - began, 1),
        }

    def _held(self, slot: int) -> int:
        """Say how many connections the worker of *slot* has, or is to get."""
        worker = self._desk.dispatcher.filling(slot)
        return 0 if worker is None else len(worker.granted) + worker.unanswered


async def interrupted() -> AsyncGenerator[dict[str, Any]]:
    """
    Tell somebody who waited when the master became another program.

    Raises:
        CommandFailed: Always.
    """
    raise CommandFailed(
        "the master was upgraded meanwhile, and goes on with what was asked; `maitred"
        " status` says how it stands"
    )
    yield {}  # what makes this a generator
