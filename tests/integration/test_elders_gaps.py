"""--drain sessions where an old slot has no worker when the new generation serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from driver import Maitred, wait_until
from raw_http import ask, connect, get
from scenes import names_by_slot

OPTIONS = (
    *("--no-access-log", "--drain", "sessions"),
    # A request that waits for a slot which nobody fills is answered 503 after that.
    *("--wait-timeout", "15"),
)
KEYED = ("--affinity", "header:x-session")
EXPECTED = r"SIGKILL|exited with code 9|not ready|LookupError|Traceback|reload failed"


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


def start(serve: Any, mood: Path, *options: str) -> Maitred:
    """Serve the moody application with two workers."""
    server: Maitred = serve(
        "moody:app", *OPTIONS, *options, workers=2, env={"MOOD": str(mood)}
    )
    server.expect_log(EXPECTED)
    server.descriptors_at_start = None  # at the end there are elders beside the workers
    return server


def begin_reload(server: Maitred, mood: Path) -> None:
    """Start a new generation, which dawdles until there is ``MOOD.go``."""
    mood.write_text("dawdle")
    server.tell(signal.SIGHUP)
    wait_until(
        "the new generation dawdles",
        lambda: len(list(mood.parent.glob("mood.[0-9]*"))) == 2,
    )


def end_reload(server: Maitred, mood: Path) -> None:
    """Let the new generation serve."""
    mood.with_name("mood.go").touch()
    server.wait_for_log("2 workers of generation 2 ready")


@pytest.mark.parametrize(
    "heirs", ["die", "hang"], ids=["crash in a loop", "are slow to start"]
)
@pytest.mark.parametrize("affinity", ["header:x-session", "sticky"])
def test_sessions_of_a_worker_that_died_begin_anew(serve, mood, heirs, affinity):
    """Nobody waits for a worker that will not come; the others keep theirs."""
    server = start(serve, mood, "--affinity", affinity, "--drain-timeout", "600")
    if affinity == "sticky":
        first: dict[int, str] = {}
        while len(first) < 2:
            answer = ask(server.port)
            cookie = answer.headers["set-cookie"].partition(";")[0]
            first[int(answer.json["slot"])] = f"cookie: {cookie}"
    else:
        first = {n: f"x-session: {s}" for n, s in names_by_slot(server).items()}
    old = server.worker_pids()
    begin_reload(server, mood)
    mood.write_text(heirs)
    os.kill(old[0], signal.SIGKILL)
    if heirs == "die":
        server.wait_for_log("worker of slot 0 exited with code 9 before it was ready")
    else:
        wait_until(
            "another is started",
            lambda: server.status()["slots"][0].get("pid") not in {None, old[0]},
        )
    # Who asks before the switch waits for the slot, and is served after it.
    with connect(server.port) as waiting:
        waiting.sock.sendall(get("/", first[0]))
        wait_until("it waits", lambda: server.status()["slots"][0]["queued"])
        end_reload(server, mood)
        served = [waiting.answer()]
    new = server.worker_pids()
    for _ in range(3):
        served.append(ask(server.port, "/", first[0]))
        assert ask(server.port, "/", first[1]).json["pid"] == old[1]
    assert [answer.status for answer in served] == [200] * 4
    assert {answer.json["pid"] for answer in served} <= set(new)
    assert server.status()["connections"]["refused"] == {}


def test_reload_one_by_one_that_fails_half_way(serve, mood):
    """Each slot stays in its set, and the next reload keeps the sessions."""
    server = start(serve, mood, *KEYED, "--surge", "1", "--drain-timeout", "600")
    names = names_by_slot(server)
    old = server.worker_pids()
    # The first is replaced; the second will not be, for its successor dies.
    mood.write_text("dawdle")
    server.tell(signal.SIGHUP)
    wait_until("one dawdles", lambda: list(mood.parent.glob("mood.[0-9]*")))
    mood.write_text("die")
    os.kill(old[0], signal.SIGKILL)
    server.wait_for_log("worker of slot 0 exited with code 9 before it was ready")
    mood.with_name("mood.go").touch()
    server.wait_for_log("reload failed")
    pids = server.worker_pids()
    assert (pids[0] != old[0], pids[1]) == (True, old[1])
    # The session of the dead one begins anew, wherever there is room.
    assert ask(server.port, "/", f"x-session: {names[0]}").json["pid"] in pids
    names = names_by_slot(server)
    mood.write_text("")
    server.tell(signal.SIGHUP)
    # Slot 2 is the twin of slot 0, where generation 2 serves.
    server.wait_for_log("worker of slot 2 keeps 1 sessions")
    answer = ask(server.port, "/", f"x-session: {names[2]}")
    assert (answer.status, answer.json["pid"]) == (200, pids[0])
    renewed, kept = server.worker_pids()
    assert (renewed not in {*pids, *old}, kept) == (True, old[1])
    assert ask(server.port).json["pid"] in {renewed, kept}
