"""
What becomes of a connection when its worker dies.

The acceptor is real and in this process (acceptor_kit.py); its time is set by hand.
"""

import pytest

from acceptor_kit import MOST_ATTEMPTS, request
from maitred.wire.messages import Release

KEY = b"header:x-session="
COPIES = pytest.mark.parametrize("copies", [True, False], ids=["kept", "not kept"])


@COPIES
def test_connection_that_was_not_taken_goes_to_the_next_worker(start, copies):
    """As it was, with all its bytes."""
    acceptor = start(keep_copies=copies)
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].handed()
    acceptor.bury(acceptor.workers[0])
    assert acceptor.report()["slots"][0]["queued"] == 1
    (again,) = acceptor.start(0).take_all()
    assert (again.id, again.key, again.consumed) == (one.id, one.key, b"")
    assert again.read() == request("s1")
    again.answer_rest()
    assert client.status() == 200
    assert acceptor.counts["redispatched"] == 1


def test_idle_connection_outlives_its_worker(start):
    """Its next request is served by another, which is told that nobody waits."""
    acceptor = start()
    client = acceptor.connect()
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.bury(acceptor.workers[0])
    (again,) = acceptor.workers[1].take_all()
    handoff = again.handoff
    assert (handoff.id, handoff.idle, handoff.key) == (one.id, 1, b"")
    assert (handoff.consumed, handoff.hops) == (b"", 1)
    assert client.status() == 200
    client.send(request())
    again.answer(b"second")
    assert client.hears().endswith(b"second")
    assert acceptor.counts["orphaned"] == 1


def test_half_a_head_that_a_dead_worker_read_is_not_lost(start):
    """It waits for the rest, and goes where that says."""
    acceptor = start()
    client = acceptor.connect()
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    head = request("s2")
    client.send(head[:20])
    one.read()
    acceptor.bury(acceptor.workers[0])
    assert acceptor.report()["peeking"] == 1
    client.send(head[20:])
    (again,) = acceptor.workers[1].take_all()
    assert (again.consumed, again.key) == (head[:20], KEY + b"s2")
    assert again.read() == head
    assert not again.handoff.idle


@pytest.mark.parametrize(
    ("out", "status"), [(b"", 502), (b"HTTP/1.1 200", 0)], ids=["none", "some"]
)
def test_request_that_was_begun_is_not_begun_again(start, out, status):
    """The client is told so, if nothing of an answer is out; if some is, it is cut."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.read()
    one.begin()
    if out:
        one.write(out)
    acceptor.bury(acceptor.workers[0])
    acceptor.start(0)
    assert client.is_ended()
    assert client.received.startswith(out or b"HTTP/1.1 502")
    assert client.received.count(b"HTTP/") == 1
    assert acceptor.counts["refused" if status else "lost"]
    assert acceptor.counts["orphaned"] == 1


def test_answer_that_died_with_its_worker_is_cut(start):
    """The mark says that it was given, and the kernel that it is not out."""
    acceptor = start()
    client = acceptor.connect()
    (one,) = acceptor.workers[0].take_all()
    one.read()
    one.begin()
    one.settle(written=100)
    acceptor.bury(acceptor.workers[0])
    assert (client.is_ended(), client.received) == (True, b"")
    assert acceptor.counts["lost"] == 1


def test_what_was_read_against_the_mark_is_cut(start):
    """The mark says that nobody has begun, and some bytes are gone."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.sock.recv(10)
    acceptor.bury(acceptor.workers[0])
    assert not acceptor.start(0).handed()
    assert (client.is_ended(), client.received) == (True, b"")
    assert acceptor.counts["lost"] == 1


def test_client_that_left_a_dead_worker_is_nobody_to_lose(start):
    """It had ended the connection, and so had the worker."""
    acceptor = start()
    client = acceptor.connect()
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    client.leave()
    one.sock.shutdown(2)
    acceptor.bury(acceptor.workers[0])
    assert client.is_ended()
    assert acceptor.counts["client_left"] == 1
    assert "lost" not in acceptor.counts


