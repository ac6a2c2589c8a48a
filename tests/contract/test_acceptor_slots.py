"""
Slots that change hands: workers that leave, retire, are relieved, and slots that go.

The acceptor is real and in this process (acceptor_kit.py); its time is set by hand.
"""

from acceptor_kit import request
from maitred.wire.messages import Answer, Drain, Quit, Relieve, Retire, Revoke

KEY = b"header:x-session="


def test_successor_gets_what_its_predecessor_was_not_sent(start):
    """And what waited for the slot."""
    acceptor = start(window=1)
    old, new = acceptor.workers[0], acceptor.start(0)
    acceptor.connect("s1")
    old.take_all()
    old.fill()
    for _ in range(2):
        acceptor.connect("s1")
    acceptor.turn()
    acceptor.promote(new)
    (one,) = new.take_all()
    (other,) = new.take_all()
    assert one.id != other.id


def test_worker_that_is_to_leave_is_told_so_last(start):
    """After all that it was handed before; then it is handed nothing any more."""
    acceptor = start(workers=1)
    old, new = acceptor.workers[0], acceptor.start(0)
    acceptor.connect("s1")
    old.take_all()
    old.fill()
    acceptor.turn()
    heard = []
    acceptor.drain(old)
    for _ in range(9):
        heard += old.told()
        acceptor.clock.advance(0.01)
    assert [type(each) for each in heard] == [Answer] * 60 + [Drain]
    acceptor.promote(new)
    acceptor.connect("s1")
    assert len(new.handed()) == 1
    assert not old.handed()


def test_quit_is_said_to_a_worker_that_is_to_leave_at_once(start):
    """Without a successor its slot is empty, and its sessions wait."""
    acceptor = start()
    acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    acceptor.quit(acceptor.workers[0])
    assert acceptor.workers[0].told() == [Quit()]
    waiting = acceptor.connect("s1")
    acceptor.turn()
    assert acceptor.report()["slots"][0]["queued"] == 1
    (two,) = acceptor.start(0).take_all()
    two.answer()
    assert waiting.status() == 200
    one.close()


def test_retired_worker_keeps_its_sessions_and_gets_nothing_else(start):
    """Two generations serve side by side, each in slots of its own."""
    acceptor = start(workers=1, drain="sessions")
    old = acceptor.workers[0]
    acceptor.connect("s1")
    assert len(old.take_all()) == 1
    new = acceptor.start(1)
    acceptor.turn()
    acceptor.admit(1)
    acceptor.retire(old)
    assert old.told() == [Retire()]
    for session in ("s1", "s2", None):
        acceptor.connect(session)
    (again,) = old.take_all()
    assert again.key == KEY + b"s1"
    assert [each.key for each in new.take_all()] == [KEY + b"s2", b""]


def test_sessions_of_a_retired_worker_that_is_dead_begin_anew(start):
    """Nobody will fill its slot again: whoever waits for it goes elsewhere."""
    acceptor = start(workers=1, drain="sessions", window=1)
    old = acceptor.workers[0]
    for _ in range(2):
        acceptor.connect("s1")
    assert len(old.take_all()) == 1
    (one,) = old.handed()
    new = acceptor.start(1)
    acceptor.turn()
    acceptor.admit(1)
    acceptor.retire(old)
    waiting = acceptor.connect("s1")
    acceptor.turn()
    acceptor.bury(old)
    ids = [each.id for _ in range(3) for each in new.take_all()]
    assert len(ids) == 3
    assert one.id in ids
    assert waiting.status() == 0


def test_slot_that_nobody_fills_any_more_is_given_up(start):
    """Whoever waits for it does not wait for its deadline."""
    acceptor = start()
    acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.bury(acceptor.workers[0])
    acceptor.connect("s1")
    acceptor.turn()
    assert acceptor.report()["slots"][0]["queued"] == 1
    acceptor.abandon(0)
    assert [each.key for each in acceptor.workers[1].handed()][-1] == KEY + b"s1"


def test_relieved_slot_gets_nothing_new(start):
    """Its sessions still come, until everything does again."""
    acceptor = start()
    one, other = acceptor.workers
    acceptor.connect("s1")
    one.take_all()
    acceptor.relieve(0)
    assert one.told() == [Relieve(1)]
    for session in ("s1", "s2", None):
        acceptor.connect(session)
    assert [each.key for each in one.take_all()] == [KEY + b"s1"]
    assert [each.key for each in other.take_all()] == [KEY + b"s2", b""]
    acceptor.relieve(0, relieved=False)
    assert one.told() == [Relieve(0)]
    for _ in range(2):
        acceptor.connect()
    assert len(one.take_all()) == len(other.take_all()) == 1


