"""The connections of each source: who has too many, and what is forgotten."""

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.acceptor.per_source_limit import Sources, source_of


class Sock:
    """A socket that is open until it is closed."""

    closed = False

    def fileno(self):
        """Give a number, or none."""
        return -1 if self.closed else 7


def connection(number, peer=b"192.0.2.1"):
    """Make what the master has of a connection."""
    return SimpleNamespace(id=number, peer=peer, sock=Sock())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"192.0.2.1", b"::ffff:192.0.2.1"),
        (b"2001:db8::1", b"2001:db8::ffff:1:2:3"),
        (b"2001:db8:0:0:9::", b"2001:0db8::7"),
        (b"fe80::1%eth0", b"fe80::2%eth1"),
    ],
)
def test_one_client_has_one_source(one, other):
    """However its address is written, and whichever of its network it has."""
    assert source_of(one) == source_of(other)


def test_others_are_others():
    """Neighbours of an IPv4 address and other networks are no one client."""
    peers = [b"192.0.2.1", b"192.0.2.2", b"2001:db8::1", b"2001:db8:0:1::1", b"::1"]
    assert len({source_of(peer) for peer in peers}) == len(peers)


@pytest.mark.parametrize("peer", [b"", b"here", b"192.0.2", b"1:2", b"\xff\0", b"%"])
def test_who_has_no_address_has_no_source(peer):
    """It is not counted, and any number is admitted."""
    assert source_of(peer) == b""
    sources = Sources(1, lambda _: False)
    assert all(sources.admit(connection(n, peer)) for n in range(3))
    assert len(sources) == 0


def test_without_a_limit_nothing_is_noted():
    """It costs nothing then."""
    sources = Sources(0, lambda _: False)
    assert all(sources.admit(connection(n)) for n in range(100))
    sources.note(connection(1))
    sources.restore([(b"1234", [1])], None)
    assert len(sources) == 0


def test_place_is_free_when_nobody_has_the_connection():
    """Neither we nor a worker: one of the two is enough to count."""
    granted = set()
    sources = Sources(2, granted.__contains__)
    first, second = connection(1), connection(2)
    assert sources.admit(first)
    assert sources.admit(second)
    assert not sources.admit(connection(3))
    granted.add(1)
    first.sock.closed = True  # a worker has it, and we keep no copy
    assert not sources.admit(connection(3))
    granted.remove(1)
    assert sources.admit(connection(3))
    assert not sources.admit(connection(4))


def test_connection_that_is_given_back_counts_once():
    """It is another object then, and the same connection."""
    granted = {1}
    sources = Sources(2, granted.__contains__)
    first = connection(1)
    sources.admit(first)
    first.sock.closed = True
    for _ in range(5):
        again = connection(1)
        sources.note(again)
    granted.clear()
    assert sources.admit(connection(2))
    assert not sources.admit(connection(3))
    again.sock.closed = True
    assert sources.admit(connection(3))


def test_successor_knows_what_was_known():
    """What the master has it finds by its id, and a worker's by asking."""
    granted = {1, 2}
    sources = Sources(3, granted.__contains__)
    ours = connection(3)
    for each in (connection(1), connection(2), ours):
        sources.admit(each)
    past = SimpleNamespace(connections={3: ours})
    successor = Sources(3, granted.__contains__)
    successor.restore(sources.state(), past)
    assert not successor.admit(connection(4))
    granted.remove(2)
    assert successor.admit(connection(4))
    ours.sock.closed = True
    assert successor.admit(connection(5))
    assert not successor.admit(connection(6))


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=400))
def test_memory_and_counts_hold_whatever_happens(steps):
    """Never more than the limit at once, and not many more noted than there were."""
    sources = Sources(2, lambda _: False)
    live, most = [], 0
    for number, (source, leaves) in enumerate(steps):
        if leaves and live:
            live.pop(source % len(live)).sock.closed = True
        new = connection(number, b"10.0.%d.%d" % divmod(source, 256))
        has = Counter(each.peer for each in live)[new.peer]
        assert sources.admit(new) == (has < 2)
        if has < 2:
            live.append(new)
        most = max(most, len(live))
        assert len(live) <= len(sources) <= 2 * most + 2


def test_clients_that_have_left_are_forgotten():
    """A hundred thousand addresses of which nobody comes again take no memory."""
    sources = Sources(5, lambda _: False)
    for number in range(100_000):
        new = connection(number, b"10.%d.%d.%d" % tuple(number.to_bytes(3)))
        assert sources.admit(new)
        new.sock.closed = True
    assert len(sources) < 10
