"""What a process costs, as the kernel tells it; read only when somebody asks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Of one process: bytes in memory, seconds of CPU, seconds since its start."""

    memory: int
    cpu: float
    uptime: float


def usage(pid: int) -> Usage | None:
    """Return what process *pid* costs, by proc_pid_stat(5); None: it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # From the third field on: the second is a name, which may have blanks.
    fields = text.rpartition(")")[2].split()
    user, system, started, pages = (int(fields[n - 3]) for n in (14, 15, 22, 24))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Usage(
        memory=pages * PAGE,
        cpu=(user + system) / TICKS,
        uptime=round(max(now - started / TICKS, 0.0), 1),
    )
