"""
What a master costs: CPU time of a process per connection, while wrk makes connections.

Invariant: everything that is started here is gone when its ``with`` is left.
"""

import contextlib
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench.machine import describe

from maitred.control import ask
from maitred.errors import NoMaster

T = TypeVar("T")
HERE = Path(__file__).parent
REFERENCE = HERE / "reference"
EXAMPLES = HERE.parent / "examples"
START = 60.0
"Seconds that a server has until it answers."
STOP = 20.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Site(NamedTuple):
    """A dispatcher that runs."""

    port: int
    pid: int
    control: str = ""


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu_ns: int
    user_ns: int
    system_ns: int
    wakeups: int


class Cost(NamedTuple):
    """What one connection cost the master, during one load."""

    rate: float
    "Connections per second."
    cpu_us: float
    user_us: float
    system_us: float
    per_wakeup: float
    "Connections for each time that the master had slept."


def usage(pid: int) -> Usage:
    """
    Read what *pid* has used, all its threads.

    The sum is exact (schedstat counts nanoseconds); user and system are that sum, split
    as the clock's ticks fell.
    """
    process = Path(f"/proc/{pid}")
    tasks = list((process / "task").iterdir())
    cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    # After the name, which may have spaces; utime and stime are fields 14 and 15.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    switches = sum(
        int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)[0])
        for text in ((task / "status").read_text() for task in tasks)
    )
    return Usage(cpu, int(fields[11]) * TICK_NS, int(fields[12]) * TICK_NS, switches)


def load(site: Site, seconds: float, sessions: int = 32) -> Cost:
    """
    Make a new connection for each request, of *sessions* in turn; say what that cost.

    Raises:
        RuntimeError: Not every answer was a 200.
    """
    before = usage(site.pid)
    command = ["wrk", "-t1", "-c32", f"-d{max(1, round(seconds))}s",
               "-s", str(REFERENCE / "close.lua"), f"http://127.0.0.1:{site.port}/",
               "--", str(sessions)]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = usage(site.pid)
    requests = int(re.findall(r"(\d+) requests in", said)[0])
    bad = re.search(r"Non-2xx.*|Socket errors.*", said)
    if bad or not requests:
        raise RuntimeError(f"port {site.port}: {bad[0] if bad else 'no answer'}")
    rate = float(re.findall(r"Requests/sec:\s*([\d.]+)", said)[0])
    used = [a - b for a, b in zip(after, before, strict=True)]
    each = [ns / 1000 / requests for ns in used[:3]]
    return Cost(rate, *each, requests / max(1, used[3]))


def in_turn(number: int, items: Iterable[T]) -> list[T]:
    """Give *items*, in round *number* beginning with another one than in the last."""
    found = [*items]
    first = number % len(found)
    return found[first:] + found[:first]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write the median of *values*, and how far they lie apart."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def machine() -> str:
    """Say what it is measured on."""
    return "\n".join(
        f"- {name}: {value}" for name, value in describe([]).items() if value
    )


@contextlib.contextmanager
def compiled(source: Path) -> Iterator[str]:
    """Compile *source*; give the path of the program."""
    with tempfile.TemporaryDirectory(prefix="maitred-bench-") as directory:
        program = f"{directory}/{source.stem}"
        subprocess.run(["cc", "-std=gnu11", "-O2", "-o", program, source], check=True)
        yield program


@contextlib.contextmanager
def running(
    command: Sequence[str], **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Run *command* with what it prints in a pipe; end it afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def dispatcher(
    program: str, batch: int, extras: str, workers: int = 2
) -> Iterator[Site]:
    """Run the reference."""
    with running([program, "x-session:", str(workers), str(batch), extras]) as process:
        yield Site(int(process.stdout.readline()), process.pid)


@contextlib.contextmanager
def maitred(*options: str) -> Iterator[Site]:
    """Run ``maitred serve`` with *options*, and wait until all workers are ready."""
    with tempfile.TemporaryDirectory(prefix="maitred-bench-") as directory:
        control = f"{directory}/control"
        command = [sys.executable, "-m", "maitred", "serve", *options,
                   "--bind", "127.0.0.1:0", "--control", control,
                   "--log-level", "error"]  # fmt: skip
        with running(command, cwd=HERE) as process:
            end = time.monotonic() + START
            while not (port := ready(control)):
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{shlex.join(command)}: it did not start")
                time.sleep(0.05)
            yield Site(port, process.pid, control)


def ready(control: str) -> int:
    """Give the port of the master, 0 as long as not all of its workers are ready."""
    try:
        status = ask(control, "status")
    except NoMaster:
        return 0
    if {slot["state"] for slot in status["slots"]} != {"ready"}:
        return 0
    return int(status["listening"][0].rpartition(":")[2])


def workers_of(site: Site) -> list[int]:
    """Give the pids of all workers of a master."""
    return [slot["pid"] for slot in ask(site.control, "status")["slots"]]
