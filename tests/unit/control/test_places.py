"""Where control sockets are, and which of them is meant."""

from __future__ import annotations

import os
import socket

import pytest

from maitred.control import find, path_of, places, services
from maitred.errors import UsageError


@pytest.fixture
def running(monkeypatch, tmp_path):
    """Have services listen, in the directories of this test alone."""
    first, second = tmp_path / "maitred", tmp_path / "system"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(places, "directories", lambda: (str(first), str(second)))
    opened = []

    def listen(*names, directory=first):
        directory.mkdir(exist_ok=True, mode=0o700)
        for name in names:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(directory / name))
            sock.listen()
            opened.append(sock)
        return str(directory)

    yield listen
    for sock in opened:
        sock.close()


def test_path_has_the_name(monkeypatch):
    """One without a name has the file that it always had."""
    monkeypatch.delenv("MAITRED_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert path_of() == "/run/user/7/maitred/control.sock"
    assert path_of("api") == "/run/user/7/maitred/control-api.sock"


@pytest.mark.parametrize(
    ("uid", "runtime", "expected"),
    [
        (0, "", ["/run/maitred"]),
        (7, "", ["/tmp/maitred-7", "/run/maitred"]),
        (0, "/run/user/0", ["/run/user/0/maitred", "/run/maitred"]),
        (7, "/run/user/7", ["/run/user/7/maitred", "/tmp/maitred-7", "/run/maitred"]),
    ],
)
def test_directories(monkeypatch, uid, runtime, expected):
    """Whoever starts a service without the variable is found by one who has it."""
    monkeypatch.delenv("MAITRED_RUNTIME_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert list(places.directories()) == expected


def test_one_directory_is_used_instead_of_all(monkeypatch, tmp_path):
    """As by every test here: what else runs on the machine is neither seen nor met."""
    assert os.environ["MAITRED_RUNTIME_DIR"] in places.directories()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("MAITRED_RUNTIME_DIR", str(tmp_path))
    assert places.directories() == (str(tmp_path),)
    assert path_of("api") == f"{tmp_path}/control-api.sock"
    assert services() == {}


@pytest.mark.parametrize("name", ["A", "-a", "a/b", "..", "a" * 33, "a b", "a\n"])
def test_what_is_no_name_is_refused(name, running):
    """It becomes part of a path."""
    for look in (path_of, find):
        with pytest.raises(UsageError, match="--name"):
            look(name)


def test_services_are_those_that_answer(running):
    """By name, wherever they are; what is left of a dead one is none."""
    directory = running("control.sock", "control-api.sock", "other.sock")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(f"{directory}/control-dead.sock")
    dead.close()
    assert services() == {
        "": f"{directory}/control.sock",
        "api": f"{directory}/control-api.sock",
    }


def test_nearest_of_two_alike_is_meant(running, tmp_path):
    """As where a new one would be made."""
    here = running("control.sock")
    there = running("control.sock", "control-b.sock", directory=tmp_path / "system")
    assert services() == {"": f"{here}/control.sock", "b": f"{there}/control-b.sock"}


def test_directory_of_others_is_not_asked(running):
    """Whoever made what is in it could be anybody."""
    directory = running("control.sock")
    os.chmod(directory, 0o777)
    assert services() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a socket away")
@pytest.mark.parametrize("mode", [0o1777, 0o770])
def test_sockets_of_others_in_a_shared_directory_are_not_asked(running, mode):
    """As in /tmp, where anybody may put one beside ours."""
    directory = running("control.sock", "control-theirs.sock")
    os.chmod(directory, mode)
    os.chown(f"{directory}/control-theirs.sock", 65534, -1)
    assert services() == {"": f"{directory}/control.sock"}
    os.chmod(directory, 0o700)
    assert set(services()) == {"", "theirs"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_directory_of_another_user_is_not_asked(running):
    """Not even by root."""
    directory = running("control.sock")
    os.chown(directory, 65534, -1)
    assert services() == {}


def test_find_takes_the_only_one(running):
    """A name need not be said where there is no other."""
    directory = running("control-api.sock")
    assert find() == f"{directory}/control-api.sock"


def test_find_prefers_the_one_without_a_name(running):
    """As before others came."""
    directory = running("control.sock", "control-api.sock")
    assert find() == f"{directory}/control.sock"
    assert find("api") == f"{directory}/control-api.sock"


def test_find_asks_which(running):
    """Whoever would stop the wrong one is asked first."""
    running("control-api.sock", "control-chat.sock")
    with pytest.raises(UsageError, match="--name: api, chat"):
        find()


def test_find_says_where_nobody_answers(running):
    """The sentence about it then names a place that makes sense."""
    running("control-api.sock")
    assert find("chat") == path_of("chat")
