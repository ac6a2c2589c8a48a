"""Nothing is lost: reloads and killed workers under load, with a ledger of it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from driver import Maitred, is_alive, wait_until
from ledger import Entry, Extent, Load, Verdict, judge
from maitred.wire.scoreboard import REGIONS
from raw_http import Connection, connect, get

WORKERS = 4
CROWD = 20
"Connections that are idle, silent, or wait for a stopped worker."
EVERY = 2.0
"Seconds between two kills."
KILLS = 30 if "MAITRED_TESTS_MINUTE" in os.environ else 10
KEPT = ("--no-access-log", "--head-timeout", "600", "--timeout-keep-alive", "600")


class Service(NamedTuple):
    """A server, and where its application keeps its ledger."""

    server: Maitred
    directory: Path

    def judge(self, entries: list[Entry]) -> Verdict:
        """Compare *entries* with what the application noted."""
        return judge(entries, self.directory)


@pytest.fixture
def service(serve, tmp_path) -> Callable[..., Service]:
    """Serve the ledger's application."""
    directory = tmp_path / "ledger"
    directory.mkdir()

    def start(*options: str, workers: int = WORKERS) -> Service:
        env = {"LEDGER": str(directory)}
        server = serve("ledger_app:app", *KEPT, *options, workers=workers, env=env)
        return Service(server, directory)

    return start


class Guests:
    """Connections that a test holds itself, each used when it says so."""

    def __init__(self) -> None:
        """Begin with none."""
        self.entries: list[Entry] = []
        self.open: list[Connection] = []
        self._names = itertools.count()

    def come(self, port: int, count: int = CROWD) -> list[Connection]:
        """Connect *count* times."""
        new = [connect(port) for _ in range(count)]
        self.open += new
        return new

    def leave(self) -> None:
        """Close all connections."""
        while self.open:
            self.open.pop().close()

    def send(self, connection: Connection, *lines: str) -> Entry:
        """Send one request on *connection*."""
        entry = Entry(f"guest-{next(self._names)}")
        self.entries.append(entry)
        connection.send(get("/get", f"x-id: {entry.id}", *lines))
        entry.sent = Extent.WHOLE
        return entry

    def hear(self, connection: Connection, entry: Entry) -> Entry:
        """Read the answer to *entry*, which is the last one sent on *connection*."""
        answer = connection.answer()
        assert answer.status == 200, (entry, answer)
        id_, pid, _ = answer.body.split()
        assert id_.decode() == entry.id
        entry.pid, entry.status, entry.answered = int(pid), 200, Extent.WHOLE
        return entry

    def ask(self, connection: Connection, *lines: str) -> Entry:
        """Make one request on *connection*."""
        return self.hear(connection, self.send(connection, *lines))


@pytest.fixture
def guests() -> Iterator[Guests]:
    """Let guests come, and leave in the end."""
    guests = Guests()
    yield guests
    guests.leave()


@pytest.mark.slow
def test_six_reloads_under_load_lose_nothing(service, guests):
    """Kept, idle and silent connections go on through six reloads, all requests too."""
    server, directory = service()
    idle = guests.come(server.port)
    for connection in idle:
        guests.ask(connection)
    with Load(server.port) as load:
        for _ in range(6):
            silent = guests.come(server.port)
            before = server.worker_pids()
            server.reload()
            for connection in (*idle, *silent):
                guests.ask(connection)
            wait_until("the old are gone", lambda b=before: not any(map(is_alive, b)))
            for connection in (*idle, *silent):
                assert guests.ask(connection).pid not in before
    guests.leave()
    verdict = judge([*load.entries, *guests.entries], directory)
    assert verdict._replace(started_by={}) == Verdict(
        good=len(load.entries) + len(guests.entries),
        lost=[],
        failed=[],
        statuses={200: len(load.entries) + len(guests.entries)},
        dup=[],
        twice=[],
        started_by={},
    )
    assert load.closed_while_idle == 0
    assert sum(client.connections for client in load.clients) == len(load.clients)


