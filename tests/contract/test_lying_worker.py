"""
A worker that lies on its channel and its scoreboard, before a real dispatcher.

Channel, scoreboard and connections are real; the worker is this test, and its process
a stand-in that notes when it was killed. Whatever the worker says, no exception leaves
the dispatcher, no other worker is touched, and what the master keeps stays small.
"""

import asyncio
import contextlib
import os
import random
import socket

import pytest

from channel_kit import open_descriptors
from maitred import Channel, ChannelFull
from maitred.master import dispatcher as dispatching
from maitred.master.account import PER_SECOND, Account
from maitred.master.connection import Connection
from maitred.master.counters import Counters
from maitred.master.dispatcher import Dispatcher
from maitred.master.rescue import Left, rescue
from maitred.master.workers import MOST_UNSAID, Worker
from maitred.placement import KeyTable, Placement, Slot
from maitred.wire.cookie import cookie
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Ask,
    Claim,
    Closed,
    Drained,
    Failed,
    Handoff,
    Have,
    Phase,
    Ready,
    Refused,
    Release,
    Return,
    Revoke,
    Taken,
)
from maitred.wire.scoreboard import (
    FIRST_REFUSAL,
    JOURNAL,
    REFUSALS,
    REGION,
    REGIONS,
    SIZE,
    Scoreboard,
    Stage,
)

LIES = int(os.environ.get("MAITRED_TESTS_LIES", "10000")) // 10
HUGE = (1 << 64) - 1


class Pretended:
    """Stands where a worker's process stands."""

    def __init__(self):
        self.killed = False

    def kill(self):
        """Note it."""
        self.killed = True


class Liar:
    """One worker of the dispatcher, and the other end of its channel."""

    def __init__(self, number):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(theirs, sends=FROM_WORKER, receives=FROM_MASTER)
        self.worker = Worker(
            number,
            number - 1,
            1,
            Channel(ours, sends=FROM_MASTER, receives=FROM_WORKER),
            Scoreboard.create(),
            Pretended(),
        )

    def say(self, *messages):
        """Send one packet."""
        self.channel.send_nowait(*messages)

    def heard(self):
        """Return all messages of the master, and own their descriptors."""
        found = []
        while packet := self.channel.receive_nowait():
            found += packet
        return found

    def close(self):
        """Close both ends."""
        self.channel.close()


class Scene:
    """A dispatcher with two workers and one connection for each handoff."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.escaped = []
        loop.set_exception_handler(lambda _, context: self.escaped.append(context))
        self.keys = KeyTable(2, limit=1000, ttl=60.0)
        slots = [Slot(0, 64), Slot(1, 64)]
        self.refused = []
        self.dispatcher = Dispatcher(
            Placement(
                slots,
                lambda s, _: next((e for e in s if e.has_room), None),
                self.keys,
                remembers=True,
            ),
            wait_timeout=30.0,
            most=100,
            refuse=self._refuse,
            look_again=lambda connection: self._refuse(connection, 400, "bad_request"),
            most_copies=50,
            on_ready=self.dispatch_to,
            counters=Counters(),
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.clients = []
        self.liar, self.other = Liar(1), Liar(2)
        for each in (self.liar, self.other):
            self.dispatcher.attach(each.worker)

    def _refuse(self, connection, status, cause):
        self.refused.append(cause)
        connection.close()

    def dispatch_to(self, worker):
        """Have *worker* fill its slot."""
        if not worker.silent:
            self.dispatcher.promote(worker)

    async def ready(self):
        """Have both workers serve."""
        for each in (self.liar, self.other):
            each.say(Ready(1, 1, 1))
        await self.turn()

    async def turn(self):
        """Let the loop do all that there is to do."""
        for _ in range(6):
            await asyncio.sleep(0)

    def connect(self, key):
        """Give the dispatcher a new connection that is placed by *key*."""
        self.clients.append(socket.create_connection(self.listener.getsockname()))
        sock, (host, port) = self.listener.accept()
        sock.setblocking(False)
        local = sock.getsockname()
        connection = Connection(
            sock, cookie(sock), (host.encode(), port), (local[0].encode(), local[1])
        )
        connection.key = key
        self.dispatcher.dispatch(connection)
        self.dispatcher.settle()
        return connection.id

    def serves_others(self):
        """Tell whether the other worker still gets what is its own."""
        self.keys.own(b"theirs", 1, asyncio.get_running_loop().time())
        id_ = self.connect(b"theirs")
        handed = [m for m in self.other.heard() if isinstance(m, Handoff)]
        for each in handed:
            each.connection.close()
        return id_ in [each.id for each in handed]

    def close(self):
        """Close everything."""
        for each in (self.liar, self.other):
            for message in each.heard():
                if isinstance(message, Handoff):
                    message.connection.close()
            self.dispatcher.detach(each.worker)
            each.close()
        self.dispatcher.close()
        for connection in self.dispatcher._resting:
            connection.close()
        asyncio.get_running_loop().remove_reader(self.dispatcher._channels.fileno())
        self.dispatcher._channels.close()
        self.listener.close()
        for client in self.clients:
            client.close()


def play(act):
    """Run *act* with a scene, in which nothing may escape and nothing may be left."""

    async def main():
        scene = Scene()
        try:
            await scene.ready()
            await act(scene)
            await scene.turn()
            assert not scene.escaped
            assert not scene.other.worker.process.killed
            assert scene.serves_others()
        finally:
            scene.close()

    before = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() == before


async def take(scene, key=b"mine"):
    """Have the liar take a connection; return its handoff, which is the caller's."""
    scene.keys.own(key, 0, asyncio.get_running_loop().time())
    id_ = scene.connect(key)
    (handoff,) = [m for m in scene.liar.heard() if isinstance(m, Handoff)]
    scene.liar.say(Taken(id_))
    await scene.turn()
    return handoff


