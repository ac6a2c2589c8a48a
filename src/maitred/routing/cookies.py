"""
The one reader of cookies: what a framework would read, in requests and responses. Pure.

Frameworks agree on what a browser sends, and differ in the rest: which of two equal
names counts, whether a quoted value may contain ";", which white space belongs to a
value. So the reader finds every value that some framework would read for a name. Most
requests have one; where there are several, the last is the one that most frameworks
take, and the worker serves the request only if all of them are its own.

    sid=v    sid="v"    a=1; sid=v    sid=v; sid=v    in two lines      v
    sid=old; sid=v                                                      old, then v
    sid="a;b"                                                           a;b, then "a

Invariant: for each framework in tests/contract/test_readers.py, the value that it reads
is among those found, or it reads none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

Found = bytes | tuple[bytes, ...] | None
"A name; or each, once, that some framework could read, the likeliest last; or none."

COOKIE: Final = b"cookie"
SET_COOKIE: Final = b"set-cookie"

OCTET: Final = rb"[!#-:<-\[\]-~]"
"What a value consists of (RFC 6265 section 4.1.1), and the comma."
ESCAPED: Final = re.compile(r"\\([0-3][0-7]{2}|.)")
ESCAPED_BYTES: Final = re.compile(ESCAPED.pattern.encode())
QUOTED: Final = re.compile(r'"(?:[^\\"]|\\.)*"')
CLOSED: Final = re.compile(QUOTED.pattern + r"(?:[\s;]|\Z)")
UNCLOSED: Final = re.compile(r'("[^";]*)\s[^\s";]*"')
"A quotation up to the last white space before another quote."
BEFORE: Final = rb'(?:\A|(?<=[;,\s"\x80-\xff]))'
"What may stand before a name, for one reader or another."
DELETES: Final = re.compile(rb"(?i);[ \t]*max-age[ \t]*=[ \t]*(?:0|-)")


def distinct(values: Iterable[bytes]) -> Found:
    """Return the *values* that are not empty, each once, the likeliest last."""
    # Reversed, because of two equal values the later one is the likelier.
    ordered = dict.fromkeys(value for value in reversed([*values]) if value)
    if len(ordered) <= 1:
        return next(iter(ordered), None)
    return tuple(reversed(ordered))


def one_line(lines: Sequence[bytes]) -> bytes:
    """Return the Cookie *lines* of a request as one (RFC 9113 section 8.2.3)."""
    return lines[0] if len(lines) == 1 else b"; ".join(lines)


def cookie_readings(name: str) -> Callable[[Sequence[bytes]], Found]:
    """Return a function that returns the readings of *name* in Cookie lines."""
    wanted = name.encode()
    escaped = re.escape(wanted)
    plain = re.compile(
        rb'(?:\A|;)[ \t]*+%b[ \t]*+=[ \t]*+("?)(%b*+)\1[ \t]*+(?:;|\Z)'
        % (escaped, OCTET)
    ).search
    anywhere = re.compile(rb"%b%b[\s\x80-\xff]*=" % (BEFORE, escaped))
    slow = _every_reading(name)

    def readings(lines: Sequence[bytes]) -> Found:
        """Return every value that a framework could read in *lines*."""
        line = one_line(lines)
        times = line.count(wanted)
        if times > 1:  # in the names and values of other cookies, most often
            times = len(anywhere.findall(line))
        if not times:
            return None
        # Where the name stands once, after a semicolon, and the value is made of what a
        # cookie may contain, no reader finds another value.
        if times == 1 and (match := plain(line)):
            return match[2] or None
        return slow(line)

    return readings


def _every_reading(name: str) -> Callable[[bytes], Found]:
    """Return a function that returns the readings of *name* in any Cookie line."""
    start = re.compile(rf'(?:\A|(?<=[;,\s"])){re.escape(name)}\s*=')
    between = re.compile(r"(?:\A|;)\s*\Z")

    def readings(line: bytes) -> Found:
        """Return every value that a framework could read in *line*."""
        found: list[bytes] = []
        last: list[bytes] = []
        # Django decodes under WSGI what is Latin-1 for others. White space, and an
        # escape in octal, mean something else then.
        for codec in ("utf-8", "latin-1"):
            text = line.decode(codec, "replace")
            for match in start.finditer(text):
                values = [
                    value.encode(codec, "replace")
                    for value in _values(text[match.end() :])
                ]
                found += values
                if between.search(text[: match.start()]):
                    last = values
        return distinct(found + last)

    return readings


def _values(text: str) -> Iterator[str]:
    """Yield each value that a framework could read at the start of *text*."""
    chunk = text.partition(";")[0]
    value = chunk.strip()
    start = text.lstrip()
    # aiohttp ends a quotation that it cannot read at a space, too.
    if not CLOSED.match(start) and (unclosed := UNCLOSED.match(start)):
        yield unclosed[1]
    if quoted := QUOTED.match(start):
        escaped = quoted[0][1:-1].encode()
        yield ESCAPED_BYTES.sub(_unescape_bytes, escaped).decode("utf-8", "replace")
        yield unquoted(quoted[0])
    elif words := value.split():
        yield unquoted(words[0])  # http.cookies and aiohttp end a value at a space
    yield unquoted(chunk.strip(" \t"))
    yield unquoted(value)


def unquoted(text: str) -> str:
    """Return *text* without the quotes around it and its escapes decoded, if quoted."""
    if len(text) < len('""') or text[0] != '"' or text[-1] != '"':
        return text
    return ESCAPED.sub(_unescape, text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    escaped = match[1]
    return chr(int(escaped, 8)) if len(escaped) > 1 else escaped


def _unescape_bytes(match: re.Match[bytes]) -> bytes:
    escaped = match[1]  # as Werkzeug does: an escape is a byte of UTF-8
    return bytes([int(escaped, 8)]) if len(escaped) > 1 else escaped


def set_cookie_readings(name: str) -> Callable[[Sequence[bytes]], Found]:
    """
    Return a function that returns the values a client may send back for *name*.

    The function reads Set-Cookie lines. A line that deletes the cookie, which
    frameworks do with an empty value, or with ``""`` and Max-Age=0, has no value.
    """
    wanted = name.encode()

    def readings(lines: Sequence[bytes]) -> Found:
        """Return every value that *lines* set."""
        return distinct(set_value(line) for line in lines if set_name(line) == wanted)

    return readings


def set_name(line: bytes) -> bytes:
    """Return the name of the cookie that a Set-Cookie *line* sets."""
    return line.partition(b";")[0].partition(b"=")[0].strip(b" \t")


def set_value(line: bytes) -> bytes:
    """Return the value that a Set-Cookie *line* sets; empty where it deletes."""
    if DELETES.search(line):
        return b""
    value = line.partition(b";")[0].partition(b"=")[2].strip(b" \t")
    return unquoted(value.decode("latin-1")).encode("latin-1")
