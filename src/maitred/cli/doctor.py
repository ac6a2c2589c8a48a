"""
``maitred doctor``: whether this machine has what maitred needs, and what to do if not.

Each check does for a moment what a running master or worker would do, and asks nobody
else's word for it. Invariant: nothing is left behind, and nothing is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from maitred import sandbox
from maitred.acceptor.rescue import traffic
from maitred.config import Settings
from maitred.control import path_of
from maitred.cpus import usable
from maitred.errors import ExitCode
from maitred.master.processes import try_pidfd
from maitred.wire import MAX_PACKET, Channel, Passed
from maitred.wire.cookie import cookie
from maitred.wire.scoreboard import Scoreboard

OLDEST_KERNEL: Final = (5, 10)
FEW_DESCRIPTORS: Final = 1024
ENOUGH_DESCRIPTORS: Final = 65_536
CLOCKSOURCE: Final = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
CLOCK_ROUNDS: Final = 10
CLOCK_READINGS: Final = 1000
SLOW_CLOCK: Final = 500.0
"Nanoseconds that a reading takes at most where the kernel is not asked."
LONGEST_TIMEX: Final = 512
"Bytes, more than struct timex has."
UNSYNCHRONIZED: Final = 5
"TIME_ERROR of adjtimex(2)."


class Finding(NamedTuple):
    """What was found: ``ok``, ``warning`` (it works, but worse), ``bad`` (it fails)."""

    state: str
    found: str
    advice: str = ""


class Parcel(NamedTuple):
    """A message with a descriptor, to try a channel with."""

    passed: Passed


def kernel() -> Finding:
    """Look at the version."""
    release = platform.release()
    numbers = tuple(map(int, re.findall("[0-9]+", release)[:2]))
    if platform.system() != "Linux":
        return Finding("bad", platform.system(), "run on Linux; nothing else is tried")
    if numbers < OLDEST_KERNEL:
        return Finding("warning", release, "use Linux 5.10 or newer, as is tested")
    return Finding("ok", release)


def pidfd() -> Finding:
    """Open a pidfd, of our own process."""
    try_pidfd()
    return Finding("ok", "pidfd_open works")


def scoreboard() -> Finding:
    """Make the shared memory of a worker."""
    os.close(Scoreboard.create())
    return Finding("ok", "memfd_create works")


def channel() -> Finding:
    """Pass a descriptor through one, and look at how much it holds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        room = end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    ours, theirs = Channel.pair(sends={1: Parcel}, receives={})
    with ours, theirs, contextlib.closing(socket.socket()) as passed:
        ours.send_nowait(Parcel(passed))
        (parcel,) = theirs.receive_nowait()
        parcel.passed.close()
    if room < MAX_PACKET + 4096:
        advice = f"sysctl -w net.core.wmem_default={2 * MAX_PACKET}"
        return Finding("bad", f"a socket holds {room:,} bytes", advice)
    return Finding("ok", f"descriptors pass; a socket holds {room:,} bytes")


def connection() -> Finding:
    """Make one over the loopback, and ask the kernel what we ask of each."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            cookie(accepted)
            client.sendall(b"x")
            accepted.recv(1)
            read = traffic(accepted).read
    if read != 1:
        advice = "serve with --no-keep-copies: it cannot be told what a worker had read"
        return Finding("bad", f"TCP_INFO counts {read} bytes where 1 was read", advice)
    return Finding("ok", "SO_COOKIE and TCP_INFO work")


def descriptors() -> Finding:
    """Look at the hard limit, to which master and workers raise their own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{hard:,} for each process"
    advice = f"ulimit -Hn {ENOUGH_DESCRIPTORS}, or LimitNOFILE= in the systemd unit"
    if hard < FEW_DESCRIPTORS:
        return Finding("bad", found, advice)
    return Finding("ok" if hard >= ENOUGH_DESCRIPTORS else "warning", found, advice)


def cpus() -> Finding:
    """Count those that may be used: so many workers there are by default."""
    count, reason = usable()
    return Finding("ok", f"{count} workers by default, by {reason}")


