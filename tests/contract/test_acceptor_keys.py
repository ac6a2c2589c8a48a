"""
Whose a session is: claims, questions and revocations, in every order.

The acceptor is real and in this process (acceptor_kit.py); its time is set by hand.
"""

import pytest

from acceptor_kit import request
from maitred.wire.messages import Answer, Ask, Claim, Drained, Release, Revoke
from scripted_worker import Served

MADE, SENT = b"header:x-made=", b"header:x-session="
"Before names that the application makes, and before names that clients make."


def test_claim_is_heard_before_the_client_can_use_the_name(start):
    """The claim is in the channel, unread, when the connection is placed."""
    acceptor = start(workers=3)
    claimer = acceptor.workers[2]
    client = acceptor.open()
    claimer.say(Claim(60, 1, MADE + b"n1"))
    client.send(request(made="n1"))
    (one,) = claimer.handed()
    assert (one.key, one.handoff.once) == (MADE + b"n1", 0)


def test_name_that_nobody_has_claimed_is_placed_for_one_request(start):
    """Nothing is remembered, and the worker is told so."""
    acceptor = start()
    for worker in acceptor.workers:
        acceptor.connect(made="n1")
        (one,) = worker.take_all()
        assert (one.key, one.handoff.once) == (MADE + b"n1", 1)
    assert acceptor.report()["keys"] == 0


def test_name_that_the_client_made_is_its_slots_from_the_first_request_on(start):
    """Claimed or not."""
    acceptor = start()
    for _ in range(3):
        acceptor.connect("s1")
    handed = acceptor.workers[0].take_all()
    assert [each.handoff.once for each in handed] == [0, 0, 0]


@pytest.mark.parametrize("made", [1, 0], ids=["made", "handed over"])
def test_last_of_two_who_claim_a_name_has_it_if_its_application_made_it(start, made):
    """Whoever does not have it is told so, whether it had it or wanted it."""
    acceptor = start()
    one, other = acceptor.workers
    one.say(Claim(60, 1, SENT + b"s1"))
    other.say(Claim(60, made, SENT + b"s1"))
    owner, loser = (other, one) if made else (one, other)
    assert loser.told() == [Revoke(SENT + b"s1")]
    assert owner.told() == []
    acceptor.connect("s1")
    assert len(owner.handed()) == 1
    assert not loser.handed()


def test_revocation_comes_after_connections_and_answers(start):
    """What was promised before a name is lost is kept."""
    acceptor = start()
    one, other = acceptor.workers
    acceptor.connect("s1")
    one.take_all()
    one.fill()
    acceptor.connect("s1")
    acceptor.turn()
    one.say(Ask(0, SENT + b"s1"))
    acceptor.turn()
    other.say(Claim(60, 1, SENT + b"s1"))
    acceptor.turn()
    heard = []
    for _ in range(9):
        heard += one.hear()
        acceptor.clock.advance(0.01)
    last = [each for each in heard if getattr(each, "key", b"")[:1] != b"k"]
    handed, answer, revoke = last
    assert isinstance(handed, Served)
    assert handed.key == SENT + b"s1"
    assert (answer, revoke) == (Answer(1, handed.key), Revoke(handed.key))


@pytest.mark.parametrize(
    ("key", "yes", "stays"),
    [
        (SENT + b"s1", 1, True),
        (SENT + b"s2", 0, True),
        (SENT + b"s9", 1, True),
        (MADE + b"n9", 1, False),
    ],
    ids=["its own", "another's", "nobody's", "nobody's, to be claimed"],
)
def test_worker_that_asks_is_answered(start, key, yes, stays):
    """A name that nobody has is its own from now on, if clients make such names."""
    acceptor = start()
    one, other = acceptor.workers
    for worker, session in ((one, b"s1"), (other, b"s2")):
        worker.say(Claim(60, 0, SENT + session))
        acceptor.turn()
    before = acceptor.report()["keys"]
    one.say(Ask(int(key.startswith(MADE)), key))
    assert one.told() == [Answer(yes, key)]
    known = key in {SENT + b"s1", SENT + b"s2"}
    assert acceptor.report()["keys"] == before + (stays and not known)


def test_claim_of_another_worker_is_heard_before_an_answer(start):
    """It was sent before the client could know the name."""
    acceptor = start(workers=3)
    asking, _, claiming = acceptor.workers
    asking.say(Ask(1, MADE + b"n1"))
    acceptor.listen(asking)
    claiming.say(Claim(60, 1, MADE + b"n1"))
    acceptor.settle()
    assert asking.told() == [Answer(0, MADE + b"n1")]


def test_name_that_is_over_is_anybodys(start):
    """The policy chooses anew, if it was its owner who said so."""
    acceptor = start()
    one, other = acceptor.workers
    acceptor.connect("s1")
    one.take_all()
    other.say(Release(SENT + b"s1"))
    acceptor.connect("s1")
    assert len(one.take_all()) == 1
    one.say(Release(SENT + b"s1"))
    acceptor.turn()
    acceptor.connect("s1")
    assert len(other.take_all()) == 1


def test_what_an_application_made_dies_with_it(start):
    """And what clients made stays with its slot, whoever fills that."""
    acceptor = start()
    one, other = acceptor.workers
    one.say(Claim(60, 1, MADE + b"n1"))
    acceptor.connect("s1")
    one.take_all()
    acceptor.bury(one)
    acceptor.connect("s1")
    acceptor.connect(made="n1")
    (anew,) = other.take_all()
    assert (anew.key, anew.handoff.once) == (MADE + b"n1", 1)
    new = acceptor.start(0)
    assert {each.key for each in new.take_all()} == {SENT + b"s1"}


def test_claim_of_a_worker_that_has_left_its_slot_counts_for_nothing(start):
    """Nobody could find it by that name."""
    acceptor = start()
    old, new = acceptor.workers[0], acceptor.start(0)
    acceptor.promote(new)
    acceptor.drain(old)
    old.say(Claim(60, 1, MADE + b"n1"))
    old.say(Drained(0))
    acceptor.turn()
    assert acceptor.report()["keys"] == 0
    assert "claims" not in acceptor.counts


def test_whoever_waits_for_a_name_follows_it(start):
    """To whom it belongs now, and past those who wait for another."""
    acceptor = start(window=1)
    one, other = acceptor.workers
    for session in ("s1", "s1", "s1"):
        acceptor.connect(session)
    (first,) = one.handed()
    other.say(Claim(60, 0, SENT + b"s3"), Claim(60, 1, SENT + b"s1"))
    (second,) = other.take_all()
    (third,) = other.take_all()
    assert {each.key for each in (second, third)} == {SENT + b"s1"}
    assert first.id not in {second.id, third.id}
    assert one.told() == [Revoke(SENT + b"s1")]


def test_name_expires_on_the_clock(start):
    """Its time is what the claim says, from its last use on."""
    acceptor = start()
    one, other = acceptor.workers
    other.say(Claim(60, 1, MADE + b"n1"))
    acceptor.turn()
    acceptor.clock.advance(59.9)
    acceptor.connect(made="n1")
    assert len(other.take_all()) == 1
    acceptor.clock.advance(60.1)
    acceptor.connect(made="n1")
    (one_time,) = one.take_all() + other.take_all()
    assert one_time.handoff.once == 1
