"""
What every sniffer of --protocol promises, however the bytes come.

The answer is the same for every way of cutting them; it is NeedMore until the deciding
byte and never after; no bytes make it raise; and what is one byte too long is refused.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.rooms import ROOMS
from maitred.routing import (
    NEED_MORE,
    SNIFFERS,
    Match,
    NoMatch,
    Reply,
    fields_router,
    refused,
)
from protocols import (
    C1,
    GSSENC,
    SSL,
    amf_object,
    amf_text,
    chunks,
    mqtt_connect,
    pg_cancel,
    pg_startup,
    rtmp_connect,
)

ROUTERS = {
    name: fields_router(sniffer, [])
    for name, sniffer in {**SNIFFERS, "rooms": ROOMS}.items()
}

SAMPLES = {
    "3.1.1": ("mqtt", 0, mqtt_connect(b"lamp"), Match(b"client=lamp")),
    "5": ("mqtt", 0, mqtt_connect(b"lamp", level=5), Match(b"client=lamp")),
    "everything": (
        "mqtt",
        0,
        mqtt_connect(
            b"lamp", b"ann", level=5, will=(b"gone", b"x" * 300), password=b"secret"
        ),
        Match(b"client=lamp"),
    ),
    "no client id": ("mqtt", 0, mqtt_connect(b""), Match(None)),
    "3.1": ("mqtt", 0, mqtt_connect(name=b"MQIsdp", level=3), Match(b"client=lamp")),
    "3.1 with all": (
        "mqtt", 0,
        mqtt_connect(
            b"lamp", b"ann", name=b"MQIsdp", level=3, will=(b"t", b"m"), password=b"x"
        ),
        Match(b"client=lamp"),
    ),
    "3.1 unused bits": (
        "mqtt", 0, mqtt_connect(name=b"MQIsdp", level=3, flags=0x2B),
        Match(b"client=lamp"),
    ),
    "3.1 flag without a name": (
        "mqtt", 0, mqtt_connect(name=b"MQIsdp", level=3, flags=0xC2),
        Match(b"client=lamp"),
    ),
    "3.1 password alone": (
        "mqtt", 0, mqtt_connect(name=b"MQIsdp", level=3, flags=0x42),
        refused("bad_packet"),
    ),
    "3.1 without identifier": (
        "mqtt", 0, mqtt_connect(b"", name=b"MQIsdp", level=3), refused("no_identifier"),
    ),
    "level 3": ("mqtt", 0, mqtt_connect(level=3), refused("bad_version")),
    "3.1 of level 4": (
        "mqtt", 0, mqtt_connect(name=b"MQIsdp", level=4), refused("bad_version"),
    ),
    "bridge": ("mqtt", 0, mqtt_connect(level=0x84), Match(b"client=lamp")),
    "bridge of 3.1": (
        "mqtt", 0, mqtt_connect(name=b"MQIsdp", level=0x83), Match(b"client=lamp"),
    ),
    "no bridge of 5": ("mqtt", 0, mqtt_connect(level=0x85), refused("bad_version")),
    "no identifier, not clean": (
        "mqtt", 0, mqtt_connect(b"", flags=0), refused("no_identifier"),
    ),
    "no identifier in 5": (
        "mqtt", 0, mqtt_connect(b"", level=5, flags=0), Match(None),
    ),
    "level 6": ("mqtt", 0, mqtt_connect(level=6), refused("bad_version")),
    "publish first": ("mqtt", 0, b"\x30\x05\x00\x01a12", refused("not_mqtt")),
    "http to mqtt": ("mqtt", 0, b"GET / HTTP/1.1\r\n\r\n", refused("not_mqtt")),
    "other name": ("mqtt", 0, mqtt_connect(name=b"MQTU"), refused("not_mqtt")),
    "endless length": ("mqtt", 0, b"\x10\xff\xff\xff\xff\x01", refused("bad_packet")),
    "reserved flag": ("mqtt", 0, mqtt_connect(flags=0x03), refused("bad_packet")),
    "will qos 3": ("mqtt", 0, mqtt_connect(flags=0x1E), refused("bad_packet")),
    "no will, but qos": ("mqtt", 0, mqtt_connect(flags=0x0A), refused("bad_packet")),
    "password alone": ("mqtt", 0, mqtt_connect(flags=0x42), refused("bad_packet")),
    "more than it says": ("mqtt", 0, mqtt_connect(more=b"?"), refused("bad_packet")),
    "no utf-8": ("mqtt", 0, mqtt_connect(b"\xff"), refused("bad_packet")),
    "nul in it": ("mqtt", 0, mqtt_connect(b"a\0b"), refused("bad_packet")),
    "nothing in it": ("mqtt", 0, b"\x10\x00", None),
    "only a name": ("mqtt", 0, b"\x10\x06\x00\x04MQTT", refused("bad_packet")),
    "startup": (
        "postgres", 0, pg_startup(user="ann", database="shop"),
        Match(b"database=shop"),
    ),
    "no database": ("postgres", 0, pg_startup(user="ann"), Match(b"database=ann")),
    "3.2": (
        "postgres", 0, pg_startup(0x30002, user="ann", database="d"),
        Match(b"database=d"),
    ),
    "ssl": ("postgres", 0, SSL, Reply(8, b"N")),
    "gssenc": ("postgres", 0, GSSENC, Reply(8, b"N")),
    "cancel": (
        "postgres", 0, pg_cancel(), Match(b"cancel=00001267.61626364", True),
    ),
    "long cancel": (
        "postgres", 0, pg_cancel(secret=b"k" * 256),
        ROUTERS["postgres"].sniff(pg_cancel(secret=b"k" * 256)),
    ),
    "too long a cancel": (
        "postgres", 0, pg_cancel(secret=b"k" * 257), refused("bad_packet"),
    ),
    "no user": ("postgres", 0, pg_startup(database="d"), refused("bad_packet")),
    "version 2": ("postgres", 0, pg_startup(0x20000, user="a"), refused("bad_version")),
    "version 4": ("postgres", 0, pg_startup(0x40000, user="a"), refused("bad_version")),
    "http to postgres": ("postgres", 0, b"GET / HTTP/1.1", refused("bad_packet")),
    "short": ("postgres", 0, b"\0\0\0\x07\0\x03\0\0", refused("bad_packet")),
    "no end": ("postgres", 0, b"\0\0\0\x0c\0\x03\0\0user", refused("bad_packet")),
    "two users": (
        "postgres", 0, b"\0\0\0\x19\0\x03\0\0user\0a\0user\0b\0\0!!"[:25],
        refused("bad_packet"),
    ),
    "handshake": (
        "rtmp", 0, b"\x03" + C1, ROUTERS["rtmp"].sniff(b"\x03" + C1),
    ),
    "rtmpe": ("rtmp", 0, b"\x06" + C1, refused("bad_version")),
    "http to rtmp": ("rtmp", 0, b"GET / HTTP/1.1", refused("not_rtmp")),
    "echo": ("rtmp", 1, C1, Reply(1536, b"")),
    "connect": ("rtmp", 2, rtmp_connect(b"live"), Match(b"app=live")),
    "connect with more": (
        "rtmp", 2, rtmp_connect(b"live?token=7", tcUrl=b"rtmp://x/live" * 20),
        Match(b"app=live"),
    ),
    "chunk size first": (
        "rtmp", 2,
        chunks(b"\0\0\x10\0", kind=1, stream=2)
        + chunks(rtmp_connect(b"tv")[12:140], size=4096),
        None,
    ),
    "no name": ("rtmp", 2, rtmp_connect(b""), Match(b"app=/")),
    "no name but a query": ("rtmp", 2, rtmp_connect(b"?user=ann"), Match(b"app=/")),
    "nothing called app": (
        "rtmp", 2,
        chunks(amf_text(b"connect") + b"\x00" + bytes(8) + b"\x03\0\0\x09"),
        Match(b"app=/"),
    ),
    "format 1 first": (
        "rtmp", 2, b"\x43" + rtmp_connect(b"tv")[1:8] + rtmp_connect(b"tv")[12:],
        Match(b"app=tv"),
    ),
    "format 2 first": ("rtmp", 2, b"\x83\0\0\0" + bytes(9), refused("bad_packet")),
    "play first": (
        "rtmp", 2, chunks(amf_text(b"play") + b"\x05"), refused("bad_packet"),
    ),
    "audio first": ("rtmp", 2, chunks(b"....", kind=8), refused("bad_packet")),
    "no app": (
        "rtmp", 2,
        chunks(amf_text(b"connect") + b"\x00" + bytes(8) + b"\x05"),
        refused("no_app"),
    ),
    "continues nothing": ("rtmp", 2, b"\xc3" + b"x" * 20, refused("bad_packet")),
    "join": ("rooms", 0, b"JOIN lobby ann\n", Match(b"room=lobby")),
    "no join": ("rooms", 0, b"LEAVE\n", refused("no_join")),
    "an empty line": ("rooms", 0, b"\nOIN", refused("no_join")),
}  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES)
def test_answer_comes_with_the_deciding_byte_and_stays(sample):
    """Byte by byte: NeedMore, then the answer, which more bytes do not change."""
    name, stage, data, expected = SAMPLES[sample]
    router = ROUTERS[name]
    answers = [
        router.sniff(data[:end], b"192.0.2.7", stage) for end in range(len(data) + 1)
    ]
    decided = [answer for answer in answers if answer != NEED_MORE]
    assert answers == [NEED_MORE] * (len(answers) - len(decided)) + decided
    if expected is None:
        return
    assert set(decided) == {expected}
    longer = router.sniff(data + b"\x00more" * 9, b"192.0.2.7", stage)
    assert longer == expected


@pytest.mark.parametrize("name", ROUTERS)
@given(data=st.data())
def test_no_bytes_make_it_raise(name, data):
    """Garbage, and what was good before a byte of it was changed: a verdict."""
    samples = [s for s in SAMPLES.values() if s[0] == name] or [("", 0, b"x", None)]
    _, stage, good, _ = data.draw(st.sampled_from(samples))
    at = data.draw(st.integers(0, len(good)))
    bad = good[:at] + data.draw(st.binary(max_size=64)) + good[at + 1 :]
    answer = ROUTERS[name].sniff(bad, b"", stage)
    assert not isinstance(answer, NoMatch) or answer.cause != "sniffer_failed"


WORDED = {
    "mqtt, clean": ("mqtt", mqtt_connect(), "no_worker", bytes([0x20, 2, 0, 3])),
    "mqtt, 5": ("mqtt", mqtt_connect(level=5), "no_worker", b"\x20\x03\x00\x88\x00"),
    "mqtt, bridge": ("mqtt", mqtt_connect(level=0x84), "x", bytes([0x20, 2, 0, 3])),
    "mqtt, bridge of 5": (
        "mqtt", mqtt_connect(level=0x85), "bad_version", b"\x20\x03\x00\x84\x00",
    ),
    "mqtt, level 6": (
        "mqtt", mqtt_connect(level=6), "bad_version", b"\x20\x03\x00\x84\x00",
    ),
    "mqtt, 3.1 of level 9": (
        "mqtt", mqtt_connect(name=b"MQIsdp", level=9), "bad_version",
        bytes([0x20, 2, 0, 1]),
    ),
    "mqtt, identifier": (
        "mqtt", mqtt_connect(b"", flags=0), "no_identifier", bytes([0x20, 2, 0, 2]),
    ),
    "postgres, 2": (
        "postgres", pg_startup(0x20000, user="a"), "bad_version",
        b"EFATAL:  Only protocol 3 of PostgreSQL is spoken here.\n\0",
    ),
    "postgres, cancel": ("postgres", pg_cancel(), "no_worker", b""),
    "rtmp, handshake": ("rtmp", b"\x03" + C1, "too_many_waiting", b""),
    "rtmp, something else": ("rtmp", chunks(amf_text(b"play")), "bad_packet", b""),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDED)
def test_refusal_is_in_the_version_that_the_client_speaks(case):
    """The cause as that version has it; nothing where it has no word."""
    name, heard, cause, said = WORDED[case]
    assert SNIFFERS[name].refuse(cause, heard) == said


def test_rtmp_connect_is_answered_with_an_error():
    """In chunks of 128 bytes, however long the cause is called."""
    said = SNIFFERS["rtmp"].refuse("w" * 200, rtmp_connect(b"live"))
    details = amf_object(
        level=b"error", code=b"NetConnection.Connect.Rejected", description=b"w" * 200
    )
    number = b"\x00" + bytes.fromhex("3ff0000000000000")
    assert said == chunks(amf_text(b"_error") + number + b"\x05" + details)


def test_longest_connect_is_one_of_64_kib():
    """A CONNECT of the limit passes, and one of one byte more does not."""
    size = len(mqtt_connect(will=(b"t", b"x" * 60_000))) - 60_000
    longest = mqtt_connect(will=(b"t", b"x" * (64 * 1024 - size)))
    assert len(longest) == 64 * 1024
    assert ROUTERS["mqtt"].sniff(longest) == Match(b"client=lamp")
    longer = mqtt_connect(will=(b"t", b"x" * (64 * 1024 - size + 1)))
    assert ROUTERS["mqtt"].sniff(longer) == refused("too_large")
    # That shows as soon as the length is there.
    assert ROUTERS["mqtt"].sniff(longer[:20]) == refused("too_large")


def test_longest_startup_message_is_that_of_the_server():
    """As in MAX_STARTUP_PACKET_LENGTH: 10,000 bytes."""
    size = len(pg_startup(user="ann", options=""))
    longest = pg_startup(user="ann", options="x" * (10_000 - size))
    assert ROUTERS["postgres"].sniff(longest) == Match(b"database=ann")
    longer = pg_startup(user="ann", options="x" * (10_001 - size))
    assert ROUTERS["postgres"].sniff(longer) == refused("bad_packet")


def test_command_without_end_is_refused_at_the_limit():
    """RTMP has no length of a whole beginning: the limit decides."""
    endless = chunks(b"\0\0\0\x80", kind=1, stream=2) * 2000
    assert ROUTERS["rtmp"].sniff(endless[:16383], b"", 2) == NEED_MORE
    assert ROUTERS["rtmp"].sniff(endless[:16384], b"", 2) == refused("too_large")


def test_own_sniffer_has_its_own_limit():
    """The decision has to come within ``limit`` bytes."""
    assert ROUTERS["rooms"].sniff(b"JOIN " + b"r" * 251) == refused("too_large")
    assert ROUTERS["rooms"].sniff(b"JOIN " + b"r" * 250) == NEED_MORE
