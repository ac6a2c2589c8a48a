"""
The first command that a page shows works for the sessions that most users have.

The affinity is taken from the pages themselves: whoever puts another one first there
finds out here whom it does not serve.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from driver import DEADLINE

ROOT = Path(__file__).parents[2]
USERS = 20
VISITS = 8
PAGES = [
    "README.md",
    "README.zh.md",
    "demo/demo.py",
    "docs/howto/keep.md",
    "docs/tutorial/first-service.md",
]
COMMAND = re.compile(r"maitred (?:serve|keep) [^\n]*--affinity ([^\s\"]+)")
APPLICATIONS = {
    "starlette": ["signed_in:starlette"],
    "own": ["signed_in:own"],
    "flask": ["signed_in:flasky", "--kind", "wsgi"],
    "django": ["signed_in:djangoed", "--kind", "wsgi"],
}


def first_affinity(page: str) -> str:
    """Return the affinity of the first command on *page* that has one."""
    return COMMAND.search((ROOT / page).read_text(encoding="utf-8"))[1]


def visits(url: str) -> list[tuple[int, int]]:
    """Visit as one user, each time on a new connection; return pids and counts."""
    jar = httpx.Cookies()
    answers = []
    for _ in range(VISITS):
        with httpx.Client(cookies=jar, trust_env=False, timeout=DEADLINE) as client:
            said = client.get(url).raise_for_status().json()
            jar = httpx.Cookies(client.cookies)
        answers.append((said["pid"], said["count"]))
    return answers


@pytest.mark.parametrize("page", PAGES)
def test_pages_begin_with_what_the_applications_are_tried_with(page):
    """A page's first command has the affinity that is tried below."""
    assert first_affinity(page) == "sticky"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_user_keeps_the_session(serve, name):
    """20 users, 8 visits each, every one on a new connection, 4 workers."""
    affinity = first_affinity("README.md")
    words = (*APPLICATIONS[name], "--affinity", affinity, "--no-access-log")
    server = serve(*words, workers=4)
    with ThreadPoolExecutor(USERS) as pool:
        found = list(pool.map(visits, [server.url] * USERS))
    for answers in found:
        pid = answers[0][0]
        assert answers == [(pid, count) for count in range(1, VISITS + 1)]
    assert len({answers[0][0] for answers in found}) > 1
