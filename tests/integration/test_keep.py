"""``maitred keep``: masters die, and their clients hardly notice."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import Maitred, is_alive, processes_of, wait_until
from manager import refusals
from raw_http import Connection, ask, connect, get

QUIET = "--no-access-log"
AGAIN = r"the master was ended by SIGKILL; started again"
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


@contextlib.contextmanager
def waiting_request(server: Maitred, gate: Path) -> Iterator[Connection]:
    """Have a request in progress that is answered when *gate* exists."""
    before = server.status()["connections"]["taken"]
    with connect(server.port) as client:
        client.send(get(f"/wait?for={gate}"))
        wait_until(
            "the request is taken",
            lambda: server.status()["connections"]["taken"] > before,
        )
        yield client


@contextlib.contextmanager
def callers(server: Maitred) -> Iterator[list[str]]:
    """Connect all the while; give what was refused, complete at the end."""
    over = threading.Event()
    found: list[str] = []
    address = ("127.0.0.1", server.port)
    threads = [
        threading.Thread(target=lambda: found.extend(refusals(address, over)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()


def master_of(server: Maitred) -> int:
    """Say which process the master is; there must be one."""
    return int(server.status()["pid"])


def kill_master(server: Maitred, times: int = 1) -> int:
    """Kill the master; give its successor, once that serves."""
    old = master_of(server)
    os.kill(old, signal.SIGKILL)
    server.wait_for_log(AGAIN, times)
    server.wait_for_log(r"workers of generation 1 ready", times + 1)
    new = master_of(server)
    assert new != old
    return new


def answers(server: Maitred) -> bool:
    """Say whether a request is answered; who was with a dead master is not."""
    try:
        return ask(server.port).status == 200
    except (OSError, AssertionError):
        return False


# Death


def test_killed_master_is_started_again_and_nobody_is_refused(serve, gate):
    """Requests in progress are answered, no connect is refused, the service is back."""
    server = serve("probe:app", QUIET, verb="keep", workers=2)
    server.expect_log(AGAIN)
    port, old = server.port, server.worker_pids()
    with waiting_request(server, gate) as client, callers(server) as refused:
        for times in (1, 2, 3):
            dead = master_of(server)
            os.kill(dead, signal.SIGKILL)
            since = time.monotonic()
            wait_until("it is dead", lambda dead=dead: not is_alive(dead))
            wait_until("the service is back", lambda: answers(server))
            print(f"back after {time.monotonic() - since:.2f} s")
            server.wait_for_log(AGAIN, times)
            server.wait_for_log(r"workers of generation 1 ready", times + 1)
        assert any(map(is_alive, old))
        gate.touch()
        assert client.answer().json["pid"] in old
        assert client.at_end()
    assert refused == []
    assert server.port == port
    wait_until("no orphan is left", lambda: len(processes_of(server.run)) == 4)
    assert not any(map(is_alive, old))


def test_unix_listener_outlives_the_master(serve, tmp_path):
    """The file stays where it is while there is no master, and goes with the keeper."""
    path = tmp_path / "service.sock"
    server = serve("probe:app", QUIET, "--bind", f"unix:{path}", verb="keep", workers=1)
    server.expect_log(AGAIN)
    inode = path.stat().st_ino
    kill_master(server)
    assert path.stat().st_ino == inode
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(path))
        assert Connection(sock).ask(get()).status == 200
    assert server.stop() == 0
    assert not path.exists()


def test_application_that_fails_now_is_tried_again_ever_later(serve, mood):
    """After a service that served, nobody gives up: it may get better, and does."""
    server = serve("moody:app", QUIET, verb="keep", workers=1, env={"MOOD": str(mood)})
    server.expect_log(r"Traceback|LookupError|cannot import|the master ")
    with callers(server) as refused:
        mood.write_text("raise")
        os.kill(master_of(server), signal.SIGKILL)
        server.wait_for_log(AGAIN)
        server.wait_for_log(r"the master exited with code 3; started again")
        server.wait_for_log(r"code 3 before it served; next try in 0\.\d s")
        mood.write_text("")
        server.wait_for_log(r"workers of generation 1 ready", 2)
    assert refused == []
    assert ask(server.port).status == 200


def test_application_that_never_started_is_not_tried_again(serve, mood):
    """What is wrong from the beginning is said once, with the exit code of serve."""
    mood.write_text("raise")
    server = serve(
        "moody:app", verb="keep", workers=1, env={"MOOD": str(mood)}, ready=False
    )
    server.expect_log(r"Traceback|LookupError|cannot import")
    assert server.wait() == 3
    assert server.log.count("Traceback") == 1
    assert "again" not in server.log


def test_keeper_is_killed_and_the_master_makes_room(serve, gate):
    """A master without keeper finishes, then leaves; the next keeper can have all."""
    server = serve("probe:app", QUIET, verb="keep", workers=2)
    server.expect_log(r"the keeper is gone")
    master = master_of(server)
    with waiting_request(server, gate) as client:
        server.process.kill()
        server.wait()
        wait_until("it notices", lambda: "the keeper is gone" in server.log)
        wait_until("nobody listens", lambda: refuses(server.port))
        assert is_alive(master)
        gate.touch()
        assert client.answer().status == 200
    wait_until("nobody is left", lambda: not processes_of(server.run))


def refuses(port: int) -> bool:
    """Say whether nobody listens on *port*."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


