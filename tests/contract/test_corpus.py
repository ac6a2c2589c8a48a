"""
gunicorn's corpus of requests against the router and the gate.

Each file is sent as the first request of a connection, as the second and right behind
another, whole and cut at every byte. What is invalid never reaches the server as a
request that is complete, what is valid reaches it with the values that its ``.py``
says, and a request for another key never does. All else stands in a table of
tests/corpus.py, with its reason.
"""

from __future__ import annotations

import pytest

from corpus import PASSED, REFUSED, Item, load, path_and_query
from gate_kit import FIRST, PARSERS, Gated, Seen, elsewhere_after_first
from maitred.routing import Match, NeedMore, NoMatch, Router, affinities
from maitred.routing.http1 import HEAD_LIMIT
from maitred.routing.proxy_protocol import ProxyHeader, sniff_proxy

VALID, INVALID = load("valid"), load("invalid")

ROUTER = Router(affinities(["host"]))


def stem(item: Item) -> str:
    """Give the name by which the tables list *item*."""
    return item.name.partition("/")[2]


def outcome(data: bytes, cuts: list[int], before: bytes = b"") -> Gated:
    """Send *data* in pieces, after *before* in the same segment or answered."""
    gated = Gated()
    start = 0
    for cut in [*cuts, len(data)]:
        gated.send(before + data[start:cut])
        before, start = b"", cut
    return gated


def all_ways(data: bytes):
    """Give the gate after every way of sending *data*, the requests before left out."""
    whole = outcome(data, [])
    yield "first, whole", whole, 0
    yield "pipelined, whole", outcome(data, [], FIRST), 1
    second = Gated()
    second.send(FIRST)
    second.send(data)
    yield "second, whole", second, 1
    for cut in cuts_of(data):
        yield f"first, cut at {cut}", outcome(data, [cut]), 0
        second = Gated()
        second.send(FIRST + data[:cut])
        second.send(data[cut:])
        yield f"pipelined, cut at {cut}", second, 1
    bytewise = Gated()
    for byte in data[:2000]:
        bytewise.send(bytes([byte]))
    bytewise.send(data[2000:])
    yield "byte by byte", bytewise, 0


def cuts_of(data: bytes):
    """Cut at every byte; in long files at every byte of both ends, and now and then."""
    size = len(data)
    if size <= 1000:
        return range(1, size)
    return sorted(
        {*range(1, 200), *range(200, size - 200, 97), *range(size - 200, size)}
    )


def same_everywhere(item: Item) -> Gated:
    """Check that *item* has one outcome however it is sent; give it."""
    whole = outcome(item.data, [])
    for way, gated, before in all_ways(item.data):
        assert gated.requests[before:] == whole.requests, way
        assert gated.refusal == whole.refusal, way
        assert gated.given_back is None, way
    return whole


def read_by(parser: str, gated: Gated) -> list[Seen]:
    """Let *parser* of the workers read what passed."""
    return PARSERS[parser](b"".join(gated.passed))


@pytest.mark.parametrize("item", INVALID.values(), ids=INVALID)
def test_invalid_request_never_passes(item):
    """However it comes, nothing of it is a complete request, and it is refused."""
    gated = same_everywhere(item)
    if stem(item) in PASSED:
        assert gated.requests, "no exception any more"
        return
    assert not gated.requests
    assert gated.refusal is not None or gated.waits
    if gated.waits:  # for what would make it whole: the file just ends
        assert item.error in {"NoMoreData", "ChunkMissingTerminator"}


@pytest.mark.parametrize("item", VALID.values(), ids=VALID)
def test_valid_request_passes_with_its_values(item):
    """Both parsers of the workers read what the corpus says stands there."""
    gated = same_everywhere(item)
    if stem(item) in REFUSED:
        assert gated.refusal is not None or gated.waits, "no exception any more"
        return
    assert gated.refusal is None
    assert not gated.waits
    for parser in PARSERS:
        found = read_by(parser, gated)
        assert len(found) == len(item.requests), parser
        for seen, wanted in zip(found, item.requests, strict=True):
            assert seen.method == wanted.method
            assert path_and_query(seen.target) == path_and_query(wanted.uri)
            assert seen.body == wanted.body
            names = [name for name, _ in seen.headers]
            assert names == [name.lower() for name, _ in wanted.headers]
            values = [value for _, value in seen.headers]
            assert values == [value for _, value in wanted.headers]


def test_every_exception_is_a_file():
    """No file of the tables has gone."""
    assert {f"valid/{name}" for name in REFUSED} <= VALID.keys()
    assert {f"invalid/{name}" for name in PASSED} <= INVALID.keys()


@pytest.mark.parametrize(
    "item", [*VALID.values(), *INVALID.values()], ids=lambda i: i.name
)
def test_master_and_worker_agree_about_the_first_request(item):
    """The router places what the gate lets through, refuses what it refuses."""
    gated = outcome(item.data, [])
    verdict = ROUTER.sniff(item.data[:HEAD_LIMIT])
    if isinstance(verdict, NoMatch):
        assert not gated.passed
        assert gated.refusal == tuple(verdict)
    elif isinstance(verdict, NeedMore):
        assert not gated.passed
        assert gated.waits
    else:
        assert isinstance(verdict, Match)
        assert gated.passed or gated.refusal == (400, "bad_body")


@pytest.mark.parametrize(
    "item", [*VALID.values(), *INVALID.values()], ids=lambda i: i.name
)
def test_request_for_another_key_reaches_nobody_here(item):
    """As second request, for a key that is not ours: every byte of it is given back."""
    for cut in [0, *cuts_of(item.data)]:
        gated = Gated(belongs=elsewhere_after_first())
        gated.send(FIRST + item.data[:cut])
        gated.send(item.data[cut:])
        assert b"".join(gated.passed) == FIRST
        assert len(gated.requests) == 1
        if gated.given_back is not None:
            before = gated.late
            assert gated.given_back[1] + before == item.data


PROXIED = [
    item
    for item in VALID.values()
    if stem(item) in {"pp_01", "pp_02", "pp_04", "pp_05"}
]


@pytest.mark.parametrize("item", PROXIED, ids=lambda i: i.name)
def test_valid_proxy_header_is_taken_off(item):
    """Behind it stands the request, as the corpus says."""
    header = sniff_proxy(item.data)
    assert isinstance(header, ProxyHeader)
    assert header.client is not None
    gated = outcome(item.data[header.size :], [])
    assert gated.refusal is None or gated.refusal[1] == "bad_host"


@pytest.mark.parametrize("name", ["pp_01", "pp_02", "pp_03"])
def test_invalid_proxy_header_is_bad(name):
    """Our reader refuses what gunicorn's does."""
    assert not isinstance(sniff_proxy(INVALID[f"invalid/{name}"].data), ProxyHeader)
