"""
Servers as objects that a test drives: the real command line, real processes.

Invariant: whatever a driver started is gone after ``check``, and it says so if not: no
process of the run is left, the master's descriptors are those it had when it was
ready, every connection it accepted is accounted for, and the log holds no warning,
error or traceback that the test did not expect.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Container, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from maitred.control import ask

APPS = Path(__file__).parent / "apps"
COMMAND = str(Path(sys.executable).parent / "maitred")
DEADLINE = 60.0
RUN = "MAITRED_TEST_RUN"
ALARM = re.compile(
    r" (WARNING|ERROR|CRITICAL) |Traceback|Error:|never retrieved|Exception ignored"
)
BEGINNINGS = ("accepted", "returned", "orphaned", "received")
ENDS = ("taken", "client_left", "silent", "lost", "passed")
"""
The counters that say that a connection has come to an acceptor, and those that say,
with the refusals, how each of them left it.
"""
ACCEPTORS = os.environ.get("MAITRED_TESTS_ACCEPTORS", "1")
"How many acceptors there are where a test does not say; the same promises hold."


def wait_until(
    what: str, condition: Callable[[], Any], deadline: float = DEADLINE
) -> Any:
    """Wait until *condition* returns something true; return it, or fail in the end."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
        time.sleep(0.02)
    return value


def descriptors(pid: int, leave_out: Container[str] = ()) -> list[str]:
    """Return what process *pid* has open, but for the links in *leave_out*."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            link = os.readlink(fd)
            if link not in leave_out:
                found.append(link.split(":")[0])
    return sorted(found)


def descriptors_of(status: dict[str, Any], leave_out: Container[str] = ()) -> list[str]:
    """Return what all acceptors of *status* have open, but for *leave_out*."""
    pids = [acceptor["pid"] for acceptor in status["acceptors"]]
    return sorted(
        itertools.chain.from_iterable(descriptors(pid, leave_out) for pid in pids)
    )


def conversations(pid: int, directory: str) -> set[str]:
    """Return the links of sockets accepted in *directory*, in *pid*'s namespace."""
    found = set()
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        # Num RefCount Protocol Flags Type St Inode Path, if it has one (proc(5))
        match line.split(maxsplit=7):
            case _, _, _, "00000000", "0001", _, inode, path:
                if os.path.dirname(path) == directory:
                    found.add(f"socket:[{inode}]")
    return found


def processes_of(run: str) -> list[int]:
    """Return the live processes whose environment belongs to *run*."""
    found = []
    mark = f"{RUN}={run}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if is_alive(int(entry.name)) and mark in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def is_deputy(pid: int) -> bool:
    """Return whether *pid* is an acceptor other than the master."""
    with contextlib.suppress(OSError):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        # Its title, or how it was started.
        return b"maitred: acceptor " in shown or b"maitred.cli.acceptor" in shown
    return False


def is_alive(pid: int) -> bool:
    """Return whether *pid* is a process and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def cpu_seconds(pid: int) -> float:
    """Return how many seconds process *pid* has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """One server process, its log in a file; whoever starts one calls ``kill_all``."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path = APPS,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        stderr: int | None = None,
        wrap: Sequence[str] = (),
        nofile: int | None = None,
        user: int | None = None,
        through: Sequence[str] = (),
    ) -> None:
        """
        Start *command*.

        Args:
            command: Program and arguments.
            log: Where what it prints is added.
            cwd: The directory it runs in.
            env: Added to our environment.
            pass_fds: Descriptors it inherits.
            stderr: A descriptor of ours that is its standard error instead.
            wrap: Program and arguments that start it in its turn.
            nofile: Its limit of open files, which it cannot raise.
            user: Whose process it is, where we may choose.
            through: A program and its arguments that becomes the command.
        """
        self.run = uuid.uuid4().hex
        self.log_path = log
        command = [*wrap, *command]
        if nofile is not None:
            command = ["prlimit", f"--nofile={nofile}", *command]
        command = [*through, *command]

        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, RUN: self.run, "PYTHONUNBUFFERED": "1"}
                | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out if stderr is None else stderr,
                pass_fds=pass_fds,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        """Return the pid of the process that was started."""
        return self.process.pid

    @property
    def log(self) -> str:
        """Return all that was logged so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, pattern: str, times: int = 1) -> re.Match[str]:
        """
        Wait until *pattern* stands in the log *times* times; return the last match.

        Fails if the process ends without.
        """

        def found() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            matches = list(re.finditer(pattern, self.log))
            if len(matches) < times and ended:
                raise AssertionError(
                    f"the server ended ({self.process.returncode}):\n{self.log}"
                )
            return matches[-1] if len(matches) >= times else None

        match: re.Match[str] = wait_until(f"{pattern!r} in the log", found)
        return match

    def wait(self) -> int:
        """Wait until the process ends; return its exit code."""
        return self.process.wait(timeout=DEADLINE)

    def kill_all(self) -> None:
        """Kill every process of the run, and wait until the first of them is gone."""
        for pid in processes_of(self.run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=DEADLINE)


