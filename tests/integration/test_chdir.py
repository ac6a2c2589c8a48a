"""``--chdir``: the workers run elsewhere, the master stays where it was started."""

from __future__ import annotations

import os
import subprocess
import sys

from driver import APPS, COMMAND
from maitred.errors import ExitCode
from raw_http import ask


def copy_probe(directory):
    """Put the probe into *directory*, under a name of its own."""
    directory.mkdir(parents=True)
    (directory / "moved.py").write_text((APPS / "probe.py").read_text())


def test_workers_run_in_another_directory(serve, tmp_path):
    """The code is found there; what the master reads it finds where it was started."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    copy_probe(there / "code")
    options = 'target = "moved:app"\naffinity = ["moved:by_path"]\n'
    (here / "maitred.toml").write_text(f"{options}access-log = false\n")
    with (there / "code" / "moved.py").open("a") as file:
        file.write("\nfrom maitred.routing import Affinity\n")
        file.write("by_path = Affinity(name='path', find=lambda head: head.path)\n")
    server = serve(
        *("moved:app", "--chdir", "../there", "--app-dir", "code"), workers=2, cwd=here
    )
    assert ask(server.port).json["cwd"] == str(there)
    assert os.readlink(f"/proc/{server.pid}/cwd") == str(here)
    server.reload()  # reads the file again
    server.upgrade()
    server.wait_until_serving()
    server.reload()
    assert ask(server.port).json["cwd"] == str(there)
    assert "GET /" not in server.log


def test_command_runs_in_another_directory(serve, tmp_path):
    """A worker of one's own, too: this one misbehaves unless it finds a file."""
    (tmp_path / "committed").touch()
    command = f"{sys.executable} {APPS / 'rogue.py'} committed junk"
    server = serve(command, "--exec", "--chdir", str(tmp_path), workers=1)
    assert ask(server.port).body == b"ok"


def test_directory_that_is_not_there_is_told(tmp_path):
    """Before anything serves."""
    command = [COMMAND, "serve", "probe:app", "--chdir", "/no/such"]
    ended = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True
    )
    sentence = "maitred: --chdir /no/such: there is no such directory\n"
    assert (ended.returncode, ended.stderr) == (ExitCode.USAGE, sentence)
