"""
The contract of the channel: a peer that lies, cuts, floods or dies.

The other end is a bare socket here, so that it can say what our codec would not.
"""

import errno
import os
import signal
import socket
import struct

import pytest

from channel_kit import (
    DEADLINE,
    TABLE,
    Bye,
    Pass,
    Text,
    fill,
    in_child,
    open_descriptors,
    packet,
    raw_send,
    room_for,
)
from maitred import (
    MAX_PACKET,
    Channel,
    ChannelClosed,
    DescriptorsLost,
    PeerMisbehaved,
)
from maitred.wire.codec import HEADER


@pytest.fixture
def raw(kind):
    """A bare socket, and a channel at its other end."""
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        yield one, channel


def pass_body(*lengths):
    """Make the body of Pass messages with labels of such lengths, and no label."""
    return b"".join(struct.pack("!QI", 1, length) for length in lengths)


# Peers that lie.

LIES = {
    "another version": (packet(3, version=1), 0, "version 1, we speak 4"),
    "version 0": (packet(3, version=0), 0, "version 0, we speak 4"),
    "unknown type": (packet(9), 0, "type 9 is not for it to send"),
    "no record": (packet(3, records=0), 0, "Bye without a record"),
    "not zero": (packet(3, zero=1), 0, "Bye with 1 where 0 must stand"),
    "descriptor announced where none may be": (
        packet(3, descriptors=1),
        1,
        "Bye with 1 descriptors for 1 records",
    ),
    "fewer descriptors than records": (
        packet(2, pass_body(0, 0), descriptors=1, records=2),
        1,
        "Pass with 1 descriptors for 2 records",
    ),
    "more descriptors than records": (
        packet(2, pass_body(0), descriptors=2),
        2,
        "Pass with 2 descriptors for 1 records",
    ),
    "more descriptors than can be": (
        packet(2, pass_body(*[0] * 254), descriptors=254, records=254),
        3,
        "Pass with 254 descriptors for 254 records",
    ),
    "too long": (
        packet(1, length=MAX_PACKET - HEADER.size + 1),
        0,
        "Text of 131061 bytes for 1 records",
    ),
    "too short for its records": (
        packet(1, bytes(7), records=2),
        0,
        "Text of 7 bytes for 2 records",
    ),
    "blob beyond the end": (
        packet(1, struct.pack("!I", 9) + b"12345678"),
        0,
        "Text whose parts are 13 bytes, not 12",
    ),
    "blob of four gigabytes": (
        packet(1, b"\xff" * 4),
        0,
        "Text whose parts are 4294967299 bytes, not 4",
    ),
    "bytes that belong to nothing": (
        packet(1, struct.pack("!I", 1) + b"12"),
        0,
        "Text whose parts are 5 bytes, not 6",
    ),
    "blob beyond the end, with descriptors": (
        packet(2, pass_body(1, 0), descriptors=2, records=2),
        2,
        "Pass whose parts are 25 bytes, not 24",
    ),
    "one descriptor came, none was announced": (
        packet(3),
        1,
        "1 descriptors came, 0 were announced",
    ),
    "none came, one was announced": (
        packet(2, pass_body(0), descriptors=1),
        0,
        "0 descriptors came, 1 were announced",
    ),
    "one more came than was announced": (
        packet(2, pass_body(0), descriptors=1),
        2,
        "2 descriptors came, 1 were announced",
    ),
    "as many as the kernel takes, unannounced": (
        packet(3),
        253,
        "253 descriptors came, 0 were announced",
    ),
}


@pytest.mark.parametrize(("data", "descriptors", "why"), LIES.values(), ids=LIES)
def test_lie_is_named_and_what_came_is_closed(raw, use, files, data, descriptors, why):
    """A packet that cannot be is refused with the reason, and nothing of it is kept."""
    one, channel = raw
    raw_send(one, data, *[files(1)[0].fileno()] * descriptors)
    before = open_descriptors()
    with pytest.raises(PeerMisbehaved) as refused:
        use.receive(channel)
    assert refused.value.why == why
    assert open_descriptors() == before


def test_nothing_is_received_after_a_lie(raw, files):
    """Once the peer broke the protocol, what it says next is not read any more."""
    one, channel = raw
    raw_send(one, packet(9))
    raw_send(one, packet(3))
    for _ in range(3):
        with pytest.raises(PeerMisbehaved, match="type 9"):
            channel.receive_nowait()