class Maitred(Server):
    """``maitred serve``, or ``maitred keep``."""

    def __init__(
        self,
        target: str,
        *options: str,
        tmp_path: Path,
        verb: str = "serve",
        bind: str | None = "127.0.0.1:0",
        workers: int = 2,
        command: Sequence[str] = (COMMAND,),
        **details: Any,
    ) -> None:
        """Start to serve *target*; nobody can connect before ``ready``."""
        self.control = str(tmp_path / "control.sock")
        self.expected: list[str] = []
        self.expected_lost = 0
        self.workers = workers
        self.descriptors_at_start: list[str] | None = None
        binds = [] if bind is None else ["--bind", bind]
        several = ACCEPTORS != "1" and "--exec" not in options
        acceptors = ["--acceptors", ACCEPTORS] if several else []
        super().__init__(
            [*command, verb, *filter(None, [target]), *binds, "--workers", str(workers),
             "--control", self.control, *acceptors, *options],
            tmp_path / "maitred.log",
            **details,
        )  # fmt: skip

    def ready(self) -> Maitred:
        """Wait until every worker is ready; record which descriptors are open then."""
        self.wait_for_log(r"workers of generation \d+ ready")
        self.descriptors_at_start = wait_until("it is at rest", self._at_rest)
        return self

    def _at_rest(self) -> list[str] | None:
        """
        Return what the master has open; None while a worker comes or goes.

        Not who asks on the control socket: that is the admin process at times, or we,
        whom the master has answered and not yet taken leave of.
        """
        before = self.status()
        found, after = self._open_but_asking(before), self.status()
        if self._open_but_asking(after) != found:
            return None
        states = [(s.get("pid"), s["state"]) for s in before["slots"]]
        if states != [(s.get("pid"), "ready") for s in after["slots"]]:
            return None
        return found

    def _open_but_asking(self, status: dict[str, Any]) -> list[str]:
        """Return what all acceptors have open, but for the control socket's clients."""
        directory = os.path.dirname(self.control)
        return descriptors_of(status, conversations(status["pid"], directory))

    @cached_property
    def port(self) -> int:
        """Return the port of the first listener."""
        return int(
            self.wait_for_log(r"listening on (?:https?|tcp)://\S*?:(\d+)[,:]")[1]
        )

    @property
    def url(self) -> str:
        """Return the address of the first listener."""
        return f"http://127.0.0.1:{self.port}"

    def status(self) -> dict[str, Any]:
        """Ask the master for its status, and return it."""
        return ask(self.control, "status")

    def worker_pids(self) -> list[int]:
        """Return the pid of each slot's worker."""
        return [slot["pid"] for slot in self.status()["slots"]]

    def total(self, column: str) -> int:
        """Return the sum of *column* over all slots."""
        return sum(slot.get(column, 0) for slot in self.status()["slots"])

    def tell(self, number: int) -> None:
        """Send signal *number* to the master."""
        self.process.send_signal(number)

    def reload(self) -> None:
        """Reload, and wait until the new generation serves."""
        before = self.log.count("workers of generation")
        self.tell(signal.SIGHUP)
        self.wait_for_log(r"workers of generation \d+ ready", before + 1)

    def upgrade(self) -> dict[str, Any]:
        """Upgrade, and return what the new program says of it."""
        return ask(self.control, "upgrade")

    def kill_worker(self, slot: int, number: int = signal.SIGKILL) -> int:
        """Send signal *number* to the worker of *slot*; return its pid."""
        pid: int = self.status()["slots"][slot]["pid"]
        os.kill(pid, number)
        return pid

    def wait_until_serving(self) -> None:
        """Wait until the master says that every worker is ready; for quiet logs."""

        def serving() -> bool:
            assert self.process.poll() is None, self.log
            if not Path(self.control).exists():
                return False
            return all(slot["state"] == "ready" for slot in self.status()["slots"])

        wait_until("every worker is ready", serving)

    def connect(self) -> socket.socket:
        """Connect to the first listener; the caller closes the socket."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def expect_log(self, pattern: str) -> None:
        """Allow warnings, errors and tracebacks in lines with *pattern*."""
        self.expected.append(pattern)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send signal *number*, wait for the end, and return the exit code."""
        self.tell(number)
        return self.wait()

    def check(self) -> None:
        """Stop if that was not done yet; fail if anything is left, or not expected."""
        check_all([self])

    def check_gone(self) -> None:
        """Check, after the end, that no process is left; kill what is."""
        try:
            wait_until("no process is left", lambda: not processes_of(self.run))
            assert not Path(self.control).exists()
        finally:
            self.kill_all()
        self._check_log()

    def check_at_rest(self) -> None:
        """Check that nothing of the clients, who are gone, is left."""
        if self.descriptors_at_start is not None:
            self._wait_for_rest()
        self._check_log()

    def _wait_for_rest(self) -> None:
        """Wait until each connection has ended, and descriptors are as at first."""
        state: dict[str, Any] = {}

        def at_rest() -> bool:
            state.update(self.status())
            state["descriptors"] = descriptors_of(state)
            counts = state["connections"]
            ended = sum(counts[name] for name in ENDS) + sum(counts["refused"].values())
            return (
                sum(counts[name] for name in BEGINNINGS) == ended
                and counts["lost"] == self.expected_lost
                and not state["waiting"]
                and not state["peeking"]
                and not any(slot.get("open", 0) for slot in state["slots"])
                and state["descriptors"] == self.descriptors_at_start
            )

        try:
            wait_until("the server is at rest", at_rest)
        except AssertionError as exc:
            raise AssertionError(
                f"{exc}: {state}\nat start: {self.descriptors_at_start}\n{self.log}"
            ) from None

    def _check_log(self) -> None:
        """Fail if the log has an alarm that was not expected."""
        alarms = [
            line
            for line in self.log.splitlines()
            if ALARM.search(line) and not any(re.search(p, line) for p in self.expected)
        ]
        assert not alarms, (
            "unexpected in the log:\n" + "\n".join(alarms) + "\n\n" + self.log
        )


def check_all(servers: Sequence[Maitred]) -> None:
    """Stop all *servers* at once; fail for the first of which something is left."""
    try:
        alive = [server for server in servers if server.process.poll() is None]
        for server in alive:
            server.check_at_rest()
        for server in alive:
            server.tell(signal.SIGTERM)
        for server in alive:
            assert server.wait() == 0, server.log
        for server in servers:
            server.check_gone()
    finally:
        for server in servers:
            server.kill_all()


class Uvicorn(Server):
    """Plain ``uvicorn --workers N``: the same job without affinity."""

    def __init__(
        self, target: str, *options: str, tmp_path: Path, workers: int = 4
    ) -> None:
        """Start to serve *target* on a port that was free just before."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        super().__init__(
            [sys.executable, "-m", "uvicorn", target, "--port", str(self.port),
             "--workers", str(workers), "--no-access-log", *options],
            tmp_path / "uvicorn.log",
        )  # fmt: skip

    def ready(self) -> Uvicorn:
        """Wait until every worker is ready."""
        self.wait_for_log(r"Application startup complete", self.workers)
        return self
