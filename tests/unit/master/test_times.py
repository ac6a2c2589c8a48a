"""How long the stages of a connection's way take."""

import pytest

from maitred.acceptor.counters import Counters, Done
from maitred.acceptor.times import BOUNDS, Times
from maitred.upgrade.serialize import flatten, read, refill, write


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0001, 0), (0.00011, 1), (1.0, 12), (30.0, 16), (31.0, 17)],
)
def test_time_is_in_the_bucket_whose_bound_it_does_not_exceed(seconds, bucket):
    """As Prometheus has it: less than or equal."""
    times = Times()
    times.peek.note(seconds)
    counts = [0] * (len(BOUNDS) + 1)
    counts[bucket] = 1
    assert times.statistics()["peek"] == {"counts": counts, "sum": seconds}
    assert sum(times.take.counts) == 0


def test_reports_are_added():
    """What several acceptors noted is one sum."""
    one, other = Times(), Times()
    one.take.note(0.2)
    other.take.note(0.3)
    one.add(other.statistics())
    assert (sum(one.take.counts), one.take.sum) == (2, 0.5)


def test_successor_goes_on_counting():
    """An upgrade keeps what was noted."""
    before, after = Counters(), Counters()
    before.times.hand_over.note(0.01)
    refill(after, read(write(flatten(before))))
    assert after.times.statistics() == before.times.statistics()


def test_done_sums_up_by_slot():
    """What dead workers of a slot did is added, also that of another acceptor."""
    done = Done()
    done.note(1, {"requests": 3, "cpu": 0.5})
    done.add([[1, {"requests": 4}], [0, {"cpu": 1.0}]])
    assert done.of(1) == {"requests": 7, "cpu": 0.5}
    assert done.of(2) == {}
    again = Done()
    again.add(read(write(done.state())))
    assert again.state() == done.state()
