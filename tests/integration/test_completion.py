"""``maitred completion``, with the shells that are here."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import COMMAND, DEADLINE
from maitred.cli.completion import SHELLS

BASH = shutil.which("bash")


class Terminal:
    """A bash at whose keyboard the test sits."""

    def __init__(self, directory: Path) -> None:
        """Start it in *directory*, with our command in its PATH."""
        self.fd, theirs = pty.openpty()
        path = f"{Path(COMMAND).parent}:{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [BASH, "--norc", "--noprofile", "-i"],
            cwd=directory,
            env={**os.environ, "PATH": path, "PS1": "$ ", "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        """Type *text*, and forget what was on the screen before."""
        self.seen = ""
        os.write(self.fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until *text* is on the screen."""
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            left = end - time.monotonic()
            readable, _, _ = select.select([self.fd], [], [], max(left, 0))
            assert readable, f"{text!r} does not come; on the screen: {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def close(self) -> None:
        """End it; it has no terminal whose end it would be told of."""
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def bash(tmp_path) -> Iterator[Terminal]:
    """Start a bash that has been told how our commands are completed."""
    if BASH is None:
        pytest.skip("there is no bash")
    terminal = Terminal(tmp_path)
    try:
        terminal.wait_for("$ ")
        terminal.type('eval "$(maitred completion bash)" && echo $((6 * 7))\n')
        terminal.wait_for("42\r\n")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("maitred prese\t", "maitred presets"),
        ("maitred serve --accep\t", "--acceptors "),
        ("maitred serve app:app --affinity socket\t", "--affinity socketio "),
        ("maitred serve app:app --policy round\t", "--policy round-robin "),
        ("maitred serve app:app --certfile cert\t", "--certfile certificate.pem "),
        ("maitred reload --con\t", "--control "),
    ],
)
def test_bash_completes_what_was_begun(bash, tmp_path, typed, becomes):
    """A command, an option, a choice, a preset, and a file, at the TAB."""
    (tmp_path / "certificate.pem").touch()
    bash.type(typed)
    bash.wait_for(becomes)


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_one_that_the_shell_can_read(shell, tmp_path):
    """The shell finds no mistake in it; nothing else is printed."""
    done = subprocess.run(
        [COMMAND, "completion", shell], capture_output=True, text=True, check=True
    )
    assert "_MAITRED_COMPLETE" in done.stdout
    assert not done.stderr
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, "-n", script], check=True)


def test_unknown_shell_is_refused_in_a_sentence():
    """And those that are known are named."""
    done = subprocess.run(
        [COMMAND, "completion", "tcsh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "'bash', 'zsh', 'fish'" in line
