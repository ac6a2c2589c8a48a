"""
What the runtime knows of one connection, as those see it who serve or report it.

``runtime.Visit`` is all of them. They are declared here, once, so that whoever serves a
connection need not import whoever hands it over.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from maitred.routing import NoMatch
from maitred.routing.http1 import RawHead

from .gate import Asked, Elsewhere
from .marks import Mark, Unmarked
from .transports import Ends


class Visit(Protocol):
    """One connection, for whoever serves it."""

    id: int
    prefix: bytes
    client: tuple[str, int] | None

    @property
    def key(self) -> bytes:
        """Return what the connection was last placed by; empty if by nothing."""

    def taken(self) -> None:
        """Send TAKEN: the connection is marked or idle, was read from, or ended."""

    def closed(self) -> None:
        """Send CLOSED; called once, unless the connection was returned."""


class HttpVisit(Visit, Protocol):
    """One connection of requests, each of which may belong elsewhere."""

    hops: int
    peer: bytes
    ends: Ends | None
    idle: bool
    mark: Mark | Unmarked
    head_limit: int
    head_timeout: float
    sni: bytes | None
    told: Callable[[bool], None]

    @property
    def slot(self) -> int:
        """Return the slot of this worker."""

    def belongs(self, head: RawHead) -> Elsewhere | Asked | NoMatch | None:
        """
        Return where a request belongs, or why it is refused; None: here.

        After Asked, ``told`` is called with the answer.
        """

    def returned(
        self,
        sock: socket.socket,
        to: Elsewhere,
        unread: bytes,
        sent: Callable[[], None],
    ) -> None:
        """Return *sock* to the master with *unread*, soon; then call *sent*."""


class StreamVisit(Visit, Protocol):
    """One connection that an application of another kind reads and writes."""

    frozen: bytes

    def moved(
        self,
        sock: socket.socket,
        unread: bytes,
        frozen: bytes,
        sent: Callable[[], None],
    ) -> None:
        """Return *sock* and the rest, to go on elsewhere, soon; then call *sent*."""

    def claim(self, field: str, value: bytes) -> None:
        """Claim for this worker the connections in which *field* is *value*."""

    def release(self, field: str, value: bytes) -> None:
        """Release what ``claim`` has claimed."""


class LinkedVisit(Protocol):
    """One connection, for the way to the acceptor that handed it over."""

    id: int

    def move(self, link: Any) -> None:
        """Report to *link* from now on: the acceptor before it is gone."""
