"""The master as process 1 of a container: it buries what others leave behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import COMMAND, Server, wait_until
from maitred.control import ask as ask_master
from raw_http import ask

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs root and unshare, to be process 1",
)


def children(pid: int) -> dict[int, str]:
    """Give the children of *pid*, with the letters of their states."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid:
            found[int(entry.parent.name)] = state
    return found


@pytest.fixture
def container(tmp_path) -> Iterator[Server]:
    """Serve as process 1 of a namespace."""
    server = Server(
        [COMMAND, "serve", "orphaning:app", "--bind", "127.0.0.1:0", "--workers", "2",
         "--control", str(tmp_path / "c.sock")],
        tmp_path / "log",
        wrap=("unshare", "-pf", "--mount-proc", "--kill-child"),
    )  # fmt: skip
    server.wait_for_log("workers of generation 1 ready")
    yield server
    server.kill_all()


def test_orphans_are_reaped_and_workers_are_known(container, tmp_path):
    """Also what an upgraded master inherits; nobody's exit status is taken away."""
    port = int(container.wait_for_log(r"listening on http://127.0.0.1:(\d+)")[1])
    control = str(tmp_path / "c.sock")
    [master] = children(container.pid)
    workers = set(children(master))
    assert len(workers) == 2
    for turn in (1, 2):
        for _ in range(20):
            assert ask(port).status == 200
        wait_until("they are buried", lambda: set(children(master)) == workers)
        if turn == 1:
            assert ask_master(control, "upgrade")["upgrades"] == 1
    # Their own exit statuses are heard of, in the midst of orphans.
    victim = min(workers)
    ask(port)
    os.kill(victim, signal.SIGKILL)
    container.wait_for_log("worker of slot [01] was ended by SIGKILL; replaced")
    wait_until("both serve", lambda: states(control) == ["ready"] * 2)
    wait_until(
        "nothing else is left",
        lambda: len(children(master)) == 2 and victim not in children(master),
    )
    assert "Z" not in children(master).values()
    ask_master(control, "stop")
    assert container.wait() == 0
    assert not re.search("Traceback|ERROR", container.log)


def states(control: str) -> list[str]:
    """Give the state of each slot."""
    return [slot["state"] for slot in ask_master(control, "status")["slots"]]
