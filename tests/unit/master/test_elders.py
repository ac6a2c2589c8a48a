"""Which slot a worker of which generation fills, and what becomes of the old one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from maitred.master.elders import Elders
from maitred.placement import KeyTable
from maitred.wire.messages import Drain

WORKERS = 2


class Door:
    """What elders ask of a dispatcher."""

    def __init__(self) -> None:
        """Begin without workers."""
        self.filled: dict[int, Any] = {}
        self.abandoned: list[int] = []
        self.dismissed: list[Drain] = []

    def filling(self, slot: int) -> Any:
        """Give who fills *slot*."""
        return self.filled.get(slot)

    def abandon(self, slot: int) -> None:
        """Note it."""
        self.abandoned.append(slot)

    def dismiss(self, _worker, farewell: Drain) -> None:
        """Note it."""
        self.dismissed.append(farewell)


@pytest.fixture
def door() -> Door:
    """Make a dispatcher without workers."""
    return Door()


@pytest.fixture
def elders(door: Door) -> Elders:
    """Make the elders of a service with two workers."""
    return elders_of(door, grace=5.0)


def elders_of(door: Door, *, grace: float) -> Elders:
    """Make them, with a grace period of *grace* seconds."""

    async def make() -> Elders:
        return Elders(
            door,  # type: ignore[arg-type]
            KeyTable(2 * WORKERS, limit=10, ttl=60),
            workers=WORKERS,
            alone=False,
            countable=True,
            grace=grace,
            tell=lambda _: None,
        )

    return asyncio.run(make())


def promote(elders: Elders, door: Door, slot: int, generation: int) -> int:
    """Start and promote a worker for *slot*; say which slot, of all, it fills."""
    place = elders.place(slot, generation)
    door.filled[place] = worker = SimpleNamespace(slot=place, generation=generation)
    elders.succeeded(worker)  # type: ignore[arg-type]
    return place


def test_each_generation_fills_the_other_set(elders, door):
    """The one before it keeps its slots until it has left."""
    assert [promote(elders, door, n, 1) for n in range(WORKERS)] == [0, 1]
    assert [promote(elders, door, n, 2) for n in range(WORKERS)] == [2, 3]
    elders.abandon_empty()
    assert [elders.current(n) for n in range(WORKERS)] == [2, 3]
    door.filled.pop(0), door.filled.pop(1)
    assert [promote(elders, door, n, 3) for n in range(WORKERS)] == [0, 1]
    assert door.abandoned == []


def test_old_slot_that_nobody_fills_is_abandoned(elders, door):
    """Its worker died, or was never ready; that of the other slot keeps its own."""
    promote(elders, door, 0, 1), promote(elders, door, 1, 1)
    del door.filled[0]
    promote(elders, door, 0, 2), promote(elders, door, 1, 2)
    assert door.abandoned == []  # the other is yet to be told that it is an elder
    elders.abandon_empty()
    elders.abandon_empty()
    assert door.abandoned == [0]


def test_worker_that_dies_is_succeeded_in_its_own_slot(elders, door):
    """By one of its generation, before, during and after a reload."""
    promote(elders, door, 0, 1), promote(elders, door, 1, 1)
    del door.filled[0]
    assert promote(elders, door, 0, 1) == 0
    assert promote(elders, door, 1, 2) == 3
    assert promote(elders, door, 0, 1) == 0
    assert promote(elders, door, 1, 2) == 3
    elders.abandon_empty()
    assert door.abandoned == []


def test_reload_that_failed_half_way_leaves_each_slot_where_it_is(elders, door):
    """The next one takes, slot by slot, the set that is not filled there."""
    promote(elders, door, 0, 1), promote(elders, door, 1, 1)
    promote(elders, door, 0, 2)  # slot 1 failed
    del door.filled[0]  # the old one has left
    assert [elders.current(n) for n in range(WORKERS)] == [2, 1]
    assert [promote(elders, door, n, 3) for n in range(WORKERS)] == [0, 3]
    assert [elders.current(n) for n in range(WORKERS)] == [0, 3]


def test_successor_goes_on_with_the_sets(elders, door):
    """It is told of each slot; an older version told of one set for all."""
    promote(elders, door, 0, 1), promote(elders, door, 1, 1)
    promote(elders, door, 1, 2)
    state, sets = elders.state(), elders.sets()
    promote(elders, door, 0, 2)
    elders.restore(state, sets, {})
    assert [elders.current(n) for n in range(WORKERS)] == [0, 3]
    elders.restore([5, 1, []], (), {})
    assert [elders.current(n) for n in range(WORKERS)] == [2, 3]
    assert elders.place(0, 6) == 0


@pytest.mark.parametrize(("grace", "told"), [(5.0, 2000), (2.0, 800), (0.0, 0)])
def test_elder_is_told_no_more_time_than_its_grace_period_has(grace, told):
    """The master would kill it while it closes its WebSockets."""
    door = Door()
    elders = elders_of(door, grace=grace)
    elders.keep(SimpleNamespace(id=1, slot=0), 60)  # type: ignore[arg-type]
    assert door.dismissed == [Drain(told, give_back=1)]
