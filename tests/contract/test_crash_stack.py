"""A process that leaves its stacks at a crash does not crash by signals it hears."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from maitred.signal_effects import NOT_FOR_WORKERS

PROGRAM = """
import signal, sys, time
from maitred import crash_stack
from maitred.worker import signals
signals.pass_over()
crash_stack.lend()
print("ready", flush=True)
sys.stdin.read()
"""
ROUNDS = 300


@pytest.fixture
def process(tmp_path):
    """Run a process that handles signals as a worker does; give it and its file."""
    with (tmp_path / "stack").open("w+") as stack:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "MAITRED_STACK": str(stack.fileno())},
            pass_fds=[stack.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with running:
            assert running.stdout.readline() == b"ready\n"
            yield running, stack
            running.kill()


def test_signals_that_come_at_once_end_nobody(process):
    """However many handlers interrupt each other; Python's own stack holds a few."""
    running, _ = process
    for _ in range(ROUNDS):
        for number in NOT_FOR_WORKERS:
            os.kill(running.pid, number)
    running.stdin.close()
    assert running.wait() == 0


def test_stack_is_left_when_it_is_aborted(process):
    """The larger stack is used for what it is there for."""
    running, stack = process
    running.send_signal(signal.SIGABRT)
    assert running.wait() == -signal.SIGABRT
    stack.seek(0)
    assert "most recent call first" in stack.read()
