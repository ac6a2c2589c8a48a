"""
The threads of a worker in which requests are served, and who waits for one.

Requests wait here, in the event loop, and not in the executor: who leaves while waiting
never takes a thread, and nobody waits longer than ``patience``. What is going on stands
on the scoreboard.

Invariants: no more than ``most`` threads are busy; a thread is busy until its function
has returned, whatever became of the request meanwhile. Who came first is served first.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from maitred import logs
from maitred.wire.scoreboard import Scoreboard

SOON: Final = 1.0
"Seconds that somebody waits for a thread before it is worth a warning."
SELDOM: Final = 60.0
"Seconds between two warnings."


class ClientLeft(BrokenPipeError):
    """The client of a request has left, or its connection was cut."""


class NoThread(Exception):
    """No thread became free in time."""


class Occupancy:
    """How many threads are busy and how many requests wait: what is told of it."""

    def __init__(self, most: int, board: Scoreboard) -> None:
        """Write on *board* that there are *most* threads."""
        self._most = board.threads = most
        self._board = board
        self._seldom = logs.Seldom(every=SELDOM)

    def show(self, busy: int, waiting: int) -> None:
        """Write how many threads are *busy* now, and how many requests *waiting*."""
        self._board.threads_busy = busy
        self._board.threads_waiting = waiting

    def warn(self, what: str, waiting: int) -> None:
        """Warn that all threads are taken, and *waiting* of *what* wait; seldom."""
        if self._seldom.is_due():
            logs.worker.warning(
                "all %d threads are busy, %s waiting for one: %d; give more with"
                " --threads if the application waits more than it computes",
                self._most,
                what,
                waiting,
            )


class Threads:
    """Threads for requests, and the queue of those that wait for one."""

    def __init__(self, most: int, patience: float, board: Scoreboard) -> None:
        """
        Start without threads; they are started when they are needed.

        Args:
            most: How many there may be.
            patience: Seconds that a request waits for one.
            board: Where it is told how many are busy.
        """
        self._most = most
        self._patience = patience
        self._executor = ThreadPoolExecutor(most, thread_name_prefix="WSGI")
        self._occupancy = Occupancy(most, board)
        self._busy = 0
        # In order; a dict, because who leaves may stand anywhere.
        self._queue: dict[asyncio.Future[None], None] = {}

    async def run(
        self, function: Callable[[], None], left: asyncio.Future[None]
    ) -> None:
        """
        Run *function* in a thread, in a copy of the current context.

        Args:
            function: What is run; it goes on to its end when we are cancelled.
            left: Done when the client has left, who then waits no more.

        Raises:
            ClientLeft: That was before a thread was free.
            NoThread: None was free in time.
        """
        await self._take(left)
        try:
            future = self._executor.submit(contextvars.copy_context().run, function)
        except RuntimeError:  # the system has no more threads
            self._give()
            raise
        loop = asyncio.get_running_loop()

        def ended(_future: Future[None]) -> None:
            """Free the thread's place, in the event loop; this runs in the thread."""
            with contextlib.suppress(RuntimeError):  # the loop is over, and so are we
                loop.call_soon_threadsafe(self._give)

        future.add_done_callback(ended)
        await asyncio.wrap_future(future)

    async def _take(self, left: asyncio.Future[None]) -> None:
        """Count one more thread as busy, as soon as there is one; raise as ``run``."""
        if self._busy < self._most:
            self._busy += 1
            self._show()
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue[turn] = None
        self._show()
        timer = loop.call_later(SOON, self._warn)
        first = asyncio.FIRST_COMPLETED
        try:
            await asyncio.wait((turn, left), timeout=self._patience, return_when=first)
        except asyncio.CancelledError:
            # A thread was given to us in the same turn of the event loop.
            if turn.done():
                self._give()
            raise
        finally:
            timer.cancel()
            self._queue.pop(turn, None)
            self._show()
        if left.done():
            if turn.done():
                self._give()
            raise ClientLeft
        if not turn.done():
            self._warn()
            raise NoThread

    def _give(self) -> None:
        """Pass a thread on to who has waited longest, or count one less as busy."""
        for turn in self._queue:
            # One that is done was given a thread already, and did not run since.
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
        self._show()

    def _show(self) -> None:
        self._occupancy.show(self._busy, len(self._queue))

    def _warn(self) -> None:
        self._occupancy.warn("requests", len(self._queue))
