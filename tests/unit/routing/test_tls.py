"""
The ClientHello: recorded from real clients, made by hand, and at random.

The contract of a sniffer (see tests/contract) holds here too. What is read is compared
with what OpenSSL reads in the same bytes.
"""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hellos import (
    BAD_CONTENT,
    GOOD,
    NAME,
    RECORDED,
    alpn,
    hello,
    message,
    record,
    records,
    server_name,
)
from maitred.routing import NEED_MORE, Match, NeedMore, NoMatch, TlsRouter, affinities
from maitred.routing.tls import (
    BAD_HELLO,
    HELLO_LIMIT,
    NOT_TLS,
    TOO_LARGE,
    ClientHello,
    may_ask_for,
    normal_name,
    sniff_hello,
)

HELLOS = {
    **{name: (each.data, each.sni, each.alpn) for name, each in RECORDED.items()},
    **{name: (records(data), sni, alpn) for name, (data, sni, alpn) in GOOD.items()},
}
SMALL = {name: each for name, each in HELLOS.items() if len(each[0]) < 2000}


def openssl_reads(data):
    """Say which name OpenSSL's server reads in *data*; None if it refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    found = []
    context.sni_callback = lambda _connection, name, _context: found.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(data)
    try:
        connection.do_handshake()
    except ssl.SSLError:
        pass  # it has no certificate to go on with
    return found[0] or "" if found else None


@pytest.mark.parametrize(("data", "sni", "alpn"), HELLOS.values(), ids=HELLOS)
def test_hello_is_read(data, sni, alpn):
    """Name and protocols are those that the client was told to send."""
    assert sniff_hello(data) == ClientHello(sni, alpn)


@pytest.mark.parametrize(("data", "sni", "_alpn"), RECORDED.values(), ids=RECORDED)
def test_openssl_reads_the_same_name(data, sni, _alpn):
    """What the worker's TLS library reads is what the master placed by."""
    name = openssl_reads(data)
    assert name is not None
    assert (normal_name(name.encode()) or b"") == sni


@pytest.mark.parametrize(("data", "sni", "alpn"), SMALL.values(), ids=SMALL)
def test_last_byte_decides(data, sni, alpn):
    """Every shorter piece needs more, and whatever follows changes nothing."""
    for size in range(len(data)):
        assert sniff_hello(data[:size]) == NEED_MORE, size
    for tail in (b"\0", b"\x16\x03\x01\0\0", b"\x17\x03\x03\0\1x", data):
        assert sniff_hello(data + tail) == ClientHello(sni, alpn)


@pytest.mark.parametrize(("data", "sni", "alpn"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100, 1000])
def test_records_may_cut_the_hello_anywhere(data, sni, alpn, size):
    """However small the records, the hello is the same, if it fits the limit."""
    cut = records(data, size)
    fits = len(cut) <= HELLO_LIMIT
    assert sniff_hello(cut) == (ClientHello(sni, alpn) if fits else TOO_LARGE)


def test_recording_in_several_records_is_one():
    """A real client was made to send small records."""
    data = RECORDED["openssl, records of 512"].data
    assert len(data) > 5 + int.from_bytes(data[3:5], "big")


@pytest.mark.parametrize("content", BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_hello_is_refused(content):
    """What is cut short, overlong, double or no name is not guessed at."""
    data = records(message(content))
    assert sniff_hello(data) == BAD_HELLO
    assert {sniff_hello(data[:size]) for size in range(len(data))} == {NEED_MORE}
    assert sniff_hello(data + b"more") == BAD_HELLO


@pytest.mark.parametrize(
    "data",
    [
        record(message(hello()) + b"\0"),
        record(message(hello(), kind=2)),
        record(b""),
        record(b"\1") + record(b""),
        b"\x16\x03\x01\x40\x01",
        record(b"\1\0") + record(b"\0", kind=21),
        record(b"\1\0") + record(b"\0", version=b"\x02\0"),
        record(b"\1\0\0\x08") + record(b"x" * 9),
    ],
    ids=[
        *("bytes after the hello", "another message", "empty record"),
        *("second record empty", "record too long", "alert inside", "version inside"),
        "second record too long",
    ],
)
def test_bad_frame_is_refused(data):
    """Records around the hello are held to their rules, and what was said stays."""
    assert sniff_hello(data) == BAD_HELLO
    found = [sniff_hello(data[:size]) for size in range(len(data) + 1)]
    first = found.index(BAD_HELLO)
    assert found == [NEED_MORE] * first + [BAD_HELLO] * (len(found) - first)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0",
        b"\x15\x03\x01\0\2\2\x28",
        b"\x80\x2e\1",
        b"\x16G",
    ],
)
def test_what_is_no_tls_is_known_by_its_first_bytes(data):
    """Plain HTTP, an alert, SSL 2 and garbage are told apart from a bad hello."""
    assert sniff_hello(data) == NOT_TLS
    assert sniff_hello(b"") == NEED_MORE


