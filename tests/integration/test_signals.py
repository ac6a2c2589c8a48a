"""What each signal does to each process, as the table of ``signal_effects`` has it."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from driver import Maitred, processes_of, wait_until
from maitred import signal_effects
from raw_http import ask

IGNORES_CHLD = (
    "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


def role_of(pid: int) -> str:
    """Say what process *pid* is, by its title."""
    shown = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    found = re.match(r"maitred: (\w+)", shown)
    return found[1] if found else shown


def processes(server: Maitred) -> dict[str, int]:
    """Give one process of each role."""
    return {role_of(pid): pid for pid in processes_of(server.run)}


def state_of(pid: int) -> str:
    """Give the letter of proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def acts_by_default(pid: int, number: int) -> bool:
    """Say whether the kernel would do with *pid* what *number* has as its default."""
    text = Path(f"/proc/{pid}/status").read_text()
    masks = (re.search(rf"{n}:\s+(\w+)", text) for n in ("SigCgt", "SigIgn", "SigBlk"))
    return not any(int(mask[1], 16) & 1 << number - 1 for mask in masks if mask)


@pytest.fixture
def everybody(serve):
    """Start a service that has every kind of process."""
    server = serve(
        "probe:app", "--no-access-log", "--acceptors", "2", "--admin", "127.0.0.1:0",
        verb="keep", workers=1,
    )  # fmt: skip
    wait_until(
        "all are there",
        lambda: (
            {"keeper", "master", "worker", "acceptor", "admin"}
            <= set(processes(server))
        ),
    )
    return server


FIELDS = {role: role for role in ("master", "keeper", "worker")} | dict.fromkeys(
    ("acceptor", "admin"), "helper"
)


def harmless(role: str) -> list[signal.Signals]:
    """List the signals after which a process is what it was."""
    return [
        number
        for number, effects in signal_effects.SIGNALS.items()
        if getattr(effects, FIELDS[role]).startswith(("nothing", "goes on"))
        or number is signal.SIGUSR1
    ]


def test_what_is_nothing_stops_and_ends_nobody(everybody):
    """It is sent to every process; afterwards all serve as before."""
    server = everybody
    server.expect_log("(TSTP|ALRM) is ignored, because")
    before = processes(server)
    for role, pid in before.items():
        # CONT first, because it takes back those that stop, if they are pending.
        for number in sorted(harmless(role), key=lambda n: n is not signal.SIGCONT):
            os.kill(pid, number)
    # Keeper and master say so. Of the others it is seen that they are what they were.
    server.wait_for_log("TSTP is ignored", 2)
    server.wait_for_log("ALRM is ignored", 2)
    assert ask(server.port).status == 200
    assert processes(server) == before
    assert {
        role: state_of(pid) for role, pid in before.items() if state_of(pid) in "TZ"
    } == {}


def test_whatever_the_table_knows_is_heeded_where_it_says_so(everybody):
    """What has no default action there has been handled, ignored or blocked."""
    # The keeper waits in sigtimedwait(2), which blocks and unblocks; see below for it.
    roles = set(FIELDS) - {"keeper"}
    mortal = {
        "ALRM": {"worker"},
        **dict.fromkeys(("STOP", "KILL", "CONT", "WINCH", "CHLD"), roles),
        # Workers and helpers write where their threads are before they end.
        "ABRT": {"master"},
    }
    found: dict[str, set[str]] = {}
    for role, pid in processes(everybody).items():
        for number in signal_effects.SIGNALS:
            if role in roles and acts_by_default(pid, number):
                found.setdefault(number.name[3:], set()).add(role)
    assert found == mortal


@pytest.mark.parametrize("verb", ["serve", "keep"])
def test_ttin_and_ttou_change_the_number_of_workers(serve, verb):
    """By one, and never below one; whom the signal reaches first is no matter."""
    server = serve("probe:app", "--no-access-log", verb=verb, workers=1)
    server.descriptors_at_start = None
    server.tell(signal.SIGTTIN)
    wait_until("two serve", lambda: states(server) == ["ready"] * 2)
    server.wait_for_log("scaling from 1 to 2 workers")
    server.tell(signal.SIGTTOU)
    wait_until("one serves", lambda: states(server) == ["ready"])
    server.tell(signal.SIGTTOU)
    server.wait_for_log("TTOU: the last worker stays")
    assert ask(server.port).status == 200


def states(server: Maitred) -> list[str]:
    """Give the state of each slot."""
    return [slot["state"] for slot in server.status()["slots"]]


def test_ttin_that_cannot_be_says_why(serve):
    """The service serves on as it did."""
    server = serve("probe:app", "--affinity", "sticky", workers=1)
    server.expect_log("cannot scale")
    server.tell(signal.SIGTTIN)
    server.wait_for_log(r"WARNING .*TTIN: cannot scale to 2: clients carry slots")
    assert states(server) == ["ready"]


def test_signals_to_a_worker_that_is_starting_wait(serve, tmp_path):
    """It is not ended by what is for the master before it knows that."""
    server = serve("probe:app", "--no-access-log", ready=False, workers=1)
    worker = wait_until(
        "a worker is started",
        lambda: [p for p in processes_of(server.run) if p != server.pid],
    )[0]
    for number in sorted(signal_effects.NOT_FOR_WORKERS):
        os.kill(worker, number)
    server.ready()
    assert server.worker_pids() == [worker]


def test_children_are_reaped_where_that_was_ignored(serve):
    """Whoever starts us may have ignored CHLD, which survives exec."""
    server = serve(
        "probe:app", "--no-access-log", workers=1,
        through=(sys.executable, "-c", IGNORES_CHLD),
    )  # fmt: skip
    server.expect_log("SIGKILL")
    old = server.kill_worker(0)
    server.wait_for_log("was ended by SIGKILL; replaced")
    wait_until("another serves", lambda: states(server) == ["ready"])
    assert server.worker_pids() != [old]


def test_children_of_the_application_have_the_defaults(serve):
    """What does nothing in a worker would end them, as it does below other servers."""
    server = serve("probe:app", "--no-access-log", workers=1)
    masks = ask(server.port, "/grandchild").json["signals"]
    ignored, blocked = int(masks["SigIgn"], 16), int(masks["SigBlk"], 16)
    for number in signal_effects.NOT_FOR_WORKERS:
        assert not (ignored | blocked) & 1 << number - 1, number


def test_keeper_passes_on_what_is_for_the_master(serve, tmp_path):
    """Of what it passes on, each has been heard by the master."""
    log = tmp_path / "service.log"
    server = serve(
        "probe:app", "--log-file", str(log), verb="keep", ready=False, workers=1
    )
    server.expect_log("upgrade")
    wait_until("it serves", lambda: log.exists() and "ready" in log.read_text())
    for number, said in (
        (signal.SIGHUP, "2 ready"),
        (signal.SIGTTIN, "scaling from 1 to 2"),
        (signal.SIGTTOU, "scaling from 2 to 1"),
        (signal.SIGUSR2, "upgraded from"),
    ):
        server.tell(number)
        wait_until(f"{number} was heard", lambda said=said: said in log.read_text())
        wait_until("all serve", lambda: set(states(server)) == {"ready"})
    log.rename(log.with_suffix(".old"))
    server.tell(signal.SIGUSR1)
    wait_until("there is another log", log.exists)
