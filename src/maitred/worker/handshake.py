"""
What becomes of an offer to upgrade a connection. Pure.

WebSocket is the only protocol that the server in a worker changes to. Any other offer
is ignored, as RFC 9110 section 7.8 allows: the request is an ordinary one.

    GET, HTTP/1.1, Connection: upgrade, Upgrade: websocket    a handshake, if spoken
    anything else with an Upgrade line                        the line is left out

httptools ends *every* message that offers an upgrade with its head, so it would read
the body as the next request, which nobody has checked. Therefore an offer that is
ignored never reaches a parser, and a handshake with a body is refused (RFC 6455 section
4.1: it is a GET without one).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from maitred.routing.http1 import RawHead

UPGRADE_LINE: Final = re.compile(rb"(?i)\r\nupgrade:[^\r]*+(?=\r\n)")


def is_handshake(head: RawHead, data: bytes) -> bool:
    """
    Return whether *head* asks for a WebSocket and for nothing else.

    What else a handshake needs, its key and its version, is left to whoever answers it.

    Args:
        head: Of the request.
        data: The bytes of the head.
    """
    return (
        head.method == b"GET"
        # RFC 9110 section 7.8: an offer in HTTP/1.0 must be ignored.
        and data[: data.index(b"\r\n")].endswith(b"1.1")
        and _tokens(head.values(b"upgrade")) == [b"websocket"]
        and b"upgrade" in _tokens(head.values(b"connection"))
    )


def without_upgrade(data: bytes) -> bytes:
    """Return the head *data* without its Upgrade lines."""
    return UPGRADE_LINE.sub(b"", data)


def _tokens(values: Iterable[bytes]) -> list[bytes]:
    """Return the members of a list that may stand in several lines, in lower case."""
    return [part.strip(b" \t").lower() for part in b",".join(values).split(b",")]
