"""
The benchmark still runs, and tells the truth about who could not take part.

What it measures here means nothing: a moment of one load.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "run.py"
DEADLINE = 120

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Run the benchmark where nginx does not start; give its directory of results."""
    directory = tmp_path_factory.mktemp("bench")
    broken = directory / "nginx"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    broken.chmod(0o755)
    subprocess.run(
        [sys.executable, str(BENCH), "--seconds", "0.3", "--rounds", "1",
         "--patience", "0", "--loads", "keepalive",
         "--contenders", "maitred,uvicorn,nginx", "--output", str(directory)],
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"},
        check=True,
        timeout=DEADLINE,
    )  # fmt: skip
    return directory


needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@needs_compiler
def test_each_contender_is_measured(output):
    """Those that serve have answered requests, without errors."""
    results = json.loads((output / "results.json").read_text())
    runs = {each["contender"]: each for each in results["runs"]}
    for name in ("maitred", "uvicorn"):
        assert runs[name]["requests"] > 0
        assert runs[name]["errors"] == runs[name]["timeouts"] == 0


@needs_compiler
def test_a_contender_that_fails_is_shown(output):
    """One that cannot serve stands in the table with what it said."""
    row = next(
        line
        for line in (output / "report.md").read_text().splitlines()
        if line.startswith("| nginx")
    )
    assert "failed: " in row
    assert "out of order" in row


@needs_compiler
def test_targets_are_judged(output):
    """A target is met or not if both sides were measured, and says so if not."""
    report = (output / "report.md").read_text()
    targets = [line for line in report.splitlines() if "| at least " in line]
    assert sum(line.endswith(("| yes |", "| no |")) for line in targets) == 1
    assert sum("not measured" in line for line in targets) == len(targets) - 1
