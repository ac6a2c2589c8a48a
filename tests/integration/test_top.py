"""``maitred top``, with a real master: what is seen, and what the keys do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from driver import COMMAND, DEADLINE, Maitred
from maitred.cli import screen
from maitred.cli.rates import COLUMNS, Rates
from maitred.cli.screen import Help, Question, Top
from maitred.control import ask as ask_master
from scenes import load
from terminal import in_terminal

INTERVAL = 0.1
NAMES = list(COLUMNS)
ONE = ("--acceptors", "1")


class Watched:
    """The screen, and what stands on it."""

    def __init__(self, app: Top, pilot: Pilot[None]) -> None:
        """Look at *app*."""
        self.app = app
        self.pilot = pilot

    @property
    def head(self) -> str:
        """The first lines."""
        return str(self.app.query_one("#head", Static).render())

    @property
    def log(self) -> str:
        """What was noted."""
        return "\n".join(line.text for line in self.app.query_one(RichLog).lines)

    def column(self, name: str) -> list[str]:
        """Give the texts of a column, from top to bottom."""
        table = self.app.query_one(DataTable)
        at = NAMES.index(name)
        return [
            str(table.get_row_at(row)[at]).strip() for row in range(table.row_count)
        ]

    async def until(self, what: str, condition: Callable[[], Any]) -> None:
        """Wait until *condition* is true."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{what}\n{self.head}\n{self.log}"
            await self.pilot.pause(INTERVAL / 2)

    async def confirm(self, key: str, answer: str = "y") -> None:
        """Press *key*, and answer the question."""
        await self.pilot.press(key)
        await self.until("it asks", lambda: isinstance(self.app.screen, Question))
        await self.pilot.press(answer)
        await self.until("it is gone", lambda: len(self.app.screen_stack) == 1)


def watch(server: Maitred, act: Callable[[Watched], Any]) -> None:
    """Run the screen at 80x24, and let *act* look at it and press keys."""

    async def run() -> None:
        rates = Rates()
        rates.look(ask_master(server.control, "status"), time.monotonic())
        app = Top(server.control, rates, INTERVAL)
        async with app.run_test(size=(80, 24)) as pilot:
            await act(Watched(app, pilot))

    asyncio.run(run())


def test_values_change_under_load(serve):
    """Rates and counts of each worker, in a screen of 80x24."""
    server = serve("probe:app", workers=3)

    async def act(seen: Watched) -> None:
        assert seen.column("pid") == [str(pid) for pid in server.worker_pids()]
        assert "probe:app: ready, generation 1" in seen.head
        assert f"http://127.0.0.1:{server.port} (" in seen.head
        await seen.until("no load", lambda: seen.column("rate") == ["0"] * 3)
        with load(server):
            await seen.until("requests", lambda: "0" not in seen.column("rate"))
            await seen.until("accepted", lambda: " 0 accepted/s" not in seen.head)
            await seen.until("CPU", lambda: set(seen.column("cpu")) != {"0"})
        table = seen.app.query_one(DataTable)
        assert table.virtual_size.width <= 80
        assert not set(seen.column("memory")) & {"-", "0"}
        await seen.pilot.press("p")
        await seen.until("it is paused", lambda: "PAUSED" in seen.head)
        before = seen.head
        await seen.pilot.pause(INTERVAL * 4)
        assert seen.head == before
        await seen.pilot.press("p")
        await seen.until("it goes on", lambda: "PAUSED" not in seen.head)

    watch(server, act)


def test_what_happens_to_the_service_is_noted(serve):
    """What happened before, and what others do: each event once."""
    server = serve("probe:app", workers=2)
    server.expect_log("worker of slot . (exited|ended|was ended)")

    async def act(seen: Watched) -> None:
        await seen.until("the start", lambda: "start: generation 1" in seen.log)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        await seen.until("the death", lambda: " crash: worker of slot" in seen.log)
        server.reload()
        await seen.until("reload", lambda: "reload: generation 2 serves" in seen.log)
        await seen.pilot.pause(INTERVAL * 4)
        assert seen.log.count("crash: ") == seen.log.count("generation 2 serves") == 1

    watch(server, act)


def test_rows_are_sorted(serve):
    """By the column of the operator's choice, up or down, and the cursor stays."""
    server = serve("probe:app", workers=3)

    async def act(seen: Watched) -> None:
        table = seen.app.query_one(DataTable)
        await seen.pilot.press("down")
        await seen.pilot.press("S")
        assert seen.column("slot") == ["2", "1", "0"]
        await seen.pilot.press("s")  # by pid
        assert seen.column("pid") == sorted(seen.column("pid"), key=int)
        await seen.pilot.press("left", "left")  # from the first to the last
        assert seen.app.sorted_by == "restarts"
        await seen.pilot.press("right")
        await seen.until("by slot", lambda: seen.column("slot") == ["0", "1", "2"])
        assert table.cursor_row == 1
        await seen.pilot.press("question_mark")
        await seen.until("help", lambda: isinstance(seen.app.screen, Help))
        await seen.pilot.press("q")
        await seen.until("gone", lambda: len(seen.app.screen_stack) == 1)

    watch(server, act)


