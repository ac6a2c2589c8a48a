"""
A worker that says and sends anything: thousands of lies, with descriptors.

What the master does with a packet, on a real channel: decode it, check what rides in
it, close what it does not want. Every lie ends in one of the errors that mean "this
worker is ended"; no descriptor is left, whatever came with it.
"""

import os
import random
import socket
from collections import Counter

import pytest

from channel_kit import open_descriptors, raw_send
from maitred import Channel, ChannelClosed, DescriptorsLost, PeerMisbehaved
from maitred.acceptor.connection import returned
from maitred.wire.codec import HEADER, Codec
from maitred.wire.cookie import cookie
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Claim,
    Closed,
    Drained,
    Ready,
    Refused,
    Return,
    Taken,
)

LIES = int(os.environ.get("MAITRED_TESTS_LIES", "10000"))
AT_ONCE = 50
"Lies told on one channel, if none ends it."


class Nothing:
    """Stands where a descriptor stands; the descriptors are added by hand."""

    def fileno(self):
        """Say no number."""
        return -1


@pytest.fixture
def things():
    """Make one descriptor of every kind that may come: one of them is what is due."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as connection,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        unix, other = socket.socketpair()
        opened = [os.open("/", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
        opened += os.pipe()
        try:
            yield (
                connection,
                [
                    each.fileno()
                    for each in (connection, listener, client, udp, unix, other)
                ]
                + opened,
            )
        finally:
            for fd in opened:
                os.close(fd)
            unix.close()
            other.close()


def truths(id_):
    """Encode one packet of each kind that a worker may say."""
    codec = Codec(sends=FROM_WORKER, receives=FROM_MASTER)
    one = Return(Nothing(), id_, b"10.0.0.9", 1, b"10.0.0.1", 80, b"key", 0, b"GET /")
    for messages in (
        [Ready(1, 1)],
        [Taken(id_)] * 3,
        [Refused(id_, 1)],
        [Claim(60, 1, b"key")],
        [Closed(id_)],
        [Drained(0)],
        [one],
        [one] * 4,
    ):
        yield codec.encode(messages)[0], len(messages) * isinstance(messages[0], Return)


def mutated(rng, packet):
    """Change *packet*: a few bytes, its length, or what its header says."""
    data = bytearray(packet)
    match rng.randrange(5):
        case 0:
            pass
        case 1:
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            del data[rng.randrange(1, len(data)) :]
        case 3:
            data += rng.randbytes(rng.randrange(1, 300))
        case 4:
            data[rng.randrange(HEADER.size)] ^= 1 << rng.randrange(8)
    return bytes(data)


def heed(channel, heard):
    """Do with what was said as the master does; count it in *heard*."""
    while messages := channel.receive_nowait():
        heard[type(messages[0]).__name__] += 1
        if not isinstance(messages[0], Return):
            continue
        try:
            for message in messages:
                returned(message).close()
        finally:
            for message in messages:
                message.connection.close()


def test_no_lie_leaves_anything_behind(things):
    """Each is one of the errors for which a worker is ended, or is no lie."""
    connection, fds = things
    rng = random.Random(4)
    known = list(truths(cookie(connection)))
    before = open_descriptors()
    heard: Counter[str] = Counter()
    told = 0
    while told < LIES:
        end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours = Channel(end, sends=FROM_MASTER, receives=FROM_WORKER)
        try:
            for _ in range(AT_ONCE):
                told += 1
                packet, due = rng.choice(known)
                [count] = rng.choices((due, rng.randrange(4), 253), (30, 9, 1))
                some = [rng.choice((fds[0], rng.choice(fds))) for _ in range(count)]
                raw_send(theirs, mutated(rng, packet), *some)
                heed(ours, heard)
        except (PeerMisbehaved, DescriptorsLost, ChannelClosed) as exc:
            heard[type(exc).__name__] += 1
        finally:
            ours.close()
            theirs.close()
    assert open_descriptors() == before
    # It was not all nonsense, nor all true.
    assert heard["Return"] > LIES / 1000
    assert heard["Taken"] > LIES / 100
    assert heard["PeerMisbehaved"] > LIES / 10
