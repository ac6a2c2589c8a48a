"""Workers that are alive and do not turn: noticed, spared, aborted, replaced."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from driver import Maitred, is_alive, wait_until
from raw_http import Connection, ask, connect, get
from scenes import workers_of

KEYED = ("--affinity", "header:x-session", "--policy", "round-robin")
QUIET = "--no-access-log"
LATE = r"worker (\d+) of slot 0 is late: its event loop has been silent for 1\.\d s"
ABORTED = (
    r"worker 1 of slot 0 is aborted: its event loop has been silent for (\d\.\d) s"
)
STACK = r"worker 1 of slot 0 was here when it ended"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


def name_of_slot_0(server: Maitred) -> str:
    """Find a session's name for slot 0, or make it one."""
    for number in range(100):
        if ask(server.port, "/", f"x-session: s{number}").json["slot"] == "0":
            return f"s{number}"
    raise AssertionError("slot 0 gets no session")


@contextlib.contextmanager
def stuck(server: Maitred, gate: Path, name: str) -> Iterator[Connection]:
    """Have the event loop of the worker of *name* stand still until *gate* exists."""
    with connect(server.port) as client:
        client.send(get(f"/stuck?for={gate}", f"x-session: {name}"))
        server.wait_for_log(LATE)
        yield client


def test_late_worker_gets_no_new_connection_until_it_is_heard_of(serve, gate):
    """Others serve what anybody may serve, and what is its own waits for it."""
    server = serve("stuck:app", *KEYED, QUIET, workers=2)
    name = name_of_slot_0(server)
    late, other = server.worker_pids()
    with stuck(server, gate, name) as client, connect(server.port) as owned:
        assert server.status()["slots"][0]["late"] is True
        assert {ask(server.port).json["pid"] for _ in range(10)} == {other}
        owned.send(get("/", f"x-session: {name}"))
        wait_until("it waits", lambda: server.status()["slots"][0]["queued"] == 1)
        gate.touch()
        assert client.answer().json["pid"] == late
        assert owned.answer().json["pid"] == late
    server.wait_for_log(r"heartbeat of worker 1 of slot 0 resumed after \d+\.\d s")
    assert server.status()["slots"][0]["late"] is False
    wait_until(
        "it gets some again",
        lambda: {ask(server.port).json["pid"] for _ in range(4)} == {late, other},
    )
    assert server.worker_pids() == [late, other]
    assert len(re.findall("is late", server.log)) == 1


def test_hung_worker_is_aborted_and_shows_where_it_is_stuck(serve, gate):
    """Its stack is in the log, in one piece; its successor serves what waited."""
    server = serve("stuck:app", *KEYED, QUIET, "--hang-timeout", "2", workers=2)
    server.expect_log(ABORTED)
    server.expect_log(STACK)
    server.expect_log(r"was ended by SIGABRT \(its event loop .*\); replaced")
    name = name_of_slot_0(server)
    hung, other = server.worker_pids()
    with stuck(server, gate, name) as client, connect(server.port) as owned:
        owned.send(get("/", f"x-session: {name}"))
        silent = float(server.wait_for_log(ABORTED)[1])
        assert 2.0 <= silent < 10.0
        said = owned.answer().json
        assert said["slot"] == "0"
        assert said["pid"] not in {hung, other}
        assert client.answer().status == 502
    assert server.worker_pids()[1] == other
    assert not is_alive(hung)
    stack = server.log[re.search(STACK, server.log).end() :].splitlines()[1:]
    assert stack[0].strip() == "Fatal Python error: Aborted"
    end = next(n for n, line in enumerate(stack) if " WARNING " in line)
    assert any("in wait_without_awaiting" in line for line in stack[:end])
    assert all(
        not line or line.startswith(("  ", "Fatal", "Current thread", "Thread", "Ext"))
        for line in stack[:end]
    ), stack[:end]
    assert len(re.findall("is aborted", server.log)) == 1
    assert "is killed" not in server.log


def test_hang_is_an_event_and_counts_as_a_crash(serve, gate):
    """Both are in the metrics, and what is lost with it is no less so."""
    server = serve(
        *("stuck:app", *KEYED, QUIET, "--hang-timeout", "2"),
        *("--admin", "127.0.0.1:0"),
        workers=2,
    )
    server.expect_log(ABORTED)
    server.expect_log(STACK)
    server.expect_log(r"was ended by SIGABRT \(its event loop .*\); replaced")
    url = server.status()["admin"][0] + "/metrics"

    def count(name: str) -> float:
        text = httpx.get(url, trust_env=False).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    counts = ['maitred_events_total{kind="hang"}', 'maitred_events_total{kind="crash"}']
    counts.append('maitred_worker_deaths_total{slot="0"}')
    assert [count(name) for name in counts] == [0, 0, 0]
    with stuck(server, gate, name_of_slot_0(server)) as client:
        assert client.answer().status == 502
    wait_until(
        "it is counted", lambda: [count(name) for name in counts] == [1.0, 1.0, 1.0]
    )
    kinds = [event["kind"] for event in server.status()["events"]]
    assert kinds == ["start", "hang", "crash"]


