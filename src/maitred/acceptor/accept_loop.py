"""
Accepting: taking connections off the listeners' backlogs, in batches.

Invariants: while the master is congested nothing is accepted, and the kernel's
backlog waits. At the limit of descriptors the listeners are left alone for a moment
instead of being asked again and again (they stay readable: it would be a busy loop).
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from maitred import logs

from .connection import Connection, accepted
from .counters import Counters
from .listeners import EXHAUSTED, NEVER_MIND, Listener

FEW: Final = 8
"Connections after which we look whether others may come; fewer than may ever wait."
BATCH: Final = 64
PAUSE: Final = 0.1
"Seconds without accepting after the system said that it has nothing left."


class Acceptor:
    """Watches the listeners while there is room for what they bring."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        begin: Callable[[Connection], None],
        settle: Callable[[], None],
        congested: Callable[[], bool],
        make_room: Callable[[], bool],
        counters: Counters,
    ) -> None:
        """
        Start with *listeners*, none of which is watched yet; needs a running loop.

        Args:
            listeners: Closed by ``close``.
            begin: Takes over each accepted connection.
            settle: Called after each batch.
            congested: Returns whether to leave the backlog alone.
            make_room: Closes a descriptor that can be missed; returns whether there
                was one.
            counters: Where to count.
        """
        self._listeners = list(listeners)
        self._begin = begin
        self._settle = settle
        self._congested = congested
        self._make_room = make_room
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._watching = False
        self._paused: asyncio.TimerHandle | None = None
        self._at_limit = logs.Seldom()

    @property
    def names(self) -> list[str]:
        """Where we listen."""
        return [listener.name for listener in self._listeners]

    def update(self) -> None:
        """Watch the listeners, or stop watching them while congested or paused."""
        watch = self._paused is None and not self._congested()
        if watch == self._watching:
            return
        self._watching = watch
        for listener in self._listeners:
            if watch:
                self._loop.add_reader(
                    listener.sock.fileno(), self._on_readable, listener
                )
            else:
                self._loop.remove_reader(listener.sock.fileno())

    def close(self) -> None:
        """Accept what the kernel has already let in, then close the listeners."""
        if self._paused is not None:
            self._paused.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            while self._accept(listener, BATCH) == BATCH:
                pass
            listener.close()
        self._listeners.clear()
        self._settle()

    def _on_readable(self, listener: Listener) -> None:
        # A few at a time, because at a small limit of open files fewer may wait than a
        # batch brings: whoever is left in the kernel's backlog is not turned away.
        for _ in range(BATCH // FEW):
            if self._accept(listener, FEW) < FEW or self._congested():
                break
        self._settle()

    def _accept(self, listener: Listener, most: int) -> int:
        """Accept up to *most* connections; return how many there were."""
        now = time.monotonic()
        for count in range(most):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return count
            except OSError as exc:
                if exc.errno in NEVER_MIND:
                    continue
                if exc.errno not in EXHAUSTED:
                    raise
                # Because Linux says so before it looks whether anybody waits.
                if not is_readable(listener.sock):
                    return count
                if exc.errno == errno.EMFILE and self._make_room():
                    continue
                self._pause(exc)
                return count
            self._counters.accepted += 1
            listener.accepted += 1
            connection = accepted(sock, address, listener)
            connection.since = now
            self._begin(connection)
        return most

    def _pause(self, exc: OSError) -> None:
        self._counters.accept_pauses += 1
        if self._at_limit.is_due():
            logs.master.warning(
                "not accepting for a moment: %s (see ulimit -n)", exc.strerror
            )
        if self._paused is None:
            self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self.update()


def is_readable(sock: socket.socket) -> bool:
    """Return whether there is something to read from *sock*, or to accept."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
