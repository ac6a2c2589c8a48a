"""
Connections that move, as they are, from one worker to another.

What belongs together moves together: all connections of one key stand still, are
frozen in the same turn of the event loop, and go on when all of them have arrived. So
nobody in a room speaks while others of it are on their way.

Invariants: who cannot stand still in time goes on where it is. Nobody waits for longer
than PATIENCE, here for others to stand still, there for others to arrive.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

PATIENCE: Final = 2.0
"Seconds."
PAUSE: Final = 0.005
MOST_LUGGAGE: Final = 96 * 1024
"Bytes of state and of what was not read yet, of one connection: they fit a packet."
HEADER: Final = struct.Struct("!8sI")


class Envelope(NamedTuple):
    """
    A connection's state on its way.

    ``move`` is the same in all that move together, ``of`` is how many those are.
    """

    move: bytes
    of: int
    state: bytes

    def packed(self) -> bytes:
        """Return the envelope as bytes, which are never empty."""
        return HEADER.pack(self.move, self.of) + self.state

    @classmethod
    def unpacked(cls, data: bytes) -> Envelope:
        """
        Parse what ``packed`` returned.

        Raises:
            ValueError: It is something else.
        """
        if len(data) < HEADER.size:
            raise ValueError(f"{len(data)} bytes are no frozen connection")
        move_, of = HEADER.unpack_from(data)
        return cls(move_, of, data[HEADER.size :])


class Movable(Protocol):
    """A connection that can stand still and be frozen."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read from the client again, after what came meanwhile."""

    @property
    def is_over(self) -> bool:
        """Return whether the connection has ended meanwhile."""

    @property
    def is_still(self) -> bool:
        """Return whether the application waits, and all it wrote has left."""

    def freeze(self) -> bytes:
        """Return the application's state; the connection may still stay here."""

    @property
    def unread(self) -> bytes:
        """Return the bytes that came from the client and are not in that state."""

    def leave(self, frozen: bytes) -> None:
        """Return the connection to the master, with *frozen*."""

    def detach(self) -> None:
        """Stop writing to the client."""


async def move(group: Sequence[Movable]) -> str:
    """
    Wait until all of *group* stand still, then freeze them and send them off.

    Returns:
        Why nobody went; empty: all that were still there did.
    """
    for each in group:
        each.pause()
    why = await _stand_still(group)
    if not why:
        # No await from here on: nothing happens between one state and the next.
        why = _go([each for each in group if not each.is_over])
    if why:
        for each in group:
            each.resume()
    return why


async def _stand_still(group: Sequence[Movable]) -> str:
    """Wait until all of *group* stand still; return why they do not, empty: they do."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while moving := sum(not (each.is_over or each.is_still) for each in group):
        if loop.time() >= deadline:
            return f"{moving} of its connections did not stand still in time"
        await asyncio.sleep(PAUSE)
    return ""


def _go(group: Sequence[Movable]) -> str:
    """Freeze all of *group* and send them off; return why not, empty: they are gone."""
    try:
        states = [bytes(each.freeze()) for each in group]
    except Exception as exc:  # noqa: BLE001 - it is the application's
        return f"freeze() failed: {type(exc).__name__}: {exc}"
    for each, state in zip(group, states, strict=True):
        if len(state) + len(each.unread) > MOST_LUGGAGE:
            return f"the state of a connection is larger than {MOST_LUGGAGE} bytes"
    drawn = os.urandom(8)
    for each in group:
        each.detach()
    for each, state in zip(group, states, strict=True):
        each.leave(Envelope(drawn, len(group), state).packed())
    return ""


class Arrivals:
    """Connections that have arrived, until all that move with them have."""

    def __init__(self, begin: Callable[[Sequence[Arrival]], None]) -> None:
        """Start with none; call *begin* with those that may go on, a key's at once."""
        self._begin = begin
        self._groups: dict[bytes, list[Arrival]] = {}
        self._timers: dict[bytes, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, arrival: Arrival, key: bytes, frozen: bytes) -> None:
        """
        Add a connection that has arrived; begin with it unless it waits for others.

        Args:
            arrival: Goes on later, or now.
            key: What it was placed by; empty: it moves alone.
            frozen: What it brings; empty: it is new.

        Raises:
            ValueError: What it brings is nothing that was frozen.
        """
        envelope = Envelope.unpacked(frozen) if frozen else None
        # A new connection waits only for those of its key that are on their way:
        # otherwise it would speak in a room that is half there.
        if envelope is None and (not key or key not in self._groups):
            self._begin([arrival])
            return
        group = self._groups.setdefault(key, []) if key else []
        group.append(arrival)
        if envelope is not None:
            arrival.state = envelope.state
            arrival.move = envelope.move
            come = sum(each.move == envelope.move for each in group)
            # What has no key has moved alone.
            if come >= envelope.of or not key:
                self._let_go(key, group)
                return
        if key not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(PATIENCE, self._let_go, key, group)

    def _let_go(self, key: bytes, group: list[Arrival]) -> None:
        """Start all of *group*, whether it is complete or its time is over."""
        self._groups.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._begin(group)


class Arrival:
    """A connection that has arrived, and the state that it brings."""

    state: bytes | None = None
    move: bytes = b""
