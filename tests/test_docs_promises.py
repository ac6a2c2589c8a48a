"""Every promise of the documentation, and every defence, names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXPLANATION = TESTS.parent / "docs" / "explanation"
PAGES = {"P": "promises.md", "S": "security.md"}
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
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
    named = NAMED.findall(tests)
    assert named, f"{name} has no test: {promise}"
    for path, function in named:
        assert not function or function in functions(TESTS / path), path


def test_each_end_of_a_connection_is_shown_by_a_test():
    """Every row of that page names one, and all of them are there."""
    page = TESTS.parent / "docs" / "reference" / "how-connections-end.md"
    text, _, _ = page.read_text(encoding="utf-8").partition("## Who sends")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    headings = [row for row in rows if row.endswith("| tests |")]
    assert all(NAMED.search(row) for row in rows if row not in headings)
    for path, function in NAMED.findall(text):
        where = TESTS / (path if "/" in path else f"integration/{path}")
        assert not function or function in functions(where), path


def functions(path: Path) -> set[str]:
    """Find the functions in the file at *path*."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
