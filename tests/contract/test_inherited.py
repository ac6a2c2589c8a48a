"""Sockets that were passed to us, with real ones: which bind takes which."""

from __future__ import annotations

import os
import socket

import pytest

from maitred.master.inherited import VARIABLES, Inherited, where
from maitred.master.listeners import open_listeners
from maitred.master.notify import name_of


def server(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Listen on *host*."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def unix_server(path: object) -> socket.socket:
    """Listen at *path*."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen()
    return sock


def opened(binds: tuple[str, ...], *passed: socket.socket) -> list[bool]:
    """Say of each listener of *binds* whether it is one of *passed*; close all."""
    inherited = Inherited([("", sock) for sock in passed])
    listeners = open_listeners(binds, 16, inherited=inherited)
    found = [listener.sock in passed for listener in listeners]
    assert [listener.kept for listener in listeners] == found
    list(inherited.close_rest())
    for listener in listeners:
        listener.close()
    assert all(sock.fileno() < 0 for sock in passed)
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_bind_takes_the_socket_of_its_address(host):
    """Family, host and port are the same; it is made non-blocking and listens on."""
    sock = server(host.strip("[]"))
    assert opened((f"{host}:{sock.getsockname()[1]}",), sock) == [True]


def test_free_port_takes_what_no_other_bind_is_for():
    """Whatever the order: the port that is named goes to who names it."""
    one, other = server(), server()
    port = one.getsockname()[1]
    binds = ("127.0.0.1:0", f"127.0.0.1:{port}")
    inherited = Inherited([("", one), ("", other)])
    listeners = open_listeners(binds, 16, inherited=inherited)
    assert [listener.sock for listener in listeners] == [other, one]
    for listener in listeners:
        listener.close()


def test_other_address_is_closed(caplog):
    """Nobody would ever accept from it."""
    sock = server("127.0.0.2")
    text = where(sock)
    assert opened(("127.0.0.1:0",), sock) == [False]
    assert f"({text}) is closed: no --bind is for it" in caplog.text


def test_unix_bind_takes_the_socket_of_its_path(tmp_path):
    """The file stays for the next master."""
    path = tmp_path / "a.sock"
    assert opened((f"unix:{path}",), unix_server(path)) == [True]
    assert path.exists()


def test_unix_socket_whose_file_is_gone_is_not_taken(tmp_path):
    """No client could find it: the path is bound anew."""
    path = tmp_path / "a.sock"
    sock = unix_server(path)
    path.unlink()
    assert opened((f"unix:{path}",), sock) == [False]


def test_what_does_not_listen_is_closed(caplog):
    """A datagram socket, or one that is connected, is no listener."""
    one, other = socket.socketpair()
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.bind(("127.0.0.1", 0))
    assert opened(("127.0.0.1:0",), one, other, bound) == [False]
    assert caplog.text.count("(no socket that listens) is closed") == 3


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_what_is_for_nobody_or_others_is_left_alone(environment):
    """And removed from the environment, which the workers inherit."""
    left = environment | {"OTHER": "1"}
    assert Inherited.from_environment(left).sockets == []
    assert left == {"OTHER": "1"}
    assert not set(VARIABLES) & left.keys()


def test_name_tells_listeners_apart(tmp_path):
    """It is the address, without what a name may not have."""
    path = tmp_path / "a b:c.sock"
    with server() as four, server("::1") as six, unix_server(path) as unix:
        names = [name_of(sock) for sock in (four, six, unix)]
        assert names == [
            f"maitred-127.0.0.1_{four.getsockname()[1]}",
            f"maitred-[__1]_{six.getsockname()[1]}",
            f"maitred-unix_{tmp_path}/a_b_c.sock",
        ]
