"""
A worker that lies on its channel and its scoreboard, before a real acceptor.

Whatever the worker says, no exception leaves the acceptor, no other worker is touched,
and what the acceptor keeps stays small.
"""

import contextlib
import os
import random
import socket

import pytest

from acceptor_kit import MOST_HOPS, request
from channel_kit import packet
from maitred import ChannelFull, Descriptor
from maitred.wire.messages import (
    Ask,
    Attach,
    Claim,
    Closed,
    Drained,
    Failed,
    Have,
    Ready,
    Refused,
    Release,
    Revoke,
    Taken,
)

LIES = int(os.environ.get("MAITRED_TESTS_LIES", "400")) // 4
"Messages that are told in each of four tests."
HUGE = (1 << 64) - 1
KEY = b"header:x-session="
THEIRS = KEY + b"theirs"


class Scene:
    """An acceptor with a liar and an honest worker."""

    def __init__(self, acceptor):
        self.acceptor = acceptor
        self.liar, self.other = acceptor.workers
        self.liar.say(Claim(3600, 0, KEY + b"mine"))
        self.other.say(Claim(3600, 0, THEIRS))
        self.turn()

    def turn(self):
        """Let the acceptor do all that there is to do."""
        self.acceptor.turn()

    def succeed(self):
        """Have the honest worker get what is its own, and another liar begin."""
        self.other.say(Claim(3600, 1, THEIRS))
        self.check()
        self.acceptor.bury(self.liar)
        self.liar = self.acceptor.start(0)
        self.liar.say(Claim(3600, 1, KEY + b"mine"))
        self.turn()

    def take(self, session="mine"):
        """Have the liar take a connection; return that."""
        self.client = self.acceptor.connect(session)
        (one,) = self.liar.take_all()
        self.turn()
        return one

    @property
    def is_over(self):
        """Whether the liar was ended."""
        self.turn()
        return self.liar.process.killed

    def check(self):
        """See that the honest worker is alive, and gets what is its own."""
        self.acceptor.turn()
        assert not self.other.process.killed
        for each in self.other.take_all():
            each.close()
        self.acceptor.connect("theirs")
        (theirs,) = self.other.take_all()
        assert theirs.key == THEIRS
        theirs.close()


@pytest.fixture
def scene(start, caplog):
    """A scene, in which the honest worker is served to the end."""
    scene = Scene(start(max_keys=1000, max_key_bytes=512_000))
    yield scene
    scene.check()
    assert "cannot be heeded" not in caplog.text


LIES_OF_A_RETURN = {
    "more unread than was read": ({"unread": b"x" * 10}, {"position": 3}),
    "a position beyond every number": ({}, {"position": HUGE}),
    "more written than can be": ({}, {"written": HUGE}),
    "an endless address": ({"peer": b"1" * 1000}, {}),
    "an address that is none": ({"peer": b"\xff\xfe"}, {}),
    "more than a handoff holds": ({"frozen": b"x" * 130_800}, {}),
}


@pytest.mark.parametrize("lie", LIES_OF_A_RETURN)
def test_return_that_cannot_be_ends_its_worker_alone(scene, lie):
    """The acceptor goes on, and the descriptor is closed."""
    changes, mark = LIES_OF_A_RETURN[lie]
    one = scene.take()
    at = one.handoff.mark * 8
    scene.liar.board.words[at + 1] = mark.get("position", 100)
    scene.liar.board.words[at + 3] = mark.get("written", 0)
    one.give_back(THEIRS, **changes)
    assert scene.is_over


def test_honest_return_goes_to_its_owner(scene):
    """The same scene without a lie: the connection is the other worker's."""
    one = scene.take()
    one.read()
    one.give_back(THEIRS, hops=MOST_HOPS)
    (again,) = scene.other.take_all()
    assert (again.id, again.consumed) == (one.id, request("mine"))
    assert again.handoff.hops == MOST_HOPS
    assert not scene.is_over


@pytest.mark.parametrize("answer", [Taken, Refused])
@pytest.mark.parametrize("whose", ["nobody's", "taken before", "another worker's"])
def test_answer_for_what_it_was_not_handed_ends_a_worker(scene, answer, whose):
    """And whoever has that connection keeps it."""
    ids = {"nobody's": 12345, "taken before": scene.take().id}
    scene.acceptor.connect("mine")
    assert len(scene.liar.handed()) == 1
    scene.acceptor.connect("theirs")
    (theirs,) = scene.other.handed()
    ids["another worker's"] = theirs.id
    scene.liar.say(answer(ids[whose], *[1] * (answer is Refused)))
    assert scene.is_over
    theirs.take().answer()
    assert scene.acceptor.clients[-1].status() == 200


