"""Where a body ends: however it arrives, and as the parsers say."""

from __future__ import annotations

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maitred.routing.body import (
    LONGEST_LINE,
    MOST_TRAILER_LINES,
    Chunked,
    Sized,
    body_of,
)
from maitred.routing.http1 import sniff_head

NEXT = b"GET / HTTP/1.1\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"
CHUNKED = HEAD % b"Transfer-Encoding: chunked"

GOOD = {
    "empty": b"0\r\n\r\n",
    "one chunk": b"4\r\nabcd\r\n0\r\n\r\n",
    "chunks": b"1\r\na\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
    "content like syntax": b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "upper case": b"A\r\n0123456789\r\n0\r\n\r\n",
    "lower case": b"a\r\n0123456789\r\n0\r\n\r\n",
    "leading zeros": b"00004\r\nabcd\r\n000\r\n\r\n",
    "extension": b"4;a=b;c\r\nabcd\r\n0;last\r\n\r\n",
    "extension without content": b"4;x\r\nabcd\r\n0\r\n\r\n",
    "trailers": b"4\r\nabcd\r\n0\r\nA: 1\r\nB: \r\n\r\n",
}

BAD = {
    "no size": b"\r\n",
    "not hexadecimal": b"g\r\n",
    "negative": b"-1\r\n",
    "plus": b"+4\r\nabcd\r\n0\r\n\r\n",
    "0x": b"0x4\r\nabcd\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "space before": b" 4\r\nabcd\r\n0\r\n\r\n",
    "space after": b"4 \r\nabcd\r\n0\r\n\r\n",
    "too large": b"1" * 16 + b"\r\n",
    "bare LF after the size": b"4\nabcd\r\n0\r\n\r\n",
    "bare CR in the size": b"4\r4\r\nabcd\r\n0\r\n\r\n",
    "bare CR in an extension": b"4;a\rb\r\nabcd\r\n0\r\n\r\n",
    "NUL in an extension": b"4;a\0b\r\nabcd\r\n0\r\n\r\n",
    "chunk too long": b"4\r\nabcde\r\n0\r\n\r\n",
    "chunk too short": b"4\r\nabc\r\n0\r\n\r\n",
    "bare LF after the chunk": b"4\r\nabcd\n0\r\n\r\n",
    "bare LF after the last chunk": b"0\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "trailer without a colon": b"0\r\nno trailer\r\n\r\n",
    "trailer without a name": b"0\r\n: x\r\n\r\n",
    "folded trailer": b"0\r\nA: 1\r\n 2\r\n\r\n",
    "space before the colon": b"0\r\nA : 1\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \0\r\n\r\n",
    "bare LF after a trailer": b"0\r\nA: 1\n\r\n",
}


def feed(body, data, *cuts):
    """Let *body* take *data*, cut at *cuts*; give how many bytes were its own."""
    taken = 0
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if not body.done and not body.bad:
            count = body.take(data[begin:end])
            taken += count
            assert count <= end - begin
            assert count == end - begin or body.done or body.bad
    return taken


def all_cuts(data):
    """Give every place to cut *data* at."""
    return range(len(data) + 1)


@pytest.mark.parametrize("length", [0, 1, 7])
def test_sized_body_ends_after_its_bytes(length):
    """Wherever it is cut, and whatever follows."""
    data = b"x" * length + NEXT
    for cut in all_cuts(data):
        body = Sized(length)
        assert body.done == (length == 0)
        assert feed(body, data, cut) == length
        assert body.done
        assert not body.bad


def test_sized_body_is_not_done_too_early():
    """All of its bytes are its own."""
    body = Sized(5)
    assert body.take(b"1234") == 4
    assert not body.done
    assert body.take(b"") == 0
    assert body.take(b"5") == 1
    assert body.done


