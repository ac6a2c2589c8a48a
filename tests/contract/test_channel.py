"""
The contract of the channel: what is said arrives, whole, once and in order.

The same tests run over both kinds of socket and against the real kernel. What is
about owning descriptors is in test_channel_descriptors.py, what is about peers that
lie or die in test_channel_peers.py.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading

import pytest

from channel_kit import (
    DEADLINE,
    TABLE,
    Bye,
    Mixed,
    Pass,
    Text,
    fill,
    is_same,
    open_descriptors,
    raw_send,
    receive_all,
    run,
)
from maitred import (
    MAX_DESCRIPTORS,
    MAX_PACKET,
    Channel,
    ChannelFull,
    MessageTooLarge,
)
from maitred.wire.codec import HEADER

# A Text of this size fills a packet to its last byte.
LARGEST = MAX_PACKET - HEADER.size - 4
LARGE = Text(b"x" * 60_000)


@pytest.fixture
def narrow():
    """A SOCK_STREAM channel whose kernel buffer is far smaller than a packet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    with (
        Channel(ours, sends=TABLE, receives=TABLE) as sender,
        Channel(theirs, sends=TABLE, receives=TABLE) as receiver,
    ):
        yield sender, receiver


# What arrives.


@pytest.mark.parametrize(
    "messages",
    [
        [Text(b"hello")],
        [Text(b"")],
        [Bye()],
        [Bye()] * 7,
        [Mixed(1, b"a", 2, b"bc"), Mixed(255, b"", 2**32 - 1, b"\0" * 99)],
        [Text(bytes([n])) for n in range(256)],
        [Text(b"x" * LARGEST)],
    ],
    ids=["one", "empty", "no field", "seven", "blobs", "many", "largest"],
)
def test_messages_sent_together_arrive_together(pair, use, messages):
    """The receiver gets the messages of one packet, equal and in order."""
    ours, theirs = pair
    use.send(ours, *messages)
    assert use.receive(theirs) == messages


def test_both_ends_speak(pair, use):
    """Each end receives what the other sent."""
    ours, theirs = pair
    use.send(ours, Text(b"question"))
    assert use.receive(theirs) == [Text(b"question")]
    use.send(theirs, Text(b"answer"))
    assert use.receive(ours) == [Text(b"answer")]


def test_packets_stay_apart_and_in_order(pair, use):
    """Packets that queue up are received one at a time, first one first."""
    ours, theirs = pair
    packets = [[Text(b"%d.%d" % (n, m)) for m in range(n + 1)] for n in range(9)]
    for messages in packets:
        use.send(ours, *messages)
    assert [use.receive(theirs) for _ in packets] == packets


def test_nothing_there_is_an_empty_list(pair):
    """A channel on which nothing has arrived says so by an empty list."""
    assert pair[0].receive_nowait() == []


def test_descriptor_arrives_with_its_message(pair, use, files):
    """Each message has the descriptor that was sent in it, not another one."""
    ours, theirs = pair
    sent = [Pass(n, file, b"file %d" % n) for n, file in enumerate(files(64))]
    use.send(ours, *sent)
    received = use.receive(theirs)
    assert [(m.number, m.label) for m in received] == [
        (m.number, m.label) for m in sent
    ]
    for mine, other in zip(received, sent, strict=True):
        with mine.file:
            assert is_same(mine.file, other.file)


def test_descriptor_belongs_to_its_packet_not_to_the_read(pair, files):
    """
    The receiver matches descriptors to messages when packets with and without them
    were queued in any order, although the kernel glues what it likes on a stream.
    """
    ours, theirs = pair
    made = files(6)
    ours.send_nowait(Text(b"before"))
    ours.send_nowait(Pass(0, made[0], b""))
    ours.send_nowait(Pass(1, made[1], b""), Pass(2, made[2], b"two"))
    ours.send_nowait(Text(b"between"), Text(b"them"))
    ours.send_nowait(Bye())
    ours.send_nowait(*[Pass(n, made[n], b"last") for n in (3, 4, 5)])
    ours.send_nowait(Text(b"after"))
    received = receive_all(theirs, ours, 7)
    passed = [message for message in received if isinstance(message, Pass)]
    assert [type(message) for message in received] == [
        *(Text, Pass, Pass, Pass, Text, Text, Bye, Pass, Pass, Pass, Text)
    ]
    for message in passed:
        with message.file:
            assert is_same(message.file, made[message.number])


def test_sent_descriptor_stays_the_callers(pair, files):
    """The sender's own copy is open after it was sent, and may be sent again."""
    ours, theirs = pair
    [file] = files(1)
    for n in range(2):
        ours.send_nowait(Pass(n, file, b""))
        [message] = theirs.receive_nowait()
        message.file.close()
    os.fstat(file.fileno())


