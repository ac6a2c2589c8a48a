"""A scoreboard on which a worker writes whatever it likes."""

import os
import socket

import pytest

from maitred.acceptor.connection import Connection
from maitred.acceptor.rescue import Left, rescue
from maitred.master.account import PER_SECOND, Account
from maitred.wire.cookie import cookie
from maitred.wire.scoreboard import (
    FIRST_REFUSAL,
    JOURNAL,
    REFUSALS,
    REGION,
    REGIONS,
    SIZE,
    Scoreboard,
    Stage,
)

HUGE = (1 << 64) - 1


@pytest.fixture
def board():
    """A scoreboard."""
    fd = Scoreboard.create()
    found = Scoreboard(fd)
    os.close(fd)
    yield found
    found.close()


@pytest.mark.parametrize("region", [-1, 0, 1, REGIONS - 1, REGIONS, HUGE])
@pytest.mark.parametrize("size", [-HUGE, -1, 0, 1, REGION, REGION + 1, HUGE])
def test_journal_gives_what_a_region_holds_at_most(board, region, size):
    """Whatever a mark says: a size that cannot be gives nothing, and copies nothing."""
    possible = 0 <= region < REGIONS and 0 <= size <= REGION
    assert len(board.read_journal(region, size)) == (size if possible else 0)
    assert SIZE - JOURNAL == REGIONS * REGION


@pytest.mark.parametrize("start", [1, 100, HUGE])
def test_mark_whose_start_was_never_read_rescues_nothing(board, start):
    """The connection counts as lost, and not a byte of the journal is taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    with client, sock:
        connection = Connection(sock, cookie(sock), (b"", 0), (b"127.0.0.1", 1))
        connection.mark = 1
        board.reset(1, 0, 0, 0)
        board.words[8] = Stage.READING
        board.words[10] = start
        assert rescue(connection, board) is Left.LOST
        assert connection.consumed == b""


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self):
        """Give the time."""
        return self.now


def test_counts_are_believed_while_they_can_be_true(board, caplog):
    """They neither fall nor leap, whatever a worker writes; one line says so."""
    clock = Clock()
    account = Account(board, "worker 7 of slot 3", clock)
    board.requests = 900
    assert account.requests == 900
    board.requests = 899
    assert account.requests == 900
    board.requests = HUGE
    assert account.requests == 900
    assert "worker 7 of slot 3 counts 899 requests after 900" in caplog.text
    assert len(caplog.records) == 1
    board.requests = 20 * PER_SECOND
    assert account.requests == 900
    clock.now = 30.0
    assert account.requests == 20 * PER_SECOND
    board.connections = HUGE
    assert account.connections == 1 << 20


def test_refusals_are_believed_one_by_one(board):
    """Junk in one counter hides no other, and what follows the counters is nothing."""
    account = Account(board, "worker", Clock())
    board.count_refusal("misdirected")
    board._numbers[FIRST_REFUSAL] = HUGE
    board._numbers[FIRST_REFUSAL + len(REFUSALS)] = 12
    assert account.refused == {"misdirected": 1}
    board._numbers[FIRST_REFUSAL + REFUSALS.index("misdirected")] = 0
    assert account.refused == {"misdirected": 1}
