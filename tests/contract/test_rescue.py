"""
What a worker writes of a connection, against what the master finds after its death.

The worker's half (marks) and the master's (rescue) meet real connections and shared
memory. A play of steps ends at any moment, between any two of them: what was answered
is out, what was begun is not begun again, and all else is there, byte by byte.
"""

import os
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maitred.acceptor.connection import Connection
from maitred.acceptor.rescue import Left, rescue, traffic
from maitred.wire.cookie import cookie
from maitred.wire.scoreboard import REGION, REGIONS, Scoreboard, Stage
from maitred.worker.marks import READ_SIZE, Marks
from maitred.worker.uvicorn_seam import shut

DEADLINE = 30.0
REQUEST = bytes(range(100))


class Play:
    """A client, a connection that a worker has, and the master's copy of it."""

    def __init__(self, board, number=1):
        self.board, self.marks = board, Marks(board)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.theirs, _ = listener.accept()
        copy = self.theirs.dup()
        self.ours = Connection(copy, cookie(copy), (b"", 0), (b"", 0))
        self.ours.mark = number
        board.reset(number, 0, 0, 1)
        self.mark = self.marks.of(number)
        self.sent = b""
        self.unread = 0
        self.written = 0
        self.pending = b""  # read and not begun

    def close(self):
        """Close everything."""
        for each in (self.client, self.theirs, self.ours):
            each.close()

    def send(self, data):
        """The client sends *data*, and it arrives."""
        self.client.sendall(data)
        self.sent += data
        self.unread += len(data)
        end = time.monotonic() + DEADLINE
        while len(self._peek()) < self.unread:
            assert time.monotonic() < end

    def _peek(self):
        if not self.unread:
            return b""
        return self.theirs.recv(self.unread, socket.MSG_PEEK)

    def read(self, most, *, note=True):
        """The worker reads up to *most* bytes; dies before it notes it, perhaps."""
        room = self.mark.room()
        count = self.theirs.recv_into(room, min(most, len(room), self.unread))
        self.unread -= count
        if note:
            data = self.mark.read(count)
            self.pending += data
        else:
            self.pending += self.sent[len(self.sent) - self.unread - count :][:count]

    def begin(self, size):
        """The application begins with the first *size* bytes of what is pending."""
        self.mark.started()
        self.pending = self.pending[size:]

    def answer(self, data, *, write=True):
        """The worker has answered, and *data* is out, or dies with it."""
        self.written += len(data)
        if write:
            self.theirs.sendall(data)
        self.mark.settled(self.pending, self.written)

    def die(self):
        """The worker is dead: say what is left."""
        self.theirs.close()
        return rescue(self.ours, self.board)

    def rest(self):
        """All that the next worker would read."""
        self.ours.sock.settimeout(DEADLINE)
        rest = self.ours.consumed
        while self.unread:
            piece = self.ours.sock.recv(self.unread)
            rest += piece
            self.unread -= len(piece)
        return rest


@pytest.fixture(scope="module")
def board():
    """Make a scoreboard."""
    fd = Scoreboard.create()
    board = Scoreboard(fd)
    os.close(fd)
    return board


@pytest.fixture
def play(board):
    """A connection that nothing has happened to."""
    play = Play(board)
    yield play
    play.close()


def test_nothing_happened(play):
    """It was handed over, and its client has not said a word."""
    assert play.die() is Left.UNTOUCHED
    assert play.rest() == b""
    assert not play.ours.idle  # whatever it was before, it is


def test_unread_bytes_stay_in_the_kernel(play):
    """The next worker reads them."""
    play.send(REQUEST)
    assert play.die() is Left.UNTOUCHED
    assert play.ours.consumed == b""
    assert play.rest() == REQUEST


@pytest.mark.parametrize("note", [True, False], ids=["noted", "not noted"])
def test_what_was_read_is_in_the_journal(play, note):
    """Also what was read a moment before it could be noted."""
    play.send(REQUEST)
    play.read(30)
    play.read(40, note=note)
    assert play.die() is Left.UNTOUCHED
    assert play.ours.consumed == REQUEST[:70]
    assert (play.ours.position, play.ours.idle) == (0, False)
    assert play.rest() == REQUEST


def test_what_was_begun_is_not_begun_again(play):
    """The client can still be told so."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    assert play.die() is Left.STARTED


def test_answer_that_is_partly_out_cannot_be_mended(play):
    """Whatever came behind it would be read as its rest."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    play.theirs.sendall(b"HTTP/1.1 200")
    assert play.die() is Left.LOST


def test_answer_that_died_with_the_worker_is_lost(play):
    """The worker had it in its own memory: the client waits for it."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    play.answer(b"answer", write=False)
    assert play.die() is Left.LOST


def test_answered_connection_is_idle(play):
    """And goes on where it stood."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    play.answer(b"answer")
    assert play.die() is Left.UNTOUCHED
    ours = play.ours
    assert (ours.idle, ours.consumed, ours.position, ours.written) == (
        True,
        b"",
        100,
        6,
    )


def test_next_request_that_was_read_with_the_first_is_there(play):
    """It waited for the answer to the first."""
    play.send(REQUEST * 2)
    play.read(150)
    play.begin(100)
    play.answer(b"answer")
    play.read(20)
    assert play.die() is Left.UNTOUCHED
    assert play.ours.consumed == REQUEST[:70]
    assert play.rest() == REQUEST