def test_lie_at_the_limit_of_descriptors_is_still_a_lie(raw, files):
    """A malformed body is misbehaviour also when its descriptors were lost."""
    one, channel = raw
    made = [file.fileno() for file in files(2)]
    raw_send(one, packet(2, pass_body(1, 0), descriptors=2, records=2), *made)
    before = open_descriptors()
    with room_for(1), pytest.raises(PeerMisbehaved, match="Pass whose parts"):
        channel.receive_nowait()
    assert open_descriptors() == before


def test_more_descriptors_than_announced_and_some_lost(raw, files):
    """As many came as were announced, and more did not fit: that is a lie too."""
    one, channel = raw
    made = [file.fileno() for file in files(3)]
    raw_send(one, packet(2, pass_body(0), descriptors=1), *made)
    with room_for(1), pytest.raises(PeerMisbehaved, match="1 and more descriptors"):
        channel.receive_nowait()


@pytest.mark.parametrize("size", range(1, HEADER.size))
def test_packet_shorter_than_a_header_is_refused(files, size):
    """SEQPACKET cannot bring the rest of a header later."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, packet(3)[:size], files(1)[0].fileno())
        with pytest.raises(PeerMisbehaved, match=f"{size} bytes are no header"):
            channel.receive_nowait()


@pytest.mark.parametrize(("length", "says"), [(3, 15), (0, 12)])
def test_packet_of_another_length_than_its_header_says_is_refused(length, says):
    """SEQPACKET has the length too, and both must agree."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, packet(3, b"12", length=length))
        with pytest.raises(
            PeerMisbehaved, match=f"a packet of 14 bytes whose header says {says}"
        ):
            channel.receive_nowait()


def test_packet_longer_than_the_largest_is_refused(files):
    """SEQPACKET would cut its end off, and deliver its descriptors all the same."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, packet(1, bytes(MAX_PACKET)), files(1)[0].fileno())
        with pytest.raises(PeerMisbehaved, match=f"longer than {MAX_PACKET} bytes"):
            channel.receive_nowait()


@pytest.mark.parametrize("first", [1, 11, 12, 13, 20])
def test_descriptor_in_the_middle_of_a_packet_is_refused(files, first):
    """On a stream, a descriptor comes with the first byte of its packet or never."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    data = packet(2, pass_body(0, 0), descriptors=2, records=2)
    [early, late] = [file.fileno() for file in files(2)]
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, data[:first], early)
        raw_send(one, data[first:], late)
        before = open_descriptors()
        with pytest.raises(PeerMisbehaved, match="in the middle of a packet"):
            channel.receive(timeout=DEADLINE)
        assert open_descriptors() == before


def test_descriptor_in_the_middle_that_does_not_fit_is_refused(files):
    """Being at our limit does not hide it."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, packet(1, b"\0\0\0\1", length=5))
        raw_send(one, b"x", files(1)[0].fileno())
        with room_for(0), pytest.raises(PeerMisbehaved, match="in the middle"):
            channel.receive_nowait()


# Peers that leave.


def test_peer_that_closed_is_the_end(pair, use):
    """An end that was closed with nothing unread is ChannelClosed, again and again."""
    ours, theirs = pair
    theirs.close()
    for _ in range(2):
        with pytest.raises(ChannelClosed) as closed:
            use.receive(ours)
        assert not closed.value.undelivered


def test_what_was_said_before_the_end_is_received(pair, use, files):
    """The peer's last words, with descriptors, are read before its end is noticed."""
    ours, theirs = pair
    theirs.send_nowait(Text(b"last"))
    theirs.send_nowait(Pass(1, *files(1), b"words"))
    theirs.close()
    assert use.receive(ours) == [Text(b"last")]
    [message] = use.receive(ours)
    message.file.close()
    with pytest.raises(ChannelClosed):
        use.receive(ours)


def test_peer_that_left_without_reading_everything_is_told_apart(pair, use, files):
    """
    ECONNRESET is the kernel's word for undelivered messages: what the peer had said
    is still received, then the end says that something was not delivered.
    """
    ours, theirs = pair
    ours.send_nowait(Pass(1, *files(1), b"unread"))
    theirs.send_nowait(Text(b"I had said"))
    theirs.send_nowait(Text(b"two things"))
    theirs.close()
    assert use.receive(ours) == [Text(b"I had said")]
    assert use.receive(ours) == [Text(b"two things")]
    for _ in range(2):
        with pytest.raises(ChannelClosed) as closed:
            use.receive(ours)
        assert closed.value.undelivered


