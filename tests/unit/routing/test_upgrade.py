"""An upgrade ends all checking of a connection, so it must be one beyond doubt."""

import pytest

from maitred.routing import NoMatch
from maitred.routing.http1 import RawHead, sniff_head


def sniff(first=b"GET / HTTP/1.1", *lines):
    """Sniff a head with these lines."""
    return sniff_head(b"\r\n".join([first, b"Host: a", *lines, b"", b""]))


GET = b"GET / HTTP/1.1"
WS, UP = b"Upgrade: websocket", b"Connection: upgrade"


@pytest.mark.parametrize(
    "lines",
    [
        [WS, UP],
        [b"upgrade:  WebSocket ", b"connection: keep-alive,\tUpgrade"],
        [WS],
        [UP],
        [WS, b"Connection: keep-alive"],
        [b"Upgrade: h2c", UP],
        [WS, b"Content-Length: 0", UP],
    ],
)
def test_upgrade_or_none_is_let_pass(lines):
    """One Upgrade that says websocket and one Connection that names it, or neither."""
    assert isinstance(sniff(GET, *lines), RawHead)


@pytest.mark.parametrize(
    ("first", "lines"),
    [
        (GET, [WS, b"Upgrade: h2c", UP]),
        (GET, [b"Upgrade: h2c", WS, UP]),
        (GET, [WS, WS, UP]),
        (GET, [b"Upgrade: websocket, h2c", UP]),
        (GET, [WS, UP, b"Connection: close"]),
        (GET, [WS, b"Connection: close", UP]),
        (GET, [WS, UP, b"Content-Length: 1"]),
        (GET, [WS, UP, b"Transfer-Encoding: chunked"]),
        (b"POST / HTTP/1.1", [WS, UP]),
        (b"GET / HTTP/1.0", [WS, UP]),
    ],
)
def test_doubtful_upgrade_is_refused(first, lines):
    """What the server could take for an ordinary request would go on unchecked."""
    assert sniff(first, *lines) == NoMatch(400, "bad_request")
