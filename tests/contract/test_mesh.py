"""Connections on their way to another acceptor: whole, bounded, never in two places."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from maitred.acceptor.connection import Connection
from maitred.acceptor.counters import Counters
from maitred.master.mesh import WINDOW, WORDS, Mesh
from maitred.routing import Homes
from maitred.wire import Channel

HOMES = Homes(2, b"hash")
THEIRS = next(b"k%d" % n for n in range(99) if HOMES.of(b"k%d" % n) == 1)
OURS = next(b"k%d" % n for n in range(99) if HOMES.of(b"k%d" % n) == 0)


class End:
    """One acceptor's end, and what came there."""

    def __init__(self, number: int, most: int = 1000, wait: float = 60.0) -> None:
        self.counters = Counters()
        self.came: list[Connection] = []
        self.refused: list[tuple[int, str]] = []
        self.is_congested = False
        self.mesh = Mesh(
            number,
            HOMES,
            remembers=True,
            most=most,
            wait_timeout=wait,
            refuse=self._refuse,
            counters=self.counters,
        )
        self.mesh.connect(
            dispatch=self.came.append,
            settle=self.mesh.flush,
            congested=lambda: self.is_congested,
            make_room=lambda: False,
        )

    def _refuse(self, connection: Connection, status: int, cause: str) -> None:
        self.refused.append((status, cause))
        connection.close()

    def pass_on(self, count: int = 1, key: bytes = THEIRS) -> list[socket.socket]:
        """Pass on as many connections; give the clients' ends."""
        clients = []
        for number in range(count):
            client, served = socket.socketpair()
            connection = Connection(served, number, (b"192.0.2.7", 80), (b"", 0))
            connection.key = key
            assert self.mesh.takes(connection)
            clients.append(client)
        self.mesh.flush()
        return clients

    def close(self) -> None:
        """Close all."""
        self.mesh.leave()
        for connection in self.came:
            connection.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def meet(one: End, other: End) -> None:
    """Give both a way to each other."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end, number, sock in ((one, 1, pair[0]), (other, 0, pair[1])):
        end.mesh.meet(number, Channel(sock, sends=WORDS, receives=WORDS))


@contextlib.contextmanager
def two(**details: float) -> Iterator[tuple[End, End]]:
    """Two acceptors that know each other."""
    with contextlib.ExitStack() as stack:
        one, other = End(0, **details), End(1)  # type: ignore[arg-type]
        stack.callback(one.close)
        stack.callback(other.close)
        yield one, other


def close_all(clients: list[socket.socket]) -> None:
    """Close *clients*."""
    for client in clients:
        client.close()


def test_connection_arrives_with_all_that_is_known_of_it():
    """And then it is there, and here no more."""

    async def run() -> None:
        with two() as (one, other):
            meet(one, other)
            client, served = socket.socketpair()
            sent = Connection(served, 4711, (b"192.0.2.7", 80), (b"192.0.2.1", 81))
            sent.key, sent.learned, sent.consumed = THEIRS, True, b"GET"
            sent.position, sent.written, sent.seen, sent.attempts = 5, 6, 7, 2
            assert one.mesh.takes(sent)
            one.mesh.flush()
            assert sent.sock.fileno() == -1
            await until(lambda: bool(other.came))
            (came,) = other.came
            names = ("id", "peer", "peer_port", "local", "key", "learned", "consumed")
            names += ("position", "written", "seen", "attempts")
            assert [getattr(came, n) for n in names] == [
                getattr(sent, n) for n in names
            ]
            client.sendall(b"hello")
            assert came.sock.recv(5) == b"hello"
            assert one.counters.passed == other.counters.received == 1
            client.close()

    asyncio.run(run())


@pytest.mark.parametrize("key", [None, OURS])
def test_what_belongs_here_stays(key):
    """A connection without a key, and one whose home is here."""

    async def run() -> None:
        with two() as (one, _), contextlib.closing(socket.socket()) as served:
            connection = Connection(served, 1, (b"", 0), (b"", 0))
            connection.key = key
            assert not one.mesh.takes(connection)

    asyncio.run(run())


def test_no_more_are_under_way_than_the_window():
    """Where the other one is congested they wait here, and then all arrive."""

    async def run() -> None:
        with two() as (one, other):
            meet(one, other)
            other.is_congested = True
            clients = one.pass_on(3 * WINDOW)
            await until(lambda: len(other.came) == WINDOW)
            assert one.mesh.waiting == 2 * WINDOW
            other.is_congested = False
            other.mesh.flush()
            await until(lambda: len(other.came) == 3 * WINDOW)
            assert [each.id for each in other.came] == [*range(3 * WINDOW)]
            assert one.mesh.waiting == 0
            close_all(clients)

    asyncio.run(run())


def test_what_waits_for_a_dead_acceptor_goes_to_its_successor():
    """In the order in which they came."""

    async def run() -> None:
        with two() as (one, dead):
            meet(one, dead)
            dead.mesh.leave()
            await asyncio.sleep(0)
            clients = one.pass_on(3)
            await until(lambda: one.mesh.waiting == 3)
            successor = End(1)
            meet(one, successor)
            await until(lambda: len(successor.came) == 3)
            successor.close()
            close_all(clients)

    asyncio.run(run())


def test_who_waits_too_long_or_finds_no_room_is_answered():
    """With 503, here."""

    async def run() -> None:
        with two(most=2, wait=0.01) as (one, _):
            clients = one.pass_on(3)
            assert one.refused == [(503, "no_worker")]
            await until(lambda: len(one.refused) == 3)
            assert set(one.refused) == {(503, "no_worker")}
            close_all(clients)

    asyncio.run(run())


def test_who_waits_when_the_service_stops_is_answered():
    """With 503; what comes later and has no way to go is too."""

    async def run() -> None:
        with two() as (one, _):
            clients = one.pass_on(2)
            one.mesh.close()
            clients += one.pass_on(1)
            assert one.refused == [(503, "stopping")] * 3
            close_all(clients)

    asyncio.run(run())


def test_time_in_which_the_acceptor_stood_still_is_no_time_that_anybody_waited():
    """Whoever waited for another acceptor meanwhile is passed on afterwards."""

    async def run() -> None:
        with two(wait=1.0) as (one, other):
            clients = one.pass_on(3)
            await asyncio.sleep(0)
            time.sleep(3)  # as one that is stopped, or busy
            # Until the sweep, which is late, has been.
            await asyncio.sleep(0.01)
            assert (one.refused, one.mesh.waiting) == ([], 3)
            meet(one, other)
            await until(lambda: len(other.came) == 3)
            close_all(clients)

    asyncio.run(run())
