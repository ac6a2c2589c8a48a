"""``maitred reload``: it says how it goes and how it ended; all at once, or a few."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from driver import COMMAND, DEADLINE, Maitred, wait_until
from raw_http import ask, connect, get
from scenes import generations_of, load, names_by_slot, waiting_request, workers_of

KEYED = ("--affinity", "header:x-session")
QUIET = "--no-access-log"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


def begin(server: Maitred) -> subprocess.Popen[str]:
    """Start ``maitred reload``."""
    return subprocess.Popen(
        [COMMAND, "reload", "--control", server.control],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of *command*; give its exit code and what it printed."""
    out, err = command.communicate(timeout=DEADLINE)
    return command.returncode, out, err


# The command

FORWARD = """
import asyncio, glob, sys
mood = sys.argv.pop(1)
real = asyncio.BaseEventLoop.time
def time(loop):
    return real(loop) + 400 * (len(glob.glob(mood + ".*")) == 2)
asyncio.BaseEventLoop.time = time
from maitred.cli.main import main
main()
"""
"""
The master, whose clock goes forward when both new workers hang.

So they reach their timeout when they hang, and nobody else does, however slow it is.
"""


def test_command_waits_until_the_new_generation_serves(serve):
    """It prints what happens, and when it exits with 0 the new ones serve."""
    server = serve("probe:app", QUIET, workers=2)
    old = server.worker_pids()
    with load(server):
        code, out, err = end(begin(server))
        assert (code, err) == (0, "")
        assert server.status()["generation"] == 2
        assert not set(server.worker_pids()) & set(old)
    first, *ready, last = out.splitlines()
    assert first == "reload: starting generation 2"
    assert sorted(ready) == [
        f"worker of slot {slot}, generation 2: ready" for slot in (0, 1)
    ]
    assert re.fullmatch(
        r"generation 2 serves: \d+ connections moved, 0 kept by.*", last
    )


@pytest.mark.parametrize(
    ("feeling", "options", "shown", "why"),
    [
        ("raise", (), "LookupError: not today", "cannot import 'moody'"),
        ("refuse", (), "LookupError: no startup today", "the lifespan startup"),
        ("die", (), "", r"exited with code 9"),
        (
            "hang",
            # The clock goes forward by more than the first, and less than the others.
            (
                "--ready-timeout",
                "300",
                "--head-timeout",
                "999",
                "--wait-timeout",
                "999",
            ),
            r'File ".*moody\.py", line \d+ in <module>',
            r"was ended by SIGABRT \(not ready after 300 s\)",
        ),
    ],
    ids=["import", "startup", "exit", "hang"],
)
def test_command_says_why_the_new_generation_does_not_come_up(
    serve, mood, feeling, options, shown, why
):
    """Exit code 7, the reason, the application's own traceback; the old serve on."""
    options = (QUIET, "--lifespan", "on", *options)
    server = serve(
        "moody:app", *options, workers=2, env={"MOOD": str(mood)},
        command=(sys.executable, "-c", FORWARD, str(mood)),
    )  # fmt: skip
    server.expect_log(r"Traceback|LookupError|reload failed")
    server.expect_log(r"is aborted: not ready after 300 s|was here when it ended")
    old = server.worker_pids()
    mood.write_text(feeling)
    with load(server):
        code, _, err = end(begin(server))
    assert code == 7
    assert re.search(shown, err), err
    last = err.splitlines()[-1]
    assert re.match(
        rf"maitred: reload failed: (worker of slot \d )?.*{why}.*;"
        r" generation 1 serves on$",
        last,
    ), err
    assert server.worker_pids() == old
    wait_until("only the old are left", lambda: len(workers_of(server)) == 2)


