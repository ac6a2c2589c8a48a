"""The demonstration shows what it claims."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from driver import DEADLINE, RUN, processes_of, wait_until

ROOT = Path(__file__).parents[1]


@pytest.mark.integration
@pytest.mark.slow
def test_demo_holds_what_it_claims_and_leaves_nothing(tmp_path: Path):
    """It exits with 0, from any directory, and no process of it is left."""
    run = f"demo-{os.getpid()}"
    answer = subprocess.run(
        [sys.executable, ROOT / "demo" / "demo.py"],
        cwd=tmp_path,
        env={**os.environ, RUN: run},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "maitred --workers 4    960 of 960" in answer.stdout
    assert "\033[" not in answer.stdout
    wait_until("no process is left", lambda: not processes_of(run))