@pytest.mark.parametrize("name", GOOD)
def test_chunked_body_ends_at_its_end(name):
    """Wherever it is cut in two, in three, or into bytes."""
    data = GOOD[name] + NEXT
    for one in all_cuts(data):
        for two in range(one, len(data) + 1):
            body = Chunked()
            assert feed(body, data, one, two) == len(GOOD[name])
            assert (body.done, body.bad) == (True, False)
    body = Chunked()
    assert feed(body, data, *range(1, len(data))) == len(GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_chunked_body_is_not_done_before_its_end(name):
    """Each byte but the last leaves it open."""
    for end in range(len(GOOD[name])):
        body = Chunked()
        assert feed(body, GOOD[name][:end]) == end
        assert (body.done, body.bad) == (False, False)


@pytest.mark.parametrize("name", BAD)
def test_malformed_chunks_are_bad(name):
    """Wherever they are cut; nothing after a mistake is a body's end."""
    for cut in all_cuts(BAD[name]):
        body = Chunked()
        feed(body, BAD[name], cut)
        assert (body.done, body.bad) == (False, True)


@pytest.mark.parametrize("start", [b"4;", b"0\r\nA: "], ids=["size", "trailer"])
def test_lines_are_bounded(start):
    """A line that never ends is not kept."""
    body = Chunked()
    feed(body, start)
    for _ in range(LONGEST_LINE):
        feed(body, b"x")
    assert body.bad


def test_trailers_are_bounded():
    """So many, and no more."""
    for number, bad in ((MOST_TRAILER_LINES, False), (MOST_TRAILER_LINES + 1, True)):
        body = Chunked()
        feed(body, b"0\r\n" + b"A: 1\r\n" * number + b"\r\n")
        assert (body.bad, body.done) == (bad, not bad)


def test_body_is_the_one_its_head_announces():
    """A length, chunks, or nothing."""
    assert isinstance(body_of(sniff_head(CHUNKED)), Chunked)
    sized = body_of(sniff_head(HEAD % b"Content-Length: 5"))
    assert isinstance(sized, Sized)
    assert sized.left == 5
    assert body_of(sniff_head(HEAD % b"A: b")).done


# As the parsers see it.


def h11_end(data):
    """Say where h11 ends the body *data*; None: nowhere, or it refuses."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(CHUNKED + data)
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
    except h11.RemoteProtocolError:
        return None
    return len(data) - len(server.trailing_data[0])


class Listener:
    """Stops httptools at the end of the first request."""

    def __init__(self):
        self.complete = False

    def on_message_complete(self):
        """Note the end."""
        self.complete = True


def httptools_end(data):
    """Say where httptools ends the body *data*; None: nowhere, or it refuses."""
    listener = Listener()
    parser = httptools.HttpRequestParser(listener)
    try:
        parser.feed_data(CHUNKED)
        for at in range(len(data)):
            parser.feed_data(data[at : at + 1])
            if listener.complete:
                return at + 1
    except httptools.HttpParserError:
        return None
    return None


def our_end(data):
    """Say where we end the body *data*; None: nowhere, or it is bad."""
    body = Chunked()
    taken = feed(body, data)
    return taken if body.done else None


SYNTAX = st.sampled_from(
    [b"0", b"1", b"4", b"a", b"F", b"\r\n", b"\r", b"\n", b";", b"x=1", b" ", b":",
     b"abcd", b"A: b", b"A", b"-", b"\t", b'"', b"0\r\n\r\n", b"1\r\nx\r\n"]
)  # fmt: skip


@given(st.lists(SYNTAX, max_size=12).map(b"".join))
@example(b"0\r\n\r\n")
@example(b"4;x\r\nabcd\r\n0\r\nA: b\r\n\r\n")
def test_parsers_find_the_end_that_we_find(data):
    """A body that ends for us ends there for both, if they take it at all."""
    end = our_end(data)
    if end is not None:
        assert h11_end(data) in {end, None}
        assert httptools_end(data) in {end, None}


@pytest.mark.parametrize("name", GOOD)
def test_parsers_take_what_we_take(name):
    """No body that is let through surprises the server behind."""
    data = GOOD[name]
    assert h11_end(data + NEXT) == httptools_end(data) == our_end(data) == len(data)
