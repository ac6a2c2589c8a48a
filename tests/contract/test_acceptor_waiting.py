"""
Who waits in an acceptor, for what, how long at most, and who goes on first.

The acceptor is real and in this process (acceptor_kit.py); its time is set by hand.
"""

import pytest

TIMEOUT = 30.0
"Seconds that a connection waits for room, by default."
LOOK = 0.5
"Seconds after its deadline at which it is answered, at the latest."


def test_worker_is_handed_no_more_ahead_than_its_window(start):
    """The next one comes when it has taken one."""
    acceptor = start(window=2)
    clients = [acceptor.connect("s1") for _ in range(3)]
    worker = acceptor.workers[0]
    first, second = worker.handed()
    assert acceptor.report()["slots"][0]["queued"] == 1
    first.take()
    (third,) = worker.handed()
    for each in (second, third):
        each.take()
    for each in (first, second, third):
        each.answer()
    assert [client.status() for client in clients] == [200] * 3


def test_refusal_frees_the_window_too(start):
    """What a worker does not have does not count against it."""
    acceptor = start(window=1, workers=1)
    for _ in range(2):
        acceptor.connect("s1")
    worker = acceptor.workers[0]
    (one,) = worker.handed()
    one.refuse(3)
    (other,) = worker.handed()
    assert other.id != one.id


def test_queue_of_one_slot_takes_half_of_what_may_wait(start):
    """The rest is answered at once, and whoever belongs elsewhere is served."""
    acceptor = start(window=1, max_waiting=4)
    clients = [acceptor.connect("s1") for _ in range(5)]
    other = acceptor.connect("s2")
    assert [client.status() for client in clients] == [0, 0, 0, 503, 503]
    for each in acceptor.workers[1].take_all():
        each.answer()
    assert other.status() == 200
    assert acceptor.counts["refused"] == {"no_worker": 2}


def test_no_more_wait_in_all_than_may(start):
    """Queues that are short each may be too long together."""
    acceptor = start(window=1, workers=3, max_waiting=4)
    for session in ("s1", "s2", "s3"):
        acceptor.connect(session)
    waiting = [acceptor.connect(s) for s in ("s1", "s1", "s2", "s2")]
    late = acceptor.connect("s3")
    assert late.status() == 503
    assert [client.status() for client in waiting] == [0] * 4


def test_nobody_is_accepted_while_somebody_waits_for_any_worker(start):
    """The kernel's backlog waits better; who waited first goes on first."""
    acceptor = start(window=1)
    for _ in range(3):
        acceptor.connect()
    one, other = acceptor.workers
    handed = one.handed() + other.handed()
    assert len(handed) == 2
    acceptor.connect()
    acceptor.turn()
    assert (acceptor.report()["waiting"], acceptor.counts["accepted"]) == (1, 3)
    handed[0].take()
    assert len(one.handed()) == 1
    assert (acceptor.report()["waiting"], acceptor.counts["accepted"]) == (1, 4)


@pytest.mark.parametrize("session", [None, "s1"], ids=["lobby", "queue"])
def test_wait_ends_at_its_deadline_and_not_before(start, session):
    """The client is told so, and whoever came later waits on."""
    acceptor = start(window=1, workers=1)
    acceptor.connect(session)
    waiting = acceptor.connect(session)
    acceptor.clock.advance(TIMEOUT - 0.1)
    assert waiting.status() == 0
    later = acceptor.connect(session)
    acceptor.clock.advance(0.1 + LOOK)
    assert (waiting.status(), waiting.is_ended()) == (503, True)
    assert (later.status(), acceptor.report()["waiting"]) == (0, 1)
    assert acceptor.counts["refused"] == {"no_worker": 1}


def test_room_that_comes_before_the_deadline_is_used(start):
    """At the last moment too."""
    acceptor = start(window=1)
    acceptor.connect("s1")
    waiting = acceptor.connect("s1")
    (one,) = acceptor.workers[0].handed()
    acceptor.clock.advance(TIMEOUT - 0.1)
    one.take()
    (other,) = acceptor.workers[0].take_all()
    other.answer()
    acceptor.clock.advance(TIMEOUT)
    assert waiting.status() == 200


def test_time_in_which_the_acceptor_stood_still_is_no_waiting(start):
    """Nobody could be handed over then: the deadline moves by as much."""
    acceptor = start(window=1)
    acceptor.connect("s1")
    waiting = acceptor.connect("s1")
    acceptor.turn()
    acceptor.clock.advance(TIMEOUT - 1)
    acceptor.clock.stand_still(100.0)
    acceptor.clock.advance(0.4)
    assert waiting.status() == 0
    acceptor.clock.advance(1 + LOOK)
    assert waiting.status() == 503


def test_head_that_does_not_come_is_refused_at_its_deadline(start):
    """Half of one is answered, and silence is not."""
    acceptor = start(head_timeout=10.0)
    half, silent = acceptor.open().send(b"GET / HT"), acceptor.open()
    acceptor.turn()
    assert acceptor.report()["peeking"] == 2
    acceptor.clock.advance(9.9)
    assert not half.is_ended()
    assert not silent.is_ended()
    acceptor.clock.advance(0.2)
    assert (half.status(), silent.hears()) == (408, b"")
    assert silent.is_ended()


def test_full_channel_is_tried_again(start):
    """Nothing waits for news that never comes: a timer is enough."""
    acceptor = start()
    worker = acceptor.workers[0]
    client = acceptor.connect("s1")
    (one,) = worker.take_all()
    worker.fill()
    other = acceptor.connect("s1")
    acceptor.turn()
    assert acceptor.report()["workers"][0]["in_flight"] == 1
    worker.told()
    assert not worker.handed()
    acceptor.clock.advance(0.01)
    (two,) = worker.take_all()
    one.answer()
    two.answer()
    assert (client.status(), other.status()) == (200, 200)


def test_connection_that_a_full_channel_holds_up_has_a_deadline(start):
    """It is answered, and its place in the window is free again."""
    acceptor = start(window=1)
    worker = acceptor.workers[0]
    acceptor.connect("s1")
    worker.take_all()
    worker.fill()
    waiting = acceptor.connect("s1")
    acceptor.clock.advance(TIMEOUT - 0.1)
    assert waiting.status() == 0
    acceptor.clock.advance(0.1 + LOOK)
    assert waiting.status() == 503
    worker.told()
    acceptor.clock.advance(1.0)
    worker.told()
    acceptor.connect("s1")
    assert len(worker.handed()) == 1


def test_client_that_is_refused_may_go_on_sending_for_a_moment(start):
    """An RST would destroy the answer before it is read; then it has to be enough."""
    acceptor = start()
    client = acceptor.open().send(b"NONSENSE\r\n\r\n")
    assert client.status() == 400
    acceptor.clock.advance(1.9)
    client.send(b"more")
    assert not client.is_reset()
    acceptor.clock.advance(0.2)
    client.send(b"more")
    assert client.is_reset()
