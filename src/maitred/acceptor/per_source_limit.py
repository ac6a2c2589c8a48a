"""
How many connections each client has open, where there is a limit: --max-per-source.

A source is an IPv4 address, or the first 64 bits of an IPv6 address: a single machine
has all the others of them. A client on a Unix socket has none, and is not counted;
nor is one whose proxy does not name it.

Invariant: whether a noted connection is still there is looked up where it is, never
counted down, so that no end of one can be missed: the master has it, or a worker.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from maitred import logs
from maitred.upgrade.snapshot import Past

from .connection import Connection

TOO_MANY: Final = 429, "too_many_from_source"
"Status and cause of the refusal of a connection beyond the limit."
LOOKS: Final = 2
"Noted ones checked for each new one, so that at most half of them are over."
NETWORK: Final = 8
"Bytes of an IPv6 address that are the client's network."
MAPPED: Final = bytes(10) + b"\xff\xff"
"An IPv4 address that is written as one of IPv6 begins so (RFC 4291 section 2.5.5.2)."


class Sources:
    """The connections of each source, a few that are over among them."""

    def __init__(self, most: int, has: Callable[[int], bool]) -> None:
        """
        Start without any.

        Args:
            most: Connections that a source may have; 0: any number, none is noted.
            has: Returns whether a worker has the connection with this id.
        """
        self._most = most
        self._has = has
        # By source and id; None: a worker has it, if anybody.
        self._of: dict[bytes, dict[int, Connection | None]] = {}
        # All of them, the next to be looked at first.
        self._order: deque[tuple[bytes, int]] = deque()
        self._news = logs.Seldom()

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def admit(self, connection: Connection) -> bool:
        """
        Record *connection*, which is new, unless its source has too many.

        Returns whether it was recorded, or needs no record.
        """
        source = source_of(connection.peer)
        if not self._most or not source:
            return True
        for _ in range(min(LOOKS, len(self._order))):
            self._look()
        noted = self._of.get(source)
        if noted is not None and len(noted) >= self._most:
            for id_ in [i for i in noted if not self._is_open(i, noted[i])]:
                del noted[id_]
            if len(noted) >= self._most:
                self._tell(connection.peer)
                return False
        self._add(source, connection.id, connection)
        return True

    def note(self, connection: Connection) -> None:
        """Record *connection*, which was admitted before and is ours again."""
        source = source_of(connection.peer)
        if self._most and source:
            self._add(source, connection.id, connection)

    def state(self) -> list[Any]:
        """Return the ids by source, for a successor."""
        return [[source, list(noted)] for source, noted in self._of.items()]

    def restore(self, state: Iterable[tuple[bytes, list[int]]], past: Past) -> None:
        """Restore *state*, when all connections of *past* are restored."""
        if self._most:
            for source, ids in state:
                for id_ in ids:
                    self._add(source, id_, past.connections.get(id_))

    def _add(self, source: bytes, id_: int, connection: Connection | None) -> None:
        noted = self._of.setdefault(source, {})
        if id_ not in noted:
            self._order.append((source, id_))
        noted[id_] = connection

    def _look(self) -> None:
        """Check one recorded connection; remove it if it is over."""
        source, id_ = entry = self._order.popleft()
        noted = self._of.get(source, {})
        if id_ in noted and self._is_open(id_, noted[id_]):
            self._order.append(entry)
            return
        noted.pop(id_, None)
        if not noted:
            self._of.pop(source, None)

    def _is_open(self, id_: int, connection: Connection | None) -> bool:
        ours = connection is not None and connection.sock.fileno() >= 0
        return ours or self._has(id_)

    def _tell(self, peer: bytes) -> None:
        if self._news.is_due():
            logs.master.warning(
                "%s has %d connections and gets no more (--max-per-source)",
                peer.decode(),
                self._most,
            )


def source_of(peer: bytes) -> bytes:
    """Return the source of *peer*, an address as text; empty if it has none."""
    text = peer.partition(b"%")[0].decode(errors="replace")
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        address = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return b""
    if address.startswith(MAPPED):
        return address[len(MAPPED) :]
    return address[:NETWORK]
