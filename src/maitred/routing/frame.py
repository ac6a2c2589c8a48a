"""
Reading numbers and vectors from the front of a frame, for sniffers. Pure.

Invariant: nothing beyond the frame is ever read; what would be raises ``Malformed``.
"""

from __future__ import annotations


class Malformed(Exception):
    """A length leads beyond its frame."""


class Frame:
    """Bytes that are read from the front."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        """Start at the front of *data*."""
        self._data = data
        self._at = 0
        self._end = len(data)

    def __bool__(self) -> bool:
        return self._at < self._end

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes; raise Malformed if there are fewer."""
        start, self._at = self._at, self._at + count
        if self._at > self._end:
            raise Malformed
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        """Return the big-endian number in the next *size* bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int, least: int = 0) -> bytes:
        """Read a count of *size* bytes, at least *least*, and return as many bytes."""
        count = self.number(size)
        if count < least:
            raise Malformed
        return self.take(count)