def test_keys_steer_the_service(serve):
    """Each after a question: drain, undrain, reload, scale."""
    server = serve("probe:app", *ONE, workers=2)

    async def act(seen: Watched) -> None:
        await seen.pilot.press("down")
        await seen.confirm("d", "n")
        assert not server.status()["slots"][1]["drained"]
        await seen.confirm("d")
        await seen.until(
            "drained", lambda: seen.column("state") == ["ready", "drained"]
        )
        await seen.until("told", lambda: "slot 1 is drained: " in seen.log)
        await seen.confirm("d")
        await seen.until("undrained", lambda: seen.column("state") == ["ready"] * 2)
        await seen.confirm("plus")
        await seen.until("more", lambda: seen.column("slot") == ["0", "1", "2"])
        await seen.until("told", lambda: "3 workers serve, before 2" in seen.log)
        await seen.confirm("minus")
        await seen.until("fewer", lambda: seen.column("slot") == ["0", "1"])
        await seen.until("told", lambda: "2 workers serve, before 3" in seen.log)
        await seen.confirm("r")
        await seen.until("reloaded", lambda: seen.column("generation") == ["2", "2"])
        assert "generation 2" in seen.log

    watch(server, act)


def test_refusal_is_noted(serve):
    """What the master refuses is a sentence on the screen."""
    server = serve("probe:app", *ONE, workers=1)

    async def act(seen: Watched) -> None:
        await seen.confirm("d")
        await seen.until("refused", lambda: "slot 0 cannot be drained" in seen.log)
        await seen.confirm("minus")
        await seen.until("refused", lambda: "cannot scale to 0" in seen.log)

    watch(server, act)


def test_who_is_no_operator_is_told_so(serve, monkeypatch):
    """At once, and nothing is asked."""
    server = serve("probe:app", workers=1)
    monkeypatch.setattr(screen.os, "geteuid", lambda: 65534)

    async def act(seen: Watched) -> None:
        for key, name in (("r", "reload"), ("d", "drain"), ("plus", "scale")):
            await seen.pilot.press(key)
            text = f"{name} is for operators"
            await seen.until("it says so", lambda text=text: text in seen.log)
            assert len(seen.app.screen_stack) == 1

    watch(server, act)


def test_master_that_goes_is_missed_and_found_again(serve, tmp_path):
    """The screen says so, keeps what it knew, and goes on with the next one."""
    server = serve("probe:app", workers=1)
    again: list[Maitred] = []

    async def act(seen: Watched) -> None:
        pid = seen.column("pid")
        assert await asyncio.to_thread(server.stop) == 0
        await seen.until("it is gone", lambda: "no master answers" in seen.head)
        assert seen.column("pid") == pid
        assert seen.log.count("no master answers") == 1
        await seen.pilot.press("r")
        await seen.pilot.press("y")
        again.append(Maitred("probe:app", tmp_path=server.log_path.parent, workers=1))
        await seen.until("it is back", lambda: "answers again" in seen.log)
        await seen.until("its worker", lambda: seen.column("pid") != pid)
        await seen.until("its head", lambda: "probe:app: " in seen.head)

    try:
        watch(server, act)
    finally:
        for each in again:
            each.wait_for_log("workers of generation 1 ready")
            each.check()


def test_command_starts_and_quits_in_a_terminal(serve):
    """As an operator does it."""
    server = serve("probe:app", workers=2)
    command = [COMMAND, "top", "--control", server.control]
    shown, code = in_terminal(command, until=b"HOP-OUT", keys=b"q")
    assert code == 0
    assert b"probe:app: ready" in shown
    assert b"HOP-OUT" in shown


@pytest.mark.parametrize("options", [(), ("--once",)])
def test_without_terminal_it_is_one_table(serve, options):
    """For scripts."""
    server = serve("probe:app", workers=2)
    done = run(server, "--interval", "0.1", *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("probe:app: ready, generation 1, up ")
    assert lines[3].split()[:3] == ["SLOT", "PID", "STATE"]
    assert [line.split()[1] for line in lines[4:]] == [
        str(pid) for pid in server.worker_pids()
    ]


def test_bad_input_is_one_sentence(serve):
    """With the exit code that says whose fault it is."""
    server = serve("probe:app", workers=1)
    done = run(server, "--interval", "0")
    assert done.returncode == 2
    assert done.stderr == ("maitred: --interval 0: at least 0.1 seconds are needed\n")
    nobody = subprocess.run(
        [COMMAND, "top", "--control", "/nonexistent.sock"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert nobody.returncode == 6
    assert "no master answers" in nobody.stderr


def run(server: Maitred, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``maitred top`` without a terminal."""
    return subprocess.run(
        [COMMAND, "top", "--control", server.control, *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