@pytest.mark.slow
def test_only_what_a_killed_worker_had_started_fails(service, guests):
    """A worker is killed every two seconds: all it had not started goes on."""
    server, directory = service()
    server.expect_log(r"ended by SIGKILL")
    idle = guests.come(server.port)
    killed = []
    moved = 0
    with Load(server.port) as load:
        for turn in range(KILLS):
            due = time.monotonic() + EVERY
            wait_for_all(server)
            where = [guests.ask(connection).pid for connection in idle]
            time.sleep(max(0, due - time.monotonic()))  # how often is what is tried
            killed.append(server.kill_worker(turn % WORKERS))
            for connection, pid in zip(idle, where, strict=True):
                now = guests.ask(connection).pid
                assert now != killed[-1]
                moved += pid == killed[-1]
        wait_for_all(server)
    guests.leave()
    verdict = judge([*load.entries, *guests.entries], directory)
    assert moved
    assert not verdict.dup
    assert not verdict.twice
    # One step of the event loop marks a request as started and starts it; a worker that
    # is killed in between had one request there at most.
    unexplained = verdict.not_started(killed)
    assert len(unexplained) <= KILLS // 5, (unexplained, verdict.statuses)
    told = {e.id for e in [*load.entries, *guests.entries] if e.status == 502}
    assert set(unexplained) <= told
    assert len(verdict.failed) < verdict.good / 20, verdict.statuses
    assert set(verdict.statuses) <= {200, 502}
    # Where some of an answer may have left, the connection ends.
    lost = server.status()["connections"]["lost"]
    assert lost <= len(verdict.lost) + load.closed_while_idle
    server.expected_lost = lost


def wait_for_all(server: Maitred) -> None:
    """Wait until every slot has a worker that is ready."""
    wait_until(
        "every worker is ready",
        lambda: all(s["state"] == "ready" for s in server.status()["slots"]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGCONT], ids=lambda n: n.name)
def test_what_waits_for_a_stopped_worker_is_answered(service, guests, end):
    """Of 20 requests that wait for it, none is lost: when it is killed, or goes on."""
    server, directory = service("--affinity", "cookie:who")
    who = "cookie: who=somebody"
    kept = guests.come(server.port, CROWD // 2)
    (pid,) = {guests.ask(connection, who).pid for connection in kept}
    slot = server.worker_pids().index(pid)
    before = server.status()["slots"][slot]["handed_over"]
    os.kill(pid, signal.SIGSTOP)
    new = guests.come(server.port, CROWD // 2)
    asked = [(each, guests.send(each, who)) for each in (*kept, *new)]
    wait_until(
        "the new ones are handed to it",
        lambda: server.status()["slots"][slot]["handed_over"] == before + len(new),
    )
    os.kill(pid, end)
    answered = {guests.hear(*each).pid for each in asked}
    if end == signal.SIGKILL:
        assert pid not in answered
        assert not is_alive(pid)
        server.expect_log(r"ended by SIGKILL")
    else:
        assert answered == {pid}
    guests.leave()
    verdict = judge(guests.entries, directory)
    assert verdict.good == len(guests.entries)
    assert not verdict.twice


@pytest.mark.slow
def test_hops_use_no_journal_up(service, guests):
    """After more hops than the journal has regions, half a request survives a kill."""
    server, directory = service("--affinity", "cookie:who", workers=2)
    server.expect_log(r"ended by SIGKILL")
    hopping, *others = guests.come(server.port, 3)
    names = (f"cookie: who={n}" for n in itertools.count())
    by_pid: dict[int, str] = {}
    while len(by_pid) < 2:
        name = next(names)
        by_pid.setdefault(guests.ask(hopping, name).pid, name)
    for name in [*by_pid.values()] * REGIONS:
        guests.ask(hopping, name)
    asked = []
    for connection, (pid, name) in zip(others, by_pid.items(), strict=True):
        assert guests.ask(connection, name).pid == pid
        whole = get("/get", name, f"x-id: half-{pid}")
        connection.send(whole[:-2])
        # Asked later and answered: so the half was read.
        assert guests.ask(hopping, name).pid == pid
        os.kill(pid, signal.SIGKILL)
        asked.append((connection, pid, whole[-2:]))
    for connection, pid, rest in asked:
        connection.send(rest)
        answer = connection.answer()
        assert answer.status == 200
        assert answer.body.split()[0].decode() == f"half-{pid}"
    guests.leave()
    assert not judge(guests.entries, directory).twice
