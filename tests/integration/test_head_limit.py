"""``--head-limit`` above what a receive buffer holds when it is new."""

from __future__ import annotations

import socket
import subprocess

import pytest

from driver import APPS, COMMAND
from maitred.acceptor import buffers
from raw_http import Connection, connect

LIMIT = 1024 * 1024


def head(size: int) -> bytes:
    """Make the head of a request with a header of *size* bytes."""
    return b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * size)


@pytest.mark.parametrize("size", [100_000, 130_000, 900_000])
def test_large_head_is_served_on_a_new_connection(serve, size):
    """What the option allows is waited for, however large the buffer was."""
    server = serve("probe:app", "--head-limit", str(LIMIT), "--head-timeout", "60")
    with connect(server.port) as client:
        assert client.ask(head(size)).status == 200
    assert server.status()["connections"]["refused"] == {}


def test_head_beyond_the_limit_is_too_large(serve):
    """Before all of it has come."""
    server = serve("probe:app", "--head-limit", str(LIMIT), "--head-timeout", "60")
    with connect(server.port) as client:
        assert client.ask(head(LIMIT + 1)).status == 431


def test_client_that_can_send_no_more_is_not_called_slow(serve, tmp_path):
    """A Unix socket's buffer is the client's: its head is too large, not too late."""
    path = tmp_path / "sock"
    server = serve(
        *("probe:app", "--bind", f"unix:{path}"),
        *("--head-limit", str(LIMIT), "--head-timeout", "1"),
    )
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    with Connection(sock) as client:
        sock.setblocking(False)
        sent = sock.send(head(900_000))
        assert buffers.OF_UNIX <= sent < 900_000
        sock.setblocking(True)
        assert client.answer().status == 431
    assert server.status()["connections"]["refused"] == {"head_too_large": 1}


def test_limit_that_no_buffer_holds_is_refused_at_the_start():
    """Nothing is started, and the sentence says what to do."""
    limit = buffers.most() + 1
    done = subprocess.run(
        [COMMAND, "serve", "probe:app", "--head-limit", str(limit)],
        cwd=APPS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"--head-limit {limit}: the kernel holds at most" in done.stderr
