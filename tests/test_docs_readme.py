"""The README says the same in both of its languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")
)
CODE = re.compile(r"(?ms)^```.*?^```$|(?:^ {4}\S[^\n]*\n)+")


def prose(text):
    """Give *text* without its code."""
    return CODE.sub("", text)


def test_each_leads_to_the_other():
    """Whoever reads one finds the other at its top."""
    assert "](README.zh.md)" in ENGLISH[:100]
    assert "](README.md)" in CHINESE[:100]


def test_code_is_the_same():
    """What is run for one is true of the other."""
    assert CODE.findall(CHINESE) == CODE.findall(ENGLISH)
    assert len(CODE.findall(ENGLISH)) > 10


@pytest.mark.parametrize(
    "kind",
    [r"(?m)^#+ ", r"(?m)^(?:\*|\d\.) ", r"(?m)^\|"],
    ids=["headings", "items", "rows"],
)
def test_shape_is_the_same(kind):
    """As many headings of each level, items and rows of tables, in the same order."""
    assert re.findall(kind, prose(CHINESE)) == re.findall(kind, prose(ENGLISH))


@pytest.mark.parametrize("kind", [r"`([^`\n]+)`", r"\]\((docs/[^)]+)\)"])
def test_names_are_the_same(kind):
    """Options, commands, files and links have no translation."""
    assert sorted(set(re.findall(kind, prose(CHINESE)))) == sorted(
        set(re.findall(kind, prose(ENGLISH)))
    )
