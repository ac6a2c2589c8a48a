"""The reference says what the code does, and no link of the documentation is dead."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import maitred
from driver import Maitred
from maitred.wire.messages import VERSION

ROOT = Path(__file__).parents[1]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def test_generated_parts_are_fresh():
    """What is made from the code was made from this code."""
    stale = [path.name for path, text, wanted in GENERATE["pages"]() if text != wanted]
    assert not stale, "run script/docs"


def test_every_part_is_shown():
    """A part that no page asks for has been forgotten."""
    found = [m for page in PAGES for m in GENERATE["MARKED"].finditer(page.read_text())]
    asked = {m["name"] for m in found}
    assert set(GENERATE["PARTS"]) <= asked


def test_whole_interface_is_described():
    """Every public name of the package stands on the page of the interface."""
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert not [n for n in maitred.__all__ if not re.search(rf"`{n}\b", text)]


def test_the_version_of_the_channel_is_told():
    """Where the page begins, and in the picture of a packet."""
    text = (ROOT / "docs" / "reference" / "channel.md").read_text(encoding="utf-8")
    assert f"describes version {VERSION} of the protocol." in text
    assert f"* `version` is {VERSION}. " in text


@pytest.mark.integration
def test_status_fields_are_those_of_a_master(tmp_path: Path):
    """A running master answers status with exactly the fields of the reference."""
    server = Maitred("probe:app", tmp_path=tmp_path, workers=1).ready()
    try:
        answer = server.status()
    finally:
        server.stop()
        server.check()
    assert set(answer) == set(GENERATE["STATUS"])
    assert set(answer["connections"]) == set(GENERATE["CONNECTIONS"])
    assert set(answer["slots"][0]) == set(GENERATE["SLOT"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    """Every relative link leads to a file, and every fragment to a heading there."""
    for target, fragment in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve()
        assert there.exists(), target
        assert not fragment or fragment.removeprefix("#") in anchors(there), fragment


def anchors(page: Path) -> set[str]:
    """Say how the headings of *page* are linked to."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
