"""
The CONNECT packet of MQTT 3.1, 3.1.1 and 5, recognised in peeked bytes. Pure.

    0x10, remaining length (1 to 4 bytes, 7 bits each, the lowest first)
    name "MQTT", level 4 or 5 (3.1: "MQIsdp", level 3), flags, keep alive
    [5: properties]  client identifier  [will: [5: properties] topic, message]
    [user name]  [password]

(MQTT 3.1, 3.1.1 and 5.0, section 3.1.) A bridge, which is a broker that is a client of
another, sets the top bit of level 3 or 4: so mosquitto does, and brokers know it. The
client identifier and the user name say where a connection goes; the rest is for the
worker, which reads the same bytes again.

Invariant: a CONNECT that could be read in two ways is bad, and nobody guesses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .frame import Frame, Malformed
from .sniffers import Fields, Sniffer, refused
from .verdict import NEED_MORE, NeedMore, NoMatch

LIMIT: Final = 64 * 1024
"Bytes that a CONNECT may have, its last will included."
CONNECT: Final = 0x10
FIRST: Final = b"\x00\x04MQTT"
OLD: Final = b"\x00\x06MQIsdp"
V31, V311, V5 = 3, 4, 5
BRIDGE: Final = 0x80
LEVELS: Final = {FIRST: {V311, V5, BRIDGE | V311}, OLD: {V31, BRIDGE | V31}}
"The levels that are read, by the name before them."
RESERVED, CLEAN, WILL, USER, PASSWORD = 0x01, 0x02, 0x04, 0x80, 0x40
WILL_QOS: Final = 0x18
WILL_DETAILS: Final = 0x38
MORE: Final = 0x80
LONGEST_LENGTH: Final = 4

NOT_MQTT: Final = refused("not_mqtt")
BAD_PACKET: Final = refused("bad_packet")
BAD_VERSION: Final = refused("bad_version")
TOO_LARGE: Final = refused("too_large")
NO_IDENTIFIER: Final = refused("no_identifier")

UNSUPPORTED: Final = "bad_version"
REASONS: Final = {
    UNSUPPORTED: (1, 0x84),
    "bad_packet": (0, 0x81),
    "no_identifier": (2, 0x85),
    "too_large": (0, 0x95),
    "too_many_from_source": (3, 0x9F),
}
"""
Return code of 3.1.1 and reason code of 5 for a cause. 0: such a packet is not answered
(3.1.1, MQTT-4.8.0-1).
"""
UNAVAILABLE: Final = (3, 0x88)
"The same for whatever is no fault of the client."


def sniff(data: bytes) -> NeedMore | NoMatch | Fields:
    """Find ``client`` and ``user`` in the CONNECT at the start of *data*."""
    if data[:1] and data[0] != CONNECT:
        return NOT_MQTT
    length = _remaining(data)
    if not isinstance(length, Length):
        return length
    start, size = length
    body = data[start : start + size]
    name = _name(body)
    if isinstance(name, NoMatch):
        return name
    # After the name, so that a client of another protocol is not called too large.
    if start + size > LIMIT:
        return TOO_LARGE
    if len(body) < size:
        return NEED_MORE
    if size <= len(name):
        return BAD_PACKET
    try:
        return _fields(Frame(body[len(name) :]))
    except (Malformed, UnicodeDecodeError):
        return BAD_PACKET


def refuse(cause: str, heard: bytes) -> bytes:
    """
    Return the CONNACK for *cause*, in the version of the CONNECT in *heard*.

    Empty if *heard* is no CONNECT, or its version has no answer for *cause*.
    """
    length = _remaining(heard)
    if heard[:1] != bytes([CONNECT]) or not isinstance(length, Length):
        return b""
    body = heard[length[0] :]
    code, reason = REASONS.get(cause, UNAVAILABLE)
    level = body[len(FIRST) : len(FIRST) + 1] if body.startswith(FIRST) else b""
    # A later version gets the answer of 5, because it is nearest to that; the top bit,
    # of a bridge, is no part of the version.
    if level and level[0] & ~BRIDGE >= V5:
        return bytes([0x20, 3, 0, reason, 0])
    return bytes([0x20, 2, 0, code]) if code else b""


class Length(NamedTuple):
    """The remaining length: where the bytes that it counts begin, and their number."""

    start: int
    size: int


def _name(body: bytes) -> NoMatch | bytes:
    """
    Return the protocol's name that *body* begins with, or why it is none.

    A part of *body* is enough for the name, so that the first wrong byte decides.
    """
    for name, levels in LEVELS.items():
        if name.startswith(body[: len(name)]):
            level = body[len(name) : len(name) + 1]
            return BAD_VERSION if level and level[0] not in levels else name
    return NOT_MQTT


def _remaining(data: bytes) -> NeedMore | NoMatch | Length:
    """Read the remaining length, which begins with the second byte of *data*."""
    size = 0
    for place, byte in enumerate(data[1 : 1 + LONGEST_LENGTH]):
        size |= (byte & ~MORE) << (7 * place)
        if not byte & MORE:
            return Length(2 + place, size)
    return BAD_PACKET if len(data) > LONGEST_LENGTH else NEED_MORE


def _fields(frame: Frame) -> NoMatch | Fields:
    """Read a whole CONNECT from its level on; return its fields or why it is bad."""
    level, flags = frame.number(1) & ~BRIDGE, frame.number(1)
    frame.number(2)  # keep alive
    if level == V5:
        _skip_properties(frame)
    will = bool(flags & WILL)
    qos = (flags & WILL_QOS) >> 3
    if (
        # Not in 3.1, because there these bits have no meaning and may be set.
        (level != V31 and (flags & RESERVED or (flags & WILL_DETAILS and not will)))
        or qos > 2  # noqa: PLR2004 - the highest there is
        or (level != V5 and flags & PASSWORD and not flags & USER)
    ):
        return BAD_PACKET
    client = _text(frame)
    if will:
        if level == V5:
            _skip_properties(frame)
        _text(frame)
        frame.vector(2)
    # 3.1 allows a flag without what it announces, for clients older than the flag.
    user = _text(frame) if flags & USER and (frame or level != V31) else b""
    if flags & PASSWORD and (frame or level != V31):
        frame.vector(2)
    if frame:
        return BAD_PACKET
    if not client and (level == V31 or (level == V311 and not flags & CLEAN)):
        return NO_IDENTIFIER
    return {"client": client, "user": user}


def _text(frame: Frame) -> bytes:
    """Read a text: UTF-8 without U+0000 (section 1.5.3 and 1.5.4), or it is bad."""
    text = frame.vector(2)
    if b"\0" in text:
        raise Malformed
    text.decode()
    return text


def _skip_properties(frame: Frame) -> None:
    size = 0
    for place in range(LONGEST_LENGTH):
        byte = frame.number(1)
        size |= (byte & ~MORE) << (7 * place)
        if not byte & MORE:
            frame.take(size)
            return
    raise Malformed


MQTT: Final = Sniffer(
    name="mqtt",
    sniff=sniff,
    fields=("client", "user"),
    # One more, so that the last byte of the largest CONNECT decides.
    limit=LIMIT + 1,
    refuse=refuse,
    about="MQTT 3.1, 3.1.1 and 5: the client identifier, the user name",
)