def give_back(handoff, **changes):
    """Make the RETURN of *handoff*, but for *changes*."""
    said = Return(
        handoff.connection,
        handoff.id,
        handoff.peer,
        handoff.peer_port,
        handoff.local,
        handoff.local_port,
        b"theirs",
        0,
        b"",
    )
    return said._replace(**changes)


LIES_OF_A_RETURN = {
    "more unread than was read": ({"unread": b"x" * 10}, {"position": 3}),
    "a position beyond every number": ({}, {"position": HUGE}),
    "more written than can be": ({}, {"written": HUGE}),
    "an endless address": ({"peer": b"1" * 1000}, {}),
    "an address that is none": ({"peer": b"\xff\xfe"}, {}),
    "more than a handoff holds": ({"frozen": b"x" * 130_800}, {}),
}


@pytest.mark.parametrize("lie", LIES_OF_A_RETURN)
def test_return_that_cannot_be_ends_its_worker_alone(lie):
    """The dispatcher goes on, and the descriptor is closed."""
    changes, mark = LIES_OF_A_RETURN[lie]

    async def act(scene):
        handoff = await take(scene)
        with handoff.connection:
            at = handoff.mark * 8
            words = scene.liar.worker.board.words
            words[at + 1] = mark.get("position", 100)
            words[at + 3] = mark.get("written", 0)
            scene.liar.say(give_back(handoff, **changes))
            await scene.turn()
        assert scene.liar.worker.process.killed

    play(act)


def test_honest_return_goes_to_its_owner():
    """The same scene without a lie: the connection is the other worker's."""

    async def act(scene):
        handoff = await take(scene)
        scene.keys.own(b"theirs", 1, asyncio.get_running_loop().time())
        with handoff.connection:
            scene.liar.worker.board.words[handoff.mark * 8 + 1] = 10
            scene.liar.say(give_back(handoff, unread=b"x" * 10, hops=0xFFFF))
            await scene.turn()
        (again,) = [m for m in scene.other.heard() if isinstance(m, Handoff)]
        again.connection.close()
        assert (again.id, again.consumed) == (handoff.id, b"x" * 10)
        assert not scene.liar.worker.process.killed

    play(act)


def test_keys_that_fit_no_packet_together_are_revoked_in_several():
    """Large names that another worker claims are told, each, to whoever had them."""
    keys = [b"%d" % n + b"x" * 50_000 for n in range(3)]

    async def act(scene):
        for each in (scene.other, scene.liar):
            for key in keys:
                each.say(Claim(60, 1, key))
            await scene.turn()
        revoked = [m.key for m in scene.other.heard() if isinstance(m, Revoke)]
        assert revoked == keys

    play(act)


def test_long_names_fill_no_memory():
    """A worker that claims them pushes out names; their bytes stay within bounds."""

    async def act(scene):
        scene.keys.own(b"first", 1, asyncio.get_running_loop().time())
        for number in range(400):
            scene.liar.say(Claim(3600, 1, b"%d" % number + b"x" * 100_000))
            await scene.turn()
            scene.liar.heard()
            assert scene.keys.size <= scene.keys.most_bytes
        assert 0 < len(scene.keys) < 6
        assert Revoke(b"first") in scene.other.heard()

    play(act)


def test_worker_that_never_reads_is_ended(monkeypatch):
    """What is to be said to it is bounded in bytes."""
    monkeypatch.setattr(dispatching, "MOST_UNSAID", 1 << 20)

    async def act(scene):
        assert scene.dispatcher._most_unsaid - scene.keys.most_bytes < MOST_UNSAID
        scene.dispatcher._most_unsaid = 1 << 20
        for _ in range(300):
            with contextlib.suppress(ChannelFull):
                scene.liar.say(*[Ask(0, b"k" * 6000)] * 20)
            await scene.turn()
            if scene.liar.worker.process.killed:
                break
        assert scene.liar.worker.process.killed
        assert scene.liar.worker.unsaid < 2 << 20

    play(act)


def test_last_words_are_cut():
    """Why a worker could not start is a sentence, and the end of a traceback."""

    async def act(scene):
        scene.liar.worker.phase = Phase.STARTING
        new = scene.liar
        new.say(Failed(b"w" * 60_000, b"t" * 66_000 + b"end"))
        await scene.turn()
        why, traceback = new.worker.failure
        assert (len(why), len(traceback), traceback[-3:]) == (1000, 65_536, "end")

    play(act)


