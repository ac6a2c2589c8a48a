"""What a process costs, as the kernel tells it."""

import os
import resource
import subprocess
import time

from maitred.master.usage import usage


def test_usage_of_this_process():
    """Against what Python knows of it."""
    costs = usage(os.getpid())
    assert costs is not None
    of_us = resource.getrusage(resource.RUSAGE_SELF)
    assert 2**20 < costs.memory <= of_us.ru_maxrss * 1024
    assert 0 <= costs.cpu <= of_us.ru_utime + of_us.ru_stime + 0.1
    assert costs.uptime > 0


def test_name_with_blanks_and_parentheses_is_no_trap(tmp_path):
    """The name of a program stands in the middle of the line."""
    program = tmp_path / "a ) 1 2 (b"
    os.symlink("/bin/sleep", program)
    before = time.monotonic()
    with subprocess.Popen([program, "1000"]) as process:
        costs = usage(process.pid)
        assert costs is not None
        assert costs.uptime <= time.monotonic() - before + 1
        process.kill()


def test_process_that_is_gone_costs_nothing():
    """There is nothing to be read."""
    with subprocess.Popen(["/bin/true"]) as process:
        pass
    assert usage(process.pid) is None
