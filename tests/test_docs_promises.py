"""Every promise of the documentation names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "explanation" / "promises.md"
ROWS = re.findall(r"(?m)^\| (P\d+) \| (.+?) \| (.+?) \|$", PAGE.read_text())


def test_promises_are_numbered():
    """None is left out, and none is there twice."""
    assert [name for name, _, _ in ROWS] == [f"P{n + 1}" for n in range(len(ROWS))]
    assert len(ROWS) > 15


@pytest.mark.parametrize(("name", "promise", "tests"), ROWS, ids=[r[0] for r in ROWS])
def test_promise_is_kept_by_a_test(name, promise, tests):
    """The file is there, and the function is in it."""
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)
    assert named, f"{name} has no test: {promise}"
    for path, function in named:
        tree = ast.parse((TESTS / path).read_text())
        functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        assert not function or function in functions, f"{path}::{function}"
