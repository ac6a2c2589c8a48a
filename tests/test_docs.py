"""The documentation says what the code does."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = runpy.run_path(str(ROOT / "script" / "reference.py"))


@pytest.mark.parametrize("document", REFERENCE["PARTS"])
def test_generated_parts_are_fresh(document):
    """What is derived from the code was derived from this code."""
    assert (ROOT / document).read_text() == REFERENCE["rewritten"](document), (
        "run script/reference.py"
    )