def test_end_of_what_it_does_not_have_is_no_news(scene):
    """A worker may say CLOSED of what was forgotten; nothing comes of it."""
    scene.acceptor.connect("theirs")
    (theirs,) = scene.other.take_all()
    scene.liar.say(Closed(theirs.id), Closed(12345))
    assert not scene.is_over
    assert scene.acceptor.copies() == 1
    theirs.answer()
    assert scene.acceptor.clients[-1].status() == 200


@pytest.mark.parametrize("packets", [1, 2])
def test_connection_is_given_back_once(scene, packets):
    """The second time it is not the worker's any more; its new owner has it."""
    one = scene.take()
    one.read()
    often = [one.returning(key=THEIRS)] * 3
    for said in (often,) if packets == 1 else (often[:1], often[1:]):
        scene.liar.say(*said)
        scene.turn()
    one.drop()
    assert scene.is_over
    (again,) = scene.other.take_all()
    again.answer_rest()
    assert scene.client.status() == 200


def test_connection_in_flight_is_given_back_by_nobody(scene):
    """It was not taken, so it cannot be returned."""
    scene.acceptor.connect("mine")
    (one,) = scene.liar.handed()
    one.give_back(THEIRS)
    assert scene.is_over


@pytest.mark.parametrize(
    "what",
    [
        "a file",
        "an eventfd",
        "another socket",
        "a datagram socket",
        "a Unix socket",
        "a listener",
    ],
)
def test_return_with_another_descriptor_ends_its_worker(scene, what):
    """Nothing is done with it but to close it."""
    makers = {
        "a file": lambda: Descriptor(os.memfd_create("none")),
        "an eventfd": lambda: Descriptor(os.eventfd(0)),
        "another socket": socket.socket,
        "a datagram socket": lambda: socket.socket(type=socket.SOCK_DGRAM),
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "a listener": lambda: socket.create_server(("127.0.0.1", 0)),
    }
    one = scene.take()
    foreign = makers[what]()
    scene.liar.say(one.returning(connection=foreign, key=THEIRS))
    foreign.close()
    assert scene.is_over
    one.drop()


def test_return_with_another_workers_connection_ends_its_worker(scene):
    """It may have a copy of that, from before; it is not its to give."""
    scene.acceptor.connect("theirs")
    (theirs,) = scene.other.take_all()
    one = scene.take()
    scene.liar.say(theirs.returning(key=KEY + b"mine"))
    assert scene.is_over
    one.drop()
    theirs.answer()
    assert scene.acceptor.clients[0].status() == 200


