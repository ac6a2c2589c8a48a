"""A keeper and a master that is played by a few lines of Python: what signals do."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver import DEADLINE, wait_until

KEEPER = """
import logging, sys
from maitred.master import Keeper, keeper
keeper.PATIENCE = 0.2
logging.basicConfig()
sys.exit(Keeper([sys.executable, "-c", sys.argv[1], sys.argv[2]], []).run())
"""
MASTER = """
import os, signal, sys, time
def note(number, frame):
    with open(sys.argv[1], "a") as file:
        print(signal.Signals(number).name, file=file)
for number in (signal.SIGHUP, signal.SIGUSR2, *STUBBORN):
    signal.signal(number, note)
note(signal.SIGCONT, None)
signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
while True:
    signal.pause()
"""


@pytest.fixture
def keep(
    tmp_path: Path,
) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Start a keeper whose master notes the signals that it can bear."""
    started = []

    def start(*stubborn: str) -> tuple[subprocess.Popen[bytes], Path]:
        notes = tmp_path / "notes"
        names = "".join(f"signal.{name}," for name in stubborn)
        master = MASTER.replace("STUBBORN", f"({names})")
        process = subprocess.Popen([sys.executable, "-c", KEEPER, master, str(notes)])
        started.append(process)
        wait_until("the master is there", lambda: notes.exists() and notes.read_text())
        return process, notes

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signal_is_passed_on(keep, number):
    """The master hears it; the keeper goes on."""
    process, notes = keep()
    process.send_signal(number)
    wait_until("it is heard", lambda: number.name in notes.read_text())
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    # This master has no handler for it: it leaves no exit code, and was cut off.
    assert process.wait(DEADLINE) == 5


def test_master_that_does_not_leave_is_killed(keep):
    """After the second stop its time is limited; the exit code says that it was cut."""
    process, notes = keep("SIGTERM", "SIGINT")
    process.send_signal(signal.SIGTERM)
    wait_until("it is heard", lambda: "SIGTERM" in notes.read_text())
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 5
    assert "SIGINT" in notes.read_text()
