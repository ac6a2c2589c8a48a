"""
What becomes of a connection when a worker refuses it, or gives it back.

The acceptor is real and in this process (acceptor_kit.py); its time is set by hand.
"""

import pytest

from acceptor_kit import MOST_ATTEMPTS, request
from channel_kit import room_for
from maitred.wire.messages import Reason

TIMEOUT = 30.0
"Seconds that a connection waits for room, by default."
PAUSE = 0.05
"Seconds until a connection that was refused is placed again."
KEY = b"header:x-session="


# A worker refuses.


def test_worker_without_descriptors_is_left_alone_for_a_moment(start):
    """Others may have some left; its own sessions wait for it."""
    acceptor = start()
    acceptor.connect("s1")
    one, other = acceptor.workers
    (first,) = one.handed()
    first.refuse(Reason.NO_DESCRIPTOR)
    for _ in range(2):
        acceptor.connect()
    assert len(other.take_all()) == 2
    acceptor.clock.advance(PAUSE - 0.01)
    assert not one.handed()
    acceptor.clock.advance(0.02)
    (again,) = one.take_all()
    assert again.id == first.id
    assert acceptor.counts["no_descriptor"] == 1


def test_worker_may_be_out_of_descriptors_for_as_long_as_others_wait(start):
    """However often that is; then the client is told so."""
    acceptor = start(workers=1)
    client = acceptor.connect("s1")
    worker, times = acceptor.workers[0], 0
    while not client.status():
        for each in worker.handed():
            each.refuse(Reason.NO_DESCRIPTOR)
            times += 1
        acceptor.turn()
        acceptor.clock.advance(PAUSE)
        assert times < 1000
    assert client.status() == 503
    assert TIMEOUT / PAUSE - 2 < times < TIMEOUT / PAUSE + 2


def test_wait_for_a_worker_goes_on_where_that_for_descriptors_ends(start):
    """One deadline is over both: a client waits no longer for having been refused."""
    acceptor = start(workers=1)
    client = acceptor.connect("s1")
    worker, begin = acceptor.workers[0], acceptor.clock.time()
    while acceptor.clock.time() < begin + TIMEOUT - 10:
        for each in worker.handed():
            each.refuse(Reason.NO_DESCRIPTOR)
        acceptor.turn()
        acceptor.clock.advance(PAUSE)
    (one,) = worker.handed()
    acceptor.quit(worker)
    one.refuse(Reason.NO_DESCRIPTOR)
    acceptor.clock.advance(9.5)
    assert client.status() == 0
    assert acceptor.report()["slots"][0]["queued"] == 1
    acceptor.clock.advance(1.0)
    assert client.status() == 503


def test_connection_that_a_worker_at_last_takes_may_wait_anew(start):
    """How long it was tried before counts for nothing when its worker dies."""
    acceptor = start(workers=1)
    client = acceptor.connect("s1")
    worker = acceptor.workers[0]
    (one,) = worker.handed()
    one.refuse(Reason.NO_DESCRIPTOR)
    acceptor.turn()
    acceptor.clock.advance(PAUSE)
    (one,) = worker.take_all()
    one.answer()
    acceptor.turn()
    acceptor.clock.advance(TIMEOUT + 1)
    acceptor.bury(worker)
    acceptor.clock.advance(TIMEOUT - 1)
    assert not client.is_ended()
    assert len(acceptor.start(0).handed()) == 1


@pytest.mark.parametrize("reason", [Reason.WRONG_DESCRIPTOR, Reason.DRAINING])
def test_refusals_are_counted(start, reason):
    """A connection that everybody refuses is answered in the end."""
    acceptor = start(workers=MOST_ATTEMPTS + 1)
    client = acceptor.connect()
    for worker in acceptor.workers[:-1]:
        assert client.status() == 0
        (one,) = worker.handed()
        one.refuse(reason)
        acceptor.turn()
        acceptor.clock.advance(PAUSE)
    assert not acceptor.workers[-1].handed()
    assert client.status() == 503


def test_connection_that_was_refused_keeps_its_place(start):
    """Also where so many wait by then that nobody new may."""
    acceptor = start(workers=1, window=1, max_waiting=2)
    worker = acceptor.workers[0]
    first = acceptor.connect("s1")
    (one,) = worker.handed()
    acceptor.connect("s1")
    one.refuse(Reason.WRONG_DESCRIPTOR)
    assert len(worker.handed()) == 1
    acceptor.connect("s1")
    assert acceptor.connect("s1").status() == 503
    acceptor.clock.advance(PAUSE)
    assert first.status() == 0
    assert acceptor.report()["slots"][0]["queued"] == 2


def test_worker_that_leaves_on_its_own_is_handed_nothing_more(start):
    """What it refuses goes on at once, to whoever stays."""
    acceptor = start()
    one, other = acceptor.workers
    acceptor.connect()
    (refused,) = one.handed()
    refused.refuse(Reason.DRAINING)
    assert [each.id for each in other.take_all()] == [refused.id]
    for _ in range(2):
        acceptor.connect()
    assert len(other.take_all()) == 2


# Descriptors run out in the acceptor.


def test_connections_that_cannot_be_accepted_wait_in_the_backlog(start):
    """The listener is left alone for a moment, and nobody is turned away."""
    acceptor = start()
    client = acceptor.connect("s1")
    with room_for(0):
        acceptor.clock.advance(1.0)
        pauses = acceptor.counts["accept_pauses"]
        assert 10 <= pauses <= 12
    acceptor.turn()
    assert "accepted" not in acceptor.counts
    acceptor.clock.advance(0.1)
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    assert client.status() == 200


