"""Sessions whose cookie changes with each answer, and a key table that is full."""

from __future__ import annotations

import httpx
import pytest

from driver import Maitred, wait_until
from raw_http import ask

LEARN = ("--affinity", "cookie:session,learn", "--no-access-log")
KINDS = {
    "starlette": ("signed:app", *LEARN),
    "flask": ("signed:wsgi", "--kind", "wsgi", *LEARN),
}
USERS = 10
VISITS = 6


def visit(server: Maitred, jar: httpx.Cookies) -> int:
    """Visit on a connection of its own; give which visit of this user it is."""
    with httpx.Client(cookies=jar, timeout=30, trust_env=False) as client:
        count: int = client.get(server.url).json()["count"]
        jar.update(client.cookies)
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_session_whose_cookie_changes_takes_one_key(serve, kind):
    """All visits of a user are counted, and the key table has one key for each."""
    server = serve(*KINDS[kind], workers=4)
    jars = [httpx.Cookies() for _ in range(USERS)]
    for number in range(VISITS):
        assert [visit(server, jar) for jar in jars] == [number + 1] * USERS
    wait_until("one key for each", lambda: server.status()["keys"] == USERS)
    assert [visit(server, jar) for jar in jars] == [VISITS + 1] * USERS


def test_second_tab_may_still_send_the_old_cookie(serve):
    """Its request was on its way when the first one was answered."""
    server = serve(*KINDS["starlette"], workers=4)
    for _ in range(6):
        jar = httpx.Cookies()
        assert visit(server, jar) == 1
        first, second = (httpx.Cookies(jar) for _ in range(2))
        assert visit(server, first) == 2
        assert visit(server, second) == 3
        # Whichever answer came last is what the browser has.
        assert visit(server, first) == 4
        assert visit(server, second) == 5


def test_sessions_that_are_forgotten_are_counted_and_warned_of(serve):
    """The log says so once, with what to do about it."""
    server = serve(
        *("probe:app", "--affinity", "header:x-session", "--max-keys", "5"),
        *("--no-access-log", "--admin", "127.0.0.1:0"),
    )
    server.expect_log("the key table is full")
    for number in range(12):
        assert ask(server.port, "/", f"x-session: {number}").status == 200
    wait_until("they are counted", lambda: server.status()["evicted_keys"] == 7)
    assert server.log.count("the key table is full") == 1
    assert "raise --max-keys" in server.log
    url = f"{server.status()['admin'][0]}/metrics"

    def counted() -> bool:
        text = httpx.get(url, trust_env=False, timeout=30).text
        return "maitred_keys_evicted_total 7" in text

    wait_until("the metric says so", counted)
