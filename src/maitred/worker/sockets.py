"""
Serving with a plain function of a socket, each connection in a thread: kind socket.

The function may block, or give the socket to whatever serves it: gevent, a library in
C. The same few words as ``uvicorn_seam.Serving`` has, for the runtime.

Invariants: no more than ``threads`` connections are served at once; those beyond stay
the master's until a thread is free, and are closed when none was for ``patience``
seconds, or refused when this worker is to leave. What the function leaves open is
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from maitred import connection, logs
from maitred.standstill import stood_still
from maitred.wire.scoreboard import Scoreboard

from .keys import OwnKeys
from .parking import Parking
from .raw import LOOK, loop_factory
from .talks import Ours
from .threads import SOON, Occupancy

SETTLE: Final = 0.02
NO_THREAD: Final = "no_thread"


class SocketServing:
    """A function, called with each connection that is brought."""

    tls: ssl.SSLContext | None = None
    exit_handler = None

    def __init__(
        self,
        app: Callable[[socket.socket], object],
        board: Scoreboard,
        *,
        loop: str,
        threads: int,
        patience: float,
        keys: OwnKeys,
        ttl: float,
    ) -> None:
        """
        Prepare to call *app*.

        Args:
            app: What target names.
            board: Where open connections are counted.
            loop: auto, uvloop or asyncio.
            threads: How many connections are served at once.
            patience: Seconds that a connection waits for a thread.
            keys: Those that live here.
            ttl: Seconds after which the master forgets a key that is not used.
        """
        self._app = app
        self._board = board
        self._loop_name = loop
        self._threads = threads
        self._patience = patience
        self._occupancy = Occupancy(threads, board)
        self._keys = keys
        self._ttl = ttl
        self._served: dict[socket.socket, Any] = {}
        self._waiting: deque[tuple[socket.socket, Any]] = deque()
        self._is_leaving = False
        self.untaken: set[Any] = set()
        self.parking = Parking()

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return what makes the event loop that was asked for; None: asyncio's own."""
        return loop_factory(self._loop_name)

    async def run(self) -> None:
        """Serve until ``finish``, and until nobody is left or all were cut."""
        self._loop = asyncio.get_running_loop()
        self._finished = asyncio.Event()
        self._look_after_keys()
        await self._finished.wait()

    async def wait_started(self) -> None:
        """Return at once: a function has no startup."""

    async def adopt(self, sock: socket.socket, visit: Any) -> None:
        """Serve *sock*, which is ours to close from now on, when a thread is free."""
        if self._is_leaving or visit.prefix or visit.frozen:
            # It cannot be given what was read of it already.
            sock.close()
            visit.refused()
            return
        self._waiting.append((sock, visit))
        self._begin()
        self._show()
        # Who came first is served first, so if anybody waits, this one does.
        if self._waiting:
            self._loop.call_later(SOON, self._warn, visit)
            self._wait(sock, visit, self._patience)

    def _begin(self) -> None:
        """Start a thread for each connection that waits, while there are threads."""
        while self._waiting and len(self._served) < self._threads:
            sock, visit = self._waiting.popleft()
            visit.taken()
            self._served[sock] = visit
            self._board.connections = len(self._served)
            self._show()
            context = contextvars.copy_context()
            context.run(connection.CURRENT.set, Ours(visit, self._loop))
            # Nobody else reads it from now on, so that a wait may be one of the
            # kernel's: this is for all copies of the socket.
            sock.setblocking(True)
            thread = threading.Thread(
                target=context.run, args=(self._serve, sock), daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:  # the system has no more of them
                logs.worker.error("a connection is not served: %s", exc)
                self._loop.call_soon(self._end, sock)

    def _wait(self, sock: socket.socket, visit: Any, seconds: float) -> None:
        """Schedule the end of *visit*, should no thread be free within *seconds*."""

        def on_time() -> None:
            """Close it, unless this process stood still: no thread ran then."""
            if late := stood_still(timer, self._loop.time()):
                self._wait(sock, visit, late)
            else:
                self._give_up(sock, visit)

        timer = self._loop.call_later(seconds, on_time)

    def _give_up(self, sock: socket.socket, visit: Any) -> None:
        """Close the connection of *visit* if it still waits for a thread."""
        # A thread serves it by now.
        if (sock, visit) not in self._waiting:
            return
        self._warn(visit)
        self._waiting.remove((sock, visit))
        self._show()
        # The master has to know that it was ours: it would hand it out again.
        visit.taken()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        self._board.count_refusal(NO_THREAD)
        if (access := logs.access()) is not None:
            client, port = visit.client or ("", 0)
            where = {"conn": visit.id, "slot": visit.slot, "hops": visit.hops}
            access.write(
                logs.Entry(
                    *(client, port, 0, 0, self._patience),
                    **where,
                    key=visit.key,
                    cause=NO_THREAD,
                )
            )
        visit.closed()

    def _serve(self, sock: socket.socket) -> None:
        """Call the function with *sock*; this runs in the connection's thread."""
        try:
            self._app(sock)
        except ConnectionError:
            pass  # an ordinary end: the client has left
        except Exception:  # noqa: BLE001 - it is the application's
            logs.worker.exception("%s raised", getattr(self._app, "__name__", "it"))
        with contextlib.suppress(RuntimeError):  # the loop is over, and so are we
            self._loop.call_soon_threadsafe(self._end, sock)

    def _end(self, sock: socket.socket) -> None:
        """Close *sock*, with which the function is done, and serve who waits."""
        visit = self._served.pop(sock)
        self._board.connections = len(self._served)
        self._board.requests += 1
        self._show()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        visit.closed()
        self._begin()

    def _show(self) -> None:
        self._occupancy.show(len(self._served), len(self._waiting))

    def _warn(self, visit: Any) -> None:
        """Warn if the connection of *visit* still waits for a thread."""
        if any(waiting is visit for _, waiting in self._waiting):
            self._occupancy.warn("connections", len(self._waiting))

    # What the runtime asks

    @property
    def open(self) -> int:
        """Return how many connections are served, or wait."""
        return len(self._served) + len(self._waiting)

    def revoked(self, key: bytes) -> None:
        """Keep the connections of *key*: what is served here stays to its end."""

    def hand_back(self) -> None:
        """Refuse what no thread serves; the rest stays to its end."""
        self._is_leaving = True
        while self._waiting:
            sock, visit = self._waiting.popleft()
            sock.close()
            visit.refused()
        self._show()

    def leaving(self) -> None:
        """Announce nothing: the function notices the end of its socket."""

    def give_back_each(self) -> None:
        """Keep all connections: what is served here stays to its end."""

    def finish(self, timeout: float) -> None:
        """Schedule the return of ``run``: once all is closed, or in *timeout* s."""
        self.hand_back()
        self._loop.call_later(max(timeout, 0), self._finished.set)
        self._wait_for_the_last()

    def cut(self) -> int:
        """Shut down what is still served; return how many connections that were."""
        # Not closed, because threads use the descriptors; ``_end`` closes each.
        for sock in self._served:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return len(self._served)

    def _wait_for_the_last(self) -> None:
        if self._served:
            self._loop.call_later(SETTLE, self._wait_for_the_last)
        else:
            self._finished.set()

    def _look_after_keys(self) -> None:
        """
        Count each key of a connection as used, now and regularly.

        The master would forget it otherwise, however long its connections are open.
        """
        for key in {visit.key for visit in self._served.values() if visit.key}:
            self._keys.has(key)
        self._loop.call_later(self._ttl * LOOK, self._look_after_keys)
