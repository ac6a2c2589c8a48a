"""Cookies on their way in and out of an application."""

import asyncio

import pytest

from maitred import logs
from maitred.routing import affinity
from maitred.worker.cookies import OneLine, SetsItself, in_one_line, wrapped

HOST = (b"host", b"a")


class Application:
    """Answers with Set-Cookie *lines*, and keeps what it was asked."""

    def __init__(self, *lines):
        self.lines = lines

    async def __call__(self, scope, receive, send):
        """Serve one scope."""
        self.headers = scope["headers"]
        headers = [(b"set-cookie", line) for line in self.lines]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def ask(app, *lines):
    """Ask *app* with these Cookie lines."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/",
        "query_string": b"",
        "headers": [HOST, *((b"cookie", line) for line in lines)],
    }
    asyncio.run(app(scope, None, send))
    return sent


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ((), None),
        ((b"a=1",), b"a=1"),
        ((b"a=1", b"b=2", b"c=3"), b"a=1; b=2; c=3"),
        # As httptools leaves it; the master has read the name without.
        ((b'sid=";\t ', b' "'), b'sid=";; "'),
    ],
)
def test_application_gets_one_cookie_line(lines, line):
    """Where the first stood; a request without one stays without."""
    application = Application()
    ask(OneLine(application), *lines)
    assert application.headers == [HOST, *([(b"cookie", line)] if line else [])]


def test_other_headers_stay_where_they_are():
    """Two lines of another name are two."""
    headers = [(b"x", b"1"), (b"Cookie", b"a=1"), (b"x", b"2"), (b"cookie", b"b=2")]
    assert in_one_line(headers) == [
        (b"x", b"1"),
        (b"Cookie", b"a=1; b=2"),
        (b"x", b"2"),
    ]


@pytest.mark.parametrize(
    ("line", "cookie", "warned"),
    [
        (b"sid=1", b"", True),
        (b"sid=2", b"sid=1", True),
        (b'sid="1"; Max-Age=60', b"sid=1", False),  # it prolongs what the client made
        (b"sid=; Max-Age=0", b"sid=1", False),
        (b"other=1", b"", False),
    ],
)
def test_application_that_makes_the_name_is_told_once(
    monkeypatch, line, cookie, warned
):
    """But not where it sends back what the client made."""
    said = []
    monkeypatch.setattr(logs.worker, "warning", lambda text, *_: said.append(text))
    app = SetsItself(Application(line), affinity("cookie:sid"))
    for _ in range(3):
        assert len(ask(app, *([cookie] if cookie else []))) == 1
    assert len(said) == warned


@pytest.mark.parametrize(
    ("spec", "kind"),
    [("header:x", Application), ("cookie:x,learn", OneLine), ("solara", OneLine)],
)
def test_only_what_concerns_cookies_is_wrapped(spec, kind):
    """Other applications are called as they are."""
    assert type(wrapped(Application(), [affinity(spec)])) is kind
