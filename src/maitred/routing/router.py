"""From peeked bytes to a key: the affinities, tried in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .affinity import Affinity
from .http1 import AMBIGUOUS, HEAD_LIMIT, Head, RawHead, sniff_head
from .verdict import Match, NoMatch, Verdict

KEYLESS = Match(None)


class Router:
    """Sniffs HTTP/1 and looks for the session's name."""

    def __init__(self, affinities: Sequence[Affinity], limit: int = HEAD_LIMIT) -> None:
        """
        Try *affinities* in order.

        Args:
            affinities: May be empty: then every connection is placed by policy alone.
            limit: Bytes a request head may have.
        """
        self.affinities = tuple(affinities)
        self.limit = limit

    def sniff(self, data: bytes, peer: bytes = b"") -> Verdict:
        """
        Say where a connection belongs that starts with *data*.

        Args:
            data: All bytes peeked so far.
            peer: The client's address as text.
        """
        head = sniff_head(data, peer, self.limit)
        if not isinstance(head, RawHead):
            return head
        return self.place(head)

    def place(self, head: Head) -> Match | NoMatch:
        """Say where a request with *head* belongs."""
        for affinity in self.affinities:
            if affinity.ambiguous(head):
                return AMBIGUOUS
            if key := affinity.key(head):
                return Match(key, affinity.server_made)
        return KEYLESS
