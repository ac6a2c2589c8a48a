"""
Sockets that others open for us: by socket activation, a keeper, a manager's store.

Each is served for the --bind of its place, however the two are written, and what we
promise to clients holds for its connections too.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from pathlib import Path

import pytest

from driver import Maitred, wait_until
from manager import Manager
from mosquitto import free_port
from raw_http import Connection, ask, connect, connect_unix, get

ACTIVATE = "systemd-socket-activate"
needs_activate = pytest.mark.skipif(
    not shutil.which(ACTIVATE), reason=f"needs {ACTIVATE}, as Debian's systemd has it"
)
KEEPALIVE = 2
"How proc_net_tcp calls the timer."


@pytest.fixture
def manager(tmp_path: Path):
    """Listen as a service manager does."""
    with Manager(tmp_path) as listening:
        yield listening


def abstract() -> str:
    """Return a name that no abstract socket has."""
    return f"@maitred-test-{uuid.uuid4().hex}"


def reach(listen: str) -> Connection:
    """Connect to what ``ListenStream=`` calls *listen*."""
    if listen.startswith(("@", "/")):
        return connect_unix(listen.replace("@", "\0", 1))
    return connect(int(listen.rpartition(":")[2]))


def until_open(listen: str) -> None:
    """Wait until somebody listens there, without the connect that starts a service."""
    if listen.startswith(("@", "/")):
        text, table = listen, "/proc/net/unix"
    else:
        text, table = f":{int(listen.rpartition(':')[2]):04X} ", "/proc/net/tcp6"
        if ":" in listen:
            table = "/proc/net/tcp"
    wait_until(f"{listen} is open", lambda: text in Path(table).read_text())


WAYS = {
    "abstract": (abstract, "unix:{}"),
    "port for all": (lambda: str(free_port()), ":{}"),
    "port for IPv4": (lambda: str(free_port()), "0.0.0.0:{}"),
    "port for IPv6": (lambda: str(free_port()), "[::]:{}"),
    "address": (lambda: f"127.0.0.1:{free_port()}", "{}"),
}


@needs_activate
@pytest.mark.parametrize("way", WAYS)
def test_what_systemd_opened_is_served(serve, way):
    """By the program that comes with systemd."""
    make, bind = WAYS[way]
    listen = make()
    server = serve(
        "probe:app", bind=bind.format(listen), workers=1, ready=False,
        through=[ACTIVATE, "-l", listen, "-E", "PATH", "-E", "MAITRED_TEST_RUN"],
    )  # fmt: skip
    until_open(listen)
    with reach(listen) as client:
        assert client.ask(get()).status == 200
    server.wait_for_log(r"workers of generation \d+ ready")


@needs_activate
def test_link_to_the_directory_of_a_socket_is_followed(serve, tmp_path):
    """As /var/run leads to /run, which systemd writes for it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "var-run").symlink_to(tmp_path / "run")
    listen = str(tmp_path / "run" / "x.sock")
    server = serve(
        "probe:app", bind=f"unix:{tmp_path}/var-run/x.sock", workers=1, ready=False,
        through=[ACTIVATE, "-l", listen, "-E", "PATH", "-E", "MAITRED_TEST_RUN"],
    )  # fmt: skip
    until_open(listen)
    with reach(listen) as client:
        assert client.ask(get()).status == 200
    server.wait_for_log(r"workers of generation \d+ ready")


