"""What the figures were measured on: they mean nothing without it."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOOK = 0.2
QUIET = 0.15


def describe(contenders):
    """Tell the machine and the versions of *contenders*."""
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit(),
        "load average before": load_average(),
        "versions": {each.name: version_of(each) for each in contenders},
    }


def version_of(contender):
    try:
        return contender.version()
    except (OSError, subprocess.CalledProcessError, PackageNotFoundError) as error:
        return f"not found: {error}"


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def commit():
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def load_average():
    return [round(each, 2) for each in os.getloadavg()]


def wait_until_quiet(patience):
    """
    Wait up to *patience* seconds for others to leave the machine to us.

    Gives the part of its cores that they still use. Nothing of ours must run: the load
    average would count that too.
    """
    end = time.monotonic() + patience
    while (found := busy()) > QUIET and time.monotonic() < end:
        time.sleep(1)
    return found


def busy():
    """Say which part of the time the cores are not idle."""
    before = times()
    time.sleep(LOOK)
    total, idle = (now - then for now, then in zip(times(), before, strict=True))
    return round(1 - idle / total, 3) if total else 0.0


def times():
    """All time of all cores and the idle part of it, in ticks (proc(5))."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    fields = [int(each) for each in line.split()[1:9]]
    return sum(fields), fields[3] + fields[4]
