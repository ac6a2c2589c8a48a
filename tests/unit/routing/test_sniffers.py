"""Sniffers as values: their stages, their fields, and what a wrong one may not do."""

import pytest

from maitred.errors import UsageError
from maitred.routing import (
    NEED_MORE,
    SNIFFERS,
    Match,
    Reply,
    Sniffer,
    fields_router,
    refused,
    sniffer_of,
)
from maitred.routing.sniffers import MOST_REPLIES, FieldsHead


def sniffer(sniff, **details):
    """Make a sniffer of one function."""
    return Sniffer(name="test", sniff=sniff, fields=("a", "b"), **details)


def test_fields_are_tried_in_order():
    """The first that is there and not empty; the default is the first of all."""
    finds = sniffer(lambda _: {"a": b"", "b": b"2"})
    assert fields_router(finds, []).sniff(b"x") == Match(None)
    assert fields_router(finds, ["a", "b"]).sniff(b"x") == Match(b"b=2")
    assert fields_router(finds, ["ip"]).sniff(b"x", b"::1") == Match(b"ip=::1")
    assert fields_router(finds, ["none"]).sniff(b"x", b"::1") == Match(None)


def test_what_the_application_makes_comes_first():
    """Such a key is learned: it enters the table by a claim alone."""
    finds = sniffer(lambda _: {"a": b"1", "ticket": b"7"}, made=("ticket",))
    assert fields_router(finds, []).sniff(b"x") == Match(b"ticket=7", True)


def test_stages_follow_each_other():
    """After each reply the next function looks; the last one, for ever."""
    finds = sniffer(
        lambda _: Reply(1, b"one"),
        then=(lambda _: Reply(2, b"two"), lambda data: {"a": data}),
    )
    router = fields_router(finds, [])
    assert router.sniff(b"xyz", b"", 0) == Reply(1, b"one")
    assert router.sniff(b"xyz", b"", 1) == Reply(2, b"two")
    assert router.sniff(b"xyz", b"", 2) == Match(b"a=xyz")
    assert router.sniff(b"xyz", b"", 9) == Match(b"a=xyz")


@pytest.mark.parametrize(
    "sniff",
    [
        lambda _: 1 / 0,
        lambda _: None,
        lambda _: {"a": 7},
        lambda _: Reply(9, b""),
        lambda _: Reply(-1, b""),
        lambda _: Reply(1, "text"),
    ],
)
def test_sniffer_that_is_wrong_refuses(sniff):
    """Whatever it does, and whatever it gives; what it was is kept for the log."""
    router = fields_router(sniffer(sniff), [])
    assert router.sniff(b"xyz") == refused("sniffer_failed")
    assert router.failure


def test_sniffer_that_never_ends_refuses():
    """So many replies, and no more."""
    router = fields_router(sniffer(lambda _: Reply(0, b"")), [])
    assert isinstance(router.sniff(b"x", b"", MOST_REPLIES - 1), Reply)
    assert router.sniff(b"x", b"", MOST_REPLIES) == refused("sniffer_failed")


def test_limit_holds():
    """At the limit NeedMore is a refusal; what lies beyond is not looked at."""
    seen = []
    router = fields_router(
        sniffer(lambda data: seen.append(data) or NEED_MORE, limit=3), []
    )
    assert router.sniff(b"ab") == NEED_MORE
    assert router.sniff(b"abcdef") == refused("too_large")
    assert seen[-1] == b"abc"


def test_raw_decides_without_a_byte():
    """The server may speak first."""
    router = fields_router(SNIFFERS["raw"], ["ip"])
    assert router.limit == 0
    assert router.sniff(b"", b"192.0.2.7") == Match(b"ip=192.0.2.7")


def test_head_has_only_what_was_found():
    """Anything else is empty, and raises nothing."""
    head = FieldsHead(b"::1", {"a": b"1"})
    assert (head.method, head.path, head.host, head.sni) == (b"", b"", b"", b"")
    assert (head.values(b"a"), head.values(b"b")) == ([b"1"], [])


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("mqt", "did you mean mqtt?"),
        ("nothing-like-it", "known are: http, mqtt, postgres, rtmp, raw"),
        ("nowhere_at_all:x", "cannot be imported"),
        ("json:nothing", "has no attribute 'nothing'"),
        ("json:dumps", "is a function, not a maitred.routing.Sniffer"),
    ],
)
def test_protocol_that_cannot_be_read_is_said(protocol, sentence):
    """With what would be."""
    with pytest.raises(UsageError) as raised:
        sniffer_of(protocol)
    assert sentence in str(raised.value)
    assert str(raised.value).startswith(f"--protocol {protocol} ") or ":" in protocol


def test_affinity_that_is_no_field_is_said():
    """With the fields that there are."""
    with pytest.raises(UsageError, match="there are: client, user, ip, none"):
        fields_router(SNIFFERS["mqtt"], ["cookie:x"])
    with pytest.raises(UsageError, match="cannot be combined"):
        fields_router(SNIFFERS["mqtt"], ["none", "user"])
