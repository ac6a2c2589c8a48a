"""The heartbeat is written by the loop, again and again."""

import os
import time

from maitred import logs
from maitred.master.account import Account
from maitred.wire.scoreboard import BEAT, Scoreboard
from maitred.worker.heartbeat import BEAT_NS, beat


class Loop:
    """Notes what is to be called later."""

    def call_later(self, *call):
        """Remember the last *call*."""
        self.call = call


def test_beat_is_written_and_the_next_one_is_planned():
    """The time stands on the scoreboard, and the loop goes on with it."""
    page = Scoreboard.create()
    board = Scoreboard(page)
    os.close(page)
    loop = Loop()
    assert board.beat == 0
    before = time.monotonic_ns()
    beat(board, loop)
    assert before <= board.beat <= time.monotonic_ns()
    assert loop.call == (BEAT, beat, board, loop, board.beat + BEAT_NS)
    assert board.lag == 0
    board.close()


def test_late_beat_says_how_late_it_is():
    """Against the time it was planned for; a clock that is ahead makes no lag."""
    page = Scoreboard.create()
    board = Scoreboard(page)
    os.close(page)
    due = time.monotonic_ns() - 10**9
    beat(board, Loop(), due)
    assert board.lag == board.beat - due
    beat(board, Loop(), time.monotonic_ns() + 10**12)
    assert board.lag == 0
    board.close()


def test_lines_that_were_dropped_are_counted_where_the_master_looks(monkeypatch):
    """With each beat; the master believes it as it believes the other counts."""
    monkeypatch.setattr(logs, "dropped", lambda: 3)
    page = Scoreboard.create()
    board = Scoreboard(page)
    os.close(page)
    beat(board, Loop())
    account = Account(board, "worker 1 of slot 0")
    assert account.dropped == 3
    assert account.refused == {}
    board.dropped = 2
    assert account.dropped == 3
    board.close()
