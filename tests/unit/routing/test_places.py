"""Places where frameworks put the name of a session."""

import pytest

from heads import request
from maitred.routing.http1 import sniff_head
from maitred.routing.places import (
    first_of,
    in_messages,
    in_path,
    nowhere,
    session_of_token,
    subprotocol,
    through,
    unmasked,
)


def get(target=b"/", *headers):
    """Make the head of a request."""
    return sniff_head(request(b"GET %b HTTP/1.1" % target, *headers))


class Said:
    """What an application said."""

    def __init__(self, status, body):
        self.status = status
        self.body = body

    def values(self, name):
        """Give no headers."""
        return []


def test_first_that_finds_decides():
    """The order counts, and nothing found is None."""
    find = first_of(in_path(rb"/a/(\w+)"), in_path(rb"/b/(\w+)"))
    assert find(get(b"/b/1/a/2")) == b"2"
    assert find(get(b"/b/1")) == b"1"
    assert find(get(b"/c/1")) is None


def test_path_is_decoded_once():
    """A percent sign that was encoded stays one."""
    assert in_path(rb"/a/([^/]+)")(get(b"/a/x%2541")) == b"x%41"


@pytest.mark.parametrize(
    ("line", "number", "found"),
    [
        (b"a, b ,c", 1, b"a"),
        (b"a, b ,c", 2, b"b"),
        (b"a,,c", 2, b""),
        (b"a,,c", 3, b"c"),
        (b"a", 2, None),
    ],
)
def test_subprotocol_keeps_its_position(line, number, found):
    """An empty entry is one too."""
    head = get(b"/", b"Sec-WebSocket-Protocol: " + line)
    assert subprotocol(number)(head) == found


def test_subprotocols_in_two_lines_are_one_list():
    """As servers read them (RFC 9110 section 5.3)."""
    lines = (b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Protocol: c")
    assert subprotocol(3)(get(b"/", *lines)) == b"c"
    assert not subprotocol(1)(get())


def test_what_is_found_is_read():
    """Nothing found is not read."""
    find = through(in_path(rb"/a/(\w+)"), bytes.upper)
    assert find(get(b"/a/x")) == b"X"
    assert find(get()) is None


@pytest.mark.parametrize(
    "value",
    [
        b"2|a5511b89|ace0669812cc41e5d7638c00631eb0f0|1795385520",
        b"2|f64b071b|fffa7a0a41d65d77847990923004ac62|1795385520",
        b'"2|f64b071b|fffa7a0a41d65d77847990923004ac62|1"',
    ],
)
def test_token_stays_when_the_mask_changes(value):
    """Two cookies of one browser, recorded; the third as some servers quote it."""
    assert unmasked(value) == b"09b17d11b79d5a6c72329789c64fab79"


@pytest.mark.parametrize(
    "value",
    [b"", b"2", b"2|ab|cd", b"1|ab|cd|1", b"2|ab|cd|1|x", b"2|a|cd|1", b"2|ab|zz|1"],
)
def test_no_token_is_no_name(value):
    """What cannot be read is not guessed at."""
    assert not unmasked(value)


def test_token_without_mask_is_no_name():
    """An empty mask masks nothing, and names nothing."""
    assert not unmasked(b"2||abcd|1")


@pytest.mark.parametrize(
    ("token", "session"),
    [
        (b"eyJzZXNzaW9uX2lkIjogInMxIn0", b"s1"),
        (b"eyJzZXNzaW9uX2lkIjogInMxIn0=", b"s1"),
        (b"eyJzZXNzaW9uX2lkIjogInMxIn0.c2ln", b"s1"),
        (b"e", None),
        (b"", None),
        (b".", None),
        (b"\xff", None),
        (b"bm8", None),
    ],
)
def test_session_of_a_token(token, session):
    """The signature is the framework's to check; what cannot be read names nothing."""
    assert session_of_token(token) == session


def test_message_teaches_only_over_a_websocket():
    """An ordinary body that looks alike says nothing."""
    learn = in_messages(rb"id=(\w+);")
    assert learn(Said(101, b"\nid=s1;")) == b"s1"
    assert learn(Said(101, b"id=s1")) is None
    assert learn(Said(200, b"id=s1;")) is None
    assert nowhere(Said(101, b"id=s1;")) is None
