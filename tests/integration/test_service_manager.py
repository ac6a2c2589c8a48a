"""Under a service manager that hears of the service and holds its listeners."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import Maitred, is_alive, processes_of, wait_until
from manager import Manager, refusals
from raw_http import ask, connect, get

QUIET = "--no-access-log"


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def any_manager(request, tmp_path: Path) -> Iterator[Manager]:
    """Listen as a service manager does, on either kind of address."""
    with Manager(tmp_path, abstract=request.param) as listening:
        yield listening


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Listen as a service manager does."""
    with Manager(tmp_path) as listening:
        yield listening


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


def free_port() -> int:
    """Find a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_manager_is_told_how_the_service_is(any_manager, serve, mood):
    """Ready when all workers are, reloading until the outcome is known, stopping."""
    server = serve(
        "moody:app",
        workers=2,
        **any_manager.launcher()
        | {"env": any_manager.environment | {"MOOD": str(mood)}},
    )
    said = any_manager.wait_for("READY=1", "STATUS=2 workers of generation 1 ready")
    assert f"MAINPID={server.pid}" in said
    assert not [
        m for m in any_manager.heard[: any_manager.heard.index(said)] if "STATUS" in m
    ]

    before = time.monotonic_ns() // 1000
    server.reload()
    [at] = [
        int(line.partition("=")[2])
        for line in any_manager.wait_for("RELOADING=1")
        if line.startswith("MONOTONIC_USEC=")
    ]
    assert before <= at <= time.monotonic_ns() // 1000
    any_manager.wait_for("READY=1", "STATUS=2 workers of generation 2 ready")

    mood.write_text("raise")
    server.expect_log(r"Traceback|LookupError|reload failed")
    server.tell(signal.SIGHUP)
    any_manager.wait_for("RELOADING=1", times=2)
    any_manager.wait_for("READY=1", "STATUS=2 workers of generation 2 ready", times=2)

    assert server.stop() == 0
    assert [
        message[0] for message in any_manager.heard if "STORE" not in message[0]
    ] == [
        *("READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1")
    ]


def test_manager_that_waits_for_life_is_shown_it(manager, serve):
    """Twice in each interval, from the loop that does the work."""
    environment = manager.environment | {"WATCHDOG_USEC": "200000"}
    server = serve("probe:app", workers=1, env=environment)
    manager.wait_for("WATCHDOG=1", times=5)
    os.kill(server.pid, signal.SIGSTOP)
    wait_until("it is stopped", lambda: is_stopped(server.pid))
    silent = len(manager.heard)
    os.kill(server.pid, signal.SIGCONT)
    manager.wait_for("WATCHDOG=1", times=silent + 3)


def is_stopped(pid: int) -> bool:
    """Say whether *pid* does not run."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] == "T"


def test_killed_master_loses_no_listener(manager, serve, tmp_path):
    """Held by the manager, they go to the next master; no connect is ever refused."""
    path, port, gate = tmp_path / "service.sock", free_port(), tmp_path / "gate"
    binds = (QUIET, "--bind", f"127.0.0.1:{port}", "--bind", f"unix:{path}")

    def start() -> Maitred:
        """Start the service as the manager does, with what it holds."""
        server: Maitred = serve(
            "probe:app", *binds, bind=None, workers=2, **manager.launcher()
        )
        return server

    first = start()
    wait_until("both are held", lambda: len(manager.held) == 2)
    assert "FDPOLL=0" in manager.wait_for("FDSTORE=1")
    names = sorted(name for name, _ in manager.held)
    assert names == sorted([f"maitred-127.0.0.1_{port}", f"maitred-unix_{path}"])
    inode = path.stat().st_ino
    old = first.worker_pids()
    over = threading.Event()
    refused: list[str] = []
    threads = [
        threading.Thread(target=lambda a=a: refused.extend(refusals(a, over)))
        for a in (("127.0.0.1", port), str(path))
    ]
    for thread in threads:
        thread.start()
    try:
        with connect(port) as client:
            client.send(get(f"/wait?for={gate}"))
            wait_until("it is taken", lambda: first.total("open") > 0)
            first.process.kill()
            since = time.monotonic()
            first.wait()
            second = start()
            print(f"back after {time.monotonic() - since:.2f} s")
            gate.touch()
            assert client.answer().json["pid"] in old
            assert client.at_end()
        assert ask(port).json["pid"] in second.worker_pids()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert refused == []
    assert path.stat().st_ino == inode
    wait_until("no orphan is left", lambda: not processes_of(first.run))
    assert not any(map(is_alive, old))
    Path(first.control).unlink()
    # They came from the manager: it is not asked to hold them once more.
    assert len(manager.held) == 2
    assert second.stop() == 0
    assert path.exists()


def test_listener_that_is_not_wanted_any_more_is_given_up(manager, serve, tmp_path):
    """What matches no bind is closed, here and there: nobody would accept from it."""
    gone, stays, path = free_port(), free_port(), tmp_path / "service.sock"

    def start(*ports: int) -> Maitred:
        """Start the service on *ports* and on the path."""
        binds = [f"127.0.0.1:{port}" for port in ports] + [f"unix:{path}"]
        options = (text for bind in binds for text in ("--bind", bind))
        server: Maitred = serve(
            "probe:app", QUIET, *options, bind=None, workers=1, **manager.launcher()
        )
        return server

    first = start(gone, stays)
    wait_until("all are held", lambda: len(manager.held) == 3)
    inode = path.stat().st_ino
    assert first.stop() == 0
    second = start(stays)
    second.expect_log(r"inherited descriptor \d \(127\.0\.0\.1:\d+\) is closed")
    wait_until("two are held", lambda: len(manager.held) == 2)
    assert path.stat().st_ino == inode
    second.wait_for_log(rf"127\.0\.0\.1:{gone}\) is closed: no --bind is for it")
    assert ask(stays).status == 200
    with pytest.raises(ConnectionRefusedError):
        connect(gone)


def test_socket_that_was_passed_is_taken_by_its_address(manager, serve):
    """A socket of socket activation is used by the bind of its address or number."""
    for name in ("web", "admin"):
        manager.held.append((name, socket.create_server(("127.0.0.1", 0))))
    web, admin = (sock.getsockname()[1] for _, sock in manager.held)
    server = serve(
        "probe:app",
        QUIET,
        *("--bind", f"127.0.0.1:{admin}", "--bind", "fd://3"),
        bind=None,
        workers=1,
        **manager.launcher(),
    )
    for port in (web, admin):
        assert ask(port).json["server"][1] == port
    assert server.status()["listening"] == [
        f"http://127.0.0.1:{admin}",
        f"http://127.0.0.1:{web}",
    ]
    manager.wait_for("READY=1")
    assert not [said for said in manager.heard if "FDSTORE=1" in said]


def test_what_was_passed_to_somebody_else_is_not_ours(manager, serve):
    """LISTEN_PID says for whom; a shell in between has another."""
    manager.held.append(("web", socket.create_server(("127.0.0.1", 0))))
    server = serve(
        "probe:app",
        workers=1,
        env=manager.environment | {"LISTEN_PID": "1"},
        pass_fds=[sock.fileno() for _, sock in manager.held],
    )
    port = manager.held[0][1].getsockname()[1]
    assert server.port != port
    assert "is closed" not in server.log


def test_manager_that_does_not_listen_keeps_nobody_from_serving(serve, tmp_path):
    """It is one line in the log."""
    server = serve(
        "probe:app", workers=1, env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    )
    server.expect_log(r"the service manager was not told")
    assert ask(server.port).status == 200