@COPIES
def test_connection_is_handed_over_so_often_and_no_more(start, copies):
    """Whoever kills every worker that it comes to is answered in the end."""
    acceptor = start(workers=1, keep_copies=copies)
    client = acceptor.connect("s1")
    worker = acceptor.workers[0]
    for _ in range(MOST_ATTEMPTS):
        assert client.status() == 0
        assert len(worker.handed()) == 1
        acceptor.bury(worker)
        worker = acceptor.start(0)
    assert not worker.handed()
    assert client.status() == 503


@pytest.mark.parametrize("more", [b"", request("s1")], ids=["silent", "pipelining"])
def test_what_was_read_before_it_was_taken_is_looked_for(start, more):
    """Without copies: the rest of what was sent must not go to another worker."""
    acceptor = start(keep_copies=False)
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].handed()
    one.read()
    client.send(more)
    acceptor.bury(acceptor.workers[0])
    assert not acceptor.start(0).handed()
    assert (client.is_ended(), client.received) == (True, b"")
    assert acceptor.counts["lost"] == 1


def test_connection_that_was_taken_dies_with_its_worker_without_copies(start):
    """The kernel ends it: nobody else has it."""
    acceptor = start(keep_copies=False)
    client = acceptor.connect("s1")
    acceptor.workers[0].take_all()
    acceptor.turn()
    assert acceptor.copies() == 0
    acceptor.bury(acceptor.workers[0])
    assert client.is_ended()


def test_last_words_of_a_dead_worker_are_heard(start):
    """All of them: what it gave back a moment ago is no connection that it had."""
    acceptor = start()
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.read()
    for _ in range(200):
        one.worker.say(Release(b"nothing"))
    one.give_back(KEY + b"s2")
    acceptor.bury(acceptor.workers[0])
    (again,) = acceptor.workers[1].take_all()
    assert (again.consumed, again.key) == (request("s1"), KEY + b"s2")
    assert "orphaned" not in acceptor.counts
    again.answer_rest()
    assert client.status() == 200


def test_worker_that_closes_its_channel_gets_nothing_more(start):
    """It has seconds to leave, and is ended then; its connections wait for its end."""
    acceptor = start()
    client = acceptor.connect("s1")
    worker = acceptor.workers[0]
    (one,) = worker.take_all()
    acceptor.turn()
    worker.channel.hang_up()
    acceptor.turn()
    acceptor.connect("s1")
    acceptor.connect()
    assert len(acceptor.workers[1].take_all()) == 1
    acceptor.clock.advance(4.9)
    assert not worker.process.killed
    acceptor.clock.advance(0.2)
    assert worker.process.killed
    assert not acceptor.start(1).handed()
    one.answer()
    assert client.status() == 200
    acceptor.bury(worker)


@pytest.mark.parametrize("finishes", [True, False], ids=["finishes", "does not"])
def test_worker_that_nothing_can_be_said_to_may_finish(start, finishes):
    """It is ended when it answers nobody, or seconds later; it is not to blame."""
    acceptor = start()
    worker = acceptor.workers[0]
    client = acceptor.connect("s1")
    (one,) = worker.take_all()
    one.read()
    one.begin()
    acceptor.turn()
    with acceptor.passing_nothing(worker):
        other = acceptor.connect("s1")
        acceptor.turn()
        acceptor.clock.advance(1.0)
        assert not worker.process.killed
        if finishes:
            one.write(b"answer")
            one.settle()
        acceptor.clock.advance(0.1 if finishes else 4.1)
        assert worker.process.killed
        acceptor.bury(worker)
    others = (acceptor.start(0), acceptor.workers[1])
    ids = {each.id for worker in others for each in worker.take_all()}
    assert len(ids) == 1 + finishes
    assert (one.id in ids) == finishes
    assert (client.status() == 502) != finishes
    assert other.status() == 0
    assert "lost" not in acceptor.counts