def test_bytes_of_a_worker_before_come_first(board):
    """They came with the connection, and are in no kernel's buffer."""
    play = Play(board, 2)
    play.send(REQUEST)
    play.ours.consumed = play.theirs.recv(40)
    play.unread -= 40
    try:
        play.mark.put(play.ours.consumed)
        assert play.die() is Left.UNTOUCHED
        assert play.rest() == REQUEST
    finally:
        play.close()


def test_client_that_ends_its_half_is_still_served(play):
    """A FIN takes a number in the sequence and is no byte."""
    play.send(REQUEST)
    play.read(50)
    play.client.shutdown(socket.SHUT_WR)
    end = time.monotonic() + DEADLINE
    while play.ours.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0] == 1:
        assert time.monotonic() < end
    assert play.die() is Left.UNTOUCHED
    assert play.rest() == REQUEST


def test_client_that_left_has_nothing_to_lose(play):
    """There is nobody to serve, whatever was begun."""
    play.send(REQUEST)
    play.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    play.client.close()
    end = time.monotonic() + DEADLINE
    while play.ours.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0] == 1:
        assert time.monotonic() < end
    assert play.die() is Left.ENDED


@pytest.mark.parametrize("write", [True, False], ids=["out", "not out"])
def test_last_answer_is_owed_until_it_is_out(play, write):
    """The client knows that it is the last; what is left is to close."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    play.mark.ended(6)
    if write:
        play.theirs.sendall(b"answer")
    assert play.die() is (Left.ENDED if write else Left.LOST)


@pytest.mark.parametrize("left", [True, False], ids=["after the client", "before it"])
def test_connection_that_its_worker_ended_is_not_lost(play, left):
    """The client has its answer and the end; the worker died before it could say so."""
    play.send(REQUEST)
    play.read(100)
    play.begin(100)
    play.answer(b"answer")
    if left:
        play.client.close()
    shut(play.theirs, play.mark)
    assert play.die() is Left.ENDED


def test_mark_of_a_liar_costs_only_its_own_connection(play):
    """A region that cannot be, and more bytes than it holds."""
    play.send(REQUEST)
    play.read(100)
    play.board.words[8] = Stage.READING | 10**9 << 8
    assert play.die() is Left.LOST


def test_unix_socket_is_never_rescued():
    """The kernel does not count its bytes."""
    one, other = socket.socketpair()
    with one, other, pytest.raises(OSError):
        traffic(one)


def test_region_that_is_full_is_given_up(play):
    """What does not fit the journal dies with the worker; it is served all the same."""
    data = os.urandom(REGION + READ_SIZE)
    heard = b""
    while len(heard) < len(data):
        play.send(data[len(heard) :][: READ_SIZE // 2])
        while play.unread:
            before = len(play.pending)
            play.read(READ_SIZE)
            heard += play.pending[before:]
    assert heard == data
    assert len(play.marks.free) == REGIONS
    assert play.die() is Left.STARTED


def test_region_is_free_again_when_its_connection_is_given_back(play):
    """The mark is left as it is: it may be another connection's by now."""
    play.send(REQUEST)
    play.read(100)
    before = play.board.mark(play.ours.mark)
    assert len(play.marks.free) == REGIONS - 1
    play.mark.given_back()
    assert len(play.marks.free) == REGIONS
    assert play.board.mark(play.ours.mark) == before


@pytest.mark.parametrize("part", ["given_back", "leave"])
def test_mark_that_was_given_up_is_not_written_any_more(play, part):
    """The next connection has it; the one before may still be ending."""
    play.send(REQUEST)
    play.read(100)
    getattr(play.mark, part)()
    play.board.reset(play.ours.mark, 7, 5, 1)
    before = play.board.mark(play.ours.mark)
    play.mark.ended(9)
    play.mark.settled(b"", 9)
    play.mark.started()
    assert play.board.mark(play.ours.mark) == before


def test_journal_without_a_region_left_still_reads(board):
    """The connection beyond the last region is not kept, and served all the same."""
    plays = [Play(board, 10)]
    try:
        marks = plays[0].marks
        taken = [marks.of(100 + n) for n in range(REGIONS)]
        for mark in taken:
            mark.room()
        plays[0].send(REQUEST)
        plays[0].read(100)
        assert plays[0].pending == REQUEST
        for mark in taken:
            mark.leave()
        assert plays[0].die() is Left.STARTED
    finally:
        plays[0].close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 300)),
            st.tuples(st.just("read"), st.integers(1, 400)),
            st.tuples(st.just("begin"), st.integers(1, 100)),
            st.tuples(st.just("answer"), st.integers(1, 100)),
        ),
        max_size=12,
    ),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_any_play_ends_well(board, steps, noted):
    """Whatever happened: untouched with every byte there, or it says that it is not."""
    play = Play(board, 3)
    begun = False
    try:
        for number, (step, size) in enumerate(steps):
            if step == "send":
                play.send(os.urandom(size))
            elif step == "read" and play.unread:
                play.read(size, note=noted or number + 1 < len(steps))
            elif step == "begin" and play.pending and not begun:
                begun = True
                play.begin(size)
            elif step == "answer" and begun:
                begun = False
                play.answer(bytes(size))
        due = play.pending + (play._peek() if play.unread else b"")
        left = play.die()
        assert left is (Left.STARTED if begun else Left.UNTOUCHED)
        if not begun:
            assert play.rest() == due
    finally:
        play.mark.leave()
        play.close()
