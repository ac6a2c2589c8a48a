"""The scoreboard: what a worker counts, and what is read of it."""

import os

import pytest

from maitred.routing.refusal import CAUSES
from maitred.wire.scoreboard import FIRST_REFUSAL, PAGE, REFUSALS, Scoreboard


@pytest.fixture
def board():
    """A scoreboard."""
    fd = Scoreboard.create()
    found = Scoreboard(fd)
    os.close(fd)
    yield found
    found.close()


def test_every_cause_has_its_place():
    """A new cause is added at the end: the others' places are known to old workers."""
    assert len(set(REFUSALS)) == len(REFUSALS)
    assert set(REFUSALS) == set(CAUSES)
    assert (FIRST_REFUSAL + len(REFUSALS)) * 8 <= PAGE


def test_nobody_can_change_its_size():
    """Who has it mapped, and reads beyond its end, is ended by SIGBUS."""
    fd = Scoreboard.create()
    for size in (0, PAGE, 2 * os.fstat(fd).st_size):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_refusals_are_counted_by_cause(board):
    """Of those that did not happen nothing is said."""
    assert board.refused == {}
    for cause in (*REFUSALS, REFUSALS[0], REFUSALS[-1]):
        board.count_refusal(cause)
    ends = {REFUSALS[0]: 2, REFUSALS[-1]: 2}
    assert board.refused == dict.fromkeys(REFUSALS, 1) | ends
    assert (board.connections, board.requests, board.beat, board.lag) == (0, 0, 0, 0)
