"""Failpoints are where they are said to be, and do not exist unless they are armed."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest

from failpoint_promises import PROMISES
from maitred import failpoints
from maitred.failpoints import PLACES, VARIABLE, arm, find, reached

NAMES = list(PLACES)


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """Have every module with a place loaded; take all wrappers off afterwards."""
    for place in PLACES.values():
        importlib.import_module(place.module)
        owner, attribute, function = find(place)
        monkeypatch.setattr(owner, attribute, function)


def test_there_are_nine():
    """In the order in which a connection comes by; with a promise for each."""
    words = [name.split("-") for name in NAMES]
    assert len(NAMES) == 9
    assert all(a[1] == b[0] for a, b in itertools.pairwise(words[:6]))
    assert list(PROMISES) == NAMES
    said = (failpoints.__doc__ or "").splitlines()
    assert [line.split()[0] for line in said if line.startswith("    ")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_place_is_there(name):
    """Renaming a function takes the failpoint along, or fails here."""
    _, _, function = find(PLACES[name])
    assert callable(function)
    assert PLACES[name].in_master == (".worker." not in PLACES[name].module)


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}])
def test_off_means_that_nothing_is_there(environment):
    """Every function is the one that was written, and no call goes a longer way."""
    before = [find(place)[2] for place in PLACES.values()]
    assert arm(environment) is False
    after = [find(place)[2] for place in PLACES.values()]
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert not any(hasattr(function, "__wrapped__") for function in after)


def test_armed_place_is_still_the_function(tmp_path):
    """It looks for its link, finds none, and does what it is for."""
    before = find(PLACES["queue-sendmsg"])[2]
    assert arm({VARIABLE: str(tmp_path)}) is True
    after = find(PLACES["queue-sendmsg"])[2]
    assert after.__wrapped__ is before
    with pytest.raises(AttributeError, match="sock"):
        after(None)


def test_module_that_is_not_loaded_has_no_place(monkeypatch, tmp_path):
    """A master arms what is the master's."""
    for place in PLACES.values():
        if not place.in_master:
            monkeypatch.delitem(sys.modules, place.module, raising=False)
    assert arm({VARIABLE: str(tmp_path)})


def test_who_comes_first_does_it_and_leaves_a_mark(tmp_path, monkeypatch):
    """Once: the link is gone when the next one comes."""
    done = []
    monkeypatch.setattr(failpoints, "ACTIONS", {"note": done.append})
    link = tmp_path / "read-app"
    reached(link)
    assert done == []
    link.symlink_to("note")
    reached(link)
    reached(link)
    assert done == [tmp_path / f"read-app.{os.getpid()}"]
    assert [path.name for path in tmp_path.iterdir()] == [done[0].name]


def test_wait_lasts_until_the_mark_is_gone(tmp_path):
    """A test has time to do something at that very moment."""
    link = tmp_path / "read-app"
    link.symlink_to("wait")
    waiting = threading.Thread(target=reached, args=(link,))
    waiting.start()
    mark = tmp_path / f"read-app.{os.getpid()}"
    while not mark.is_symlink():
        assert waiting.is_alive()
    waiting.join(0.05)
    assert waiting.is_alive()
    mark.unlink()
    waiting.join()


def run(tmp_path, action, then=""):
    """Come to a failpoint in a process of its own, then run *then*."""
    (tmp_path / "read-app").symlink_to(action)
    lines = [
        "import os, sys, pathlib, maitred.failpoints as failpoints",
        "failpoints.reached(pathlib.Path(sys.argv[1]))",
        then,
    ]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines), str(tmp_path / "read-app")],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_kill_is_the_end(tmp_path):
    """As ``kill -9``: nothing is cleaned up, and nothing is said."""
    with run(tmp_path, "kill", "print('alive')") as process:
        assert process.communicate()[0] == ""
    assert process.returncode == -signal.SIGKILL


def test_stop_lasts_until_it_is_continued(tmp_path):
    """It goes on where it was."""
    with run(tmp_path, "stop", "print('alive')") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0] == "alive\n"


def test_exhaustion_leaves_what_is_open(tmp_path):
    """The next descriptor is the first that fails."""
    then = (
        "os.fstat(0)\n"
        "try:\n"
        "    os.dup(0)\n"
        "except OSError as exc:\n"
        "    print(exc.errno)\n"
    )
    with run(tmp_path, "EMFILE", then) as process:
        assert process.communicate()[0] == f"{errno.EMFILE}\n"