def test_commands_during_a_reload_wait_for_the_next(serve, mood):
    """Each reports on the reload that saw what its caller had changed."""
    server = serve("moody:app", QUIET, workers=1, env={"MOOD": str(mood)})
    server.expect_log("reload failed")
    mood.write_text("hang")
    first = begin(server)
    wait_until("it is under way", lambda: generations_of(server) == {1, 2})
    later = [begin(server), begin(server)]
    for command in later:
        assert "a reload is under way" in command.stdout.readline()
    mood.write_text("")
    [coming] = set(workers_of(server)) - set(server.worker_pids())
    os.kill(coming, signal.SIGKILL)
    code, _, err = end(first)
    assert code == 7
    assert "was ended by SIGKILL; generation 1 serves on" in err
    for command in later:
        code, out, err = end(command)
        assert (code, err) == (0, "")
        assert out.splitlines()[-1].startswith("generation 3 serves: ")
    assert server.status()["generation"] == 3


def test_command_is_told_of_a_stop(serve, mood):
    """Who waits when the service is told to stop does not wait for ever."""
    server = serve("moody:app", workers=1, env={"MOOD": str(mood)})
    mood.write_text("hang")
    command = begin(server)
    wait_until("it is under way", lambda: generations_of(server) == {1, 2})
    assert server.stop() == 0
    code, _, err = end(command)
    assert code == 7
    assert err == "maitred: reload failed: the service is stopping\n"


def test_command_notices_that_the_master_died(serve, mood):
    """Nobody will ever answer, and that is said."""
    server = serve("moody:app", workers=1, env={"MOOD": str(mood)})
    mood.write_text("hang")
    command = begin(server)
    assert "starting generation 2" in command.stdout.readline()
    coming = set(wait_until("both are there", lambda: len(workers_of(server)) == 2 and
                            workers_of(server)))  # fmt: skip
    server.process.kill()
    server.wait()
    code, _, err = end(command)
    assert code == 6
    assert "it closed without an answer" in err
    for pid in coming:  # one is asleep and would not notice
        os.kill(pid, signal.SIGKILL)
    Path(server.control).unlink()


def test_command_before_the_first_generation_is_ready_is_refused(serve, mood):
    """There is nothing to replace yet."""
    mood.write_text("hang")
    server = serve("moody:app", workers=1, env={"MOOD": str(mood)}, ready=False)
    wait_until("it answers", lambda: Path(server.control).exists())
    code, out, err = end(begin(server))
    assert (code, out) == (7, "")
    assert err.endswith("nothing is reloaded: the first generation is still starting\n")
    assert server.stop() == 0


def test_command_that_is_interrupted_is_forgotten(serve, mood):
    """The reload goes on without the one who asked for it."""
    server = serve("moody:app", QUIET, workers=1, env={"MOOD": str(mood)})
    mood.write_text("hang")
    command = begin(server)
    wait_until("it is under way", lambda: generations_of(server) == {1, 2})
    command.send_signal(signal.SIGINT)
    end(command)
    server.expect_log("reload failed")
    [coming] = set(workers_of(server)) - set(server.worker_pids())
    os.kill(coming, signal.SIGKILL)
    server.wait_for_log("reload failed")


# A few at a time


def test_one_at_a_time_is_one_worker_more_at_most(serve):
    """Under load everybody is replaced, and nobody's connection fails."""
    server = serve("probe:app", QUIET, "--surge", "1", workers=3)
    old = server.worker_pids()
    most = 0
    with load(server):
        command = begin(server)
        while command.poll() is None:
            most = max(most, len(workers_of(server)))
        code, out, _ = end(command)
    assert code == 0
    last = out.splitlines()[-1]
    assert re.fullmatch(r"generation 2 serves: \d+ connections moved, .*, 0 lost", last)
    # A process between fork and exec looks like the master.
    assert most <= 3 + 1 + 1
    assert not set(server.worker_pids()) & set(old)
    wait_until("the old are gone", lambda: generations_of(server) == {2})


