"""What the agent check is told of free capacity."""

import pytest

from maitred.master.agent import capacity
from maitred.placement import Slot


@pytest.mark.parametrize(
    ("able", "of", "said"),
    [
        (4, 4, b"up ready 100%\n"),
        (3, 4, b"up ready 75%\n"),
        (1, 3, b"up ready 33%\n"),
        (0, 4, b"up ready 1%\n"),
    ],
)
def test_capacity_is_the_share_of_those_that_take_what_is_new(able, of, said):
    """Never none: nobody but an operator takes a machine out."""
    slots = [Slot(n, 64, ready=True, drained=n >= able) for n in range(of)]
    assert capacity(slots, of) == said
