"""
The contract of the channel: every descriptor has one owner at every moment.

Each test names a way in which passing descriptors goes wrong elsewhere: they are
lost without a word, arrive twice, outlive an exec, or are a stranger's.
"""

import errno
import os
import resource
import socket
import subprocess
import sys

import pytest

from channel_kit import (
    DEADLINE,
    TABLE,
    Asyncio,
    Blocking,
    Bye,
    Pass,
    Text,
    fill,
    in_child,
    is_same,
    open_descriptors,
    raw_send,
    receive_all,
    room_for,
)
from maitred import (
    MAX_DESCRIPTORS,
    Channel,
    ChannelFull,
    Descriptor,
    DescriptorsLost,
    PeerMisbehaved,
)
from maitred.wire import channel
from maitred.wire.codec import VERSION
from maitred.wire.messages import FROM_MASTER, FROM_WORKER, Handoff, Reason, Refused

LIST_DESCRIPTORS = (
    "import os\n"
    "for fd in os.listdir('/proc/self/fd'):\n"
    "    try: print(os.readlink('/proc/self/fd/' + fd))\n"
    "    except FileNotFoundError: pass"
)


# What outlives an exec.


def test_received_descriptor_does_not_survive_exec(pair, use, tmp_path):
    """A grandchild started with close_fds=False has neither file nor channel."""
    ours, theirs = pair
    path = tmp_path / "passed"
    with Descriptor(os.open(path, os.O_CREAT | os.O_RDWR)) as file:
        use.send(ours, Pass(1, file, b""))
    [message] = use.receive(theirs)
    with message.file:
        mine = open_descriptors()
        listed = subprocess.run(
            [sys.executable, "-ISc", LIST_DESCRIPTORS],
            close_fds=False,
            check=True,
            stdout=subprocess.PIPE,
            timeout=DEADLINE,
            text=True,
        ).stdout.splitlines()
    assert str(path) in mine.values()
    assert str(path) not in listed
    for end in pair:
        assert mine[end.fileno()] not in listed


# What arrives without its descriptors.


def test_receiver_at_its_limit_is_told_what_it_lost(pair, use, files):
    """
    A packet whose descriptors did not all fit raises DescriptorsLost: it has the
    messages, what came is closed, and the channel goes on.
    """
    ours, theirs = pair
    made = files(5)
    use.send(ours, *[Pass(n, file, b"%d" % n) for n, file in enumerate(made)])
    use.send(ours, Text(b"next"))
    before = open_descriptors()
    with room_for(2), pytest.raises(DescriptorsLost) as lost:
        theirs.receive_nowait()
    assert lost.value.messages == [Pass(n, None, b"%d" % n) for n in range(5)]
    assert (lost.value.expected, lost.value.arrived) == (5, 2)
    assert open_descriptors() == before
    assert use.receive(theirs) == [Text(b"next")]


def test_every_number_of_missing_descriptors_is_noticed(pair, files):
    """None is missing unnoticed, whether all are lost or only the last one."""
    ours, theirs = pair
    made = files(4)
    for room in range(4):
        ours.send_nowait(*[Pass(n, file, b"") for n, file in enumerate(made)])
        with room_for(room), pytest.raises(DescriptorsLost) as lost:
            theirs.receive_nowait()
        assert lost.value.arrived == room
    ours.send_nowait(*[Pass(n, file, b"") for n, file in enumerate(made)])
    with room_for(4):
        received = theirs.receive_nowait()
    for message in received:
        with message.file:
            assert is_same(message.file, made[message.number])