def test_hang_while_leaving_is_told_as_well(serve, gate):
    """A worker of the old generation that hangs has nobody to be replaced by."""
    server = serve(
        *("stuck:app", *KEYED, QUIET, "--hang-timeout", "2"),
        workers=1,
    )
    server.expect_log(r"worker 1 of slot 0 is aborted: its event loop")
    server.expect_log(STACK)
    server.expect_log(r"SIGABRT \(its event loop .*\) while it was leaving")
    with connect(server.port) as client:
        client.send(get(f"/stuck?for={gate}", "x-session: one"))
        server.reload()
        assert client.answer().status == 502
    server.wait_for_log("while it was leaving")
    assert server.status()["event_counts"]["hang"] == 1
    assert server.status()["event_counts"]["crash"] == 1


def test_stopped_worker_is_killed_after_its_grace(serve):
    """ABRT cannot act on a stopped process, KILL can; each is said once."""
    server = serve(
        "probe:app", *KEYED, QUIET, "--hang-timeout", "2", "--grace-period", "0.5",
        workers=2,
    )  # fmt: skip
    server.expect_log(ABORTED)
    server.expect_log(r"was ended by SIGKILL \(its event loop .*\); replaced")
    name = name_of_slot_0(server)
    pid = server.kill_worker(0, signal.SIGSTOP)
    with connect(server.port) as client:
        client.send(get("/", f"x-session: {name}"))
        said = client.answer().json
        assert said["slot"] == "0"
        assert said["pid"] != pid
    server.wait_for_log(r"worker 1 of slot 0 is killed: still there 0\.5 s after ABRT")
    assert len(re.findall("is aborted", server.log)) == 1
    assert len(re.findall("is killed", server.log)) == 1


def test_switched_off_nobody_is_ever_aborted(serve, gate):
    """With ``--hang-timeout 0`` a silent worker is late, and that is all."""
    server = serve("stuck:app", *KEYED, QUIET, "--hang-timeout", "0", workers=2)
    name = name_of_slot_0(server)
    pids = server.worker_pids()
    with stuck(server, gate, name) as client:
        gate.touch()
        assert client.answer().status == 200
    assert server.worker_pids() == pids


@pytest.mark.parametrize("then", [signal.SIGKILL, signal.SIGCONT])
def test_requests_queued_for_a_stopped_worker_are_all_answered(serve, then):
    """Some were handed over, some wait for the slot; none is lost or run twice."""
    server = serve("probe:app", *KEYED, QUIET, workers=2)
    server.expect_log(r"worker of slot 0 was ended by SIGKILL; replaced")
    name = name_of_slot_0(server)
    line = f"x-session: {name}"
    assert ask(server.port, "/session?new=1", line).json["count"] == 1
    pid = server.kill_worker(0, signal.SIGSTOP)
    clients = [connect(server.port) for _ in range(20)]
    slot = lambda: server.status()["slots"][0]  # noqa: E731
    for client in clients[:10]:
        client.send(get("/session?new=1", line, "connection: close"))
    wait_until("ten are handed over", lambda: slot()["in_flight"] == 10)
    server.wait_for_log(LATE)
    for client in clients[10:]:
        client.send(get("/session?new=1", line, "connection: close"))
    wait_until("ten more wait", lambda: slot()["queued"] == 10)
    os.kill(pid, then)
    said = [client.answer().json for client in clients]
    for client in clients:
        client.close()
    killed = then == signal.SIGKILL
    assert {each["pid"] == pid for each in said} == {not killed}
    # Each was counted once by the one process that keeps the session.
    first = 1 if killed else 2
    assert sorted(each["count"] for each in said) == list(range(first, first + 20))
    assert server.status()["connections"]["redispatched"] == (10 if killed else 0)


def test_hung_worker_does_not_outlive_its_master_for_ever(serve, gate):
    """A loop that is stuck cannot notice; the worker leaves all the same."""
    server = serve("stuck:app", QUIET, "--drain-timeout", "0.5", workers=2)
    with connect(server.port) as client:
        client.send(get(f"/stuck?for={gate}"))
        server.wait_for_log(r"is late: its event loop has been silent")
        os.kill(server.pid, signal.SIGKILL)
        wait_until("nobody is left", lambda: not workers_of(server))
    Path(server.control).unlink()  # a killed master cannot
