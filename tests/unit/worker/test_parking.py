"""Parking: for a moment, for a few, and for each until somebody takes it."""

import asyncio

import pytest

from maitred.worker import parking
from maitred.worker.parking import Parking


class Parked:
    """Notes whether it was abandoned."""

    abandoned = False

    def abandon(self):
        """Note it."""
        self.abandoned = True


async def until(condition):
    """Let the loop turn until *condition* holds."""
    while not condition():
        await asyncio.sleep(0.001)


def run(coroutine):
    """Run *coroutine*, not for ever."""
    asyncio.run(asyncio.wait_for(coroutine, 30))


def test_what_is_taken_is_gone():
    """It belongs to who took it, and is not abandoned."""

    async def test():
        lot, parked = Parking(), Parked()
        lot.put(7, parked)
        assert lot.take(8) is None
        assert lot.take(7) is parked
        assert lot.take(7) is None
        lot.clear()
        assert not parked.abandoned

    run(test())


def test_longest_parked_makes_room():
    """There are never more than may be."""

    async def test():
        lot = Parking(most=2)
        cars = [Parked() for _ in range(4)]
        for number, car in enumerate(cars):
            lot.put(number, car)
            assert len(lot) <= 2
        assert [car.abandoned for car in cars] == [True, True, False, False]
        lot.clear()
        assert all(car.abandoned for car in cars)
        assert len(lot) == 0

    run(test())


@pytest.mark.parametrize("count", [1, 3])
def test_nobody_is_parked_for_long(monkeypatch, count):
    """Each is abandoned when its own time is over."""
    monkeypatch.setattr(parking, "TIME", 0.02)

    async def test():
        lot = Parking()
        cars = [Parked() for _ in range(count)]
        for number, car in enumerate(cars):
            lot.put(number, car)
            await asyncio.sleep(0.005)
        for car in cars:
            await until(lambda car=car: car.abandoned)
        later = Parked()
        lot.put(1, later)
        assert not later.abandoned
        await until(lambda: later.abandoned)

    run(test())
