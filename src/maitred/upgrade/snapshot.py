"""
What one program leaves to the next in the same process.

The descriptors are in a table, and state names each by its place there: in a rehearsal
the connections of clients are played by stand-ins, because a copy of the real one would
keep its client from learning that a worker closed it.

Invariant: every descriptor of the table finds one owner, and is close-on-exec before
anything is started.
"""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from typing import Any, Final, NoReturn

from maitred.config import Settings
from maitred.errors import UsageError
from maitred.wire.messages import VERSION

from . import serialize as plain

FORMAT: Final = 2
"The snapshot's. Raise it when a successor of the same number could not read it."
READABLE: Final = {"format": {1, FORMAT}, "protocol": {VERSION}}
"Predecessors whose snapshot can be read. In format 1 the keys stand in it."
VARIABLE: Final = "MAITRED_SUCCESSION"
"In the environment: the descriptor of the snapshot, and what it is for."
REHEARSAL: Final = "rehearsal"
TAKEOVER: Final = "takeover"


class Kind(StrEnum):
    """Whose a descriptor of the table is."""

    OWN = "own"
    CLIENT = "client"


class Table:
    """The descriptors that a snapshot names by their place; they stay their owners'."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows: list[tuple[int, Kind]] = []

    def own(self, fd: int) -> int:
        """Add *fd*, which is the master's own; return its place."""
        return self._note(fd, Kind.OWN)

    def client(self, fd: int) -> int:
        """Add *fd*, the connection of a client; return its place."""
        return self._note(fd, Kind.CLIENT)

    def _note(self, fd: int, kind: Kind) -> int:
        if fd < 0:
            raise ValueError("a closed descriptor cannot be left to a successor")
        self.rows.append((fd, kind))
        return len(self.rows) - 1


class Past:
    """What a predecessor left: its state, and descriptors that await their owners."""

    def __init__(self, snapshot: dict[str, Any], *, rehearsal: bool) -> None:
        """
        Take over the descriptors of *snapshot*.

        Raises:
            UsageError: It is from a master that we cannot succeed.
        """
        for what, readable in READABLE.items():
            if snapshot[what] not in readable:
                raise UsageError(
                    f"the new code speaks {what} {max(readable)}, the running master"
                    f" {snapshot[what]}; restart it instead"
                )
        self.state: dict[str, Any] = snapshot
        self.rehearsal = rehearsal
        # Connections that were restored, by id.
        self.connections: dict[int, Any] = {}
        self._rows: list[tuple[int, str]] = [
            (fd, kind) for fd, kind in snapshot["descriptors"]
        ]
        self._left = set(range(len(self._rows)))
        if not rehearsal:
            for fd, _ in self._rows:
                os.set_inheritable(fd, False)

    @property
    def settings(self) -> Settings | None:
        """The predecessor's settings, without what commands changed while it ran."""
        said = self.state.get("settings")
        return None if said is None else plain.revive(Settings, said)

    def take(self, place: int) -> int:
        """Return the descriptor at *place* of the table, once; the caller owns it."""
        self._left.remove(place)
        fd, kind = self._rows[place]
        # A stand-in, because a copy would keep a client from seeing that it was closed.
        if self.rehearsal and kind == Kind.CLIENT:
            return socket.socket(socket.AF_UNIX).detach()
        return fd

    def check(self) -> None:
        """
        Check that every descriptor found its owner.

        Raises:
            UsageError: One did not.
        """
        if self._left:
            raise UsageError(
                f"{len(self._left)} of {len(self._rows)} descriptors found no owner"
            )

    def leave(self) -> NoReturn:
        """End the rehearsal well, before the loop turns: what we have are copies."""
        os._exit(0)


def arrive() -> Past | None:
    """
    Return what a predecessor left to this process; None: there was none.

    Raises:
        UsageError: It is from a master that we cannot succeed.
    """
    said = os.environ.pop(VARIABLE, None)
    if said is None:
        return None
    number, _, mode = said.partition(":")
    try:
        with open(int(number), "rb") as text:
            snapshot = plain.read(text.read())
    except (ValueError, OSError) as exc:
        raise UsageError(f"{VARIABLE}={said} names no snapshot ({exc})") from exc
    return Past(snapshot, rehearsal=mode == REHEARSAL)
