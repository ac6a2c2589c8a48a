"""
How many CPUs this process may use, by its affinity mask and the quota of its cgroup.

A quota is a share of time, which no count of cores shows: in a container with two CPUs
of a machine with 64, 64 workers share two. It may be set on the process's own group or
on any above it, and the smallest holds.

Invariant: what cannot be read does not limit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

ROOT: Final = Path("/")
AFFINITY: Final = "the CPUs that the process may run on"


class Cpus(NamedTuple):
    """
    The number of CPUs that may be used, and why.

    Args:
        number: Whole CPUs, a part of one counted as one.
        reason: What that follows from, as in "4 workers, by ...".
    """

    number: int
    reason: str


def usable(root: Path = ROOT) -> Cpus:
    """Return the CPUs this process may use, by its mask and cgroups below *root*."""
    mask = len(os.sched_getaffinity(0))
    quotas = list(_quotas(root))
    if quotas:
        share, where = min(quotas)
        if math.ceil(share) < mask:
            reason = f"the CPU quota of {where}, which is {share:g}"
            return Cpus(max(math.ceil(share), 1), reason)
    return Cpus(mask, AFFINITY)


def _quotas(root: Path) -> Iterator[tuple[float, str]]:
    """Yield each quota that limits this process, in CPUs, and the file it is in."""
    for version, directory in _groups(root):
        try:
            if version == "cgroup2":
                file = directory / "cpu.max"
                quota, period = file.read_text(encoding="ascii").split()
            else:
                file = directory / "cpu.cfs_quota_us"
                quota = file.read_text(encoding="ascii").strip()
                period = (directory / "cpu.cfs_period_us").read_text(encoding="ascii")
            # No limit is "max" in version 2, and -1 in version 1.
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period), str(file)
        except (OSError, ValueError):
            continue


def _groups(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the directories of the process's groups, the lower before the upper."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        # Names of directories may be no UTF-8; those of control groups are not among
        # them.
        mounts = (root / "proc/self/mountinfo").read_bytes().decode(errors="replace")
    except OSError:
        return
    # hierarchy:controllers:path (cgroups(7)); version 2 has no controllers there.
    paths = {
        controller: path
        for line in lines
        for _, controllers, path in [line.split(":", 2)]
        for controller in controllers.split(",")
    }
    for line in mounts.splitlines():
        # id parent device root mount-point options ... - type source options (proc(5))
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        name = "" if kind == "cgroup2" else "cpu"
        if kind not in {"cgroup", "cgroup2"} or name not in paths:
            continue
        if kind == "cgroup" and "cpu" not in options.split(","):
            continue
        top, point = before.split()[3:5]
        yield from ((kind, each) for each in _up(root, point, top, paths[name]))


def _up(root: Path, point: str, top: str, path: str) -> Iterator[Path]:
    """Yield the directory of group *path*, mounted as *top*, and those above it."""
    # Without a namespace of its own, a container sees the path of the whole machine,
    # and mounted there is its own group alone.
    try:
        inside = PurePosixPath(path).relative_to(top)
    except ValueError:
        inside = PurePosixPath()
    mounted = root / point.lstrip("/")
    for part in (inside, *inside.parents):
        yield mounted / part