def test_undelivered_messages_are_known_whoever_asks_first(pair, use):
    """
    The kernel says ECONNRESET once: when a send heard it, the receiver still gets
    what the peer had said, and knows it at the end.
    """
    ours, theirs = pair
    ours.send_nowait(Text(b"unread"))
    theirs.send_nowait(Text(b"I had said"))
    theirs.close()
    with pytest.raises(ChannelClosed):
        use.send(ours, Bye())
    assert use.receive(ours) == [Text(b"I had said")]
    with pytest.raises(ChannelClosed) as closed:
        use.receive(ours)
    assert closed.value.undelivered


def test_killed_worker_with_unread_messages_is_told_apart(pair, files):
    """The same holds for a process that dies without closing anything."""
    ours, theirs = pair
    for file in files(3):
        ours.send_nowait(Pass(1, file, b"unread"))

    def die():
        ours.close()
        theirs.send_nowait(Text(b"last word"))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError, match="died or hung"):
        in_child(die)
    theirs.close()
    assert ours.receive_nowait() == [Text(b"last word")]
    with pytest.raises(ChannelClosed) as closed:
        ours.receive_nowait()
    assert closed.value.undelivered


def test_send_to_a_peer_that_left_is_an_error_and_no_signal(pair, use):
    """ChannelClosed, and no SIGPIPE, even where somebody listens for that."""
    ours, theirs = pair
    theirs.close()
    signals = []
    before = signal.signal(signal.SIGPIPE, lambda *args: signals.append(args))
    try:
        for _ in range(2):
            with pytest.raises(ChannelClosed) as closed:
                use.send(ours, Bye())
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert signals == []
    assert not closed.value.undelivered
    assert isinstance(closed.value.__cause__, OSError)
    assert closed.value.__cause__.errno == errno.EPIPE


def test_waiting_sender_notices_that_its_peer_left(pair, use):
    """A full channel whose reader leaves is closed, not full for ever."""
    ours, theirs = pair
    fill(ours, Text(b"x" * 50_000))
    theirs.close()
    with pytest.raises(ChannelClosed):
        use.send(ours, Bye())


def test_flush_notices_that_the_peer_left():
    """The rest of a half-sent packet is not sent to nobody."""
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE, kind=socket.SOCK_STREAM)
    with ours, theirs:
        fill(ours, Text(b"x" * 60_000))
        assert ours.unsent
        theirs.close()
        with pytest.raises(ChannelClosed):
            ours.flush()


def test_empty_packet_is_the_end_and_its_descriptors_are_closed(use, files):
    """An empty SEQPACKET message cannot be told from the end, so it is the end."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, b"", files(1)[0].fileno())
        before = open_descriptors()
        with pytest.raises(ChannelClosed):
            use.receive(channel)
        assert open_descriptors() == before


@pytest.mark.parametrize("size", [1, 11, 12, 20])
def test_peer_that_leaves_within_a_packet_is_the_end(use, files, size):
    """Half a packet of a dead peer is dropped with its descriptors."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with Channel(two, sends=TABLE, receives=TABLE) as channel:
        with one:
            data = packet(2, pass_body(0), descriptors=1)
            raw_send(one, data[:size], files(1)[0].fileno())
        before = open_descriptors()
        with pytest.raises(ChannelClosed):
            use.receive(channel)
        assert open_descriptors() == before


def test_end_is_noticed_after_descriptors_were_lost(pair, files):
    """A receiver that lost descriptors goes on to the end."""
    ours, theirs = pair
    theirs.send_nowait(Pass(1, *files(1), b""))
    theirs.close()
    with room_for(0), pytest.raises(DescriptorsLost):
        ours.receive_nowait()
    with pytest.raises(ChannelClosed):
        ours.receive_nowait()


def test_closed_channel_is_not_used_again(pair, use):
    """Sending and receiving on a channel that we closed is our own error, EBADF."""
    ours, _ = pair
    ours.close()
    ours.close()
    for call in (lambda: use.send(ours, Bye()), lambda: use.receive(ours)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
