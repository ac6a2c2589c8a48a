"""Several services on one machine, told apart by their names."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from driver import COMMAND, DEADLINE, processes_of, wait_until
from maitred.control import ask
from maitred.errors import NoMaster, UsageError
from nobody import NOBODY, PACKAGES, SYSTEM, needs_nobody


@pytest.fixture
def runtime(tmp_path_factory, monkeypatch) -> Path:
    """Give the directory in which control sockets are made, with a short name."""
    path: Path = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("MAITRED_RUNTIME_DIR", str(path))
    return path


def named(serve, runtime: Path, name: str, *options: str, **details: Any) -> Any:
    """Start a service that is called *name*, and has no other control socket."""
    path = str(runtime / f"control-{name}.sock")
    server = serve(
        "probe:app", "--name", name, "--control", path, *options,
        workers=1, ready=False, **details,
    )  # fmt: skip
    server.control = path
    return server.ready()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with *arguments*, where this test has its services."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        env={**os.environ, **environment},
    )


def test_each_is_asked_by_its_name(serve, runtime):
    """By option or environment; and without either, the question comes back."""
    api, chat = (named(serve, runtime, name) for name in ("api", "chat"))
    for server, name in ((api, "api"), (chat, "chat")):
        status = json.loads(run("status", "--json", "--name", name).stdout)
        assert (status["pid"], status["name"]) == (server.pid, name)
    found = run("status", "--json", MAITRED_NAME="chat")
    assert json.loads(found.stdout)["pid"] == chat.pid
    refused = run("stop")
    assert refused.returncode == 2
    assert "say which with --name: api, chat" in refused.stderr
    rows = json.loads(run("list", "--json").stdout)
    assert [(row["name"], row["pid"]) for row in rows] == [
        ("api", api.pid),
        ("chat", chat.pid),
    ]
    stopped = run("stop", "--name", "api")
    assert stopped.returncode == 0
    assert api.wait() == 0
    assert run("top", "--once", "--name", "chat").stdout.startswith("chat: probe:app: ")
    assert chat.status()["state"] == "ready"


def test_two_of_one_name_are_refused(serve, runtime):
    """The first serves on, and the second says what to do."""
    first = named(serve, runtime, "api")
    second = run("serve", "probe:app", "--name", "api", "--bind", "127.0.0.1:0")
    assert second.returncode == 4
    assert "--name NAME" in second.stderr
    assert first.status()["state"] == "ready"


@pytest.mark.parametrize("acceptors", ["1", "2"])
def test_name_is_shown_everywhere(serve, runtime, acceptors):
    """In the titles of its processes and in every line of its log; upgraded or not."""
    server = named(
        serve, runtime, "api", "--log-format", "json", "--admin", "127.0.0.1:0",
        "--acceptors", acceptors,
    )  # fmt: skip
    if acceptors == "1":  # several cannot be exchanged at once
        server.upgrade()
    server.reload()
    server.wait_until_serving()
    roles = {"master", "worker", "admin", *(["acceptor"] if acceptors == "2" else [])}

    def titled():
        """Say whether each process has its title; the admin process is a new one."""
        titles = [
            Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            for pid in processes_of(server.run)
        ]
        all_named = all(each.endswith(" (api)") for each in titles)
        return all_named and {each.split()[1] for each in titles} == roles

    wait_until("each has its title", titled)
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {line.get("service") for line in lines} == {"api"}


@needs_nobody
@pytest.mark.parametrize("user", [(), ("--user", "nobody")])
def test_members_of_the_control_group_may_look(serve, tmp_path_factory, user):
    """At what is read-only, and only they; a master that gave up root keeps to it."""
    group = grp.getgrgid(4).gr_name
    directory = tmp_path_factory.mktemp("run")
    for each in (directory, *directory.parents[:-2]):
        each.chmod(0o755)
    path = str(directory / "control.sock")
    server = serve(
        "probe:app", "--control", path, "--control-group", group, *user,
        workers=1, ready=False,
        command=SYSTEM, env=PACKAGES,
    )  # fmt: skip
    server.control = path
    server.ready()
    found = os.stat(path)
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (4, 0o660)
    with pytest.raises(NoMaster, match="Permission denied"):
        ask_as(path, "status", groups=[])
    assert ask_as(path, "status", groups=[4])["pid"] == server.pid
    with pytest.raises(UsageError, match="stop is for operators"):
        ask_as(path, "stop", groups=[4])
    assert server.stop() == 0
    Path(path).unlink(missing_ok=True)  # nobody may not, in a directory of root's


def ask_as(path: str, command: str, *, groups: list[int]) -> dict[str, Any]:
    """Ask as a user who is neither root nor the master's, and in *groups*."""
    before = os.getgroups()
    os.setgroups(groups)
    os.seteuid(NOBODY.pw_uid - 1)
    try:
        return ask(path, command)
    finally:
        os.seteuid(0)
        os.setgroups(before)


def test_group_that_does_not_exist_is_refused(runtime):
    """Before anything listens: it is said, too, where the address is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        group = ("--control-group", "nosuchgroup")
        done = run("serve", "probe:app", "-w", "1", "--bind", bind, *group)
    assert done.returncode == 2
    assert done.stderr == (
        "maitred: --control-group nosuchgroup: there is no such group\n"
    )