# What does not fit.


def test_as_many_descriptors_as_the_kernel_passes(pair, files):
    """A packet with the most descriptors the kernel takes, 253, arrives."""
    ours, theirs = pair
    [file] = files(1)
    ours.send_nowait(*[Pass(n, file, b"") for n in range(MAX_DESCRIPTORS)])
    received = theirs.receive_nowait()
    assert len(received) == MAX_DESCRIPTORS == 253
    for message in received:
        message.file.close()


def test_one_descriptor_more_is_refused_before_the_kernel_is_asked(pair, files):
    """254 descriptors are refused with our own error, and nothing is sent."""
    ours, theirs = pair
    [file] = files(1)
    with pytest.raises(MessageTooLarge, match=r"^254 descriptors .* holds 253;"):
        ours.send_nowait(*[Pass(n, file, b"") for n in range(254)])
    assert theirs.receive_nowait() == []


def test_one_byte_more_than_a_packet_is_refused(pair, use):
    """A packet that would be a byte too long is refused, and nothing is sent."""
    ours, theirs = pair
    with pytest.raises(MessageTooLarge, match=f"^{MAX_PACKET + 1} bytes"):
        use.send(ours, Text(b"x" * (LARGEST + 1)))
    assert theirs.receive_nowait() == []


def test_send_buffer_smaller_than_the_packet_is_said(files):
    """SEQPACKET with a small send buffer says what it can take, and goes on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    holds = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
    with (
        Channel(ours, sends=TABLE, receives=TABLE) as sender,
        Channel(theirs, sends=TABLE, receives=TABLE) as receiver,
    ):
        with pytest.raises(MessageTooLarge, match=f"one packet, which holds {holds};"):
            sender.send_nowait(LARGE)
        sender.send_nowait(Text(b"x" * (holds - HEADER.size - 4)))
        assert len(receiver.receive_nowait()) == 1


def test_only_unix_sockets_that_keep_or_frame_order_are_taken():
    """A TCP or datagram socket is refused, and stays the caller's."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two, socket.socket() as tcp:
        for sock in (one, tcp):
            with pytest.raises(ValueError, match="a channel needs"):
                Channel(sock, sends=TABLE, receives=TABLE)
            assert sock.fileno() >= 0


def test_pair_with_an_impossible_table_leaves_nothing_open(kind):
    """A table that cannot stand on the wire is refused without a leak."""
    with pytest.raises(TypeError):
        Channel.pair(sends={1: int}, receives={}, kind=kind)