def test_failure_half_way_says_how_far_it_got(serve, mood, gate):
    """What was replaced stays, the others serve on, and a later reload mends it."""
    server = serve(
        "moody:app", *KEYED, QUIET, "--surge", "1", workers=2, env={"MOOD": str(mood)}
    )
    server.expect_log(r"Traceback|LookupError|reload failed")
    names = names_by_slot(server)
    old = server.worker_pids()
    # The first old worker leaves when we say so; only then is the second replaced.
    with waiting_request(server, gate, f"x-session: {names[0]}") as client:
        command = begin(server)
        wait_until(
            "the first is replaced",
            lambda: server.status()["slots"][0].get("generation") == 2,
        )
        mood.write_text("raise")
        gate.touch()
        assert client.answer().json["pid"] == old[0]
    code, _, err = end(command)
    assert code == 7
    assert "LookupError: not today" in err
    assert "1 of 2 workers are of generation 2, the others serve on" in err
    pids = server.worker_pids()
    assert pids[1] == old[1]
    assert {ask(server.port, "/", f"x-session: {n}").json["pid"] for n in names.values()
            } == set(pids)  # fmt: skip
    mood.write_text("")
    assert end(begin(server))[0] == 0
    assert not set(server.worker_pids()) & {*old, *pids}
    assert [s["generation"] for s in server.status()["slots"]] == [3, 3]


# What the system does not do


def test_worker_that_ignores_term_is_killed_after_its_grace(serve, mood):
    """TERM, then KILL; each is said once."""
    server = serve(
        "moody:app", QUIET, "--grace-period", "0.5", workers=2, env={"MOOD": str(mood)}
    )
    server.expect_log("reload failed")
    mood.write_text("deaf")
    command = begin(server)
    coming = wait_until("they are deaf", lambda: deaf(server))
    os.kill(coming[0], signal.SIGKILL)
    assert end(command)[0] == 7
    server.wait_for_log(r"is killed: still there 0\.5 s after TERM")
    wait_until("both are gone", lambda: len(workers_of(server)) == 2)
    assert len(re.findall(r"is asked to leave \(TERM\)", server.log)) == 1
    assert len(re.findall(r"is killed", server.log)) == 1


def deaf(server: Maitred) -> list[int]:
    """Give the workers that ignore TERM, once there are two."""
    found = []
    for pid in workers_of(server):
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(re.search(r"SigIgn:\s+(\w+)", status)[1], 16)
        if ignored & 1 << signal.SIGTERM - 1:
            found.append(pid)
    return found if len(found) == 2 else []


def test_no_process_to_be_had_leaves_the_old_ones(serve):
    """Where the system starts nothing more, what serves serves on, and it recovers."""
    # The limit does not hold for root.
    nobody = (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        if os.geteuid() == 0
        else []
    )  # fmt: skip
    server = serve("probe:app", *KEYED, QUIET, workers=2, through=nobody)
    server.expect_log(r"reload failed|SIGKILL; replaced|could not be started")
    old = server.worker_pids()

    def allow(processes: str) -> None:
        limit = ["prlimit", f"--pid={server.pid}", f"--nproc={processes}:"]
        subprocess.run([*nobody, *limit], check=True)

    allow("0")
    with load(server):
        code, _, err = end(begin(server))
    assert code == 7
    why = r"could not be started \(cannot start .*: Resource temporarily unavailable\)"
    assert re.search(why, err), err
    assert server.worker_pids() == old
    os.kill(old[0], signal.SIGKILL)
    text = r"worker of slot 0 could not be started .*; next try in (\S+) s"
    server.wait_for_log(text, 3)
    first, second, third = map(float, re.findall(text, server.log)[:3])
    assert 0.2 <= first <= 0.5 <= second <= 1.0 <= third <= 2.0
    slot = server.status()["slots"][0]
    assert slot["early_deaths"] >= 3
    assert "could not be started" in slot["why"]
    with connect(server.port) as client:
        assert client.ask(get()).json["pid"] == old[1]
    before, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    allow("unlimited" if before == resource.RLIM_INFINITY else str(before))
    wait_until("it is back", lambda: server.status()["slots"][0]["state"] == "ready")