@needs_activate
def test_clients_that_vanish_are_found_out_behind_a_socket_unit(serve):
    """The kernel asks, as on a listener that we opened: nothing else ends a raw one."""
    listen = f"127.0.0.1:{free_port()}"
    server = serve(
        "kinds:handler", "--kind", "handler", bind=listen, workers=1, ready=False,
        through=[ACTIVATE, "-l", listen, "-E", "PATH", "-E", "MAITRED_TEST_RUN"],
    )  # fmt: skip
    until_open(listen)
    with reach(listen) as first:
        # Who came before the master started has what systemd set on the socket.
        first.send(b"k hello\n")
        assert first.sock.recv(100)
    with reach(listen) as client:
        client.send(b"k hello\n")
        assert client.sock.recv(100)
        mine, its = (
            f":{port:04X}"
            for port in (int(listen.rpartition(":")[2]), client.sock.getsockname()[1])
        )

        def timer() -> tuple[int, int]:
            """Read timer and its rest, in hundredths, from proc_net_tcp."""
            rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
            [row] = [r for r in rows if r[1].endswith(mine) and r[2].endswith(its)]
            kind, _, left = row[5].partition(":")
            return int(kind, 16), int(left, 16)

        wait_until("the answer is acknowledged", lambda: timer()[0] == KEEPALIVE)
        assert timer()[1] <= 60 * os.sysconf("SC_CLK_TCK")
    server.wait_for_log(r"workers of generation \d+ ready")


def test_abstract_socket_is_kept(serve):
    """A master that is killed leaves it to the next one."""
    name = abstract()
    server = serve("probe:app", verb="keep", bind=f"unix:{name}", workers=1)
    first = server.status()["pid"]
    os.kill(first, 9)
    server.expect_log("was ended by SIGKILL")
    with reach(name) as client:  # waits in the backlog
        assert client.ask(get()).status == 200
    wait_until("there is another", lambda: server.status()["pid"] != first)
    assert server.status()["listening"] == [f"unix:{name}"]


def test_abstract_socket_is_stored(manager, serve):
    """And is found again at the next start."""
    name = abstract()

    def start() -> Maitred:
        server: Maitred = serve(
            "probe:app", bind=f"unix:{name}", workers=1, **manager.launcher()
        )
        return server

    first = start()
    wait_until("it is held", lambda: len(manager.held) == 1)
    assert [held for held, _ in manager.held] == [f"maitred-unix_{name}"]
    first.kill_all()
    Path(first.control).unlink()
    second = start()
    with reach(name) as client:
        assert client.ask(get()).status == 200
    assert second.status()["listening"] == [f"unix:{name}"]


def test_abstract_socket_is_upgraded(serve):
    """The next program serves it on."""
    name = abstract()
    server = serve("probe:app", bind=f"unix:{name}", workers=1)
    server.upgrade()
    with reach(name) as client:
        assert client.ask(get()).status == 200
    assert server.status()["listening"] == [f"unix:{name}"]


@pytest.mark.parametrize("last_first", [True, False])
def test_free_ports_do_not_change_places(manager, serve, last_first):
    """The store gives the last stored first; connections of one begin with PROXY."""

    def start() -> Maitred:
        server: Maitred = serve(
            "probe:app", "--bind", "127.0.0.1:0,proxy", bind="127.0.0.1:0", workers=1,
            **manager.launcher(),
        )  # fmt: skip
        return server

    first = start()
    wait_until("both are held", lambda: len(manager.held) == 2)
    before = first.status()["listening"]
    first.kill_all()
    Path(first.control).unlink()
    if last_first:
        manager.held.reverse()
    second = start()
    assert second.status()["listening"] == before
    plain, marked = (int(each.rpartition(":")[2]) for each in before)
    assert ask(plain).status == 200
    with connect(marked) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n")
        assert client.ask(get()).json["client"] == ["192.0.2.7", 4711]


def test_agent_has_a_socket_that_was_passed(manager, serve):
    """As the binds have theirs."""
    manager.held.append(("agent", socket.create_server(("127.0.0.1", 0))))
    port = manager.held[0][1].getsockname()[1]
    serve(
        "probe:app", "--agent", f"127.0.0.1:{port}", bind=f"127.0.0.1:{free_port()}",
        workers=1, **manager.launcher(),
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", port)) as sock:
        assert sock.recv(100) == b"up ready 100%\n"
