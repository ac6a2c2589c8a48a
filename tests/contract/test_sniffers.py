"""
The contract of a sniffer, held against the router with every affinity.

The verdict is the same for every way of cutting the bytes. It is NeedMore until the
deciding byte, and never after; it does not change when more bytes come; nothing beyond
the limit is read, and no bytes make it raise. And whatever the router takes for a
head, the parsers of the workers take too, and read the same in it.
"""

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads import BAD, GOOD, REAL, request
from maitred.routing import (
    NEED_MORE,
    PRESETS,
    Match,
    NeedMore,
    NoMatch,
    Router,
    affinities,
)
from maitred.routing.http1 import RawHead, sniff_head

LIMIT = 1024
PEER = b"192.0.2.7"

SPECS = {
    "none": [],
    **{
        spec: [spec]
        for spec in [
            *("header:x", "header:host", "header:x,learn", "cookie:sid", "query:sid"),
            *("path:1", "path:2", "host", "ip", *PRESETS),
        ]
    },
    "all": ["header:x", "cookie:sid", "query:sid", "path:2", "host", "ip", *PRESETS],
}

# Heads in which every affinity finds something to read.
SESSIONS = {
    "everywhere": request(
        b"GET /rooms/7?sid=3&session_id=4 HTTP/1.1",
        b"Cookie: a=1; sid=2",
        b"X: 1",
        b"mcp-session-id: 5",
    ),
    "twice": request(
        b"GET /?sid=1&sid=2 HTTP/1.1", b"Cookie: sid=1; sid=1", b"X: 1", b"X: 1"
    ),
    "long": request(b"GET /%b/%b HTTP/1.1" % (b"a" * 200, b"b" * 200)),
    "percent": request(b"GET /%00/%zz%?sid=%&session_id=%4 HTTP/1.1"),
}

HEADS = {**GOOD, **SESSIONS}

CORPUS = {
    **HEADS,
    **{name: data for name, (data, _) in BAD.items()},
    "two requests": REAL["mcp call"] + REAL["mcp delete"],
    "body": request(b"POST / HTTP/1.1", b"Content-Length: 4") + b"\0\r\n\xff",
    "too large": request(b"GET / HTTP/1.1", b"X: " + b"x" * LIMIT),
    "endless line": b"GET /" + b"x" * LIMIT,
    "at the limit": request(b"GET / HTTP/1.1", b"X:" + b"x" * (LIMIT - 32))[:LIMIT],
    "silence": b"",
}


ROUTERS = {spec: Router(affinities(SPECS[spec]), LIMIT) for spec in SPECS}
"Every affinity, alone and together."


def verdicts(router, data):
    """Sniff every prefix of *data*; check what the contract says of any sequence."""
    found = [router.sniff(data[:size], PEER) for size in range(len(data) + 1)]
    assert {type(each) for each in found} <= {NeedMore, Match, NoMatch}
    decided = [each for each in found if each != NEED_MORE]
    # Once decided, never undecided and never decided otherwise.
    assert found[len(found) - len(decided) :] == decided
    assert len(set(decided)) <= 1
    return found


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_verdict_comes_with_one_byte_and_stays(data):
    """Byte by byte, the verdict is NeedMore, and then one and the same for ever."""
    for spec, router in ROUTERS.items():
        found = verdicts(router, data)
        assert found[0] == NEED_MORE, spec
        assert found[-1] == router.sniff(data, PEER), spec


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_good_head_is_decided_by_its_last_byte(data):
    """The end of the head is the deciding byte; no affinity guesses before it."""
    for spec, router in ROUTERS.items():
        found = verdicts(router, data)
        assert found[:-1] == [NEED_MORE] * len(data), spec
        assert isinstance(found[-1], Match), spec


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_bytes_beyond_the_limit_are_not_read(data):
    """What stands behind the limit changes nothing, and there the verdict is known."""
    full = data.ljust(LIMIT, b"x")[:LIMIT]
    tails = [b"\0", b"\r\n\r\n", b"\n", b" HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 9999]
    for spec, router in ROUTERS.items():
        verdict = router.sniff(full, PEER)
        assert verdict != NEED_MORE, spec
        for tail in tails:
            assert router.sniff(full + tail, PEER) == verdict, spec


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_bytes_after_the_head_change_nothing(data):
    """A body, a second request or garbage may follow in the same segment."""
    for spec, router in ROUTERS.items():
        verdict = router.sniff(data, PEER)
        for tail in (b"\0", b"\n", b"\r\n", b"GET", b"\x16\x03\x01"):
            assert router.sniff(data + tail, PEER) == verdict, spec


# Bytes that nobody wrote.

SEEDS = st.sampled_from(list(CORPUS.values()))
SPICE = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\0",
            b" ",
            b"\t",
            b":",
            b",",
            b";",
            b"%",
        ),
        *(b"\xff", b"\x7f", b"#", b"?", b"/", b"*", b"=", b"&", b"@", b"[", b"]"),
        *(b"Host: b\r\n", b"host:a\r\n", b" folded\r\n", b"Content-Length: 1\r\n"),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"http://",
            b"HTTP/1.0",
            b"Cookie: sid=9\r\n",
        ),
    ]
)


@st.composite
def mutated(draw):
    """Make a head with a few bytes cut, replaced or put in anywhere."""
    data = draw(SEEDS)[: LIMIT + 50]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 4))
        data = data[:at] + draw(SPICE | st.binary(max_size=3)) + data[at + cut :]
    return data


BYTES = mutated() | st.binary(max_size=200) | SEEDS.map(lambda data: data + data)
ALL = ROUTERS["all"]


