"""
Several acceptors: every promise that one acceptor keeps, and what is only theirs.

Most other tests run with several as well, with ``MAITRED_TESTS_ACCEPTORS=2``: all but
those that count what one process has (copies, turns, descriptors, room, processes), and
those of what is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driver import (
    COMMAND,
    DEADLINE,
    Maitred,
    descriptors,
    is_alive,
    processes_of,
    wait_until,
)
from maitred.control import COMMANDS
from maitred.control import ask as ask_master
from maitred.errors import CommandFailed
from raw_http import Connection, ask, connect, fetch, get
from scenes import waiting_request, workers_of

BY_HEADER = ("--affinity", "header:x-session", "--no-access-log")
LEARNING = ("--affinity", "header:x-session,learn", "--no-access-log")
PATIENT = ("--timeout-keep-alive", "600", "--head-timeout", "600")
KILLED_ACCEPTOR = r"acceptor \d .*was ended by SIGKILL"
KILLED_WORKER = r"worker of slot \d was ended by SIGKILL"
NAMES = [f"s{n}" for n in range(60)]
RACES = int(os.environ.get("MAITRED_TESTS_RACES", "2000")) // 4
"Rounds of the race for a name just learned."


@pytest.fixture(params=[2, 3])
def several(serve, request) -> Callable[..., Maitred]:
    """Serve the probe with 2 and with 3 acceptors."""

    def start(*options: str, workers: int = 3) -> Maitred:
        number = ("--acceptors", str(request.param))
        return serve("probe:app", *options, *number, workers=workers)

    return start


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


def in_session(name: str) -> bytes:
    """Compose a request of session *name*, which begins with it if it is new."""
    return get("/session?new=1", f"x-session: {name}")


def others(server: Maitred) -> list[int]:
    """Give the pids of the acceptors other than the master."""
    pids = [acceptor["pid"] for acceptor in server.status()["acceptors"]]
    assert pids[0] == server.pid
    return pids[1:]


def kill(server: Maitred, number: int) -> None:
    """Kill acceptor *number*, and wait until another serves in its place."""
    before = server.status()["acceptors"]
    dead = before[number]["pid"]
    os.kill(dead, signal.SIGKILL)

    def is_replaced() -> bool:
        found = server.status()["acceptors"]
        states = [each["state"] for each in found if each["pid"] != dead]
        return states == ["ready"] * len(before)

    wait_until("another serves", is_replaced)


class Sessions:
    """Requests of random sessions on kept and on new connections, all checked."""

    def __init__(self, server: Maitred, lines: int = 6) -> None:
        """Connect to *server* as often as *lines* says."""
        self._port = server.port
        self._lines = [connect(server.port) for _ in range(lines)]
        self._random = random.Random(7)
        self.processes: dict[str, int] = {}
        self.counts: dict[str, int] = {}

    def ask(self, count: int) -> None:
        """Make *count* requests; each is answered where its session is, once."""
        for _ in range(count):
            name = self._random.choice(NAMES)
            line = self._random.choice([*self._lines, None])
            said = self._one(name, line)
            assert self.processes.setdefault(name, said["pid"]) == said["pid"], name
            self.counts[name] = self.counts.get(name, 0) + 1
            assert said["count"] == self.counts[name], name

    def _one(self, name: str, line: Connection | None) -> Any:
        with contextlib.nullcontext(line) if line else connect(self._port) as used:
            return used.ask(in_session(name)).json

    def forget(self, pid: int) -> None:
        """Expect new sessions where *pid* was, which is dead."""
        for name in [name for name, had in self.processes.items() if had == pid]:
            del self.processes[name], self.counts[name]

    def close(self) -> None:
        """Close all."""
        for line in self._lines:
            line.close()


@contextlib.contextmanager
def sessions(server: Maitred) -> Iterator[Sessions]:
    """Hold some connections of clients."""
    held = Sessions(server)
    try:
        yield held
    finally:
        held.close()


# The promise


def test_every_session_stays_in_its_process(several):
    """On new and on kept connections, whoever accepts them; and the counts add up."""
    server = several(*BY_HEADER, *PATIENT)
    with sessions(server) as held:
        held.ask(600)
        assert set(held.processes.values()) == set(server.worker_pids())
        status = server.status()
    counts = status["connections"]
    assert counts["passed"] == counts["received"] > 0
    assert counts["taken"] == counts["accepted"] + counts["returned"]
    assert status["keys"] == len(held.processes)
    for name in ("accepted", "passed", "received"):
        assert sum(each[name] for each in status["acceptors"]) == counts[name]
    assert sum(slot["handed_over"] for slot in status["slots"]) == counts["taken"]


def test_name_is_usable_at_once_after_it_was_made(several):
    """A name that a worker has just made is known to whoever is asked for it."""
    server = several(*LEARNING, *PATIENT)

    async def race(rounds: int) -> list[bool]:
        """Make names and use each at once, on a new connection."""
        met = []
        for _ in range(rounds):
            made = await fetch(server.port, get("/learn", "connection: close"))
            line = f"x-session: {made.json['name']}"
            said = await fetch(server.port, get("/session", line, "connection: close"))
            met.append(said.json == {"pid": made.json["pid"], "count": 1})
        return met

    async def run() -> list[bool]:
        races = await asyncio.gather(*(race(RACES // 20) for _ in range(20)))
        return [met for some in races for met in some]

    assert asyncio.run(run()) == [True] * (RACES // 20 * 20)
    assert server.total("claimed_keys") == RACES // 20 * 20
    assert server.status()["connections"]["passed"] > 0


def test_reload_under_load_loses_nothing(several):
    """Sessions that clients name go on in their slots, on the connections they had."""
    server = several(*BY_HEADER, *PATIENT)
    over = threading.Event()
    failures: list[BaseException] = []
    done = [0]

    def run(seed: int) -> None:
        rng = random.Random(seed)
        slots: dict[str, str] = {}
        try:
            with connect(server.port) as kept:
                while not over.is_set():
                    name = rng.choice(NAMES)
                    line = f"x-session: {name}"
                    where = kept.ask(get("/", line)), ask(server.port, "/", line)
                    found = {answer.json["slot"] for answer in where}
                    assert found == {slots.setdefault(name, *found)}
                    done[0] += 1
        except BaseException as exc:  # noqa: BLE001 - the test fails with it
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before, seen = server.worker_pids(), done[0]
            server.reload()
            wait_until("the old are gone", lambda b=before: not any(map(is_alive, b)))
            wait_until("more is asked", lambda s=seen: failures or done[0] > s + 50)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert server.status()["connections"]["lost"] == 0


# Somebody dies


def test_idle_connections_outlive_their_worker(several):
    """Whichever acceptor keeps the copy: the next request is answered."""
    server = several(*BY_HEADER, *PATIENT)
    server.expect_log(KILLED_WORKER)
    with sessions(server) as held:
        for slot in (0, 1):
            held.ask(100)
            held.forget(server.kill_worker(slot))
            held.ask(100)
    counts = server.status()["connections"]
    assert counts["lost"] == counts["refused"].get("worker_died", 0) == 0


def test_sessions_outlive_an_acceptor(several):
    """All of them, also those that the server has named, and the kept connections."""
    server = several(*LEARNING, *PATIENT)
    server.expect_log(KILLED_ACCEPTOR)
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(server.port)) for _ in range(6)]
        made = [lines[n % 6].ask(get("/learn")).json for n in range(60)]
        for acceptor in range(1, len(others(server)) + 1):
            kill(server, acceptor)
            for number, session in enumerate(made):
                line = f"x-session: {session['name']}"
                for answer in (
                    lines[number % 6].ask(get("/", line)),
                    lines[number % 5].ask(get("/", line)),
                    ask(server.port, "/", line),
                ):
                    assert answer.json["pid"] == session["pid"]


def test_acceptor_that_dies_under_load_misleads_nobody(several):
    """Some who come are cut; whoever is answered is answered by their session."""
    server = several(*BY_HEADER, *PATIENT)
    server.expect_log(KILLED_ACCEPTOR)
    over = threading.Event()
    wrong: list[Any] = []
    done = [0]

    def run(names: list[str]) -> None:
        processes: dict[str, int] = {}
        for name in iter(lambda: random.choice(names), None):
            if over.is_set():
                return
            with contextlib.suppress(OSError, AssertionError, ValueError):
                answer = ask(server.port, "/", f"x-session: {name}")
                pid = answer.json["pid"]
                if processes.setdefault(name, pid) != pid:
                    wrong.append((name, processes[name], pid))
                done[0] += 1

    threads = [
        threading.Thread(target=run, args=(NAMES[part::4],)) for part in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            seen = done[0]
            wait_until("they ask", lambda s=seen: done[0] > s + 100)
            kill(server, 1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong
    for name in NAMES:  # and all is well again
        assert ask(server.port, "/", f"x-session: {name}").status == 200


def test_acceptor_that_is_replaced_during_a_reload_does_as_it_is_told(several, gate):
    """Of workers that were leaving when it came it knows nothing, and needs not."""
    server = several(*BY_HEADER, *PATIENT)
    server.expect_log(KILLED_ACCEPTOR)
    old = server.worker_pids()
    with waiting_request(server, gate) as client:
        server.reload()
        kill(server, 1)
        gate.touch()
        assert client.answer().status == 200
    wait_until("the old are gone", lambda: not any(map(is_alive, old)))
    server.reload()
    with sessions(server) as held:
        held.ask(100)


def test_all_leave_when_the_master_is_killed(several, gate):
    """What a worker has is answered; then nobody is left, no acceptor either."""
    server = several(*BY_HEADER, *PATIENT)
    acceptors = others(server)
    with waiting_request(server, gate) as client:
        server.process.kill()
        assert server.wait() == -signal.SIGKILL
        wait_until("they are gone", lambda: not any(map(is_alive, acceptors)))
        wait_until("the idle are gone", lambda: len(workers_of(server)) == 1)
        gate.touch()
        assert client.answer().status == 200
    wait_until("no process is left", lambda: not processes_of(server.run))
    Path(server.control).unlink()  # by the one who killed: the next master would


# It ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_requests_in_progress(several, gate, number):
    """Also where all processes get the signal, as from a terminal."""
    server = several(*BY_HEADER, *PATIENT)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in range(8)]
        for place, client in enumerate(clients):
            begun = gate.with_name("gate.begun")
            begun.unlink(missing_ok=True)
            client.send(get(f"/wait?for={gate}", f"x-session: s{place}"))
            wait_until("the request has begun", begun.exists)
        if number == signal.SIGINT:
            for pid in others(server):
                os.kill(pid, number)
        server.tell(number)
        server.wait_for_log("stopping")
        gate.touch()
        assert [client.answer().status for client in clients] == [200] * 8
    assert server.wait() == 0


def test_one_acceptor_is_no_process_more(serve):
    """Without the option there are the master and its workers, as ever."""
    server = serve("probe:app", "--acceptors", "1", workers=2)
    (only,) = server.status()["acceptors"]
    assert only["pid"] == server.pid
    expected = {server.pid, *server.worker_pids()}
    assert set(processes_of(server.run)) == expected


def test_acceptors_have_nothing_of_each_other(several):
    """Each has the listener, and one channel to each worker and acceptor; no more."""
    server = several(*BY_HEADER, *PATIENT)
    counts = [len(descriptors(pid)) for pid in others(server)]
    server.reload()
    wait_until(
        "all is as before",
        lambda: [len(descriptors(pid)) for pid in others(server)] == counts,
    )


# What does not go together


def test_upgrade_is_refused(serve):
    """In one sentence; and the service goes on."""
    server = serve("probe:app", "--acceptors", "2", workers=2)
    server.expect_log("upgrade refused")
    with pytest.raises(CommandFailed, match=r"--acceptors 2: .* restart the service"):
        server.upgrade()
    assert ask(server.port).status == 200


ARGUMENTS = {
    "status": (),
    "whereis": ("ann",),
    "keys": (),
    "move": ("ann", "1"),
    "scale": ("3",),
    "drain": ("2",),
    "undrain": ("2",),
    "machine": ("drain",),
    "log-level": ("debug",),
    "reload": (),
    "upgrade": (),
    "stop": (),
}
"How each command is given; what is refused has a test of its own."


def test_every_command_is_for_all_acceptors(serve):
    """Whatever can be asked of one master can be asked of several acceptors."""
    assert list(ARGUMENTS) == list(COMMANDS)
    server = serve(
        "probe:app", "--affinity", "header:x-session", "--acceptors", "3",
        "--agent", "127.0.0.1:0", workers=2,
    )  # fmt: skip
    ask(server.port, "/", "x-session: ann")
    for command, arguments in ARGUMENTS.items():
        if command not in {"upgrade", "stop"}:
            run(server, command, *arguments)
    others = [each["pid"] for each in server.status()["acceptors"][1:]]
    for _ in range(30):
        ask(server.port)
    for pid in others:
        wait_until("it logs more", lambda pid=pid: re.search(TRACE % pid, server.log))
    run(server, "stop")
    assert server.wait() == 0


TRACE = r"(?m) DEBUG +\[%d\]"


def run(server: Maitred, *arguments: str) -> str:
    """Run ``maitred`` with *arguments* against *server*; give what it says."""
    done = subprocess.run(
        [COMMAND, *arguments, "--control", server.control],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, (arguments, done)
    return done.stdout


def test_many_keys_are_listed_in_the_order_of_their_use(several):
    """Longer than a packet, from every acceptor, and none twice."""
    server = several("--affinity", "header:x-session")
    length = 100  # so that a part does not fit into a packet
    names = [f"{number:0{length}}" for number in range(2000)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in range(8)]
        for number, name in enumerate(names):
            clients[number % 8].ask(get("/", f"x-session: {name}"))
    answer = ask_master(server.control, "keys")
    assert answer["total"] == len(names)
    listed = [key["key"].removeprefix("header:x-session=") for key in answer["keys"]]
    assert listed == names[:-1001:-1]


def test_acceptor_that_does_not_answer_is_named(serve):
    """What it knows is not guessed."""
    server = serve(
        "probe:app", "--affinity", "header:x-session", "--acceptors", "2", workers=2
    )
    other = server.status()["acceptors"][1]["pid"]
    os.kill(other, signal.SIGSTOP)
    try:
        with pytest.raises(CommandFailed, match=r"acceptor 1, .* does not answer"):
            ask_master(server.control, "whereis", key="nobody")
    finally:
        os.kill(other, signal.SIGCONT)
    assert ask_master(server.control, "keys")["total"] == 0
