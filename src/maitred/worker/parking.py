"""
Connections that were given back and may soon come again, with all that served them.

Where a proxy or a pool sends requests of many sessions down one connection, it goes
back and forth between workers. To build a transport and a protocol for each visit costs
more than the request itself; so what served a connection is parked for a moment, with
its own copy of the descriptor, and takes it up again if it is handed over anew.

Invariants: what is parked neither reads nor writes, and is none of the connections that
are served. Nobody is parked for longer than TIME, and no more than MOST are: while a
copy is here, nobody else's ``close`` ends the connection (who ends it says so with a
``shutdown``), and where all others die, the client learns it no later than that.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

TIME: Final = 1.0
"Seconds."
MOST: Final = 512


class Parked(Protocol):
    """What served a connection, and may serve it again."""

    def resume(self, visit: Any) -> None:
        """Serve the connection again, for *visit*."""

    def abandon(self) -> None:
        """Close our copy, which says nothing to the client."""


class Parking:
    """Holds what is parked, by the connection's id, longest parked first."""

    def __init__(self, *, most: int = MOST) -> None:
        """Start empty; no more than *most* are parked at once."""
        self._most = most
        self._parked: dict[int, tuple[float, Parked]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._parked)

    def put(self, id_: int, parked: Parked) -> None:
        """Store *parked*, which served connection *id_*, until taken or too old."""
        loop = asyncio.get_running_loop()
        self._parked[id_] = loop.time() + TIME, parked
        # Because each has a descriptor, of which there are few.
        if len(self._parked) > self._most:
            self._abandon_first()
        if self._timer is None:
            self._timer = loop.call_later(TIME, self._sweep)

    def take(self, id_: int) -> Parked | None:
        """Remove and return what served connection *id_*; None: nothing is left."""
        found = self._parked.pop(id_, None)
        return found and found[1]

    def clear(self) -> None:
        """Abandon all that is parked, which closes as many descriptors."""
        while self._parked:
            self._abandon_first()

    def _abandon_first(self) -> None:
        _, parked = self._parked.pop(next(iter(self._parked)))
        parked.abandon()

    def _sweep(self) -> None:
        """Abandon those whose time is over, and schedule this for the next one."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._parked:
            until, _ = next(iter(self._parked.values()))
            # The others were parked later.
            if until > loop.time():
                self._timer = loop.call_at(until, self._sweep)
                return
            self._abandon_first()
