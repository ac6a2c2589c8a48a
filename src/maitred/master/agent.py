"""
Answering HAProxy's agent check: what this machine can take.

    up ready 75%       three of four workers take what is new
    drain              nothing new, for an operator said so, or it stops
    down #starting     nobody serves yet
    down #no worker    no worker has been ready for a while: all of them crash

(HAProxy's configuration manual, ``agent-check``.) Each connection is told one line and
closed; nothing is waited for, so that nobody can keep anything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

from maitred.acceptor.listeners import (
    NEVER_MIND,
    Listener,
    accept_at_once,
    open_listeners,
)
from maitred.acceptor.socket_activation import Inherited
from maitred.placement import Slot

BACKLOG: Final = 64
AT_ONCE: Final = 64
"Connections answered before others have their turn."
PAUSE: Final = 0.5
"Seconds without accepting after the system said that it has nothing left."
OPTION: Final = "--agent"
PATIENCE: Final = 5.0
"Seconds without a worker that serves, until the machine is down."
LEAST: Final = 10
"Percent that a machine has at least: of a weight of 10 or more something is left."


def open_agent(address: str, inherited: Inherited | None = None) -> list[Listener]:
    """
    Return listeners for agent checks at *address*, perhaps an *inherited* one.

    An empty address: none.

    Raises:
        UsageError: It is no address.
        SystemRefused: It cannot be listened on.
    """
    binds = (address,) if address else ()
    listeners = open_listeners(binds, BACKLOG, inherited=inherited, option=OPTION)
    accept_at_once(listeners)  # HAProxy says nothing, and waits
    return listeners


class Capacity:
    """Computes what this machine can take, as long as no operator has taken it out."""

    def __init__(self) -> None:
        """Start with a machine that serves."""
        self._down_since: float | None = None

    def say(
        self, slots: Sequence[Slot], workers: int, now: float, *, serves: int
    ) -> bytes:
        """
        Return the line for HAProxy.

        Args:
            slots: All of them.
            workers: How many there are to be.
            now: The time in seconds; HAProxy asks every other second.
            serves: How many workers are ready and do not crash all the time.
        """
        if serves:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = now
        # Not at once, because a worker that crashes is replaced, and its sessions may
        # wait for that; no other machine has them.
        if self._down_since is not None and now - self._down_since >= PATIENCE:
            return b"down #no worker\n"
        taking = sum(slot.takes_new for slot in slots)
        # Rounded up, and never none: HAProxy takes this share of the server's weight in
        # whole numbers, and a machine without weight gets no new session at all.
        return b"up ready %d%%\n" % max(-(-100 * taking // workers), LEAST)


class Agent:
    """Answers agent checks with what *answer* returns."""

    def __init__(
        self, listeners: Sequence[Listener], answer: Callable[[], bytes]
    ) -> None:
        """Take over *listeners* and watch them; needs a running loop."""
        self._listeners = listeners
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        for listener in listeners:
            self._listen(listener)

    def _listen(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.sock.fileno(), self._on_readable, listener)

    def close(self) -> None:
        """Close the listeners."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.sock.fileno())
            listener.close()
        self._listeners = ()

    def _on_readable(self, listener: Listener) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in NEVER_MIND:
                    continue
                self._loop.remove_reader(listener.sock.fileno())
                self._loop.call_later(PAUSE, self._listen, listener)
                return
            with sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                sock.send(self._answer(), socket.MSG_NOSIGNAL)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(4096)  # what it may have said: unread, it would undo ours