def test_socket_becomes_non_blocking_and_close_on_exec(kind):
    """Whatever the socket was, the channel never blocks and does not survive exec."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.set_inheritable(True)
    with theirs, Channel(ours, sends=TABLE, receives=TABLE) as channel:
        assert channel.fileno() == ours.fileno()
        assert not os.get_inheritable(channel.fileno())
        assert not os.get_blocking(channel.fileno())


# A stream cuts where it likes.


def test_packet_that_arrives_byte_by_byte_is_one_packet(files):
    """Nothing is received before the last byte, then all of it with its descriptor."""
    [file] = files(1)
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE, kind=socket.SOCK_STREAM)
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs, one, Channel(two, sends=TABLE, receives=TABLE) as receiver:
        messages = [Pass(7, file, b"seven"), Pass(8, file, b"eight")]
        data, owners = ours._codec.encode(messages)
        numbers = [owner.fileno() for owner in owners]
        for byte in data:
            assert receiver.receive_nowait() == []
            raw_send(one, bytes([byte]), *numbers)
            numbers = []
        received = receiver.receive_nowait()
        assert [m.label for m in received] == [b"seven", b"eight"]
        for message in received:
            with message.file:
                assert is_same(message.file, file)


def test_packet_cut_anywhere_is_one_packet():
    """Two packets in a row are received as two, wherever the stream cuts them."""
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE, kind=socket.SOCK_STREAM)
    with ours, theirs:
        data = b"".join(
            ours._codec.encode([message])[0]
            for message in (Text(b"first"), Mixed(1, b"2", 3, b"4"))
        )
    for cut in range(1, len(data)):
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with one, Channel(two, sends=TABLE, receives=TABLE) as receiver:
            one.sendall(data[:cut])
            received = receiver.receive_nowait()
            one.sendall(data[cut:])
            while messages := receiver.receive_nowait():
                received += messages
        assert received == [Text(b"first"), Mixed(1, b"2", 3, b"4")]


def test_half_sent_packet_goes_on_without_its_descriptors(narrow, files):
    """
    A packet that the kernel took in part is finished later: its descriptors arrive
    once, and no other packet gets in between.
    """
    sender, receiver = narrow
    made = files(3)
    before = len(open_descriptors())
    sender.send_nowait(*[Pass(n, f, b"x" * 43_000) for n, f in enumerate(made)])
    assert sender.unsent
    with pytest.raises(ChannelFull) as refused:
        sender.send_nowait(Text(b"next"))
    assert refused.value.poll_helps
    received = receive_all(receiver, sender, 1)
    assert sender.unsent == 0
    assert len(open_descriptors()) == before + 3
    for message in received:
        assert len(message.label) == 43_000
        with message.file:
            assert is_same(message.file, made[message.number])
    sender.send_nowait(Text(b"next"))
    assert receiver.receive_nowait() == [Text(b"next")]


def test_next_send_finishes_the_packet_before(narrow):
    """Whoever sends only, never calls flush: the rest goes out before the next."""
    sender, receiver = narrow
    sender.send_nowait(LARGE)
    received = []
    while sender.unsent:
        received += receiver.receive_nowait()
        with contextlib.suppress(ChannelFull):
            sender.send_nowait(Text(b"next"))
    received += receiver.receive_nowait() + receiver.receive_nowait()
    assert received == [LARGE, Text(b"next")]


def test_many_half_sent_packets_arrive_once_and_in_order(narrow, files):
    """A long conversation through a buffer of a few kilobytes arrives unharmed."""
    sender, receiver = narrow
    made = files(2)
    sent = []
    received = []
    while len(received) < 40:
        n = len(sent)
        if n < 40:
            size = (n * 7919) % 20_000
            try:
                sender.send_nowait(
                    *[Pass(n, f, b"y" * size) for f in made[: 1 + n % 2]]
                )
                sent.append((n, size, 1 + n % 2))
            except ChannelFull:
                pass
        sender.flush()
        if messages := receiver.receive_nowait():
            received.append(
                (messages[0].number, len(messages[-1].label), len(messages))
            )
            for message, file in zip(messages, made, strict=False):
                with message.file:
                    assert is_same(message.file, file)
    assert received == sent


# Full.


def test_full_channel_sends_nothing_and_loses_nothing(pair, files):
    """What was sent before the channel was full arrives, what was refused does not."""
    ours, theirs = pair
    [file] = files(1)
    count = fill(ours, Pass(1, file, b"x" * 5_000))
    with pytest.raises(ChannelFull) as refused:
        ours.send_nowait(Bye())
    assert refused.value.poll_helps
    for message in receive_all(theirs, ours, count):
        message.file.close()
    ours.send_nowait(Bye())
    assert theirs.receive_nowait() == [Bye()]


def test_reading_never_waits_for_writing(pair, files):
    """With both directions full of descriptors, both ends still read, then write."""
    ours, theirs = pair
    [file] = files(1)
    message = Pass(1, file, b"x" * 5_000)
    to_them, to_us = fill(ours, message), fill(theirs, message)
    for received in (
        receive_all(ours, theirs, to_us),
        receive_all(theirs, ours, to_them),
    ):
        for each in received:
            each.file.close()
    ours.send_nowait(Bye())
    theirs.send_nowait(Bye())
    assert ours.receive_nowait() == theirs.receive_nowait() == [Bye()]


def test_tasks_at_both_ends_send_and_receive_at_once(pair):
    """More than the kernel holds goes both ways at once without a deadlock."""
    count = 60

    async def speak(channel):
        """Say more than the kernel holds."""
        for _ in range(count):
            await channel.asend(LARGE)

    async def listen(channel):
        """Hear all of it."""
        return [await channel.areceive() for _ in range(count)]

    async def converse():
        """Do all four at once."""
        ours, theirs = pair
        return await asyncio.gather(
            speak(ours), speak(theirs), listen(ours), listen(theirs)
        )

    *_, one, two = run(converse())
    assert one == two == [[LARGE]] * count


def test_blocking_send_waits_until_the_receiver_reads(pair):
    """A blocked sender goes on as the receiver makes room."""
    ours, theirs = pair
    count = fill(ours, LARGE)
    thread = threading.Thread(target=ours.send, args=(LARGE,), kwargs={"timeout": 30})
    thread.start()
    received = [theirs.receive(timeout=DEADLINE) for _ in range(count + 1)]
    thread.join(DEADLINE)
    assert received == [[LARGE]] * (count + 1)


# Time.


def test_receive_gives_up_at_its_deadline(pair):
    """Waiting for a packet that does not come ends with TimeoutError."""
    with pytest.raises(TimeoutError, match="the channel was not ready in time"):
        pair[0].receive(timeout=0.001)


def test_receive_with_no_time_at_all_still_takes_what_is_there(pair):
    """A timeout of zero means: if it is there now."""
    ours, theirs = pair
    ours.send(Bye(), timeout=0)
    assert theirs.receive(timeout=0) == [Bye()]


def test_receive_without_a_timeout_waits(pair):
    """No timeout is no deadline, and still not a busy wait for ever."""
    ours, theirs = pair
    thread = threading.Thread(target=ours.send, args=(Bye(),))
    thread.start()
    assert theirs.receive() == [Bye()]
    thread.join(DEADLINE)


def test_send_that_times_out_has_sent_nothing(pair):
    """After TimeoutError the receiver gets what was sent before and no more."""
    ours, theirs = pair
    count = fill(ours, LARGE)
    with pytest.raises(TimeoutError):
        ours.send(Bye(), timeout=0.001)
    assert receive_all(theirs, ours, count) == [LARGE] * count


def test_send_that_times_out_half_way_counts_as_sent(narrow):
    """A packet that has begun cannot be taken back, so it is no TimeoutError."""
    sender, receiver = narrow
    sender.send(LARGE, timeout=0.001)
    assert sender.unsent
    assert receive_all(receiver, sender, 1) == [LARGE]


# Tasks.


async def started(coroutine):
    """Start a task and let it run until it waits."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_cancelled_receive_leaves_no_reader_and_loses_nothing(pair):
    """After a cancelled areceive the loop watches nothing, and the next one works."""
    ours, theirs = pair

    async def scenario():
        """Start, be cancelled, and receive again."""
        loop = asyncio.get_running_loop()
        task = await started(theirs.areceive())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not loop.remove_reader(theirs.fileno())
        ours.send_nowait(Bye())
        return await theirs.areceive()

    assert run(scenario()) == [Bye()]


