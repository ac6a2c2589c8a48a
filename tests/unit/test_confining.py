"""The sandbox: what a kernel lacks for it, and how a command gets into it."""

import json
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