# Signals


@pytest.mark.parametrize("number", STOPS)
def test_stop_is_passed_on(serve, gate, number):
    """A stop closes the listeners at once and finishes what is in progress."""
    server = serve("probe:app", QUIET, verb="keep", workers=2)
    with waiting_request(server, gate) as client:
        server.tell(number)
        wait_until("nobody listens", lambda: refuses(server.port))
        gate.touch()
        assert client.answer().status == 200
    assert server.wait() == 0
    assert server.log.count("stopping: draining") == 1
    assert "again" not in server.log


def test_stop_before_the_master_can_hear(serve):
    """A signal that comes while Python still starts is kept until it can be heard."""
    server = serve("probe:app", verb="keep", workers=1, ready=False)
    server.wait_for_log("keeping http")
    assert server.stop() == 0
    assert "again" not in server.log


def test_stop_while_waiting_for_the_next_try(serve, mood):
    """With no master there is nobody to wait for."""
    server = serve("moody:app", verb="keep", workers=1, env={"MOOD": str(mood)})
    server.expect_log(r"Traceback|LookupError|cannot import|the master ")
    mood.write_text("raise")
    os.kill(master_of(server), signal.SIGKILL)
    server.wait_for_log(r"next try in [2-9]\.")
    assert server.stop() == 0


def test_master_that_was_told_to_leave_is_not_replaced(serve):
    """Who stops the master means the service."""
    server = serve("probe:app", verb="keep", workers=1)
    os.kill(master_of(server), signal.SIGTERM)
    assert server.wait() == 0


def test_reload_is_passed_on(serve):
    """Fifty HUPs become a few reloads of the same master."""
    server = serve("probe:app", QUIET, verb="keep", workers=2)
    master = master_of(server)
    most = 0
    with callers(server) as refused:
        for _ in range(50):
            server.tell(signal.SIGHUP)

        def over() -> bool:
            nonlocal most
            alive = generations_of(server)
            most = max(most, len(alive))
            return alive == {server.status()["generation"]} != {1}

        server.wait_for_log(r"workers of generation \d+ ready", 2)
        wait_until("one generation is left", over)
    assert refused == []
    assert most <= 2
    assert server.status()["generation"] <= 5
    assert master_of(server) == master


def generations_of(server: Maitred) -> set[int]:
    """List the generations of which workers are alive."""
    found = set()
    for pid in processes_of(server.run):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if match := re.search(rb"MAITRED_GENERATION=(\d+)\0", environment):
                found.add(int(match[1]))
    return found


@pytest.mark.parametrize("verb", ["serve", "keep"])
def test_storm_of_stops_is_one_orderly_stop(serve, gate, verb):
    """Whatever is sent how often, everybody leaves, and the exit code says how."""
    server = serve("probe:app", QUIET, verb=verb, workers=2)
    with waiting_request(server, gate) as client:
        for number in random.Random(7).choices(STOPS, k=60):
            server.tell(number)
        # The first is heard, and the second cuts what is in progress.
        assert server.wait() == 5
        assert client.answer().status == 502
        assert client.at_end()
    wait_until("nobody is left", lambda: not processes_of(server.run))
    assert server.log.count("stopping: draining") == 1


@pytest.mark.parametrize("verb", ["serve", "keep"])
def test_stop_during_a_reload(serve, gate, mood, verb):
    """The old generation finishes, the new one is sent away, nobody is left."""
    server = serve(
        "moody:app",
        "--grace-period",
        "5",
        verb=verb,
        workers=2,
        env={"MOOD": str(mood)},
    )
    mood.write_text("hang")
    server.tell(signal.SIGHUP)
    wait_until("it has begun", lambda: generations_of(server) == {1, 2})
    assert server.stop() == 0
    assert server.log.count("stopping: draining") == 1
    wait_until("nobody is left", lambda: not processes_of(server.run))


# What is inherited


def test_workers_know_nothing_of_the_keeper(serve):
    """They have neither its descriptors nor its variables."""
    plain, kept = (
        serve("probe:app", QUIET, verb=verb, workers=1) for verb in ("serve", "keep")
    )
    fds = [ask(each.port, "/fds").json["fds"] for each in (plain, kept)]
    plainly, also = (sorted(Path(f).name for f in each) for each in fds)
    assert plainly == also
    (pid,) = kept.worker_pids()
    names = Path(f"/proc/{pid}/environ").read_bytes()
    assert not re.search(rb"\0(LISTEN_\w+|MAITRED_KEEPER|NOTIFY_SOCKET)=", names)


def test_inherited_socket_cannot_be_kept(serve):
    """The sentence says who keeps it already."""
    server = serve("probe:app", verb="keep", bind="fd://3", workers=1, ready=False)
    assert server.wait() == 2
    assert "--bind fd://3: whoever passed it keeps it" in server.log
