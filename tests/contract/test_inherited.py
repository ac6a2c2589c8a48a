"""Sockets that were passed to us, with real ones: which bind takes which."""

from __future__ import annotations

import os
import socket
import uuid

import pytest

from maitred.acceptor.listeners import open_listeners
from maitred.acceptor.socket_activation import VARIABLES, Inherited, name_of, where
from maitred.errors import SystemRefused, UsageError


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


def dual(port: int = 0) -> socket.socket:
    """Listen at all addresses, as ListenStream=PORT of a socket unit does."""
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)


def raw(family: socket.AddressFamily, address: object) -> socket.socket:
    """Listen at *address* as it stands."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen()
    return sock


def port_of(sock: socket.socket) -> int:
    """Return where *sock* listens."""
    port: int = sock.getsockname()[1]
    return port


@pytest.mark.parametrize("bind", [":{}", "0.0.0.0:{}", "[::]:{}", "[::0]:{}"])
def test_one_socket_of_all_addresses_is_taken_for_both_families(bind):
    """And no second one is opened, which the kernel would refuse."""
    sock = dual()
    assert opened((bind.format(port_of(sock)),), sock) == [True]


def test_two_binds_can_share_it():
    """They say what it is."""
    sock = dual()
    port = port_of(sock)
    assert opened((f"0.0.0.0:{port}", f"[::]:{port}"), sock) == [True]


def test_two_binds_that_share_it_have_to_agree():
    """A connection begins with a PROXY header, or it does not."""
    sock = dual()
    port = port_of(sock)
    inherited = Inherited([("", sock)])
    with pytest.raises(UsageError, match="are one socket, which was passed to us"):
        open_listeners(
            (f"0.0.0.0:{port}", f"[::]:{port},proxy"), 16, inherited=inherited
        )
    assert sock.fileno() < 0


def test_socket_of_ipv6_alone_is_not_that_of_ipv4():
    """The other family is opened beside it."""
    sock = server("::")
    assert opened((f":{port_of(sock)}",), sock) in ([False, True], [True, False])


MAPPED = {
    "socket": ("::ffff:127.0.0.1", "127.0.0.1"),
    "bind": ("127.0.0.1", "[::ffff:127.0.0.1]"),
    "both": ("::ffff:127.0.0.1", "[::ffff:7f00:1]"),
}


@pytest.mark.parametrize("case", MAPPED)
def test_ipv4_in_the_words_of_ipv6_is_the_same(case):
    """For clients too: there is one listener at that address."""
    host, bind = MAPPED[case]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = raw(family, (host, 0))
    inherited = Inherited([("", sock)])
    [listener] = open_listeners((f"{bind}:{port_of(sock)}",), 16, inherited=inherited)
    assert listener.sock is sock
    assert listener.local == (b"127.0.0.1", port_of(sock))
    listener.close()


@pytest.mark.parametrize("host", ["localhost", "127.1", "[0:0:0:0:0:0:0:1]"])
def test_name_of_an_address_is_that_address(host):
    """What it stands for is looked up before it is looked for."""
    sock = server("::1" if ":" in host else "127.0.0.1")
    found = opened((f"{host}:{port_of(sock)}",), sock)
    assert found.count(True) == 1


def test_abstract_socket_is_that_of_its_name():
    """It has no file; a path of that name is something else."""
    name = f"maitred-test-{uuid.uuid4().hex}"
    sock = raw(socket.AF_UNIX, f"\0{name}")
    assert where(sock) == f"unix:@{name}"
    assert name_of(sock) == f"maitred-unix_@{name}"
    assert opened((f"unix:@{name}",), sock) == [True]
    assert opened((f"unix:@{name}2",), raw(socket.AF_UNIX, f"\0{name}")) == [False]


@pytest.mark.parametrize("which", ["socket", "bind", "file"])
def test_path_that_leads_to_the_same_file_is_the_same(tmp_path, which):
    """As /var/run/x does, which systemd calls /run/x, and a link to the socket."""
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    real, linked = tmp_path / "run" / "x.sock", tmp_path / "link" / "x.sock"
    sock = unix_server(linked if which == "socket" else real)
    if which == "file":
        linked = tmp_path / "alias.sock"
        linked.symlink_to(real)
    bind = real if which == "socket" else linked
    assert opened((f"unix:{bind}",), sock) == [True]
    assert real.exists()


@pytest.mark.parametrize("order", [1, -1], ids=["first first", "last first"])
def test_free_ports_are_told_apart_by_their_binds(order):
    """The manager gives what it holds in any order; one begins with PROXY headers."""
    binds = ("127.0.0.1:0", "127.0.0.1:0,proxy")
    first = open_listeners(binds, 16)
    stored = [(name_of(each.sock, each.bind), each.sock) for each in first]
    again = open_listeners(binds, 16, inherited=Inherited(stored[::order]))
    assert [each.sock for each in again] == [each.sock for each in first]
    assert [each.proxy for each in again] == [False, True]
    for each in again:
        each.close()


def test_free_port_of_another_bind_is_left_to_it():
    """A bind that is new opens a socket of its own."""
    [one] = open_listeners(("127.0.0.1:0,proxy",), 16)
    inherited = Inherited([(name_of(one.sock, one.bind), one.sock)])
    binds = ("127.0.0.1:0", "127.0.0.1:0,proxy")
    new, old = open_listeners(binds, 16, inherited=inherited)
    assert (old.sock, new.kept) == (one.sock, False)
    for each in (new, old):
        each.close()


OWN = {
    "all for one": ("0.0.0.0", "127.0.0.1:{}", "where 0.0.0.0:{}"),
    "one for all": ("127.0.0.1", "0.0.0.0:{}", "where 127.0.0.1:{}"),
}


@pytest.mark.parametrize("case", OWN)
def test_socket_of_ours_in_the_way_is_named(case):
    """And nobody else is blamed for it."""
    host, bind, sentence = OWN[case]
    sock = server(host)
    port = port_of(sock)
    with pytest.raises(SystemRefused) as raised:
        open_listeners((bind.format(port),), 16, inherited=Inherited([("", sock)]))
    assert sentence.format(port) in str(raised.value)
    assert "was passed to us: give --bind its address" in str(raised.value)
    sock.close()


def test_bind_that_is_there_twice_is_named(tmp_path):
    """It is in its own way."""
    with server() as free:
        port = port_of(free)
    for bind in (f"127.0.0.1:{port}", f"unix:{tmp_path}/x.sock"):
        with pytest.raises(SystemRefused, match="another --bind listens there, at"):
            open_listeners((bind, bind), 16)


def test_somebody_else_is_still_blamed():
    """Where the socket in the way is none of ours."""
    with server() as sock, server("127.0.0.2", port_of(sock)) as other:
        inherited = Inherited([("", other)])
        with pytest.raises(SystemRefused, match="something listens there: stop it"):
            open_listeners((f"127.0.0.1:{port_of(sock)}",), 16, inherited=inherited)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_passed_socket_finds_out_who_vanished(host):
    """As those do that we open; whoever passed it with times of its own keeps them."""
    idle = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    silent, switched_on, timed = (server(host) for _ in range(3))
    for sock in (switched_on, timed):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    timed.setsockopt(*idle, 7)
    socks = [silent, switched_on, timed]
    inherited = Inherited([("", sock) for sock in socks])
    shown = f"[{host}]" if ":" in host else host
    binds = tuple(f"{shown}:{port_of(sock)}" for sock in socks)
    listeners = open_listeners(binds, 16, inherited=inherited)
    assert [sock.getsockopt(*idle) for sock in socks] == [60, 60, 7]
    for sock in socks:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("order", [1, -1], ids=["first first", "last first"])
def test_free_ports_of_two_options_are_told_apart(order):
    """What is for clients is not for who looks at the metrics."""
    [one] = open_listeners(("127.0.0.1:0",), 16)
    [other] = open_listeners(("127.0.0.1:0",), 16, option="--admin")
    stored = [(name_of(each.sock, each.bind), each.sock) for each in (one, other)]
    inherited = Inherited(stored[::order])
    [again] = open_listeners(("127.0.0.1:0",), 16, inherited=inherited)
    [admin] = open_listeners(
        ("127.0.0.1:0",), 16, inherited=inherited, option="--admin"
    )
    assert (again.sock, admin.sock) == (one.sock, other.sock)
    for each in (again, admin):
        each.close()


def test_two_options_cannot_share_a_socket():
    """They say so of each other."""
    sock = dual()
    port = port_of(sock)
    inherited = Inherited([("", sock)])
    listeners = open_listeners((f"[::]:{port}",), 16, inherited=inherited)
    with pytest.raises(UsageError, match=f"--admin 0.0.0.0:{port} and --bind"):
        open_listeners((f"0.0.0.0:{port}",), 16, inherited=inherited, option="--admin")
    for each in listeners:
        each.close()
