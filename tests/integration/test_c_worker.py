"""
The worker in C, driven by a small master: the protocol is not Python's.

What the master here does is what docs/reference/channel.md says, with the library's
own tables; the worker shares no line with it.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from channel_kit import DEADLINE, open_descriptors, raw_send
from maitred import Channel, ChannelClosed
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Closed,
    Drain,
    Drained,
    Handoff,
    Quit,
    Ready,
    Reason,
    Refused,
    Taken,
)

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "examples" / "worker.c"
SO_COOKIE = 57  # CPython has no name for it (asm-generic/socket.h)
REQUEST = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"


def cookie(sock):
    """Ask the kernel for the id of a connection."""
    return struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


class Client:
    """A client of the service, which reads one answer at a time."""

    def __init__(self, address):
        """Connect to *address*."""
        self.sock = socket.create_connection(address, timeout=DEADLINE)
        self.reader = self.sock.makefile("rb")

    def ask(self, request=REQUEST):
        """Send *request* and return the answer to it."""
        self.sock.sendall(request)
        return self.answer()

    def answer(self):
        """Read one answer: its head, and its body by Content-Length."""
        head = {}
        status = self.reader.readline()
        assert status == b"HTTP/1.1 200 OK\r\n"
        while (line := self.reader.readline()) != b"\r\n":
            name, value = line.decode().strip().split(": ")
            head[name] = value
        return head, self.reader.read(int(head["Content-Length"])).decode()

    def is_at_end(self):
        """Wait until the other side has closed the connection."""
        return self.reader.read(1) == b""

    def close(self):
        """Leave."""
        self.reader.close()
        self.sock.close()


class Master:
    """Accepts, hands over, keeps its copy until TAKEN."""

    def __init__(self, program):
        """Start *program* as the worker and wait until it is ready."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours, sends=FROM_MASTER, receives=FROM_WORKER)
        with theirs:
            self.worker = subprocess.Popen(
                [program],
                env={"MAITRED_CHANNEL": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )
        self.copies = {}
        self.clients = []
        assert self.hear() == [Ready(self.worker.pid)]

    def hear(self):
        """Wait for what the worker says next."""
        return self.channel.receive(timeout=DEADLINE)

    def accept(self, count=1):
        """Let *count* clients connect; return them and their handoffs."""
        clients, handoffs = [], []
        for _ in range(count):
            clients.append(Client(self.listener.getsockname()))
            connection, (peer, port) = self.listener.accept()
            self.copies[cookie(connection)] = connection
            handoffs.append(
                Handoff(
                    connection=connection,
                    id=cookie(connection),
                    peer=peer.encode(),
                    peer_port=port,
                    local=b"127.0.0.1",
                    local_port=self.listener.getsockname()[1],
                    key=b"key",
                    once=0,
                    consumed=b"",
                )
            )
        self.clients += clients
        return clients, handoffs

    def hand_over(self, count=1):
        """Let *count* clients connect, and hand them over in one packet."""
        clients, handoffs = self.accept(count)
        self.channel.send(*handoffs, timeout=DEADLINE)
        return clients, [handoff.id for handoff in handoffs]

    def hear_taken(self, count):
        """Wait until *count* connections are taken; close their copies."""
        taken = []
        while len(taken) < count:
            for message in self.hear():
                assert isinstance(message, Taken)
                self.copies.pop(message.id).close()
                taken.append(message.id)
        return taken

    def exit_code(self):
        """Wait until the worker has left."""
        return self.worker.wait(DEADLINE)

    def close(self):
        """Leave nothing behind."""
        self.channel.close()
        self.listener.close()
        for each in [*self.copies.values(), *self.clients]:
            each.close()
        self.worker.kill()
        self.worker.communicate()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The worker, compiled with every warning as an error."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang) on this machine")
    binary = tmp_path_factory.mktemp("c") / "worker"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([compiler, *flags, "-o", binary, SOURCE], check=True)
    return binary


@pytest.fixture
def master(program):
    """A master with one C worker that is ready; nothing of them is left."""
    before = open_descriptors()
    master = Master(program)
    yield master
    master.close()
    assert open_descriptors() == before


