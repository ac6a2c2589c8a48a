"""
The master's limit and the micro benchmarks still run, and judge their targets.

What they measure here means nothing: a moment of one load.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 120

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk")
pytestmark = [pytest.mark.integration, pytest.mark.slow, needs_compiler]


def run(name, *options):
    """Run one of the benchmarks; give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--rounds", "1", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    return done.stdout


@needs_wrk
def test_master_is_compared_with_the_reference():
    """The table has both, and the target is judged."""
    said = run("limit", "--seconds", "1", "--ours", "maitred, worker in C")
    assert "\n| C, as with a worker in C | " in said
    assert "\n| maitred, worker in C | " in said
    assert said.rstrip().endswith((": met", ": missed"))


@needs_wrk
def test_growth_is_drawn_as_a_table(tmp_path):
    """Every size has a line, the first with nothing to be compared with."""
    said = run(
        "growth", "--seconds", "1", "--output", str(tmp_path),
        "--series", "workers, idle but one",
    )  # fmt: skip
    assert "| 2 | " in said
    assert "1.00 (1.00 to 1.00) |\n| 16 | " in said
    assert "\n| 64 | " in said


def test_parts_are_measured():
    """Every way to pass a descriptor and every head has its line."""
    said = run("micro", "--part", "passing", "--part", "sniffing")
    for way in ("C", "Channel", "socket.send_fds"):
        assert f"\n| {way}, 64 at once | " in said
    assert "\n| multiprocessing.reduction, one at a time | " in said
    assert said.count("bytes), each another | ") == 2
