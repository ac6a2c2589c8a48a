"""What the figures were measured on: they mean nothing without it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
