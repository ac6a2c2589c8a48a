"""Taking descriptors away from a process that runs, and watching what it does."""

import contextlib
import os
import resource
import time

from driver import cpu_seconds

WATCHED = 2.0


def first_free(pid):
    """Say the lowest number that is no descriptor of process *pid*."""
    numbers = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(numbers) + 1)) - numbers)


@contextlib.contextmanager
def at_its_limit(pid, spare=0):
    """Leave process *pid* no descriptor more than it has, or *spare* of them."""
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
    """Say how much of WATCHED seconds process *pid* computes; one that spins, all."""
    before, at = cpu_seconds(pid), time.monotonic()
    time.sleep(WATCHED)
    return (cpu_seconds(pid) - before) / (time.monotonic() - at)
