"""The sniffer of HTTP/1 heads: what it recognises, and why it refuses the rest."""

import pytest

from heads import BAD, GOOD, REAL, request
from maitred.routing import HEAD_LIMIT, NEED_MORE, NoMatch
from maitred.routing.http1 import TOO_LARGE, RawHead, sniff_head


def head(data, peer=b""):
    """Sniff *data*, which is a head."""
    found = sniff_head(data, peer)
    assert isinstance(found, RawHead), found
    return found


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_good_head_is_recognised_at_its_last_byte(data):
    """A head is a head as soon as it is complete, and no sooner."""
    assert isinstance(sniff_head(data), RawHead)
    assert sniff_head(data[:-1]) == NEED_MORE


@pytest.mark.parametrize(("data", "verdict"), BAD.values(), ids=BAD)
def test_bad_head_is_refused_at_the_byte_that_shows_it(data, verdict):
    """What cannot become a head is refused, each for its cause."""
    assert sniff_head(data) == verdict
    assert sniff_head(data[:-1]) in {NEED_MORE, verdict}


@pytest.mark.parametrize(
    "name", [name for name in BAD if name not in {"tls 1.3 hello", "CR CR LF"}]
)
def test_bad_head_is_waited_for_until_then(name):
    """One byte earlier it could still have become a head, or have ended otherwise."""
    data, _ = BAD[name]
    assert sniff_head(data[:-1]) == NEED_MORE


def test_nothing_decides_nothing():
    """Without a byte there is nothing to say."""
    assert sniff_head(b"") == NEED_MORE


# What is in a head.


def test_parts_are_as_sent():
    """Method, path and query are the client's bytes, untouched."""
    found = head(request(b"GeT /%41/../b;c//?d=%41&e?f HTTP/1.1"), b"192.0.2.7")
    assert found.method == b"GeT"
    assert found.path == b"/%41/../b;c//"
    assert found.query == b"d=%41&e?f"
    assert found.peer == b"192.0.2.7"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/?", b"/", b""),
        (b"/a?b", b"/a", b"b"),
        (b"//a/b", b"//a/b", b""),
        (b"http://a/", b"/", b""),
        (b"http://a/b/c?d", b"/b/c", b"d"),
        (b"HTTPS://A//b?", b"//b", b""),
    ],
)
def test_target_is_split(target, path, query):
    """The origin and the absolute form of one target have the same path and query."""
    found = head(request(b"GET %b HTTP/1.1" % target))
    assert (found.path, found.query) == (path, query)


def test_asterisk_is_a_path():
    """The target of a request to the server as a whole stays what it is."""
    assert head(request(b"OPTIONS * HTTP/1.1")).path == b"*"


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        (b"Example.ORG", b"example.org"),
        (b"example.org:8080", b"example.org"),
        (b"example.org:", b"example.org"),
        (b"example.org.", b"example.org"),
        (b"example.org.:80", b"example.org"),
        (b"[2001:DB8::1]:80", b"[2001:db8::1]"),
        (b"127.0.0.1", b"127.0.0.1"),
        (b"", b""),
        (b"[FE80::1%Eth0]:80", b"[fe80::1%eth0]"),
        (b"[fe80::1%25eth0]", b"[fe80::1%25eth0]"),
    ],
)
def test_host_has_a_normal_form(sent, host):
    """One host has one spelling: lower case, without port and trailing dot."""
    assert head(request(host=sent)).host == host


def test_empty_line_first_is_a_part_of_the_head():
    """One is skipped, however it comes; it counts for the limit."""
    data = b"\r\n" + request()
    found = head(data)
    assert (found.method, found.path, found.host) == (b"GET", b"/", b"a")
    assert found.size == len(data)
    for size in range(len(data)):
        assert sniff_head(data[:size]) == NEED_MORE
    for limit in (1, 2, len(data) - 1):
        assert sniff_head(data, b"", limit) == TOO_LARGE
    assert isinstance(sniff_head(data, b"", len(data)), RawHead)


def test_absent_host_is_empty():
    """HTTP/1.0 may leave out Host."""
    assert head(request(b"GET / HTTP/1.0", host=None)).host == b""


def test_values_are_found_whatever_their_case():
    """All lines of a name are found, in order, without the spaces around the value."""
    found = head(
        request(b"GET / HTTP/1.1", b"X-A: \t1 ", b"x-a:2", b"X-AB: 3", b"X-A: ")
    )
    assert found.values(b"x-a") == [b"1", b"2", b""]
    assert found.values(b"x-ab") == [b"3"]
    assert found.values(b"x") == []


def test_values_are_not_found_inside_values():
    """A name counts at the start of a line alone."""
    found = head(request(b"GET /?x-a:1 HTTP/1.1", b"X-B: x-a: 1", b"Y-X-A: 2"))
    assert found.values(b"x-a") == []


def test_first_line_is_found():
    """The first header line is one like any other."""
    assert head(request(host=b"first")).values(b"host") == [b"first"]


def test_what_follows_the_head_is_not_looked_at():
    """Neither a body nor a second request changes what the first one says."""
    data = request(b"POST / HTTP/1.1", b"Content-Length: 14")
    found = head(data + b"X-Late: 1\r\n\r\n\0\n" + REAL["mcp call"])
    assert found.values(b"x-late") == []
    assert found.values(b"mcp-session-id") == []


# Limits.


def padded(size):
    """Make a head of *size* bytes."""
    shortest = len(request(b"GET / HTTP/1.1", b"X: "))
    return request(b"GET / HTTP/1.1", b"X: " + b"x" * (size - shortest))


def test_head_of_the_limit_is_recognised():
    """The limit is what a head may have."""
    assert isinstance(sniff_head(padded(HEAD_LIMIT)), RawHead)
    assert isinstance(sniff_head(padded(100), limit=100), RawHead)


def test_head_beyond_the_limit_is_refused_at_the_limit():
    """One byte more is too much, and that is known before it arrives."""
    data = padded(HEAD_LIMIT + 1)
    too_large = NoMatch(431, "head_too_large")
    assert sniff_head(data[: HEAD_LIMIT - 1]) == NEED_MORE
    assert sniff_head(data[:HEAD_LIMIT]) == too_large
    assert sniff_head(data) == too_large
    assert sniff_head(data + b"\0" * 2**20) == too_large


def test_endless_line_is_too_large():
    """A request line without end is a head that is too large, too."""
    assert sniff_head(b"GET /" + b"a" * HEAD_LIMIT) == NoMatch(431, "head_too_large")


def test_bad_head_is_bad_at_the_limit_too():
    """The limit is the cause only where nothing else is wrong."""
    assert sniff_head(b"GET / HTTP/1.1\r\nX\n", limit=18).cause == "bad_request"
