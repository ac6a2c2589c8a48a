"""
Where the name of a session stands: in the request, and in the response that makes it.

An affinity is a value made of small functions: ``find`` takes the key out of a
request, ``learn`` out of the response with which the application announces one it
made, ``ends`` says that a session is over. A preset is such a value with a name.
Users write their own in the same way. Pure.

Invariant: the key is what the framework reads. Where two readers could read two names,
``find`` gives both, and the worker serves the request only if it owns both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from .cookies import COOKIE, SET_COOKIE, Found, cookie_readings, set_cookie_readings
from .http1 import Head
from .readings import header_readings, parameter, path_spellings, segment


class Response(Protocol):
    """
    The start of a response, as ``learn`` sees it before any of it leaves the worker.

    ``body`` is what has been produced so far, up to a few KiB; where ``status`` is
    101, it is what was sent over the WebSocket.
    """

    status: int
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""


Find = Callable[[Head], Found]
Learn = Callable[[Response], Found]
Ends = Callable[[Head, int], bool]
NamedSlot = Callable[[bytes], int | None]

OK: Final = range(200, 300)
NOT_FOUND: Final = 404
SWITCHED: Final = 101

LONGEST_VALUE: Final = 128
"Bytes of a value that stand in a key as they are; a longer one is hashed."


SLOT: Final = b"slot:"
SLOT_KEY: Final = re.compile(rb"%b([0-9]{1,5})" % SLOT)
"A key that names its slot; any other has = or ~ after the name of its affinity."


def slot_key(slot: int) -> bytes:
    """Return the key that names *slot* itself, so that no table has to remember it."""
    return b"slot:%d" % slot


def named_slot(key: bytes) -> int | None:
    """Return the slot that *key* names; None if *key* is not one of ``slot_key``'s."""
    match = SLOT_KEY.fullmatch(key) if key.startswith(SLOT) else None
    return int(match[1]) if match else None


def never(_head: Head, _status: int) -> bool:
    """Return False: no answer ends a session. The default of ``ends``."""
    return False