def test_new_worker_of_a_relieved_slot_is_told_so(start):
    """What an operator says holds for the slot, whoever fills it."""
    acceptor = start()
    acceptor.relieve(0)
    acceptor.bury(acceptor.workers[0])
    assert acceptor.start(0).told() == [Relieve(1)]


def test_sessions_that_move_leave_a_relieved_slot(start):
    """Its worker freezes them: it is told that it has lost them."""
    acceptor = start(workers=1)
    moving = acceptor.start(1, ready=False)
    acceptor.resize(2)
    moving.ready(moves=True)
    acceptor.turn()
    for session in ("s1", "s2"):
        acceptor.connect(session)
    (mine,) = moving.take_all()
    acceptor.relieve(1)
    said = moving.told()
    assert sorted(map(type, said), key=repr) == [Relieve, Revoke]
    assert Revoke(mine.key) in said
    acceptor.connect(mine.key.removeprefix(KEY).decode())
    assert not moving.handed()


def test_new_slot_gets_its_share(start):
    """As soon as its worker is ready."""
    acceptor = start(workers=1)
    acceptor.resize(2)
    acceptor.start(1)
    for _ in range(2):
        acceptor.connect()
    third = acceptor.start(2)
    acceptor.resize(3)
    for _ in range(3):
        acceptor.connect()
    assert len(third.handed()) == 1


def test_what_belongs_to_a_slot_that_is_closed_goes_elsewhere(start):
    """Whoever waits for it is placed anew, with its worker dead or alive."""
    acceptor = start(workers=3, window=1)
    first, alive, dead = acceptor.workers
    for session in ("s1", "s2", "s3"):
        acceptor.connect(session)
    for each in (first, alive, dead):
        for served in each.take_all():
            served.answer()
    acceptor.bury(dead)
    for session in ("s2", "s2", "s3"):
        acceptor.connect(session)
    acceptor.turn()
    queued = [slot["queued"] for slot in acceptor.report()["slots"]]
    assert queued == [0, 1, 1]
    acceptor.quit(alive)
    acceptor.resize(1)
    alive.handed()[0].refuse(2)
    keys = [each.key for _ in range(9) for each in first.take_all()]
    assert sorted(keys) == [b"", *(KEY + s for s in (b"s2", b"s2", b"s3"))]


def test_stop_answers_who_waits_and_places_what_can_be(start):
    """Nobody is left without an answer, and what is handed over is served."""
    acceptor = start(window=1)
    served, queued = acceptor.connect("s1"), acceptor.connect("s1")
    half = acceptor.open().send(b"GET / HT")
    acceptor.connect("s2")
    (one,) = acceptor.workers[0].handed()
    lobby = acceptor.connect()
    acceptor.turn()
    acceptor.stop()
    assert (queued.status(), lobby.status()) == (503, 503)
    assert (half.hears(), half.is_ended()) == (b"", True)
    one.take().answer()
    assert served.status() == 200
    assert acceptor.counts["refused"] == {"stopping": 2}
    # What comes back from now on goes on if somebody has room, and is answered if not.
    served.send(request("s9"))
    one.read()
    one.give_back(KEY + b"s9")
    (again,) = acceptor.workers[0].take_all()
    again.pending = again.consumed
    assert again.consumed == request("s9")


def test_part_of_a_head_that_comes_back_after_a_stop_is_handed_on(start):
    """Nobody waits for the rest of it here any more."""
    acceptor = start(workers=1)
    acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    one.answer()
    acceptor.clients[0].send(b"GET /")
    one.read()
    acceptor.stop()
    one.give_back()
    (again,) = acceptor.workers[0].take_all()
    assert (again.consumed, again.key) == (b"GET /", b"")


def test_what_comes_back_after_a_stop_and_finds_no_room_is_answered(start):
    """It would have waited; now there is nothing to wait for."""
    acceptor = start(window=1, workers=1)
    client = acceptor.connect("s1")
    (one,) = acceptor.workers[0].take_all()
    acceptor.connect("s1")
    acceptor.turn()
    acceptor.stop()
    one.read()
    one.give_back(KEY + b"s1")
    assert client.status() == 503
    assert acceptor.counts["refused"] == {"stopping": 1}