def test_taken_connections_that_are_never_closed_are_forgotten(monkeypatch):
    """A worker that says of none that it is closed fills no memory."""
    monkeypatch.setattr(dispatching, "MOST_GRANTED", 5)

    async def act(scene):
        for _ in range(20):
            (await take(scene)).connection.close()
        assert len(scene.liar.worker.granted) == 5
        assert scene.liar.worker.copies == 5
        # The master still knows each one that is really open.
        scene.liar.say(Closed(next(reversed(scene.liar.worker.granted))))
        await scene.turn()
        assert scene.liar.worker.copies == 4

    play(act)


def lies(rng, ids):
    """Yield, for ever, a message that may be anything but is well-formed."""
    number = lambda: rng.choice((0, 1, 7, 0xFF, *ids))  # noqa: E731
    blob = lambda: rng.choice(  # noqa: E731
        (b"", b"slot:1", b"slot:99999", b"\xff" * 300, b"k" * 20_000, b"theirs")
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


@pytest.mark.parametrize("seed", range(4))
def test_no_lie_leaves_the_dispatcher_by_an_exception(seed):
    """Thousands of well-formed messages in any order, over any scoreboard."""
    rng = random.Random(seed)
    told = killed = 0

    async def act(scene):
        nonlocal told, killed
        liar = scene.liar
        handed = [await take(scene, b"k%d" % n) for n in range(3)]
        for word in range(8 * 5):
            liar.worker.board.words[word] = rng.choice((0, 2, 513, HUGE))
        some = lies(rng, [each.id for each in handed])
        for _ in range(10):
            told += 1
            said = next(some)
            if handed and rng.randrange(4) == 0:
                said = give_back(
                    handed.pop(),
                    key=rng.choice((b"", b"slot:7", b"theirs", b"\0" * 900)),
                    unread=rng.choice((b"", b"GET / HTTP/1.1\r\n\r\n")),
                    hops=rng.randrange(1 << 16),
                    learned=rng.randrange(256),
                    frozen=rng.choice((b"", b"ice")),
                )
            with contextlib.suppress(ChannelFull):
                liar.say(said)
            if isinstance(said, Return):
                said.connection.close()
            await scene.turn()
            if liar.worker.silent:
                break
        for each in handed:
            each.connection.close()
        killed += liar.worker.process.killed

    while told < LIES:
        play(act)
    # It was not all nonsense, nor all true.
    assert 0 < killed < told


# The scoreboard.


@pytest.fixture
def board():
    """A scoreboard."""
    fd = Scoreboard.create()
    found = Scoreboard(fd)
    os.close(fd)
    yield found
    found.close()


@pytest.mark.parametrize("region", [-1, 0, 1, REGIONS - 1, REGIONS, HUGE])
@pytest.mark.parametrize("size", [-HUGE, -1, 0, 1, REGION, REGION + 1, HUGE])
def test_journal_gives_what_a_region_holds_at_most(board, region, size):
    """Whatever a mark says: a size that cannot be gives nothing, and copies nothing."""
    possible = 0 <= region < REGIONS and 0 <= size <= REGION
    assert len(board.read_journal(region, size)) == (size if possible else 0)
    assert SIZE - JOURNAL == REGIONS * REGION


@pytest.mark.parametrize("start", [1, 100, HUGE])
def test_mark_whose_start_was_never_read_rescues_nothing(board, start):
    """The connection counts as lost, and not a byte of the journal is taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    with client, sock:
        connection = Connection(sock, cookie(sock), (b"", 0), (b"127.0.0.1", 1))
        connection.mark = 1
        board.reset(1, 0, 0, 0)
        board.words[8] = Stage.READING
        board.words[10] = start
        assert rescue(connection, board) is Left.LOST
        assert connection.consumed == b""


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self):
        """Give the time."""
        return self.now


def test_counts_are_believed_while_they_can_be_true(board, caplog):
    """They neither fall nor leap, whatever a worker writes; one line says so."""
    clock = Clock()
    account = Account(board, "worker 7 of slot 3", clock)
    board.requests = 900
    assert account.requests == 900
    board.requests = 899
    assert account.requests == 900
    board.requests = HUGE
    assert account.requests == 900
    assert "worker 7 of slot 3 counts 899 requests after 900" in caplog.text
    assert len(caplog.records) == 1
    board.requests = 20 * PER_SECOND
    assert account.requests == 900
    clock.now = 30.0
    assert account.requests == 20 * PER_SECOND
    board.connections = HUGE
    assert account.connections == 1 << 20


def test_refusals_are_believed_one_by_one(board):
    """Junk in one counter hides no other, and what follows the counters is nothing."""
    account = Account(board, "worker", Clock())
    board.count_refusal("misdirected")
    board._numbers[FIRST_REFUSAL] = HUGE
    board._numbers[FIRST_REFUSAL + len(REFUSALS)] = 12
    assert account.refused == {"misdirected": 1}
    board._numbers[FIRST_REFUSAL + REFUSALS.index("misdirected")] = 0
    assert account.refused == {"misdirected": 1}
