"""The wear of workers: who is told to be worn, look after look."""

import asyncio
from random import Random
from types import SimpleNamespace

import pytest

from maitred.master.wear import Wear


@pytest.fixture
def looks():
    """Make workers with so many requests each, and a wear; look; give who is worn."""

    def run(requests, *, most, jitter=0, times=1):
        workers = {
            n: SimpleNamespace(id=n, account=SimpleNamespace(requests=count))
            for n, count in enumerate(requests)
        }
        worn = []

        async def main():
            wear = Wear(
                workers,
                most=most,
                jitter=jitter,
                rng=Random(7),
                on_worn=lambda worker: worn.append(worker.id),
            )
            for _ in range(times):
                wear._look()
            wear.close()

        asyncio.run(main())
        return worn

    return run


def test_worker_is_worn_from_its_limit_on(looks):
    """And said to be so at every look, for nothing may have come of it."""
    assert looks([9, 10, 11], most=10, times=2) == [1, 2, 1, 2]


def test_limits_differ_and_stay(looks):
    """Each worker has a limit of its own, drawn once."""
    worn = looks(range(10, 31), most=10, jitter=20, times=5)
    assert 0 < len(set(worn)) < 21
    assert worn == sorted(set(worn)) * 5
    assert 20 in worn


def test_without_a_limit_nobody_looks():
    """There is no timer."""

    async def main():
        wear = Wear({}, most=0, jitter=0, rng=Random(), on_worn=print)
        assert wear._timer is None
        wear.close()

    asyncio.run(main())
