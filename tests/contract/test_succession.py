"""What one program leaves to the next, with real descriptors and children."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from maitred.acceptor.connection import FIELDS, Connection
from maitred.acceptor.connection import restored as restored_connection
from maitred.errors import UsageError
from maitred.master.processes import Process
from maitred.master.succession import paper
from maitred.upgrade.serialize import read, write
from maitred.upgrade.snapshot import FORMAT, Past, Table, arrive
from maitred.wire.messages import VERSION


def snapshot(table, **more):
    """Make what a master with *table* would leave."""
    known = {"format": FORMAT, "protocol": VERSION, "descriptors": table.rows}
    return read(write(known | {"fields": FIELDS} | more))


@pytest.fixture
def pair():
    """Two connected sockets."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_descriptor_has_one_owner(pair):
    """It is given once; what nobody took is noticed."""
    table = Table()
    places = [table.own(each.fileno()) for each in pair]
    past = Past(snapshot(table), rehearsal=False)
    assert past.take(places[1]) == pair[1].fileno()
    with pytest.raises(KeyError):
        past.take(places[1])
    with pytest.raises(UsageError, match="1 of 2 descriptors found no owner"):
        past.check()
    past.take(places[0])
    past.check()


def test_descriptor_does_not_survive_the_next_exec(pair):
    """What came open through exec is close-on-exec before anybody has it."""
    table = Table()
    table.own(pair[0].fileno())
    os.set_inheritable(pair[0].fileno(), True)
    Past(snapshot(table), rehearsal=False)
    assert not os.get_inheritable(pair[0].fileno())


def test_closed_descriptor_cannot_be_left():
    """Its number may be a stranger's soon."""
    with pytest.raises(ValueError, match="closed descriptor"):
        Table().own(-1)


def test_client_is_played_by_a_stand_in(pair):
    """A rehearsal that has ended has closed nothing of a client's."""
    table = Table()
    place = table.client(pair[0].fileno())
    past = Past(snapshot(table), rehearsal=True)
    fd = past.take(place)
    assert fd != pair[0].fileno()
    assert socket.socket(fileno=fd).close() is None


@pytest.mark.parametrize("what", ["format", "protocol"])
def test_past_of_another_kind_is_refused(what):
    """A master that speaks otherwise cannot be succeeded, and says what to do."""
    with pytest.raises(UsageError, match=f"{what} .*restart it instead"):
        Past(snapshot(Table()) | {what: 99}, rehearsal=True)


def test_connection_is_itself_again(pair):
    """All that is known of it is written down, whatever that is."""
    first = Connection(pair[0], 4711, (b"192.0.2.7", 80), (b"192.0.2.1", 81))
    for number, name in enumerate(Connection.__slots__):
        if name not in {"sock", "local", "id", "peer", "peer_port"}:
            setattr(first, name, number)
    first.key, first.consumed = b"k\xff", b"\0\r\n"
    table = Table()
    state = read(write(first.state(table)))
    past = Past(snapshot(table), rehearsal=False)
    again = restored_connection(state, past)
    past.check()
    for name in set(Connection.__slots__) - {"sock"}:
        assert getattr(again, name) == getattr(first, name), name
    assert again.sock.detach() == pair[0].fileno()


def test_copy_that_was_closed_is_closed_again(pair):
    """What is known of it is written down all the same."""
    first = Connection(pair[0], 4711, (b"", 0), (b"", 0))
    first.mark = 7
    first.close()
    table = Table()
    state = read(write(first.state(table)))
    again = restored_connection(state, Past(snapshot(table), rehearsal=False))
    assert (again.id, again.mark, again.sock.fileno()) == (4711, 7, -1)


def test_successor_may_know_more_or_less_of_a_connection(pair):
    """What it does not know is left out, and what it was not told begins anew."""
    first = Connection(pair[0], 4711, (b"", 0), (b"", 0))
    first.mark = 7
    table = Table()
    state = first.state(table)
    past = Past(snapshot(table), rehearsal=False)
    past.state["fields"] = ["older" if name == "mark" else name for name in FIELDS]
    again = restored_connection(state, past)
    assert (again.id, again.mark) == (4711, 0)
    again.sock.detach()


def test_snapshot_is_handed_over_in_memory(monkeypatch, pair):
    """It arrives whole, once, and its descriptor is closed."""
    table = Table()
    table.own(pair[0].fileno())
    fd = paper(snapshot(table, key=b"\xff" * 100_000))
    monkeypatch.setenv("MAITRED_SUCCESSION", f"{fd}:takeover")
    past = arrive()
    assert past.state["key"] == b"\xff" * 100_000
    assert not past.rehearsal
    assert arrive() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("said", ["", "x:takeover", "99999:takeover"])
def test_environment_without_a_snapshot_is_refused(monkeypatch, said):
    """The sentence names the variable."""
    monkeypatch.setenv("MAITRED_SUCCESSION", said)
    with pytest.raises(UsageError, match=r"MAITRED_SUCCESSION=.* names no snapshot"):
        arrive()


def start(code, **details):
    """Start Python with *code*."""
    return Process([sys.executable, "-c", code], {}, (), **details)


@pytest.mark.parametrize(
    ("code", "ended"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)],
)
def test_child_of_a_predecessor_is_reaped(code, ended):
    """Whoever started it, its end is known by its pidfd."""
    first = start(code)
    table = Table()
    state = first.state(table)
    again = Process.restored(state, Past(snapshot(table), rehearsal=False))
    assert (again.pid, again.reap()) == (first.pid, ended)
    with pytest.raises(ChildProcessError):
        os.waitpid(first.pid, os.WNOHANG)


def test_process_with_little_time_is_ended_by_the_kernel():
    """Also when whoever started it is dead by then, and whatever it does."""
    assert start("import time; time.sleep(600)", seconds=1).reap() == -signal.SIGALRM


def test_process_prints_where_it_is_told():
    """Both what it says and what it complains about."""
    out = os.memfd_create("output")
    try:
        code = "import sys; print('said'); sys.stdout.flush(); raise SystemExit('why')"
        assert start(code, output=out).reap() == 1
        assert os.pread(out, 100, 0) == b"said\nwhy\n"
    finally:
        os.close(out)
