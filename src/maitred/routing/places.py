"""
Further places where frameworks put the name of a session. Pure.

Each is a ``find`` or a ``learn`` for an Affinity, as those in ``affinity``, or makes
one out of others.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable
from typing import Final

from .affinity import SWITCHED, Find, Learn, Response, in_body
from .cookies import Found, distinct
from .http1 import Head
from .readings import path_spellings

CREATED: Final = 201
SESSION_ID: Final = re.compile(rb'"session_id": *"([^"\\]+)"')


def first_of(*finds: Find) -> Find:
    """Return a ``find`` that calls *finds* in order until one finds a name."""

    def first(head: Head) -> Found:
        for find in finds:
            if found := find(head):
                return found
        return None

    return first


def nowhere(_: object) -> None:
    """Return None; for servers whose names a hook in the framework reports instead."""


def in_path(pattern: bytes) -> Find:
    """Return a ``find`` that searches the path; *pattern*'s first group is the name."""
    search = re.compile(pattern).search

    def find(head: Head) -> Found:
        matches = map(search, path_spellings(head.path))
        return distinct(match[1] for match in matches if match)

    return find


def subprotocol(number: int) -> Find:
    """Return a ``find`` for entry *number*, from 1, of Sec-WebSocket-Protocol."""

    def find(head: Head) -> bytes | None:
        # Several lines are one list (RFC 9110 section 5.3).
        entries = b",".join(head.values(b"sec-websocket-protocol")).split(b",")
        return entries[number - 1].strip() if len(entries) >= number else None

    return find


def through(find: Find, read: Callable[[bytes], bytes | None]) -> Find:
    """Return a ``find`` that passes what *find* finds through *read*."""

    def found(head: Head) -> Found:
        value = find(head)
        if not value:
            return None
        if isinstance(value, bytes):
            return read(value)
        return distinct(filter(None, map(read, value)))

    return found


def unmasked(value: bytes) -> bytes | None:
    """
    Return the token in *value*, ``2|mask|masked token|time``; None if there is none.

    Mask and token are in hexadecimal. The mask changes with every response, the token
    does not.
    """
    parts = value.strip(b"\"'").split(b"|")
    if len(parts) != len(("2", "mask", "masked", "time")) or parts[0] != b"2":
        return None
    try:
        mask, masked = binascii.unhexlify(parts[1]), binascii.unhexlify(parts[2])
    except binascii.Error:
        return None
    token = bytes(a ^ b for a, b in zip(masked, itertools.cycle(mask), strict=False))
    return binascii.hexlify(token)


def session_of_token(token: bytes) -> bytes | None:
    """
    Return the ``session_id`` in *token*; None if it has none.

    A token is a JSON object in base64url, then perhaps a dot and a signature, which is
    not checked: the worker does that.
    """
    text, _, _ = token.partition(b".")
    try:
        decoded_text = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None
    match = SESSION_ID.search(decoded_text)
    return match[1] if match else None


def created(pattern: bytes, content_type: bytes) -> Learn:
    """Return the ``learn`` of ``in_body``, limited to responses with status 201."""
    read = in_body(pattern, content_type)
    return lambda response: read(response) if response.status == CREATED else None


def in_messages(pattern: bytes) -> Learn:
    """
    Return a ``learn`` that searches what the application sends first by WebSocket.

    Args:
        pattern: A regular expression; its first group is the session's name.
    """
    search = re.compile(pattern, re.DOTALL).search

    def learn(response: Response) -> bytes | None:
        match = search(response.body) if response.status == SWITCHED else None
        return match[1] if match else None

    return learn
