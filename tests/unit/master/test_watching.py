"""The watch: what is noted and done about each heartbeat, look after look."""

import asyncio
from types import SimpleNamespace

import pytest

from maitred import logs
from maitred.master.watching import Watch
from maitred.placement import Slot


class World:
    """Two slots with a worker each, and a watch that looks when it is told to."""

    def __init__(self, hang_timeout):
        self.workers = {
            n: SimpleNamespace(id=n, slot=n - 1, board=SimpleNamespace(beat=1))
            for n in (1, 2)
        }
        self.slots = [Slot(0, 9, ready=True), Slot(1, 9, ready=True)]
        self.filling = [self.workers[1], self.workers[2]]
        self.settled, self.hung = 0, []
        self.watch = Watch(
            self.workers,
            self.slots,
            hang_timeout=hang_timeout,
            filling=lambda slot: self.filling[slot],
            settle=self.settle,
            on_hung=lambda worker, silent: self.hung.append((worker.id, silent)),
        )
        # One look in an hour of the event loop; time is told below.
        self.watch.close()
        self.watch._loop = self
        self.now = 0.0

    def settle(self):
        """Count."""
        self.settled += 1

    def time(self):
        """Say what time it is."""
        return self.now

    def call_later(self, _delay, _look):
        """Forget it: looks are made below."""

    def look(self, times=1, *, beating=(2,)):
        """Let *times* half seconds pass in which the workers *beating* beat."""
        for _ in range(times):
            self.now += 0.5
            for number in beating:
                self.workers[number].board.beat += 1
            self.watch._look()


@pytest.fixture
def in_world(monkeypatch):
    """Run a function in a world with a running loop; give what was logged."""
    said = []
    monkeypatch.setattr(logs.master, "info", lambda text, *of: said.append(text % of))

    def run(story, hang_timeout=3.0):
        async def main():
            story(World(hang_timeout))

        asyncio.run(main())
        return said

    return run


def test_late_worker_loses_its_room_and_gets_it_back(in_world):
    """Both are said once, and what waited moves at once."""

    def story(world):
        world.look(2)
        assert not world.slots[0].late
        world.look(1)
        assert [slot.late for slot in world.slots] == [True, False]
        world.look(2)
        assert world.settled == 0
        world.look(beating=(1, 2))
        assert not world.slots[0].late
        assert world.settled == 1

    late, again = in_world(story)
    assert late.startswith("worker 1 of slot 0 is late: its event loop has been silent")
    assert again == "heartbeat of worker 1 of slot 0 resumed after 2.0 s"


def test_silent_worker_hangs_after_its_time(in_world):
    """It is told again at every look; whoever hears of it knows what was done."""

    def story(world):
        world.look(6)
        assert world.hung == []
        world.look(2)
        assert world.hung == [(1, 3.0), (1, 3.5)]

    in_world(story)


def test_silence_is_never_a_hang_when_that_is_off(in_world):
    """The worker is late, and nothing else."""

    def story(world):
        world.look(1000)
        assert world.hung == []
        assert world.slots[0].late

    in_world(story, hang_timeout=0.0)


def test_successor_of_a_late_worker_is_not_late(in_world):
    """It is judged by its own heartbeat; the dead one is forgotten."""

    def story(world):
        world.look(4)
        dead = world.workers.pop(1)
        world.filling[0] = None
        world.look()
        assert not world.slots[0].late
        dead.id = 3
        world.workers[3] = world.filling[0] = dead
        world.look()
        assert not world.slots[0].late
        assert set(world.watch._pulses) == {2, 3}

    in_world(story)


def test_late_worker_that_fills_no_slot_is_told_of_and_no_slot_is_late(in_world):
    """One that drains, for example."""

    def story(world):
        world.filling[0] = None
        world.look(4)
        assert not any(slot.late for slot in world.slots)

    assert len(in_world(story)) == 1
