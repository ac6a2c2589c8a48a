"""The sandbox: what a kernel lacks for it, and how a command gets into it."""

import errno
import json
import subprocess
import sys

import pytest

from maitred import sandbox


@pytest.mark.parametrize(
    ("version", "lack"),
    [
        (0, "this kernel has no Landlock, or it is switched off"),
        (2, "this kernel has Landlock 2, and 3 (Linux 6.2) is needed"),
        (3, ""),
        (9, ""),
    ],
)
def test_lack_is_a_sentence(monkeypatch, version, lack):
    """Of a kernel that cannot keep files from being truncated, too."""
    monkeypatch.setattr(sandbox, "version", lambda: version)
    assert sandbox.lack() == lack


@pytest.mark.parametrize(
    ("log_file", "logs"), [("", []), ("/var/log/app/log", ["/var/log/app"])]
)
def test_command_is_kept_as_it_is(log_file, logs):
    """It comes last, after what the sandbox itself is told."""
    command = ["worker", "--sandbox", "{}"]
    found = sandbox.confined(command, write=("/srv/app",), log_file=log_file)
    assert found[:4] == [sys.executable, "-I", "-S", sandbox.__file__]
    assert json.loads(found[4]) == {"write": ["/srv/app"], "logs": logs}
    assert found[5:] == command


@pytest.mark.parametrize(
    ("code", "told", "found"),
    [
        (127, "not started, errno 8: cannot start x: no\nprogram", errno.ENOEXEC),
        # Ended by a signal before it could exit.
        (-15, "not started, errno 13: cannot start x", errno.EACCES),
        (-6, "Fatal Python error: Aborted", None),
        (1, "not started, errno 8: cannot start x", None),
        (127, "", None),
        (127, "Fatal Python error: Aborted", None),
        (127, "not started, errno 88888: cannot start x", None),
        (127, "not started, errno 8: " + "x" * 5000, None),
    ],
)
def test_worker_was_not_started_where_the_sandbox_says_so(code, told, found):
    """Whatever else a worker leaves behind, and whichever code it exits with."""
    refusal = sandbox.refusal(code, told)
    assert (refusal and refusal[0].errno) == found
    assert refusal is None or told.endswith(refusal[1])


def test_sandbox_by_hand_says_what_it_could_not_do(tmp_path):
    """There is no master then that could."""
    paper = json.dumps({"write": [str(tmp_path / "missing")], "logs": []})
    done = subprocess.run(
        [sys.executable, "-I", "-S", sandbox.__file__, paper, "true"],
        capture_output=True, text=True, check=False, env={},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("maitred: no worker in a sandbox: ")
