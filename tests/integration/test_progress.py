"""What an operator is shown while a command takes its time, and at its end."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest

from driver import COMMAND, DEADLINE, Maitred, wait_until
from maitred.control import ask as ask_master
from raw_http import connect, get
from scenes import waiting_request
from terminal import in_terminal

ONE = ("--acceptors", "1")
PATIENT = ("--timeout-keep-alive", "600")
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def told(server: Maitred, command: str, **arguments: Any) -> tuple[list[Any], Any]:
    """Ask *command*; give all lines that came before the answer, and the answer."""
    lines: list[Any] = []
    answer = ask_master(server.control, command, lines.append, **arguments)
    return lines, answer


def piped(server: Maitred, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``maitred`` without a terminal."""
    return subprocess.run(
        [COMMAND, *arguments, "--control", server.control],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def seen(server: Maitred, *arguments: str) -> str:
    """Run ``maitred`` on a terminal; give what was written, without its colours."""
    shown, code = in_terminal([COMMAND, *arguments, "--control", server.control])
    assert code == 0, shown
    return ESCAPE.sub(b"", shown).decode()


@pytest.mark.parametrize("acceptors", ["1", "3"])
def test_reload_tells_of_each_worker_and_what_became_of_connections(serve, acceptors):
    """Idle connections have moved when it ends, and none is lost."""
    server = serve("probe:app", "--acceptors", acceptors, *PATIENT, workers=2)
    old = server.worker_pids()
    clients = [connect(server.port) for _ in range(4)]
    for client in clients:
        client.ask(get())
    wait_until("all are open", lambda: server.total("open") == 4)
    lines, answer = told(server, "reload")
    assert answer["generation"] == 2
    assert (answer["moved"], answer["kept"], answer["lost"]) == (4, 0, 0)
    workers = [line["worker"] for line in lines if "worker" in line]
    assert {worker["pid"] for worker in workers} == {*old, *server.worker_pids()}
    for pid in old:
        states = [worker["state"] for worker in workers if worker["pid"] == pid]
        assert states[0] == "ready"
        assert states[-1] == "gone"
    for client in clients:
        assert client.ask(get()).status == 200
        client.close()


def test_reload_says_what_old_workers_keep(serve, tmp_path):
    """Those are requests that are being answered; nobody waits for their end."""
    server = serve("probe:app", *ONE, workers=1)
    with waiting_request(server, tmp_path / "gate") as client:
        done = piped(server, "reload")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == (
            "generation 2 serves: 0 connections moved, 1 kept by old workers, 0 lost"
        )
        assert "worker of slot 0, generation 2: ready" in done.stdout
        assert done.stderr == ""
        (tmp_path / "gate").touch()
        assert client.answer().status == 200


def test_terminal_shows_bars(serve, tmp_path):
    """One for each worker that comes or leaves, then the same last sentence."""
    server = serve("probe:app", *ONE, workers=2)
    old = server.worker_pids()
    with waiting_request(server, tmp_path / "gate") as client:
        shown = seen(server, "reload")
        for pid in [*old, *server.worker_pids()]:
            assert f"pid {pid}" in shown
        assert "1 of 1 connections left" in shown
        assert "━" in shown
        assert "generation 2 serves: 0 connections moved, 1 kept" in shown
        (tmp_path / "gate").touch()
        assert client.answer().status == 200


def test_terminal_shows_the_drained_slot(serve, tmp_path):
    """And nobody else."""
    server = serve("probe:app", *ONE, "--drain-timeout", "1", workers=2)
    with waiting_request(server, tmp_path / "gate") as client:
        slot = next(s for s in server.status()["slots"] if s["open"])
        other = server.worker_pids()[1 - slot["slot"]]
        shown = seen(server, "drain", str(slot["slot"]))
        assert f"pid {slot['pid']}" in shown
        assert f"pid {other}" not in shown
        assert "drained" in shown
        assert f"slot {slot['slot']} is drained: 0 connections moved, 1 kept" in shown
        (tmp_path / "gate").touch()
        assert client.answer().status == 200


def test_bars_are_no_part_of_the_answer(serve):
    """Standard output is one object, whatever standard error is."""
    server = serve("probe:app", *ONE, workers=1)
    command = f"{COMMAND} scale 2 --json --control {server.control} > $OUT"
    out = server.log_path.with_name("out")
    shown, code = in_terminal(["env", f"OUT={out}", "sh", "-c", command])
    assert code == 0, shown
    assert json.loads(out.read_text())["workers"] == 2
    assert f"pid {server.worker_pids()[1]}".encode() in shown
    assert told(server, "scale", workers=1)[1]["lost"] == 0


def test_stop_says_how_many_were_open(serve, tmp_path):
    """They were finished, or cut."""
    server = serve("probe:app", *ONE, workers=2)
    with waiting_request(server, tmp_path / "gate") as client:
        with subprocess.Popen(
            [COMMAND, "stop", "--control", server.control],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        ) as stopping:
            server.wait_for_log("stopping: draining")
            (tmp_path / "gate").touch()
            assert client.answer().status == 200
            out, err = stopping.communicate(timeout=DEADLINE)
        assert err == ""
        assert out.splitlines()[-1].endswith(
            ": nothing was cut, 1 connections were open, 0 lost"
        )
    assert server.wait() == 0