def greeting(master):
    """Say what the worker answers."""
    return f"Hello from a C worker, pid {master.worker.pid}\n"


def test_batch_is_taken_and_served(master):
    """Every connection of a packet is taken once and answered by the worker."""
    clients, ids = master.hand_over(40)
    for client in clients:
        assert client.ask()[1] == greeting(master)
    assert sorted(master.hear_taken(40)) == sorted(ids)
    for client in clients:
        assert client.ask()[1] == greeting(master)
    assert master.channel.receive_nowait() == []


def test_connection_is_taken_before_it_is_answered(master):
    """When a client has its answer, the master has had TAKEN already."""
    for _ in range(20):
        [client], [number] = master.hand_over()
        client.ask()
        assert master.channel.receive_nowait() == [Taken(number)]


def test_connection_is_not_taken_before_it_is_read(master):
    """A silent client's connection stays the master's."""
    [silent], [first] = master.hand_over()
    [client], [second] = master.hand_over()
    client.ask()
    assert master.hear_taken(1) == [second]
    silent.ask()
    assert master.hear_taken(1) == [first]


def test_several_packets_of_connections(master):
    """Connections that come one packet after another all work at once."""
    clients = [master.hand_over(count)[0] for count in (1, 64, 3)]
    for batch in clients:
        for client in batch:
            assert client.ask()[1] == greeting(master)
    assert len(master.hear_taken(68)) == 68


def test_requests_split_and_joined(master):
    """A request in pieces and three requests at once are answered one by one."""
    [client], _ = master.hand_over()
    for n in range(0, len(REQUEST), 7):
        client.sock.sendall(REQUEST[n : n + 7])
    assert client.answer()[1] == greeting(master)
    client.sock.sendall(REQUEST * 3)
    assert [client.answer()[1] for _ in range(3)] == [greeting(master)] * 3


@pytest.mark.parametrize("cut", [1, 20, len(REQUEST)])
def test_bytes_that_the_master_consumed_come_first(master, cut):
    """What travels in the handoff is read before what is in the kernel."""
    [client], [handoff] = master.accept()
    client.sock.sendall(REQUEST[cut:])
    master.channel.send(handoff._replace(consumed=REQUEST[:cut]), timeout=DEADLINE)
    assert client.answer()[1] == greeting(master)
    assert master.hear_taken(1) == [handoff.id]


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_request_with_a_body_is_the_last(master, request_):
    """Where the next request begins is unknown, so there is none."""
    [client], _ = master.hand_over()
    head, _ = client.ask(request_)
    assert head["Connection"] == "close"
    # While the master keeps its copy, no FIN leaves the machine.
    assert len(master.hear_taken(1)) == 1
    assert client.is_at_end()


def test_client_that_left_is_taken_and_forgotten(master):
    """Already gone is an ordinary outcome: it is read, taken, and closed."""
    [client], [number] = master.hand_over()
    client.close()
    assert master.hear_taken(1) == [number]
    assert master.hand_over()[0][0].ask()[1] == greeting(master)


def test_worker_at_its_limit_refuses_and_the_master_tries_again(master):
    """
    Connections whose descriptors did not reach the worker are refused, all of their
    packet; the master's copies serve when there is room again.
    """
    pid = master.worker.pid
    in_use = len(os.listdir(f"/proc/{pid}/fd"))
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use + 2, limits[1]))
    clients, handoffs = master.accept(5)
    master.channel.send(*handoffs, timeout=DEADLINE)
    refused = []
    while len(refused) < 5:
        refused += master.hear()
    assert refused == [Refused(h.id, Reason.NO_DESCRIPTOR) for h in handoffs]
    assert len(os.listdir(f"/proc/{pid}/fd")) == in_use

    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    master.channel.send(*handoffs, timeout=DEADLINE)
    for client in clients:
        assert client.ask()[1] == greeting(master)
    assert len(master.hear_taken(5)) == 5