def test_copy_gives_way_to_a_connection_that_is_new(start):
    """It is the one that may be missed the least: of who was idle the longest."""
    acceptor = start(workers=1)
    served = [acceptor.connect() for _ in range(3)]
    first, second, third = acceptor.workers[0].take_all()
    for each in (second, first, third):
        each.answer()
    acceptor.turn()
    new = acceptor.connect()
    with room_for(0):
        acceptor.turn()
    # One for the new connection, and none to find out that there is no other.
    assert (acceptor.counts["accepted"], acceptor.copies()) == (4, 2)
    assert "accept_pauses" not in acceptor.counts
    (last,) = acceptor.workers[0].take_all()
    last.answer()
    acceptor.bury(acceptor.workers[0])
    assert [client.status() for client in (*served, new)] == [200] * 4
    ended = [client.is_ended() for client in (*served, new)]
    assert ended == [False, True, False, False]


def test_return_without_a_descriptor_falls_back_to_the_copy(start):
    """The acceptor had none left to receive it with."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    acceptor.turn()
    one.read()
    one.give_back(KEY + b"s2")
    with room_for(0):
        acceptor.turn()
    (again,) = acceptor.workers[1].take_all()
    assert (again.id, again.consumed) == (one.id, request("s1"))
    again.answer_rest()
    assert client.status() == 200
    assert "lost" not in acceptor.counts
    assert acceptor.copies() == 1


def test_return_without_a_descriptor_and_without_a_copy_is_lost(start):
    """Nobody is to blame, the worker least of all."""
    acceptor = start(keep_copies=False)
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    acceptor.turn()
    one.read()
    one.give_back(KEY + b"s2")
    with room_for(0):
        acceptor.turn()
    assert client.is_ended()
    assert (acceptor.counts["lost"], acceptor.counts["returned"]) == (1, 1)
    assert not acceptor.workers[0].process.killed
    acceptor.connect("s1")
    assert len(acceptor.workers[0].handed()) == 1


# A worker gives a connection back.


def test_returned_connection_goes_to_the_owner_of_its_next_request(start):
    """With what was read, one hop further, and out of the hands of who had it."""
    acceptor = start()
    one, other = acceptor.workers
    for session in ("s1", "s2"):
        acceptor.connect(session)
    (mine,) = one.take_all()
    other.take_all()
    mine.answer()
    acceptor.clients[0].send(request("s2"))
    mine.read()
    mine.give_back(KEY + b"s2")
    (again,) = other.take_all()
    assert (again.key, again.consumed) == (KEY + b"s2", request("s2"))
    assert (again.handoff.hops, again.handoff.idle) == (1, 0)
    again.answer_rest(b"second")
    assert acceptor.clients[0].hears().endswith(b"second")
    counts = acceptor.counts
    assert (counts["returned"], counts["taken"]) == (1, 3)
    # Its former worker may not speak of it any more.
    acceptor.bury(one)
    assert not acceptor.clients[0].is_ended()


def test_connection_that_was_given_back_idle_stays_where_it_was(start):
    """Its next request may well belong there; it is handed over unread."""
    acceptor = start()
    acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.turn()
    one.give_back()
    (again,) = acceptor.workers[0].take_all()
    assert (again.id, again.handoff.idle, again.key) == (one.id, 1, b"")


def test_idle_connection_of_a_worker_that_leaves_is_its_successors(start):
    """The client does not notice; what left is counted."""
    acceptor = start()
    acceptor.connect("s1")
    old, new = acceptor.workers[0], acceptor.start(0)
    (one,) = old.take_all()
    one.answer()
    acceptor.promote(new)
    acceptor.drain(old)
    one.give_back()
    (again,) = new.take_all()
    acceptor.clients[0].send(request("s1"))
    again.answer()
    assert acceptor.clients[0].hears().count(b"200 OK") == 2
    assert acceptor.counts["drained"] == 1


def test_part_of_a_head_that_is_given_back_is_waited_for(start):
    """Where it belongs is not known yet, and its first bytes are not in the kernel."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    head = request("s2")
    client.send(head[:9])
    one.read()
    acceptor.turn()
    one.give_back()
    acceptor.turn()
    assert acceptor.report()["peeking"] == 1
    client.send(head[9:])
    handed = [each for worker in acceptor.workers for each in worker.take_all()]
    assert [(e.key, e.consumed) for e in handed] == [(KEY + b"s2", head[:9])]
    assert handed[0].read() == head


def test_part_of_a_head_has_a_deadline_where_it_is_waited_for(start):
    """It is answered as if nobody had read it."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    client.received = b""
    client.send(b"GET /")
    one.read()
    acceptor.turn()
    one.give_back()
    acceptor.turn()
    client.received = b""
    acceptor.clock.advance(9.9)
    assert not client.is_ended()
    acceptor.clock.advance(0.2)
    assert client.is_ended()


def test_frozen_connection_goes_on_or_is_lost(start):
    """It travels with what the application knows; it is answered by nobody else."""
    acceptor = start(workers=1, window=1)
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.turn()
    one.give_back(frozen=b"ice")
    (again,) = acceptor.workers[0].handed()
    assert (again.handoff.frozen, again.handoff.idle) == (b"ice", 0)
    client.hears()
    client.received = b""
    acceptor.stop()
    again.refuse(Reason.WRONG_DESCRIPTOR)
    acceptor.quit(acceptor.workers[0])
    acceptor.clock.advance(PAUSE)
    assert (client.is_ended(), client.received) == (True, b"")
    assert acceptor.counts["lost"] == 1