def backlog() -> Finding:
    """Compare the system's limit with what we listen with."""
    most = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    wanted = Settings(target="app:app").backlog
    if most < wanted:
        advice = f"sysctl -w net.core.somaxconn={wanted}, or a smaller --backlog"
        return Finding("warning", f"somaxconn is {most:,}", advice)
    return Finding("ok", f"somaxconn is {most:,}")


def clock() -> Finding:
    """Read it often: deadlines and heartbeats do. Ask whether anybody sets it."""
    costs = []
    for _ in range(CLOCK_ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CLOCK_READINGS):
            time.monotonic()
        costs.append((time.perf_counter_ns() - began) / CLOCK_READINGS)
    # The least of them: whatever else ran meanwhile is not the clock's.
    cost = min(costs)
    found = f"{_clocksource()}, {cost:.0f} ns for a reading"
    if cost > SLOW_CLOCK:
        advice = "have the machine use tsc or kvm-clock: each reading is a system call"
        return Finding("warning", found, advice)
    if not is_synchronized():
        advice = "run chrony or systemd-timesyncd: logs of several machines go apart"
        return Finding("warning", f"{found}; nobody sets it", advice)
    return Finding("ok", found)


def _clocksource() -> str:
    with contextlib.suppress(OSError):
        return Path(CLOCKSOURCE).read_text(encoding="ascii").strip()
    return "an unknown clock"


def is_synchronized() -> bool:
    """Return whether the kernel's clock follows another one (adjtimex(2))."""
    timex = ctypes.create_string_buffer(LONGEST_TIMEX)  # modes 0: nothing is changed
    return int(ctypes.CDLL(None).adjtimex(timex)) != UNSYNCHRONIZED


def control() -> Finding:
    """Look whether the control socket can be made where it belongs."""
    path = Path(path_of())
    place = next(parent for parent in path.parents if parent.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("bad", f"{place} cannot be written to", "give --control PATH")
    return Finding("ok", f"{path} is possible")


def libraries() -> Finding:
    """Look for those that make workers faster."""
    missing = [n for n in ("uvloop", "httptools") if not importlib.util.find_spec(n)]
    if missing:
        advice = f"pip install {' '.join(missing)}: workers get faster"
        return Finding("warning", f"without {' and '.join(missing)}", advice)
    return Finding("ok", "uvloop and httptools are installed")


def landlock() -> Finding:
    """Ask the kernel for Landlock, which --sandbox needs."""
    if lack := sandbox.lack():
        return Finding("warning", lack, "serve without --sandbox")
    return Finding("ok", f"Landlock {sandbox.version()}: --sandbox is possible")


CHECKS: Final[dict[str, Callable[[], Finding]]] = {
    "kernel": kernel,
    "processes": pidfd,
    "scoreboard": scoreboard,
    "channel": channel,
    "connections": connection,
    "descriptors": descriptors,
    "CPUs": cpus,
    "backlog": backlog,
    "clock": clock,
    "control socket": control,
    "sandbox": landlock,
    "libraries": libraries,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON list.")
def doctor(as_json: bool) -> ExitCode:
    """
    Check whether this machine has what maitred needs, and say what to do if not.

    Run it as the user, and with the limits, that the service will have. Exit code 4
    says that something would fail.
    """
    findings = {name: examine(check) for name, check in CHECKS.items()}
    if as_json:
        rows: list[dict[str, Any]] = [
            {"check": name, **finding._asdict()} for name, finding in findings.items()
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("\n".join(render(findings)))
    bad = any(finding.state == "bad" for finding in findings.values())
    return ExitCode.SYSTEM if bad else ExitCode.OK


def examine(check: Callable[[], Finding]) -> Finding:
    """Return what *check* finds; what the system refuses is a finding too."""
    try:
        return check()
    except (OSError, AttributeError) as exc:
        advice = "a sandbox or an old kernel refuses it; maitred cannot run without"
        return Finding("bad", str(exc), advice)


def render(findings: dict[str, Finding]) -> Iterator[str]:
    """Yield *findings* as lines; advice only where it is needed."""
    width = max(map(len, findings))
    for name, (state, found, advice) in findings.items():
        yield f"{state:7}  {name:{width}}  {found}"
        if state != "ok":
            yield f"{'':7}  {'':{width}}  -> {advice}"
