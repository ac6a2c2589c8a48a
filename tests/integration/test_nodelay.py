"""An answer in two writes is as fast as one in one: TCP_NODELAY, whoever serves."""

from __future__ import annotations

import socket
import statistics
import time

import pytest

KINDS = {
    "handler": ("delaying:handler", "--kind", "handler", "--loop", "asyncio"),
    "protocol": ("delaying:Protocol", "--kind", "protocol", "--loop", "asyncio"),
    "protocol on uvloop": ("delaying:Protocol", "--kind", "protocol"),
    # The function is given the socket as it was accepted, as a program is by --exec.
    "socket": ("delaying:plain", "--kind", "socket"),
}
EXCHANGES = 60
"More than Linux acknowledges at once when a connection is new."
MUCH = 10
"Without the option it is 40 ms to 0.1."


def median(sock: socket.socket, line: bytes) -> float:
    """Say *line* again and again; give the median of the seconds for an answer."""
    file = sock.makefile("rb")
    times = []
    for _ in range(EXCHANGES):
        began = time.monotonic()
        sock.sendall(line)
        assert file.readline().endswith(b"all\n")
        times.append(time.monotonic() - began)
    return statistics.median(times)


@pytest.mark.parametrize("kind", KINDS)
def test_second_write_does_not_wait(share, kind):
    """The option is set, the socket is labelled TCP, and it takes no 40 ms."""
    target, *options = KINDS[kind]
    server = share(target, *options)
    with server.connect() as sock:
        sock.sendall(b"nodelay\n")
        # uvloop labels every socket that it shows with protocol 0.
        assert sock.recv(9) == (b"1 0\n" if "uvloop" in kind else b"1 1\n")
        assert median(sock, b"two\n") < MUCH * median(sock, b"one\n")


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", ":0"])
def test_every_listener_has_it(serve, bind):
    """IPv4, IPv6, and both."""
    target, *options = KINDS["socket"]
    server = serve(target, *options, bind=bind, workers=1)
    hosts = {"127.0.0.1:0": ["127.0.0.1"], "[::1]:0": ["::1"]}
    for host in hosts.get(bind, ["127.0.0.1", "::1"]):
        with socket.create_connection((host, server.port)) as sock:
            sock.sendall(b"nodelay\n")
            assert sock.recv(9)[:1] == b"1"


def test_listener_that_was_passed_has_it(serve):
    """A socket unit need not say NoDelay=yes."""
    target, *options = KINDS["socket"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        serve(target, *options, bind=f"fd://{number}", pass_fds=[number], workers=1)
        with socket.create_connection(listener.getsockname()) as sock:
            sock.sendall(b"nodelay\n")
            assert sock.recv(9)[:1] == b"1"
