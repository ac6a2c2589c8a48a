"""The examples do what they say, as real processes."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from channel_kit import DEADLINE

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE_EXAMPLES = ["pass_a_file.py", "channel_quit.py"]


def run(example, *arguments):
    """Run an example to its end, its output read through a pipe."""
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def patterns(example):
    """Say which lines an example prints, in no order that can be relied on."""
    lines = [
        r"master process #\d+",
        r"worker process #\d+",
        r"\[master\] dispatch fd to worker process, file=#\d+",
        r"\[worker\] write file #\d+ ret = 14",
    ]
    if example == "channel_quit.py":
        lines.append(r"\[master\] worker process exited")
    return lines


@pytest.mark.parametrize("example", FILE_EXAMPLES)
@pytest.mark.parametrize("old", [None, b"x" * 100], ids=["new", "truncated"])
def test_worker_writes_the_file(example, old, tmp_path):
    """The worker writes 14 bytes through the descriptor it was passed."""
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    done = run(example, path)
    assert done.stderr == ""
    assert done.returncode == 0
    assert path.read_bytes() == b"child process\0"
    printed = done.stdout.splitlines()
    expected = patterns(example)
    assert len(printed) == len(expected), "a line is missing or was printed twice"
    for pattern in expected:
        assert [line for line in printed if re.fullmatch(pattern, line)], pattern


@pytest.mark.parametrize("example", FILE_EXAMPLES)
def test_two_processes_took_part(example, tmp_path):
    """Master and worker are two processes."""
    done = run(example, tmp_path / "file")
    pids = re.findall(r"(?:master|worker) process #(\d+)", done.stdout)
    assert len(set(pids)) == 2


def test_exit_is_the_last_that_is_said(tmp_path):
    """The master says that its worker exited after everything the worker said."""
    done = run("channel_quit.py", tmp_path / "file")
    assert done.stdout.splitlines()[-1] == "[master] worker process exited"


@pytest.mark.parametrize("example", FILE_EXAMPLES)
def test_file_that_cannot_be_written_is_said_in_one_sentence(example, tmp_path):
    """There is a sentence and exit code 2, no traceback and no process left."""
    done = run(example, tmp_path / "missing" / "file")
    assert done.returncode == 2
    assert done.stderr == (
        f"cannot write to {tmp_path}/missing/file: No such file or directory\n"
    )


@pytest.mark.parametrize("example", FILE_EXAMPLES)
@pytest.mark.parametrize("arguments", [(), ("one", "two")])
def test_wrong_arguments_are_said_in_one_sentence(example, arguments):
    """Without exactly one argument the example says how it is used."""
    done = run(example, *arguments)
    assert done.returncode == 2
    assert done.stderr == f"usage: python {EXAMPLES / example} FILE\n"
    assert done.stdout == ""


def test_shortest_master_hands_connections_to_its_workers():
    """Two workers answer in turn, and all three processes end with the master."""
    command = [sys.executable, EXAMPLES / "channel_in_15_lines.py", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as master:
        try:
            assert master.stdout is not None
            port = int(master.stdout.readline().removeprefix("listening on port "))
            answers = []
            for _ in range(6):
                url = f"http://127.0.0.1:{port}/"
                with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                    answers.append(response.read().decode())
            # A silent client that leaves is no end of the service.
            socket.create_connection(("127.0.0.1", port)).close()
        finally:
            master.send_signal(signal.SIGTERM)
        # The workers have the pipe too: its end is the end of all three.
        assert master.stdout.read() == ""
    assert all(re.fullmatch(r"worker \d+\n", answer) for answer in answers)
    assert answers[0] != answers[1]
    assert answers == answers[:2] * 3
