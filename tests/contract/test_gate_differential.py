"""
What passes the gate, both parsers of the workers read in one way.

Streams of several requests are made of parts that parsers are known to differ about,
then sent in pieces. The gate takes them apart; so do h11 and httptools, which never see
more requests than the gate did, nor other ones.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gate_kit import PARSERS, Gated

FUZZED = runpy.run_path(str(Path(__file__).parents[2] / "fuzz" / "targets.py"))
AGREE, SEAM = FUZZED["agree"], FUZZED["seam"]

METHODS = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"PUT", b"get", b"X!", b"PRI"])
TARGETS = st.sampled_from(
    [
        *(b"/", b"/a?b=c", b"//x", b"/a#b", b"*", b"http://a/", b"http://b/x", b"a"),
        *(b"/\xe9", b"/%00", b"https://a:80/", b"/a b", b"http://a", b"/;x", b""),
    ]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0"])
LINES = st.sampled_from(
    [
        *(b"Host: [fe80::1%25eth0]", b"Host: [::1%a]:80", b"Host: [::1%]"),
        *(b"Host: a", b"Host: b", b"Host:", b"Host: a, b", b"host:\ta ", b"Host : a"),
        *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5"),
        *(b"Content-Length: 5, 5", b"Content-Length: 05", b"content-length:\t5"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked "),
        *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
        *(b"Transfer_Encoding: chunked", b"Transfer-Encoding:\x0bchunked"),
        *(b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue"),
        *(b"Connection: Upgrade", b"connection: x, upgrade"),
        b"Proxy-Connection: upgrade",
        *(b"Upgrade: websocket", b"upgrade:h2c", b"Upgrade: websocket \t", b"Upgrade:"),
        *(b"Upgrade: h2c, websocket", b"HTTP2-Settings: AAMAAABk"),
        *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"),
        *(
            b"X: \x7f",
            b"X: \0",
            b"X:\xff",
            b" folded",
            b"\tfolded",
            b": empty",
            b"bare",
        ),
        *(b"X: a\rb", b"X: a\nb", b"X-Session: 1", b"x-session:2", b"X!#: y"),
    ]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"])
BODIES = st.sampled_from(
    [
        *(b"", b"", b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        *(b"5;x=y\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n00\r\n\r\n"),
        *(b"5 \r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n"),
        *(b"5;\n\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"-1\r\n\r\n"),
        *(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n\n"),
        *(b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nx\r\n"),
    ]
)


@st.composite
def one_request(draw):
    """Make something like a request; about half of them are good ones."""
    good = draw(st.booleans())
    lines = [b"Host: a"] if good else []
    if draw(st.integers(0, 3)) == 0:
        lines += [b"Connection: Upgrade", b"Upgrade: h2c"]
    lines += draw(st.lists(LINES, max_size=1 if good else 3))
    first = b" ".join(
        [b"GET", b"/", b"HTTP/1.1"]
        if good
        else [draw(METHODS), draw(TARGETS), draw(VERSIONS)]
    )
    end = b"\r\n" if good else draw(ENDS)
    before = draw(st.sampled_from([b""] * 5 + [b"\r\n", b"\r\n\r\n", b"\n"]))
    head = b"".join(line + end for line in [first, *lines]) + b"\r\n"
    return before + head + draw(BODIES)


@settings(max_examples=600, deadline=None)
@given(
    st.lists(one_request(), min_size=1, max_size=4).map(b"".join),
    st.lists(st.integers(0, 400), max_size=4),
)
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [3, 30])
def test_what_passes_is_read_in_one_way(data, cuts):
    """However it is cut, the same requests pass, and all who read them agree."""
    whole, pieces = Gated(), Gated()
    whole.send(data)
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        pieces.send(data[start:cut])
        start = max(start, cut)
    assert pieces.requests == whole.requests
    assert pieces.refusal == whole.refusal
    AGREE(b"".join(whole.requests), len(whole.requests))
    for request in whole.requests:
        AGREE(request, 1)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(one_request(), min_size=1, max_size=3).map(b"".join), st.integers(0, 255)
)
def test_what_passes_is_what_the_application_is_asked(data, cut):
    """With uvicorn's protocols behind the gate, each request is asked as it passed."""
    SEAM(bytes([cut]) + data)


def test_both_parsers_read_ordinary_streams():
    """So that agreement is not the agreement of two that refuse everything."""
    data = (
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
        b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1;x\r\nc\r\n0\r\nX: y\r\n\r\n"
        b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    gated = Gated()
    gated.send(data)
    for read in PARSERS.values():
        found = read(b"".join(gated.requests))
        assert [(each.target, each.body) for each in found] == [
            *(("/a", b"ab"), ("/b", b"c"), ("/c", b"")),
        ]
