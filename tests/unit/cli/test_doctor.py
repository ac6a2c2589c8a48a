"""``maitred doctor``: each finding, and what follows from it."""

import json
import os
import platform
import resource

import pytest
from click.testing import CliRunner

from maitred.cli import doctor as module
from maitred.cli.doctor import CHECKS, Finding, examine
from maitred.cli.main import cli
from maitred.errors import ExitCode


def run(*arguments):
    """Run the command; give its exit code and what it prints."""
    result = CliRunner().invoke(cli, ["doctor", *arguments], standalone_mode=False)
    return result.return_value, result.stdout


def test_this_machine_can_run_maitred():
    """Where the tests run nothing is bad, and each check has a line."""
    code, out = run()
    assert code == ExitCode.OK
    lines = [line for line in out.splitlines() if not line.strip().startswith("->")]
    assert len(lines) == len(CHECKS)
    assert all(line.split()[0] in {"ok", "warning"} for line in lines)


def test_programs_get_the_same():
    """One object for each check."""
    _, out = run("--json")
    rows = json.loads(out)
    assert [row["check"] for row in rows] == list(CHECKS)
    assert all(row["advice"] for row in rows if row["state"] != "ok")


def test_what_would_fail_is_an_exit_code(monkeypatch):
    """With what to do beside it."""
    checks = {
        "one": lambda: Finding("ok", "fine"),
        "two": lambda: Finding("bad", "a", "b"),
    }
    monkeypatch.setattr(module, "CHECKS", checks)
    code, out = run()
    assert code == ExitCode.SYSTEM
    assert "bad      two  a" in out
    assert "-> b" in out


def test_refusal_of_the_system_is_a_finding(monkeypatch):
    """Not a traceback."""

    def refuse(_pid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert examine(CHECKS["processes"]).state == "bad"
    monkeypatch.delattr(os, "pidfd_open")
    assert examine(CHECKS["processes"]).state == "bad"


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.18.4", "ok"),
        ("5.10.0-33-amd64", "ok"),
        ("5.9.16", "warning"),
        ("4.19.0-27-cloud", "warning"),
        ("6.1", "ok"),
    ],
)
def test_kernel(monkeypatch, release, state):
    """Numbers are compared, not texts."""
    monkeypatch.setattr(platform, "release", lambda: release)
    assert CHECKS["kernel"]().state == state


@pytest.mark.parametrize(
    ("hard", "state"), [(500, "bad"), (20_000, "warning"), (65_536, "ok")]
)
def test_descriptors(monkeypatch, hard, state):
    """The hard limit is what counts."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (100, hard))
    assert CHECKS["descriptors"]().state == state


def test_slow_clock_is_told(monkeypatch):
    """Whatever it is called: what a reading costs is measured."""
    ticks = iter(range(0, 10**12, 2_000_000))
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: next(ticks))
    finding = CHECKS["clock"]()
    assert finding.state == "warning"
    assert "2000 ns for a reading" in finding.found


@pytest.mark.parametrize(("follows", "state"), [(True, "ok"), (False, "warning")])
def test_clock_that_nobody_sets_is_told(monkeypatch, follows, state):
    """It runs as well, but the logs of two machines do not agree."""
    monkeypatch.setattr(module, "is_synchronized", lambda: follows)
    monkeypatch.setattr(module, "SLOW_CLOCK", 1e9)
    assert CHECKS["clock"]().state == state


def test_kernel_knows_whether_its_clock_is_set():
    """One of the two, and it is not changed."""
    assert module.is_synchronized() in {True, False}


def test_control_socket_needs_a_place(monkeypatch):
    """The nearest directory that exists has to let us in."""
    monkeypatch.setattr(module, "path_of", lambda: "/proc/none/maitred/socket")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    finding = CHECKS["control socket"]()
    assert finding.state == "bad"
    assert "--control" in finding.advice


def test_missing_libraries_are_named(monkeypatch):
    """They are not needed."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert CHECKS["libraries"]() == Finding(
        "warning",
        "without uvloop and httptools",
        "pip install uvloop httptools: workers get faster",
    )
