"""Real processes: how they are started and ended, and what they leave."""

import os
import select
import signal
import sys

import pytest

from maitred.errors import SystemRefused
from maitred.master import processes
from maitred.master.processes import Process

STUCK = """
import faulthandler, os, time
faulthandler.enable(file=int(os.environ["MAITRED_STACK"]))
def in_here():
    os.write(int(os.environ["SAY"]), b"x")
    time.sleep(3600)
in_here()
"""


def started(text):
    """Start a Python process that runs *text*; wait until it says something."""
    heard, said = os.pipe()
    process = Process([sys.executable, "-c", text], {"SAY": str(said)}, (said,))
    os.close(said)
    assert os.read(heard, 1) == b"x"
    os.close(heard)
    return process


def reaped(process):
    """Wait for the end of *process*; give its exit code."""
    select.select([process.pidfd], [], [])
    return process.reap()


def test_aborted_process_leaves_its_stack():
    """Where its thread was is known when it is dead, whole."""
    process = started(STUCK)
    process.abort()
    assert reaped(process) == -signal.SIGABRT
    assert process.stack.startswith("Fatal Python error: Aborted")
    assert "in in_here" in process.stack


def test_killed_process_leaves_no_stack():
    """KILL leaves no time for anything."""
    process = started(STUCK)
    process.kill()
    assert reaped(process) == -signal.SIGKILL
    assert process.stack == ""


def test_reaped_process_is_not_signalled(monkeypatch):
    """Its number may be somebody else's by now."""
    process = started(STUCK)
    process.kill()
    reaped(process)
    monkeypatch.setattr(signal, "pidfd_send_signal", None)
    process.stop()
    process.abort()
    process.kill()


def test_process_that_cannot_be_watched_is_not_left(monkeypatch):
    """Without a pidfd nobody could supervise it; nothing of it stays."""
    left = []
    before = os.listdir("/proc/self/fd")

    def refuse(pid):
        left.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(processes.os, "pidfd_open", refuse)
    with pytest.raises(SystemRefused, match=r"cannot watch .*: Too many open files"):
        Process([sys.executable, "-c", "import time; time.sleep(3600)"], {}, ())
    assert not os.path.exists(f"/proc/{left[0]}")
    assert os.listdir("/proc/self/fd") == before


def test_program_that_is_missing_is_a_sentence():
    """And no descriptor stays."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SystemRefused, match="cannot start /no/such: No such file"):
        Process(["/no/such"], {}, ())
    assert os.listdir("/proc/self/fd") == before


def test_directory_that_has_gone_is_a_sentence():
    """It was there when the service was started."""
    with pytest.raises(SystemRefused, match="cannot start true in /no/such: No such"):
        Process(["true"], {}, (), directory="/no/such")