def test_cancelled_send_leaves_no_writer_and_sends_nothing(pair):
    """After a cancelled asend the loop watches nothing, and nothing was sent."""
    ours, theirs = pair
    count = fill(ours, LARGE)

    async def scenario():
        """Start and be cancelled."""
        loop = asyncio.get_running_loop()
        task = await started(ours.asend(Bye()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not loop.remove_writer(ours.fileno())

    run(scenario())
    assert receive_all(theirs, ours, count) == [LARGE] * count


def test_cancelled_half_way_is_finished_by_the_next_send(narrow):
    """A packet whose asend was cancelled half way arrives whole, before the next."""
    sender, receiver = narrow

    async def scenario():
        """Be cancelled half way, then send something else."""
        task = await started(sender.asend(LARGE))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sender.unsent
        task = asyncio.create_task(sender.asend(Bye()))
        received = [await receiver.areceive(), await receiver.areceive()]
        await task
        return received

    assert run(scenario()) == [[LARGE], [Bye()]]


def test_timeout_of_the_loop_ends_a_receive(pair):
    """asyncio.timeout is the deadline of areceive."""

    async def scenario():
        """Wait for what does not come."""
        async with asyncio.timeout(0.001):
            await pair[0].areceive()

    with pytest.raises(TimeoutError):
        run(scenario())


def test_close_wakes_the_tasks_that_wait(pair):
    """
    A task that waits on a channel which is then closed gets an error, and does not
    touch the number, which may be a stranger's by then.
    """
    ours, theirs = pair

    async def scenario():
        """Close under two tasks that wait."""
        loop = asyncio.get_running_loop()
        fill(ours, LARGE)
        waiting = [await started(ours.areceive()), await started(ours.asend(LARGE))]
        number = ours.fileno()
        ours.close()
        stranger, other = socket.socketpair()
        with stranger, other:
            assert stranger.fileno() == number
            loop.add_reader(stranger, lambda: None)
            loop.add_writer(stranger, lambda: None)
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [end.errno for end in ends] == [errno.EBADF, errno.EBADF]
            assert loop.remove_reader(stranger)
            assert loop.remove_writer(stranger)

    run(scenario())
    theirs.close()


def test_send_and_receive_at_once_in_one_task_each(pair):
    """A reader and a writer may wait on the same channel at the same time."""
    ours, theirs = pair
    count = fill(ours, LARGE)

    async def scenario():
        """Wait in both directions, then get both."""
        receiving = await started(ours.areceive())
        sending = await started(ours.asend(Bye()))
        theirs.send_nowait(Text(b"meanwhile"))
        assert await receiving == [Text(b"meanwhile")]
        received = [await theirs.areceive() for _ in range(count + 1)]
        await sending
        return received

    assert run(scenario()) == [*[[LARGE]] * count, [Bye()]]
