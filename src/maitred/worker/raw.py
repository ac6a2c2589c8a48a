"""
Serving connections, not requests: kinds handler, protocol and websocket.

The same few words as ``uvicorn_seam.Serving`` has, for the runtime: adopt a connection,
hand back, finish, cut.

Invariants: a key is told to the master again for as long as a connection of it is
open. When a key is lost, its connections follow it if the application can freeze them,
and stay to their end if not.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from maitred import logs
from maitred.errors import AppFailed
from maitred.wire.scoreboard import Scoreboard

from .keys import OwnKeys
from .moving import Arrival, Arrivals, move
from .parking import Parking
from .talks import Conversing, Handling, Talk
from .websocket import Speaking

TALKS: Final[dict[str, type[Talk]]] = {
    "handler": Handling,
    "protocol": Conversing,
    "websocket": Speaking,
}
"What serves a connection, by the kind of application."
LOOK: Final = 0.2
"Parts of a key's time to live after which one that is in use is looked after."
SETTLE: Final = 0.02


class RawServing:
    """An application of one of those kinds, serving connections brought to it."""

    tls: ssl.SSLContext | None = None
    exit_handler = None

    def __init__(
        self,
        app: Any,
        kind: str,
        board: Scoreboard,
        *,
        loop: str,
        keys: OwnKeys,
        ttl: float,
    ) -> None:
        """
        Prepare to serve *app*.

        Args:
            app: What target names.
            kind: One of TALKS.
            board: Where open connections are counted.
            loop: auto, uvloop or asyncio.
            keys: Those that live here.
            ttl: Seconds after which the master forgets a key that is not used.
        """
        self._app = app
        self._make = TALKS[kind]
        self._board = board
        self._loop_name = loop
        self._keys = keys
        self._ttl = ttl
        self._talks: set[Talk] = set()
        self._of_key: dict[bytes, set[Talk]] = {}
        self._moving: set[asyncio.Task[None]] = set()
        self._finished: asyncio.Event
        self._deadline: asyncio.TimerHandle | None = None
        self._arrivals = Arrivals(self._begin)
        # Nobody waits to be read from, and nobody is parked.
        self.untaken: set[Any] = set()
        self.parking = Parking()
        self._is_handing_back = False

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return what makes the event loop that was asked for; None: asyncio's own."""
        return loop_factory(self._loop_name)

    async def run(self) -> None:
        """Serve until ``finish``, and until nobody is left or all were cut."""
        await self.wait_started()
        self._look_after_keys()
        await self._finished.wait()

    async def wait_started(self) -> None:
        """Return at once: these applications have no startup."""
        if not hasattr(self, "_finished"):
            self._finished = asyncio.Event()

    async def adopt(self, sock: socket.socket, visit: Any) -> None:
        """
        Serve the accepted connection *sock*, which is the event loop's from now.

        *visit* is told that it was taken and is closed also if nothing can be served.
        """
        loop = asyncio.get_running_loop()
        try:
            talk = self._make(self._app, visit, sock, self)
        except Exception:  # noqa: BLE001 - it is the application's
            logs.worker.exception("%s could not begin", self._app)
            visit.taken()
            sock.close()
            visit.closed()
            return
        try:
            await loop.connect_accepted_socket(lambda: talk, sock)
        except OSError:  # the client is gone already
            visit.taken()
            visit.closed()
            sock.close()
            return
        try:
            self._arrivals.add(talk, visit.key, visit.frozen)
        except ValueError as exc:
            logs.worker.error("a connection cannot go on here: %s", exc)
            talk.transport.abort()

    def _begin(self, arrivals: Sequence[Arrival]) -> None:
        """Thaw and start all of *arrivals*; only then read from their clients."""
        talks = [each for each in arrivals if isinstance(each, Talk)]
        for talk in talks:
            if talk.state is not None:
                self._have(talk, talk.thaw, talk.state)
        for talk in talks:
            self._have(talk, talk.begin)
        loop = asyncio.get_running_loop()
        # After the tasks, which begin in the next turn of the event loop.
        loop.call_soon(loop.call_soon, self._go, talks)

    def _have(self, talk: Talk, do: Callable[..., None], *arguments: Any) -> None:
        """Call *do* of the application for *talk*; abort *talk* if it raises."""
        if talk.transport.is_closing():
            return
        try:
            do(*arguments)
        except Exception:  # noqa: BLE001 - it is the application's
            text = "a connection cannot go on here: %s raised"
            logs.worker.exception(text, do.__name__)
            talk.transport.abort()

    def _go(self, talks: Iterable[Talk]) -> None:
        for talk in talks:
            talk.go()
        # These have arrived after all others were told to move.
        if self._is_handing_back:
            self._move_all(talks)

    # What the talks say

    def opened(self, talk: Talk) -> None:
        """Count *talk*, which is open from now on."""
        self._talks.add(talk)
        if talk.key:
            self._of_key.setdefault(talk.key, set()).add(talk)
        self._board.connections = len(self._talks)

    def ended(self, talk: Talk) -> None:
        """Remove *talk*, which is closed or lives on elsewhere."""
        self._talks.discard(talk)
        if others := self._of_key.get(talk.key):
            others.discard(talk)
            if not others:
                del self._of_key[talk.key]
        self._board.connections = len(self._talks)
        # What lives on elsewhere is counted there, when it ends.
        if not talk.has_left:
            self._board.requests += 1

    # What the runtime asks

    @property
    def open(self) -> int:
        """Return how many connections are open, or being moved."""
        return len(self._talks)

    def revoked(self, key: bytes) -> None:
        """Move the connections of *key* after it: the key is not ours any more."""
        self._move_all(self._of_key.get(key, ()))

    def hand_back(self) -> None:
        """Move every connection that can be, and those that still arrive."""
        self._is_handing_back = True
        self._move_all(self._talks)

    def leaving(self) -> None:
        """Announce nothing: these applications notice the end of a connection."""

    def give_back_each(self) -> None:
        """Move the connections that have no key; others follow theirs."""
        self._move_all([talk for talk in self._talks if not talk.key])

    def finish(self, timeout: float) -> None:
        """
        Schedule the return of ``run``, for when all is closed.

        Args:
            timeout: Seconds in which clients may still end what they began.
        """
        # Because a worker whose time is over calls this again, with 0.
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(max(timeout, 0), self._finished.set)
        self._wait_for_the_last()

    def cut(self) -> int:
        """Close what is still open; return how many connections that were."""
        left = list(self._talks)
        for talk in left:
            talk.cut()
        return len(left)

    def _wait_for_the_last(self) -> None:
        if self._talks or self._moving:
            asyncio.get_running_loop().call_later(SETTLE, self._wait_for_the_last)
        else:
            self._finished.set()

    def _move_all(self, talks: Iterable[Talk]) -> None:
        """Start to move *talks*, those of one key together."""
        groups: dict[Any, list[Talk]] = {}
        for talk in talks:
            # What cannot be frozen stays; the rest is on its way already, or over.
            if talk.is_movable and not talk.is_moving and not talk.is_over:
                groups.setdefault(talk.key or talk, []).append(talk)
        for group in groups.values():
            task = asyncio.get_running_loop().create_task(self._move(group))
            self._moving.add(task)
            task.add_done_callback(self._moving.discard)

    async def _move(self, group: Sequence[Talk]) -> None:
        for talk in group:
            talk.is_moving = True
        why = await move(group)
        if why:
            logs.worker.warning(
                "%d connections stay where they are: %s", len(group), why
            )
        # All that kept the key in use is gone, so it is not told to the master again.
        elif key := group[0].key:
            self._keys.revoke(key)
        for talk in group:
            talk.is_moving = False

    def _look_after_keys(self) -> None:
        """
        Count each key of an open connection as used, now and regularly.

        The master would forget it otherwise, however long its connections are open.
        """
        for key in self._of_key:
            self._keys.has(key)
        loop = asyncio.get_running_loop()
        loop.call_later(self._ttl * LOOK, self._look_after_keys)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """
    Return what makes the event loop called *name*; None: asyncio's own.

    Raises:
        AppFailed: It is not installed.
    """
    if name == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 - it may not be there
    except ImportError as exc:
        if name == "uvloop":
            raise AppFailed("--loop uvloop: uvloop is not installed", "") from exc
        return None
    return uvloop.new_event_loop
