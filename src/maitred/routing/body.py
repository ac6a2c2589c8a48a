"""
Where a request's body ends, so that what follows is known to be the next request. Pure.

The sniffer lets only heads pass whose body has one possible end: a Content-Length, or
the chunked coding alone (RFC 9112 section 6.3, 7.1):

    4;ext=1 CRLF        size in hexadecimal, perhaps extensions
    abcd CRLF           that many bytes
    0 CRLF              the last chunk
    Trailer: x CRLF     perhaps trailers
    CRLF

Invariant: whoever reads the same bytes strictly finds the same end. A body that a
lenient reader could end elsewhere is bad, and nothing after it is a request.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from .http1 import HEADER_LINE, RawHead

SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e]*)?\r\n")
TRAILER_LINE: Final = re.compile(HEADER_LINE)
LONGEST_LINE: Final = 4096
MOST_TRAILER_LINES: Final = 64


class Body(Protocol):
    """
    The body of one request, as it passes by.

    ``done`` is set behind its last byte, ``bad`` where it has no end that everybody
    would find.
    """

    done: bool
    bad: bool

    def take(self, data: bytes) -> int:
        """Consume what belongs to the body; return its number of bytes in *data*."""


class Sized:
    """A body of a known number of bytes, often none."""

    __slots__ = ("bad", "done", "left")

    def __init__(self, length: int) -> None:
        """Start a body of *length* bytes; with 0 it is done."""
        self.left = length
        self.done = not length
        self.bad = False

    def take(self, data: bytes) -> int:
        """Consume what belongs to the body; return its number of bytes in *data*."""
        count = min(len(data), self.left)
        self.left -= count
        self.done = not self.left
        return count


class Chunked:
    """A body in chunks."""

    __slots__ = ("_left", "_line", "_trailers", "bad", "done")

    def __init__(self) -> None:
        """Start before the line with the first chunk's size."""
        self.done = False
        self.bad = False
        self._left = 0  # of the chunk that passes by, its CRLF included
        self._line = b""  # what is there of a line that is not complete
        self._trailers = -1  # how many there were; -1: the last chunk is to come

    def take(self, data: bytes) -> int:
        """Consume what belongs to the body; return its number of bytes in *data*."""
        at = 0
        while at < len(data) and not self.done and not self.bad:
            at = (
                self._chunk(data, at)
                if self._left > len(CRLF)
                else self._text(data, at)
            )
        return at

    def _chunk(self, data: bytes, at: int) -> int:
        """Skip the content of a chunk from *at*; return where the rest begins."""
        count = min(len(data) - at, self._left - len(CRLF))
        self._left -= count
        return at + count

    def _text(self, data: bytes, at: int) -> int:
        """
        Read a line, or a part of it, from *at*; return where the rest begins.

        The line is the end of a chunk, a size, or a trailer.
        """
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            self._heed(line)
        elif len(self._line) > LONGEST_LINE:
            self.bad = True
        return end

    def _heed(self, line: bytes) -> None:
        if self._left:
            self._left = 0
            self.bad = line != CRLF
        elif self._trailers < 0:
            size = SIZE_LINE.fullmatch(line)
            self.bad = size is None
            if size is not None and (length := int(size[1], 16)):
                self._left = length + len(CRLF)
            else:
                self._trailers = 0
        elif line == CRLF:
            self.done = True
        else:
            self._trailers += 1
            self.bad = (
                TRAILER_LINE.fullmatch(line) is None
                or self._trailers > MOST_TRAILER_LINES
            )


CRLF: Final = b"\r\n"


def body_of(head: RawHead) -> Body:
    """Return the body that follows *head*, before its first byte."""
    return Chunked() if head.length is None else Sized(head.length)
