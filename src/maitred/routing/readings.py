"""
What a framework would read for a name in the query, the path and the headers. Pure.

As ``cookies`` does for cookies: every value that some framework reads, the likeliest
last. Frameworks take the first or the last of two equal parameters, split the path
before or after they decode it, and join header lines or do not; under WSGI a header
``X_Session`` is ``X-Session``.

Invariant: for each framework in tests/contract/test_readers.py, the value that it reads
is among those found, or it reads none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from .cookies import Found, distinct
from .http1 import Head

NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f]")
ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
SLASHES: Final = re.compile(rb"//+")


def decoded(text: bytes) -> bytes:
    """Return *text*, percent-decoded once."""
    return unquote_to_bytes(text) if b"%" in text else text


def as_text(value: bytes) -> bytes:
    """Return *value* as frameworks decode it, with U+FFFD for what is no UTF-8."""
    return value if value.isascii() else value.decode("utf-8", "replace").encode()


def parameter(name: str) -> Callable[[bytes], Found]:
    """Return a function that returns the readings of parameter *name* in a query."""
    wanted = name.encode()

    def readings(query: bytes) -> Found:
        """Return every value that a framework could read in *query*."""
        pairs = [pair.partition(b"=") for pair in query.replace(b"+", b" ").split(b"&")]
        found = [value for key, _, value in pairs if value and decoded(key) == wanted]
        # Returned at once, because nothing in it can be read in two ways.
        if len(found) == 1 and found[0].isalnum():
            return found[0]
        return distinct(text for value in found for text in _spelled(decoded(value)))

    return readings


def _spelled(value: bytes) -> Iterator[bytes]:
    """Yield each text that a framework makes of a parameter's *value*."""
    text = value.decode("utf-8", "surrogateescape")
    yield CONTROL.sub(" ", as_text(value).decode()).strip().encode()  # Tornado
    yield NOT_UTF8.sub(_requoted, text).encode()  # Werkzeug
    yield as_text(value)


def _requoted(match: re.Match[str]) -> str:
    return f"%{ord(match[0]) - 0xDC00:02X}"


def _valid_alone(escapes: re.Match[bytes]) -> bytes:
    """Return *escapes* decoded, but as they are where they are no UTF-8."""
    written, at, parts = escapes[0], 0, list[bytes]()
    raw = unquote_to_bytes(written)
    for char in raw.decode("utf-8", "surrogateescape"):
        end = at + len(char.encode("utf-8", "surrogateescape"))
        stays = NOT_UTF8.match(char)
        parts.append(written[3 * at : 3 * end] if stays else raw[at:end])
        at = end
    return b"".join(parts)


def path_spellings(path: bytes) -> tuple[bytes, ...]:
    """
    Return *path* in each form in which a framework looks for its parts.

    The last is the one that ASGI and WSGI applications get: decoded as a whole.
    """
    if b"%" not in path and b"//" not in path:
        return (path,)
    whole = as_text(decoded(path))
    return (SLASHES.sub(b"/", whole), whole)


def segment(path: bytes, number: int) -> Found:
    """Return every value that segment *number* of *path* could have."""
    if b"%" not in path and b"//" not in path:
        parts = path.split(b"/", number + 1)
        return parts[number] or None if len(parts) > number else None
    # Tornado and aiohttp divide the path, then decode the parts; Tornado and Werkzeug
    # take several slashes at its start for one.
    apart = (path, b"/" + path.lstrip(b"/"))
    divided = [way.split(b"/") for way in apart]
    # aiohttp leaves what is no UTF-8 as it was written.
    ways = [[ESCAPES.sub(_valid_alone, part) for part in way] for way in divided]
    ways += [[as_text(decoded(part)) for part in way] for way in divided]
    ways += [spelled.split(b"/") for spelled in path_spellings(path)]
    return distinct(parts[number] for parts in ways if len(parts) > number)


def header_readings(name: str) -> Callable[[Head], Found]:
    """Return a function that returns the readings of the header *name* in a head."""
    wanted = name.lower().encode()
    dashed = wanted.replace(b"_", b"-")

    def readings(head: Head) -> Found:
        """Return every value that a framework could read in *head*."""
        alike = head.alike(dashed)
        if not alike:
            return None
        if len(alike) == 1:
            return alike[0] or None
        # ASGI applications see the names as sent, WSGI ones all of them as alike.
        exact = head.values(wanted)
        joined = (b",".join(alike), b",".join(exact))
        return distinct((*joined, *alike, *exact, (exact or alike)[0]))

    return readings
