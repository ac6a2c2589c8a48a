"""Taking descriptors away from a process that runs, and watching what it does."""

import contextlib
import os
import resource
import time

from driver import cpu_seconds

WATCHED = 2.0


def first_free(pid):
    """Return the lowest number that is no descriptor of process *pid*."""
    numbers = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(numbers) + 1)) - numbers)


@contextlib.contextmanager
def at_its_limit(pid, spare=0):
    """Limit process *pid* to its descriptors, and *spare* more, for the block."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Whoever was answered a moment ago may not be closed yet.
    readings = [first_free(pid)]
    while len(readings) < 10 or len(set(readings[-10:])) > 1:
        time.sleep(0.01)
        readings.append(first_free(pid))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (readings[-1] + spare, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def share_of_cpu(pid):
    """Return the part of WATCHED seconds that *pid* computes; one that spins: 1."""
    before, at = cpu_seconds(pid), time.monotonic()
    time.sleep(WATCHED)
    return (cpu_seconds(pid) - before) / (time.monotonic() - at)
