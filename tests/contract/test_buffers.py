"""The receive buffers of connections that are only peeked at, with real sockets."""

import select
import socket

import pytest

from driver import wait_until
from maitred.acceptor import buffers
from maitred.acceptor.connection import Connection
from maitred.errors import UsageError


@pytest.fixture
def line():
    """A client, and the connection that nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    client.setblocking(False)
    with client, sock:
        yield client, Connection(sock, 1, (b"127.0.0.1", 1), (b"127.0.0.1", 2))


def send(client, data):
    """Send what the kernel takes; return the rest."""
    try:
        return data[client.send(data) :]
    except BlockingIOError:
        return data


def seen(connection):
    """Look at what has come, as the peeker does."""
    sock = connection.sock
    connection.seen = len(sock.recv(2**21, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return connection.seen


def test_buffer_grows_for_what_is_waited_for(line):
    """A million bytes arrive though nobody reads one of them."""
    client, connection = line
    rest = b"x" * 999_999

    def arrived():
        nonlocal rest
        rest = send(client, rest)
        seen(connection)
        buffers.make_room(connection, 1_000_000)
        return connection.seen == 1_000_000

    client.send(b"x")
    wait_until(
        "something has come", lambda: select.select([connection.sock], [], [], 0)[0]
    )
    wait_until("all of it has come", arrived)
    assert not buffers.is_full(connection)


def test_buffer_that_is_not_needed_stays_as_it_is(line):
    """Few bytes, or a limit that is reached, change nothing."""
    client, connection = line
    before = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    client.send(b"x" * 20_000)
    wait_until("it has come", lambda: seen(connection) == 20_000)
    buffers.make_room(connection, 1_000_000)
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
    assert not buffers.is_full(connection)


def test_full_buffer_is_told(line):
    """A client that can send no more is not one that is slow."""
    client, connection = line
    rest = b"x" * 20_000_000

    def stuck():
        nonlocal rest
        before = rest
        rest = send(client, rest)
        return len(rest) == len(before) and buffers.is_full(connection)

    wait_until("nothing more goes in", stuck)


def test_limit_that_no_buffer_holds_is_refused(monkeypatch):
    """The sentence says whose it is, and what can be done."""
    room = buffers.most()
    buffers.check(room, "--head-limit")
    with pytest.raises(UsageError, match=rf"--head-limit {room + 1}: .*tcp_rmem"):
        buffers.check(room + 1, "--head-limit")
    monkeypatch.setattr(buffers, "TCP_RMEM", "/nowhere")
    buffers.check(1 << 40, "--head-limit")