GARBAGE = {
    "no packet": b"\0",
    "another version": packet(3, b"\0" * 8, version=99),
    "a message of the master": packet(1),
    "no message": packet(77),
    "half a record": packet(3, b"\0" * 5),
    "more records than bytes": packet(3, b"\0" * 8, records=60_000),
    "a length that is none": packet(3, b"\0" * 8, length=1 << 30),
    "a descriptor that is not there": packet(3, b"\0" * 8, descriptors=1),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_ends_its_worker_alone(scene, garbage):
    """What it has by then it keeps, for as long as it lives."""
    one = scene.take()
    scene.liar.say_bytes(GARBAGE[garbage])
    assert scene.is_over
    one.drop()


def test_descriptors_that_were_not_announced_are_closed(scene):
    """As many as fit: none of them stays open."""
    with socket.socket() as sock:
        scene.liar.say_bytes(packet(3, b"\0" * 8), *[sock.fileno()] * 64)
    assert scene.is_over


@pytest.mark.parametrize(
    "said",
    [Ready(1), Failed(b"why", b""), Attach(b"n", b"n" * 8, 1), Have(12345)],
    ids=lambda said: type(said).__name__,
)
def test_message_that_may_not_be_said_now_ends_its_worker(scene, said):
    """It is READY already, nobody attached it, and there is one acceptor."""
    scene.liar.say(said)
    assert scene.is_over


def test_worker_that_was_started_may_not_attach(scene):
    """It has its slot."""
    new = scene.acceptor.start(0, ready=False)
    new.say(Attach(b"n", b"n" * 8, 1))
    scene.turn()
    assert new.process.killed


def test_liar_is_believed_nothing(scene):
    """What it had is not handed to another, whatever its marks say."""
    one = scene.take()
    one.answer()
    scene.liar.say(Taken(12345))
    assert scene.is_over
    assert scene.acceptor.copies() == 0
    scene.acceptor.connect("mine")
    assert not scene.liar.handed()
    assert scene.acceptor.report()["slots"][0]["queued"] == 1
    scene.acceptor.bury(scene.liar)
    assert scene.client.is_ended()
    assert not scene.other.handed()


def test_flood_of_messages_does_not_keep_others_from_their_turn(scene):
    """All of it is heard in rounds; others are heard in between."""
    sent = 0
    with contextlib.suppress(ChannelFull):
        while True:
            scene.liar.say(*[Claim(60, 0, KEY + b"%d" % sent)] * 64)
            sent += 1
    scene.check()
    assert scene.acceptor.report()["keys"] == sent + 2
    assert not scene.is_over


def test_keys_that_fit_no_packet_together_are_revoked_in_several(scene):
    """Large names that another worker claims are told, each, to whoever had them."""
    keys = [b"%d" % n + b"x" * 50_000 for n in range(3)]
    for each in (scene.other, scene.liar):
        for key in keys:
            each.say(Claim(60, 1, key))
        scene.turn()
    assert scene.other.told() == [Revoke(key) for key in keys]


def test_long_names_fill_no_memory(scene):
    """A worker that claims them pushes out names; their bytes stay within bounds."""
    scene.other.say(Claim(3600, 1, b"first"))
    for number in range(400):
        scene.liar.say(Claim(3600, 1, b"%d" % number + b"x" * 100_000))
        scene.liar.told()
        report = scene.acceptor.report()
        assert report["key_bytes"] <= report["max_key_bytes"]
    assert 0 < scene.acceptor.report()["keys"] < 6
    assert Revoke(b"first") in scene.other.told()
    scene.other.say(Claim(3600, 1, THEIRS))


def test_worker_that_never_reads_is_ended(scene):
    """What is to be said to it is bounded in bytes."""
    scene.acceptor.bound(unsaid=1 << 20)
    for _ in range(300):
        with contextlib.suppress(ChannelFull):
            scene.liar.say(*[Ask(0, b"k" * 6000)] * 20)
        if scene.is_over:
            break
    assert scene.is_over
    assert scene.acceptor.unsaid(scene.liar) < 2 << 20


def test_last_words_are_cut(scene):
    """Why a worker could not start is a sentence, and the end of a traceback."""
    new = scene.acceptor.start(0, ready=False)
    new.say(Failed(b"w" * 60_000, b"t" * 66_000 + b"end"))
    scene.turn()
    why, traceback = scene.acceptor.failure(new)
    assert (len(why), len(traceback), traceback[-3:]) == (1000, 65_536, "end")


def test_taken_connections_that_are_never_closed_are_forgotten(scene):
    """A worker that says of none that it is closed fills no memory."""
    scene.acceptor.bound(granted=5)
    for _ in range(20):
        scene.take()
    granted = scene.acceptor.has_granted(scene.liar)
    assert len(granted) == scene.acceptor.copies() == 5
    # The acceptor still knows each one that is really open.
    scene.liar.say(Closed(granted[-1]))
    scene.turn()
    assert scene.acceptor.copies() == 4


def lies(rng, ids):
    """Yield, for ever, a message that may be anything but is well-formed."""
    number = lambda: rng.choice((0, 1, 7, 0xFF, *ids))  # noqa: E731
    blob = lambda: rng.choice(  # noqa: E731
        (b"", b"slot:1", b"slot:99999", b"\xff" * 300, b"k" * 20_000, THEIRS)
    )
    makers = (
        lambda: Taken(number()),
        lambda: Refused(number(), rng.randrange(256)),
        lambda: Closed(number()),
        lambda: Claim(rng.choice((0, 1, 0xFFFFFFFF)), rng.randrange(256), blob()),
        lambda: Release(blob()),
        lambda: Ask(rng.randrange(256), blob()),
        lambda: Have(number()),
        lambda: Failed(blob(), blob()),
        lambda: Ready(rng.randrange(1 << 32), rng.randrange(256), rng.randrange(256)),
        lambda: Drained(rng.randrange(1 << 32)),
    )
    while True:
        yield rng.choice(makers)()


def tell_lies(scene, rng):
    """Have the liar say ten things; return how many it has said until it was ended."""
    liar = scene.liar
    handed = [scene.take() for _ in range(3)]
    for word in range(8 * 5):
        liar.board.words[word] = rng.choice((0, 2, 513, HUGE))
    some = lies(rng, [each.id for each in handed])
    told = 0
    while told < 10 and not scene.is_over:
        told += 1
        if handed and rng.randrange(4) == 0:
            handed.pop().give_back(
                key=rng.choice((b"", b"slot:7", THEIRS, b"\0" * 900)),
                unread=rng.choice((b"", b"GET / HTTP/1.1\r\n\r\n")),
                hops=rng.randrange(1 << 16),
                learned=rng.randrange(256),
                frozen=rng.choice((b"", b"ice")),
            )
        else:
            with contextlib.suppress(ChannelFull):
                liar.say(next(some))
    return told


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_lie_leaves_the_acceptor_by_an_exception(scene, seed):
    """Hundreds of well-formed messages in any order, over any scoreboard."""
    rng = random.Random(seed)
    told = killed = 0
    while told < LIES:
        told += tell_lies(scene, rng)
        killed += scene.is_over
        scene.succeed()
    # It was not all nonsense, nor all true.
    assert 0 < killed < told
