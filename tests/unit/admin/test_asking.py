"""The master is asked seldom, however many ask."""

import asyncio

import pytest

from maitred.admin.asking import FRESH, MOST_WAITING, Asker, Busy
from maitred.errors import NoMaster


class Master:
    """Counts questions; the clock stands until it is moved."""

    def __init__(self):
        """Begin at the time 100."""
        self.asked, self.now, self.fails = [], 100.0, False

    def question(self, path, command, **arguments):
        """Answer one."""
        self.asked.append(command)
        if self.fails:
            raise NoMaster(path, "gone")
        return {"n": len(self.asked), **arguments}

    def asker(self):
        """Make one who asks it."""
        return Asker("/c.sock", question=self.question, clock=lambda: self.now)


def test_many_share_one_answer():
    """Whoever asks within FRESH gets the same answer; later there is a new one."""
    master = Master()

    async def run():
        asker = master.asker()
        first = await asyncio.gather(*[asker.snapshot() for _ in range(50)])
        assert {answer["n"] for answer in first} == {1}
        master.now += FRESH * 0.9
        assert (await asker.snapshot())["n"] == 1
        master.now += FRESH
        assert (await asker.snapshot())["n"] == 2

    asyncio.run(run())
    assert master.asked == ["status"] * 2


def test_failure_is_shared_too():
    """A master that does not answer is not asked more often for that."""
    master = Master()
    master.fails = True

    async def run():
        asker = master.asker()
        for _ in range(5):
            with pytest.raises(NoMaster):
                await asker.snapshot()
        master.now += FRESH
        master.fails = False
        assert (await asker.snapshot())["n"] == 2

    asyncio.run(run())


def test_too_many_questions_for_keys_are_refused():
    """Each waits for its turn, and who would wait too long is told so."""
    master = Master()

    async def run():
        asker = master.asker()
        asked = [asyncio.create_task(asker.whereis("k")) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await asker.whereis("k")
        assert (await asked[0])["key"] == "k"
        for task in asked[1:]:
            task.cancel()

    asyncio.run(run())