@given(BYTES)
def test_any_bytes_keep_the_contract(data):
    """Whatever arrives, in single bytes: no error, one verdict, no second thoughts."""
    verdicts(ALL, data)


@given(BYTES, st.lists(st.integers(0, LIMIT + 50), max_size=8))
def test_any_cut_gives_the_same_verdict(data, cuts):
    """However the bytes are cut, what is known at the end is the same."""
    found = NEED_MORE
    for size in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        now = ALL.sniff(data[:size], PEER)
        assert found in {NEED_MORE, now}
        found = now
    assert found == ALL.sniff(data, PEER)


# The parsers of the workers.

LLHTTP_METHODS = [
    *(b"DELETE", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"TRACE", b"COPY"),
    *(b"LOCK", b"MKCOL", b"MOVE", b"PROPFIND", b"PROPPATCH", b"SEARCH", b"UNLOCK"),
    *(b"BIND", b"REBIND", b"UNBIND", b"ACL", b"REPORT", b"MKACTIVITY", b"CHECKOUT"),
    *(b"MERGE", b"M-SEARCH", b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE", b"PATCH"),
    *(b"PURGE", b"MKCALENDAR", b"LINK", b"UNLINK", b"SOURCE"),
]
"What httptools knows. It refuses every other method; h11 takes any token, as we do."


class Refused(Exception):
    """A parser does not take this for a request."""


def read_with_h11(data):
    """Give method, target and Host as h11 reads them."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise Refused(str(exc)) from exc
    if not isinstance(event, h11.Request):
        raise Refused(repr(event))
    hosts = [value for name, value in event.headers if name == b"host"]
    return event.method, event.target, hosts


def read_with_httptools(data):
    """Give method, target and Host as httptools reads them."""
    url, hosts, done = [], [], []

    class Callbacks:
        def on_url(self, part):
            url.append(part)

        def on_header(self, name, value):
            if name.lower() == b"host":
                # llhttp leaves the space after a value to its user.
                hosts.append(value.rstrip(b" \t"))

        def on_headers_complete(self):
            done.append(parser.get_method())

    parser = httptools.HttpRequestParser(Callbacks())
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as exc:
        raise Refused(str(exc)) from exc
    if not done:
        raise Refused("not complete")
    return done[0], b"".join(url), hosts


PARSERS = {"h11": read_with_h11, "httptools": read_with_httptools}


def what_we_read(data):
    """Give method, target and Host as the router reads them, and the head's length."""
    found = sniff_head(data)
    if not isinstance(found, RawHead):
        return None
    # From the bytes, so that what the head keeps is checked against something else.
    size = next(
        n for n in range(len(data) + 1) if isinstance(sniff_head(data[:n]), RawHead)
    )
    target = data.split(b" ", 2)[1]
    return (found.method, target, found.values(b"host")), found, size


def agree(data):
    """Check that the parsers take what the router takes; give what was agreed upon."""
    ours = what_we_read(data)
    if ours is None:
        return None
    said, head, size = ours
    for name, read in PARSERS.items():
        if name == "httptools" and head.method not in LLHTTP_METHODS:
            with pytest.raises(Refused):
                read(data[:size])
        else:
            assert read(data[:size]) == said, name
    return said


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_parsers_take_what_the_router_takes(data):
    """Every good head is one for all, with one method, one target and one host."""
    assert agree(data) is not None


@pytest.mark.parametrize("method", LLHTTP_METHODS)
def test_parsers_agree_on_every_method(method):
    """A method is what it is, known or not."""
    assert agree(request(method + b" / HTTP/1.1")) is not None


@given(mutated())
def test_parsers_agree_on_whatever_the_router_takes(data):
    """No head that gets past the router is read in a second way, or refused, later."""
    agree(data)


@pytest.mark.parametrize("where", ["target", "name", "value", "host"])
def test_parsers_agree_on_every_byte_everywhere(where):
    """Each of the 256 bytes, in each place, is taken by all or not by the router."""
    taken = 0
    for number in range(256):
        byte = bytes([number])
        data = {
            "target": request(b"GET /a%bb HTTP/1.1" % byte),
            "name": request(b"GET / HTTP/1.1", b"X%bY: z" % byte),
            "value": request(b"GET / HTTP/1.1", b"X: a%bb" % byte),
            "host": request(host=b"a%bb" % byte),
        }[where]
        taken += agree(data) is not None
    assert taken > 60


FRAMING = [
    b"Content-Length: 0",
    b"Content-Length: 007",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length: 5 5",
    b"Content-Length:",
    b"Content-Length: " + b"9" * 19,
    b"Content-Length: " + b"1" * 20,
    b"Content-Length : 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: xchunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding:",
    b"Transfer-Encoding",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: Content-Length",
    b"Upgrade: h2c",
]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_parsers_agree_on_where_a_request_ends(version):
    """Every pair of headers that say where a body ends: refused, or read in one way."""
    taken = 0
    for one in FRAMING:
        for two in FRAMING:
            line = b"POST / HTTP/" + version
            taken += agree(request(line, one, two)) is not None
            taken += agree(request(line, one)) is not None
    assert taken > 100


def test_requests_of_an_absolute_form_have_one_host():
    """What the target says and what Host says is the same in everything we take."""
    names = [b"a", b"A", b"b", b"a:80", b"a:", b"u@a", b"", b"a.", b"[::1]", b"a,b"]
    for in_target in names:
        for in_header in names:
            data = request(b"GET http://%b/p HTTP/1.1" % in_target, host=in_header)
            said = agree(data)
            if said is not None:
                assert in_target.lower() == in_header.lower()