def test_worker_at_its_limit_refuses_and_nothing_is_lost(kind, use):
    """
    The worker refuses connections whose descriptors it could not get, by their ids;
    the master still has them and hands them over again; the clients notice nothing.
    """
    master, worker = Channel.pair(sends=FROM_MASTER, receives=FROM_WORKER, kind=kind)
    with master, worker, socket.create_server(("127.0.0.1", 0)) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(6)]
        accepted = {n: listener.accept()[0] for n in range(6)}

        def handoffs(ids):
            return [
                Handoff(accepted[n], n, b"127.0.0.1", 1, b"127.0.0.1", 2, b"", 0, b"")
                for n in ids
            ]

        use.send(master, *handoffs(accepted))
        with room_for(3), pytest.raises(DescriptorsLost) as lost:
            worker.receive_nowait()
        use.send(
            worker,
            *[Refused(m.id, Reason.NO_DESCRIPTOR) for m in lost.value.messages],
        )
        refused = [message.id for message in use.receive(master)]
        assert refused == list(accepted)

        use.send(master, *handoffs(refused))
        for message in use.receive(worker):
            with socket.socket(fileno=message.connection.detach()) as connection:
                accepted.pop(message.id).close()
                connection.sendall(b"served")
        for client in clients:
            with client:
                client.settimeout(DEADLINE)
                assert client.makefile("rb").read() == b"served"


