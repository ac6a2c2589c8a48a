"""
What a successor gets: every connection, wherever it stands when the snapshot is made.

The acceptor is real and in this process (acceptor_kit.py). Its successor has nothing
but the snapshot, as text, and the descriptors.
"""

import pytest

from acceptor_kit import request
from channel_kit import room_for
from maitred.wire.messages import Answer, Ask, Claim, Drain, Reason, Relieve, Revoke

KEY = b"header:x-session="


def served(acceptor, *clients):
    """Have workers serve whatever they are handed, and see that *clients* are."""
    for _ in range(9):
        acceptor.clock.advance(0.01)
        for worker in acceptor.workers:
            worker.told()
            for each in worker.take_all():
                if not each.handoff.idle:
                    each.answer() if not each.consumed else each.answer_rest()
    return [client.status() for client in clients] == [200] * len(clients)


def test_connection_that_is_peeked_at_goes_on(start):
    """Also what came before the successor looks."""
    acceptor = start()
    one, other = (acceptor.open().send(request("s1")[:9]) for _ in range(2))
    acceptor.turn()
    one.send(request("s1")[9:])
    acceptor.upgrade()
    other.send(request("s1")[9:])
    assert served(acceptor, one, other)


def test_deadline_of_a_head_goes_on(start):
    """It is not begun anew."""
    acceptor = start(head_timeout=10.0)
    client = acceptor.open().send(b"GET /")
    acceptor.turn()
    acceptor.clock.advance(6.0)
    acceptor.upgrade()
    acceptor.clock.advance(3.9)
    assert not client.is_ended()
    acceptor.clock.advance(0.2)
    assert client.status() == 408


@pytest.mark.parametrize("session", [None, "s1"], ids=["lobby", "queue"])
def test_connection_that_waits_for_room_goes_on(start, session):
    """It is placed when there is room, and has its deadline."""
    acceptor = start(workers=1, window=1)
    for _ in range(3):
        acceptor.connect(session)
        acceptor.turn()
    (one,) = acceptor.workers[0].handed()
    acceptor.clock.advance(20.0)
    acceptor.upgrade()
    acceptor.turn()
    assert acceptor.report()["waiting"] == (2 if session else 1)
    one.take().answer()
    (two,) = acceptor.workers[0].handed()
    acceptor.clock.advance(11.0)
    two.take().answer()
    statuses = [client.status() for client in acceptor.clients]
    assert statuses[:2] == [200, 200]
    assert statuses[2] == (503 if session else 0)


def test_worker_that_is_to_end_when_it_has_answered_ends(start):
    """The successor has nothing for it, and waits no longer than its predecessor."""
    acceptor = start()
    worker = acceptor.workers[0]
    acceptor.connect("s1")
    (one,) = worker.take_all()
    one.read()
    one.begin()
    acceptor.turn()
    with acceptor.passing_nothing(worker):
        acceptor.connect("s1")
        acceptor.turn()
    acceptor.upgrade()
    acceptor.clock.advance(1.0)
    assert not worker.process.killed
    acceptor.clock.advance(4.1)
    assert worker.process.killed


def test_connection_that_was_refused_a_moment_ago_goes_on(start):
    """Its pause begins anew, and how often it was refused does not."""
    acceptor = start(workers=1)
    client = acceptor.connect("s1")
    worker = acceptor.workers[0]
    for _ in range(3):
        (one,) = worker.handed()
        one.refuse(Reason.WRONG_DESCRIPTOR)
        acceptor.turn()
        acceptor.upgrade()
        acceptor.clock.advance(0.06)
    (one,) = worker.handed()
    one.refuse(Reason.WRONG_DESCRIPTOR)
    acceptor.turn()
    acceptor.clock.advance(0.06)
    assert client.status() == 503


def test_connection_that_just_came_back_and_a_question_go_on(start):
    """Both were read from the channel, and nothing was done about them."""
    acceptor = start()
    client = acceptor.connect("s1")
    one, other = acceptor.workers
    (mine,) = one.take_all()
    mine.read()
    acceptor.turn()
    mine.give_back(KEY + b"s2")
    one.say(Ask(0, KEY + b"s3"))
    acceptor.listen(one)
    assert acceptor.report()["waiting"] == 1
    acceptor.upgrade()
    assert one.told() == [Answer(1, KEY + b"s3")]
    handed = one.take_all() + other.take_all()
    assert [each.consumed for each in handed] == [request("s1")]
    handed[0].answer_rest()
    assert client.status() == 200


