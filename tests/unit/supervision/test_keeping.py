"""What the end of a master means to its keeper, case by case."""

import random

import pytest

from maitred.supervision.backoff import CEILING
from maitred.supervision.keeping import Keeping, Leave, StartAgain

ORDERLY = frozenset({0, 5})


@pytest.fixture
def keeping():
    """Make one that has seen nothing yet."""
    return Keeping(ORDERLY, random.Random(1))


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("code", sorted(ORDERLY))
def test_master_that_ended_in_order_is_not_replaced(keeping, code, served):
    """Somebody told it to leave; whoever that was meant the service."""
    assert keeping.ended(code, served=served) == Leave(code)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 127])
def test_first_master_that_ends_by_itself_is_not_replaced(keeping, code):
    """It has said what is wrong, and that does not get better."""
    assert keeping.ended(code, served=False) == Leave(code)


@pytest.mark.parametrize("code", [1, 2, 3, 4, -9, -11])
def test_master_that_served_is_replaced_at_once(keeping, code):
    """As often as it happens: between two of them the service was there."""
    for _ in range(5):
        assert keeping.ended(code, served=True) == StartAgain(0.0)


@pytest.mark.parametrize("code", [1, 3, 4, -9])
def test_masters_that_never_serve_are_replaced_ever_later(keeping, code):
    """The first at once, the next ones after a backoff; success ends the series."""
    keeping.ended(-9, served=True)
    for _ in range(2):
        waits = [keeping.ended(code, served=False).wait for _ in range(10)]
        assert waits[0] == 0.0
        for wait, whole in zip(
            waits[1:], (0.5, 1, 2, 4, 8, 16, 30, 30, 30), strict=True
        ):
            assert whole / 2 <= wait <= whole <= CEILING
        keeping.ended(-9, served=True)


def test_first_master_that_was_killed_is_replaced(keeping):
    """A kill says nothing about the application."""
    assert keeping.ended(-9, served=False) == StartAgain(0.0)


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("code", [0, 1, 3, 5])
def test_after_a_stop_nobody_is_replaced(keeping, code, served):
    """The exit code is the master's own."""
    keeping.stopping = True
    assert keeping.ended(code, served=served) == Leave(code)


def test_master_that_is_killed_while_it_stops_leaves_no_code(keeping):
    """Its keeper has to choose one."""
    keeping.stopping = True
    assert keeping.ended(-9, served=True) == Leave(None)


def test_master_for_which_there_was_no_room_is_tried_later(keeping):
    """The system is full: at once would be the same again."""
    assert keeping.not_started().wait > 0