def clear(_head: Head) -> bool:
    """Return False: no request names two sessions. The default of ``ambiguous``."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """
    The place of a session's name: requests with the same name go to the same worker.

    Args:
        name: The affinity's name, which stands before the value in keys, status and
            logs.
        find: Returns the session's name in a request head, or None; where frameworks
            could read several, all of them, the likeliest last.
        learn: Returns a name that the application made, out of its response, or None,
            or several; for affinities whose names the client makes, leave it out.
        ends: Returns whether this request, answered with this status, ended its
            session.
        slot: Returns the slot that a name which was found or learned names by itself,
            or None; such a name is not remembered.
        ambiguous: Returns whether a request names two sessions, so that it is refused.
        sets: The cookie that the worker sets for a client that has no name yet.
        cookie: The cookie that ``find`` looks at, if it looks at one.
        stampable: Whether the names are made where a worker can put its slot in;
            ``slot`` is then set by ``affinities``.
        about: One line for the documentation.
        of_connection: Whether ``find`` looks at ``peer`` and ``sni`` only, which are
            known before the first request can be read on a TLS connection.
    """

    name: str
    find: Find
    learn: Learn | None = None
    ends: Ends = never
    slot: NamedSlot | None = None
    ambiguous: Callable[[Head], bool] = clear
    sets: bytes = b""
    cookie: bytes = b""
    stampable: bool = False
    about: str = ""
    of_connection: bool = False

    def called(self, name: str, *, about: str) -> Affinity:
        """Return a copy of this affinity with another *name* and *about*."""
        return replace(self, name=name, about=about)

    @property
    def server_made(self) -> bool:
        """Whether the server makes the names; one it has not made is not remembered."""
        return self.learn is not None or self.slot is not None

    def key(self, head: Head) -> bytes | None:
        """Return the key that *head* is placed by; None if it names no session."""
        keys = self.keys(head)
        return keys[0] if keys else None

    def keys(self, head: Head) -> tuple[bytes, ...]:
        """
        Return the key that *head* is placed by, then those of its other readings.

        Where frameworks read one name only, that is one key; empty if there is none.
        """
        return self.keys_of(self.find(head))

    def keys_of(self, found: Found) -> tuple[bytes, ...]:
        """Return the keys of what was *found* or learned, the likeliest first."""
        if not found:
            return ()
        if isinstance(found, bytes):
            return (self.key_of(found),)
        # Several names can have one key, because keys that name a slot are equal.
        return tuple(dict.fromkeys(self.key_of(value) for value in reversed(found)))

    def key_of(self, value: bytes) -> bytes:
        """
        Return the key of the session called *value*.

        It is ``slot_key`` if *value* names its slot; otherwise the affinity's name and
        *value*, or a hash of a *value* longer than LONGEST_VALUE.
        """
        if self.slot is not None and (slot := self.slot(value)) is not None:
            return slot_key(slot)
        if len(value) <= LONGEST_VALUE:
            return b"%b=%b" % (self.name.encode(), value)
        digest = hashlib.blake2b(value, digest_size=16).hexdigest()
        return b"%b~%b" % (self.name.encode(), digest.encode())


def only(values: Sequence[bytes]) -> bytes | None:
    """Return the only one of *values*; None if there is none, or more than one."""
    return values[0] if len(values) == 1 else None


def header(name: str) -> Find:
    """Return a ``find`` that reads the request header *name*."""
    return header_readings(name)


def cookie(name: str) -> Find:
    """Return a ``find`` that reads the cookie *name*, without quotes around it."""
    readings = cookie_readings(name)

    def find(head: Head) -> Found:
        lines = head.values(COOKIE)
        return readings(lines) if lines else None

    return find


def query(name: str) -> Find:
    """Return a ``find`` that reads the query parameter *name*."""
    readings = parameter(name)
    return lambda head: readings(head.query) if head.query else None


def path(number: int) -> Find:
    """Return a ``find`` for path segment *number*: in ``/rooms/7``, 2 is ``7``."""
    return lambda head: segment(head.path, number)


def host(head: Head) -> bytes | None:
    """Return the host name in lower case, without port and trailing dot."""
    return head.host or None


def ip(head: Head) -> bytes | None:
    """Return the client's address."""
    return head.peer or None


def sni(head: Head) -> bytes | None:
    """Return the host name in the client's TLS hello."""
    return head.sni or None


def where_path(pattern: bytes, find: Find) -> Find:
    """Return *find* limited to paths that contain the regular expression *pattern*."""
    search = re.compile(pattern).search

    def found(head: Head) -> Found:
        return find(head) if any(map(search, path_spellings(head.path))) else None

    return found


def response_header(name: str) -> Learn:
    """Return a ``learn`` that reads the response header *name*."""
    wanted = name.lower().encode()
    return lambda response: only(response.values(wanted))


def set_cookie(name: str) -> Learn:
    """Return a ``learn`` that reads ``Set-Cookie`` of *name*, unless it deletes it."""
    readings = set_cookie_readings(name)

    def learn(response: Response) -> Found:
        lines = response.values(SET_COOKIE)
        return readings(lines) if lines else None

    return learn


def in_body(pattern: bytes, content_type: bytes = b"") -> Learn:
    """
    Return a ``learn`` that searches the start of the response's body.

    Args:
        pattern: A regular expression; its first group is the session's name.
        content_type: The start that the media type must have; empty: any.
    """
    search = re.compile(pattern).search

    def learn(response: Response) -> Found:
        if not response.body or response.status == SWITCHED:
            return None
        media_type = only(response.values(b"content-type")) or b""
        match = search(response.body) if media_type.startswith(content_type) else None
        return match[1] if match else None

    return learn


def deleted(head: Head, status: int) -> bool:
    """Return whether *head* is a DELETE with status 2xx, or 404: it came too late."""
    return head.method == b"DELETE" and (status in OK or status == NOT_FOUND)
