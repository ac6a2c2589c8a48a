"""
Slots that an operator drains: nothing new comes there until they are undrained.

Known sessions stay, until they end; all else is given back. It is the slot that is
drained: a worker that replaces the one it has is relieved as well.

Invariant: one slot at least takes what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from maitred.config import Settings
from maitred.errors import CommandFailed, UsageError

from .deputies import Deputies
from .desk import Desk
from .errands import Came

LOOK: Final = 0.2
"Seconds between two looks at what is left."
PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."

Coming = asyncio.Task[dict[int, Came | None]]


class Drains:
    """Drains slots and undrains them, in all acceptors; needs a running loop."""

    def __init__(
        self, desk: Desk, deputies: Deputies, settings: Callable[[], Settings]
    ) -> None:
        """
        Start with no slot drained.

        Args:
            desk: The master's own.
            deputies: All acceptors.
            settings: Returns the settings that hold now.
        """
        self._desk = desk
        self._deputies = deputies
        self._settings = settings
        self._loop = asyncio.get_running_loop()

    def drain(self, slot: int) -> AsyncGenerator[dict[str, Any]]:
        """
        Drain *slot*; return the lines for the asker until it is empty.

        Raises:
            UsageError: It cannot be drained.
        """
        self._demand("drain", slot)
        slots = self._desk.placement.slots
        if not any(s.ready and not s.drained for s in slots if s.index != slot):
            raise UsageError(
                f"slot {slot} cannot be drained: no other slot takes what is new"
            )
        return self._watch(
            slot, self._deputies.ask("relieve", slot=slot, relieved=True)
        )

    def undrain(self, slot: int) -> dict[str, Any]:
        """
        Undrain *slot*: it takes what is new again.

        Raises:
            UsageError: There is no such slot.
        """
        self._demand("undrain", slot)
        was = self._desk.placement.slots[slot].drained
        self._deputies.ask("relieve", slot=slot, relieved=False)
        return {"slot": slot, "was_drained": was}

    def _demand(self, command: str, slot: int) -> None:
        """
        Check that *command* is possible for *slot*.

        Raises:
            UsageError: It is not.
        """
        settings = self._settings()
        if settings.drain == "sessions":
            raise UsageError(
                f"{command} with --drain sessions: each generation has slots of its"
                " own; reload instead"
            )
        if not settings.remembers:
            raise UsageError(
                f"{command} with --policy hash: a hash remembers no session that could"
                " stay; choose --policy least or round-robin"
            )
        if not 0 <= slot < settings.workers:
            last = settings.workers - 1
            raise UsageError(f"there is no slot {slot}; slots 0 to {last} exist")

    async def _watch(self, slot: int, asked: Coming) -> AsyncGenerator[dict[str, Any]]:
        """Yield lines until *slot* is empty, or the drain timeout is over."""
        began = said = self._loop.time()
        before = after = await asked
        shown: int | None = None
        while True:
            if not self._desk.placement.slots[slot].drained:
                raise CommandFailed(f"slot {slot} was undrained meanwhile")
            now = self._loop.time()
            after = await self._deputies.ask("left", slot=slot)
            kept = _sum(after, "held")
            if kept != shown:
                shown, said = kept, now
                yield {"progress": f"slot {slot}: {kept} connections are left"}
            elif now - said >= PULSE:
                said = now
                yield {}
            # Not while an acceptor does not answer, because it may have some.
            if (
                not (kept or None in after.values())
                or now - began >= self._settings().drain_timeout
            ):
                break
            await asyncio.sleep(LOOK)
        yield {
            "ok": True,
            "slot": slot,
            "moved": _moved(before, after),
            "kept": _sum(after, "held"),
            "sessions": _sum(after, "sessions"),
            "lost": max(_sum(after, "lost") - _sum(before, "lost"), 0),
            "seconds": round(self._loop.time() - began, 1),
        }


def _sum(came: Mapping[int, Came | None], name: str) -> int:
    numbers: list[int] = [each[name] for each in came.values() if each is not None]
    return sum(numbers)


def _moved(
    before: Mapping[int, Came | None], after: Mapping[int, Came | None]
) -> int | None:
    """Return how many connections the worker gave back; None: it was replaced."""
    pairs = [
        (first, last)
        for number, last in after.items()
        if last is not None and (first := before.get(number)) is not None
    ]
    if any(
        last["worker"] is None or last["worker"] != first["worker"]
        for first, last in pairs
    ):
        return None
    # No less than 0, because an acceptor that was replaced counts from 0 again.
    counts: list[int] = [last["returned"] - first["returned"] for first, last in pairs]
    return sum(max(count, 0) for count in counts)


async def interrupted() -> AsyncGenerator[dict[str, Any]]:
    """
    Answer an asker who waited when the master became another program.

    Raises:
        CommandFailed: Always.
    """
    raise CommandFailed(
        "the master was upgraded meanwhile, and goes on with what was asked; `maitred"
        " status` says how it stands"
    )
    yield {}  # what makes this a generator
