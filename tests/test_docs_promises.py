"""Every promise of the documentation, and every defence, names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXPLANATION = TESTS.parent / "docs" / "explanation"
PAGES = {"P": "promises.md", "S": "security.md"}
ROW = re.compile(r"(?m)^\| ([PS]\d+) \| (.+?) \| (.+?) \|$")
ROWS = [
    row
    for page in PAGES.values()
    for row in ROW.findall((EXPLANATION / page).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("letter", PAGES)
def test_promises_are_numbered(letter):
    """None is left out, and none is there twice."""
    names = [name for name, _, _ in ROWS if name.startswith(letter)]
    assert names == [f"{letter}{n + 1}" for n in range(len(names))]
    assert len(names) > 15


@pytest.mark.parametrize(("name", "promise", "tests"), ROWS, ids=[r[0] for r in ROWS])
def test_promise_is_kept_by_a_test(name, promise, tests):
    """The file is there, and the function is in it."""
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)
    assert named, f"{name} has no test: {promise}"
    for path, function in named:
        tree = ast.parse((TESTS / path).read_text())
        functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        assert not function or function in functions, f"{path}::{function}"
