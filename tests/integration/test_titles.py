"""What ``ps`` shows of our processes, and what it does not hide."""

from __future__ import annotations

import contextlib
from pathlib import Path

from driver import RUN, processes_of, wait_until
from maitred.errors import NoMaster


def shown(pid: int) -> str:
    """Say what ``ps`` shows of *pid*."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def test_every_process_says_what_it_is(serve):
    """Master, acceptors and workers are told apart, and which generation is which."""
    server = serve("probe:app", "--acceptors", "2", workers=2)
    assert shown(server.pid) == "maitred: master probe:app"
    assert [shown(pid) for pid in server.worker_pids()] == [
        "maitred: worker 0 gen 1",
        "maitred: worker 1 gen 1",
    ]
    other = server.status()["acceptors"][1]["pid"]
    assert shown(other) == "maitred: acceptor 1 probe:app"
    server.reload()
    assert shown(server.worker_pids()[0]) == "maitred: worker 0 gen 2"


def test_keeper_says_what_it_is(serve):
    """A keeper is not taken for the master below it."""
    server = serve(verb="keep", workers=1)
    assert shown(server.pid) == "maitred: keeper probe:app"
    assert shown(server.status()["pid"]) == "maitred: master probe:app"


def test_upgraded_master_has_its_name_again(serve):
    """The title goes with the program, and the next one sets its own."""
    server = serve("probe:app", "--acceptors", "1", workers=1)
    server.upgrade()
    assert shown(server.pid) == "maitred: master probe:app"


def answers(server):
    """Say whether the master answers on its control socket."""
    with contextlib.suppress(NoMaster):
        return bool(server.status())
    return False


def test_arguments_of_a_command_are_not_shown(serve):
    """What stands behind a program is nobody's business: it may be a password."""
    server = serve("/bin/sleep 900 900", "--exec", workers=1, ready=False)
    wait_until(
        "the master has its title",
        lambda: shown(server.pid) == "maitred: master /bin/sleep",
    )
    # It answers when it hears signals, not before.
    wait_until("it answers", lambda: answers(server))


def test_environment_stays_readable(serve):
    """By their environment processes are known again, also when they have a title."""
    server = serve(workers=2)
    mark = f"{RUN}={server.run}".encode()
    assert len(processes_of(server.run)) >= 3
    for pid in (server.pid, *server.worker_pids()):
        assert mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_text()
        assert name.startswith("maitred: ")
