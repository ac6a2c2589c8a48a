"""
The head of an HTTP/1 request, recognised in peeked bytes. Pure.

    GET /chat?room=7 HTTP/1.1 CRLF      request line: method, target, version
    Host: example.org CRLF              header lines: name, ":", value
    Cookie: a=1; b=2 CRLF
    CRLF                                the end of the head

One empty line before it is skipped (RFC 9112 section 2.2); it counts as a part of it.

We are stricter than the parsers in the workers on purpose: a head that two
parsers could read in two ways is no ground for a decision, so it is answered with
400 here and repaired nowhere (RFC 9112 section 2.2, 3, 5). The worker reads the raw
bytes with its own parser and has the last word.

Invariant: only the first ``limit`` bytes count, and the same bytes give the same
answer however they arrive.
"""

from __future__ import annotations

import functools
import re
from typing import Final, Protocol

from .verdict import NEED_MORE, NeedMore, NoMatch

HEAD_LIMIT: Final = 16 * 1024
"""
Bytes a request head may have: what Node allows (16 KiB); nginx and Apache allow 8 KiB
for a line, gunicorn about 8 KiB for a header.
"""

TLS_HANDSHAKE: Final = 0x16
"The first byte of a TLS record that holds a ClientHello (RFC 8446 section 5.1)."

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 section 5.6.2
VISIBLE: Final = rb'[!"$-~]'  # ASCII without "#", which no client may send
# Origin, asterisk or absolute form (RFC 9112 section 3.2). The fourth, authority form,
# is for CONNECT, after which there is no HTTP to route; parsers disagree about both.
TARGET: Final = rb"(?:/%b*|\*|(?i:https?)://%b+)" % (VISIBLE, VISIBLE)

REQUEST_LINE: Final = rb"(?!CONNECT )(%b{1,32}) (%b) HTTP/1\.([01])\r\n" % (
    TOKEN,
    TARGET,
)
HEADER_LINE: Final = rb"%b+:[\t\x20-\x7e\x80-\xff]*+\r\n" % TOKEN
HEAD: Final = re.compile(rb"%b((?:%b)*+)\r\n" % (REQUEST_LINE, HEADER_LINE))

# What shows, before the head is complete, that it never will be one.
CRLF: Final = b"\r\n"
EMPTY_SO_FAR: Final = (b"", b"\r", CRLF)
METHOD_SO_FAR: Final = re.compile(rb"%b{1,32}(?: |\Z)" % TOKEN)
LINE_SO_FAR: Final = re.compile(rb"(?s)[^\n]*\n")
FIRST_LINE: Final = re.compile(REQUEST_LINE)
OTHER_VERSION: Final = re.compile(
    rb"%b{1,32} %b HTTP/(?!1\.[01])[0-9](?:\.[0-9])?\r\n" % (TOKEN, TARGET)
)
NEVER_IN_HEAD: Final = re.compile(rb"\0|\r(?![\n]|\Z)|(?<!\r)\n")

AUTHORITY: Final = re.compile(
    rb"(?P<name>[A-Za-z0-9._~%!$&'()*+;=-]+"
    # With a zone, as in fe80::1%eth0 or, in a URI, fe80::1%25eth0 (RFC 6874): clients
    # should keep it to themselves, and some do not.
    rb"|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~%-]+)?\])(?::[0-9]{0,5})?\Z"
)
# With a path: without one, httptools has none to give and h11 gives all of it.
ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?]*)(/.*)")
LENGTH: Final = re.compile(rb"[0-9]{1,19}")  # llhttp counts in 64 bits


class Head(Protocol):
    """
    A request without its body: all that an affinity may look at.

    The master builds it from peeked bytes, the worker from what its parser says.
    ``path`` is as the client sent it, ``query`` is what follows the "?", ``host`` is
    without port and trailing dot and in lower case, ``peer`` is the client's address,
    ``sni`` is the name in its ClientHello, empty without TLS.
    """

    method: bytes
    path: bytes
    query: bytes
    host: bytes
    peer: bytes
    sni: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""

    def alike(self, name: bytes) -> list[bytes]:
        """
        Return the values of all lines whose name is *name* under WSGI.

        There ``_`` in a name counts as ``-``.

        Args:
            name: In lower case and with ``-``.
        """