def test_descriptor_of_something_else_is_refused(master):
    """The worker compares the id with the kernel's, and keeps nothing else."""
    [_, other], [first, second] = master.accept(2)
    with open(os.devnull, "rb") as no_socket:
        master.channel.send(
            first._replace(connection=second.connection),
            first._replace(connection=no_socket),
            second,
            timeout=DEADLINE,
        )
    for _ in range(2):
        assert master.hear() == [Refused(first.id, Reason.WRONG_DESCRIPTOR)]
    assert other.ask()[1] == greeting(master)
    assert master.hear_taken(1) == [second.id]


def test_drain_finishes_what_was_begun_and_refuses_the_rest(master):
    """
    Draining, the worker gives back what it never read, answers what it has, and
    leaves with exit code 0.
    """
    [begun, _], [first, untouched] = master.hand_over(2)
    begun.ask()
    assert master.hear_taken(1) == [first]
    master.channel.send(Drain(60_000), timeout=DEADLINE)
    assert master.hear() == [Refused(untouched, Reason.DRAINING)]
    _, [late] = master.hand_over()
    assert master.hear() == [Refused(late, Reason.DRAINING)]
    head, _ = begun.ask()
    assert head["Connection"] == "close"
    assert begun.is_at_end()
    assert master.hear() == [Closed(first)]
    assert master.hear() == [Drained(0)]
    assert master.exit_code() == 0


def test_drain_ends_at_its_deadline(master):
    """A connection that is still open at the deadline is cut, and counted."""
    [client], _ = master.hand_over()
    client.ask()
    master.hear_taken(1)
    master.channel.send(Drain(1), timeout=DEADLINE)
    assert master.hear() == [Drained(1)]
    assert client.is_at_end()
    assert master.exit_code() == 0


def test_drain_of_an_idle_worker_ends_at_once(master):
    """With nothing to finish, DRAINED is the answer to DRAIN."""
    master.channel.send(Drain(60_000), timeout=DEADLINE)
    assert master.hear() == [Drained(0)]
    assert master.exit_code() == 0


def test_quit_is_obeyed(master):
    """QUIT ends the worker, whatever it is doing."""
    [client], _ = master.hand_over()
    client.ask()
    master.channel.send(Quit(), timeout=DEADLINE)
    assert master.exit_code() == 0


def test_worker_leaves_with_its_master(master):
    """EOF on the channel is the end, also while connections are open."""
    [client], _ = master.hand_over()
    client.ask()
    master.channel.close()
    assert master.exit_code() == 0


def test_packet_that_cannot_be_ends_the_worker(program):
    """A worker does not go on with a master that breaks the protocol."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            worker = subprocess.Popen(
                [program],
                env={"MAITRED_CHANNEL": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )
        raw_send(ours, bytes([1, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        _, said = worker.communicate(timeout=DEADLINE)
    assert worker.returncode == 1
    assert said == "worker: the master sent a packet that cannot be\n"


@pytest.mark.parametrize("environment", [{}, {"MAITRED_CHANNEL": "77"}])
def test_worker_without_a_channel_says_so(program, environment):
    """Started by hand, the worker says who has to start it."""
    done = subprocess.run(
        [program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "worker: MAITRED_CHANNEL names no open descriptor:"
        " this is started by a maitred master\n"
    )


def test_killed_worker_loses_nothing_that_was_not_taken(program):
    """
    Connections that a dead worker never took are handed to the next one, with what
    their clients have said meanwhile.
    """
    with contextlib.closing(Master(program)) as first:
        clients, handoffs = first.accept(8)
        first.worker.send_signal(signal.SIGSTOP)  # so that it reads nothing
        first.channel.send(*handoffs, timeout=DEADLINE)
        for client in clients:
            client.sock.sendall(REQUEST)
        first.worker.kill()
        first.worker.wait(DEADLINE)
        with pytest.raises(ChannelClosed) as closed:
            first.channel.receive(timeout=DEADLINE)
        assert closed.value.undelivered
        with contextlib.closing(Master(program)) as second:
            second.copies = dict(first.copies)
            second.channel.send(*handoffs, timeout=DEADLINE)
            for client in clients:
                assert client.answer()[1] == greeting(second)
            assert len(second.hear_taken(8)) == 8
