"""
What is measured beside rates: one table, a line for each measure.

A measure puts up a contender in its own way and gives one ``value`` and what it came
from. The contenders are those for whom the question makes sense.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from contenders import descriptors, maitred
from generators import WEBSOCKET, head, holding, load, sessions
from servers import Failed, serving

from maitred.control import ask

MANY = 1_000
"WebSockets whose balance is looked at."
BURST = 100
BALANCE_WORKERS = 4
SETTLED = 1_000
"Connections that are open before memory is looked at: the first cost more."
IDLE = min(10_000, descriptors() // 2 - SETTLED - 500)
"Idle connections: the master keeps copies with half of its descriptors."
WAITING = min(10_000, descriptors() // 6 - 100)
"Connections that wait to be decided: the master gives them a sixth of its descriptors."
PATIENCE = 30.0
TURNS = 2


@dataclass(frozen=True)
class Measure:
    """One question, and whom to ask."""

    name: str
    title: str
    unit: str
    contenders: tuple[str, ...]
    run: Callable[..., dict]
    "(contender, seconds, directory) -> figures"


def balance(contender, seconds, directory):
    """Compare the fullest worker with the mean, after WebSockets came in bursts."""
    with serving(contender, BALANCE_WORKERS, directory) as served:
        requests = [head("/", each, served.port, WEBSOCKET) for each in sessions(MANY)]
        with holding(served.port, MANY, requests, status=101, at_a_time=BURST):
            counts = list(served.wait_for_workers().values())
    if sum(counts) != MANY:
        raise Failed(f"the workers have {counts}, which is not {MANY:,}")
    return {"value": max(counts) * len(counts) / MANY, "workers": sorted(counts)}


def memory(contender, seconds, directory):
    """Say how much the master grows with each idle connection it has handed over."""
    with serving(contender, 2, directory) as served:
        # A few sessions: what a session costs is another question.
        requests = [head("/", each, served.port) for each in sessions(32)]
        master = served.processes[0].pid
        found = []
        with holding(served.port, SETTLED, requests, status=200):
            found.append(memory_of(master))
            with holding(served.port, IDLE, requests, status=200) as held:
                found.append(memory_of(master))
        if held["dropped"]:
            raise Failed(f"{held['dropped']} idle connections were closed")
    before, after = found
    return {
        "value": (after["rss"] - before["rss"]) / IDLE,
        "private": (after["private"] - before["private"]) / IDLE,
        "before": before,
        "after": after,
    }


def memory_of(pid):
    """Give the resident and the private bytes of process *pid*."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {
        name: int(kib) * 1024
        for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    return {
        "rss": sizes["Rss"],
        "private": sizes["Private_Clean"] + sizes["Private_Dirty"],
    }


def peek(request):
    """Measure what *request*, sent on many connections, does to somebody else."""

    def run(contender, seconds, directory):
        """
        Compare the p99 of a bystander, with and without others waiting.

        The two alternate; the value is the ratio of the sums.
        """
        options = ("--affinity", "header:x-session", "--head-timeout", "600")
        patient = replace(contender, commands=maitred(*options))
        control = str(directory / "control.sock")
        alone, beside, peeking = [], [], []
        with serving(patient, 2, directory) as served:
            fields = {"connection": "close"}
            requests = [head("/", each, served.port, fields) for each in sessions(32)]
            bystander(served.port, min(seconds, 0.5), requests)
            for _ in range(TURNS):
                wait_for_peeking(control, most=0)
                alone.append(bystander(served.port, seconds / TURNS, requests))
                with holding(served.port, WAITING, [request], status=0) as held:
                    wait_for_peeking(control, least=WAITING)
                    beside.append(bystander(served.port, seconds / TURNS, requests))
                    peeking.append(ask(control, "status")["peeking"])
                if held["dropped"]:
                    raise Failed(f"{held['dropped']} of those who waited were closed")
        return {
            "value": sum(beside) / sum(alone),
            "alone": alone,
            "beside": beside,
            "peeking": peeking,
        }

    return run


def bystander(port, seconds, requests):
    """Give the p99, in ms, of one request after the other on new connections."""
    found = load("connect", port, 1, seconds, requests)
    if found["errors"] or found["timeouts"]:
        raise Failed(f"the bystander had {found}")
    return found["p99_ms"]


def wait_for_peeking(control, least=0, most=WAITING):
    """Wait until that many connections are being peeked."""
    end = time.monotonic() + PATIENCE
    while not least <= (peeking := ask(control, "status")["peeking"]) <= most:
        if time.monotonic() > end:
            raise Failed(f"{peeking} connections are being peeked")
        time.sleep(0.1)


HALF_A_HEAD = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sess"

WITH_COUNTS = ("maitred", "uvicorn", "gunicorn", "granian", "hypercorn")
"Those whose workers can tell how many WebSockets are open in each."

TABLE = (
    Measure(
        "balance",
        f"{MANY:,} WebSockets in bursts of {BURST} on {BALANCE_WORKERS} workers: "
        "the fullest worker, in proportion to the mean",
        "",
        WITH_COUNTS,
        balance,
    ),
    Measure(
        "memory",
        f"memory of the master for each of {IDLE:,} idle keep-alive connections",
        "bytes",
        ("maitred", "maitred-no-copies"),
        memory,
    ),
    Measure(
        "peek",
        f"p99 of new connections beside {WAITING:,} that have sent half a head, "
        "in proportion to alone",
        "",
        ("maitred",),
        peek(HALF_A_HEAD),
    ),
    Measure(
        "silent",
        f"p99 of new connections beside {WAITING:,} that are silent, "
        "in proportion to alone",
        "",
        ("maitred",),
        peek(b""),
    ),
)
MEASURES = {each.name: each for each in TABLE}
