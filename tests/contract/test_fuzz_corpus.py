"""What fuzzing has found so far (fuzz/corpus) still breaks no invariant."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
TARGETS = runpy.run_path(str(FUZZ / "targets.py"))["TARGETS"]


@pytest.mark.parametrize("target", TARGETS)
def test_found_bytes_break_nothing(target):
    """Every file of the corpus, in one go: they are many and each is quick."""
    files = sorted((FUZZ / "corpus" / target).iterdir())
    assert files
    for file in files:
        TARGETS[target](file.read_bytes())