def test_hello_larger_than_the_limit_is_refused():
    """At the limit the answer is known; what stands behind is not read."""
    data = record(b"\1\0\xff\xff" + b"x" * 16000)
    assert sniff_hello(data[:100], 100) == TOO_LARGE
    assert sniff_hello(data[:99], 100) == NEED_MORE
    assert sniff_hello(data, 100) == TOO_LARGE
    small = records(message(hello(NAME)))
    assert sniff_hello(small, len(small)) == ClientHello(b"a.example", ())
    assert sniff_hello(small, len(small) - 1) == TOO_LARGE


@pytest.mark.parametrize(
    ("sni", "host", "may"),
    [
        (b"a.example", b"a.example", True),
        (b"a.example", b"b.example", False),
        (b"a.example", b"", True),
        (b"a.example", b"192.0.2.1", False),
        (b"", b"", True),
        (b"", b"a.example", False),
        (b"", b"192.0.2.1", True),
        (b"", b"[2001:db8::1]", True),
    ],
)
def test_request_is_for_the_name_of_its_connection(sni, host, may):
    """Only who gave no name may ask for an address."""
    assert may_ask_for(sni, host) is may


# At random


def check_contract(data):
    """Check what holds for any bytes."""
    found = [sniff_hello(data[:size]) for size in range(len(data) + 1)]
    assert {type(each) for each in found} <= {NeedMore, ClientHello, NoMatch}
    decided = [each for each in found if each != NEED_MORE]
    assert found[len(found) - len(decided) :] == decided
    assert len(set(decided)) <= 1


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data):
    """Random bytes, and random bytes that begin like a hello."""
    check_contract(data)
    check_contract(record(message(data)))
    check_contract(b"\x16\x03\x01" + data)


@settings(deadline=None)
@given(
    st.sampled_from(list(SMALL.values())),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_damaged_hello_never_raises(each, changes):
    """Whatever bytes of a real hello are changed, there is one answer."""
    data = bytearray(each[0])
    for where, value in changes:
        data[int(where * (len(data) - 1))] = value
    verdict = sniff_hello(bytes(data))
    assert isinstance(verdict, NeedMore | ClientHello | NoMatch)
    assert sniff_hello(bytes(data) + b"tail") == verdict or verdict == NEED_MORE


@settings(deadline=None)
@given(
    st.sampled_from([each.data for each in RECORDED.values() if len(each.data) < 600]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_openssl_never_reads_another_name(data, changes):
    """In a damaged hello OpenSSL reads the same name, or one of the two refuses."""
    damaged = bytearray(data)
    for where, value in changes:
        damaged[int(where * (len(data) - 1))] = value
    verdict = sniff_hello(bytes(damaged))
    if isinstance(verdict, ClientHello):
        name = openssl_reads(bytes(damaged))
        assert name is None or (normal_name(name.encode()) or b"") == verdict.sni


# The router


def sniff(data, *specs):
    """Say where *data* from a known client goes."""
    return TlsRouter(affinities(specs)).sniff(data, b"192.0.2.7")


def test_router_places_by_what_is_known_before_a_request():
    """The first of sni and ip that finds something; others are not looked at."""
    named, nameless = records(message(hello(NAME))), records(message(hello()))
    assert sniff(named, "sni") == Match(b"sni=a.example")
    assert sniff(nameless, "sni") == Match(None)
    assert sniff(nameless, "sni", "ip") == Match(b"ip=192.0.2.7")
    assert sniff(named, "ip", "sni") == Match(b"ip=192.0.2.7")
    assert sniff(named, "cookie:sid", "path:1", "host", "sni") == Match(
        b"sni=a.example"
    )
    assert sniff(named, "header:x", "query:q", "mcp") == Match(None)
    assert sniff(named) == Match(None)


def test_router_gives_one_key_to_all_writings_of_a_name():
    """Case and a trailing dot make no other name."""
    for name in (b"a.example", b"A.EXAMPLE", b"a.example."):
        data = records(message(hello(server_name(name))))
        assert sniff(data, "sni") == Match(b"sni=a.example")


@pytest.mark.parametrize(
    ("protocols", "served"),
    [
        ([b"h2", b"http/1.1"], True),
        ([b"http/1.0"], True),
        ([b"h2"], False),
        ([b"acme-tls/1"], False),
        ([b"\x0a\x0a", b"h3"], False),
    ],
)
def test_router_refuses_who_speaks_only_other_protocols(protocols, served):
    """Who offers only what is not spoken here is told so; who says nothing is not."""
    verdict = sniff(records(message(hello(NAME, alpn(*protocols)))), "sni")
    expected = Match(b"sni=a.example") if served else NoMatch(505, "no_protocol")
    assert verdict == expected


def test_router_passes_on_what_the_sniffer_says():
    """Too little, too much and nonsense are the sniffer's."""
    assert sniff(b"") == NEED_MORE
    assert sniff(b"GET") == NOT_TLS
    assert TlsRouter([], 10).sniff(records(message(hello()))) == TOO_LARGE