class RawHead:
    """A head as it stands in the peeked bytes; header lines are looked up on demand."""

    __slots__ = (
        "_alike",
        "_lines",
        "_lower",
        "host",
        "length",
        "method",
        "path",
        "peer",
        "query",
        "size",
        "sni",
    )

    def __init__(self, method: bytes, target: bytes, lines: bytes, peer: bytes) -> None:
        """
        Store the parts of a head that was recognised; ``_settle`` completes them.

        Args:
            method: The method as sent.
            target: The request target in origin form, or ``*``.
            lines: All header lines, each with its CRLF, with an LF before the first.
            peer: The client's address as text, empty if it has none.
        """
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.host = b""
        self.peer = peer
        self.sni = b""
        # Bytes of the head, and of the body after it; None: the body is chunked.
        self.size = 0
        self.length: int | None = 0
        self._lines = lines
        self._lower = lines.lower()
        # With "_" as "-"; made when it is asked for, and mostly the same.
        self._alike: bytes | None = None

    def has(self, text: bytes) -> bool:
        """Return whether *text* (lower case) stands anywhere in the header lines."""
        return text in self._lower

    def values(self, name: bytes, lines: bytes | None = None) -> list[bytes]:
        """Return the value of every line called *name* (lower case), in order."""
        # Names are looked for in *lines*, a copy of the head's in another spelling;
        # values are cut from the head itself, because their case counts.
        if lines is None:
            lines = self._lower
        mark = b"\n%b:" % name
        at = lines.find(mark)
        if at < 0:
            return []
        found = []
        while at >= 0:
            end = self._lines.index(b"\r", at)
            found.append(self._lines[at + len(mark) : end].strip(b" \t"))
            at = lines.find(mark, end)
        return found

    def alike(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name*, where ``_`` counts as ``-``."""
        lines = self._alike
        if lines is None:
            lines = self._alike = self._lower.replace(b"_", b"-")
        return self.values(name, lines)


BAD_REQUEST: Final = NoMatch(400, "bad_request")
BAD_HOST: Final = NoMatch(400, "bad_host")
AMBIGUOUS: Final = NoMatch(400, "ambiguous_session")
TLS: Final = NoMatch(400, "tls")
BAD_VERSION: Final = NoMatch(505, "bad_version")
TOO_LARGE: Final = NoMatch(431, "head_too_large")


def sniff_head(
    data: bytes, peer: bytes = b"", limit: int = HEAD_LIMIT
) -> NeedMore | RawHead | NoMatch:
    """
    Parse the request head at the start of *data*.

    Args:
        data: All bytes peeked so far.
        peer: The client's address as text.
        limit: Number of bytes the head may have.
    """
    if len(data) > limit:
        # Cut, because the answer must not depend on how many bytes came at once.
        data = data[:limit]
    start = len(CRLF) if data.startswith(CRLF) else 0
    if match := HEAD.match(data, start):
        method, target, minor, _ = match.groups()
        head = RawHead(method, target, data[match.start(4) - 1 : match.end(4)], peer)
        head.size = match.end()
        return _settle(head, target, minor) or head
    if data in EMPTY_SO_FAR:
        return TOO_LARGE if data and len(data) == limit else NEED_MORE
    return _why_not(data[start:], is_full=len(data) == limit)


def _why_not(data: bytes, *, is_full: bool) -> NeedMore | NoMatch:
    """
    Return NEED_MORE if *data*, which is no head yet, may become one, or why not.

    Args:
        data: The bytes behind the empty line, if there is one.
        is_full: Whether the limit is reached, with that line.
    """
    # Told apart, because the mistake is common and has an error of its own.
    if data[0] == TLS_HANDSHAKE:
        return TLS
    if not METHOD_SO_FAR.match(data):
        return BAD_REQUEST
    if LINE_SO_FAR.match(data) and not FIRST_LINE.match(data):
        return BAD_VERSION if OTHER_VERSION.match(data) else BAD_REQUEST
    if b"\r\n\r\n" in data or NEVER_IN_HEAD.search(data):
        return BAD_REQUEST
    return TOO_LARGE if is_full else NEED_MORE


def _settle(head: RawHead, target: bytes, minor: bytes) -> NoMatch | None:
    """Set the host and the length of *head*; return what makes them ambiguous."""
    if target == b"*" and head.method != b"OPTIONS":
        return BAD_REQUEST
    if not _settle_end(head, minor):
        return BAD_REQUEST
    return None if _settle_host(head, target, minor) else BAD_HOST


def _settle_end(head: RawHead, minor: bytes) -> bool:
    """
    Set the length of the body; return whether every parser finds the same.

    Both of Content-Length and Transfer-Encoding, or one of them twice, is how requests
    are smuggled (RFC 9112 section 6.1, 6.3). h11 lets equal lengths pass and prefers
    the encoding to a length; httptools takes more encodings than "chunked"; both take
    one in HTTP/1.0.
    """
    if not head.has(b"\ncontent-length:") and not head.has(b"\ntransfer-encoding:"):
        return True
    lengths = head.values(b"content-length")
    encodings = head.values(b"transfer-encoding")
    if encodings:
        head.length = None
        chunked = [encoding.lower() for encoding in encodings] == [b"chunked"]
        return not lengths and minor == b"1" and chunked
    if lengths:
        if len(lengths) > 1 or not LENGTH.fullmatch(lengths[0]):
            return False
        head.length = int(lengths[0])
    return True


def _settle_host(head: RawHead, target: bytes, minor: bytes) -> bool:
    """
    Set the host of *head*; return whether every parser finds the same.

    HTTP/1.1 needs exactly one Host (RFC 9112 section 3.2), which may be empty if the
    target has no authority (RFC 9110 section 7.2). The authority of a target in
    absolute form must equal it, because some parsers let the target win and others the
    header.
    """
    origin = target.startswith((b"/", b"*"))
    hosts = head.values(b"host")
    if not hosts:
        return minor == b"0" and origin
    host = normal_host(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return False
    head.host = host
    if origin:
        return True
    absolute = ABSOLUTE.match(target)
    if absolute is None or not host or absolute[1].lower() != hosts[0].lower():
        return False
    head.path, _, head.query = absolute[2].partition(b"?")
    return True


@functools.lru_cache(maxsize=1024)
def normal_host(value: bytes) -> bytes | None:
    """
    Return the name in *value* of a Host header: lower case, no port, no trailing dot.

    None if *value* is not one host and perhaps one port; empty if *value* is empty.
    """
    if not value:
        return b""
    authority = AUTHORITY.match(value)
    return authority["name"].lower().removesuffix(b".") if authority else None
