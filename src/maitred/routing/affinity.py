"""
Where the name of a session stands: in the request, and in the response that makes it.

An affinity is a value made of small functions: ``find`` takes the key out of a
request, ``learn`` out of the response with which the application announces one it
made, ``ends`` says that a session is over. A preset is such a value with a name.
Users write their own in the same way. Pure.

Invariant: a name that stands there twice is not guessed at; it counts as absent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from .http1 import Head


class Response(Protocol):
    """
    What ``learn`` may look at, before any of it leaves the worker.

    ``body`` is what has been produced so far, up to a few KiB; where ``status`` is
    101, what was said over the WebSocket.
    """

    status: int
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Give the value of every header line called *name* (lower case), in order."""


Find = Callable[[Head], bytes | None]
Learn = Callable[[Response], bytes | None]
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
    """Make the key that names *slot* itself: nobody has to remember it."""
    return b"slot:%d" % slot


def named_slot(key: bytes) -> int | None:
    """Give the slot that *key* names, if it is of that kind."""
    match = SLOT_KEY.fullmatch(key) if key.startswith(SLOT) else None
    return int(match[1]) if match else None


def never(_head: Head, _status: int) -> bool:
    """Say that no answer ends a session."""
    return False


def clear(_head: Head) -> bool:
    """Say that nothing in a request is ambiguous."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """
    What makes two requests want the same worker.

    Args:
        name: Stands before the value in keys, status and logs.
        find: Takes the session's name out of a request head, or None.
        learn: Takes a name the application made out of its response, or None; for
            affinities whose names the client makes, leave it out.
        ends: Says whether this request, answered with this status, ended its session.
        slot: Says which slot a name that was found or learned names by itself, if it
            does; then nothing has to be remembered.
        ambiguous: Says that a request names two sessions, and must not be guessed at.
        sets: The cookie that the worker sets for a client that has no name yet.
        stampable: The names are made where a worker can put its slot in; ``slot`` is
            then set by ``affinities``.
        about: One line for the documentation.
        of_connection: ``find`` looks at ``peer`` and ``sni`` only, which are known
            before the first request can be read on a TLS connection.
    """

    name: str
    find: Find
    learn: Learn | None = None
    ends: Ends = never
    slot: NamedSlot | None = None
    ambiguous: Callable[[Head], bool] = clear
    sets: bytes = b""
    stampable: bool = False
    about: str = ""
    of_connection: bool = False

    def called(self, name: str, *, about: str) -> Affinity:
        """Give the same under another *name*."""
        return replace(self, name=name, about=about)

    @property
    def server_made(self) -> bool:
        """Whether the server makes the names: an unknown one is not remembered."""
        return self.learn is not None or self.slot is not None

    def key(self, head: Head) -> bytes | None:
        """Give the key that *head* is placed by, if it has one."""
        value = self.find(head)
        return self.key_of(value) if value else None

    def key_of(self, value: bytes) -> bytes:
        """Make the key of the session called *value*."""
        if self.slot is not None and (slot := self.slot(value)) is not None:
            return slot_key(slot)
        if len(value) <= LONGEST_VALUE:
            return b"%b=%b" % (self.name.encode(), value)
        digest = hashlib.blake2b(value, digest_size=16).hexdigest()
        return b"%b~%b" % (self.name.encode(), digest.encode())


def only(values: Sequence[bytes]) -> bytes | None:
    """Give the one of *values*; None when there is none, or a choice."""
    return values[0] if len(values) == 1 else None


def decoded(text: bytes) -> bytes:
    """Percent-decode *text* once."""
    return unquote_to_bytes(text) if b"%" in text else text


def header(name: str) -> Find:
    """Look at the request header *name*."""
    wanted = name.lower().encode()
    return lambda head: only(head.values(wanted))


def cookie_values(name: str) -> Callable[[bytes], list[bytes]]:
    """
    Make what lists every value that a Cookie line has for *name*.

    White space around name and value belongs to neither, as frameworks read it, so
    that a name cannot be hidden from us behind a space.
    """
    pair = re.compile(rb"(?:\A|;)[ \t]*%b[ \t]*=([^;]*)" % re.escape(name.encode()))
    return lambda line: [value.strip(b" \t") for value in pair.findall(line)]


def cookie(name: str) -> Find:
    """Look at the cookie *name*; its value is taken as sent (RFC 6265 section 5.4)."""
    values = cookie_values(name)

    def find(head: Head) -> bytes | None:
        line = only(head.values(b"cookie"))
        return None if line is None else only(values(line))

    return find


def query(name: str) -> Find:
    """Look at the query parameter *name*."""
    wanted = name.encode()

    def find(head: Head) -> bytes | None:
        if not head.query:
            return None
        pairs = [
            pair.partition(b"=") for pair in head.query.replace(b"+", b" ").split(b"&")
        ]
        return only(
            [decoded(value) for key, _, value in pairs if decoded(key) == wanted]
        )

    return find


def path(segment: int) -> Find:
    """Look at the path segment number *segment*; in ``/rooms/7`` number 2 is ``7``."""

    def find(head: Head) -> bytes | None:
        parts = head.path.split(b"/", segment + 1)
        return decoded(parts[segment]) if len(parts) > segment else None

    return find


def host(head: Head) -> bytes | None:
    """Look at the host name: lower case, without port and trailing dot."""
    return head.host or None


def ip(head: Head) -> bytes | None:
    """Look at the client's address."""
    return head.peer or None


def sni(head: Head) -> bytes | None:
    """Look at the name in the client's TLS hello."""
    return head.sni or None


def where_path(pattern: bytes, find: Find) -> Find:
    """Look with *find*, only where the path has the regular expression *pattern*."""
    search = re.compile(pattern).search
    return lambda head: find(head) if search(head.path) else None


def response_header(name: str) -> Learn:
    """Learn from the response header *name*."""
    wanted = name.lower().encode()
    return lambda response: only(response.values(wanted))


def set_cookie(name: str) -> Learn:
    """Learn from the response's ``Set-Cookie`` of *name*, unless that deletes it."""
    pair = re.compile(rb"%b=([^;]*[^; \t])" % re.escape(name.encode()))
    # Frameworks delete a cookie with an empty value, or with '""' and Max-Age=0.
    deletes = re.compile(rb"(?i);[ \t]*max-age[ \t]*=[ \t]*(?:0|-)").search

    def learn(response: Response) -> bytes | None:
        lines = response.values(b"set-cookie")
        matches = [pair.match(line) for line in lines if not deletes(line)]
        return only([match[1] for match in matches if match])

    return learn


def in_body(pattern: bytes, content_type: bytes = b"") -> Learn:
    """
    Learn from the start of the response's body.

    Args:
        pattern: A regular expression; its first group is the session's name.
        content_type: What the media type must start with.
    """
    search = re.compile(pattern).search

    def learn(response: Response) -> bytes | None:
        if not response.body or response.status == SWITCHED:
            return None
        media_type = only(response.values(b"content-type")) or b""
        match = search(response.body) if media_type.startswith(content_type) else None
        return match[1] if match else None

    return learn


def deleted(head: Head, status: int) -> bool:
    """Say that a DELETE which was done, or came too late, ends the session."""
    return head.method == b"DELETE" and (status in OK or status == NOT_FOUND)