def test_no_descriptor_was_due_and_none_fits(kind, files):
    """
    A packet that may carry none, with one that did not fit, is the peer's fault and
    no shortage of ours.
    """
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    [file] = files(1)
    with one, Channel(two, sends=TABLE, receives={3: Bye}) as channel:
        raw_send(one, bytes([VERSION, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), file.fileno())
        with room_for(0), pytest.raises(PeerMisbehaved, match="0 and more descriptors"):
            channel.receive_nowait()


# What is not ours any more.


def test_closed_socket_is_never_sent_nor_who_has_its_number_now(pair, use, files):
    """
    A socket that is closed before its message could be sent is an error, though the
    number is another file's by now.
    """
    ours, theirs = pair
    [other] = files(1)
    sock, far = socket.socketpair()
    far.close()
    count = fill(ours, Text(b"x" * 50_000))
    message = Pass(1, sock, b"")
    with pytest.raises(ChannelFull):
        ours.send_nowait(Pass(0, other, b""), message)
    number = sock.fileno()
    sock.close()
    with Descriptor(os.dup(other.fileno())) as stranger:
        assert stranger.fileno() == number
        receive_all(theirs, ours, count)
        with pytest.raises(ValueError, match="was closed before"):
            use.send(ours, Pass(0, other, b""), message)
    assert theirs.receive_nowait() == []


def test_closed_descriptor_is_never_sent(pair, use, files):
    """A Descriptor that was closed or detached is an error, and nothing is sent."""
    ours, theirs = pair
    good, closed, detached = files(3)
    closed.close()
    os.close(detached.detach())
    for bad in (closed, detached):
        with pytest.raises(ValueError, match="closed or detached"):
            use.send(ours, Pass(0, good, b""), Pass(1, bad, b""))
    assert theirs.receive_nowait() == []


def test_received_descriptor_that_is_dropped_is_closed_with_a_warning(pair, files):
    """Forgetting a message closes its descriptor, and says so."""
    ours, theirs = pair
    ours.send_nowait(Pass(1, *files(1), b""))
    received = theirs.receive_nowait()
    before = len(open_descriptors())
    with pytest.warns(ResourceWarning, match="unclosed <Descriptor [0-9]+>"):
        received.clear()
    assert len(open_descriptors()) == before - 1


def test_close_drops_the_descriptors_of_an_unfinished_packet(files):
    """Closing in the middle of a packet closes what came with its first bytes."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, Channel(two, sends=TABLE, receives=TABLE) as channel:
        raw_send(one, b"\x01\x02\x00", *[file.fileno() for file in files(2)])
        before = len(open_descriptors())
        assert channel.receive_nowait() == []
        assert len(open_descriptors()) == before + 2


def test_descriptors_in_flight_are_closed_with_the_channel(pair, files):
    """What nobody received is closed by the kernel, and the sender keeps its copies."""
    ours, theirs = pair
    made = files(3)
    ours.send_nowait(*[Pass(n, file, b"") for n, file in enumerate(made)])
    theirs.close()
    for file in made:
        os.fstat(file.fileno())


# Too many in flight.


def unprivileged_pair(kind, limit=40):
    """Become nobody, with a low limit; return a channel between us and ourselves."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    return Channel.pair(sends=TABLE, receives=TABLE, kind=kind)


def test_too_many_descriptors_in_flight_is_a_full_channel(kind):
    """
    An unprivileged sender at ETOOMANYREFS gets ChannelFull, for which polling is no
    help, and can send again when the receiver has read.
    """

    def scenario():
        ours, theirs = unprivileged_pair(kind)
        [file] = [Descriptor(os.memfd_create("test"))]
        messages = [Pass(n, file, b"") for n in range(5)]
        sent = 0
        while True:
            try:
                ours.send_nowait(*messages)
                sent += 1
            except ChannelFull as full:
                error, polling_helps, text = full.error, full.poll_helps, str(full)
                break
        try:
            ours.send(*messages, timeout=0.05)
        except TimeoutError:
            timed_out = True
        for _ in range(sent):
            for message in theirs.receive_nowait():
                message.file.close()
        nothing_more = theirs.receive_nowait()
        ours.send_nowait(*messages)
        again = len(theirs.receive_nowait())
        return error.errno, polling_helps, text, timed_out, nothing_more, again

    number, polling_helps, text, timed_out, nothing_more, again = in_child(scenario)
    assert number == errno.ETOOMANYREFS
    assert not polling_helps
    assert text == "the channel takes no more now: Too many references: cannot splice"
    assert timed_out
    assert nothing_more == []
    assert again == 5


@pytest.mark.parametrize("use", [Blocking(), Asyncio()], ids=["blocking", "asyncio"])
def test_sender_that_waits_goes_on_when_fewer_are_in_flight(kind, use):
    """Either waiting send gets its packet out once the receiver has read."""

    def scenario():
        ours, theirs = unprivileged_pair(kind)
        [file] = [Descriptor(os.memfd_create("test"))]
        messages = [Pass(n, file, b"") for n in range(5)]
        sent = 0
        try:
            while True:
                ours.send_nowait(*messages)
                sent += 1
        except ChannelFull:
            pass
        child = os.fork()
        if child == 0:
            # Reads only; the parent's is the only end that sends.
            ours.close()
            while sent >= 0:
                for message in theirs.receive(timeout=DEADLINE):
                    message.file.close()
                sent -= 1
            os._exit(0)
        use.send(ours, *messages)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(scenario) == 0


class Refusing(socket.socket):
    """A socket for which the kernel has no memory at first."""

    refusals = 2

    def sendmsg(self, *args):
        """Refuse twice, then send."""
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().sendmsg(*args)


@pytest.mark.parametrize("use", [Blocking(), Asyncio()], ids=["blocking", "asyncio"])
def test_kernel_without_memory_is_a_full_channel(kind, use):
    """ENOBUFS is a full channel for which polling is no help, and one can wait."""
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    sock = Refusing(fileno=one.detach())
    with (
        Channel(sock, sends=TABLE, receives=TABLE) as ours,
        Channel(two, sends=TABLE, receives=TABLE) as theirs,
    ):
        with pytest.raises(ChannelFull) as refused:
            ours.send_nowait(Bye())
        assert not refused.value.poll_helps
        use.send(ours, Bye())
        assert theirs.receive_nowait() == [Bye()]


# What other systems do, or other options.


def test_system_without_close_on_exec_at_receive_sets_it_after(
    monkeypatch, pair, files
):
    """Where recvmsg cannot do it, received descriptors get close-on-exec at once."""
    ours, theirs = pair
    monkeypatch.setattr(channel, "MSG_CMSG_CLOEXEC", 0)
    ours.send_nowait(Pass(1, *files(1), b""))
    [message] = theirs.receive_nowait()
    with message.file:
        assert not os.get_inheritable(message.file.fileno())


def test_credentials_that_come_too_take_no_descriptors_place(kind, files):
    """A receiver that asked for credentials still gets every descriptor."""
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with (
        Channel(one, sends=TABLE, receives=TABLE) as ours,
        Channel(two, sends=TABLE, receives=TABLE) as theirs,
    ):
        [file] = files(1)
        ours.send_nowait(*[Pass(n, file, b"") for n in range(MAX_DESCRIPTORS)])
        received = theirs.receive_nowait()
        assert len(received) == MAX_DESCRIPTORS
        for message in received:
            message.file.close()
