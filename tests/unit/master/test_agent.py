"""What the agent check is told of free capacity."""

import pytest

from maitred.master.agent import LEAST, PATIENCE, Capacity
from maitred.placement import Slot

ALL = b"up ready 100%\n"
LEFT = b"up ready %d%%\n" % LEAST


@pytest.mark.parametrize(
    ("able", "of", "said"),
    [
        (4, 4, ALL),
        (3, 4, b"up ready 75%\n"),
        (1, 3, b"up ready 34%\n"),
        (2, 3, b"up ready 67%\n"),
        (1, 64, LEFT),
        (0, 4, LEFT),
    ],
)
def test_capacity_is_the_share_of_those_that_take_what_is_new(able, of, said):
    """Never none, also of a weight of 10: an operator alone takes a machine out."""
    slots = [Slot(n, 64, ready=True, drained=n >= able) for n in range(of)]
    assert Capacity().say(slots, of, 0.0, serves=of) == said
    assert 10 * int(said.split()[2][:-1]) // 100 > 0


def test_machine_without_a_worker_is_down_after_a_while():
    """Not before, for a worker that crashes once is replaced; and up again at once."""
    slots, capacity = [Slot(0, 64)], Capacity()
    assert capacity.say(slots, 1, 100.0, serves=0) == LEFT
    assert capacity.say(slots, 1, 100.0 + PATIENCE - 0.1, serves=0) == LEFT
    assert capacity.say(slots, 1, 100.0 + PATIENCE, serves=0) == b"down #no worker\n"
    slots[0].ready = True
    assert capacity.say(slots, 1, 106.0, serves=0) == b"down #no worker\n"
    assert capacity.say(slots, 1, 107.0, serves=1) == ALL
    assert capacity.say(slots, 1, 120.0, serves=0) == ALL