def test_what_a_full_channel_holds_up_goes_on_in_its_order(start):
    """A connection, answers, revocations, and that it is relieved."""
    acceptor = start()
    one, other = acceptor.workers
    acceptor.connect("s1")
    (first,) = one.take_all()
    first.answer()
    one.fill()
    client = acceptor.connect("s1")
    acceptor.turn()
    other.say(Claim(60, 1, KEY + b"s1"))
    acceptor.turn()
    acceptor.relieve(0)
    acceptor.upgrade()
    heard = []
    for _ in range(9):
        heard += one.hear()
        acceptor.clock.advance(0.02)
    kinds = [type(each).__name__ for each in heard]
    assert kinds.count("Answer") == 60
    assert [each for each in kinds if each != "Answer"] == [
        "Served",
        "Revoke",
        "Relieve",
    ]
    assert heard[-2:] == [Revoke(KEY + b"s1"), Relieve(1)]
    heard[kinds.index("Served")].take().answer()
    assert client.status() == 200


def test_farewell_that_was_not_said_is_said(start):
    """The worker still learns that it is to leave."""
    acceptor = start()
    one = acceptor.workers[0]
    one.fill()
    acceptor.drain(one)
    acceptor.upgrade()
    heard = []
    for _ in range(9):
        heard += one.told()
        acceptor.clock.advance(0.02)
    assert heard[-1] == Drain(5000, 1)


def test_connections_of_workers_go_on_as_they_are(start):
    """One in flight, one taken with a copy, one without: each in its own way."""
    acceptor = start(workers=1)
    kept = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.turn()
    # The copy of the first gives way.
    spare = acceptor.connect("s1")
    with room_for(0):
        acceptor.turn()
    acceptor.clock.advance(0.1)
    (two,) = acceptor.workers[0].take_all()
    two.answer()
    acceptor.turn()
    flying = acceptor.connect("s1")
    (three,) = acceptor.workers[0].handed()
    acceptor.upgrade()
    assert acceptor.copies() == 1
    three.take().answer()
    acceptor.turn()
    assert acceptor.copies() == 2
    acceptor.connect("s1")
    (four,) = acceptor.workers[0].handed()
    assert len({each.handoff.mark for each in (one, two, three, four)}) == 4
    four.take().answer().close()
    for client, each in ((kept, one), (spare, two), (flying, three)):
        assert client.status() == 200
        client.send(request("s1"))
        each.answer()
        assert client.hears().count(b"200 OK") == 2
    acceptor.bury(acceptor.workers[0])
    again = acceptor.start(0).take_all()
    assert {each.id for each in again} == {two.id, three.id}
    assert kept.is_ended()


def test_copies_are_bounded_by_the_successor_too(start):
    """It knows how many it has from its first moment on."""
    acceptor = start(workers=1)
    for count in (2, 2):
        acceptor.bound(copies=2)
        for _ in range(count):
            acceptor.connect("s1")
            acceptor.workers[0].take_all()
        acceptor.turn()
        assert acceptor.copies() == 2
        acceptor.upgrade()


def test_client_that_reads_its_refusal_may_finish(start):
    """It is not cut off, and not kept for longer than before."""
    acceptor = start()
    client = acceptor.open().send(b"NONSENSE\r\n\r\n" * 9)
    acceptor.turn()
    acceptor.upgrade()
    client.send(b"more")
    assert client.status() == 400
    acceptor.clock.advance(2.1)
    client.leave()
    assert acceptor.counts["refused"] == {"bad_request": 1}


def test_names_go_on(start):
    """What clients made, what was claimed, and what their slots were told."""
    acceptor = start(workers=3)
    *_, other = acceptor.workers
    other.say(Claim(60, 1, b"header:x-made=n1"), Claim(60, 0, KEY + b"s1"))
    acceptor.turn()
    acceptor.upgrade()
    acceptor.connect(made="n1")
    acceptor.connect("s1")
    assert len(other.take_all()) == 2
    acceptor.upgrade()
    acceptor.bury(other)
    acceptor.connect(made="n1")
    anew = [each for worker in acceptor.workers[:2] for each in worker.handed()]
    assert [(each.key, each.handoff.once) for each in anew] == [
        (b"header:x-made=n1", 1)
    ] * 2


def test_state_of_slots_goes_on(start):
    """Who is relieved, and how many may still be handed over."""
    acceptor = start(window=1)
    one, other = acceptor.workers
    acceptor.relieve(0)
    for _ in range(2):
        acceptor.connect()
        acceptor.turn()
    (first,) = other.handed()
    acceptor.upgrade()
    acceptor.turn()
    assert not one.handed()
    assert not other.handed()
    first.take()
    assert len(other.take_all()) == 1


def test_worker_that_closed_its_channel_is_ended_by_the_successor(start):
    """Its seconds to leave begin anew, and it is handed nothing."""
    acceptor = start()
    one, other = acceptor.workers
    one.channel.hang_up()
    acceptor.turn()
    acceptor.upgrade()
    acceptor.connect()
    assert len(other.take_all()) == 1
    acceptor.clock.advance(5.1)
    assert one.process.killed
