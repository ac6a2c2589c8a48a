"""The documentation is built as a site, from this directory alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
# What a browser fetches of its own accord; a link is followed by a person.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]+src="?(https?:|//)[^">]*"""
    r"""|<link[^>]+rel="?(?:stylesheet|icon|preconnect)"?[^>]+href="?(https?:|//)[^">]*"""
)
SECTIONS = "Tutorial|How-to guides|Reference|Explanation|Glossary|Decisions"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site; mkdocs says so of every link and page that is wrong."""
    directory = tmp_path_factory.mktemp("site")
    answer = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return directory


@pytest.mark.slow
def test_every_page_is_there(site):
    """No page is left out, and nothing that is not for readers is in."""
    missing = [page for page in PAGES if not (site / built(page)).is_file()]
    assert not missing
    assert not list(site.rglob("*.py"))


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    """A reader without a network, or with one that is watched, misses nothing."""
    fetched = {
        found[0]
        for page in site.rglob("*.html")
        for found in FETCHED.finditer(page.read_text(encoding="utf-8"))
    }
    assert not fetched
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [s for s in styles if re.search(r"url\([\"']?(https?:|//)", s)]


@pytest.mark.slow
def test_navigation_leads_everywhere(site):
    """The sections are those that a reader expects, and every page is in one."""
    home = (site / "index.html").read_text(encoding="utf-8")
    tabs = re.search(r'(?s)<nav[^>]+class="md-tabs".*?</nav>', home)[0]
    assert "|".join(re.findall(r"\n\s+([A-Z][\w -]+)\n", tabs)) == f"Home|{SECTIONS}"
    linked = set(re.findall(r'href="([^"#]+)"', home)) | {"index.html"}
    assert {built(page).as_posix() for page in PAGES} <= linked


def built(page):
    """Say which file of the site *page* becomes."""
    name = "index.html" if page.stem == "README" else f"{page.stem}.html"
    return page.with_name(name)
