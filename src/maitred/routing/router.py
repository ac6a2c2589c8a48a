"""
From peeked bytes to a key: the affinities, tried in order. Pure.

A router per language: ``Router`` for HTTP/1, ``TlsRouter`` for TLS, where all that can
be seen is the hello.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .affinity import Affinity, clear
from .http1 import AMBIGUOUS, HEAD_LIMIT, Head, RawHead, sniff_head
from .tls import HELLO_LIMIT, ClientHello, sniff_hello
from .verdict import Match, NoMatch, Verdict

KEYLESS = Match(None)
HTTP1: Final = b"http/1."
"What ALPN calls those that are spoken here begins with this."
MOST_READINGS: Final = 8
"Names that a request may be read to have; honest ones have one, or two."


class Router:
    """Sniffs HTTP/1 and looks for the session's name."""

    def __init__(self, affinities: Sequence[Affinity], limit: int = HEAD_LIMIT) -> None:
        """
        Place by *affinities*, tried in order.

        Args:
            affinities: Without any, every connection is placed by the policy alone.
            limit: Number of bytes a request head may have.
        """
        self.affinities = affinities
        self.limit = limit

    @property
    def affinities(self) -> Sequence[Affinity]:
        """The affinities, in the order they are tried; a reload may replace them."""
        return self._affinities

    @affinities.setter
    def affinities(self, affinities: Sequence[Affinity]) -> None:
        self._affinities = tuple(affinities)
        self.server_made = any(a.server_made for a in self._affinities)
        # Looked up here once, because it is needed for each head.
        self._looks = tuple(
            (a.keys, None if a.ambiguous is clear else a.ambiguous, a.server_made)
            for a in self._affinities
        )

    def sniff(self, data: bytes, peer: bytes = b"", _stage: int = 0) -> Verdict:
        """
        Return the verdict about a connection that starts with *data*.

        Args:
            data: All bytes peeked so far.
            peer: The client's address as text.
        """
        head = sniff_head(data, peer, self.limit)
        if not isinstance(head, RawHead):
            return head
        return self.place(head)

    def place(self, head: Head) -> Match | NoMatch:
        """
        Return the key that a request with *head* is placed by, as a match.

        AMBIGUOUS if it names two sessions, or has more readings than MOST_READINGS.
        """
        for keys_of, is_ambiguous, server_made in self._looks:
            if is_ambiguous is not None and is_ambiguous(head):
                return AMBIGUOUS
            if keys := keys_of(head):
                if len(keys) == 1:
                    return Match(keys[0], server_made)
                if len(keys) > MOST_READINGS:
                    return AMBIGUOUS
                return Match(keys[0], server_made, keys[1:])
        return KEYLESS


class HelloHead:
    """A head (``Head``) of which only the connection is known."""

    method = path = query = host = b""

    def __init__(self, peer: bytes, sni: bytes) -> None:
        """Store the client's address *peer*, and *sni*, the host name in its hello."""
        self.peer = peer
        self.sni = sni

    def values(self, _name: bytes) -> list[bytes]:
        """Return no header line, because they are encrypted."""
        return []

    alike = values


NO_PROTOCOL: Final = NoMatch(505, "no_protocol")


class TlsRouter:
    """Sniffs a ClientHello, and looks for what is known of a session by then."""

    def __init__(
        self, affinities: Sequence[Affinity], limit: int = HELLO_LIMIT
    ) -> None:
        """
        Place by those of *affinities* that need no request, tried in order.

        Args:
            affinities: The others are left to the worker, which decrypts requests.
            limit: Number of bytes a hello may have.
        """
        self.affinities = tuple(affinities)
        self.limit = limit

    def sniff(self, data: bytes, peer: bytes = b"", _stage: int = 0) -> Verdict:
        """
        Return the verdict about a connection that starts with *data*.

        Args:
            data: All bytes peeked so far.
            peer: The client's address as text.
        """
        hello = sniff_hello(data, self.limit)
        if not isinstance(hello, ClientHello):
            return hello
        if hello.alpn and not any(p.startswith(HTTP1) for p in hello.alpn):
            return NO_PROTOCOL
        head = HelloHead(peer, hello.sni)
        for affinity in self.affinities:
            if affinity.of_connection and (key := affinity.key(head)):
                return Match(key, affinity.server_made)
        return KEYLESS
