"""
AMF 0, the values in the commands of RTMP. Pure.

    0 number   8 bytes        3 object   (length, name, value)*, 0, 0, 9
    1 boolean  1 byte         8 the same, after a count
    2 string   length, text   10 array   count, values
    5, 6 null, undefined      11 date    10 bytes        12 string with a long length

(Adobe, "Action Message Format -- AMF 0", section 2.) Only texts and what holds them
are given; numbers and whatever else are read over.

Invariant: what is no value, or goes deeper than DEEPEST, is ``Malformed``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from .frame import Frame, Malformed

NUMBER, BOOLEAN, STRING, OBJECT, NULL, UNDEFINED = 0, 1, 2, 3, 5, 6
MAP, END, ARRAY, DATE, LONG_STRING = 8, 9, 10, 11, 12
SIZES: Final = {NUMBER: 8, BOOLEAN: 1, NULL: 0, UNDEFINED: 0, DATE: 10}
"Bytes of values that are read over."
DEEPEST: Final = 8
NOTHING: Final = bytes([NULL])

Value = bytes | dict[bytes, "Value"] | None


def value(frame: Frame, depth: int = 0) -> Value:
    """
    Read the next value of *frame*; return None if it is neither text nor object.

    Args:
        frame: Its position is behind the value afterwards.
        depth: Number of values around this one.

    Raises:
        Malformed: No value stands there, or it is nested deeper than DEEPEST.
    """
    kind = frame.number(1)
    if depth > DEEPEST:
        raise Malformed
    if kind in SIZES:
        frame.take(SIZES[kind])
        return None
    if kind == STRING:
        return frame.vector(2)
    if kind == LONG_STRING:
        return frame.vector(4)
    if kind == ARRAY:
        for _ in range(frame.number(4)):
            value(frame, depth + 1)
        return None
    if kind == MAP:
        frame.take(4)
    elif kind != OBJECT:
        raise Malformed
    return _members(frame, depth)


def _members(frame: Frame, depth: int) -> dict[bytes, Value]:
    found: dict[bytes, Value] = {}
    while name := frame.vector(2):
        found[name] = value(frame, depth + 1)
    if frame.number(1) != END:
        raise Malformed
    return found


def text(said: bytes) -> bytes:
    """Return *said*, of less than 64 KiB, encoded as a string."""
    return bytes([STRING]) + len(said).to_bytes(2, "big") + said


def number(said: float) -> bytes:
    """Return *said* encoded as a number."""
    return bytes([NUMBER]) + struct.pack("!d", said)


def members(said: Mapping[bytes, bytes]) -> bytes:
    """Return the texts *said*, by name, encoded as an object."""
    inner = b"".join(text(name)[1:] + text(value) for name, value in said.items())
    return bytes([OBJECT]) + inner + bytes([0, 0, END])
