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
FORKED = """
import os, signal
from maitred import crash_stack
os.environ[crash_stack.VARIABLE] = str(os.memfd_create("stack"))
crash_stack.lend()
signal.signal(signal.SIGUSR1, lambda *_: None)
if not (child := os.fork()):
    os.kill(os.getpid(), signal.SIGUSR1)
    os._exit(0)
os.waitpid(child, 0)
[memory] = crash_stack._memory
print("shared" if memory[:].strip(b"\\0") else "its own", end="")
"""
"The child's handler has left something on the stack; the parent's has not run."
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


def test_forked_child_has_a_stack_of_its_own():
    """A signal to both at once would have two processes write on one stack."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"its own"
